//! The encoder: stem, four stages of residual blocks, global average pool.
//!
//! torchvision family ([He et al.](https://arxiv.org/abs/1512.03385), stride in the 3×3):
//! `conv1 → bn1+ReLU → [max-pool] → layer1 … layer4 → average`.
//! ResNet50V2 ([He et al.](https://arxiv.org/abs/1603.05027), as `keras.applications` builds it):
//! `conv1_conv (biased) → [zero padding, max-pool] → conv2_block1 … conv5_block3 → post_bn+ReLU → average`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Result as TensorResult, Tensor, bail};
use kernels::Activation::Relu;
use kernels::{Network, Precision, Prepared, Slot};
use rand_chacha::ChaCha8Rng;

use crate::block::{Block, BlockShape, PlainBlock, PreActivationBlock};
use crate::layers::{Builder, Conv, ConvShape, Dialect, Mode, Norm};
use crate::{Arch, Parameters, ResNetConfig, Result, Stem};

/// A residual network without its classifier: images to features.
#[derive(Debug)]
pub struct ResNet {
    config: ResNetConfig,
    stem: Conv,
    /// After the stem (torchvision family) or after the last block (ResNet50V2).
    norm: Norm,
    blocks: Vec<Block>,
    feature_dim: usize,
    precision: Precision,
}

impl ResNet {
    /// Builds the network with seeded initial values, adding its tensors to `params`.
    ///
    /// torchvision family: Kaiming normal (fan_out) convolutions; ResNet50V2: Glorot uniform. Batch norm starts at
    /// γ = 1, β = 0, biases at 0.
    ///
    /// # Errors
    /// If the configuration is out of range, or `params` already holds one of the names.
    pub fn new(
        config: &ResNetConfig,
        params: &mut Parameters,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        config.check()?;
        let keras = config.arch == Arch::ResNet50V2;
        let dialect = if keras {
            Dialect::Keras
        } else {
            Dialect::Torch
        };
        let b = &mut Builder {
            params,
            rng,
            dialect,
        };

        let mut channels = config.channels(64);
        let (kernel, stride) = match config.stem {
            Stem::ImageNet => (7, 2),
            Stem::Cifar => (3, 1),
        };
        let shape = ConvShape {
            inputs: 3,
            outputs: channels,
            kernel,
            stride,
            bias: keras,
        };
        let stem = Conv::new(b, if keras { "conv1_conv" } else { "conv1" }, shape)?;
        let stem_norm = if keras {
            None
        } else {
            Some(Norm::new(b, "bn1", channels, false)?)
        };

        let mut blocks = Vec::new();
        for (stage, depth) in config.arch.depths().into_iter().enumerate() {
            for index in 0..depth {
                let inner = config.channels(64 << stage);
                // torchvision strides in the first block of stages 2–4, Keras' V2 in the last block of stages 1–3.
                let strides = if keras {
                    stage < 3 && index + 1 == depth
                } else {
                    stage > 0 && index == 0
                };
                let shape = BlockShape {
                    inputs: channels,
                    inner,
                    outputs: inner * config.arch.expansion(),
                    stride: if strides { 2 } else { 1 },
                    zero_init: config.zero_init_residual,
                };
                blocks.push(if keras {
                    let name = format!("conv{}_block{}", stage + 2, index + 1);
                    let block = PreActivationBlock::new(b, &name, shape, index == 0)?;
                    Block::PreActivation(Box::new(block))
                } else {
                    let name = format!("layer{}.{index}", stage + 1);
                    Block::Plain(PlainBlock::new(
                        b,
                        &name,
                        shape,
                        config.arch.expansion() > 1,
                    )?)
                });
                channels = shape.outputs;
            }
        }
        let norm = match stem_norm {
            Some(norm) => norm,
            None => Norm::new(b, "post_bn", channels, false)?,
        };
        Ok(Self {
            config: config.clone(),
            stem,
            norm,
            blocks,
            feature_dim: channels,
            precision: Precision::F32,
        })
    }

    /// Keeps activations in another precision. Takes effect on a CPU in the torchvision family; parameters, their
    /// gradients, statistics and features stay f32.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// How activations are kept.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &ResNetConfig {
        &self.config
    }

    /// Length of a feature vector: 512 or 2048 at width 1.
    pub fn feature_dim(&self) -> usize {
        self.feature_dim
    }

    /// Images `[N, H, W, 3]` to features `[N, feature_dim]`.
    ///
    /// In [`Mode::Train`] the running statistics move by this batch: by torch's rule (momentum 0.1, unbiased variance)
    /// in the torchvision family, by Keras' (momentum 0.99, biased variance) in ResNet50V2.
    ///
    /// # Errors
    /// If the input is not `[N, H, W, 3]` or is empty, or a training batch leaves one value per channel.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        self.forward_enlarged(self.enlarged(x)?, mode)
    }

    /// The features of [`Mode::Frozen`], batch after batch.
    pub fn extractor(&self) -> Extractor<'_> {
        Extractor {
            encoder: self,
            prepared: Mutex::new(None),
        }
    }

    /// The images as the first layer reads them.
    fn enlarged(&self, x: &Tensor) -> TensorResult<Tensor> {
        if !matches!(x.dims(), [n, h, w, 3] if n * h * w > 0) {
            bail!(
                "an encoder takes images [N, height, width, 3] (channels last), got {:?}",
                x.dims()
            );
        }
        match self.config.upsample {
            Some(side) => kernels::upsample_bilinear(x, side, side),
            None => Ok(x.clone()),
        }
    }

    fn forward_enlarged(&self, mut h: Tensor, mode: Mode) -> TensorResult<Tensor> {
        if mode != Mode::Eval
            && self.config.arch != Arch::ResNet50V2
            && Network::applies(&h)
            && let Some((network, output, norms)) = self.network(mode)
        {
            return self.forward_as_one(&network, output, &norms, &h, mode);
        }
        let keras = self.config.arch == Arch::ResNet50V2;
        h = self.stem.forward(&h, mode)?; // [N, H/2, W/2, 64]
        if !keras {
            h = self.norm.forward(&h, None, Relu, mode)?;
        }
        if self.config.stem == Stem::ImageNet {
            // Keras pads with zeros, which matter where activations are negative; torch pads with −∞.
            h = match keras {
                true => kernels::max_pool2d(&kernels::pad_zeros(&h, 1)?, 3, 2, 0)?,
                false => kernels::max_pool2d(&h, 3, 2, 1)?,
            }; // [N, H/4, W/4, 64]
        }
        for block in &self.blocks {
            h = block.forward(&h, mode)?;
        }
        if keras {
            h = self.norm.forward(&h, None, Relu, mode)?;
        }
        kernels::global_avg_pool(&h) // [N, feature_dim]
    }

    /// The encoder as one operator with its batch norms in order; none for ResNet50V2, whose blocks are of another kind.
    fn network(&self, mode: Mode) -> Option<(Network, Slot, Vec<&Norm>)> {
        let mut network = Network::new();
        let mut norms = vec![&self.norm];
        let stem = self.stem.with_norm(&self.norm, Relu, mode);
        let mut slot = network.conv_norm(Network::INPUT, stem, None);
        if self.config.stem == Stem::ImageNet {
            slot = network.max_pool(slot, 3, 2, 1);
        }
        for block in &self.blocks {
            slot = block.append(&mut network, slot, mode, &mut norms)?;
        }
        Some((network, slot, norms))
    }

    fn forward_as_one(
        &self,
        network: &Network,
        output: Slot,
        norms: &[&Norm],
        x: &Tensor,
        mode: Mode,
    ) -> TensorResult<Tensor> {
        if mode == Mode::Frozen {
            return network.infer(output, x, &running(norms), self.precision);
        }
        let (features, moments) = network.train(output, x, self.precision)?;
        if mode == Mode::Train {
            for (norm, moments) in norms.iter().zip(&moments) {
                norm.update(moments)?;
            }
        }
        Ok(features)
    }

    /// Multiply-adds of the forward pass of one image of the given size (convolutions only; a training step costs
    /// about three times as much).
    pub fn flops(&self, height: usize, width: usize) -> u64 {
        let mut size = self
            .config
            .upsample
            .map_or((height, width), |side| (side, side));
        let stem = self.stem.macs(&mut size);
        if self.config.stem == Stem::ImageNet {
            size = (size.0.div_ceil(2), size.1.div_ceil(2));
        }
        stem + self
            .blocks
            .iter()
            .map(|block| block.macs(&mut size))
            .sum::<u64>()
    }
}

/// Running statistics, as inference takes them.
fn running(norms: &[&Norm]) -> Vec<(Tensor, Tensor)> {
    norms.iter().map(|norm| norm.running()).collect()
}

/// An encoder that extracts features, and learns nothing meanwhile: [`ResNet::extractor`].
///
/// On a CPU the torchvision family packs its weights at the first batch, and again where the size of the images changes; the packed
/// copy lives as long as this does. What changes the weights or the statistics meanwhile (a training step, a file) goes unnoticed: take
/// another one afterwards.
#[derive(Debug)]
pub struct Extractor<'a> {
    encoder: &'a ResNet,
    /// Never locked while a pass is computed: a thread that waits for its tasks may begin another pass.
    prepared: Mutex<Option<Arc<Prepared>>>,
}

impl Extractor<'_> {
    /// The values of [`ResNet::forward`] in [`Mode::Frozen`], to the bit.
    ///
    /// # Errors
    /// As there.
    pub fn forward(&self, x: &Tensor) -> TensorResult<Tensor> {
        let x = self.encoder.enlarged(x)?;
        if !Network::applies(&x) {
            return self.encoder.forward_enlarged(x, Mode::Frozen);
        }
        let kept = self.prepared().clone().filter(|p| p.fits(&x));
        let prepared = match kept {
            Some(prepared) => prepared,
            None => {
                let Some((network, output, norms)) = self.encoder.network(Mode::Frozen) else {
                    return self.encoder.forward_enlarged(x, Mode::Frozen);
                };
                let precision = self.encoder.precision;
                let prepared = network.prepare(output, &x, &running(&norms), precision)?;
                let prepared = Arc::new(prepared);
                *self.prepared() = Some(prepared.clone());
                prepared
            }
        };
        prepared.infer(&x)
    }

    fn prepared(&self) -> MutexGuard<'_, Option<Arc<Prepared>>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
