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
    /// Where each kind of figure stands in the run folder: what, and the files.
    pub sources: Vec<(String, String)>,
    /// What was measured during training, stage by stage. A stage that two arms share stands once.
    pub curves: Vec<StageCurve>,
    /// Two-dimensional maps of the arms' features, one entry per method.
    pub maps: Vec<EmbeddingMaps>,
    /// Test photographs with what the arms made of them.
    pub samples: Vec<SamplePhoto>,
    /// All test images, small, with what the arms made of them.
    pub gallery: Option<Gallery>,
    /// How a few validation images lay in the arms' spaces in the course of training.
    pub snapshots: Vec<Snapshots>,
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
    /// Images that went through the arm's encoder in training steps until here, each view counted, earlier stages included.
    pub images: Option<u64>,
    /// Seconds of training until here, earlier stages included.
    pub seconds: Option<f64>,
}

/// Maps of the same images in the feature spaces of several arms.
#[derive(Clone, Debug)]
pub struct EmbeddingMaps {
    /// How the maps were made: `PCA`, `t-SNE`.
    pub method: String,
    /// Position in the test split of each image.
    pub images: Vec<u32>,
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

/// All test images as small pictures, and what each arm made of them: photographs, neighbours and confidence of the
/// report's pages are looked up here.
#[derive(Clone, Debug)]
pub struct Gallery {
    /// True class of each test image.
    pub labels: Vec<u32>,
    /// Their pictures, where they were kept.
    pub pictures: Option<Pictures>,
    /// The arms, in the order of display.
    pub arms: Vec<GalleryArm>,
}

/// Pictures of one size.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// `images · height · width · 3` bytes, image by image, row by row, red green blue.
    pub rgb: Vec<u8>,
}

/// One arm's view of all test images.
#[derive(Clone, Debug)]
pub struct GalleryArm {
    /// The arm.
    pub arm: String,
    /// The class with the highest logit of its headline head, for each image.
    pub predicted: Vec<u32>,
    /// Its softmax probability, 0 to 1.
    pub confidence: Vec<f32>,
    /// The nearest other test images in the arm's feature space, nearest first, equally many for each image; empty for
    /// an arm that shares its features with another one.
    pub neighbours: Vec<Vec<u32>>,
}

/// The same validation images, sorted by class, in one space of an arm at several times of a training stage.
#[derive(Clone, Debug)]
pub struct Snapshots {
    /// The arm.
    pub arm: String,
    /// The space: `features` (of the encoder) or `embeddings` (of the projection head, on which the loss acts).
    pub space: String,
    /// Class of each image, ascending.
    pub labels: Vec<u32>,
    /// The times, ascending.
    pub frames: Vec<SnapshotFrame>,
}

/// One time of [`Snapshots`].
#[derive(Clone, Debug)]
pub struct SnapshotFrame {
    /// Epochs done; 0 before training.
    pub epoch: u64,
    /// Cosines of all images with all, `[N · N]`.
    pub similarity: Vec<f32>,
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
            sources: Vec::new(),
            curves: Vec::new(),
            maps: Vec::new(),
            samples: Vec::new(),
            gallery: None,
            snapshots: Vec::new(),
        }
    }

    /// Do the parts fit together?
    pub(crate) fn check(&self) -> Result<()> {
        let classes = self.results.dataset.classes.len();
        for maps in &self.maps {
            maps.check(classes)?;
        }
        if let Some(gallery) = &self.gallery {
            gallery.check(classes)?;
        }
        for snapshots in &self.snapshots {
            snapshots.check(classes)?;
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

fn invalid(message: String) -> Result<()> {
    Err(Error::Invalid(message))
}

impl EmbeddingMaps {
    fn check(&self, classes: usize) -> Result<()> {
        for map in &self.maps {
            if map.points.len() != self.labels.len() {
                return invalid(format!(
                    "the map of arm \"{}\" has {} points for {} labels; every map shows the same images",
                    map.arm,
                    map.points.len(),
                    self.labels.len()
                ));
            }
        }
        if self.images.len() != self.labels.len() {
            return invalid(format!(
                "the maps name {} images for {} labels; each image has one",
                self.images.len(),
                self.labels.len()
            ));
        }
        match self.labels.iter().find(|label| **label as usize >= classes) {
            Some(label) => invalid(format!(
                "the maps hold label {label}, but the data set names {classes} classes"
            )),
            None => Ok(()),
        }
    }
}

impl Gallery {
    fn check(&self, classes: usize) -> Result<()> {
        let images = self.labels.len();
        if let Some(label) = self.labels.iter().find(|label| **label as usize >= classes) {
            return invalid(format!(
                "the gallery holds label {label}, but the data set names {classes} classes"
            ));
        }
        if let Some(pictures) = &self.pictures {
            let expected = images * pictures.height * pictures.width * 3;
            if expected == 0 || pictures.rgb.len() != expected {
                return invalid(format!(
                    "the gallery: {images} pictures of {}×{} pixels in colour are {expected} bytes, got {}",
                    pictures.height,
                    pictures.width,
                    pictures.rgb.len()
                ));
            }
        }
        for arm in &self.arms {
            let name = &arm.arm;
            if arm.predicted.len() != images || arm.confidence.len() != images {
                return invalid(format!(
                    "the gallery's arm \"{name}\" has {} predictions and {} confidences for {images} images",
                    arm.predicted.len(),
                    arm.confidence.len()
                ));
            }
            if let Some(class) = arm
                .predicted
                .iter()
                .find(|class| **class as usize >= classes)
            {
                return invalid(format!(
                    "the gallery's arm \"{name}\" predicts class {class}, but the data set names {classes} classes"
                ));
            }
            let each = arm.neighbours.first().map_or(0, Vec::len);
            let fits = arm.neighbours.is_empty() || arm.neighbours.len() == images;
            let known = |near: &Vec<u32>| {
                near.len() == each && near.iter().all(|image| (*image as usize) < images)
            };
            if !fits || !arm.neighbours.iter().all(known) {
                return invalid(format!(
                    "the gallery's arm \"{name}\": each of {images} images has {each} neighbours among them"
                ));
            }
        }
        Ok(())
    }
}

impl Snapshots {
    fn check(&self, classes: usize) -> Result<()> {
        let images = self.labels.len();
        if let Some(label) = self.labels.iter().find(|label| **label as usize >= classes) {
            return invalid(format!(
                "the snapshots hold label {label}, but the data set names {classes} classes"
            ));
        }
        match self
            .frames
            .iter()
            .find(|frame| frame.similarity.len() != images * images)
        {
            Some(frame) => invalid(format!(
                "the snapshot of arm \"{}\" after epoch {} has {} similarities for {images} images; expected {}",
                self.arm,
                frame.epoch,
                frame.similarity.len(),
                images * images
            )),
            None => Ok(()),
        }
    }
}
