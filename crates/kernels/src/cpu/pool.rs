//! Pooling over `[N, H, W, C]`, one task per image.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::buffer::{Shared, filled, written};
use super::isa::vectorised;
use crate::geometry::PoolShape;

/// The maximum of every window; the first NaN wins.
pub fn max_forward(s: &PoolShape, x: &[f32]) -> Vec<f32> {
    let (source, target) = (s.h * s.w * s.c, s.ho * s.wo * s.c);
    let fill = |out: Shared<'_>| {
        (0..s.n).into_par_iter().for_each(|image| {
            // SAFETY: images do not overlap.
            let y = unsafe { out.part(image * target, (image + 1) * target) };
            max_image(s, &x[image * source..][..source], y);
        });
    };
    // SAFETY: every image is written, and every window has at least one pixel.
    unsafe { written(s.n * target, fill) }
}

/// The gradient goes to the first pixel of the window that equals the maximum, or is a NaN as the maximum is.
pub fn max_backward(s: &PoolShape, x: &[f32], y: &[f32], dy: &[f32]) -> Vec<f32> {
    let (source, target) = (s.h * s.w * s.c, s.ho * s.wo * s.c);
    let fill = |out: Shared<'_>| {
        (0..s.n).into_par_iter().for_each(|image| {
            // SAFETY: images do not overlap.
            let dx = filled(
                unsafe { out.part(image * source, (image + 1) * source) },
                0.0,
            );
            let at = image * target..(image + 1) * target;
            max_image_backward(
                s,
                &x[image * source..][..source],
                &y[at.clone()],
                &dy[at],
                dx,
            );
        });
    };
    // SAFETY: every image is filled with zeros first.
    unsafe { written(s.n * source, fill) }
}

/// Input positions of window `i` along an axis of length `len`.
#[inline(always)]
fn window(i: usize, len: usize, s: &PoolShape) -> std::ops::Range<usize> {
    let start = i * s.stride;
    start.saturating_sub(s.padding)..(start + s.kernel - s.padding).min(len)
}

vectorised! {
    pub fn max_image(s: &PoolShape, x: &[f32], y: &mut [MaybeUninit<f32>]) {
        for i in 0..s.ho {
            for j in 0..s.wo {
                let y = filled(&mut y[(i * s.wo + j) * s.c..][..s.c], f32::NEG_INFINITY);
                for r in window(i, s.h, s) {
                    for q in window(j, s.w, s) {
                        let x = &x[(r * s.w + q) * s.c..][..s.c];
                        for (y, x) in y.iter_mut().zip(x) {
                            // Negated, so that a NaN in x is taken; one in y stays.
                            let smaller = *x <= *y;
                            *y = if smaller || y.is_nan() { *y } else { *x };
                        }
                    }
                }
            }
        }
    }
}

vectorised! {
    pub fn max_image_backward(s: &PoolShape, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
        let mut left = vec![0f32; s.c];
        for i in 0..s.ho {
            for j in 0..s.wo {
                let at = (i * s.wo + j) * s.c;
                let y = &y[at..][..s.c];
                left.copy_from_slice(&dy[at..][..s.c]);
                for r in window(i, s.h, s) {
                    for q in window(j, s.w, s) {
                        let at = (r * s.w + q) * s.c;
                        let (x, dx) = (&x[at..][..s.c], &mut dx[at..][..s.c]);
                        for k in 0..s.c {
                            // Handed over once: what is left afterwards is nothing.
                            let hit = x[k] == y[k] || x[k].is_nan();
                            dx[k] += if hit { left[k] } else { 0.0 };
                            left[k] = if hit { 0.0 } else { left[k] };
                        }
                    }
                }
            }
        }
    }
}

/// The mean over the pixels of `[N, P, C]`.
pub fn mean_forward(pixels: usize, channels: usize, x: &[f32]) -> Vec<f32> {
    let images = x.len() / (pixels * channels).max(1);
    let fill = |out: Shared<'_>| {
        (0..images).into_par_iter().for_each(|image| {
            // SAFETY: images do not overlap.
            let y = unsafe { out.part(image * channels, (image + 1) * channels) };
            mean_image(&x[image * pixels * channels..][..pixels * channels], y);
        });
    };
    // SAFETY: every image is written.
    unsafe { written(images * channels, fill) }
}

vectorised! {
    pub fn mean_image(x: &[f32], y: &mut [MaybeUninit<f32>]) {
        let pixels = x.len() / y.len().max(1);
        let y = filled(y, 0.0);
        for row in x.chunks_exact(y.len()) {
            for (y, x) in y.iter_mut().zip(row) {
                *y += *x;
            }
        }
        let share = 1.0 / pixels as f32;
        y.iter_mut().for_each(|y| *y *= share);
    }
}

/// Every pixel receives its share of the mean's gradient.
pub fn mean_backward(pixels: usize, channels: usize, dy: &[f32]) -> Vec<f32> {
    let images = dy.len() / channels.max(1);
    let share = 1.0 / pixels as f32;
    let fill = |out: Shared<'_>| {
        (0..images).into_par_iter().for_each(|image| {
            let len = pixels * channels;
            // SAFETY: images do not overlap.
            let dx = unsafe { out.part(image * len, (image + 1) * len) };
            let (first, rest) = dx.split_at_mut(channels);
            let dy = &dy[image * channels..][..channels];
            for (x, y) in first.iter_mut().zip(dy) {
                x.write(y * share);
            }
            rest.chunks_exact_mut(channels)
                .for_each(|row| row.copy_from_slice(first));
        });
    };
    // SAFETY: every image is written.
    unsafe { written(images * pixels * channels, fill) }
}
