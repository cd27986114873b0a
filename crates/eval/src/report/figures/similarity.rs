//! Cosine similarities of a class-sorted batch before, during and after training, and their histograms.

use super::slug;
use crate::error::Result;
use crate::report::axis::Axis;
use crate::report::format::{arm_title, decimal};
use crate::report::input::{SnapshotFrame, Snapshots};
use crate::report::palette::CIVIDIS;
use crate::report::png::png_address;
use crate::report::svg::{Anchor, Canvas, Figure, number};

const WIDTH: f64 = 460.0;
const GAP: f64 = 16.0;
const TOP: f64 = 22.0;
const BINS: usize = 50;

/// Matrices at three times, histograms of positive and negative pairs below them. `None` without frames.
pub(crate) fn similarities(snapshots: &Snapshots, data: &str) -> Result<Option<Figure>> {
    let frames = chosen(&snapshots.frames);
    let images = snapshots.labels.len();
    if frames.is_empty() || images < 2 {
        return Ok(None);
    }
    let side = (WIDTH - 2.0 * GAP) / 3.0;
    let bottom = TOP + side + 96.0;
    let mut canvas = Canvas::new(WIDTH, bottom + 66.0);
    let counts: Vec<Histogram> = frames
        .iter()
        .map(|frame| Histogram::of(&snapshots.labels, &frame.similarity))
        .collect();
    let highest = counts
        .iter()
        .flat_map(|histogram| histogram.positive.iter().chain(&histogram.negative))
        .fold(0.0, |most: f64, share| most.max(*share));
    for (panel, (frame, histogram)) in frames.iter().zip(&counts).enumerate() {
        let left = panel as f64 * (side + GAP);
        canvas.text(
            (left, 13.0),
            Anchor::Start,
            "s b",
            &time(frame.epoch, panel, frames.len()),
        );
        let rgb: Vec<u8> = frame
            .similarity
            .iter()
            .flat_map(|&cosine| colour(cosine))
            .collect();
        canvas.raw(&format!(
            "<image x=\"{}\" y=\"{TOP}\" width=\"{side}\" height=\"{side}\" style=\"image-rendering:pixelated\" href=\"{}\"/>",
            number(left),
            png_address(&rgb, images, images)?,
            side = number(side),
        ));
        let axis = Axis::exact(-1.0, 1.0, left + 1.0, left + side - 1.0, 2);
        draw_histogram(&mut canvas, histogram, &axis, highest, bottom);
    }
    canvas.rect((0.0, bottom + 34.0), (11.0, 11.0), "good");
    canvas.text((17.0, bottom + 44.0), Anchor::Start, "s", "same class");
    canvas.rect((96.0, bottom + 34.0), (11.0, 11.0), "bad");
    canvas.text((113.0, bottom + 44.0), Anchor::Start, "s", "other class");
    draw_scale(&mut canvas, bottom + 34.0);
    let told: Vec<String> = frames
        .iter()
        .zip(&counts)
        .map(|(frame, histogram)| {
            format!(
                "{} {} and {}",
                if frame.epoch == 0 {
                    "before training".to_owned()
                } else {
                    format!("after epoch {}", frame.epoch)
                },
                decimal(histogram.means[0]),
                decimal(histogram.means[1])
            )
        })
        .collect();
    Ok(Some(Figure {
        name: format!(
            "similarity-{}-{}",
            slug(&snapshots.arm),
            slug(&snapshots.space)
        ),
        title: format!("{} · {}", arm_title(&snapshots.arm), snapshots.space),
        caption: format!(
            "Mean cosine of pairs of one class and of different classes: {}.",
            told.join("; ")
        ),
        spoken: String::new(),
        data: data.to_owned(),
        canvas,
    }))
}

/// The first, the middle and the last time.
fn chosen(frames: &[SnapshotFrame]) -> Vec<&SnapshotFrame> {
    match frames {
        [] => Vec::new(),
        [first] => vec![first],
        [first, last] => vec![first, last],
        _ => vec![
            &frames[0],
            &frames[frames.len() / 2],
            &frames[frames.len() - 1],
        ],
    }
}

fn time(epoch: u64, panel: usize, panels: usize) -> String {
    match (epoch, panel) {
        (0, _) => "before".to_owned(),
        (epoch, panel) if panel + 1 == panels => format!("after, epoch {epoch}"),
        (epoch, _) => format!("epoch {epoch}"),
    }
}

/// Shares of pairs by cosine, and their means: positive pairs, then negative ones.
struct Histogram {
    positive: Vec<f64>,
    negative: Vec<f64>,
    means: [f64; 2],
}

impl Histogram {
    fn of(labels: &[u32], similarity: &[f32]) -> Self {
        let n = labels.len();
        let mut bins = [vec![0u64; BINS], vec![0u64; BINS]];
        let (mut sums, mut pairs) = ([0f64; 2], [0u64; 2]);
        for i in 0..n {
            for j in i + 1..n {
                let cosine = f64::from(similarity[i * n + j]);
                if !cosine.is_finite() {
                    continue;
                }
                let kind = usize::from(labels[i] != labels[j]);
                let bin = ((cosine + 1.0) / 2.0 * BINS as f64).clamp(0.0, BINS as f64 - 1.0);
                bins[kind][bin as usize] += 1;
                sums[kind] += cosine;
                pairs[kind] += 1;
            }
        }
        let shares = |kind: usize| {
            bins[kind]
                .iter()
                .map(|count| *count as f64 / pairs[kind].max(1) as f64)
                .collect()
        };
        Histogram {
            positive: shares(0),
            negative: shares(1),
            means: [0, 1].map(|kind| sums[kind] / pairs[kind] as f64),
        }
    }
}

fn draw_histogram(canvas: &mut Canvas, histogram: &Histogram, x: &Axis, highest: f64, bottom: f64) {
    // Roots of shares: one narrow peak must not flatten everything else.
    let height = |share: f64| 78.0 * (share / highest.max(1e-12)).sqrt();
    for (shares, class) in [(&histogram.negative, "bad"), (&histogram.positive, "good")] {
        let edge = |bin: usize| x.at(-1.0 + 2.0 * bin as f64 / BINS as f64);
        let mut path = format!("M{} {}", number(edge(0)), number(bottom));
        for (bin, share) in shares.iter().enumerate() {
            let y = bottom - height(*share);
            path.push_str(&format!(
                "L{} {1}L{2} {1}",
                number(edge(bin)),
                number(y),
                number(edge(bin + 1))
            ));
        }
        path.push_str(&format!("L{} {}z", number(edge(BINS)), number(bottom)));
        canvas.raw(&format!(
            "<path class=\"{class}\" fill-opacity=\".55\" d=\"{path}\"/>"
        ));
    }
    canvas.line((x.at(-1.0), bottom), (x.at(1.0), bottom), "axis");
    for (mark, anchor) in [
        (-1.0, Anchor::Start),
        (0.0, Anchor::Middle),
        (1.0, Anchor::End),
    ] {
        let label = if mark < 0.0 {
            "−1"
        } else if mark > 0.0 {
            "1"
        } else {
            "0"
        };
        canvas.text((x.at(mark), bottom + 15.0), anchor, "s n mute", label);
    }
}

/// The colours of the matrices, from −1 to 1.
fn draw_scale(canvas: &mut Canvas, top: f64) {
    let (left, width) = (WIDTH - 190.0, 120.0);
    let piece = width / CIVIDIS.len() as f64;
    for (position, [r, g, b]) in CIVIDIS.iter().enumerate() {
        canvas.raw(&format!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"11\" fill=\"rgb({r},{g},{b})\"/>",
            number(left + piece * position as f64),
            number(top),
            number(piece + 0.5),
        ));
    }
    canvas.text((left - 6.0, top + 10.0), Anchor::End, "s n mute", "−1");
    canvas.text(
        (left + width + 6.0, top + 10.0),
        Anchor::Start,
        "s n mute",
        "1 cosine",
    );
}

/// Colour of a cosine: cividis (Nuñez et al. 2018), which eyes of any colour vision read alike.
fn colour(cosine: f32) -> [u8; 3] {
    let cosine = if cosine.is_nan() { -1.0 } else { cosine };
    let place = (cosine.clamp(-1.0, 1.0) + 1.0) / 2.0 * (CIVIDIS.len() - 1) as f32;
    let below = (place as usize).min(CIVIDIS.len() - 2);
    let share = place - below as f32;
    [0, 1, 2].map(|channel| {
        let (a, b) = (CIVIDIS[below][channel], CIVIDIS[below + 1][channel]);
        (f32::from(a) + share * (f32::from(b) - f32::from(a))).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_once_by_kind() {
        let similarity = [1.0, 0.9, -0.5, 0.9, 1.0, 0.1, -0.5, 0.1, 1.0];
        let histogram = Histogram::of(&[0, 0, 1], &similarity);
        assert!((histogram.means[0] - 0.9).abs() < 1e-6 && (histogram.means[1] + 0.2).abs() < 1e-6);
        assert_eq!(histogram.positive[47], 1.0);
        assert_eq!((histogram.negative[12], histogram.negative[27]), (0.5, 0.5));
    }

    #[test]
    fn colours_run_from_end_to_end() {
        assert_eq!(colour(-1.0), CIVIDIS[0]);
        assert_eq!(colour(1.0), CIVIDIS[CIVIDIS.len() - 1]);
        assert_eq!(colour(f32::NAN), CIVIDIS[0]);
    }

    #[test]
    fn first_middle_and_last_are_shown() {
        let frames: Vec<SnapshotFrame> = (0..5)
            .map(|epoch| SnapshotFrame {
                epoch,
                similarity: Vec::new(),
            })
            .collect();
        let epochs: Vec<u64> = chosen(&frames).iter().map(|frame| frame.epoch).collect();
        assert_eq!(epochs, [0, 2, 4]);
        assert_eq!(chosen(&frames[..2]).len(), 2);
    }
}
