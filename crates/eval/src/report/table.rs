//! The table that a terminal shows at the end.

use super::format::{arm_title, count, duration, percent, points, points_range, shorten};
use super::story::reference;
use crate::results::Results;

/// The arms and their figures as text, at most 80 columns wide.
///
/// ```text
/// CIFAR-10 (JPEG mirror), 10,000 test images, seed 0
///
/// arm         head       top-1    difference (95 % interval) epochs         time
/// Baseline    linear   47.11 %                                   12   6 min 20 s
/// Contrastive linear   52.31 %        +5.20 (+4.10 to +6.30)     16   8 min 02 s
///
/// Differences in points over test images; one seed gives no verdict.
/// ```
pub fn summary_table(results: &Results) -> String {
    let plain = |text: String| text.replace('\u{a0}', " ");
    let reference = reference(results).unwrap_or_default();
    let images = results
        .arms
        .values()
        .map(|arm| arm.test.images())
        .max()
        .unwrap_or(0);
    let mut text = format!(
        "{}, {} test images, seed {}\n\n",
        shorten(&results.dataset.label(), 40),
        count(images),
        results.seed
    );
    text.push_str(&format!(
        "{:<12}{:<9}{:>8}  {:>28}{:>7}{:>13}\n",
        "arm", "head", "top-1", "difference (95 % interval)", "epochs", "time"
    ));
    for (name, arm) in results.arms_in_order() {
        let comparison = (name != reference)
            .then(|| results.comparison(name, reference))
            .flatten();
        let difference = comparison.map_or_else(String::new, |comparison| {
            format!(
                "{} ({})",
                points(comparison.difference),
                points_range(comparison.low, comparison.high)
            )
        });
        text.push_str(&format!(
            "{:<12}{:<9}{:>8}  {:>28}{:>7}{:>13}\n",
            shorten(&arm_title(name), 11),
            shorten(&arm.headline, 8),
            plain(percent(arm.test.classification.top1)),
            difference,
            arm.train.encoder_epochs(),
            plain(duration(arm.train.seconds)),
        ));
    }
    if results.arms.len() > 1 {
        text.push_str("\nDifferences in points, over test images; one seed gives no verdict.\nEpochs are the encoder's; heads learn on features computed once.\n");
    }
    if results.dataset.synthetic {
        text.push_str("\nSYNTHETIC data: these figures say nothing about photographs.\n");
    }
    text
}
