//! Batch norm's passes over `[M, C]`: statistics, normalisation, and the two of the gradient.
//!
//! Rows are cut into blocks by shape alone. Within a block sums are f32 around a rough mean; blocks are combined in
//! f64 in order (Chan, Golub and LeVeque 1979), so that a large mean costs no accuracy.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::buffer::{Shared, with_panels, written};
use super::isa::vectorised;
use crate::batch_norm::Activation;

/// Values of one block: 128 KiB.
const BLOCK: usize = 32 * 1024;
/// Most rows of one block, which bounds the rounding of its f32 sums.
const MOST_ROWS: usize = 512;

/// Mean and biased variance of each channel.
#[derive(Debug, Clone)]
pub struct Moments {
    pub mean: Vec<f32>,
    pub var: Vec<f32>,
}

/// `1 / √(var + eps)` for each channel, computed in f64.
pub fn inverse_std(var: &[f32], eps: f64) -> Vec<f32> {
    var.iter()
        .map(|v| (1.0 / (f64::from(*v) + eps).sqrt()) as f32)
        .collect()
}

fn block_rows(channels: usize) -> usize {
    (BLOCK / channels).clamp(1, MOST_ROWS)
}

/// The statistics of every channel of `x: [M, C]`.
pub fn moments(x: &[f32], channels: usize) -> Moments {
    let step = block_rows(channels);
    let rows = x.len() / channels;
    let blocks = rows.div_ceil(step);
    let (mut mean, mut m2) = (vec![0f64; channels], vec![0f64; channels]);
    with_panels(blocks * 3 * channels, |partial| {
        partial
            .par_chunks_mut(3 * channels)
            .zip(x.par_chunks(step * channels))
            .for_each(|(partial, x)| {
                let (centre, sums) = partial.split_at_mut(channels);
                let (sum, square) = sums.split_at_mut(channels);
                rough_mean(x, centre);
                block_moments(x, centre, sum, square);
            });
        let mut before = 0f64;
        for (b, partial) in partial.chunks_exact(3 * channels).enumerate() {
            let n = step.min(rows - b * step) as f64;
            let (centre, sums) = partial.split_at(channels);
            let (sum, square) = sums.split_at(channels);
            let share = n / (before + n);
            for j in 0..channels {
                let shift = f64::from(sum[j]) / n;
                let block_mean = f64::from(centre[j]) + shift;
                let block_m2 = f64::from(square[j]) - f64::from(sum[j]) * shift;
                let delta = block_mean - mean[j];
                mean[j] += delta * share;
                m2[j] += block_m2 + delta * delta * before * share;
            }
            before += n;
        }
    });
    let count = rows as f64;
    Moments {
        mean: mean.iter().map(|m| *m as f32).collect(),
        var: m2.iter().map(|m| (m / count).max(0.0) as f32).collect(),
    }
}

vectorised! {
    /// The mean of at most 16 rows spread over the block.
    pub fn rough_mean(x: &[f32], centre: &mut [f32]) {
        let channels = centre.len();
        let rows = x.len() / channels;
        let samples = rows.min(16);
        centre.fill(0.0);
        for i in 0..samples {
            let row = &x[i * rows / samples * channels..][..channels];
            for (c, x) in centre.iter_mut().zip(row) {
                *c += *x;
            }
        }
        let share = 1.0 / samples as f32;
        centre.iter_mut().for_each(|c| *c *= share);
    }
}

vectorised! {
    /// Σ (x − centre) and Σ (x − centre)² over the rows.
    pub fn block_moments(x: &[f32], centre: &[f32], sum: &mut [f32], square: &mut [f32]) {
        let n = centre.len();
        let (sum, square) = (&mut sum[..n], &mut square[..n]);
        sum.fill(0.0);
        square.fill(0.0);
        let mut quads = x.chunks_exact(4 * n);
        for rows in &mut quads {
            let (r0, rest) = rows.split_at(n);
            let (r1, rest) = rest.split_at(n);
            let (r2, r3) = rest.split_at(n);
            for j in 0..n {
                let (a, b) = (r0[j] - centre[j], r1[j] - centre[j]);
                let (c, d) = (r2[j] - centre[j], r3[j] - centre[j]);
                sum[j] += (a + b) + (c + d);
                square[j] += (a * a + b * b) + (c * c + d * d);
            }
        }
        for row in quads.remainder().chunks_exact(n) {
            for j in 0..n {
                let d = row[j] - centre[j];
                sum[j] += d;
                square[j] += d * d;
            }
        }
    }
}

/// `act(x · scale + shift + residual)`.
pub fn normalise(
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    residual: Option<&[f32]>,
    act: Activation,
) -> Vec<f32> {
    let channels = scale.len();
    let step = block_rows(channels) * channels;
    let relu = act == Activation::Relu;
    let fill = |out: Shared<'_>| {
        x.par_chunks(step).enumerate().for_each(|(i, x)| {
            let from = i * step;
            // SAFETY: blocks do not overlap.
            let y = unsafe { out.part(from, from + x.len()) };
            match residual {
                None => normalise_block(x, scale, shift, relu, y),
                Some(r) => {
                    normalise_add_block(x, &r[from..from + x.len()], scale, shift, relu, y);
                }
            }
        });
    };
    // SAFETY: the blocks cover the output, and each function writes every value of its block.
    unsafe { written(x.len(), fill) }
}

/// 0 where x is negative; a NaN stays.
#[inline(always)]
pub fn rectify(x: f32) -> f32 {
    if 0.0 > x { 0.0 } else { x }
}

vectorised! {
    pub fn normalise_block(x: &[f32], scale: &[f32], shift: &[f32], relu: bool, y: &mut [MaybeUninit<f32>]) {
        let n = scale.len();
        let shift = &shift[..n];
        for (x, y) in x.chunks_exact(n).zip(y.chunks_exact_mut(n)) {
            if relu {
                for j in 0..n {
                    y[j].write(rectify(x[j] * scale[j] + shift[j]));
                }
            } else {
                for j in 0..n {
                    y[j].write(x[j] * scale[j] + shift[j]);
                }
            }
        }
    }
}

vectorised! {
    pub fn normalise_add_block(x: &[f32], r: &[f32], scale: &[f32], shift: &[f32], relu: bool, y: &mut [MaybeUninit<f32>]) {
        let n = scale.len();
        let shift = &shift[..n];
        for ((x, r), y) in x.chunks_exact(n).zip(r.chunks_exact(n)).zip(y.chunks_exact_mut(n)) {
            if relu {
                for j in 0..n {
                    y[j].write(rectify(x[j] * scale[j] + shift[j] + r[j]));
                }
            } else {
                for j in 0..n {
                    y[j].write(x[j] * scale[j] + shift[j] + r[j]);
                }
            }
        }
    }
}

/// What the gradient of a normalisation needs.
pub struct Backward<'a> {
    pub x: &'a [f32],
    /// The result, whose sign tells where a ReLU was open; `None` without activation.
    pub y: Option<&'a [f32]>,
    pub dy: &'a [f32],
    pub mean: &'a [f32],
    pub inv_std: &'a [f32],
    pub gamma: &'a [f32],
    /// Whether mean and variance depend on x.
    pub statistics: bool,
    /// Whether to return the gradient before the normalisation separately (the residual's).
    pub residual: bool,
    /// Whether to compute x's gradient.
    pub input: bool,
}

/// Gradients of a normalisation.
pub struct Gradients {
    pub x: Option<Vec<f32>>,
    pub residual: Option<Vec<f32>>,
    /// gamma's, then beta's.
    pub affine: Vec<f32>,
}

impl Backward<'_> {
    /// With g the gradient that passes the activation and x̂ = (x − mean)·inv_std:
    /// dβ = Σ g, dγ = Σ g·x̂, dx = γ·inv_std·(g − dβ/M − x̂·dγ/M), where the last two vanish for constant statistics.
    pub fn compute(&self) -> Gradients {
        let channels = self.gamma.len();
        let rows = self.x.len() / channels;
        let step = block_rows(channels) * channels;
        let blocks = self.x.len().div_ceil(step);
        let (mut sum, mut product) = (vec![0f64; channels], vec![0f64; channels]);
        let mut residual = None;
        let cut = |v: &'_ [f32], i: usize| -> std::ops::Range<usize> {
            i * step..v.len().min((i + 1) * step)
        };
        with_panels(blocks * 2 * channels, |partial| {
            if self.residual && self.y.is_some() {
                let fill = |out: Shared<'_>| {
                    partial
                        .par_chunks_mut(2 * channels)
                        .enumerate()
                        .for_each(|(i, partial)| {
                            let (sum, product) = partial.split_at_mut(channels);
                            let at = cut(self.x, i);
                            let y = self.y.map_or(&[][..], |y| &y[at.clone()]);
                            // SAFETY: blocks do not overlap.
                            let g = unsafe { out.part(at.start, at.end) };
                            open_gates(&self.dy[at.clone()], y, g);
                            // SAFETY: `open_gates` wrote all of it: dy and y are as long.
                            let g = unsafe { g.assume_init_ref() };
                            block_sums(&self.x[at], g, self.mean, sum, product);
                        });
                };
                // SAFETY: the blocks cover the output and `open_gates` writes every value.
                residual = Some(unsafe { written(self.x.len(), fill) });
            } else {
                partial
                    .par_chunks_mut(2 * channels)
                    .enumerate()
                    .for_each(|(i, partial)| {
                        let (sum, product) = partial.split_at_mut(channels);
                        let at = cut(self.x, i);
                        let (x, dy) = (&self.x[at.clone()], &self.dy[at.clone()]);
                        match self.y {
                            Some(y) => block_sums_gated(x, dy, &y[at], self.mean, sum, product),
                            None => block_sums(x, dy, self.mean, sum, product),
                        }
                    });
            }
            for partial in partial.chunks_exact(2 * channels) {
                let (s, p) = partial.split_at(channels);
                for j in 0..channels {
                    sum[j] += f64::from(s[j]);
                    product[j] += f64::from(p[j]);
                }
            }
        });
        let inv = |j: usize| f64::from(self.inv_std[j]);
        let mut affine = Vec::with_capacity(2 * channels);
        affine.extend((0..channels).map(|j| (product[j] * inv(j)) as f32));
        affine.extend(sum.iter().map(|s| *s as f32));

        let x = self.input.then(|| {
            // dx = own·g + slope·(x − mean) + constant
            let count = rows as f64;
            let own: Vec<f32> = (0..channels)
                .map(|j| self.gamma[j] * self.inv_std[j])
                .collect();
            let (mut slope, mut constant) = (vec![0f32; channels], vec![0f32; channels]);
            if self.statistics {
                for j in 0..channels {
                    let own = f64::from(self.gamma[j]) * inv(j);
                    slope[j] = (-own * inv(j) * inv(j) * product[j] / count) as f32;
                    constant[j] = (-own * sum[j] / count) as f32;
                }
            }
            let fill = |out: Shared<'_>| {
                (0..blocks).into_par_iter().for_each(|i| {
                    let at = cut(self.x, i);
                    // SAFETY: blocks do not overlap.
                    let dx = unsafe { out.part(at.start, at.end) };
                    let x = &self.x[at.clone()];
                    let (mean, own) = (self.mean, own.as_slice());
                    match (&residual, self.y) {
                        (Some(g), _) => {
                            block_input(x, &g[at], mean, own, &slope, &constant, dx);
                        }
                        (None, Some(y)) => {
                            let (dy, y) = (&self.dy[at.clone()], &y[at]);
                            block_input_gated(x, dy, y, mean, own, &slope, &constant, dx);
                        }
                        (None, None) => {
                            block_input(x, &self.dy[at], mean, own, &slope, &constant, dx);
                        }
                    }
                });
            };
            // SAFETY: the blocks cover the output, and each function writes every value of its block.
            unsafe { written(self.x.len(), fill) }
        });
        Gradients {
            x,
            residual,
            affine,
        }
    }
}

vectorised! {
    /// g = dy where y > 0, else 0.
    pub fn open_gates(dy: &[f32], y: &[f32], g: &mut [MaybeUninit<f32>]) {
        for ((dy, y), g) in dy.iter().zip(y).zip(g) {
            g.write(if *y > 0.0 { *dy } else { 0.0 });
        }
    }
}

vectorised! {
    /// Σ g and Σ g·(x − mean) over the rows.
    pub fn block_sums(x: &[f32], g: &[f32], mean: &[f32], sum: &mut [f32], product: &mut [f32]) {
        let n = mean.len();
        let (sum, product) = (&mut sum[..n], &mut product[..n]);
        sum.fill(0.0);
        product.fill(0.0);
        let even = x.len() / (2 * n) * (2 * n);
        for (x, g) in x.chunks_exact(2 * n).zip(g.chunks_exact(2 * n)) {
            let ((x0, x1), (g0, g1)) = (x.split_at(n), g.split_at(n));
            for j in 0..n {
                sum[j] += g0[j] + g1[j];
                product[j] += g0[j] * (x0[j] - mean[j]) + g1[j] * (x1[j] - mean[j]);
            }
        }
        for (x, g) in x[even..].chunks_exact(n).zip(g[even..].chunks_exact(n)) {
            for j in 0..n {
                sum[j] += g[j];
                product[j] += g[j] * (x[j] - mean[j]);
            }
        }
    }
}

vectorised! {
    /// [`block_sums`] of g = dy where y > 0, else 0.
    pub fn block_sums_gated(x: &[f32], dy: &[f32], y: &[f32], mean: &[f32], sum: &mut [f32], product: &mut [f32]) {
        let n = mean.len();
        let (sum, product) = (&mut sum[..n], &mut product[..n]);
        sum.fill(0.0);
        product.fill(0.0);
        let even = x.len() / (2 * n) * (2 * n);
        let pairs = x.chunks_exact(2 * n).zip(dy.chunks_exact(2 * n)).zip(y.chunks_exact(2 * n));
        for ((x, dy), y) in pairs {
            let ((x0, x1), (dy0, dy1), (y0, y1)) = (x.split_at(n), dy.split_at(n), y.split_at(n));
            for j in 0..n {
                let g0 = if y0[j] > 0.0 { dy0[j] } else { 0.0 };
                let g1 = if y1[j] > 0.0 { dy1[j] } else { 0.0 };
                sum[j] += g0 + g1;
                product[j] += g0 * (x0[j] - mean[j]) + g1 * (x1[j] - mean[j]);
            }
        }
        let rest = x[even..].chunks_exact(n).zip(dy[even..].chunks_exact(n)).zip(y[even..].chunks_exact(n));
        for ((x, dy), y) in rest {
            for j in 0..n {
                let g = if y[j] > 0.0 { dy[j] } else { 0.0 };
                sum[j] += g;
                product[j] += g * (x[j] - mean[j]);
            }
        }
    }
}

vectorised! {
    /// dx = own·g + slope·(x − mean) + constant.
    pub fn block_input(x: &[f32], g: &[f32], mean: &[f32], own: &[f32], slope: &[f32], constant: &[f32], dx: &mut [MaybeUninit<f32>]) {
        let n = mean.len();
        let (own, slope, constant) = (&own[..n], &slope[..n], &constant[..n]);
        for ((x, g), dx) in x.chunks_exact(n).zip(g.chunks_exact(n)).zip(dx.chunks_exact_mut(n)) {
            for j in 0..n {
                dx[j].write(own[j] * g[j] + slope[j] * (x[j] - mean[j]) + constant[j]);
            }
        }
    }
}

vectorised! {
    /// [`block_input`] of g = dy where y > 0, else 0.
    pub fn block_input_gated(x: &[f32], dy: &[f32], y: &[f32], mean: &[f32], own: &[f32], slope: &[f32], constant: &[f32], dx: &mut [MaybeUninit<f32>]) {
        let n = mean.len();
        let (own, slope, constant) = (&own[..n], &slope[..n], &constant[..n]);
        let rows = x.chunks_exact(n).zip(dy.chunks_exact(n)).zip(y.chunks_exact(n)).zip(dx.chunks_exact_mut(n));
        for (((x, dy), y), dx) in rows {
            for j in 0..n {
                let g = if y[j] > 0.0 { dy[j] } else { 0.0 };
                dx[j].write(own[j] * g + slope[j] * (x[j] - mean[j]) + constant[j]);
            }
        }
    }
}

/// Σ over the rows of `[M, C]`: a bias's gradient.
pub fn column_sums(g: &[f32], channels: usize) -> Vec<f32> {
    let step = block_rows(channels) * channels;
    let mut total = vec![0f64; channels];
    with_panels(g.len().div_ceil(step) * channels, |partial| {
        partial
            .par_chunks_mut(channels)
            .zip(g.par_chunks(step))
            .for_each(|(sum, g)| block_column_sums(g, sum));
        for partial in partial.chunks_exact(channels) {
            for (t, p) in total.iter_mut().zip(partial) {
                *t += f64::from(*p);
            }
        }
    });
    total.iter().map(|t| *t as f32).collect()
}

vectorised! {
    pub fn block_column_sums(g: &[f32], sum: &mut [f32]) {
        sum.fill(0.0);
        for row in g.chunks_exact(sum.len()) {
            for (s, g) in sum.iter_mut().zip(row) {
                *s += *g;
            }
        }
    }
}
