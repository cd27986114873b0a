//! Batch norm over the last axis, with the residual addition and the activation that follow it.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::compose;
use crate::cpu;
use crate::cpu::norm::{self, Gate};

/// What follows a normalisation (and its residual addition) in the same pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// Nothing.
    #[default]
    Identity,
    /// max(0, x); its gradient at 0 is 0.
    Relu,
}

/// The statistics of one batch, detached from the graph: what running averages are made of.
#[derive(Debug, Clone)]
pub struct BatchMoments {
    /// Mean of each channel, `[C]`.
    pub mean: Tensor,
    /// Biased variance of each channel (divided by `count`), `[C]`. Frameworks keep the unbiased one in their running
    /// statistics: multiply by `count / (count − 1)`.
    pub var: Tensor,
    /// Values per channel that entered: N·H·W.
    pub count: usize,
}

/// Batch norm with the batch's own statistics (Ioffe and Szegedy 2015), channels last, any rank from 2 up.
///
/// ```text
/// y = act(gamma · (x − mean) / √(var + eps) + beta + residual)
/// ```
///
/// with mean and biased variance of each channel over all other axes. Differentiable in x, gamma, beta and residual,
/// through the statistics as well. `residual` has x's shape.
///
/// # Errors
/// Vectors that are not `[C]`, a residual of another shape, an empty batch. One value per channel is allowed and gives
/// variance 0.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use kernels::{Activation, batch_norm_train};
///
/// # fn main() -> candle_core::Result<()> {
/// let x = Tensor::new(&[[1f32, 10.0], [3.0, 30.0]], &Device::Cpu)?; // [N, C]
/// let (gamma, beta) = (Tensor::new(&[1f32, 1.0], x.device())?, Tensor::new(&[0f32, 0.0], x.device())?);
/// let (y, moments) = batch_norm_train(&x, &gamma, &beta, None, Activation::Relu, 0.0)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[0.0, 0.0], [1.0, 1.0]]);
/// assert_eq!(moments.mean.to_vec1::<f32>()?, [2.0, 20.0]);
/// assert_eq!(moments.var.to_vec1::<f32>()?, [1.0, 100.0]);
/// # Ok(())
/// # }
/// ```
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
    let mut all = vec![x, gamma, beta];
    all.extend(residual);
    if !cpu::applies(&all) {
        return compose::batch_norm_train(x, gamma, beta, residual, act, eps);
    }
    let x = x.contiguous()?;
    let norm::Moments { mean, var } =
        cpu::with_values("batch_norm_train", &x, |x| Ok(norm::moments(x, channels)))?;
    let moments = BatchMoments {
        mean: Tensor::from_slice(&mean, channels, x.device())?,
        var: Tensor::from_slice(&var, channels, x.device())?,
        count: x.elem_count() / channels,
    };
    let op = BatchNorm {
        inv_std: norm::inverse_std(&var, eps).into(),
        mean: mean.into(),
        act,
        statistics: true,
    };
    Ok((op.apply(&x, gamma, beta, residual)?, moments))
}

/// Batch norm with given statistics: the same equation as [`batch_norm_train`], `mean` and `var` constants.
///
/// Differentiable in x, gamma, beta and residual; `mean` and `var` receive no gradient.
///
/// # Errors
/// As [`batch_norm_train`].
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
    check_affine("batch_norm_eval", x, &vectors)?;
    check_residual("batch_norm_eval", x, residual)?;
    let mut all = vec![x, gamma, beta, mean, var];
    all.extend(residual);
    if !cpu::applies(&all) {
        return compose::batch_norm_eval(x, gamma, beta, mean, var, residual, act, eps);
    }
    let op = BatchNorm {
        inv_std: norm::inverse_std(&var.to_vec1::<f32>()?, eps).into(),
        mean: mean.to_vec1::<f32>()?.into(),
        act,
        statistics: false,
    };
    op.apply(&x.contiguous()?, gamma, beta, residual)
}

/// The fast path: one node of the graph. Gamma and beta enter as one tensor `[2, C]`, because a node has at most three
/// inputs.
struct BatchNorm {
    mean: Arc<[f32]>,
    inv_std: Arc<[f32]>,
    act: Activation,
    /// Whether mean and variance depend on x.
    statistics: bool,
}

const NAME: &str = "batch_norm";

impl BatchNorm {
    fn apply(
        self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let affine = Tensor::stack(&[gamma, beta], 0)?; // [2, C]
        match residual {
            None => x.apply_op2(&affine, self),
            Some(residual) => x.apply_op3(&affine, &residual.contiguous()?, self),
        }
    }

    fn forward(&self, x: &[f32], affine: &[f32], residual: Option<&[f32]>) -> CpuStorage {
        let (gamma, beta) = affine.split_at(affine.len() / 2);
        let scale: Vec<f32> = gamma
            .iter()
            .zip(&*self.inv_std)
            .map(|(g, i)| g * i)
            .collect();
        let shift: Vec<f32> = (beta.iter().zip(&*self.mean).zip(&scale))
            .map(|((b, m), s)| b - m * s)
            .collect();
        CpuStorage::F32(norm::normalise(x, &scale, &shift, residual, self.act))
    }

    /// Gradients of x, affine and residual.
    fn backward(
        &self,
        x: &Tensor,
        affine: &Tensor,
        residual: Option<&Tensor>,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let wants_residual = residual.is_some_and(Tensor::track_op);
        let tensor =
            |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device());
        cpu::with_values(NAME, x, |x_values| {
            cpu::with_values(NAME, affine, |affine_values| {
                cpu::with_values(NAME, y, |y| {
                    cpu::with_values(NAME, &dy, |dy_values| {
                        let gate = match self.act {
                            Activation::Relu => Gate::Result(y),
                            Activation::Identity => Gate::Open,
                        };
                        let mut backward = norm::Backward {
                            x: x_values,
                            gate,
                            mean: &self.mean,
                            inv_std: &self.inv_std,
                            gamma: &affine_values[..affine_values.len() / 2],
                            statistics: self.statistics,
                        };
                        let (sums, g) = match gate {
                            Gate::Result(_) if wants_residual => {
                                let mut g = dy_values.to_vec();
                                let sums = backward.close_and_sum(&mut g);
                                backward.gate = Gate::Open;
                                (sums, Some(g))
                            }
                            _ => (backward.sums(dy_values), None),
                        };
                        let dx = (x.track_op())
                            .then(|| backward.input_of(&sums, g.as_deref().unwrap_or(dy_values)))
                            .map(|dx| tensor(dx, x))
                            .transpose()?;
                        let dr = match (wants_residual, g) {
                            (false, _) => None,
                            (true, Some(g)) => Some(tensor(g, x)?),
                            (true, None) => Some(dy.clone()), // no activation: the gradient passes as it is
                        };
                        Ok((dx, Some(tensor(sums.affine, affine)?), dr))
                    })
                })
            })
        })
    }
}

impl CustomOp2 for BatchNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        affine: &CpuStorage,
        al: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, affine) = (cpu::values(NAME, x, xl)?, cpu::values(NAME, affine, al)?);
        Ok((self.forward(x, affine, None), xl.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, da, _) = self.backward(x, affine, None, y, dy)?;
        Ok((dx, da))
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        affine: &CpuStorage,
        al: &Layout,
        residual: &CpuStorage,
        rl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, affine) = (cpu::values(NAME, x, xl)?, cpu::values(NAME, affine, al)?);
        let residual = cpu::values(NAME, residual, rl)?;
        Ok((self.forward(x, affine, Some(residual)), xl.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        residual: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.backward(x, affine, Some(residual), y, dy)
    }
}

/// The number of channels, once every vector has been found to have it.
pub(crate) fn check_affine(op: &str, x: &Tensor, vectors: &[(&str, &Tensor)]) -> Result<usize> {
    if x.rank() < 2 || x.elem_count() == 0 {
        bail!(
            "{op}: the input must be [.., C] of rank 2 or more and not empty, got {:?}",
            x.dims()
        )
    }
    let channels = x.dims()[x.rank() - 1];
    for (name, vector) in vectors {
        if vector.dims() != [channels] {
            bail!(
                "{op}: input {:?} needs {name} of shape [{channels}], got {:?}",
                x.dims(),
                vector.dims()
            )
        }
    }
    Ok(channels)
}

pub(crate) fn check_residual(op: &str, x: &Tensor, residual: Option<&Tensor>) -> Result<()> {
    match residual {
        Some(r) if r.dims() != x.dims() => bail!(
            "{op}: the residual must have the input's shape {:?}, got {:?}",
            x.dims(),
            r.dims()
        ),
        _ => Ok(()),
    }
}
