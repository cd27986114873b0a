//! Max-pooling and global average pooling.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::compose;
use crate::cpu::{self, pool};
use crate::geometry::PoolShape;

/// Max-pooling with a square window: `y[n, i, j, c] = max_{r, q} x[n, i·stride − padding + r, j·stride − padding + q, c]`.
///
/// Pixels outside the input count as −∞, a NaN as larger than any number. Of equal maxima the first (row by row) receives
/// the gradient, as in PyTorch (which takes the last of several NaNs). `x: [N, H, W, C]`, result `[N, H', W', C]` with
/// `H' = ⌊(H + 2·padding − kernel) / stride⌋ + 1`.
///
/// # Errors
/// A window larger than the padded input, padding of more than half the window.
pub fn max_pool2d(x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let shape = PoolShape::new(x.dims(), kernel, stride, padding)?;
    if !cpu::applies(&[x]) {
        return compose::max_pool2d(x, kernel, stride, padding);
    }
    x.contiguous()?.apply_op1(MaxPool(shape))
}

struct MaxPool(PoolShape);

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let PoolShape { n, ho, wo, c, .. } = self.0;
        let y = pool::max_forward(&self.0, cpu::values("max_pool2d", x, layout)?);
        Ok((CpuStorage::F32(y), (n, ho, wo, c).into()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        const NAME: &str = "max_pool2d";
        let dx = cpu::with_values(NAME, x, |x| {
            cpu::with_values(NAME, y, |y| {
                cpu::with_values(NAME, &dy.contiguous()?, |dy| {
                    Ok(pool::max_backward(&self.0, x, y, dy))
                })
            })
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

/// Mean over all pixels: `[N, H, W, C]` to `[N, C]`.
///
/// # Errors
/// An input of another rank, or without pixels.
pub fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    let (_, pixels, channels) = check_global(x)?;
    if !cpu::applies(&[x]) {
        return compose::global_avg_pool(x);
    }
    x.contiguous()?.apply_op1(MeanPool { pixels, channels })
}

struct MeanPool {
    pixels: usize,
    channels: usize,
}

impl CustomOp1 for MeanPool {
    fn name(&self) -> &'static str {
        "global_avg_pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = cpu::values("global_avg_pool", x, layout)?;
        let y = pool::mean_forward(self.pixels, self.channels, x);
        let images = layout.dims()[0];
        Ok((CpuStorage::F32(y), (images, self.channels).into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = cpu::with_values("global_avg_pool", &dy.contiguous()?, |dy| {
            Ok(pool::mean_backward::<f32>(self.pixels, self.channels, dy))
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

/// `(N, H·W, C)` of a rank-4 input with pixels.
pub(crate) fn check_global(x: &Tensor) -> Result<(usize, usize, usize)> {
    match *x.dims() {
        [n, h, w, c] if h * w > 0 => Ok((n, h * w, c)),
        _ => bail!(
            "global_avg_pool: the input must be [N, H, W, C] with at least one pixel, got {:?}",
            x.dims()
        ),
    }
}
