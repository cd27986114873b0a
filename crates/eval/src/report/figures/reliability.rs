//! Reliability: how often an arm is right when it is so and so sure (Guo et al. 2017).

use super::slug;
use crate::report::axis::Axis;
use crate::report::format::{arm_title, percent};
use crate::report::palette::arm_colour;
use crate::report::svg::{Anchor, Canvas, Figure};
use crate::results::ArmResult;

const WIDTH: f64 = 460.0;

/// The diagram of one arm's headline head. `None` where it was not recorded.
pub(crate) fn reliability(name: &str, arm: &ArmResult, data: &str) -> Option<Figure> {
    let metrics = &arm.test.classification;
    let bins = &metrics.reliability;
    let images: u64 = bins.iter().map(|bin| bin.images).sum();
    if images == 0 {
        return None;
    }
    let mut canvas = Canvas::new(WIDTH, 366.0);
    let x = Axis::exact(0.0, 100.0, 52.0, 440.0, 5);
    let y = Axis::exact(0.0, 100.0, 258.0, 22.0, 5);
    y.draw_left(&mut canvas, 52.0, 440.0, " %");
    canvas.text((0.0, 12.0), Anchor::Start, "s b", "Right");
    canvas.line(
        (x.at(0.0), y.at(0.0)),
        (x.at(100.0), y.at(100.0)),
        "axis dash",
    );
    let colour = arm_colour(name, 0);
    let most = bins.iter().map(|bin| bin.images).max().unwrap_or(1) as f64;
    for bin in bins.iter().filter(|bin| bin.images > 0) {
        let (left, right) = (x.at(100.0 * bin.low) + 1.0, x.at(100.0 * bin.high) - 1.0);
        let top = y.at(100.0 * bin.accuracy);
        canvas.raw("<g fill-opacity=\".3\">");
        canvas.rect(
            (left, top),
            (right - left, y.at(0.0) - top),
            &format!("f{colour}"),
        );
        canvas.raw("</g>");
        canvas.line((left, top), (right, top), &format!("line s{colour}"));
        canvas.circle(
            (x.at(100.0 * bin.confidence), top),
            3.0,
            &format!("f{colour}"),
        );
        let height = 46.0 * bin.images as f64 / most;
        canvas.rect(
            (left, 326.0 - height),
            (right - left, height),
            &format!("f{colour}"),
        );
    }
    canvas.text((0.0, 282.0), Anchor::Start, "s b", "Images");
    canvas.line((52.0, 326.0), (440.0, 326.0), "axis");
    for mark in x.marks() {
        let label = format!("{} %", x.label(mark));
        canvas.text((x.at(mark), 343.0), Anchor::Middle, "s n mute", &label);
    }
    canvas.text((440.0, 360.0), Anchor::End, "s mute", "confidence");
    let mean = bins
        .iter()
        .map(|bin| bin.images as f64 * bin.confidence)
        .sum::<f64>()
        / images as f64;
    let right = bins
        .iter()
        .map(|bin| bin.images as f64 * bin.accuracy)
        .sum::<f64>()
        / images as f64;
    let leaning = if mean > right { "more" } else { "less" };
    Some(Figure {
        name: format!("reliability-{}", slug(name)),
        title: format!("{} · reliability", arm_title(name)),
        caption: format!(
            "On average {} sure and {} right: {leaning} sure than right. ECE {}.",
            percent(mean),
            percent(right),
            percent(metrics.ece)
        ),
        spoken: String::new(),
        data: data.to_owned(),
        canvas,
    })
}
