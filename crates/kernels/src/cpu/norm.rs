//! Batch norm's passes over `[M, C]`: statistics, normalisation, and the two of the gradient.
//!
//! Rows are cut into blocks by shape alone. Within a block sums are f32 around a rough mean; blocks are combined in
//! f64 in order (Chan, Golub and LeVeque 1979), so that a large mean costs no accuracy.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::buffer::{Shared, with_panels, written};
use super::isa::vectorised;
use super::team::OnTeam;
use super::value::Value;
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
pub fn moments<T: Value>(x: &[T], channels: usize) -> Moments {
    let step = block_rows(channels);
    let rows = x.len() / channels;
    let blocks = rows.div_ceil(step);
    let (mut mean, mut m2) = (vec![0f64; channels], vec![0f64; channels]);
    with_panels(blocks * 3 * channels, |partial: &mut [f32]| {
        partial
            .par_chunks_mut(3 * channels)
            .zip(x.par_chunks(step * channels))
            .on_team(|(partial, x)| {
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
            merge(n, before, (centre, sum, square), &mut mean, &mut m2);
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
    /// Merges a block of `n` rows, whose sums are around its centre, into the mean and the sum of squared deviations of the `before` rows so far.
    pub fn merge(n: f64, before: f64, block: (&[f32], &[f32], &[f32]), mean: &mut [f64], m2: &mut [f64]) {
        let channels = mean.len();
        let (centre, sum, square) = (&block.0[..channels], &block.1[..channels], &block.2[..channels]);
        let m2 = &mut m2[..channels];
        let share = n / (before + n);
        for j in 0..channels {
            let shift = f64::from(sum[j]) / n;
            let block_mean = f64::from(centre[j]) + shift;
            let block_m2 = f64::from(square[j]) - f64::from(sum[j]) * shift;
            let delta = block_mean - mean[j];
            mean[j] += delta * share;
            m2[j] += block_m2 + delta * delta * before * share;
        }
    }
}

vectorised! {
    /// total += part
    pub fn accumulate(total: &mut [f64], part: &[f32]) {
        for (t, p) in total.iter_mut().zip(part) {
            *t += f64::from(*p);
        }
    }
}

vectorised! {
    /// The mean of at most 16 rows spread over the block.
    pub fn rough_mean<T: Value>(x: &[T], centre: &mut [f32]) {
        let channels = centre.len();
        let rows = x.len() / channels;
        let samples = rows.min(16);
        centre.fill(0.0);
        for i in 0..samples {
            let row = &x[i * rows / samples * channels..][..channels];
            for (c, x) in centre.iter_mut().zip(row) {
                *c += x.get();
            }
        }
        let share = 1.0 / samples as f32;
        centre.iter_mut().for_each(|c| *c *= share);
    }
}

vectorised! {
    /// Σ (x − centre) and Σ (x − centre)² over the rows.
    pub fn block_moments<T: Value>(x: &[T], centre: &[f32], sum: &mut [f32], square: &mut [f32]) {
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
                let (a, b) = (r0[j].get() - centre[j], r1[j].get() - centre[j]);
                let (c, d) = (r2[j].get() - centre[j], r3[j].get() - centre[j]);
                sum[j] += (a + b) + (c + d);
                square[j] += (a * a + b * b) + (c * c + d * d);
            }
        }
        for row in quads.remainder().chunks_exact(n) {
            for j in 0..n {
                let d = row[j].get() - centre[j];
                sum[j] += d;
                square[j] += d * d;
            }
        }
    }
}

/// `act(x · scale + shift + residual)`.
pub fn normalise<T: Value>(
    x: &[T],
    scale: &[f32],
    shift: &[f32],
    residual: Option<&[T]>,
    act: Activation,
) -> Vec<T> {
    let channels = scale.len();
    let step = block_rows(channels) * channels;
    let relu = act == Activation::Relu;
    let fill = |out: Shared<'_, T>| {
        x.par_chunks(step).enumerate().on_team(|(i, x)| {
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
    pub fn normalise_block<T: Value>(x: &[T], scale: &[f32], shift: &[f32], relu: bool, y: &mut [MaybeUninit<T>]) {
        let n = scale.len();
        let shift = &shift[..n];
        for (x, y) in x.chunks_exact(n).zip(y.chunks_exact_mut(n)) {
            if relu {
                for j in 0..n {
                    y[j].write(T::of(rectify(x[j].get() * scale[j] + shift[j])));
                }
            } else {
                for j in 0..n {
                    y[j].write(T::of(x[j].get() * scale[j] + shift[j]));
                }
            }
        }
    }
}

vectorised! {
    pub fn normalise_add_block<T: Value>(x: &[T], r: &[T], scale: &[f32], shift: &[f32], relu: bool, y: &mut [MaybeUninit<T>]) {
        let n = scale.len();
        let shift = &shift[..n];
        for ((x, r), y) in x.chunks_exact(n).zip(r.chunks_exact(n)).zip(y.chunks_exact_mut(n)) {
            if relu {
                for j in 0..n {
                    y[j].write(T::of(rectify(x[j].get() * scale[j] + shift[j] + r[j].get())));
                }
            } else {
                for j in 0..n {
                    y[j].write(T::of(x[j].get() * scale[j] + shift[j] + r[j].get()));
                }
            }
        }
    }
}

/// Where the gradient passes the activation.
#[derive(Debug)]
pub enum Gate<'a, T> {
    /// Everywhere.
    Open,
    /// Where this result is positive.
    Result(&'a [T]),
    /// Where `x · scale + shift`, of which the result was made, is positive.
    Affine(&'a [f32], &'a [f32]),
}

impl<T> Clone for Gate<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Gate<'_, T> {}

impl<T> Gate<'_, T> {
    fn block(&self, at: std::ops::Range<usize>) -> Self {
        match self {
            Self::Result(y) => Self::Result(&y[at]),
            gate => *gate,
        }
    }
}

/// The gradient of a normalisation. With g the gradient that passes the gate and x̂ = (x − mean)·inv_std:
///
/// ```text
/// dβ = Σ g,   dγ = Σ g·x̂,   dx = γ·inv_std·(g − dβ/M − x̂·dγ/M)
/// ```
///
/// where the last two terms vanish for constant statistics.
pub struct Backward<'a, T> {
    pub x: &'a [T],
    pub gate: Gate<'a, T>,
    pub mean: &'a [f32],
    pub inv_std: &'a [f32],
    pub gamma: &'a [f32],
    /// Whether mean and variance depend on x.
    pub statistics: bool,
}

/// What the first pass over the gradient yields.
pub struct Sums {
    /// dγ, then dβ.
    pub affine: Vec<f32>,
    /// `dx = own·g + slope·(x − mean) + constant`
    own: Vec<f32>,
    slope: Vec<f32>,
    constant: Vec<f32>,
}

impl<T: Value> Backward<'_, T> {
    fn step(&self) -> usize {
        block_rows(self.gamma.len()) * self.gamma.len()
    }

    /// The sums over g.
    pub fn sums(&self, dy: &[T]) -> Sums {
        let step = self.step();
        self.combine(|partial| {
            partial
                .zip(dy.par_chunks(step))
                .enumerate()
                .on_team(|(i, (partial, dy))| {
                    let at = i * step..i * step + dy.len();
                    self.block_sums(at.clone(), self.gate.block(at), dy, partial);
                });
        })
    }

    /// Turns dy into g, and sums over it. (From then on the gate counts as open.)
    pub fn close_and_sum(&self, dy: &mut [T]) -> Sums {
        let step = self.step();
        self.combine(|partial| {
            partial
                .zip(dy.par_chunks_mut(step))
                .enumerate()
                .on_team(|(i, (partial, dy))| {
                    let at = i * step..i * step + dy.len();
                    if let Gate::Result(y) = self.gate {
                        close_gates(dy, &y[at.clone()]);
                    }
                    self.block_sums(at, Gate::Open, dy, partial);
                });
        })
    }

    fn block_sums(
        &self,
        at: std::ops::Range<usize>,
        gate: Gate<'_, T>,
        dy: &[T],
        partial: &mut [f32],
    ) {
        let (sum, product) = partial.split_at_mut(self.gamma.len());
        block_sums(&self.x[at], dy, gate, self.mean, sum, product);
    }

    /// Runs `fill` over the blocks' partial sums and adds these up in order, in f64.
    fn combine(&self, fill: impl FnOnce(rayon::slice::ChunksMut<'_, f32>)) -> Sums {
        let channels = self.gamma.len();
        let rows = self.x.len() / channels;
        let blocks = self.x.len().div_ceil(self.step());
        let (mut sum, mut product) = (vec![0f64; channels], vec![0f64; channels]);
        with_panels(blocks * 2 * channels, |partial: &mut [f32]| {
            fill(partial.par_chunks_mut(2 * channels));
            for partial in partial.chunks_exact(2 * channels) {
                let (s, p) = partial.split_at(channels);
                accumulate(&mut sum, s);
                accumulate(&mut product, p);
            }
        });
        let inv = |j: usize| f64::from(self.inv_std[j]);
        let mut affine = Vec::with_capacity(2 * channels);
        affine.extend((0..channels).map(|j| (product[j] * inv(j)) as f32));
        affine.extend(sum.iter().map(|s| *s as f32));
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
        Sums {
            affine,
            own,
            slope,
            constant,
        }
    }

    /// Turns dy into dx.
    pub fn input(&self, sums: &Sums, dy: &mut [T]) {
        let step = self.step();
        dy.par_chunks_mut(step).enumerate().on_team(|(i, dy)| {
            let at = i * step..i * step + dy.len();
            let gate = self.gate.block(at.clone());
            block_input(&self.x[at], dy, gate, self.mean, sums);
        });
    }

    /// dx from g, which stays.
    pub fn input_of(&self, sums: &Sums, g: &[T]) -> Vec<T> {
        let step = self.step();
        let fill = |out: Shared<'_, T>| {
            g.par_chunks(step).enumerate().on_team(|(i, g)| {
                let at = i * step..i * step + g.len();
                // SAFETY: blocks do not overlap.
                let dx = unsafe { out.part(at.start, at.end) }.write_copy_of_slice(g);
                let gate = self.gate.block(at.clone());
                block_input(&self.x[at], dx, gate, self.mean, sums);
            });
        };
        // SAFETY: the blocks cover the output, and each is written as a whole.
        unsafe { written(g.len(), fill) }
    }
}

vectorised! {
    /// dy becomes 0 where y is not positive.
    pub fn close_gates<T: Value>(dy: &mut [T], y: &[T]) {
        for (dy, y) in dy.iter_mut().zip(y) {
            *dy = if y.get() > 0.0 { *dy } else { T::ZERO };
        }
    }
}

vectorised! {
    /// Σ g and Σ g·(x − mean) over the rows.
    pub fn block_sums<T: Value>(x: &[T], dy: &[T], gate: Gate<'_, T>, mean: &[f32], sum: &mut [f32], product: &mut [f32]) {
        sum.fill(0.0);
        product.fill(0.0);
        match gate {
            Gate::Open => sum_rows::<T, OPEN>(x, dy, (x, mean, mean), mean, sum, product),
            Gate::Result(y) => sum_rows::<T, RESULT>(x, dy, (y, mean, mean), mean, sum, product),
            Gate::Affine(a, b) => sum_rows::<T, AFFINE>(x, dy, (x, a, b), mean, sum, product),
        }
    }
}

vectorised! {
    /// dy becomes own·g + slope·(x − mean) + constant.
    pub fn block_input<T: Value>(x: &[T], dy: &mut [T], gate: Gate<'_, T>, mean: &[f32], sums: &Sums) {
        match gate {
            Gate::Open => input_rows::<T, OPEN>(x, dy, (x, mean, mean), mean, sums),
            Gate::Result(y) => input_rows::<T, RESULT>(x, dy, (y, mean, mean), mean, sums),
            Gate::Affine(a, b) => input_rows::<T, AFFINE>(x, dy, (x, a, b), mean, sums),
        }
    }
}

/// The kinds of gates as constants: a loop is compiled for each.
const OPEN: u8 = 0;
const RESULT: u8 = 1;
const AFFINE: u8 = 2;

/// What a gate reads: the result, scale and shift. Those that its kind does not need are any slices of the right length.
type GateData<'a, T> = (&'a [T], &'a [f32], &'a [f32]);

#[inline(always)]
fn gated<const GATE: u8>(dy: f32, x: f32, y: f32, scale: f32, shift: f32) -> f32 {
    let open = match GATE {
        OPEN => return dy,
        RESULT => y > 0.0,
        _ => x * scale + shift > 0.0,
    };
    if open { dy } else { 0.0 }
}

#[inline(always)]
fn sum_rows<T: Value, const GATE: u8>(
    x: &[T],
    dy: &[T],
    (y, scale, shift): GateData<'_, T>,
    mean: &[f32],
    sum: &mut [f32],
    product: &mut [f32],
) {
    let n = mean.len();
    let (sum, product, scale, shift) = (&mut sum[..n], &mut product[..n], &scale[..n], &shift[..n]);
    let even = x.len() / (2 * n) * (2 * n);
    let pairs = (x.chunks_exact(2 * n).zip(dy.chunks_exact(2 * n))).zip(y.chunks_exact(2 * n));
    for ((x, dy), y) in pairs {
        let ((x0, x1), (d0, d1), (y0, y1)) = (x.split_at(n), dy.split_at(n), y.split_at(n));
        for j in 0..n {
            let (a, b) = (x0[j].get(), x1[j].get());
            let g0 = gated::<GATE>(d0[j].get(), a, y0[j].get(), scale[j], shift[j]);
            let g1 = gated::<GATE>(d1[j].get(), b, y1[j].get(), scale[j], shift[j]);
            sum[j] += g0 + g1;
            product[j] += g0 * (a - mean[j]) + g1 * (b - mean[j]);
        }
    }
    let rest =
        (x[even..].chunks_exact(n).zip(dy[even..].chunks_exact(n))).zip(y[even..].chunks_exact(n));
    for ((x, dy), y) in rest {
        for j in 0..n {
            let a = x[j].get();
            let g = gated::<GATE>(dy[j].get(), a, y[j].get(), scale[j], shift[j]);
            sum[j] += g;
            product[j] += g * (a - mean[j]);
        }
    }
}

#[inline(always)]
fn input_rows<T: Value, const GATE: u8>(
    x: &[T],
    dy: &mut [T],
    (y, scale, shift): GateData<'_, T>,
    mean: &[f32],
    sums: &Sums,
) {
    let n = mean.len();
    let (own, slope, constant) = (&sums.own[..n], &sums.slope[..n], &sums.constant[..n]);
    let (scale, shift) = (&scale[..n], &shift[..n]);
    let rows = x
        .chunks_exact(n)
        .zip(dy.chunks_exact_mut(n))
        .zip(y.chunks_exact(n));
    for ((x, dy), y) in rows {
        for j in 0..n {
            let a = x[j].get();
            let g = gated::<GATE>(dy[j].get(), a, y[j].get(), scale[j], shift[j]);
            dy[j] = T::of(own[j] * g + slope[j] * (a - mean[j]) + constant[j]);
        }
    }
}

/// Σ over the rows of `[M, C]`: a bias's gradient.
pub fn column_sums(g: &[f32], channels: usize) -> Vec<f32> {
    let step = block_rows(channels) * channels;
    let mut total = vec![0f64; channels];
    with_panels(
        g.len().div_ceil(step) * channels,
        |partial: &mut [f32]| {
            partial
                .par_chunks_mut(channels)
                .zip(g.par_chunks(step))
                .on_team(|(sum, g)| block_column_sums(g, sum));
            for partial in partial.chunks_exact(channels) {
                accumulate(&mut total, partial);
            }
        },
    );
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
