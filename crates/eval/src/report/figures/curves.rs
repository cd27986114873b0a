//! Learning curves: one figure per stage (training loss, validation accuracy below it), and one of all arms on a
//! common axis of compute.

use super::{slug, text_width};
use crate::report::axis::Axis;
use crate::report::format::{arm_title, percent, scientific, shorten};
use crate::report::input::StageCurve;
use crate::report::palette::arm_colour;
use crate::report::svg::{Anchor, Canvas, Figure};

const WIDTH: f64 = 460.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = WIDTH - 14.0;

/// The stage as a heading: `Contrastive · pretrain`.
pub(crate) fn stage_title(curve: &StageCurve) -> String {
    format!("{} · {}", arm_title(&curve.arm), curve.stage)
}

/// Training loss by epoch, and validation accuracy where it was measured.
pub(crate) fn stage_curve(curve: &StageCurve, data: &str) -> Figure {
    let colour = arm_colour(&curve.arm, 0);
    let points = &curve.points;
    let with_accuracy = points
        .iter()
        .any(|point| point.validation_top1.is_some_and(f64::is_finite));
    let with_validation_loss = points
        .iter()
        .any(|point| point.validation_loss.is_some_and(f64::is_finite));
    let height = if with_accuracy { 336.0 } else { 210.0 };
    let mut canvas = Canvas::new(WIDTH, height);
    let last = points
        .iter()
        .map(|point| point.epoch)
        .filter(|epoch| epoch.is_finite())
        .fold(1.0, f64::max);
    let x = Axis::exact(0.0, last, LEFT, RIGHT, 6).whole();

    // Above: the loss.
    let (top, bottom) = (34.0, if with_accuracy { 162.0 } else { 172.0 });
    let losses = points
        .iter()
        .flat_map(|point| [point.train_loss, point.validation_loss.unwrap_or(f64::NAN)]);
    let y = Axis::around(losses.chain(curve.collapse), bottom, top, 4);
    y.draw_left(&mut canvas, LEFT, RIGHT, "");
    canvas.text(
        (0.0, 16.0),
        Anchor::Start,
        "s b",
        &format!("Loss ({})", shorten(&curve.loss, 28)),
    );
    if let Some(collapse) = curve.collapse.filter(|loss| loss.is_finite()) {
        canvas.line((LEFT, y.at(collapse)), (RIGHT, y.at(collapse)), "axis dash");
        canvas.text(
            (RIGHT, y.at(collapse) - 5.0),
            Anchor::End,
            "s mute halo",
            "collapse: all embeddings one point",
        );
    }
    let train: Vec<_> = points
        .iter()
        .map(|point| (x.at(point.epoch), y.at(point.train_loss)))
        .collect();
    draw_series(
        &mut canvas,
        &train,
        &format!("s{colour}"),
        &format!("f{colour}"),
    );
    if with_validation_loss {
        let loss = |loss: Option<f64>| loss.unwrap_or(f64::NAN);
        let held: Vec<_> = points
            .iter()
            .map(|point| (x.at(point.epoch), y.at(loss(point.validation_loss))))
            .collect();
        draw_series(&mut canvas, &held, &format!("s{colour} thin dash"), "");
        canvas.line(
            (RIGHT - 186.0, 12.0),
            (RIGHT - 166.0, 12.0),
            &format!("line s{colour}"),
        );
        canvas.text((RIGHT - 160.0, 16.0), Anchor::Start, "s mute", "training");
        canvas.line(
            (RIGHT - 94.0, 12.0),
            (RIGHT - 74.0, 12.0),
            &format!("line thin dash s{colour}"),
        );
        canvas.text((RIGHT - 68.0, 16.0), Anchor::Start, "s mute", "validation");
    }

    // Below: accuracy on the same axis of epochs.
    let mut floor = bottom;
    if with_accuracy {
        let (top, bottom) = (206.0, 298.0);
        floor = bottom;
        let shares = |point: &crate::CurvePoint| 100.0 * point.validation_top1.unwrap_or(f64::NAN);
        let y = Axis::around(points.iter().map(shares), bottom, top, 3);
        y.draw_left(&mut canvas, LEFT, RIGHT, " %");
        canvas.text((0.0, 188.0), Anchor::Start, "s b", "Validation top-1");
        let accuracy: Vec<_> = points
            .iter()
            .map(|point| (x.at(point.epoch), y.at(shares(point))))
            .collect();
        draw_series(
            &mut canvas,
            &accuracy,
            &format!("s{colour}"),
            &format!("f{colour}"),
        );
    }
    canvas.line((LEFT, floor), (RIGHT, floor), "axis");
    for mark in x.marks() {
        canvas.text(
            (x.at(mark), floor + 17.0),
            Anchor::Middle,
            "s n mute",
            &x.label(mark),
        );
    }
    canvas.text((RIGHT, floor + 33.0), Anchor::End, "s mute", "epoch");

    let first = points
        .iter()
        .map(|point| point.train_loss)
        .find(|loss| loss.is_finite());
    let final_loss = points
        .iter()
        .rev()
        .map(|point| point.train_loss)
        .find(|loss| loss.is_finite());
    let mut caption = match (first, final_loss) {
        (Some(first), Some(last)) => format!("Training loss from {first:.3} to {last:.3}"),
        _ => "No finite training loss".to_owned(),
    };
    if let Some(top1) = points
        .iter()
        .rev()
        .find_map(|point| point.validation_top1.filter(|top1| top1.is_finite()))
    {
        caption.push_str(&format!("; validation top-1 {} at the end", percent(top1)));
    }
    caption.push('.');
    Figure {
        name: format!("curve-{}-{}", slug(&curve.arm), slug(&curve.stage)),
        title: stage_title(curve),
        caption,
        spoken: String::new(),
        data: data.to_owned(),
        canvas,
    }
}

/// Validation accuracy of every stage that measured it, against the compute spent until then (epochs of the stage if
/// compute was not counted). `None` with fewer than two such stages.
pub(crate) fn validation_curves(curves: &[StageCurve], data: &str) -> Option<Figure> {
    let shown: Vec<&StageCurve> = curves
        .iter()
        .filter(|curve| {
            curve
                .points
                .iter()
                .any(|point| point.validation_top1.is_some_and(f64::is_finite))
        })
        .collect();
    if shown.len() < 2 {
        return None;
    }
    let counted = shown
        .iter()
        .flat_map(|curve| &curve.points)
        .all(|point| point.multiply_adds.is_some());
    let abscissa = |point: &crate::CurvePoint| match point.multiply_adds {
        Some(spent) if counted => spent as f64,
        _ => point.epoch,
    };
    let legend_rows = shown.len().div_ceil(2);
    let top = 26.0 + 20.0 * legend_rows as f64;
    let bottom = top + 220.0;
    let mut canvas = Canvas::new(WIDTH, bottom + 42.0);
    let points = || shown.iter().flat_map(|curve| &curve.points);
    let furthest = points()
        .map(abscissa)
        .filter(|value| value.is_finite())
        .fold(1.0, f64::max);
    let x = Axis::exact(0.0, furthest, LEFT, RIGHT, 4);
    let y = Axis::around(
        points().map(|point| 100.0 * point.validation_top1.unwrap_or(f64::NAN)),
        bottom,
        top,
        5,
    );
    y.draw_left(&mut canvas, LEFT, RIGHT, " %");
    canvas.line((LEFT, bottom), (RIGHT, bottom), "axis");
    for mark in x.marks() {
        let label = if counted {
            scientific(mark as u64)
        } else {
            x.label(mark)
        };
        let anchor = if x.at(mark) + 0.5 * text_width(&label) > WIDTH {
            Anchor::End
        } else {
            Anchor::Middle
        };
        canvas.text((x.at(mark), bottom + 17.0), anchor, "s n mute", &label);
    }
    let unit = if counted {
        "multiply-adds spent by the arm until then"
    } else {
        "epoch of the stage"
    };
    canvas.text((RIGHT, bottom + 35.0), Anchor::End, "s mute", unit);
    for (position, curve) in shown.iter().enumerate() {
        let colour = arm_colour(&curve.arm, position);
        // A second stage of an arm is dashed, so that colour alone never tells two lines apart.
        let earlier = shown[..position]
            .iter()
            .filter(|other| other.arm == curve.arm)
            .count();
        let dash = if earlier > 0 { " dash" } else { "" };
        let line: Vec<_> = curve
            .points
            .iter()
            .filter(|point| point.validation_top1.is_some())
            .map(|point| {
                (
                    x.at(abscissa(point)),
                    y.at(100.0 * point.validation_top1.unwrap_or(f64::NAN)),
                )
            })
            .collect();
        draw_series(
            &mut canvas,
            &line,
            &format!("s{colour}{dash}"),
            &format!("f{colour}"),
        );
        let (column, row) = (position % 2, position / 2);
        let (left, y) = (column as f64 * WIDTH / 2.0, 14.0 + 20.0 * row as f64);
        canvas.line(
            (left, y - 4.0),
            (left + 22.0, y - 4.0),
            &format!("line s{colour}{dash}"),
        );
        canvas.circle((left + 11.0, y - 4.0), 3.0, &format!("f{colour}"));
        canvas.text(
            (left + 30.0, y),
            Anchor::Start,
            "s",
            &shorten(&stage_title(curve), 30),
        );
    }
    Some(Figure {
        name: "validation".to_owned(),
        title: "Validation top-1 of all stages".to_owned(),
        caption: format!(
            "Top-1 on the validation split after each epoch, against {unit}. The test split is not looked at here."
        ),
        spoken: String::new(),
        data: data.to_owned(),
        canvas,
    })
}

/// A line, with dots while they are few enough to be told apart.
fn draw_series(canvas: &mut Canvas, points: &[(f64, f64)], line: &str, dot: &str) {
    canvas.polyline(points, &format!("line {line}"));
    if points.len() <= 25 && !dot.is_empty() {
        for point in points
            .iter()
            .filter(|point| point.0.is_finite() && point.1.is_finite())
        {
            canvas.circle(*point, 3.0, dot);
        }
    }
}
