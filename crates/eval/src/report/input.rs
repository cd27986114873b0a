//! What the report is made from.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::results::Results;

/// All that the report shows. Only `results` is needed; a section without data is left out.
#[derive(Clone, Debug)]
pub struct ReportInput {
    /// The figures. Recipe, command, environment and data set are shown from here, too.
    pub results: Results,
    /// The resolved recipe as text (TOML); empty: shown from `results.recipe`.
    pub recipe_text: String,
    /// What was measured during training, stage by stage. A stage that two arms share stands once.
    pub curves: Vec<StageCurve>,
    /// Two-dimensional maps of the arms' features.
    pub maps: Option<EmbeddingMaps>,
    /// Test photographs with what the arms made of them.
    pub samples: Vec<SamplePhoto>,
}

/// The course of one stage.
#[derive(Clone, Debug)]
pub struct StageCurve {
    /// The arm that it belongs to, or the first of those that share it: `baseline`, …
    pub arm: String,
    /// The stage: `supervised`, `pretrain`, `probe-linear`, …
    pub stage: String,
    /// What the loss is: `cross-entropy`, `npairs`, …
    pub loss: String,
    /// The loss at which all embeddings are one point, drawn as a line (contrastive stages).
    pub collapse: Option<f64>,
    /// One point per epoch.
    pub points: Vec<CurvePoint>,
}

/// What was measured at the end of an epoch. What was not measured is `None`; NaN leaves a gap.
#[derive(Clone, Debug, Default)]
pub struct CurvePoint {
    /// Epochs done within the stage, from 1.
    pub epoch: f64,
    /// Mean training loss of the epoch.
    pub train_loss: f64,
    /// Loss on the validation split.
    pub validation_loss: Option<f64>,
    /// Top-1 on the validation split, 0 to 1.
    pub validation_top1: Option<f64>,
    /// Multiply-adds spent by the arm until here, earlier stages included.
    pub multiply_adds: Option<u64>,
}

/// Maps of the same images in the feature spaces of several arms.
#[derive(Clone, Debug)]
pub struct EmbeddingMaps {
    /// How the maps were made: `PCA`.
    pub method: String,
    /// True class of each image.
    pub labels: Vec<u32>,
    /// One map per arm, in the order of display.
    pub maps: Vec<EmbeddingMap>,
}

/// One arm's map.
#[derive(Clone, Debug)]
pub struct EmbeddingMap {
    /// The arm.
    pub arm: String,
    /// Position of each image, in the order of [`EmbeddingMaps::labels`].
    pub points: Vec<[f32; 2]>,
    /// Share of the features' variance along each axis, where known.
    pub explained: Option<[f64; 2]>,
}

/// A test photograph and what each arm made of it.
#[derive(Clone, Debug)]
pub struct SamplePhoto {
    /// Position in the test split.
    pub index: u64,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// `height · width · 3` bytes, row by row, red green blue.
    pub rgb: Vec<u8>,
    /// True class.
    pub label: u32,
    /// Each arm's answer.
    pub predictions: BTreeMap<String, SamplePrediction>,
}

/// An arm's answer to one photograph.
#[derive(Clone, Copy, Debug)]
pub struct SamplePrediction {
    /// The class with the highest logit.
    pub class: u32,
    /// Its softmax probability, 0 to 1.
    pub confidence: f64,
}

impl ReportInput {
    /// A report of figures alone; add curves, maps and photographs as they are at hand.
    pub fn new(results: Results) -> Self {
        ReportInput {
            results,
            recipe_text: String::new(),
            curves: Vec::new(),
            maps: None,
            samples: Vec::new(),
        }
    }

    /// Do the parts fit together?
    pub(crate) fn check(&self) -> Result<()> {
        let classes = self.results.dataset.classes.len();
        let invalid = |message: String| Err(Error::Invalid(message));
        if let Some(maps) = &self.maps {
            for map in &maps.maps {
                if map.points.len() != maps.labels.len() {
                    return invalid(format!(
                        "the map of arm \"{}\" has {} points for {} labels; every map shows the same images",
                        map.arm,
                        map.points.len(),
                        maps.labels.len()
                    ));
                }
            }
            if let Some(label) = maps.labels.iter().find(|label| **label as usize >= classes) {
                return invalid(format!(
                    "the maps hold label {label}, but the data set names {classes} classes"
                ));
            }
        }
        for photo in &self.samples {
            let expected = photo.height * photo.width * 3;
            if expected == 0 || photo.rgb.len() != expected {
                return invalid(format!(
                    "sample {}: {}×{} pixels in colour are {expected} bytes, got {}",
                    photo.index,
                    photo.height,
                    photo.width,
                    photo.rgb.len()
                ));
            }
            let answers = photo
                .predictions
                .values()
                .map(|prediction| prediction.class);
            if let Some(class) = answers
                .chain([photo.label])
                .find(|class| *class as usize >= classes)
            {
                return invalid(format!(
                    "sample {}: class {class}, but the data set names {classes} classes",
                    photo.index
                ));
            }
        }
        for (name, arm) in &self.results.arms {
            let confusion = &arm.test.classification.confusion;
            let square =
                confusion.len() == classes && confusion.iter().all(|row| row.len() == classes);
            if !confusion.is_empty() && !square {
                return invalid(format!(
                    "arm \"{name}\": the confusion matrix must be {classes}×{classes}, one row per class of the data set"
                ));
            }
        }
        Ok(())
    }
}
