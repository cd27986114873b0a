//! Pooling over `[N, H, W, C]`, one task per image.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::buffer::{Shared, filled, with_workspace, written};
use super::isa::vectorised;
use super::team::OnTeam;
use super::value::{Value, lanes};
use crate::geometry::PoolShape;

/// The maximum of every window; the first NaN wins.
pub fn max_forward<T: Value>(s: &PoolShape, x: &[T]) -> Vec<T> {
    let (source, target) = (s.h * s.w * s.c, s.ho * s.wo * s.c);
    let fill = |out: Shared<'_, T>| {
        (0..s.n).into_par_iter().on_team(|image| {
            // SAFETY: images do not overlap.
            let y = unsafe { out.part(image * target, (image + 1) * target) };
            max_image(s, &x[image * source..][..source], y);
        });
    };
    // SAFETY: every image is written, and every window has at least one pixel.
    unsafe { written(s.n * target, fill) }
}

/// The gradient goes to the first pixel of the window that equals the maximum, or is a NaN as the maximum is.
pub fn max_backward<T: Value>(s: &PoolShape, x: &[T], y: &[T], dy: &[T]) -> Vec<T> {
    let (source, target) = (s.h * s.w * s.c, s.ho * s.wo * s.c);
    let fill = |out: Shared<'_, T>| {
        (0..s.n).into_par_iter().on_team(|image| {
            // SAFETY: images do not overlap.
            let dx = unsafe { out.part(image * source, (image + 1) * source) };
            let at = image * target..(image + 1) * target;
            let (x, y, dy) = (&x[image * source..][..source], &y[at.clone()], &dy[at]);
            with_workspace(|space| {
                // Summed in f32, rounded once.
                let sums = space.c.get::<f32>(source);
                sums.fill(0.0);
                max_image_backward(s, x, y, dy, sums);
                for (to, sum) in dx.iter_mut().zip(sums) {
                    to.write(T::of(*sum));
                }
            });
        });
    };
    // SAFETY: every image is written.
    unsafe { written(s.n * source, fill) }
}

/// Input positions of window `i` along an axis of length `len`.
#[inline(always)]
fn window(i: usize, len: usize, s: &PoolShape) -> std::ops::Range<usize> {
    let start = i * s.stride;
    start.saturating_sub(s.padding)..(start + s.kernel - s.padding).min(len)
}

/// Channels that are pooled together: the maxima of a window stay in registers.
const LANES: usize = 16;

vectorised! {
    pub fn max_image<T: Value>(s: &PoolShape, x: &[T], y: &mut [MaybeUninit<T>]) {
        for i in 0..s.ho {
            for j in 0..s.wo {
                let y = &mut y[(i * s.wo + j) * s.c..][..s.c];
                let (lanes, rest) = y.as_chunks_mut::<LANES>();
                let whole = lanes.len() * LANES;
                for (k, y) in lanes.iter_mut().enumerate() {
                    max_lanes(s, (i, j), k * LANES, x, y);
                }
                for (k, y) in rest.iter_mut().enumerate() {
                    max_lanes(s, (i, j), whole + k, x, std::array::from_mut(y));
                }
            }
        }
    }
}

/// `N` channels of one window, from channel `first`.
#[inline(always)]
fn max_lanes<T: Value, const N: usize>(
    s: &PoolShape,
    (i, j): (usize, usize),
    first: usize,
    x: &[T],
    y: &mut [MaybeUninit<T>; N],
) {
    let mut max = [f32::NEG_INFINITY; N];
    for r in window(i, s.h, s) {
        for q in window(j, s.w, s) {
            let x: &[T; N] = lanes(x, (r * s.w + q) * s.c + first);
            for k in 0..N {
                // Negated, so that a NaN in x is taken; one in the maximum stays.
                let stays = x[k].get() <= max[k] || max[k].is_nan();
                max[k] = if stays { max[k] } else { x[k].get() };
            }
        }
    }
    y.write_copy_of_slice(&T::of_array(max));
}

vectorised! {
    pub fn max_image_backward<T: Value>(s: &PoolShape, x: &[T], y: &[T], dy: &[T], dx: &mut [f32]) {
        let whole = s.c / LANES * LANES;
        for i in 0..s.ho {
            for j in 0..s.wo {
                for first in (0..whole).step_by(LANES) {
                    share_lanes::<T, LANES>(s, (i, j), first, x, (y, dy), dx);
                }
                for first in whole..s.c {
                    share_lanes::<T, 1>(s, (i, j), first, x, (y, dy), dx);
                }
            }
        }
    }
}

/// The gradient of `N` channels of one window.
#[inline(always)]
fn share_lanes<T: Value, const N: usize>(
    s: &PoolShape,
    (i, j): (usize, usize),
    first: usize,
    x: &[T],
    (y, dy): (&[T], &[T]),
    dx: &mut [f32],
) {
    let at = (i * s.wo + j) * s.c + first;
    let (max, dy): (&[T; N], &[T; N]) = (lanes(y, at), lanes(dy, at));
    let mut left = [0f32; N];
    for k in 0..N {
        left[k] = dy[k].get();
    }
    for r in window(i, s.h, s) {
        for q in window(j, s.w, s) {
            let at = (r * s.w + q) * s.c + first;
            let x: &[T; N] = lanes(x, at);
            let dx: &mut [f32; N] = dx[at..].first_chunk_mut().expect("channels of a pixel");
            for k in 0..N {
                // Handed over once: what is left afterwards is nothing.
                let hit = x[k].get() == max[k].get() || x[k].get().is_nan();
                dx[k] += if hit { left[k] } else { 0.0 };
                left[k] = if hit { 0.0 } else { left[k] };
            }
        }
    }
}

/// The mean over the pixels of `[N, P, C]`.
pub fn mean_forward<T: Value>(pixels: usize, channels: usize, x: &[T]) -> Vec<f32> {
    let images = x.len() / (pixels * channels).max(1);
    let fill = |out: Shared<'_, f32>| {
        (0..images).into_par_iter().on_team(|image| {
            // SAFETY: images do not overlap.
            let y = unsafe { out.part(image * channels, (image + 1) * channels) };
            mean_image(&x[image * pixels * channels..][..pixels * channels], y);
        });
    };
    // SAFETY: every image is written.
    unsafe { written(images * channels, fill) }
}

vectorised! {
    pub fn mean_image<T: Value>(x: &[T], y: &mut [MaybeUninit<f32>]) {
        let pixels = x.len() / y.len().max(1);
        let y = filled(y, 0.0);
        for row in x.chunks_exact(y.len()) {
            for (y, x) in y.iter_mut().zip(row) {
                *y += x.get();
            }
        }
        let share = 1.0 / pixels as f32;
        y.iter_mut().for_each(|y| *y *= share);
    }
}

/// Every pixel receives its share of the mean's gradient.
pub fn mean_backward<T: Value>(pixels: usize, channels: usize, dy: &[f32]) -> Vec<T> {
    let images = dy.len() / channels.max(1);
    let share = 1.0 / pixels as f32;
    let fill = |out: Shared<'_, T>| {
        (0..images).into_par_iter().on_team(|image| {
            let len = pixels * channels;
            // SAFETY: images do not overlap.
            let dx = unsafe { out.part(image * len, (image + 1) * len) };
            let (first, rest) = dx.split_at_mut(channels);
            let dy = &dy[image * channels..][..channels];
            for (x, y) in first.iter_mut().zip(dy) {
                x.write(T::of(y * share));
            }
            rest.chunks_exact_mut(channels)
                .for_each(|row| row.copy_from_slice(first));
        });
    };
    // SAFETY: every image is written.
    unsafe { written(images * pixels * channels, fill) }
}
