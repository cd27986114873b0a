//! The networks that stages train, with their parameters: an encoder and the heads on top of it.

use crate::chunked::{Whole, whole_batch};
use crate::collapse::Monitor;
use crate::feed::Batch;
use crate::optimizer::Trainable;
use crate::recipe::{HeadKind, Model, ProjectionKind, ProjectionRecipe, Recipe};
use crate::snapshots::{EMBEDDINGS, FEATURES};
use crate::step::{Forward, Place};
use crate::wheel::Keeps;
use crate::{Result, StageKind, classify};
use candle_core::{Device, Tensor, Var};
use cifar_data::stream;
use contrastive_loss::{Bounds, Context, CrossBatchMemory, Loss, Miner, Start, Task};
use rand_chacha::rand_core::RngCore;
use resnet::{
    Classifier, ClassifierConfig, LinearInit, LoadOptions, Mode, Parameters, Projection,
    ProjectionConfig, ResNet, ResNetConfig, Role,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

/// Photographs to features.
#[derive(Debug)]
pub(crate) struct Encoder {
    pub net: ResNet,
    pub parameters: Parameters,
}

impl Encoder {
    /// A network of the recipe's shape. All arms begin with the same random weights.
    pub fn new(model: &Model, seed: u64, device: &Device) -> Result<Self> {
        let config = ResNetConfig {
            arch: model.arch,
            stem: model.stem,
            width: model.width,
            upsample: model.upsample,
            zero_init_residual: model.zero_init_residual,
        };
        let mut parameters = Parameters::new(device);
        let net = ResNet::new(
            &config,
            &mut parameters,
            &mut stream(seed, "init: encoder", &[]),
        )?
        .with_precision(model.precision.into());
        Ok(Self { net, parameters })
    }

    /// Takes over the weights of a file of this run.
    pub fn load(&self, path: &Path) -> Result<()> {
        self.parameters.load(path, &LoadOptions::default())?;
        Ok(())
    }

    /// Takes over weights trained elsewhere. Those of another stem leave the stem convolution as it is: then the answer is
    /// true.
    pub fn init(&self, path: &Path) -> Result<bool> {
        let file = resnet::read_safetensors(path)?;
        let other_stem = ["conv1.weight", "conv1_conv.weight"].iter().any(|name| {
            let kernel = file.tensors.get(*name).map(|t| t.dims().last().copied()); // [O, I, k, k]
            let own = self
                .parameters
                .get(name)
                .map(|var| var.dims().get(1).copied()); // [O, k, k, I]
            kernel.is_some() && own.is_some() && kernel != own
        });
        let options = LoadOptions::encoder();
        self.parameters.load(
            path,
            &if other_stem {
                options.keeping_stem()
            } else {
                options
            },
        )?;
        Ok(other_stem)
    }

    /// Images `[N, H, W, 3]` to features `[N, D]`.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(self.net.forward(images, mode)?)
    }
}

/// Features to logits.
#[derive(Debug)]
pub(crate) struct Head {
    pub kind: HeadKind,
    pub net: Classifier,
    pub parameters: Parameters,
}

impl Head {
    /// A head on `dim` features. Heads of one kind begin with the same random weights in all arms.
    pub fn new(
        kind: HeadKind,
        dropout: f64,
        dim: usize,
        classes: usize,
        init: LinearInit,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let config = match kind {
            HeadKind::Linear => ClassifierConfig::Linear { classes },
            HeadKind::Mlp => ClassifierConfig::Mlp512 {
                hidden: 512,
                dropout,
                classes,
            },
        };
        let mut parameters = Parameters::new(device);
        let mut rng = stream(seed, &format!("init: {} head", kind.name()), &[]);
        let net = Classifier::with_init(&config, init, dim, &mut parameters, &mut rng)?;
        Ok(Self {
            kind,
            net,
            parameters,
        })
    }

    /// Takes over the weights of a file of this run.
    pub fn load(&self, path: &Path) -> Result<()> {
        self.parameters.load(path, &LoadOptions::default())?;
        Ok(())
    }

    /// Features `[N, D]` to logits `[N, classes]` without a graph.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        // No dropout in this mode: the generator is not drawn from.
        Ok(self
            .net
            .forward(features, Mode::Frozen, &mut stream(0, "unused", &[]))?)
    }
}

/// Encoder and classifier, trained as one: the baseline, and fine-tuning.
#[derive(Debug)]
pub(crate) struct Supervised {
    pub encoder: Encoder,
    pub head: Head,
    pub smoothing: f64,
}

impl Supervised {
    /// Parameters as checkpoints name them.
    pub fn groups(&self) -> [(&'static str, &Parameters); 2] {
        [
            ("encoder", &self.encoder.parameters),
            ("head", &self.head.parameters),
        ]
    }

    /// Cross-entropy of a batch.
    pub fn forward(&self, batch: &Batch, place: &Place) -> Result<Forward> {
        let features = self.encoder.forward(&batch.input, Mode::Train)?; // [V·B, D]
        let logits = self
            .head
            .net
            .forward(&features, Mode::Train, &mut place.rng("dropout"))?; // [V·B, C]
        Forward::classified(&logits, &batch.row_labels(), self.smoothing)
    }

    /// Logits of plain images, without a graph.
    pub fn logits(&self, images: &Tensor) -> Result<Tensor> {
        self.head
            .logits(&self.encoder.forward(images, Mode::Frozen)?)
    }
}

/// Encoder, projection head and contrastive loss.
#[derive(Debug)]
pub(crate) struct Contrastive {
    pub encoder: Encoder,
    pub projection: Projection,
    /// The projection head's, and the loss' own (proxies, …) under `loss.`.
    pub parameters: Parameters,
    pub loss: Loss,
    task: Task,
    /// The loss' own parameters, in its order.
    loss_parameters: Vec<Var>,
    /// Images that go through the networks at a time; all of a batch where there is none.
    pub chunk: Option<usize>,
    miner: Option<Miner>,
    /// Rows of former batches.
    memory: Option<RefCell<CrossBatchMemory>>,
}

/// How the loss' own parameters are named in checkpoints.
pub(crate) const OF_THE_LOSS: &str = "projection.loss.";

/// What a loss says of a batch.
struct Verdict {
    /// The mean, a scalar.
    mean: Tensor,
    bounds: Bounds,
    /// Share of the rows without a positive, where former batches have a say in it.
    lonely: Option<f64>,
}

impl Contrastive {
    /// A projection head of the recipe's shape on top of `encoder`, and the loss for data of so many classes.
    pub fn new(recipe: &Recipe, encoder: Encoder, classes: usize, device: &Device) -> Result<Self> {
        let dim = encoder.net.feature_dim();
        let config = projection_config(&recipe.pretrain.projection, dim);
        let mut parameters = Parameters::new(device);
        let mut rng = stream(recipe.seed, "init: projection", &[]);
        let init = recipe.model.linear_init();
        let projection = Projection::with_init(&config, init, dim, &mut parameters, &mut rng)?;
        let loss = recipe.pretrain.loss();
        let task = Task {
            dim: recipe.pretrain.projection.dim,
            classes,
        };
        let loss_parameters = add_loss_parameters(&loss, task, recipe.seed, &mut parameters)?;
        Ok(Self {
            encoder,
            projection,
            parameters,
            loss,
            task,
            loss_parameters,
            chunk: recipe.pretrain.chunk,
            miner: recipe.pretrain.miner.clone(),
            memory: (recipe.pretrain.memory)
                .map(|rows| CrossBatchMemory::new(rows).map(RefCell::new))
                .transpose()?,
        })
    }

    /// Parameters as checkpoints name them.
    pub fn groups(&self) -> [(&'static str, &Parameters); 2] {
        [
            ("encoder", &self.encoder.parameters),
            ("projection", &self.parameters),
        ]
    }

    /// Images `[V·B, H, W, 3]` to embeddings `[V·B, E]`.
    pub fn embed(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let features = self.encoder.forward(images, mode)?; // [V·B, D]
        Ok(self.projection.forward(&features, mode)?)
    }

    /// Plain images in the spaces of encoder and projection head, without a graph.
    pub fn spaces(&self, images: &Tensor) -> Result<Vec<(&'static str, Tensor)>> {
        let features = self.encoder.forward(images, Mode::Frozen)?; // [N, D]
        let embeddings = self.projection.forward(&features, Mode::Frozen)?; // [N, E]
        Ok(vec![(FEATURES, features), (EMBEDDINGS, embeddings)])
    }

    /// The contrastive loss of a batch at a place of a run; its gradients too, where the batch goes through in chunks.
    pub fn forward(&self, batch: &Batch, place: &Place) -> Result<Forward> {
        let (verdict, z, gradients) = match self.chunk.filter(|&chunk| chunk < batch.labels.len()) {
            Some(chunk) => {
                let parameters = Trainable::of(&self.groups());
                let whole = self.whole(batch, chunk, &parameters, place)?;
                (whole.said, whole.z, Some(whole.gradients))
            }
            None => {
                let z = self.embed(&batch.input, Mode::Train)?; // [V·B, E]
                (self.judge(&z, batch, place)?, z, None)
            }
        };
        let mut monitor = Monitor::of(&self.loss, verdict.bounds, &z, batch, place.step)?;
        monitor.lonely = verdict.lonely.unwrap_or(monitor.lonely);
        Ok(Forward {
            loss: verdict.mean,
            correct: None,
            rows: batch.rows(),
            monitor: Some(monitor),
            gradients,
        })
    }

    /// The loss of a whole batch that goes through the networks in chunks.
    fn whole(
        &self,
        batch: &Batch,
        chunk: usize,
        parameters: &[Trainable],
        place: &Place,
    ) -> Result<Whole<Verdict>> {
        let embed = |images: &Tensor, graph: bool| {
            self.embed(images, if graph { Mode::Train } else { Mode::Rehearse })
        };
        whole_batch(batch, chunk, parameters, embed, |z| {
            let verdict = self.judge(z, batch, place)?;
            let mean = verdict.mean.detach();
            Ok((verdict.mean, Verdict { mean, ..verdict }))
        })
    }

    /// The mean loss of the embeddings of a batch among former ones, over what the miner picks; remembers the batch.
    fn judge(&self, z: &Tensor, batch: &Batch, place: &Place) -> Result<Verdict> {
        let (labels, views) = (&batch.labels, batch.views);
        let parameters = self.own();
        let mut memory = self.memory.as_ref().map(RefCell::borrow_mut);
        let mut context = Context {
            parameters: &parameters,
            memory: memory.as_deref(),
            mined: None,
        };
        let mined = match &self.miner {
            Some(miner) => {
                let mut rng = place.rng("miner");
                let mut uniform = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
                Some((self.loss).mine(miner, z, labels, views, context.memory, &mut uniform)?)
            }
            None => None,
        };
        context.mined = mined.as_ref();
        let values = self.loss.forward_in(z, labels, views, &context)?;
        let beside = memory.is_some() || mined.is_some();
        let verdict = Verdict {
            mean: values.mean()?,
            bounds: self.loss.bounds_in(labels, views, self.task, &context)?,
            lonely: beside
                .then(|| values.without_positives as f64 / values.defined.len().max(1) as f64),
        };
        if let Some(memory) = &mut memory {
            self.loss.remember(memory, z, labels, views)?;
        }
        Ok(verdict)
    }

    /// The loss' own parameters.
    fn own(&self) -> Vec<Tensor> {
        (self.loss_parameters.iter())
            .map(|var| var.as_tensor().clone())
            .collect()
    }

    /// Multiply-adds of one image forward, both networks.
    pub fn flops(&self, height: usize, width: usize) -> u64 {
        self.encoder.net.flops(height, width) + self.projection.flops()
    }
}

impl Keeps for Contrastive {
    fn kept(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut kept = BTreeMap::new();
        if let Some(memory) = &self.memory {
            let memory = memory.borrow();
            if let Some(rows) = memory.embeddings() {
                let labels = memory.labels();
                let count = labels.len();
                let labels = Tensor::from_vec(labels, count, &Device::Cpu)?;
                kept.insert(MEMORY_ROWS.to_owned(), rows.to_device(&Device::Cpu)?);
                kept.insert(MEMORY_LABELS.to_owned(), labels);
            }
        }
        Ok(kept)
    }

    fn take_up(&self, kept: &BTreeMap<String, Tensor>) -> Result<()> {
        let found = (kept.get(MEMORY_ROWS), kept.get(MEMORY_LABELS));
        if let (Some(memory), (Some(rows), Some(labels))) = (&self.memory, found) {
            memory.borrow_mut().push(rows, labels)?;
        }
        Ok(())
    }
}

const MEMORY_ROWS: &str = "memory.rows";
const MEMORY_LABELS: &str = "memory.labels";

/// Registers the loss' own parameters under `loss.`, beside the projection head's, so that optimiser, averages and checkpoints
/// see them.
fn add_loss_parameters(
    loss: &Loss,
    task: Task,
    seed: u64,
    parameters: &mut Parameters,
) -> Result<Vec<Var>> {
    let mut added = Vec::new();
    for spec in loss.parameters(task) {
        let (value, role) = match spec.start {
            Start::Normal(std) => {
                let mut rng = stream(seed, &format!("init: loss {}", spec.name), &[]);
                (
                    resnet::normal(&spec.shape, std, &mut rng)?,
                    Role::LinearWeight,
                )
            }
            // A scale or a bias: no weight decay.
            Start::Constant(value) => {
                let value = Tensor::full(value as f32, spec.shape.as_slice(), &Device::Cpu)?;
                (value, Role::Bias)
            }
        };
        added.push(parameters.add(&format!("loss.{}", spec.name), &value, role)?);
    }
    Ok(added)
}

fn projection_config(recipe: &ProjectionRecipe, features: usize) -> ProjectionConfig {
    let dim = recipe.dim;
    match recipe.kind {
        ProjectionKind::Linear => ProjectionConfig::Linear {
            dim,
            output_norm: recipe.output_norm,
        },
        ProjectionKind::LinearRelu => ProjectionConfig::LinearRelu { dim },
        ProjectionKind::Mlp => ProjectionConfig::Mlp {
            hidden: recipe.hidden.unwrap_or(features),
            dim,
            batch_norm: recipe.batch_norm,
            output_norm: recipe.output_norm,
        },
    }
}

impl Recipe {
    /// The head kind that a frozen-encoder stage trains.
    pub(crate) fn head_kind(kind: StageKind) -> HeadKind {
        if kind == StageKind::Head {
            HeadKind::Mlp
        } else {
            HeadKind::Linear
        }
    }
}

impl Forward {
    /// Cross-entropy of logits `[N, C]`, and how many were right.
    pub fn classified(logits: &Tensor, labels: &[u32], smoothing: f64) -> Result<Self> {
        Ok(Self {
            loss: classify::cross_entropy(logits, labels, smoothing)?,
            correct: Some(classify::correct(logits, labels)?),
            rows: labels.len(),
            monitor: None,
            gradients: None,
        })
    }
}
