//! The pictures of a report. Each function draws one figure, at a size that a phone shows without shrinking it.

mod accuracy;
mod classes;
mod confusion;
mod confusion_difference;
mod curves;
mod exhibits;
mod map;
mod photos;
mod reliability;
mod similarity;

pub(crate) use accuracy::accuracies;
pub(crate) use accuracy::differences;
pub(crate) use classes::class_differences;
pub(crate) use confusion::confusion;
pub(crate) use confusion::most_confused;
pub(crate) use confusion_difference::confusion_difference;
pub(crate) use curves::stage_curve;
pub(crate) use curves::stage_title;
pub(crate) use curves::validation_curves;
pub(crate) use exhibits::confused_pairs;
pub(crate) use exhibits::hardest;
pub(crate) use exhibits::retrieval;
pub(crate) use map::embedding_map;
pub(crate) use photos::contact_sheet;
pub(crate) use photos::ordered;
pub(crate) use reliability::reliability;
pub(crate) use similarity::similarities;

/// Part of a file name from any text: lower-case letters, digits and dashes.
fn slug(text: &str) -> String {
    let kept: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let kept = kept.trim_matches('-');
    if kept.is_empty() {
        "other".to_owned()
    } else {
        kept.to_owned()
    }
}

/// Pixels that a text of 12 px takes, roughly.
fn text_width(text: &str) -> f64 {
    6.6 * text.chars().count() as f64
}
