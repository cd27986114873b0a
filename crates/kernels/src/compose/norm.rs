//! Batch norm from means and broadcasts; statistics in f32 for narrower types.

use candle_core::{DType, Result, Tensor};

use super::pointwise::relu;
use crate::batch_norm::{Activation, BatchMoments, check_affine, check_residual};

/// [`crate::batch_norm_train`] composed of plain Candle operators.
pub fn batch_norm_train(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    residual: Option<&Tensor>,
    act: Activation,
    eps: f64,
) -> Result<(Tensor, BatchMoments)> {
    let channels = check_affine("batch_norm_train", x, &[("gamma", gamma), ("beta", beta)])?;
    check_residual("batch_norm_train", x, residual)?;
    let rows = x.elem_count() / channels;
    let flat = widen(&x.reshape((rows, channels))?)?; // [M, C]
    let mean = flat.mean_keepdim(0)?; // [1, C]
    let centred = flat.broadcast_sub(&mean)?;
    let var = centred.sqr()?.mean_keepdim(0)?;
    let scale = widen(gamma)?.broadcast_div(&(&var + eps)?.sqrt()?)?;
    let y = centred
        .broadcast_mul(&scale)?
        .broadcast_add(&widen(beta)?)?;
    let moments = BatchMoments {
        mean: mean.flatten_all()?.detach(),
        var: var.flatten_all()?.detach(),
        count: rows,
    };
    Ok((finish(y, x, residual, act)?, moments))
}

/// [`crate::batch_norm_eval`] composed of plain Candle operators.
#[allow(clippy::too_many_arguments)]
pub fn batch_norm_eval(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    residual: Option<&Tensor>,
    act: Activation,
    eps: f64,
) -> Result<Tensor> {
    let vectors = [
        ("gamma", gamma),
        ("beta", beta),
        ("mean", mean),
        ("var", var),
    ];
    let channels = check_affine("batch_norm_eval", x, &vectors)?;
    check_residual("batch_norm_eval", x, residual)?;
    let flat = widen(&x.reshape((x.elem_count() / channels, channels))?)?; // [M, C]
    let inv_std = (widen(&var.detach())? + eps)?.sqrt()?.recip()?;
    let scale = (widen(gamma)? * inv_std)?;
    let y = flat
        .broadcast_sub(&widen(&mean.detach())?)?
        .broadcast_mul(&scale)?
        .broadcast_add(&widen(beta)?)?;
    finish(y, x, residual, act)
}

/// Back to the input's type and shape, then the residual and the activation.
fn finish(y: Tensor, x: &Tensor, residual: Option<&Tensor>, act: Activation) -> Result<Tensor> {
    let y = y.to_dtype(x.dtype())?.reshape(x.shape())?;
    let y = match residual {
        Some(residual) => (y + residual)?,
        None => y,
    };
    match act {
        Activation::Identity => Ok(y),
        Activation::Relu => relu(&y),
    }
}

/// f16 and bf16 become f32; f32 and f64 stay.
fn widen(x: &Tensor) -> Result<Tensor> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.to_dtype(DType::F32),
        _ => Ok(x.clone()),
    }
}
