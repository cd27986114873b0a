//! What a run found, typed: `results.json`.
//!
//! Every map is ordered and every array is written in one way, so equal results are equal bytes. Whatever depends on
//! the clock is taken out by [`Results::without_times`]: a resumed run and an uninterrupted one agree in the rest.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::atomic::write_atomically;
use crate::classification::ClassificationMetrics;
use crate::comparison::Comparison;
use crate::error::{Error, Result};
use crate::findings::{
    BudgetRecord, CorruptionRecord, DuplicatesRecord, FewShotRecord, ProbeRecord,
};
use crate::json::to_json;
use crate::seeds::SeedsSummary;

/// Name and version of the layout of `results.json`. The number grows when an old reader would misread a new file.
pub const SCHEMA: &str = "contrastive-results/1";

/// The arms of the comparison, in the order in which they are shown. Other names are allowed and follow these.
pub const ARMS: [&str; 7] = [
    "baseline",
    "contrastive",
    "control",
    "finetuned",
    "transfer",
    "transfer-frozen",
    "transfer-contrastive",
];

/// All that a run found, and what is needed to judge and repeat it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The data that every arm saw.
    pub dataset: DatasetRecord,
    /// Where it ran.
    pub environment: Environment,
    /// The resolved recipe, as it stands in `config.toml`.
    pub recipe: Value,
    /// The seed of every random stream.
    pub seed: u64,
    /// The command that began the run (a resumed run keeps the first one).
    pub command: String,
    /// What each arm reached, by name ([`ARMS`]).
    pub arms: BTreeMap<String, ArmResult>,
    /// Differences between arms with their intervals, by name (`contrastive-baseline`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub comparisons: BTreeMap<String, Comparison>,
    /// The same over the test images of each class, in the order of the classes; `null` for a class without any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub class_comparisons: BTreeMap<String, Vec<Option<Comparison>>>,
    /// What the arms were meant to cost, as planned before step 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetRecord>,
    /// What several seeds found together, where the run is the first of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds: Option<SeedsSummary>,
    /// What a reader must know before the figures: arms that differ in augmentation, stages that were cut short, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The data set, and where its bytes came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DatasetRecord {
    /// The name that stands wherever a figure stands: `CIFAR-10`, `CIFAR-10 (JPEG mirror)`, `SYNTHETIC shapes`.
    pub name: String,
    /// Where it came from, in words.
    pub source: String,
    /// Drawn by the program: figures from it say nothing about photographs.
    pub synthetic: bool,
    /// Class names, in the order of the labels.
    pub classes: Vec<String>,
    /// SHA-256 (or what the source publishes) by file.
    pub checksums: BTreeMap<String, String>,
    /// Images that were trained on.
    pub train_images: u64,
    /// Images held out of training for every choice.
    pub validation_images: u64,
    /// Images of the test split, read once per arm.
    pub test_images: u64,
    /// Height of an image in pixels.
    pub height: u64,
    /// Width of an image in pixels.
    pub width: u64,
    /// What a reader must know about these data beyond the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The machine and the program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Versions of the program and of what its numbers depend on, by name.
    pub versions: BTreeMap<String, String>,
    /// The commit, with `-dirty` if files differed from it; none outside of a checkout.
    pub git_revision: Option<String>,
    /// Where tensors lived: `cpu`, `cuda:0 (NVIDIA …)`, `metal`.
    pub device: String,
    /// The CPU's name as it reports itself.
    pub cpu: String,
    /// Worker threads.
    pub threads: u64,
    /// The widest instruction set in use: `avx512f`, `avx2+fma`, `neon`, …
    pub simd: String,
    /// Operating system and architecture.
    pub os: String,
    /// The compiler that built the program.
    pub rustc: String,
    /// When the run began, RFC 3339. Depends on the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// When its results were written, RFC 3339. Depends on the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<String>,
}

/// What one arm reached, and what it spent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmResult {
    /// The headline head on the test split, and the features under it.
    pub test: TestMetrics,
    /// Which of `heads` is the headline.
    pub headline: String,
    /// Every head of this arm on the test split, by name (`linear`, `mlp`).
    pub heads: BTreeMap<String, ClassificationMetrics>,
    /// Linear probes at the optimum of their loss, by name: `lbfgs` (all labels), `lbfgs_1pct`, `lbfgs_10pct`, `lbfgs_noise`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub probes: BTreeMap<String, ProbeRecord>,
    /// What a few labelled images of each class are worth, by rising number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub few_shot: Vec<FewShotRecord>,
    /// The headline head under common corruptions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corruption: Option<CorruptionRecord>,
    /// The headline head without the test images that repeat a training image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicates: Option<DuplicatesRecord>,
    /// What it cost.
    pub train: TrainRecord,
}

/// Test figures of an arm: those of its headline head, and those of its encoder's features.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TestMetrics {
    /// The headline head: `top1`, `top5`, `per_class`, `confusion`, `ece`, `nll`.
    #[serde(flatten)]
    pub classification: ClassificationMetrics,
    /// The encoder's features: `knn_top1`, `precision_at_1`, …
    #[serde(flatten)]
    pub embedding: EmbeddingMetrics,
}

/// How good an encoder's features are without any head. What was not computed is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingMetrics {
    /// Top-1 of weighted k-nearest neighbours among the training features.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::number::optional"
    )]
    pub knn_top1: Option<f64>,
    /// How many training features the neighbours were sought among.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knn_bank: Option<usize>,
    /// Share of test images whose nearest other test image is of the same class.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::number::optional"
    )]
    pub precision_at_1: Option<f64>,
    /// Mean average precision at R (Musgrave et al. 2020) among the test images.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::number::optional"
    )]
    pub map_at_r: Option<f64>,
    /// Alignment (Wang & Isola 2020): mean squared distance of positive pairs; smaller is tighter.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::number::optional"
    )]
    pub alignment: Option<f64>,
    /// Uniformity (Wang & Isola 2020): log mean Gaussian potential; smaller is more even.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::number::optional"
    )]
    pub uniformity: Option<f64>,
    /// Effective rank of the features (Roy & Vetterli 2007): how many directions are in use.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::number::optional"
    )]
    pub effective_rank: Option<f64>,
}

/// What an arm's result cost, over every stage that it rests on, those shared with other arms included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainRecord {
    /// Epochs over all stages.
    pub epochs: u64,
    /// Images that went through the encoder in training steps, each view counted; 0 where a stage read features that were
    /// computed once.
    pub images_seen: u64,
    /// Multiply-adds spent on training steps, forward and backward.
    pub multiply_adds: u64,
    /// Seconds of training, checkpoints and validation included. Depends on the clock.
    #[serde(with = "crate::number")]
    pub seconds: f64,
    /// `images_seen` per second of the stages that saw images. Depends on the clock.
    #[serde(with = "crate::number")]
    pub images_per_second: f64,
    /// The stages, in the order in which they ran.
    pub stages: Vec<StageRecord>,
}

impl TrainRecord {
    /// Epochs of the stages in which images went through the encoder: what arms are compared by.
    pub fn encoder_epochs(&self) -> u64 {
        let trained = self.stages.iter().filter(|stage| stage.images_seen > 0);
        trained.map(|stage| stage.epochs).sum()
    }
}

/// What one stage cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Its name: `supervised`, `pretrain`, `probe-linear`, …
    pub name: String,
    /// Epochs.
    pub epochs: u64,
    /// Images that went through the encoder in training steps, each view counted; 0 where a stage read features that were
    /// computed once.
    pub images_seen: u64,
    /// Multiply-adds spent.
    pub multiply_adds: u64,
    /// Seconds. Depends on the clock.
    #[serde(with = "crate::number")]
    pub seconds: f64,
    /// Images per second. Depends on the clock.
    #[serde(with = "crate::number")]
    pub images_per_second: f64,
    /// Energy of the processor packages in joules, where the machine tells (memory and accelerators not counted). Depends
    /// on the clock.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::number::optional"
    )]
    pub joules: Option<f64>,
}

impl DatasetRecord {
    /// The name as it stands beside figures: drawn data are called SYNTHETIC whatever their name.
    pub fn label(&self) -> String {
        if self.synthetic && !self.name.contains("SYNTHETIC") {
            return format!("SYNTHETIC: {}", self.name);
        }
        self.name.clone()
    }
}

impl TestMetrics {
    /// Number of test images behind the figures: the sum of the confusion matrix.
    pub fn images(&self) -> u64 {
        self.classification.confusion.iter().flatten().sum()
    }
}

impl TrainRecord {
    /// The sums over `stages`.
    pub fn over(stages: Vec<StageRecord>) -> Self {
        let seconds = stages.iter().map(|stage| stage.seconds).sum();
        let images_seen = stages
            .iter()
            .fold(0u64, |sum, stage| sum.saturating_add(stage.images_seen));
        let image_seconds: f64 = stages
            .iter()
            .filter(|stage| stage.images_seen > 0)
            .map(|stage| stage.seconds)
            .sum();
        TrainRecord {
            epochs: stages.iter().map(|stage| stage.epochs).sum(),
            images_seen,
            multiply_adds: stages
                .iter()
                .fold(0u64, |sum, stage| sum.saturating_add(stage.multiply_adds)),
            seconds,
            images_per_second: if image_seconds > 0.0 {
                images_seen as f64 / image_seconds
            } else {
                0.0
            },
            stages,
        }
    }
}

impl TrainRecord {
    /// Energy over all stages in joules; none where one of them was not measured.
    pub fn joules(&self) -> Option<f64> {
        self.stages.iter().map(|stage| stage.joules).sum()
    }
}

impl ArmResult {
    /// An arm whose headline is `heads[headline]`.
    ///
    /// # Errors
    /// If there is no head of that name.
    pub fn new(
        headline: &str,
        heads: BTreeMap<String, ClassificationMetrics>,
        embedding: EmbeddingMetrics,
        train: TrainRecord,
    ) -> Result<Self> {
        let Some(classification) = heads.get(headline).cloned() else {
            let known: Vec<&str> = heads.keys().map(String::as_str).collect();
            return Err(Error::Invalid(format!(
                "the headline head is \"{headline}\", but the arm has only [{}]; name one of these",
                known.join(", ")
            )));
        };
        Ok(ArmResult {
            test: TestMetrics {
                classification,
                embedding,
            },
            headline: headline.to_owned(),
            heads,
            probes: BTreeMap::new(),
            few_shot: Vec::new(),
            corruption: None,
            duplicates: None,
            train,
        })
    }
}

impl Results {
    /// Results of no arm yet.
    pub fn new(
        dataset: DatasetRecord,
        environment: Environment,
        recipe: Value,
        seed: u64,
        command: &str,
    ) -> Self {
        Results {
            schema: SCHEMA.to_owned(),
            dataset,
            environment,
            recipe,
            seed,
            command: command.to_owned(),
            arms: BTreeMap::new(),
            comparisons: BTreeMap::new(),
            class_comparisons: BTreeMap::new(),
            budget: None,
            seeds: None,
            notes: Vec::new(),
        }
    }

    /// The arms in the order of [`ARMS`], then the others by name.
    pub fn arms_in_order(&self) -> Vec<(&str, &ArmResult)> {
        let rank = |name: &str| {
            ARMS.iter()
                .position(|arm| *arm == name)
                .unwrap_or(ARMS.len())
        };
        let mut arms: Vec<_> = self
            .arms
            .iter()
            .map(|(name, arm)| (name.as_str(), arm))
            .collect();
        arms.sort_by_key(|(name, _)| rank(name));
        arms
    }

    /// The difference in test top-1 between two arms: the recorded one ([`Results::compare`]), else the wider one
    /// that follows from the two accuracies alone. `None` where an arm is missing or has no test images.
    pub fn comparison(&self, arm: &str, against: &str) -> Option<Comparison> {
        if let Some(recorded) = self.comparisons.get(&comparison_key(arm, against)) {
            return Some(recorded.clone());
        }
        let (first, second) = (&self.arms.get(arm)?.test, &self.arms.get(against)?.test);
        Comparison::unpaired(hits(first)?, hits(second)?)
    }

    /// The difference among the test images of a class: as [`Results::comparison`].
    pub(crate) fn class_comparison(
        &self,
        arm: &str,
        against: &str,
        class: usize,
    ) -> Option<Comparison> {
        if let Some(recorded) = self.class_comparisons.get(&comparison_key(arm, against)) {
            return recorded.get(class).cloned().flatten();
        }
        let counted = |arm: &str| {
            let confusion = &self.arms.get(arm)?.test.classification.confusion;
            let row = confusion.get(class)?;
            Some((*row.get(class)?, row.iter().sum()))
        };
        Comparison::unpaired(counted(arm)?, counted(against)?)
    }

    /// Records the difference in test top-1 between two arms from what each got right, image by image, over all images and
    /// over those of each class (`labels`).
    ///
    /// # Errors
    /// If the lists differ in length or are empty.
    pub fn compare(
        &mut self,
        arm: &str,
        right: &[bool],
        against: &str,
        right_there: &[bool],
        labels: &[u32],
    ) -> Result<()> {
        let difference = Comparison::paired(right, right_there)?;
        if labels.len() != right.len() {
            return Err(Error::Invalid(format!(
                "a comparison by class needs a label for each test image, got {} for {}",
                labels.len(),
                right.len()
            )));
        }
        let by_class = (0..self.dataset.classes.len()).map(|class| {
            let of_class = |all: &[bool]| -> Vec<bool> {
                let images = all.iter().zip(labels);
                images
                    .filter(|(_, label)| **label as usize == class)
                    .map(|(right, _)| *right)
                    .collect()
            };
            Comparison::paired(&of_class(right), &of_class(right_there)).ok()
        });
        let by_class = by_class.collect();
        let key = comparison_key(arm, against);
        self.class_comparisons.insert(key.clone(), by_class);
        self.comparisons.insert(key, difference);
        Ok(())
    }

    /// The same results with everything that depends on the clock taken out: seconds and rates are zero, dates absent.
    pub fn without_times(&self) -> Self {
        let mut still = self.clone();
        still.environment.started = None;
        still.environment.finished = None;
        for arm in still.arms.values_mut() {
            arm.train.seconds = 0.0;
            arm.train.images_per_second = 0.0;
            for stage in &mut arm.train.stages {
                stage.seconds = 0.0;
                stage.images_per_second = 0.0;
                stage.joules = None;
            }
        }
        still
    }

    /// The text of `results.json`: equal results give equal text. Numbers that are not finite are `null`.
    pub fn to_json(&self) -> Result<String> {
        to_json(self)
    }

    /// Writes `results.json` atomically; the folder must exist.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomically(path, self.to_json()?.as_bytes())
    }

    /// Reads what [`Results::save`] wrote.
    ///
    /// # Errors
    /// If the file cannot be read, is not JSON, has another schema, or lacks a field; the message names the file.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        let broken = |source| Error::Json {
            path: path.to_owned(),
            expected: "results of a run",
            source,
        };
        // The schema comes first: a file of another version should be called that, not "missing field".
        let head: BTreeMap<String, Value> = serde_json::from_str(&text).map_err(broken)?;
        let found = head.get("schema");
        if found.and_then(Value::as_str) != Some(SCHEMA) {
            return Err(Error::Schema {
                path: path.to_owned(),
                expected: SCHEMA.to_owned(),
                found: found.map_or_else(|| "missing".to_owned(), Value::to_string),
            });
        }
        serde_json::from_str(&text).map_err(broken)
    }
}

fn comparison_key(arm: &str, against: &str) -> String {
    format!("{arm}-{against}")
}

/// Correct images and all images; the diagonal and the sum of the confusion matrix.
fn hits(test: &TestMetrics) -> Option<(u64, u64)> {
    let confusion = &test.classification.confusion;
    let right = confusion
        .iter()
        .enumerate()
        .filter_map(|(class, row)| row.get(class))
        .sum();
    let images = test.images();
    (images > 0).then_some((right, images))
}
