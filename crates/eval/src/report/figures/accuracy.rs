//! Test top-1 of every arm, and its difference to the reference, with intervals.

use super::text_width;
use crate::comparison::wilson_interval;
use crate::report::axis::Axis;
use crate::report::format::{arm_title, percent, points, shorten};
use crate::report::palette::arm_colour;
use crate::report::svg::{Anchor, Canvas, Figure};
use crate::results::Results;

const WIDTH: f64 = 460.0;
const ROW: f64 = 34.0;

struct Row {
    title: String,
    colour: usize,
    value: f64,
    interval: Option<(f64, f64)>,
    label: String,
}

/// A dot and a 95 % interval per arm.
pub(crate) fn accuracies(results: &Results) -> Figure {
    let arms = results.arms_in_order();
    let rows: Vec<Row> = arms
        .iter()
        .enumerate()
        .map(|(position, (name, arm))| Row {
            title: arm_title(name),
            colour: arm_colour(name, position),
            value: arm.test.classification.top1,
            interval: wilson_interval(arm.test.classification.top1, arm.test.images()),
            label: percent(arm.test.classification.top1),
        })
        .collect();
    Figure {
        name: "accuracy".to_owned(),
        title: "Test top-1 accuracy".to_owned(),
        caption: "Bars: 95 % intervals over test images (Wilson).".to_owned(),
        spoken: told(&rows),
        data: results.dataset.label(),
        canvas: draw(&rows, false),
    }
}

/// A dot and a 95 % interval for each arm's difference to `reference`. `None` if there is nothing to compare.
pub(crate) fn differences(results: &Results, reference: &str) -> Option<Figure> {
    let rows: Vec<Row> = results
        .arms_in_order()
        .iter()
        .enumerate()
        .filter(|(_, (name, _))| *name != reference)
        .filter_map(|(position, (name, _))| {
            let comparison = results.comparison(name, reference)?;
            Some(Row {
                title: arm_title(name),
                colour: arm_colour(name, position),
                value: comparison.difference,
                interval: Some((comparison.low, comparison.high)),
                label: points(comparison.difference),
            })
        })
        .collect();
    if rows.is_empty() {
        return None;
    }
    Some(Figure {
        name: "accuracy-difference".to_owned(),
        title: format!("Difference to {}, in points", arm_title(reference)),
        caption: "Bars: 95 % intervals over test images, for one seed.".to_owned(),
        spoken: told(&rows),
        data: results.dataset.label(),
        canvas: draw(&rows, true),
    })
}

fn told(rows: &[Row]) -> String {
    let parts: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {}", row.title, row.label))
        .collect();
    parts.join(", ")
}

fn draw(rows: &[Row], with_zero: bool) -> Canvas {
    let mut canvas = Canvas::new(WIDTH, ROW * rows.len() as f64 + 40.0);
    let titles: Vec<String> = rows.iter().map(|row| shorten(&row.title, 16)).collect();
    let left = titles
        .iter()
        .map(|title| text_width(title))
        .fold(60.0, f64::max)
        + 18.0;
    let right = WIDTH - 76.0;
    let bottom = ROW * rows.len() as f64 + 8.0;
    let ends = rows.iter().flat_map(|row| {
        let (low, high) = row.interval.unwrap_or((row.value, row.value));
        [row.value, low, high]
    });
    let axis = Axis::around(
        ends.chain(with_zero.then_some(0.0))
            .map(|share| 100.0 * share),
        left,
        right,
        5,
    );
    let unit = if with_zero { "" } else { " %" };
    axis.draw_below(&mut canvas, 4.0, bottom, |mark| {
        format!("{}{unit}", axis.label(mark))
    });
    if with_zero {
        canvas.line((axis.at(0.0), 4.0), (axis.at(0.0), bottom), "axis");
    }
    for (position, (row, title)) in rows.iter().zip(&titles).enumerate() {
        let y = 8.0 + ROW * (position as f64 + 0.5);
        canvas.text((left - 14.0, y + 4.0), Anchor::End, "", title);
        canvas.text((WIDTH - 4.0, y + 4.0), Anchor::End, "b n", &row.label);
        if !row.value.is_finite() {
            continue;
        }
        if let Some((low, high)) = row.interval {
            let class = format!("thick s{}", row.colour);
            canvas.line(
                (axis.at(100.0 * low), y),
                (axis.at(100.0 * high), y),
                &class,
            );
        }
        canvas.circle(
            (axis.at(100.0 * row.value), y),
            5.0,
            &format!("f{}", row.colour),
        );
    }
    canvas
}
