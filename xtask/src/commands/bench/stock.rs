//! ResNet with stock Candle alone: the yardstick of `bench --peer stock-candle`.
//!
//! Written as one would with `candle-nn` today: NCHW, `Conv2d`, `BatchNorm`, `Tensor::relu`,
//! `candle_nn::SGD`. One liberty: Candle's max-pool has a gradient only where kernel = stride, so
//! the ImageNet stem pools 2×2/2 instead of 3×3/2. Shapes and arithmetic after it are the same.

use candle_core::{DType, Device, ModuleT, Result, Tensor};
use candle_nn::{
    BatchNorm, BatchNormConfig, Conv2d, Conv2dConfig, Linear, Module, Optimizer, SGD, VarBuilder,
    VarMap, batch_norm, conv2d_no_bias, linear, loss::cross_entropy,
};

use trainer::BenchNetwork;

/// A network, its optimiser and one batch.
pub struct StockStep {
    net: Net,
    optimiser: SGD,
    images: Tensor, // [B, 3, 32, 32]
    labels: Tensor, // [B]
}

impl StockStep {
    /// The network of `network` and one batch of `pixels` (NHWC) on `device`.
    pub fn new(
        network: BenchNetwork,
        pixels: &Tensor, // [B, 32, 32, 3]
        labels: &Tensor, // [B]
        device: &Device,
    ) -> Result<Self> {
        let variables = VarMap::new();
        let builder = VarBuilder::from_varmap(&variables, DType::F32, device);
        let net = Net::new(network, builder)?;
        Ok(Self {
            net,
            optimiser: SGD::new(variables.all_vars(), 1e-3)?,
            images: pixels.permute((0, 3, 1, 2))?.contiguous()?,
            labels: labels.clone(),
        })
    }

    /// Forward, backward and update; returns the loss.
    pub fn step(&mut self) -> Result<f32> {
        let logits = self.net.forward_t(&self.images, true)?; // [B, 10]
        let loss = cross_entropy(&logits, &self.labels)?;
        self.optimiser.backward_step(&loss)?;
        loss.to_scalar()
    }
}

struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    fn new(
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
        vb: VarBuilder,
    ) -> Result<Self> {
        let config = Conv2dConfig {
            padding: kernel / 2,
            stride,
            ..Default::default()
        };
        Ok(Self {
            conv: conv2d_no_bias(inputs, outputs, kernel, config, vb.pp("conv"))?,
            norm: batch_norm(outputs, BatchNormConfig::default(), vb.pp("norm"))?,
        })
    }
}

impl ModuleT for ConvNorm {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.norm.forward_t(&self.conv.forward(x)?, train)
    }
}

struct Block {
    body: Vec<ConvNorm>,
    shortcut: Option<ConvNorm>,
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let identity = match &self.shortcut {
            Some(shortcut) => shortcut.forward_t(x, train)?,
            None => x.clone(),
        };
        let mut y = x.clone();
        for (index, layer) in self.body.iter().enumerate() {
            y = layer.forward_t(&y, train)?;
            if index + 1 < self.body.len() {
                y = y.relu()?;
            }
        }
        (y + identity)?.relu()
    }
}

struct Net {
    stem: ConvNorm,
    pool: bool,
    blocks: Vec<Block>,
    head: Linear,
}

impl Net {
    fn new(network: BenchNetwork, vb: VarBuilder) -> Result<Self> {
        let (depths, bottleneck, imagenet_stem) = match network {
            BenchNetwork::R50 => ([3, 4, 6, 3], true, true),
            BenchNetwork::R50Cifar => ([3, 4, 6, 3], true, false),
            BenchNetwork::R18Cifar => ([2, 2, 2, 2], false, false),
        };
        let (kernel, stride) = if imagenet_stem { (7, 2) } else { (3, 1) };
        let stem = ConvNorm::new(3, 64, kernel, stride, vb.pp("stem"))?;
        let mut blocks = Vec::new();
        let mut inputs = 64;
        for (stage, depth) in depths.into_iter().enumerate() {
            let width = 64 << stage;
            let outputs = if bottleneck { 4 * width } else { width };
            for block in 0..depth {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let vb = vb.pp(format!("{stage}.{block}"));
                // (outputs, kernel, stride) of each convolution; the stride sits on the 3×3.
                let shape: &[(usize, usize, usize)] = if bottleneck {
                    &[(width, 1, 1), (width, 3, stride), (outputs, 1, 1)]
                } else {
                    &[(width, 3, stride), (width, 3, 1)]
                };
                let mut body = Vec::new();
                let mut from = inputs;
                for (index, &(to, kernel, stride)) in shape.iter().enumerate() {
                    body.push(ConvNorm::new(from, to, kernel, stride, vb.pp(index))?);
                    from = to;
                }
                let shortcut = if stride != 1 || inputs != outputs {
                    Some(ConvNorm::new(
                        inputs,
                        outputs,
                        1,
                        stride,
                        vb.pp("shortcut"),
                    )?)
                } else {
                    None
                };
                blocks.push(Block { body, shortcut });
                inputs = outputs;
            }
        }
        Ok(Self {
            stem,
            pool: imagenet_stem,
            blocks,
            head: linear(inputs, 10, vb.pp("fc"))?,
        })
    }
}

impl ModuleT for Net {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = self.stem.forward_t(x, train)?.relu()?; // [B, 64, H, W]
        if self.pool {
            x = x.max_pool2d(2)?;
        }
        for block in &self.blocks {
            x = block.forward_t(&x, train)?;
        }
        let features = x.mean((2, 3))?; // [B, D]
        self.head.forward(&features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resnet50_has_torchvisions_parameter_count_and_trains() {
        let variables = VarMap::new();
        let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
        Net::new(BenchNetwork::R50, vb).unwrap();
        let data = variables.data().lock().unwrap();
        let count: usize = data
            .iter()
            .filter(|(name, _)| !name.contains("running_"))
            .map(|(_, var)| var.elem_count())
            .sum();
        // torchvision.models.resnet50(num_classes=10)
        assert_eq!(count, 23_528_522);
    }

    #[test]
    fn a_step_lowers_the_loss() {
        let pixels = Tensor::randn(0f32, 1.0, (4, 32, 32, 3), &Device::Cpu).unwrap();
        let labels = Tensor::new(&[0u32, 1, 2, 3], &Device::Cpu).unwrap();
        let mut stock =
            StockStep::new(BenchNetwork::R18Cifar, &pixels, &labels, &Device::Cpu).unwrap();
        let first = stock.step().unwrap();
        for _ in 0..3 {
            stock.step().unwrap();
        }
        assert!(stock.step().unwrap() < first);
    }
}
