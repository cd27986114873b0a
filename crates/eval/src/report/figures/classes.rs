//! What each arm gains or loses against the reference, class by class.

use super::{slug, text_width};
use crate::comparison::Comparison;
use crate::report::axis::Axis;
use crate::report::format::{arm_title, points, shorten};
use crate::report::story;
use crate::report::svg::{Anchor, Canvas, Figure};
use crate::results::Results;

const WIDTH: f64 = 460.0;
const ROW: f64 = 24.0;
/// Beyond this many classes, only the largest gains and losses are drawn.
const MOST: usize = 30;

/// One arm's differences, by class.
struct Gains<'a> {
    arm: &'a str,
    by_class: Vec<Option<Comparison>>,
}

/// Bars of `arm − reference` per class, a figure for each arm, the main one first: all in the order of its gains and
/// on one scale. Empty where nothing can be compared.
pub(crate) fn class_differences(results: &Results) -> Vec<Figure> {
    let Some((main, reference)) = story::main_pair(results) else {
        return Vec::new();
    };
    let arms = results.arms_in_order();
    let classes = results.dataset.classes.len();
    let mut gains: Vec<Gains<'_>> = arms
        .iter()
        .filter(|(name, _)| *name != reference)
        .map(|(name, _)| Gains {
            arm: name,
            by_class: (0..classes)
                .map(|class| results.class_comparison(name, reference, class))
                .collect(),
        })
        .filter(|gains| gains.by_class.iter().any(Option::is_some))
        .collect();
    gains.sort_by_key(|gains| gains.arm != main);
    let Some(first) = gains.first() else {
        return Vec::new();
    };

    let gain = |class: &usize| {
        first.by_class[*class]
            .as_ref()
            .map_or(f64::NEG_INFINITY, |row| row.difference)
    };
    let mut order: Vec<usize> = (0..classes).collect();
    order.sort_by(|a, b| gain(b).total_cmp(&gain(a)));
    let mut cut = String::new();
    if classes > MOST {
        order.drain(MOST / 2..classes - MOST / 2);
        cut = format!(
            " Shown: the {0} largest gains and the {0} largest losses of {1}.",
            MOST / 2,
            arm_title(main)
        );
    }
    let ends: Vec<f64> = gains
        .iter()
        .flat_map(|gains| {
            order
                .iter()
                .filter_map(|class| gains.by_class[*class].as_ref())
        })
        .flat_map(|row| [100.0 * row.low, 100.0 * row.high])
        .chain([0.0])
        .collect();
    gains
        .iter()
        .map(|gains| Figure {
            name: format!("per-class-{}", slug(gains.arm)),
            title: format!(
                "{} minus {}, by class, in points",
                arm_title(gains.arm),
                arm_title(reference)
            ),
            caption: format!("{}{cut}", balance(&gains.by_class)),
            spoken: String::new(),
            data: results.dataset.label(),
            canvas: draw(gains, &order, &results.dataset.classes, &ends),
        })
        .collect()
}

/// No verdict: an interval over test images says nothing of other seeds, and one class of ten crosses zero by chance.
fn balance(by_class: &[Option<Comparison>]) -> String {
    let count = |test: fn(&Comparison) -> bool| {
        let rows = by_class.iter().flatten();
        rows.filter(|row| test(row)).count()
    };
    format!(
        "Of {} classes, the interval lies above zero in {}, below in {}, and holds it in {}.",
        by_class.iter().flatten().count(),
        count(|row| row.low > 0.0),
        count(|row| row.high < 0.0),
        count(|row| row.low <= 0.0 && row.high >= 0.0)
    )
}

fn draw(gains: &Gains<'_>, order: &[usize], classes: &[String], ends: &[f64]) -> Canvas {
    let mut canvas = Canvas::new(WIDTH, ROW * order.len() as f64 + 34.0);
    let names: Vec<String> = order
        .iter()
        .map(|class| shorten(&classes[*class], 16))
        .collect();
    let left = names
        .iter()
        .map(|name| text_width(name))
        .fold(40.0, f64::max)
        + 14.0;
    let right = WIDTH - 60.0;
    let bottom = ROW * order.len() as f64 + 6.0;
    let axis = Axis::around(ends.iter().copied(), left, right, 6);
    axis.draw_below(&mut canvas, 2.0, bottom, |mark| axis.label(mark));
    for (position, (class, name)) in order.iter().zip(&names).enumerate() {
        let y = 4.0 + ROW * (position as f64 + 0.5);
        canvas.text((left - 10.0, y + 4.0), Anchor::End, "", name);
        let Some(row) = &gains.by_class[*class] else {
            continue;
        };
        let (zero, end) = (axis.at(0.0), axis.at(100.0 * row.difference));
        let class = if row.difference < 0.0 { "bad" } else { "good" };
        canvas.rect((zero.min(end), y - 7.0), ((end - zero).abs(), 14.0), class);
        canvas.line(
            (axis.at(100.0 * row.low), y),
            (axis.at(100.0 * row.high), y),
            "whisker",
        );
        canvas.text(
            (WIDTH - 4.0, y + 4.0),
            Anchor::End,
            "s n",
            &points(row.difference),
        );
    }
    canvas.line((axis.at(0.0), 2.0), (axis.at(0.0), bottom), "axis");
    canvas
}
