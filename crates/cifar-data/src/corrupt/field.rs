//! Random fields and filters that several corruptions are made of. A field is one value per pixel, `[H, W]`.

use rand_chacha::ChaCha8Rng;

use super::Picture;
use crate::random::{uniform, unit};

/// A normal number (Box–Muller; the second of a pair is left aside, so that each call takes two draws).
pub(super) fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (a, b) = (1.0 - f64::from(unit(rng)), f64::from(unit(rng)));
    ((-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()) as f32
}

/// Weights of a Gaussian over `−radius..=radius`, of sum 1.
fn bell(sigma: f32, radius: usize) -> Vec<f32> {
    let raw: Vec<f32> = (0..=2 * radius)
        .map(|i| {
            let x = i as f32 - radius as f32;
            (-x * x / (2.0 * sigma * sigma)).exp()
        })
        .collect();
    let sum: f32 = raw.iter().sum();
    raw.iter().map(|x| x / sum).collect()
}

/// Blurs `channels` interleaved channels by a Gaussian of σ pixels, borders repeated.
pub(super) fn smooth(
    values: &[f32],
    (height, width): (usize, usize),
    channels: usize,
    sigma: f32,
) -> Vec<f32> {
    let radius = ((3.0 * sigma).ceil() as usize).max(1);
    let weights = bell(sigma, radius);
    let pass = |values: &[f32], down: bool| -> Vec<f32> {
        let mut out = vec![0.0; values.len()];
        for y in 0..height {
            for x in 0..width {
                for (tap, weight) in weights.iter().enumerate() {
                    let shifted =
                        |at: usize, bound: usize| (at + tap).saturating_sub(radius).min(bound - 1);
                    let (from_y, from_x) = if down {
                        (shifted(y, height), x)
                    } else {
                        (y, shifted(x, width))
                    };
                    for c in 0..channels {
                        out[(y * width + x) * channels + c] +=
                            weight * values[(from_y * width + from_x) * channels + c];
                    }
                }
            }
        }
        out
    };
    pass(&pass(values, false), true)
}

/// A Gaussian blur of a picture.
pub(super) fn smoothed(picture: &Picture, sigma: f32) -> Picture {
    let size = (picture.height, picture.width);
    Picture {
        values: smooth(&picture.values, size, 3, sigma),
        ..*picture
    }
}

/// A mean along a line through each pixel: taps at `offsets` (pixels along the line at `angle`) with `weights`.
pub(super) fn along(picture: &Picture, angle: f32, taps: &[(f32, f32)]) -> Picture {
    let (sine, cosine) = angle.sin_cos();
    let mut values = vec![0.0; picture.values.len()];
    for &(offset, weight) in taps {
        let moved = picture.warped(|y, x| (y as f32 + offset * sine, x as f32 + offset * cosine));
        values
            .iter_mut()
            .zip(&moved.values)
            .for_each(|(to, from)| *to += weight * from);
    }
    Picture { values, ..*picture }
}

/// A plasma fractal in 0..1 (diamond-square): each halving of the step divides the random part by `decay`.
pub(super) fn plasma(
    (height, width): (usize, usize),
    decay: f32,
    rng: &mut ChaCha8Rng,
) -> Vec<f32> {
    let side = height.max(width).next_power_of_two();
    let mut map = vec![0f32; side * side];
    let (mut step, mut spread) = (side, 1.0f32);
    // Wraps around, so that every point has four neighbours.
    while step >= 2 {
        let half = step / 2;
        for y in (0..side).step_by(step) {
            for x in (0..side).step_by(step) {
                let corner = |dy: usize, dx: usize| map[(y + dy) % side * side + (x + dx) % side];
                let mean =
                    (corner(0, 0) + corner(step, 0) + corner(0, step) + corner(step, step)) / 4.0;
                map[(y + half) * side + x + half] = mean + spread * uniform(rng, -1.0, 1.0);
            }
        }
        for y in (0..side).step_by(half) {
            for x in (0..side).step_by(step) {
                let x = x + if (y / half).is_multiple_of(2) {
                    half
                } else {
                    0
                };
                let at = |y: usize, x: usize| map[y % side * side + x % side];
                let mean = (at(y + side - half, x)
                    + at(y + half, x)
                    + at(y, x + side - half)
                    + at(y, x + half))
                    / 4.0;
                map[y * side + x % side] = mean + spread * uniform(rng, -1.0, 1.0);
            }
        }
        (step, spread) = (half, spread / decay);
    }
    let (low, high) = map
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &x| {
            (low.min(x), high.max(x))
        });
    let span = (high - low).max(f32::MIN_POSITIVE);
    let cut = |y: usize| &map[y * side..y * side + width];
    (0..height)
        .flat_map(cut)
        .map(|x| (x - low) / span)
        .collect()
}

/// The luma of each pixel, `[H, W]`.
pub(super) fn grey(picture: &Picture) -> Vec<f32> {
    picture
        .values
        .chunks_exact(3)
        .map(|rgb| 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2])
        .collect()
}
