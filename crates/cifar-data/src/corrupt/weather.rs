//! Weather, and light.

use rand_chacha::ChaCha8Rng;

use super::Picture;
use super::field::{along, grey, normal, plasma, smooth};
use crate::random::uniform;

/// Flakes (the bright tail of smoothed noise, smeared along the wind) over a picture whitened where it is bright.
pub(super) fn snow(picture: Picture, level: usize, rng: &mut ChaCha8Rng) -> Picture {
    // Threshold of the flakes, length of their trace, share of the picture that stays.
    let (threshold, trace, kept): (f32, usize, f32) = [
        (1.9, 2, 0.92),
        (1.7, 3, 0.88),
        (1.5, 3, 0.84),
        (1.3, 4, 0.80),
        (1.1, 4, 0.75),
    ][level];
    let size = (picture.height, picture.width);
    let noise: Vec<f32> = (0..size.0 * size.1).map(|_| normal(rng)).collect();
    let angle = uniform(rng, -135.0, -45.0).to_radians();
    let soft = smooth(&noise, size, 1, 0.6);
    let power: f32 = soft.iter().map(|x| x * x).sum::<f32>() / soft.len() as f32;
    let scale = 1.0 / power.sqrt().max(f32::MIN_POSITIVE);
    let flakes = Picture {
        values: soft
            .iter()
            .flat_map(|x| [((x * scale - threshold) * 1.5).clamp(0.0, 1.0); 3])
            .collect(),
        ..picture
    };
    let taps: Vec<(f32, f32)> = (0..trace)
        .map(|i| (i as f32, 1.0 / (1.0 + i as f32 / 2.0)))
        .collect();
    let flakes = along(&flakes, angle, &taps);
    let luma = grey(&picture);
    let mut out = picture;
    for ((rgb, luma), flake) in out
        .values
        .chunks_exact_mut(3)
        .zip(luma)
        .zip(flakes.values.chunks_exact(3))
    {
        let white = luma * 1.5 + 0.5;
        for x in rgb {
            *x = kept * *x + (1.0 - kept) * x.max(white) + flake[0];
        }
    }
    out
}

/// Crystals: ridges of a fractal, bluish white, over a darkened picture.
pub(super) fn frost(mut picture: Picture, level: usize, rng: &mut ChaCha8Rng) -> Picture {
    let (kept, ice) = [(1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.5), (0.75, 0.6)][level];
    let size = (picture.height, picture.width);
    let (coarse, fine) = (plasma(size, 1.6, rng), plasma(size, 1.15, rng));
    for ((rgb, coarse), fine) in picture.values.chunks_exact_mut(3).zip(coarse).zip(fine) {
        // Ridges where the fractal crosses its middle.
        let ridge = (1.0 - (2.0 * coarse - 1.0).abs()).powi(3);
        let crystal = 0.35 + 0.65 * (ridge + 0.6 * fine).min(1.0);
        for (x, tint) in rgb.iter_mut().zip([0.86, 0.93, 1.0]) {
            *x = kept * *x + ice * tint * crystal;
        }
    }
    picture
}

/// `(x + c·plasma) · max/(max + c)`: haze that leaves the brightest value where it was.
pub(super) fn fog(mut picture: Picture, level: usize, rng: &mut ChaCha8Rng) -> Picture {
    let (thickness, decay) = [(0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)][level];
    let haze = plasma((picture.height, picture.width), decay, rng);
    let brightest = picture.values.iter().copied().fold(0.0, f32::max);
    let scale = brightest / (brightest + thickness);
    for (rgb, haze) in picture.values.chunks_exact_mut(3).zip(haze) {
        rgb.iter_mut()
            .for_each(|x| *x = (*x + thickness * haze) * scale);
    }
    picture
}

/// HSV's value is raised, hue and saturation stay: every channel of a pixel is multiplied by `(v + c)/v`.
pub(super) fn brightness(mut picture: Picture, level: usize) -> Picture {
    let more = [0.05, 0.1, 0.15, 0.2, 0.3][level];
    for rgb in picture.values.chunks_exact_mut(3) {
        let value = rgb.iter().copied().fold(0.0, f32::max);
        let raised = (value + more).min(1.0);
        for x in rgb {
            *x = if value > 0.0 {
                *x * raised / value
            } else {
                raised
            };
        }
    }
    picture
}
