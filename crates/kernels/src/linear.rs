//! The dense layer.

use candle_core::{Result, Tensor, bail};

use crate::conv::conv2d;
use crate::geometry::ConvConfig;
use crate::{compose, cpu};

/// Dense layer: `y = x · wᵀ + bias` with `x: [N, I]`, `w: [O, I]`, `bias: [O]`, `y: [N, O]`.
///
/// Differentiable in all three; the same bits at any number of threads.
///
/// # Errors
/// Shapes that do not fit together.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// # fn main() -> candle_core::Result<()> {
/// let x = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// let w = Tensor::new(&[[3f32, 4.0], [5.0, 6.0], [7.0, 8.0]], &Device::Cpu)?;
/// assert_eq!(kernels::linear(&x, &w, None)?.to_vec2::<f32>()?, [[11.0, 17.0, 23.0]]);
/// # Ok(())
/// # }
/// ```
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    check_linear(x, w, bias)?;
    let mut all = vec![x, w];
    all.extend(bias);
    if !cpu::applies(&all) {
        return compose::linear(x, w, bias);
    }
    // A dense layer is a convolution of 1×1 images with a 1×1 window.
    let ((n, i), o) = (x.dims2()?, w.dim(0)?);
    let (x, w) = (x.reshape((n, 1, 1, i))?, w.reshape((o, 1, 1, i))?);
    conv2d(&x, &w, bias, &ConvConfig::default())?.reshape((n, o))
}

pub(crate) fn check_linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<()> {
    let (&[_, i], &[o, wi]) = (x.dims(), w.dims()) else {
        bail!(
            "linear: the input must be [N, I] and the weight [O, I], got {:?} and {:?}",
            x.dims(),
            w.dims()
        )
    };
    if i != wi {
        bail!(
            "linear: input {:?} needs a weight [O, {i}], got {:?}",
            x.dims(),
            w.dims()
        )
    }
    if let Some(bias) = bias
        && bias.dims() != [o]
    {
        bail!("linear: the bias must be [{o}], got {:?}", bias.dims())
    }
    Ok(())
}
