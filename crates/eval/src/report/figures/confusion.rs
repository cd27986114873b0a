//! A confusion matrix: true classes in rows, predicted classes in columns, right answers and errors in two colours.

use super::{slug, text_width};
use crate::report::format::{arm_title, count, shorten};
use crate::report::svg::{Anchor, Canvas, Figure, number};
use crate::results::{ArmResult, DatasetRecord};

/// Steps of intensity; one path per step keeps a matrix of a hundred classes small.
pub(super) const STEPS: usize = 24;
/// Beyond this many classes, cells carry no numbers.
pub(super) const NUMBERED: usize = 20;
/// Beyond this many classes, rows carry no names.
const NAMED: usize = 40;

/// The matrix of an arm's headline head. `None` if it was not counted.
pub(crate) fn confusion(name: &str, arm: &ArmResult, dataset: &DatasetRecord) -> Option<Figure> {
    let matrix = &arm.test.classification.confusion;
    let classes = matrix.len();
    if classes == 0 || arm.test.images() == 0 {
        return None;
    }
    let (mut canvas, Grid { left, top, cell }) = grid(dataset, classes);
    let side = cell * classes as f64;

    // One path per colour and step of intensity, relative to the images of the true class.
    let mut right = vec![String::new(); STEPS + 1];
    let mut wrong = vec![String::new(); STEPS + 1];
    for (truth, row) in matrix.iter().enumerate() {
        let images: u64 = row.iter().sum();
        for (predicted, images_here) in row.iter().enumerate().filter(|(_, images)| **images > 0) {
            let step =
                ((intensity(*images_here, images) * STEPS as f64).round() as usize).clamp(1, STEPS);
            let paths = if truth == predicted {
                &mut right
            } else {
                &mut wrong
            };
            let (x, y) = (left + predicted as f64 * cell, top + truth as f64 * cell);
            let size = number(cell);
            paths[step].push_str(&format!(
                "M{} {}h{size}v{size}h-{size}z",
                number(x),
                number(y)
            ));
        }
    }
    for (class, paths) in [("good", right), ("bad", wrong)] {
        for (step, path) in paths
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
        for (truth, row) in matrix.iter().enumerate() {
            let images: u64 = row.iter().sum();
            for (predicted, images_here) in
                row.iter().enumerate().filter(|(_, images)| **images > 0)
            {
                let dark = intensity(*images_here, images) > 0.74;
                let class = if dark { "s n over" } else { "s n" };
                let at = (
                    left + (predicted as f64 + 0.5) * cell,
                    top + (truth as f64 + 0.5) * cell + 4.0,
                );
                canvas.text(at, Anchor::Middle, class, &images_here.to_string());
            }
        }
    }

    let errors = most_confused(matrix, 1);
    let worst = errors.first().map_or_else(
        || "No errors.".to_owned(),
        |(truth, predicted, images)| {
            let class = |class: usize| dataset.classes.get(class).map_or("?", String::as_str);
            format!(
                "Most frequent error: {} taken for {}, {} times.",
                class(*truth),
                class(*predicted),
                count(*images)
            )
        },
    );
    Some(Figure {
        name: format!("confusion-{}", slug(name)),
        title: format!("{} · {} head", arm_title(name), arm.headline),
        caption: worst,
        spoken: String::new(),
        data: dataset.label(),
        canvas,
    })
}

/// Where the cells are.
pub(super) struct Grid {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) cell: f64,
}

/// A canvas with the names of the classes around an empty matrix.
pub(super) fn grid(dataset: &DatasetRecord, classes: usize) -> (Canvas, Grid) {
    let names: Vec<String> = dataset
        .classes
        .iter()
        .map(|class| shorten(class, 12))
        .collect();
    let named = classes <= NAMED;
    let longest = names
        .iter()
        .map(|name| text_width(name))
        .fold(0.0, f64::max);
    let left = if named { longest + 28.0 } else { 28.0 };
    let top = if named { 0.72 * longest + 34.0 } else { 28.0 };
    let cell = ((460.0 - left - if named { 22.0 } else { 6.0 }) / classes as f64).clamp(2.0, 40.0);
    let side = cell * classes as f64;
    let mut canvas = Canvas::new(460.0, top + side + 6.0);

    canvas.text((left, 12.0), Anchor::Start, "s mute", "predicted →");
    canvas.turned_text(
        (11.0, top + side),
        Anchor::Start,
        "s mute",
        "true class →",
        -90.0,
    );
    if named {
        for (class, name) in names.iter().enumerate() {
            let middle = (class as f64 + 0.5) * cell;
            let size = if cell < 12.0 { "s" } else { "" };
            canvas.text((left - 8.0, top + middle + 4.0), Anchor::End, size, name);
            canvas.turned_text(
                (left + middle + 3.0, top - 8.0),
                Anchor::Start,
                size,
                name,
                -45.0,
            );
        }
    }
    (canvas, Grid { left, top, cell })
}

/// Strength of a cell's colour, 0 to 1. The power lifts rare errors into sight; the cell's number tells the truth.
fn intensity(images_here: u64, images: u64) -> f64 {
    (images_here as f64 / images as f64).powf(0.6)
}

/// The most frequent errors: true class, predicted class, images.
pub(crate) fn most_confused(matrix: &[Vec<u64>], how_many: usize) -> Vec<(usize, usize, u64)> {
    let mut errors: Vec<(usize, usize, u64)> = matrix
        .iter()
        .enumerate()
        .flat_map(|(truth, row)| {
            row.iter()
                .enumerate()
                .map(move |(predicted, images)| (truth, predicted, *images))
        })
        .filter(|(truth, predicted, images)| truth != predicted && *images > 0)
        .collect();
    errors
        .sort_by_key(|(truth, predicted, images)| (std::cmp::Reverse(*images), *truth, *predicted));
    errors.truncate(how_many);
    errors
}
