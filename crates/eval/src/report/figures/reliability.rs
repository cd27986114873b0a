//! Reliability: how often an arm is right when it is so and so sure (Guo et al. 2017).

use super::slug;
use crate::report::axis::Axis;
use crate::report::format::{arm_title, percent};
use crate::report::input::{Gallery, GalleryArm};
use crate::report::palette::arm_colour;
use crate::report::svg::{Anchor, Canvas, Figure};

const WIDTH: f64 = 460.0;
const BINS: usize = 15;

/// The diagram of one arm. `None` without images.
pub(crate) fn reliability(arm: &GalleryArm, gallery: &Gallery, data: &str) -> Option<Figure> {
    let bins = bins(arm, &gallery.labels);
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
    let colour = arm_colour(&arm.arm, 0);
    let most = bins.iter().map(|bin| bin.images).max().unwrap_or(1) as f64;
    let width = (x.at(100.0) - x.at(0.0)) / BINS as f64;
    for (position, bin) in bins.iter().enumerate().filter(|(_, bin)| bin.images > 0) {
        let left = x.at(0.0) + width * position as f64;
        let share = bin.right as f64 / bin.images as f64;
        let top = y.at(100.0 * share);
        canvas.raw("<g fill-opacity=\".3\">");
        canvas.rect(
            (left + 1.0, top),
            (width - 2.0, y.at(0.0) - top),
            &format!("f{colour}"),
        );
        canvas.raw("</g>");
        let at = x.at(100.0 * bin.confidence / bin.images as f64);
        canvas.line(
            (left + 1.0, top),
            (left + width - 1.0, top),
            &format!("line s{colour}"),
        );
        canvas.circle((at, top), 3.0, &format!("f{colour}"));
        let height = 46.0 * bin.images as f64 / most;
        canvas.rect(
            (left + 1.0, 326.0 - height),
            (width - 2.0, height),
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
    let error: f64 = bins
        .iter()
        .map(|bin| (bin.right as f64 - bin.confidence).abs())
        .sum::<f64>()
        / images as f64;
    let mean = bins.iter().map(|bin| bin.confidence).sum::<f64>() / images as f64;
    let right = bins.iter().map(|bin| bin.right).sum::<u64>() as f64 / images as f64;
    let leaning = if mean > right { "more" } else { "less" };
    Some(Figure {
        name: format!("reliability-{}", slug(&arm.arm)),
        title: arm_title(&arm.arm),
        caption: format!(
            "On average {} sure and {} right: {leaning} sure than right. ECE {}.",
            percent(mean),
            percent(right),
            percent(error)
        ),
        spoken: String::new(),
        data: data.to_owned(),
        canvas,
    })
}

#[derive(Clone, Copy, Default)]
struct Bin {
    images: u64,
    right: u64,
    confidence: f64,
}

/// 15 bins of equal width, ((b−1)/15, b/15], as those of the expected calibration error.
fn bins(arm: &GalleryArm, labels: &[u32]) -> [Bin; BINS] {
    let mut bins = [Bin::default(); BINS];
    for ((&confidence, predicted), label) in arm.confidence.iter().zip(&arm.predicted).zip(labels) {
        let confidence = f64::from(confidence);
        if !confidence.is_finite() {
            continue;
        }
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        bins[bin].images += 1;
        bins[bin].right += u64::from(predicted == label);
        bins[bin].confidence += confidence;
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_that_of_the_definition() {
        let arm = GalleryArm {
            arm: "baseline".to_owned(),
            predicted: vec![0, 0, 1, 1],
            confidence: vec![0.05, 0.75, 0.75, f32::NAN],
            neighbours: Vec::new(),
        };
        let labels = vec![0, 0, 0, 0];
        let counted = bins(&arm, &labels);
        assert_eq!((counted[0].images, counted[0].right), (1, 1));
        assert_eq!((counted[11].images, counted[11].right), (2, 1));
        assert_eq!(counted.iter().map(|bin| bin.images).sum::<u64>(), 3);
        let gallery = Gallery {
            labels,
            pictures: None,
            arms: vec![arm],
        };
        // (|1 − 0.05| + |1 − 1.5|) / 3
        let figure = reliability(&gallery.arms[0], &gallery, "data").unwrap();
        let expected = percent((0.95 + 0.5) / 3.0);
        assert!(
            figure.caption.contains(&format!("ECE {expected}")),
            "{}",
            figure.caption
        );
    }
}
