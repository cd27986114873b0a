//! Blur of the optics and of movement.

use rand_chacha::ChaCha8Rng;

use super::Picture;
use super::field::{along, smoothed};
use crate::random::{uniform, unit};

/// A disk, its edge softened by a Gaussian.
pub(super) fn defocus(picture: Picture, level: usize) -> Picture {
    let (radius, alias) = [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)][level];
    let reach = f32::ceil(radius) as i32;
    let inside = |(y, x): &(i32, i32)| ((y * y + x * x) as f32) <= radius * radius;
    let disk: Vec<(i32, i32)> = (-reach..=reach)
        .flat_map(|y| (-reach..=reach).map(move |x| (y, x)))
        .filter(inside)
        .collect();
    let mut values = vec![0.0; picture.values.len()];
    for &(dy, dx) in &disk {
        let moved = picture.warped(|y, x| (y as f32 + dy as f32, x as f32 + dx as f32));
        values
            .iter_mut()
            .zip(&moved.values)
            .for_each(|(to, from)| *to += from / disk.len() as f32);
    }
    smoothed(&Picture { values, ..picture }, alias)
}

/// Blurred a little, a share of the pixels swapped with one nearby, blurred again. The paper's constants vary blur and swaps
/// against each other, so that its third severity changes pixels less than its second; here the swaps grow and the blur stays.
pub(super) fn glass(picture: Picture, level: usize, rng: &mut ChaCha8Rng) -> Picture {
    const SIGMA: f32 = 0.3;
    let (share, reach): (f32, usize) = [(0.2, 1), (0.4, 1), (0.6, 1), (0.8, 1), (1.0, 2)][level];
    let mut picture = smoothed(&picture, SIGMA);
    let (height, width) = (picture.height, picture.width);
    let edge = 2; // the largest reach: every severity walks over the same pixels
    for y in (edge..height.saturating_sub(edge)).rev() {
        for x in (edge..width.saturating_sub(edge)).rev() {
            let (coin, down, across) = (unit(rng), unit(rng), unit(rng));
            if coin >= share {
                continue;
            }
            let near = |at: usize, draw: f32| at + ((2 * reach + 1) as f32 * draw) as usize - reach;
            let (there_y, there_x) = (near(y, down), near(x, across));
            for channel in 0..3 {
                picture.values.swap(
                    (y * width + x) * 3 + channel,
                    (there_y * width + there_x) * 3 + channel,
                );
            }
        }
    }
    smoothed(&picture, SIGMA)
}

/// A Gaussian tail along a line of ±45°: where the camera came from.
pub(super) fn motion(picture: Picture, level: usize, rng: &mut ChaCha8Rng) -> Picture {
    let (radius, sigma): (usize, f32) = [(6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)][level];
    let angle = uniform(rng, -45.0, 45.0).to_radians();
    let weight = |offset: f32| (-offset * offset / (2.0 * sigma * sigma)).exp();
    let offsets = (0..=radius).map(|i| i as f32);
    let sum: f32 = offsets.clone().map(weight).sum();
    let taps: Vec<(f32, f32)> = offsets
        .map(|offset| (offset, weight(offset) / sum))
        .collect();
    along(&picture, angle, &taps)
}

/// The mean of the picture and of enlargements about its centre, by steps of 1 %.
pub(super) fn zoom(picture: Picture, level: usize) -> Picture {
    let steps = [6, 11, 16, 21, 26][level];
    let (middle_y, middle_x) = (
        (picture.height - 1) as f32 / 2.0,
        (picture.width - 1) as f32 / 2.0,
    );
    let mut values = picture.values.clone();
    for step in 0..steps {
        let factor = 1.0 + 0.01 * step as f32;
        let near = picture.warped(|y, x| {
            (
                middle_y + (y as f32 - middle_y) / factor,
                middle_x + (x as f32 - middle_x) / factor,
            )
        });
        values
            .iter_mut()
            .zip(&near.values)
            .for_each(|(to, from)| *to += from);
    }
    values.iter_mut().for_each(|x| *x /= (steps + 1) as f32);
    Picture { values, ..picture }
}
