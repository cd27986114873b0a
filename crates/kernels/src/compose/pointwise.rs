//! ReLU with gradient 0 at 0, and dropout from an explicit generator.

use candle_core::{Result, Tensor};
use rand::Rng;

use crate::dropout::keep_mask;

/// [`crate::relu`] composed of plain Candle operators. A NaN stays a NaN.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    let zeros = x.zeros_like()?;
    x.le(&zeros)?.where_cond(&zeros, x)
}

/// [`crate::dropout`] composed of plain Candle operators; the same generator gives the same mask.
pub fn dropout<R: Rng>(x: &Tensor, p: f64, rng: &mut R) -> Result<Tensor> {
    match keep_mask(x, p, rng)? {
        Some(mask) => {
            let mask = Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?;
            x * mask
        }
        None => Ok(x.clone()),
    }
}
