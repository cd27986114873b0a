//! The difference of two confusion matrices: which errors an arm makes less or more often than the reference.

use super::confusion::{Grid, NUMBERED, STEPS, grid};
use super::slug;
use crate::report::format::{arm_title, count, signed};
use crate::report::svg::{Anchor, Figure, number};
use crate::results::{ArmResult, DatasetRecord};

/// `arm − against`, cell by cell. `None` where the matrices do not fit or hold nothing.
pub(crate) fn confusion_difference(
    (name, arm): (&str, &ArmResult),
    (against, reference): (&str, &ArmResult),
    dataset: &DatasetRecord,
) -> Option<Figure> {
    let (ours, theirs) = (
        &arm.test.classification.confusion,
        &reference.test.classification.confusion,
    );
    let classes = ours.len();
    if classes == 0 || theirs.len() != classes || arm.test.images() != reference.test.images() {
        return None;
    }
    let cells: Vec<(usize, usize, i64)> = (0..classes * classes)
        .map(|cell| (cell / classes, cell % classes))
        .map(|(truth, predicted)| {
            let change = ours[truth][predicted] as i64 - theirs[truth][predicted] as i64;
            (truth, predicted, change)
        })
        .collect();
    let most = cells.iter().map(|cell| cell.2.unsigned_abs()).max()?.max(1);
    let (mut canvas, Grid { left, top, cell }) = grid(dataset, classes);
    let side = cell * classes as f64;
    let strength = |change: i64| (change.unsigned_abs() as f64 / most as f64).powf(0.6);
    let mut paths = [
        vec![String::new(); STEPS + 1],
        vec![String::new(); STEPS + 1],
    ];
    for (truth, predicted, change) in cells.iter().filter(|cell| cell.2 != 0) {
        // More on the diagonal and less beside it is better.
        let worse = (truth == predicted) != (*change > 0);
        let step = ((strength(*change) * STEPS as f64).round() as usize).clamp(1, STEPS);
        let (x, y) = (left + *predicted as f64 * cell, top + *truth as f64 * cell);
        paths[usize::from(worse)][step].push_str(&format!(
            "M{} {}h{size}v{size}h-{size}z",
            number(x),
            number(y),
            size = number(cell)
        ));
    }
    for (class, steps) in ["good", "bad"].into_iter().zip(&paths) {
        for (step, path) in steps
            .iter()
            .enumerate()
            .filter(|(_, path)| !path.is_empty())
        {
            let opacity = step as f64 / STEPS as f64;
            canvas.raw(&format!(
                "<path class=\"{class}\" fill-opacity=\"{opacity:.2}\" d=\"{path}\"/>"
            ));
        }
    }
    canvas.rect((left, top), (side, side), "frame");
    if classes <= NUMBERED {
        for (truth, predicted, change) in cells.iter().filter(|cell| cell.2 != 0) {
            let class = if strength(*change) > 0.74 {
                "s n over"
            } else {
                "s n"
            };
            let at = (
                left + (*predicted as f64 + 0.5) * cell,
                top + (*truth as f64 + 0.5) * cell + 4.0,
            );
            canvas.text(at, Anchor::Middle, class, &signed(*change as f64, 0));
        }
    }
    let errors = |sign: i64| -> u64 {
        cells
            .iter()
            .filter(|(truth, predicted, change)| truth != predicted && sign * change > 0)
            .map(|cell| cell.2.unsigned_abs())
            .sum()
    };
    Some(Figure {
        name: format!("confusion-difference-{}", slug(name)),
        title: format!("{} minus {}", arm_title(name), arm_title(against)),
        caption: format!(
            "Over all pairs of classes, {} errors fewer and {} more. Blue: better; orange: worse.",
            count(errors(-1)),
            count(errors(1))
        ),
        spoken: String::new(),
        data: dataset.label(),
        canvas,
    })
}
