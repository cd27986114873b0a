//! The embedded data set: ten classes of shapes drawn by a program, 32×32, for tests and for machines without data.
//!
//! Shape, and nothing else, tells the class: colours, polarity (light on dark or dark on light), place, size, tilt, gradients,
//! clutter and noise are random, so a linear model on pixels fails while a small convolutional network learns. An image is a
//! function of (seed, part, index) in IEEE arithmetic without transcendental functions: the same bytes on every machine.

use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{Found, checksum};
use crate::classes::owned;
use crate::dataset::{DatasetInfo, Part, Source};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::random::{below, stream, uniform, unit};

const SIDE: usize = 32;
const CLASSES: [&str; 10] = [
    "disc", "ring", "square", "frame", "triangle", "cross", "bars", "checkers", "crescent", "dots",
];

/// How much of the embedded set to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntheticOptions {
    /// Training images.
    pub train: usize,
    /// Test images.
    pub test: usize,
    /// Another seed is another data set.
    pub seed: u64,
}

impl Default for SyntheticOptions {
    /// 4,000 and 1,000.
    fn default() -> Self {
        Self {
            train: 4_000,
            test: 1_000,
            seed: 0,
        }
    }
}

pub(crate) fn open(options: &SyntheticOptions) -> Result<Found> {
    for (field, value) in [
        ("synthetic.train", options.train),
        ("synthetic.test", options.test),
    ] {
        if value < CLASSES.len() {
            return Err(Error::setting(
                field,
                value,
                "every one of the ten classes needs an image",
            ));
        }
    }
    let sum = |part| {
        let images = draw_part(options, part);
        format!("sha256:{}", checksum::hex(Sha256::digest(&images.pixels)))
    };
    Ok(Found {
        info: DatasetInfo {
            name: "SYNTHETIC shapes".to_owned(),
            source: format!(
                "drawn by cifar-data {}, seed {}",
                env!("CARGO_PKG_VERSION"),
                options.seed
            ),
            synthetic: true,
            classes: owned(&CLASSES),
            checksums: [
                ("train".to_owned(), sum(Part::Train)),
                ("test".to_owned(), sum(Part::Test)),
            ]
            .into(),
            train_len: options.train,
            test_len: options.test,
            height: SIDE,
            width: SIDE,
            data_dir: None,
            user_images: false,
            notes: Vec::new(),
        },
        source: Box::new(Synthetic(*options)),
    })
}

#[derive(Debug)]
struct Synthetic(SyntheticOptions);

impl Source for Synthetic {
    fn path(&self) -> &Path {
        Path::new("the embedded synthetic set")
    }

    fn load(&self, part: Part) -> Result<Images> {
        Ok(draw_part(&self.0, part))
    }
}

fn draw_part(options: &SyntheticOptions, part: Part) -> Images {
    let (count, number) = match part {
        Part::Train => (options.train, 0),
        Part::Test => (options.test, 1),
    };
    let mut pixels = vec![0; count * SIDE * SIDE * 3];
    pixels
        .par_chunks_exact_mut(SIDE * SIDE * 3)
        .enumerate()
        .for_each(|(index, out)| {
            let mut rng = stream(options.seed, "synthetic image", &[number, index as u64]);
            draw(index % CLASSES.len(), &mut rng, out);
        });
    Images {
        height: SIDE,
        width: SIDE,
        pixels,
        labels: (0..count)
            .map(|index| (index % CLASSES.len()) as u32)
            .collect(),
    }
}

/// A colour that changes linearly over the image.
struct Paint {
    base: [f32; 3],
    slope: [[f32; 2]; 3],
}

impl Paint {
    fn random(rng: &mut ChaCha8Rng, luma: f32) -> Self {
        let mut base = [0; 3].map(|_| uniform(rng, -0.28, 0.28));
        let mean = (base[0] + base[1] + base[2]) / 3.0;
        base = base.map(|channel| luma + channel - mean);
        Self {
            base,
            slope: [0; 3].map(|_| [uniform(rng, -0.15, 0.15), uniform(rng, -0.15, 0.15)]),
        }
    }

    /// `x` and `y` in −1..1.
    fn at(&self, channel: usize, x: f32, y: f32) -> f32 {
        self.base[channel] + self.slope[channel][0] * x + self.slope[channel][1] * y
    }
}

/// Where a shape lies: centre, radius in pixels, and the unit vector of its tilt.
struct Pose {
    centre: [f32; 2],
    radius: f32,
    tilt: [f32; 2],
}

impl Pose {
    fn random(rng: &mut ChaCha8Rng, radius: f32, margin: f32, max_tilt: f32) -> Self {
        let room = SIDE as f32 - 2.0 * margin;
        let centre = [margin + room * unit(rng), margin + room * unit(rng)];
        let slope = uniform(rng, -max_tilt, max_tilt);
        let norm = (1.0 + slope * slope).sqrt();
        Self {
            centre,
            radius,
            tilt: [1.0 / norm, slope / norm],
        }
    }

    /// Pixel centre → the shape's own coordinates, where its radius is 1.
    fn local(&self, x: usize, y: usize) -> [f32; 2] {
        let [dx, dy] = [
            x as f32 + 0.5 - self.centre[0],
            y as f32 + 0.5 - self.centre[1],
        ];
        let [c, s] = self.tilt;
        [
            (c * dx + s * dy) / self.radius,
            (c * dy - s * dx) / self.radius,
        ]
    }
}

fn draw(class: usize, rng: &mut ChaCha8Rng, out: &mut [u8]) {
    // Light on dark as often as dark on light; the lumas differ by 0.28 to 0.6.
    let low = uniform(rng, 0.12, 0.45);
    let high = low + uniform(rng, 0.28, 0.6);
    let (back, front) = if unit(rng) < 0.5 {
        (low, high)
    } else {
        (high, low)
    };
    let (back, front) = (Paint::random(rng, back), Paint::random(rng, front));
    let radius = uniform(rng, 7.0, 11.5);
    let pose = Pose::random(rng, radius, radius * 0.85, 0.5);
    // Clutter: up to four small specks and strokes of any colour, partly behind the shape.
    let clutter: Vec<(Pose, Paint, f32)> = (0..1 + below(rng, 4))
        .map(|_| {
            let radius = uniform(rng, 1.2, 3.0);
            let stretch = uniform(rng, 0.25, 1.0);
            let luma = uniform(rng, 0.1, 0.9);
            (
                Pose::random(rng, radius, 1.0, 2.0),
                Paint::random(rng, luma),
                stretch,
            )
        })
        .collect();
    let noise = uniform(rng, 0.03, 0.1);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let [u, v] = pose.local(x, y);
            let cover = (0.5 - distance(class, u, v) * pose.radius).clamp(0.0, 1.0);
            let [px, py] = [x, y].map(|p| p as f32 / (SIDE as f32 / 2.0) - 1.0);
            let mut colour = [0, 1, 2].map(|channel| back.at(channel, px, py));
            for (pose, paint, stretch) in &clutter {
                let [u, v] = pose.local(x, y);
                let cover =
                    (0.5 - (length(u, v / stretch) - 1.0) * pose.radius * stretch).clamp(0.0, 1.0);
                for (channel, value) in colour.iter_mut().enumerate() {
                    *value += cover * (paint.at(channel, px, py) - *value);
                }
            }
            for (channel, value) in colour.iter_mut().enumerate() {
                *value += cover * (front.at(channel, px, py) - *value);
                *value += noise * (unit(rng) + unit(rng) - 1.0) * 1.5;
                out[(y * SIDE + x) * 3 + channel] = (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
            }
        }
    }
}

fn length(u: f32, v: f32) -> f32 {
    (u * u + v * v).sqrt()
}

/// Signed distance (about) to the edge of a class's shape of radius 1, negative inside.
fn distance(class: usize, u: f32, v: f32) -> f32 {
    let (a, b) = (u.abs(), v.abs());
    let square = a.max(b);
    match class {
        0 => length(u, v) - 0.95,
        1 => (length(u, v) - 0.72).abs() - 0.2,
        2 => square - 0.85,
        3 => (square - 0.68).abs() - 0.18,
        4 => (0.866 * a - 0.5 * v).max(v) - 0.55,
        5 => (a - 0.28).max(b - 1.0).min((a - 1.0).max(b - 0.28)),
        // Three bars, a third of the square apart.
        6 => (square - 0.95).max(((a - 0.335).abs() - 0.335).abs().mul_add(-1.0, 0.17)),
        7 => (square - 0.95).max(checkers(u, v)),
        8 => (length(u, v) - 1.0).max(0.8 - length(u - 0.5, v)),
        _ => length(a - 0.6, b - 0.6) - 0.34,
    }
}

/// Every other cell of a 4×4 board of side 1.9.
fn checkers(u: f32, v: f32) -> f32 {
    let cell = 0.475;
    // Distance to the nearest grid line, with the sign of the cell's colour.
    let line = |t: f32| {
        let phase = (t / cell + 8.0) % 2.0 - 1.0;
        (0.5 - (phase.abs() - 0.5).abs()) * cell * phase.signum()
    };
    let (p, q) = (line(u), line(v));
    let near = p.abs().min(q.abs());
    if (p > 0.0) == (q > 0.0) { -near } else { near }
}
