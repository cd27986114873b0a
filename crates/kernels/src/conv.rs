//! Two-dimensional convolution.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use crate::compose;
use crate::cpu::finish::Finish;
use crate::cpu::gather;
use crate::cpu::weights::Weights;
use crate::cpu::{self, norm, weight_grad};
use crate::geometry::{ConvConfig, ConvShape};

/// Two-dimensional convolution (cross-correlation, as every deep-learning library has it).
///
/// With input `x: [N, H, W, C]`, weight `w: [O, kh, kw, C/groups]` and optional bias `[O]`,
///
/// ```text
/// y[n, i, j, o] = bias[o] + Σ_{r, q, c} w[o, r, q, c] · x[n, i·stride − padding + r·dilation, j·stride − padding + q·dilation, c]
/// ```
///
/// where c runs over the channels of o's group and pixels outside the input are 0. The result is `[N, H', W', O]` with
/// `H' = ⌊(H + 2·padding − dilation·(kh − 1) − 1) / stride⌋ + 1`. Differentiable in x, w and bias.
///
/// On a CPU in f32, 3×3 windows with stride and dilation 1 over maps of even sides go through Winograd's transformed tiles of 2×2 output
/// pixels, or of a whole map of 2×2. Rounding is then that of all input pixels that a tile sees: an infinity or NaN among them can make the whole tile NaN, and the sum over a window of
/// zeros beside large values may be a rounding error instead of 0.
///
/// # Errors
/// Shapes that do not fit together, a window larger than the padded input, groups that do not divide the channels.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use kernels::{ConvConfig, conv2d};
///
/// # fn main() -> candle_core::Result<()> {
/// let x = Tensor::ones((2, 8, 8, 3), DType::F32, &Device::Cpu)?;
/// let w = Tensor::ones((16, 3, 3, 3), DType::F32, &Device::Cpu)?;
/// let cfg = ConvConfig { stride: 2, padding: 1, ..ConvConfig::default() };
/// assert_eq!(conv2d(&x, &w, None, &cfg)?.dims(), [2, 4, 4, 16]);
/// # Ok(())
/// # }
/// ```
pub fn conv2d(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, cfg: &ConvConfig) -> Result<Tensor> {
    let shape = ConvShape::new(x, w, bias, cfg)?;
    let mut all = vec![x, w];
    all.extend(bias);
    if !cpu::applies(&all) {
        return compose::conv2d(x, w, bias, cfg);
    }
    let (x, w) = (x.contiguous()?, w.contiguous()?);
    match bias {
        None => x.apply_op2(&w, Conv2d(shape)),
        Some(bias) => x.apply_op3(&w, &bias.contiguous()?, Conv2d(shape)),
    }
}

/// The fast path: one node of the graph.
pub(crate) struct Conv2d(pub ConvShape);

const NAME: &str = "conv2d";

impl Conv2d {
    fn forward(&self, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> (CpuStorage, Shape) {
        let ConvShape { n, ho, wo, o, .. } = self.0;
        let finish = Finish {
            bias,
            ..Finish::NONE
        };
        let y = gather::conv_forward(&self.0, x, Weights::Plain(w), finish);
        (CpuStorage::F32(y), (n, ho, wo, o).into())
    }

    /// Gradients of x and w, each only where the graph needs it.
    fn backward(
        &self,
        x: &Tensor,
        w: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        cpu::with_values(NAME, &dy, |dy| {
            let dx = if x.track_op() {
                let dx = cpu::with_values(NAME, w, |w| {
                    Ok(gather::conv_backward_input(&self.0, dy, w, None))
                })?;
                Some(Tensor::from_vec(dx, x.shape(), x.device())?)
            } else {
                None
            };
            let dw = if w.track_op() {
                let dw = cpu::with_values(NAME, x, |x| {
                    Ok(weight_grad::conv_backward_weight(&self.0, x, dy))
                })?;
                Some(Tensor::from_vec(dw, w.shape(), w.device())?)
            } else {
                None
            };
            Ok((dx, dw))
        })
    }
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(self.forward(cpu::values(NAME, x, xl)?, cpu::values(NAME, w, wl)?, None))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.backward(x, w, dy)
    }
}

impl CustomOp3 for Conv2d {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        bias: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let bias = cpu::values(NAME, bias, bl)?;
        Ok(self.forward(
            cpu::values(NAME, x, xl)?,
            cpu::values(NAME, w, wl)?,
            Some(bias),
        ))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = self.backward(x, w, dy)?;
        let db = if bias.track_op() {
            let sums = cpu::with_values(NAME, &dy.contiguous()?, |dy| {
                Ok(norm::column_sums(dy, self.0.o))
            })?;
            Some(Tensor::from_vec(sums, bias.shape(), bias.device())?)
        } else {
            None
        };
        Ok((dx, dw, db))
    }
}
