//! The sections of a recipe that describe a training stage.

use super::check::{positive, require};
use super::{OptimizerConfig, ScheduleConfig};
use crate::Result;
use contrastive_loss::{Loss, Miner};
use resnet::Init;
use serde::{Deserialize, Serialize};

/// What every training stage is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// Passes over the training split.
    pub epochs: usize,
    /// Images per optimiser step (each counted once, whatever the number of views).
    pub batch_size: usize,
    /// Parts that a batch is cut into, one after the other; their gradients are averaged.
    pub accumulation: usize,
    /// Largest allowed global norm of the gradient.
    pub clip: Option<f64>,
    /// Decay of the exponential moving average of the weights; the average is what the stage hands on.
    pub ema: Option<f64>,
    /// Share of the label's probability spread over all classes (cross-entropy only).
    pub label_smoothing: f64,
    /// Hand on the epoch with the best validation accuracy instead of the last one.
    pub select_best: bool,
    /// The update rule.
    pub optimizer: OptimizerConfig,
    /// The learning rate over time.
    pub schedule: ScheduleConfig,
    /// The learning rate of the loss' own parameters, on the same schedule; the optimiser's where there is none.
    pub loss_lr: Option<f64>,
}

impl Training {
    /// Looks at every field's range; `section` is where they stand in the recipe.
    pub(super) fn check(&self, section: &str, least_epochs: usize) -> Result<()> {
        let field = |name: &str| format!("{section}.{name}");
        let epochs = format!("use {least_epochs} to 100000");
        require(
            &field("epochs"),
            self.epochs,
            (least_epochs..=100_000).contains(&self.epochs),
            &epochs,
        )?;
        require(
            &field("batch_size"),
            self.batch_size,
            (2..=1_048_576).contains(&self.batch_size),
            "use at least 2 images",
        )?;
        let parts = self.accumulation;
        let ok = parts > 0 && self.batch_size.is_multiple_of(parts) && self.batch_size / parts >= 2;
        let remedy = format!(
            "use a divisor of {section}.batch_size ({}) that leaves at least 2 images a part",
            self.batch_size
        );
        require(&field("accumulation"), parts, ok, &remedy)?;
        if let Some(clip) = self.clip {
            require(
                &field("clip"),
                clip,
                positive(clip),
                "use a number above 0, or leave it out",
            )?;
        }
        if let Some(ema) = self.ema {
            require(
                &field("ema"),
                ema,
                (0.0..1.0).contains(&ema),
                "use 0 or more, below 1, such as 0.999, or leave it out",
            )?;
        }
        let smoothing = self.label_smoothing;
        require(
            &field("label_smoothing"),
            smoothing,
            (0.0..1.0).contains(&smoothing),
            "use 0 or more, below 1",
        )?;
        self.optimizer.check(&field("optimizer"))?;
        self.schedule.check(&field("schedule"))
    }
}

/// Declares a section: its own fields, then those of [`Training`].
macro_rules! section {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$field_doc:meta])* $field:ident: $ty:ty = $value:expr,)*
    } training { epochs: $epochs:expr, batch_size: $batch:expr, optimizer: $optimizer:expr, schedule: $schedule:expr }
      $(loss_lr: $loss_lr:ident)?) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $ty,)*
            /// Passes over the training split.
            pub epochs: usize,
            /// Images per optimiser step (each counted once, whatever the number of views).
            pub batch_size: usize,
            /// Parts that a batch is cut into, one after the other; their gradients are averaged.
            pub accumulation: usize,
            /// Largest allowed global norm of the gradient.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub clip: Option<f64>,
            /// Decay of the exponential moving average of the weights; the average is what the stage hands on.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub ema: Option<f64>,
            /// Share of the label's probability spread over all classes (cross-entropy only).
            pub label_smoothing: f64,
            /// Hand on the epoch with the best validation accuracy instead of the last one.
            pub select_best: bool,
            /// The update rule.
            pub optimizer: OptimizerConfig,
            /// The learning rate over time.
            pub schedule: ScheduleConfig,
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($field: $value,)*
                    epochs: $epochs,
                    batch_size: $batch,
                    accumulation: 1,
                    clip: None,
                    ema: None,
                    label_smoothing: 0.0,
                    select_best: false,
                    optimizer: $optimizer,
                    schedule: $schedule,
                }
            }
        }

        impl $name {
            /// The fields that every training stage has.
            pub fn training(&self) -> Training {
                Training {
                    epochs: self.epochs,
                    batch_size: self.batch_size,
                    accumulation: self.accumulation,
                    clip: self.clip,
                    ema: self.ema,
                    label_smoothing: self.label_smoothing,
                    select_best: self.select_best,
                    optimizer: self.optimizer.clone(),
                    schedule: self.schedule.clone(),
                    loss_lr: [None, $(self.$loss_lr)?].into_iter().flatten().next(),
                }
            }
        }
    };
}

section! {
    /// `[supervised]`: the baseline, trained as one with cross-entropy.
    Supervised {
        /// The classifier on top of the encoder.
        head: HeadKind = HeadKind::Linear,
        /// Dropout before and inside the `mlp` head.
        dropout: f64 = 0.5,
    } training { epochs: 50, batch_size: 256, optimizer: OptimizerConfig::sgd(0.1, 5e-4), schedule: ScheduleConfig::cosine() }
}

section! {
    /// `[pretrain]`: contrastive pretraining of the encoder behind a projection head.
    Pretrain {
        /// A loss by its name (`"npairs"`, `"supcon_out"`, `"triplet"`, …; all: `contrastive_loss::Loss::names`), or a table of a
        /// name and its options.
        loss: Loss = Loss::supcon_out(),
        /// What similarities are divided by before the softmax; the loss' own usual value if left out. Losses without one refuse it.
        #[serde(skip_serializing_if = "Option::is_none")]
        temperature: Option<f64> = None,
        /// The head between the encoder and the loss; thrown away afterwards.
        projection: ProjectionRecipe = ProjectionRecipe::default(),
        /// Draw this many images of each class for a batch instead of a plain shuffle.
        #[serde(skip_serializing_if = "Option::is_none")]
        per_class: Option<usize> = None,
        /// Send at most this many images of a batch through the networks at a time: the loss and its gradient are those of
        /// the whole batch, the memory is that of a chunk, and every image is embedded twice. Batch norm sees a chunk at a time.
        #[serde(skip_serializing_if = "Option::is_none")]
        chunk: Option<usize> = None,
        /// Which pairs a loss over pairs looks at: `"hard"`, `"semi_hard"`, `"distance_weighted"`, `"multi_similarity"`, or a table of
        /// a name and its options; all pairs if left out.
        #[serde(skip_serializing_if = "Option::is_none")]
        miner: Option<Miner> = None,
        /// Compare each batch with this many rows of former batches too, as they were embedded then (a cross-batch memory); for
        /// `info_nce`, the length of the queue of negatives.
        #[serde(skip_serializing_if = "Option::is_none")]
        memory: Option<usize> = None,
        /// The learning rate of the loss' own parameters (proxies, the sigmoid's scale and bias), on the same schedule;
        /// `optimizer.lr` if left out.
        #[serde(skip_serializing_if = "Option::is_none")]
        loss_lr: Option<f64> = None,
        /// Steps in a row at the collapse value (after warm-up) before collapse is called by name.
        collapse_patience: usize = 50,
    } training { epochs: 50, batch_size: 256, optimizer: OptimizerConfig::sgd(0.1, 1e-4), schedule: ScheduleConfig::cosine() }
  loss_lr: loss_lr
}

section! {
    /// `[probe]`: the linear head on a frozen encoder. `epochs = 0` leaves it out.
    Probe {
        /// Show augmented images to the encoder at every step instead of computing features once per image.
        augment: bool = false,
    } training { epochs: 50, batch_size: 512, optimizer: OptimizerConfig::sgd(0.5, 0.0), schedule: ScheduleConfig::cosine() }
}

section! {
    /// `[head]`: the source's 512-unit head on a frozen encoder. `epochs = 0` leaves it out.
    Head {
        /// Show augmented images to the encoder at every step instead of computing features once per image.
        augment: bool = false,
        /// Dropout before and inside the head.
        dropout: f64 = 0.5,
    } training { epochs: 20, batch_size: 256, optimizer: OptimizerConfig::adam(1e-3), schedule: ScheduleConfig::cosine() }
}

section! {
    /// `[finetune]`: training of everything after the frozen-encoder head, from the headline head's weights.
    Finetune {
    } training { epochs: 20, batch_size: 256, optimizer: OptimizerConfig::sgd(0.01, 5e-4), schedule: ScheduleConfig::cosine() }
}

/// A classifier head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadKind {
    /// One linear layer.
    Linear,
    /// The source's head: dropout, 512 units with ReLU, dropout, linear.
    Mlp,
}

impl HeadKind {
    /// The name used in files and results: `linear` or `mlp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Mlp => "mlp",
        }
    }
}

impl Pretrain {
    /// The loss at this section's temperature.
    pub fn loss(&self) -> Loss {
        let loss = self.loss.clone();
        match self.temperature {
            Some(temperature) => loss.with_temperature(temperature),
            None => loss,
        }
    }
}

/// `[pretrain.projection]`: the head between the encoder and the contrastive loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectionRecipe {
    /// `linear`, `linear_relu` (the source's) or `mlp`.
    pub kind: ProjectionKind,
    /// Units of the `mlp`'s hidden layer; the encoder's feature size if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<usize>,
    /// Size of an embedding.
    pub dim: usize,
    /// Batch norm inside the `mlp`.
    pub batch_norm: bool,
    /// Batch norm of the output (`linear`, `mlp`): embeddings cannot begin near collapse.
    pub output_norm: bool,
}

impl Default for ProjectionRecipe {
    fn default() -> Self {
        Self {
            kind: ProjectionKind::Mlp,
            hidden: None,
            dim: 128,
            batch_norm: false,
            output_norm: false,
        }
    }
}

/// The shape of a projection head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectionKind {
    /// One linear layer.
    Linear,
    /// One linear layer and a ReLU.
    LinearRelu,
    /// Linear, ReLU, linear.
    Mlp,
}

/// `[transfer]`: the arm that starts from weights trained elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transfer {
    /// `hub:OWNER/NAME` or a `.safetensors` file.
    pub init: Init,
    /// What happens to these weights.
    pub mode: TransferMode,
}

impl Default for Transfer {
    fn default() -> Self {
        let init = Init::Hub {
            repo: "timm/resnet50.a1_in1k".to_owned(),
            revision: "main".to_owned(),
        };
        Self {
            init,
            mode: TransferMode::Finetune,
        }
    }
}

/// What the transfer arm does with the weights that it starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferMode {
    /// Frozen, with heads on top.
    Frozen,
    /// Heads on the frozen encoder, then everything is trained (`[finetune]`).
    Finetune,
    /// Contrastive pretraining on top (`[pretrain]`), then heads on the frozen encoder.
    Contrastive,
}
