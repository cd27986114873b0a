//! The rectifier on its own, where no batch norm stands before it.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::compose;
use crate::cpu::{self, pointwise};

/// `max(0, x)`, with gradient 0 at 0 (as PyTorch; Candle's own has 1). A NaN stays a NaN.
///
/// # Errors
/// Only what Candle's own operators report.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    if !cpu::applies(&[x]) {
        return compose::relu(x);
    }
    x.contiguous()?.apply_op1(Relu)
}

struct Relu;

impl CustomOp1 for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = pointwise::relu_forward(cpu::values("relu", x, layout)?);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = cpu::with_values("relu", y, |y| {
            cpu::with_values("relu", &dy.contiguous()?, |dy| {
                Ok(pointwise::relu_backward(y, dy))
            })
        })?;
        Tensor::from_vec(dx, y.shape(), y.device()).map(Some)
    }
}
