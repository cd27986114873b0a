//! Photographs as bytes, and how like two of them are: small, as a whole, and in detail.

use std::ops::Range;

use rayon::prelude::*;

use crate::duplicates::DuplicatesConfig;
use crate::error::{Error, Result};
use crate::features::Features;

/// Side of the shrunk images.
const SMALL: usize = 8;

/// Equally sized RGB photographs, `[N, H, W, 3]`.
#[derive(Clone, Copy, Debug)]
pub struct Photographs<'a> {
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
    /// The bytes.
    pub pixels: &'a [u8],
}

impl Photographs<'_> {
    pub(crate) fn count(&self) -> Result<usize> {
        let size = self.height * self.width * 3;
        if size == 0 || self.pixels.is_empty() || !self.pixels.len().is_multiple_of(size) {
            return Err(Error::Invalid(format!(
                "photographs of {}×{}×3 need a multiple of {size} bytes, at least one image, got {}",
                self.height,
                self.width,
                self.pixels.len()
            )));
        }
        Ok(self.pixels.len() / size)
    }

    pub(crate) fn image(&self, index: usize) -> &[u8] {
        let size = self.height * self.width * 3;
        &self.pixels[index * size..][..size]
    }

    /// Images of 8×8×3, each channel's mean taken out, of length 1: products are correlations.
    pub(crate) fn shrunk(&self, mirrored: bool) -> Result<Features> {
        let (height, width) = (self.height, self.width);
        let shrink = |image: &[u8]| -> Vec<f32> {
            let mut cells = vec![0f64; SMALL * SMALL * 3];
            let mut weights = vec![0f64; SMALL * SMALL];
            for y in 0..height {
                for x in 0..width {
                    let there = if mirrored { width - 1 - x } else { x };
                    let cell = y * SMALL / height * SMALL + x * SMALL / width;
                    weights[cell] += 1.0;
                    for channel in 0..3 {
                        cells[cell * 3 + channel] +=
                            f64::from(image[(y * width + there) * 3 + channel]);
                    }
                }
            }
            for (cell, weight) in cells.chunks_mut(3).zip(&weights) {
                cell.iter_mut().for_each(|x| *x /= weight.max(1.0));
            }
            for channel in 0..3 {
                let mean = cells[channel..].iter().step_by(3).sum::<f64>() / (SMALL * SMALL) as f64;
                cells[channel..]
                    .iter_mut()
                    .step_by(3)
                    .for_each(|x| *x -= mean);
            }
            cells.into_iter().map(|x| x as f32).collect()
        };
        let rows: Vec<f32> = self
            .pixels
            .par_chunks(height * width * 3)
            .flat_map_iter(shrink)
            .collect();
        let count = self.count()?;
        Ok(Features::new(SMALL * SMALL * 3, rows, vec![0; count])?.unit())
    }

    /// How like an image here is to one of `other`, mirrored or not, where it is most like in detail: correlation and correlation
    /// of gradients. None where no shift reaches both thresholds.
    pub(crate) fn likeness(
        &self,
        (index, other, there, flipped): (usize, &Self, usize, bool),
        config: &DuplicatesConfig,
    ) -> Option<(f64, f64)> {
        let pair = Pair {
            a: self.image(index),
            b: other.image(there),
            height: self.height as isize,
            width: self.width as isize,
            flipped,
        };
        let reach = (config.shift as isize).min((pair.height.min(pair.width) - 1) / 2);
        let mut best: Option<(f64, f64)> = None;
        for down in -reach..=reach {
            for across in -reach..=reach {
                let correlation = pair.correlation(down, across);
                if correlation < config.correlation {
                    continue;
                }
                let detail = pair.detail(down, across);
                if detail >= config.detail && best.is_none_or(|(_, most)| detail > most) {
                    best = Some((correlation, detail));
                }
            }
        }
        best
    }
}

/// Two images of one size. Sums are of whole numbers: exact, in any order.
struct Pair<'a> {
    a: &'a [u8],
    b: &'a [u8],
    height: isize,
    width: isize,
    flipped: bool,
}

impl Pair<'_> {
    /// The two values at a place of `a` and the place of `b` that lies `down` and `across` of it.
    fn values(
        &self,
        (y, x, channel): (isize, isize, isize),
        down: isize,
        across: isize,
    ) -> (i64, i64) {
        let from = if self.flipped {
            self.width - 1 - (x + across)
        } else {
            x + across
        };
        let one = self.a[((y * self.width + x) * 3 + channel) as usize];
        let two = self.b[(((y + down) * self.width + from) * 3 + channel) as usize];
        (i64::from(one), i64::from(two))
    }

    /// Rows and columns of `a` that `b` covers.
    fn covered(&self, down: isize, across: isize) -> (Range<isize>, Range<isize>) {
        (
            0.max(-down)..self.height.min(self.height - down),
            0.max(-across)..self.width.min(self.width - across),
        )
    }

    /// Of values, with one mean per channel.
    fn correlation(&self, down: isize, across: isize) -> f64 {
        let (rows, columns) = self.covered(down, across);
        let mut sums = [Sums::default(); 3];
        for (channel, sums) in sums.iter_mut().enumerate() {
            for y in rows.clone() {
                for x in columns.clone() {
                    sums.add(self.values((y, x, channel as isize), down, across));
                }
            }
        }
        correlation(&sums)
    }

    /// Of differences to the right and downwards, with one mean per channel and direction: an even slope of light does not matter.
    fn detail(&self, down: isize, across: isize) -> f64 {
        let (rows, columns) = self.covered(down, across);
        let mut sums = [Sums::default(); 6];
        for (channel, sums) in sums.chunks_mut(2).enumerate() {
            for y in rows.clone() {
                for x in columns.clone() {
                    let values = |y, x| self.values((y, x, channel as isize), down, across);
                    let here = values(y, x);
                    for (sums, (y, x)) in sums.iter_mut().zip([(y, x + 1), (y + 1, x)]) {
                        if y < rows.end && x < columns.end {
                            let there = values(y, x);
                            sums.add((there.0 - here.0, there.1 - here.1));
                        }
                    }
                }
            }
        }
        correlation(&sums)
    }
}

/// Sums over pairs of values.
#[derive(Clone, Copy, Default)]
struct Sums {
    n: i64,
    a: i64,
    b: i64,
    aa: i64,
    bb: i64,
    ab: i64,
}

impl Sums {
    fn add(&mut self, (a, b): (i64, i64)) {
        self.n += 1;
        self.a += a;
        self.b += b;
        self.aa += a * a;
        self.bb += b * b;
        self.ab += a * b;
    }
}

/// `Σ (a − ā)(b − b̄) / √(Σ (a − ā)² · Σ (b − b̄)²)` over all parts, each with means of its own. A picture of one colour is like
/// nothing: −1.
fn correlation(parts: &[Sums]) -> f64 {
    let (mut cross, mut own, mut others) = (0.0, 0.0, 0.0);
    for part in parts.iter().filter(|part| part.n > 0) {
        let over = |sum: i64| sum as f64 / part.n as f64;
        cross += over(part.n * part.ab - part.a * part.b);
        own += over(part.n * part.aa - part.a * part.a);
        others += over(part.n * part.bb - part.b * part.b);
    }
    if own > 0.0 && others > 0.0 {
        cross / (own * others).sqrt()
    } else {
        -1.0
    }
}
