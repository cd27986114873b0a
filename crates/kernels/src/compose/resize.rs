//! Bilinear resizing as two gathers and a blend per axis; zero padding.

use candle_core::{Result, Tensor, bail};

/// [`crate::upsample_bilinear`] composed of plain Candle operators.
pub fn upsample_bilinear(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let &[n, h, w, c] = x.dims() else {
        bail!(
            "upsample_bilinear: the input must be [N, H, W, C], got {:?}",
            x.dims()
        )
    };
    if height == 0 || width == 0 || x.elem_count() == 0 {
        bail!(
            "upsample_bilinear: both sizes must be at least 1 and the input not empty, got {:?} to {height}x{width}",
            x.dims()
        )
    }
    let rows = blend(&x.reshape((n, h, w * c))?, height)?; // [N, H', W·C]
    blend(&rows.reshape((n * height, w, c))?, width)?.reshape((n, height, width, c))
}

/// Resizes axis 1 of `[A, L, B]` to `len`: output i blends the two inputs around (i + ½)·L/len − ½.
fn blend(x: &Tensor, len: usize) -> Result<Tensor> {
    let from = x.dim(1)?;
    if from == len {
        return Ok(x.clone());
    }
    let ratio = from as f64 / len as f64;
    let mut low = Vec::with_capacity(len);
    let mut high = Vec::with_capacity(len);
    let mut part = Vec::with_capacity(len);
    for i in 0..len {
        let position = ((i as f64 + 0.5) * ratio - 0.5).max(0.0);
        let floor = (position.floor() as usize).min(from - 1);
        low.push(floor as u32);
        high.push((floor + 1).min(from - 1) as u32);
        part.push((position - floor as f64) as f32);
    }
    let device = x.device();
    let part = Tensor::from_vec(part, (1, len, 1), device)?.to_dtype(x.dtype())?;
    let low = x.index_select(&Tensor::from_vec(low, len, device)?, 1)?;
    let high = x.index_select(&Tensor::from_vec(high, len, device)?, 1)?;
    let rest = part.affine(-1.0, 1.0)?;
    low.broadcast_mul(&rest)? + high.broadcast_mul(&part)?
}

/// [`crate::pad_zeros`] composed of plain Candle operators.
pub fn pad_zeros(x: &Tensor, padding: usize) -> Result<Tensor> {
    if x.rank() != 4 {
        bail!(
            "pad_zeros: the input must be [N, H, W, C], got {:?}",
            x.dims()
        )
    }
    x.pad_with_zeros(1, padding, padding)?
        .pad_with_zeros(2, padding, padding)
}
