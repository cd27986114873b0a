//! Residual blocks: basic, bottleneck, and Keras' pre-activation bottleneck.

use candle_core::{Result as TensorResult, Tensor};
use kernels::Activation::{Identity, Relu};
use kernels::{Network, Slot};

use crate::Result;
use crate::layers::{Builder, Conv, ConvShape, Mode, Norm};

/// A block's shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockShape {
    pub(crate) inputs: usize,
    /// Channels of the inner convolutions.
    pub(crate) inner: usize,
    pub(crate) outputs: usize,
    pub(crate) stride: usize,
    /// Start the last batch norm's scale at 0.
    pub(crate) zero_init: bool,
}

/// One residual block, `[N, H, W, inputs] → [N, H/stride, W/stride, outputs]`.
#[derive(Debug)]
pub(crate) enum Block {
    Plain(PlainBlock),
    PreActivation(Box<PreActivationBlock>),
}

impl Block {
    pub(crate) fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        match self {
            Self::Plain(block) => block.forward(x, mode),
            Self::PreActivation(block) => block.forward(x, mode),
        }
    }

    /// Appends the block to a network, if it is of the kind that networks are made of.
    pub(crate) fn append<'a>(
        &'a self,
        network: &mut Network,
        x: Slot,
        mode: Mode,
        norms: &mut Vec<&'a Norm>,
    ) -> Option<Slot> {
        match self {
            Self::Plain(block) => Some(block.append(network, x, mode, norms)),
            Self::PreActivation(_) => None,
        }
    }

    pub(crate) fn macs(&self, size: &mut (usize, usize)) -> u64 {
        match self {
            Self::Plain(block) => block.macs(size),
            Self::PreActivation(block) => block.macs(size),
        }
    }
}

/// torchvision's blocks: convolutions each followed by batch norm; the shortcut is added before the last ReLU.
///
/// Basic: 3×3/stride, 3×3. Bottleneck ("v1.5"): 1×1, 3×3/stride, 1×1.
#[derive(Debug)]
pub(crate) struct PlainBlock {
    layers: Vec<(Conv, Norm)>,
    shortcut: Option<(Conv, Norm)>,
}

impl PlainBlock {
    /// `bottleneck` chooses the kind; names follow torchvision (`{name}.conv1.weight`, `{name}.downsample.0.weight`).
    pub(crate) fn new(
        b: &mut Builder<'_>,
        name: &str,
        shape: BlockShape,
        bottleneck: bool,
    ) -> Result<Self> {
        let BlockShape {
            inputs,
            inner,
            outputs,
            stride,
            zero_init,
        } = shape;
        let plan: &[(usize, usize, usize, usize)] = if bottleneck {
            &[
                (inputs, inner, 1, 1),
                (inner, inner, 3, stride),
                (inner, outputs, 1, 1),
            ]
        } else {
            &[(inputs, inner, 3, stride), (inner, outputs, 3, 1)]
        };
        let mut layers = Vec::with_capacity(plan.len());
        for (i, &(inputs, outputs, kernel, stride)) in plan.iter().enumerate() {
            let (i, last) = (i + 1, i + 1 == plan.len());
            let shape = ConvShape {
                inputs,
                outputs,
                kernel,
                stride,
                bias: false,
            };
            let conv = Conv::new(b, &format!("{name}.conv{i}"), shape)?;
            layers.push((
                conv,
                Norm::new(b, &format!("{name}.bn{i}"), outputs, zero_init && last)?,
            ));
        }
        let shortcut = if stride != 1 || inputs != outputs {
            let shape = ConvShape {
                inputs,
                outputs,
                kernel: 1,
                stride,
                bias: false,
            };
            let conv = Conv::new(b, &format!("{name}.downsample.0"), shape)?;
            Some((
                conv,
                Norm::new(b, &format!("{name}.downsample.1"), outputs, false)?,
            ))
        } else {
            None
        };
        Ok(Self { layers, shortcut })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        let shortcut = match &self.shortcut {
            Some((conv, norm)) => norm.forward(&conv.forward(x, mode)?, None, Identity, mode)?,
            None => x.clone(),
        };
        let mut h = x.clone();
        for (i, (conv, norm)) in self.layers.iter().enumerate() {
            let residual = (i + 1 == self.layers.len()).then_some(&shortcut);
            h = norm.forward(&conv.forward(&h, mode)?, residual, Relu, mode)?;
        }
        Ok(h)
    }

    /// Appends the block to a network; its batch norms join `norms` in the same order.
    fn append<'a>(
        &'a self,
        network: &mut Network,
        x: Slot,
        mode: Mode,
        norms: &mut Vec<&'a Norm>,
    ) -> Slot {
        let shortcut = match &self.shortcut {
            Some((conv, norm)) => {
                norms.push(norm);
                network.conv_norm(x, conv.with_norm(norm, Identity, mode), None)
            }
            None => x,
        };
        let mut h = x;
        for (i, (conv, norm)) in self.layers.iter().enumerate() {
            norms.push(norm);
            let residual = (i + 1 == self.layers.len()).then_some(shortcut);
            h = network.conv_norm(h, conv.with_norm(norm, Relu, mode), residual);
        }
        h
    }

    fn macs(&self, size: &mut (usize, usize)) -> u64 {
        let shortcut = self
            .shortcut
            .as_ref()
            .map_or(0, |(conv, _)| conv.macs(&mut size.clone()));
        shortcut
            + self
                .layers
                .iter()
                .map(|(conv, _)| conv.macs(size))
                .sum::<u64>()
    }
}

/// Keras' `residual_block_v2`: batch norm and ReLU come first, nothing follows the addition.
///
/// `p = relu(bn(x))`; main path 1×1, bn+ReLU, 3×3/stride, bn+ReLU, biased 1×1 from `p`; shortcut: a biased 1×1
/// convolution of `p` (first block of a stack), or `x` subsampled by a 1×1 max-pool (last block of a stack with
/// stride), or `x`.
#[derive(Debug)]
pub(crate) struct PreActivationBlock {
    first: Norm,
    shortcut: Option<Conv>,
    conv1: Conv,
    norm1: Norm,
    conv2: Conv,
    norm2: Norm,
    conv3: Conv,
    stride: usize,
}

impl PreActivationBlock {
    /// Names follow Keras' layers (`{name}_preact_bn`, `{name}_0_conv`, `{name}_1_conv`, …).
    pub(crate) fn new(
        b: &mut Builder<'_>,
        name: &str,
        shape: BlockShape,
        conv_shortcut: bool,
    ) -> Result<Self> {
        let BlockShape {
            inputs,
            inner,
            outputs,
            stride,
            ..
        } = shape;
        let conv = |inputs, outputs, kernel, stride, bias| ConvShape {
            inputs,
            outputs,
            kernel,
            stride,
            bias,
        };
        let first = Norm::new(b, &format!("{name}_preact_bn"), inputs, false)?;
        let shortcut = if conv_shortcut {
            Some(Conv::new(
                b,
                &format!("{name}_0_conv"),
                conv(inputs, outputs, 1, stride, true),
            )?)
        } else {
            None
        };
        Ok(Self {
            first,
            shortcut,
            conv1: Conv::new(
                b,
                &format!("{name}_1_conv"),
                conv(inputs, inner, 1, 1, false),
            )?,
            norm1: Norm::new(b, &format!("{name}_1_bn"), inner, false)?,
            conv2: Conv::new(
                b,
                &format!("{name}_2_conv"),
                conv(inner, inner, 3, stride, false),
            )?,
            norm2: Norm::new(b, &format!("{name}_2_bn"), inner, false)?,
            conv3: Conv::new(
                b,
                &format!("{name}_3_conv"),
                conv(inner, outputs, 1, 1, true),
            )?,
            stride,
        })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        let p = self.first.forward(x, None, Relu, mode)?;
        let shortcut = match &self.shortcut {
            Some(conv) => conv.forward(&p, mode)?,
            None if self.stride > 1 => kernels::max_pool2d(x, 1, self.stride, 0)?,
            None => x.clone(),
        };
        let h = self
            .norm1
            .forward(&self.conv1.forward(&p, mode)?, None, Relu, mode)?;
        let h = self
            .norm2
            .forward(&self.conv2.forward(&h, mode)?, None, Relu, mode)?;
        shortcut + self.conv3.forward(&h, mode)?
    }

    fn macs(&self, size: &mut (usize, usize)) -> u64 {
        let shortcut = self
            .shortcut
            .as_ref()
            .map_or(0, |conv| conv.macs(&mut size.clone()));
        shortcut + self.conv1.macs(size) + self.conv2.macs(size) + self.conv3.macs(size)
    }
}
