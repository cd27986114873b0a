//! A recipe: everything that decides what a run does, as typed TOML.
//!
//! Every field has a default, unknown keys are refused, and [`Recipe::check`] looks at all ranges once, so
//! that the stages can trust what they are given. `Recipe::set("pretrain.temperature", "0.1")` changes one
//! field by its dotted name, as the command line's `--set` does.

mod budget;
mod check;
mod edit;
mod evaluate;
mod optimizer;
mod schedule;
mod stage;

pub use budget::BudgetBy;
pub use check::CheckedRecipe;
pub use evaluate::Evaluate;
pub use optimizer::{OptimizerConfig, OptimizerKind};
pub use schedule::{ScheduleConfig, ScheduleKind};
pub use stage::{
    Finetune, Head, HeadKind, Pretrain, Probe, ProjectionKind, ProjectionRecipe, Supervised,
    Training, Transfer, TransferMode,
};

use crate::{Error, Result};
use cifar_data::{DatasetName, Policy};
use resnet::{Arch, Init, LinearInit, Stem};
use serde::{Deserialize, Serialize};

/// Everything that decides what a run does. See the crate's README for a commented example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// The recipe's name, used in reports.
    pub name: String,
    /// Everything random in the run is a function of this number.
    pub seed: u64,
    /// Which frozen-encoder head is the headline of an arm: the linear probe or the source's 512-unit head.
    pub headline: HeadKind,
    /// If given, the epochs of all encoder stages are lowered by one common factor (never raised) so that the
    /// whole run fits into this many minutes at the speed measured before step 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_minutes: Option<f64>,
    /// If given, the arms' training is made equal before step 0: the epochs of `[pretrain]` (and of `[finetune]`, where only the
    /// transfer arm reads them) are chosen so that these arms cost as much as the baseline, in `epochs`, `flops` or `time`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetBy>,
    /// Which images.
    pub data: Data,
    /// Which encoder.
    pub model: Model,
    /// How images are changed before the encoder sees them.
    pub augment: Augment,
    /// Which runs are made and compared.
    pub arms: Arms,
    /// The baseline: encoder and classifier trained as one with cross-entropy.
    pub supervised: Supervised,
    /// Contrastive pretraining of the encoder behind a projection head.
    pub pretrain: Pretrain,
    /// The linear head on a frozen encoder.
    pub probe: Probe,
    /// The 512-unit head on a frozen encoder.
    pub head: Head,
    /// Training of everything after the frozen-encoder head.
    pub finetune: Finetune,
    /// The arm that starts from weights trained elsewhere.
    pub transfer: Transfer,
    /// How the arms are measured at their end.
    pub evaluate: Evaluate,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            name: "unnamed".to_owned(),
            seed: 0,
            headline: HeadKind::Linear,
            budget_minutes: None,
            budget: None,
            data: Data::default(),
            model: Model::default(),
            augment: Augment::default(),
            arms: Arms::default(),
            supervised: Supervised::default(),
            pretrain: Pretrain::default(),
            probe: Probe::default(),
            head: Head::default(),
            finetune: Finetune::default(),
            transfer: Transfer::default(),
            evaluate: Evaluate::default(),
        }
    }
}

/// `[data]`: which images, and how many of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// The data set: `auto`, `cifar10`, `cifar100`, `synthetic`, …
    pub dataset: DatasetName,
    /// Bring the photographs of an image folder to this many pixels a side (largest centred square, antialiased). Left out, images that
    /// all have one size keep it, and others are brought to 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    /// How many training images are set aside, per class in equal parts, for everything that chooses.
    pub validation: usize,
    /// Train on at most this many images (after the validation split), per class in equal parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_limit: Option<usize>,
    /// Evaluate on at most this many test images (the first ones); for tests of the program itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_limit: Option<usize>,
    /// Leave out the last, smaller batch of an epoch.
    pub drop_last: bool,
    /// Batches made ahead of the training step.
    pub prefetch: usize,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            dataset: DatasetName::Auto,
            image_size: None,
            validation: 2000,
            train_limit: None,
            test_limit: None,
            drop_last: true,
            prefetch: 4,
        }
    }
}

/// `[model]`: the encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// `resnet18`, `resnet34`, `resnet50`, `resnet101`, `resnet152` or `resnet50v2`.
    pub arch: Arch,
    /// `imagenet` (7×7/2 and max-pool) or `cifar` (3×3/1).
    pub stem: Stem,
    /// Factor on all channel counts.
    pub width: f64,
    /// Enlarge the images to this many pixels a side inside the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upsample: Option<usize>,
    /// Start every residual branch at zero.
    pub zero_init_residual: bool,
    /// How the encoder keeps its activations on a CPU: `f32` or `bf16`. Parameters and their updates are f32 always.
    #[serde(default)]
    pub precision: Precision,
    /// `random`, `hub:OWNER/NAME` or a `.safetensors` file: the weights that all arms but `transfer` start from.
    pub init: Init,
}

impl Model {
    /// How fully connected layers on top of the encoder begin: as in the library that the architecture comes from.
    pub(crate) fn linear_init(&self) -> LinearInit {
        match self.arch {
            Arch::ResNet50V2 => LinearInit::Glorot,
            _ => LinearInit::Torch,
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self {
            arch: Arch::ResNet50,
            stem: Stem::ImageNet,
            width: 1.0,
            upsample: None,
            zero_init_residual: false,
            precision: Precision::F32,
            init: Init::Random,
        }
    }
}

impl Model {
    /// How activations are kept on this device: bf16 takes torchvision's family of networks and a CPU.
    pub fn precision_on(&self, device: &candle_core::Device) -> Precision {
        match device.is_cpu() && self.arch != Arch::ResNet50V2 {
            true => self.precision,
            false => Precision::F32,
        }
    }
}

/// How activations are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// `f32`.
    #[default]
    F32,
    /// `bf16`: half the memory, and faster where the processor multiplies it.
    Bf16,
}

impl Precision {
    /// As typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

impl From<Precision> for kernels::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

/// `[augment]`: one policy for all stages, unless a stage names its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// `none`, `keras`, `simclr`, `supcon`, `light` or `standard`; used by all stages.
    pub policy: Policy,
    /// Views of each image in a batch of contrastive pretraining.
    pub views: usize,
    /// Views of each image in a batch of the supervised stages.
    pub supervised_views: usize,
    /// The baseline's own policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supervised: Option<Policy>,
    /// Contrastive pretraining's own policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrain: Option<Policy>,
    /// The frozen-encoder heads' own policy (where their `augment` is on).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<Policy>,
    /// Fine-tuning's own policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finetune: Option<Policy>,
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            policy: Policy::Standard,
            views: 1,
            supervised_views: 1,
            supervised: None,
            pretrain: None,
            heads: None,
            finetune: None,
        }
    }
}

/// `[arms]`: which runs are made and compared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Arms {
    /// Cross-entropy from the start.
    pub baseline: bool,
    /// Contrastive pretraining, then heads on the frozen encoder.
    pub contrastive: bool,
    /// The baseline's encoder, frozen and probed (needs `baseline`).
    pub control: bool,
    /// The contrastive encoder and its head, trained on together (needs `contrastive`).
    pub finetuned: bool,
    /// From weights trained elsewhere, as `transfer.mode` says; see `[transfer]`.
    pub transfer: bool,
    /// The weights of `[transfer]`, frozen, with heads on top; beside `transfer`.
    #[serde(skip_serializing_if = "is_off")]
    pub transfer_frozen: bool,
    /// The weights of `[transfer]`, contrastive pretraining on top, then frozen, with heads on top; beside `transfer`.
    #[serde(skip_serializing_if = "is_off")]
    pub transfer_contrastive: bool,
}

/// Switches that came later are written where they are on: recipes of before stay what they were.
fn is_off(switch: &bool) -> bool {
    !switch
}

impl Arms {
    /// Whether an arm starts from the weights of `[transfer]`.
    pub(crate) fn any_transfer(&self) -> bool {
        self.transfer || self.transfer_frozen || self.transfer_contrastive
    }
}

impl Default for Arms {
    fn default() -> Self {
        Self {
            baseline: true,
            contrastive: true,
            control: false,
            finetuned: false,
            transfer: false,
            transfer_frozen: false,
            transfer_contrastive: false,
        }
    }
}

impl Recipe {
    /// Reads a recipe from TOML text. Fields left out keep their defaults; unknown ones are refused.
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| Error::RecipeSyntax {
            message: e.to_string().trim_end().to_owned(),
        })
    }

    /// The recipe as TOML text, every default spelled out.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::RecipeSyntax {
            message: e.to_string(),
        })
    }

    /// The augmentation policy of a kind of stage.
    pub fn policy(&self, stage: crate::StageKind) -> Policy {
        use crate::StageKind::{Evaluate, Finetune, Head, Pretrain, Probe, Supervised};
        let own = match stage {
            Supervised => self.augment.supervised,
            Pretrain => self.augment.pretrain,
            Probe | Head => self.augment.heads,
            Finetune => self.augment.finetune,
            Evaluate => Some(Policy::None),
        };
        own.unwrap_or(self.augment.policy)
    }

    /// What a training stage is told; none for the evaluation.
    pub fn training(&self, stage: crate::StageKind) -> Option<Training> {
        use crate::StageKind::{Evaluate, Finetune, Head, Pretrain, Probe, Supervised};
        match stage {
            Supervised => Some(self.supervised.training()),
            Pretrain => Some(self.pretrain.training()),
            Probe => Some(self.probe.training()),
            Head => Some(self.head.training()),
            Finetune => Some(self.finetune.training()),
            Evaluate => None,
        }
    }

    /// All stages of a run of this recipe, in running order.
    pub fn stages(&self) -> Vec<crate::StageId> {
        crate::plan::stages(self)
    }

    /// What must be done before `stage`, in running order.
    pub fn needs(&self, stage: crate::StageId) -> Vec<crate::StageId> {
        crate::plan::needs(self, stage)
    }

    /// Whether a stage sees images anew at every step, rather than features computed once.
    pub(crate) fn augments(&self, stage: crate::StageKind) -> bool {
        use crate::StageKind::{Evaluate, Head, Probe};
        match stage {
            Probe => self.probe.augment,
            Head => self.head.augment,
            Evaluate => false,
            _ => true,
        }
    }
}
