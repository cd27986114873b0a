//! Colour operations in place on planes R, G, B of values in 0..1, after torchvision's functions on float tensors.

use rand_chacha::ChaCha8Rng;

use super::config::ColorJitter;
use crate::random::{shuffle, uniform};

/// ITU-R 601 luma, as torchvision's `rgb_to_grayscale`.
const LUMA: [f32; 3] = [0.2989, 0.587, 0.114];

/// Three planes of equal length.
pub(crate) struct Planes<'a> {
    pub r: &'a mut [f32],
    pub g: &'a mut [f32],
    pub b: &'a mut [f32],
}

impl<'a> Planes<'a> {
    pub(crate) fn new(planes: &'a mut [f32]) -> Self {
        let (r, rest) = planes.split_at_mut(planes.len() / 3);
        let (g, b) = rest.split_at_mut(rest.len() / 2);
        Self { r, g, b }
    }

    fn each(&mut self, f: impl Fn(f32) -> f32) {
        for plane in [&mut *self.r, &mut *self.g, &mut *self.b] {
            for value in plane {
                *value = f(*value);
            }
        }
    }

    fn pixels(&mut self, f: impl Fn(f32, f32, f32) -> (f32, f32, f32)) {
        for ((r, g), b) in self
            .r
            .iter_mut()
            .zip(self.g.iter_mut())
            .zip(self.b.iter_mut())
        {
            (*r, *g, *b) = f(*r, *g, *b);
        }
    }

    /// `clamp(f·x)`.
    pub(crate) fn brightness(&mut self, factor: f32) {
        self.each(|x| clamp(x * factor));
    }

    /// `clamp(f·x + (1 − f)·mean(luma))`.
    pub(crate) fn contrast(&mut self, factor: f32) {
        let mean = (LUMA[0] * sum(self.r) + LUMA[1] * sum(self.g) + LUMA[2] * sum(self.b))
            / self.r.len() as f32;
        let rest = (1.0 - factor) * mean;
        self.each(|x| clamp(factor * x + rest));
    }

    /// `clamp(f·x + (1 − f)·luma)`.
    pub(crate) fn saturation(&mut self, factor: f32) {
        self.pixels(|r, g, b| {
            let rest = (1.0 - factor) * luma(r, g, b);
            (
                clamp(factor * r + rest),
                clamp(factor * g + rest),
                clamp(factor * b + rest),
            )
        });
    }

    /// Every channel becomes the luma.
    pub(crate) fn grey(&mut self) {
        self.pixels(|r, g, b| {
            let y = luma(r, g, b);
            (y, y, y)
        });
    }

    /// Turns the hue by `shift` of the circle, −½..½: RGB → HSV, `h + shift mod 1`, back.
    ///
    /// With `v` the largest channel, `c` the spread and `h6 = 6h`, channel `n` ∈ (5, 3, 1) is
    /// `v − c·clamp(min(k, 4 − k), 0, 1)`, `k = (n + h6) mod 6`: no branch, so it runs in vector registers.
    pub(crate) fn hue(&mut self, shift: f32) {
        let shift = 6.0 * shift;
        self.pixels(|r, g, b| {
            let v = max(max(r, g), b);
            let c = v - min(min(r, g), b);
            let scale = 1.0 / if c > 0.0 { c } else { 1.0 };
            let from_red = (g - b) * scale;
            let from_green = 2.0 + (b - r) * scale;
            let from_blue = 4.0 + (r - g) * scale;
            let h6 = if v == r {
                from_red
            } else if v == g {
                from_green
            } else {
                from_blue
            };
            // h6 ∈ −1..5; after the shift −4..8; wrapped to 0..6.
            let h6 = h6 + shift;
            let h6 = if h6 < 0.0 { h6 + 6.0 } else { h6 };
            let h6 = if h6 >= 6.0 { h6 - 6.0 } else { h6 };
            let channel = |n: f32| {
                let k = n + h6;
                let k = if k >= 6.0 { k - 6.0 } else { k };
                v - c * clamp(min(k, 4.0 - k))
            };
            (channel(5.0), channel(3.0), channel(1.0))
        });
    }

    /// The four operations of a jitter with factors and order drawn from `rng`; an operation of range 0 is left out.
    pub(crate) fn jitter(&mut self, jitter: &ColorJitter, rng: &mut ChaCha8Rng) {
        let mut order = [0, 1, 2, 3];
        shuffle(&mut order, rng);
        let mut factor = |range: f32| uniform(rng, (1.0 - range).max(0.0), 1.0 + range);
        let factors = [
            factor(jitter.brightness),
            factor(jitter.contrast),
            factor(jitter.saturation),
        ];
        let turn = uniform(rng, -jitter.hue, jitter.hue);
        for operation in order {
            match operation {
                0 if jitter.brightness > 0.0 => self.brightness(factors[0]),
                1 if jitter.contrast > 0.0 => self.contrast(factors[1]),
                2 if jitter.saturation > 0.0 => self.saturation(factors[2]),
                3 if jitter.hue > 0.0 => self.hue(turn),
                _ => {}
            }
        }
    }
}

fn luma(r: f32, g: f32, b: f32) -> f32 {
    LUMA[0] * r + LUMA[1] * g + LUMA[2] * b
}

// Plain comparisons: f32::min and max must treat NaN, which costs twice the instructions.
fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

fn clamp(x: f32) -> f32 {
    max(min(x, 1.0), 0.0)
}

/// Eight running sums, so that the order of additions is fixed and vectorises.
fn sum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()
}
