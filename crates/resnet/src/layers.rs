//! The three layers with parameters: convolution, batch norm, fully connected.

use candle_core::{DType, Device, Result as TensorResult, Tensor, Var, bail};
use kernels::{Activation, BatchMoments, ConvConfig, ConvNorm};
use rand_chacha::ChaCha8Rng;

use crate::initial::{LinearInit, glorot_bound, normal, uniform};
use crate::{Parameters, Result, Role};

/// How a module is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Batch statistics, dropout, gradients; running statistics are updated by the call.
    Train,
    /// Running statistics, no dropout, gradients.
    Eval,
    /// As `Train`, but no graph is recorded and the running statistics stay: the same result, to be computed again later.
    Rehearse,
    /// As `Eval`, but no graph is recorded: the result has no history, and no activation outlives its use.
    Frozen,
}

impl Mode {
    /// The variable as this mode sees it.
    pub(crate) fn read(self, var: &Var) -> Tensor {
        match self {
            Self::Train | Self::Eval => var.as_tensor().clone(),
            Self::Rehearse | Self::Frozen => var.as_detached_tensor(),
        }
    }
}

/// Whose conventions the layers follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Torch,
    Keras,
}

/// What a layer needs while it is built.
pub(crate) struct Builder<'a> {
    pub(crate) params: &'a mut Parameters,
    pub(crate) rng: &'a mut ChaCha8Rng,
    pub(crate) dialect: Dialect,
}

/// A convolution's shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvShape {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) bias: bool,
}

/// `[N, H, W, I] → [N, H/stride, W/stride, O]`, padded by half the kernel.
#[derive(Debug)]
pub(crate) struct Conv {
    weight: Var, // [O, kh, kw, I]
    bias: Option<Var>,
    config: ConvConfig,
}

impl Conv {
    pub(crate) fn new(b: &mut Builder<'_>, name: &str, shape: ConvShape) -> Result<Self> {
        let ConvShape {
            inputs,
            outputs,
            kernel,
            stride,
            bias,
        } = shape;
        let dims = [outputs, kernel, kernel, inputs];
        let (fan_in, fan_out) = (kernel * kernel * inputs, kernel * kernel * outputs);
        let weight = match b.dialect {
            Dialect::Torch => normal(&dims, (2.0 / fan_out as f64).sqrt(), b.rng)?,
            Dialect::Keras => uniform(&dims, glorot_bound(fan_in, fan_out), b.rng)?,
        };
        let weight = b
            .params
            .add(&format!("{name}.weight"), &weight, Role::ConvWeight)?;
        let bias = bias
            .then(|| {
                let zeros = Tensor::zeros(outputs, DType::F32, &Device::Cpu)?;
                b.params.add(&format!("{name}.bias"), &zeros, Role::Bias)
            })
            .transpose()?;
        let config = ConvConfig {
            stride,
            padding: kernel / 2,
            ..ConvConfig::default()
        };
        Ok(Self {
            weight,
            bias,
            config,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        let bias = self.bias.as_ref().map(|bias| mode.read(bias));
        kernels::conv2d(x, &mode.read(&self.weight), bias.as_ref(), &self.config)
    }

    /// With the batch norm and what follows it, as a layer of a [`kernels::Network`].
    pub(crate) fn with_norm(&self, norm: &Norm, act: Activation, mode: Mode) -> ConvNorm {
        ConvNorm {
            weight: mode.read(&self.weight),
            config: self.config,
            gamma: mode.read(&norm.scale),
            beta: mode.read(&norm.shift),
            eps: norm.rule.epsilon,
            act,
        }
    }

    /// Multiply-adds of one image of `size` = (height, width), which becomes the output's size.
    pub(crate) fn macs(&self, size: &mut (usize, usize)) -> u64 {
        let [_, kernel, ..] = *self.weight.dims() else {
            return 0;
        };
        let out = |n: usize| {
            (n + 2 * self.config.padding).saturating_sub(kernel) / self.config.stride + 1
        };
        *size = (out(size.0), out(size.1));
        (size.0 * size.1 * self.weight.elem_count()) as u64
    }
}

/// Batch norm over the last dimension, with its activation and an optional residual added before it:
/// `act((x − μ) / √(σ² + ε) · γ + β + residual)`.
#[derive(Debug)]
pub(crate) struct Norm {
    scale: Var,
    shift: Var,
    mean: Var,
    var: Var,
    batches: Option<Var>,
    rule: NormRule,
}

/// What differs between torch's and Keras' batch norm.
#[derive(Clone, Copy, Debug)]
struct NormRule {
    epsilon: f64,
    /// Share of the new batch in the running statistics.
    momentum: f64,
    /// Whether the running variance takes the batch's unbiased variance (÷ (n − 1)).
    unbiased: bool,
    /// Whether `num_batches_tracked` is kept.
    counted: bool,
}

impl NormRule {
    fn of(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Torch => Self {
                epsilon: 1e-5,
                momentum: 0.1,
                unbiased: true,
                counted: true,
            },
            // keras.applications: epsilon 1.001e-5, momentum 0.99; Keras 3 keeps the biased variance.
            Dialect::Keras => Self {
                epsilon: 1.001e-5,
                momentum: 0.01,
                unbiased: false,
                counted: false,
            },
        }
    }
}

impl Norm {
    pub(crate) fn new(
        b: &mut Builder<'_>,
        name: &str,
        channels: usize,
        zero_scale: bool,
    ) -> Result<Self> {
        let rule = NormRule::of(b.dialect);
        let zeros = Tensor::zeros(channels, DType::F32, &Device::Cpu)?;
        let ones = Tensor::ones(channels, DType::F32, &Device::Cpu)?;
        let scale = if zero_scale { &zeros } else { &ones };
        let mut add = |suffix: &str, value: &Tensor, role| {
            b.params.add(&format!("{name}.{suffix}"), value, role)
        };
        Ok(Self {
            scale: add("weight", scale, Role::NormScale)?,
            shift: add("bias", &zeros, Role::NormShift)?,
            mean: add("running_mean", &zeros, Role::Buffer)?,
            var: add("running_var", &ones, Role::Buffer)?,
            batches: rule
                .counted
                .then(|| {
                    let zero = Tensor::new(0i64, &Device::Cpu)?;
                    add("num_batches_tracked", &zero, Role::Buffer)
                })
                .transpose()?,
            rule,
        })
    }

    pub(crate) fn forward(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        act: Activation,
        mode: Mode,
    ) -> TensorResult<Tensor> {
        let (scale, shift) = (mode.read(&self.scale), mode.read(&self.shift));
        let epsilon = self.rule.epsilon;
        if !matches!(mode, Mode::Train | Mode::Rehearse) {
            let (mean, var) = self.running();
            return kernels::batch_norm_eval(
                x, &scale, &shift, &mean, &var, residual, act, epsilon,
            );
        }
        let (y, moments) = kernels::batch_norm_train(x, &scale, &shift, residual, act, epsilon)?;
        if mode == Mode::Train {
            self.update(&moments)?;
        }
        Ok(y)
    }

    /// The running statistics, detached: mean and variance.
    pub(crate) fn running(&self) -> (Tensor, Tensor) {
        (
            self.mean.as_detached_tensor(),
            self.var.as_detached_tensor(),
        )
    }

    /// Moves the running statistics by one batch.
    pub(crate) fn update(&self, moments: &BatchMoments) -> TensorResult<()> {
        let n = moments.count;
        let correction = match self.rule.unbiased {
            false => 1.0,
            true if n > 1 => n as f64 / (n - 1) as f64,
            true => bail!(
                "batch norm in training needs more than one value per channel, got one: use a larger batch or a \
                 larger image"
            ),
        };
        self.track(&self.mean, &moments.mean, 1.0)?;
        self.track(&self.var, &moments.var, correction)?;
        if let Some(batches) = &self.batches {
            batches.set(&(batches.as_detached_tensor() + Tensor::new(1i64, &Device::Cpu)?)?)?;
        }
        Ok(())
    }

    /// running ← (1 − momentum) · running + momentum · factor · new
    fn track(&self, running: &Var, new: &Tensor, factor: f64) -> TensorResult<()> {
        let momentum = self.rule.momentum;
        let old = running.as_detached_tensor().affine(1.0 - momentum, 0.0)?;
        running.set(&(old + new.detach().affine(momentum * factor, 0.0)?)?)
    }
}

/// `y = x·Wᵀ + b`, `[N, I] → [N, O]`.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Var, // [O, I]
    bias: Var,
}

impl Linear {
    pub(crate) fn new(
        params: &mut Parameters,
        rng: &mut ChaCha8Rng,
        name: &str,
        (inputs, outputs): (usize, usize),
        init: LinearInit,
    ) -> Result<Self> {
        let (weight, bias) = match init {
            LinearInit::Torch => {
                let bound = 1.0 / (inputs as f64).sqrt();
                (
                    uniform(&[outputs, inputs], bound, rng)?,
                    uniform(&[outputs], bound, rng)?,
                )
            }
            LinearInit::Glorot => (
                uniform(&[outputs, inputs], glorot_bound(inputs, outputs), rng)?,
                Tensor::zeros(outputs, DType::F32, &Device::Cpu)?,
            ),
        };
        Ok(Self {
            weight: params.add(&format!("{name}.weight"), &weight, Role::LinearWeight)?,
            bias: params.add(&format!("{name}.bias"), &bias, Role::Bias)?,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        kernels::linear(x, &mode.read(&self.weight), Some(&mode.read(&self.bias)))
    }

    pub(crate) fn macs(&self) -> u64 {
        self.weight.elem_count() as u64
    }
}
