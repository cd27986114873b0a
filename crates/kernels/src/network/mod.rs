//! A whole convolutional network as one node of Candle's graph.
//!
//! Layer by layer, every node of the graph costs a zeroed gradient and an addition over its tensor, and every tensor
//! between nodes is f32. Inside one node neither is true: gradients are summed where they are computed, and activations
//! are kept as f32 or bf16 ([`Precision`]).

mod entry;
mod node;
mod shapes;
mod tape;

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use crate::batch_norm::{Activation, BatchMoments};
use crate::cpu::{self, team::in_pool};
use crate::geometry::ConvConfig;
use shapes::Shapes;
use tape::Layers;

/// How activations are kept, and what is multiplied. Sums, statistics, parameters and their gradients are f32 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// bf16: f32 rounded to 8 bits of mantissa, half the memory; products of pairs where the processor has them.
    Bf16,
}

/// `act(batch_norm(conv(x)) + residual)`: what residual networks are made of.
#[derive(Debug, Clone)]
pub struct ConvNorm {
    /// `[O, kh, kw, C/groups]`, without bias.
    pub weight: Tensor,
    /// How the window moves.
    pub config: ConvConfig,
    /// Batch norm's scale, `[O]`.
    pub gamma: Tensor,
    /// Batch norm's shift, `[O]`.
    pub beta: Tensor,
    /// Added to the variance.
    pub eps: f64,
    /// What follows.
    pub act: Activation,
}

/// A value inside a network: the input, or what one of its layers gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(usize);

#[derive(Debug, Clone)]
enum Step {
    ConvNorm {
        input: usize,
        residual: Option<usize>,
        layer: ConvNorm,
    },
    MaxPool {
        input: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    },
}

/// Layers of convolution, batch norm and activation, ending in the mean over all pixels: `[N, H, W, C]` to `[N, O]`.
///
/// It holds tensors, not weights: build it anew for every forward pass, from variables (for training) or detached
/// tensors. Each parameter that is a variable, or depends on one, gets its gradient through `loss.backward()` or
/// [`crate::backward`].
///
/// 3×3 windows are computed as [`crate::conv2d`] says. Runs on a CPU in f32 parameters only; elsewhere compose [`crate::conv2d`] and its companions, which are also this
/// operator's oracle.
///
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use kernels::{Activation, ConvConfig, ConvNorm, Network, Precision};
///
/// # fn main() -> candle_core::Result<()> {
/// let device = &Device::Cpu;
/// let weight = Var::randn(0f32, 0.2, (16, 3, 3, 3), device)?;
/// let (gamma, beta) = (Var::ones(16, DType::F32, device)?, Var::zeros(16, DType::F32, device)?);
/// let mut network = Network::new();
/// let layer = ConvNorm {
///     weight: weight.as_tensor().clone(),
///     config: ConvConfig { padding: 1, ..ConvConfig::default() },
///     gamma: gamma.as_tensor().clone(),
///     beta: beta.as_tensor().clone(),
///     eps: 1e-5,
///     act: Activation::Relu,
/// };
/// let last = network.conv_norm(Network::INPUT, layer, None);
/// let images = Tensor::randn(0f32, 1.0, (4, 8, 8, 3), device)?;
/// let (features, moments) = network.train(last, &images, Precision::F32)?;
/// assert_eq!(features.dims(), [4, 16]);
/// assert_eq!(moments[0].count, 4 * 8 * 8);
/// let gradients = kernels::backward(&features.sqr()?.mean_all()?)?;
/// assert_eq!(gradients.get(&weight).map(Tensor::dims), Some(&[16, 3, 3, 3][..]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Network {
    steps: Vec<Step>,
}

impl Network {
    /// What the first layer reads.
    pub const INPUT: Slot = Slot(0);

    /// A network without layers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `act(batch_norm(conv(input)) + residual)`. Only the first layer may read [`Self::INPUT`].
    pub fn conv_norm(&mut self, input: Slot, layer: ConvNorm, residual: Option<Slot>) -> Slot {
        self.push(Step::ConvNorm {
            input: input.0,
            residual: residual.map(|r| r.0),
            layer,
        })
    }

    /// Appends a max-pooling, as [`crate::max_pool2d`].
    pub fn max_pool(&mut self, input: Slot, kernel: usize, stride: usize, padding: usize) -> Slot {
        self.push(Step::MaxPool {
            input: input.0,
            kernel,
            stride,
            padding,
        })
    }

    fn push(&mut self, step: Step) -> Slot {
        self.steps.push(step);
        Slot(self.steps.len())
    }

    /// Whether this operator runs on tensors like these: f32 in main memory.
    pub fn applies(x: &Tensor) -> bool {
        cpu::applies(&[x])
    }

    /// The mean of `output` over all pixels, `[N, O]`, with the batch's own statistics, and these statistics for every
    /// [`ConvNorm`] in the order in which they were appended. Differentiable in x and every parameter, once: the backward
    /// pass frees the activations as it goes, and a second one over the same graph is an error.
    ///
    /// # Errors
    /// Tensors on another device or of another type, shapes that do not fit together, a layer other than the first that
    /// reads the input.
    pub fn train(
        &self,
        output: Slot,
        x: &Tensor,
        precision: Precision,
    ) -> Result<(Tensor, Vec<BatchMoments>)> {
        let shapes = self.check(output, x)?;
        node::train(self, shapes, x, precision)
    }

    /// The same with given statistics, one pair (mean, variance) of `[O]` per [`ConvNorm`], and without a graph.
    ///
    /// Batch norm costs nothing here: it is a scale and a shift of finished sums. For many batches, [`prepare`](Self::prepare) once.
    ///
    /// # Errors
    /// As [`train`](Self::train); or statistics that are not one pair per layer.
    pub fn infer(
        &self,
        output: Slot,
        x: &Tensor,
        statistics: &[(Tensor, Tensor)],
        precision: Precision,
    ) -> Result<Tensor> {
        let shapes = self.check(output, x)?;
        let statistics = node::read(self, statistics)?;
        in_pool(|| node::infer(self, &shapes, x, Layers::Given(&statistics), precision))
    }

    /// Reads parameters and statistics now, and packs the weights for images of x's size, however many: [`Prepared::infer`] then gives
    /// [`infer`](Self::infer)'s bits without doing so for every batch. The packed copy is as large as the weights or, where 3×3 windows
    /// are transformed, up to 16/9 of them.
    ///
    /// # Errors
    /// As [`infer`](Self::infer).
    pub fn prepare(
        &self,
        output: Slot,
        x: &Tensor,
        statistics: &[(Tensor, Tensor)],
        precision: Precision,
    ) -> Result<Prepared> {
        let shapes = self.check(output, x)?;
        Ok(Prepared {
            layers: node::prepare(self, &shapes, statistics, precision)?,
            network: self.clone(),
            output,
            image: x.dims()[1..].to_vec(),
            precision,
        })
    }

    fn layers(&self) -> impl Iterator<Item = &ConvNorm> {
        self.steps.iter().filter_map(|step| match step {
            Step::ConvNorm { layer, .. } => Some(layer),
            Step::MaxPool { .. } => None,
        })
    }

    fn layers_mut(&mut self) -> impl Iterator<Item = &mut ConvNorm> {
        self.steps.iter_mut().filter_map(|step| match step {
            Step::ConvNorm { layer, .. } => Some(layer),
            Step::MaxPool { .. } => None,
        })
    }

    /// The parameters of every layer, three each.
    fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        self.layers()
            .flat_map(|layer| [&layer.weight, &layer.gamma, &layer.beta])
    }

    fn check(&self, output: Slot, x: &Tensor) -> Result<Shapes> {
        let mut all: Vec<&Tensor> = self.parameters().collect();
        all.push(x);
        if !cpu::applies(&all) {
            bail!(
                "network: the input and all parameters must be f32 on the CPU; compose conv2d and batch_norm_train elsewhere"
            )
        }
        Shapes::new(&self.steps, output.0, x.dims())
    }
}

/// A network whose weights have been packed: [`Network::prepare`].
pub struct Prepared {
    /// Its steps; the tensors in it are checked, not read.
    network: Network,
    output: Slot,
    /// Height, width and channels of the images.
    image: Vec<usize>,
    precision: Precision,
    layers: Vec<tape::Prepared>,
}

/// Images of a part: enough rows for whole register tiles where a map is one pixel.
const AT_ONCE: usize = 64;

impl Prepared {
    /// Whether it takes x: images of the size that it was prepared for.
    pub fn fits(&self, x: &Tensor) -> bool {
        x.dims().get(1..) == Some(&self.image)
    }

    /// The features `[N, O]` of images `[N, H, W, C]`, without a graph. Many images are taken 64 at a time, side by side: threads
    /// then seldom wait for one another between layers, and about one part per thread is in memory.
    ///
    /// # Errors
    /// Images of another size, or a tensor on another device or of another type.
    pub fn infer(&self, x: &Tensor) -> Result<Tensor> {
        if !self.fits(x) {
            bail!(
                "network: prepared for images {:?}, got {:?}; prepare it for these",
                self.image,
                x.dims()
            )
        }
        let infer = |x: &Tensor| {
            let shapes = self.network.check(self.output, x)?;
            let layers = Layers::Prepared(&self.layers);
            node::infer(&self.network, &shapes, x, layers, self.precision)
        };
        let images = x.dim(0)?;
        if images <= AT_ONCE {
            return in_pool(|| infer(x));
        }
        let parts = (0..images).into_par_iter().step_by(AT_ONCE);
        let features: Vec<Tensor> = (parts.with_max_len(1))
            .map(|first| infer(&x.narrow(0, first, AT_ONCE.min(images - first))?))
            .collect::<Result<_>>()?;
        Tensor::cat(&features, 0)
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("layers", &self.layers.len())
            .field("image", &self.image)
            .field("precision", &self.precision)
            .finish_non_exhaustive()
    }
}
