//! Bilinear resizing and zero padding of images.

use candle_core::{Result, Tensor};

use crate::compose;

/// Bilinear resizing of `[N, H, W, C]` to `[N, height, width, C]`, corners not aligned (PyTorch's
/// `F.interpolate(mode="bilinear", align_corners=False)`, without antialiasing).
///
/// Output row i samples input row `max(0, (i + ½)·H/height − ½)`, columns alike.
///
/// # Errors
/// An input of another rank or without pixels, a size of 0.
pub fn upsample_bilinear(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    compose::upsample_bilinear(x, height, width)
}

/// Adds `padding` rows and columns of zeros on every side of `[N, H, W, C]`.
///
/// # Errors
/// An input of another rank.
pub fn pad_zeros(x: &Tensor, padding: usize) -> Result<Tensor> {
    compose::pad_zeros(x, padding)
}
