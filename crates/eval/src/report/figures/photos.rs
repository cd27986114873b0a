//! Sample photographs with every arm's answer, as one sheet for the Markdown report.

use crate::error::Result;
use crate::report::format::{arm_title, shorten};
use crate::report::input::SamplePhoto;
use crate::report::png::data_address;
use crate::report::svg::{Anchor, Canvas, Figure};
use crate::results::{ARMS, DatasetRecord};

const COLUMNS: usize = 4;
const CELL: f64 = 190.0;
const PHOTO: f64 = 96.0;

/// The sheet. `None` without photographs.
pub(crate) fn contact_sheet(
    samples: &[SamplePhoto],
    dataset: &DatasetRecord,
) -> Result<Option<Figure>> {
    let answers = samples
        .iter()
        .map(|photo| photo.predictions.len())
        .max()
        .unwrap_or(0);
    if samples.is_empty() {
        return Ok(None);
    }
    let row_height = PHOTO + 38.0 + 17.0 * answers as f64;
    let rows = samples.len().div_ceil(COLUMNS);
    let mut canvas = Canvas::new(
        CELL * COLUMNS.min(samples.len()) as f64,
        row_height * rows as f64,
    );
    for (position, photo) in samples.iter().enumerate() {
        let left = CELL * (position % COLUMNS) as f64 + 4.0;
        let top = row_height * (position / COLUMNS) as f64 + 4.0;
        canvas.raw(&format!(
            "<image x=\"{left}\" y=\"{top}\" width=\"{PHOTO}\" height=\"{PHOTO}\" style=\"image-rendering:pixelated\" \
             href=\"{}\"/>",
            data_address(photo)?
        ));
        let class = |class: u32| {
            dataset
                .classes
                .get(class as usize)
                .map_or("?", String::as_str)
        };
        canvas.text(
            (left, top + PHOTO + 17.0),
            Anchor::Start,
            "b",
            &shorten(class(photo.label), 24),
        );
        for (row, (arm, prediction)) in ordered(photo).into_iter().enumerate() {
            let right = prediction.class == photo.label;
            let (mark, colour) = if right {
                ("✓", "good")
            } else {
                ("✗", "bad")
            };
            let y = top + PHOTO + 34.0 + 17.0 * row as f64;
            canvas.text((left, y), Anchor::Start, &format!("b {colour}"), mark);
            let answer = format!(
                "{}: {}",
                arm_title(arm),
                shorten(class(prediction.class), 14)
            );
            canvas.text((left + 15.0, y), Anchor::Start, "s", &answer);
        }
    }
    Ok(Some(Figure {
        name: "photographs".to_owned(),
        title: "Test images and answers".to_owned(),
        caption: "Above the marks: the true class. ✓ right, ✗ wrong.".to_owned(),
        spoken: String::new(),
        data: dataset.label(),
        canvas,
    }))
}

/// A photograph's answers in the order of the arms.
pub(crate) fn ordered(photo: &SamplePhoto) -> Vec<(&str, &crate::SamplePrediction)> {
    let mut answers: Vec<_> = photo
        .predictions
        .iter()
        .map(|(arm, answer)| (arm.as_str(), answer))
        .collect();
    answers.sort_by_key(|(arm, _)| {
        ARMS.iter()
            .position(|known| known == arm)
            .unwrap_or(ARMS.len())
    });
    answers
}
