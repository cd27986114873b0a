//! What an arm's optional measurements found, as it stands in `results.json`: probes at their optimum, corruptions,
//! near-duplicates. A measurement that a run did not ask for is absent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A linear probe trained to the optimum of its loss (L-BFGS), on all or some of the training labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeRecord {
    /// Training features behind it.
    pub training_images: u64,
    /// Share of the training labels that it was given, 0 to 1.
    #[serde(with = "crate::number")]
    pub label_share: f64,
    /// Share of these labels that were replaced by another class on purpose, 0 to 1.
    #[serde(with = "crate::number")]
    pub label_noise: f64,
    /// λ of `mean cross-entropy + λ/2·‖W‖²`, chosen on the validation split.
    #[serde(with = "crate::number")]
    pub lambda: f64,
    /// Top-1 on the validation split at that λ, 0 to 1.
    #[serde(with = "crate::number")]
    pub validation_top1: f64,
    /// Top-1 on the test split, 0 to 1.
    #[serde(with = "crate::number")]
    pub top1: f64,
    /// Expected calibration error on the test split, 0 to 1.
    #[serde(with = "crate::number")]
    pub ece: f64,
    /// Mean negative log-likelihood on the test split, in nats.
    #[serde(with = "crate::number")]
    pub nll: f64,
    /// The regularised training loss that was reached.
    #[serde(with = "crate::number")]
    pub loss: f64,
    /// Largest absolute component of its gradient there.
    #[serde(with = "crate::number")]
    pub gradient: f64,
    /// Iterations of L-BFGS at that λ.
    pub iterations: u64,
    /// Whether the gradient fell below the tolerance.
    pub converged: bool,
}

/// What a few labelled images of each class are worth: nearest class mean in an encoder's features.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FewShotRecord {
    /// Labelled training images of each class.
    pub shots: u64,
    /// Draws of these images.
    pub draws: u64,
    /// Mean top-1 on the test split over the draws, 0 to 1.
    #[serde(with = "crate::number")]
    pub top1: f64,
    /// Sample standard deviation over the draws; absent for one draw.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::number::optional"
    )]
    pub deviation: Option<f64>,
}

/// Test error under common corruptions (Hendrycks & Dietterich 2019).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CorruptionRecord {
    /// Test images that were corrupted (the first ones).
    pub images: u64,
    /// Error of the headline head on the same images without corruption, 0 to 1.
    #[serde(with = "crate::number")]
    pub clean_error: f64,
    /// Mean over all corruptions and severities of the error, 0 to 1. Not divided by another network's errors.
    #[serde(with = "crate::number")]
    pub mean_error: f64,
    /// Mean error of each family: `noise`, `blur`, `weather`, `digital`.
    #[serde(with = "crate::number::by_name")]
    pub families: BTreeMap<String, f64>,
    /// Error of each corruption at severities 1 to 5, by name (`gaussian_noise`, …).
    #[serde(with = "crate::number::lists_by_name")]
    pub corruptions: BTreeMap<String, Vec<f64>>,
}

/// Test images that have a near-duplicate among the training images, and the score without them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DuplicatesRecord {
    /// Test images with a near-duplicate by pixels: the same ones for every arm.
    pub by_pixels: u64,
    /// Further test images that this arm's features led to.
    pub by_features: u64,
    /// Test images without any of these.
    pub images: u64,
    /// Top-1 of the headline head on the test images without near-duplicates by pixels, 0 to 1.
    #[serde(with = "crate::number")]
    pub top1_without_pixels: f64,
    /// Top-1 of the headline head on the test images without any near-duplicate, 0 to 1.
    #[serde(with = "crate::number")]
    pub top1: f64,
    /// Top-1 on the near-duplicates alone; absent where there are none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::number::optional"
    )]
    pub top1_duplicates: Option<f64>,
    /// The pairs, the most alike first: in `results.json` at most 100, all of them in the arm's own record.
    pub pairs: Vec<DuplicatePair>,
}

/// A test image and the training image that it repeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DuplicatePair {
    /// Index in the test split.
    pub test: u64,
    /// Index in the training file.
    pub train: u64,
    /// Normalised cross-correlation of the two images at the best flip and shift, −1 to 1.
    #[serde(with = "crate::number")]
    pub correlation: f64,
    /// The same of their gradients there; 0 in results of older versions.
    #[serde(default, with = "crate::number")]
    pub detail: f64,
    /// Whether the training image was flipped for that.
    pub flipped: bool,
}

/// What the arms were meant to cost, as planned before step 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BudgetRecord {
    /// What was made equal: `epochs`, `flops` or `time`; absent where the recipe's epochs stand as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equalised_by: Option<String>,
    /// By arm.
    pub arms: BTreeMap<String, ArmBudget>,
}

/// What an arm was meant to cost, over every stage that it rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmBudget {
    /// Epochs in which images went through the encoder in training steps.
    pub encoder_epochs: u64,
    /// Epochs of heads on features that were computed once.
    pub head_epochs: u64,
    /// Images that go through the encoder in training steps, each view counted.
    pub images_seen: u64,
    /// Multiply-adds of all training: three times the forward ones of a training step, once those of frozen features.
    pub multiply_adds: u64,
}
