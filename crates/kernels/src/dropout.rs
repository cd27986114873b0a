//! Dropout from an explicit generator.

use candle_core::{Result, Tensor, bail};
use rand::Rng;

use crate::compose;

/// Inverted dropout (Srivastava et al. 2014): each value becomes 0 with probability `p`, else `x / (1 − p)`.
///
/// One draw per value, in memory order, from the generator handed in: the same generator state gives the same mask on
/// every device. `p = 0` draws nothing. Use it in training only; there is no evaluation mode to forget.
///
/// # Errors
/// `p` outside [0, 1).
pub fn dropout<R: Rng>(x: &Tensor, p: f64, rng: &mut R) -> Result<Tensor> {
    compose::dropout(x, p, rng)
}

/// `0` or `1/(1 − p)` for each value, or `None` where nothing is dropped.
pub(crate) fn keep_mask<R: Rng>(x: &Tensor, p: f64, rng: &mut R) -> Result<Option<Vec<f32>>> {
    if !(0.0..1.0).contains(&p) {
        bail!("dropout: the probability must lie in [0, 1), got {p}")
    }
    if p == 0.0 {
        return Ok(None);
    }
    let threshold = (p * 2f64.powi(32)) as u32; // dropped where a uniform u32 lies below
    let scale = (1.0 / (1.0 - p)) as f32;
    let draw = |_| {
        if rng.next_u32() < threshold {
            0.0
        } else {
            scale
        }
    };
    Ok(Some((0..x.elem_count()).map(draw).collect()))
}
