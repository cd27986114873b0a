//! Pooling as a running maximum over gathered taps, and a mean.

use candle_core::{Result, Tensor};

use crate::geometry::PoolShape;
use crate::pool::check_global;

/// [`crate::max_pool2d`] composed of plain Candle operators.
///
/// A tap in the padding reads the nearest pixel instead: that pixel lies in the same window and was or will be read
/// anyway, so neither the maximum nor which pixel is the first to reach it changes.
pub fn max_pool2d(x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let s = PoolShape::new(x.dims(), kernel, stride, padding)?;
    let pixels = x.contiguous()?.reshape((s.n, s.h * s.w, s.c))?;
    let nearest = |i: usize, r: usize, len: usize| {
        (i * stride + r).saturating_sub(padding).min(len - 1) as u32
    };
    let mut best: Option<Tensor> = None;
    for r in 0..kernel {
        for q in 0..kernel {
            let index: Vec<u32> = (0..s.ho)
                .flat_map(|i| {
                    (0..s.wo).map(move |j| nearest(i, r, s.h) * s.w as u32 + nearest(j, q, s.w))
                })
                .collect();
            let index = Tensor::from_vec(index, s.ho * s.wo, x.device())?;
            let tap = pixels.index_select(&index, 1)?; // [N, H'·W', C]
            best = Some(match best {
                None => tap,
                Some(best) => {
                    let keep = (tap.le(&best)? + best.ne(&best)?)?; // as large, or not a number
                    keep.where_cond(&best, &tap)?
                }
            });
        }
    }
    match best {
        Some(best) => best.reshape((s.n, s.ho, s.wo, s.c)),
        None => candle_core::bail!("max_pool2d: the window has no taps"),
    }
}

/// [`crate::global_avg_pool`] composed of plain Candle operators.
pub fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    let (n, pixels, c) = check_global(x)?;
    x.reshape((n, pixels, c))?.mean(1)
}
