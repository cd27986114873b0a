//! A finished arm, opened for use: photographs in, features, classes and neighbours out. Nothing is written, no lock is taken.

use crate::environment::RunRecord;
use crate::features::FeatureSet;
use crate::folder::{CONFIG, ENVIRONMENT, RunFolder, read_recipe};
use crate::model::{Encoder, Head};
use crate::recipe::{CheckedRecipe, HeadKind};
use crate::splits::{Splits, plain_loader};
use crate::{Arm, Error, Result, StageId, StageKind, files, plan, resume};
use candle_core::{D, Device};
use cifar_data::{Dataset, DatasetInfo, Images, LoaderConfig, Normalization};
use eval::{Familiarity, Features, Neighbour, PixelRanges};
use std::path::Path;
use std::sync::Arc;

/// A finished arm of a run: its encoder, the head that its headline figure comes from, and the training features.
#[derive(Debug)]
pub struct TrainedArm {
    pub(crate) folder: RunFolder,
    pub(crate) recipe: CheckedRecipe,
    pub(crate) record: RunRecord,
    pub(crate) arm: Arm,
    pub(crate) encoder: Encoder,
    pub(crate) head: Head,
    device: Device,
}

/// What a head makes of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Softmax of the logits, one for each class in label order.
    pub probabilities: Vec<f32>,
}

impl Prediction {
    /// Classes and their probabilities, the most probable first; of equals, the lower class first.
    pub fn ranked(&self) -> Vec<(usize, f32)> {
        let mut ranked: Vec<(usize, f32)> =
            self.probabilities.iter().copied().enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked
    }
}

impl TrainedArm {
    /// Opens an arm whose evaluation is done.
    ///
    /// # Errors
    /// If the folder holds no run, the run has no such arm or it is not finished, or a file of it is damaged.
    pub fn open(run_dir: impl AsRef<Path>, arm: Arm, device: &Device) -> Result<Self> {
        let run_dir = run_dir.as_ref();
        let folder = RunFolder::read(run_dir)?;
        let recipe = read_recipe(&run_dir.join(CONFIG))?;
        let record: RunRecord = files::read_json(&run_dir.join(ENVIRONMENT))?;
        let stages = plan::stages(&recipe);
        if !stages.iter().any(|stage| stage.arm == arm) {
            let mut known: Vec<&str> = stages.iter().map(|stage| stage.arm.name()).collect();
            known.dedup();
            return Err(Error::NoArm {
                path: run_dir.to_owned(),
                arm,
                known: known.join(", "),
            });
        }
        let evaluation = StageId::new(arm, StageKind::Evaluate);
        let needed = plan::needs(&recipe, evaluation).into_iter();
        if let Some(needs) = needed
            .chain([evaluation])
            .find(|stage| !folder.is_done(*stage))
        {
            return Err(Error::Unfinished {
                path: run_dir.to_owned(),
                arm,
                needs,
            });
        }
        let frozen = plan::frozen(&recipe, evaluation);
        let encoder = Encoder::new(&recipe.model, recipe.seed, device)?;
        encoder.load(&folder.frozen_encoder(frozen))?;
        let kind = (plan::heads(&recipe, arm).first().copied()).unwrap_or(HeadKind::Linear);
        let head = Head::new(
            kind,
            0.0,
            encoder.net.feature_dim(),
            record.dataset.classes.len(),
            recipe.model.linear_init(),
            recipe.seed,
            device,
        )?;
        head.load(&folder.frozen_head(arm, frozen, kind))?;
        Ok(Self {
            folder,
            recipe,
            record,
            arm,
            encoder,
            head,
            device: device.clone(),
        })
    }

    /// Which arm it is.
    pub fn arm(&self) -> Arm {
        self.arm
    }

    /// The resolved recipe of the run.
    pub fn recipe(&self) -> &CheckedRecipe {
        &self.recipe
    }

    /// The data that it was trained on: class names, and the size that photographs are brought to.
    pub fn dataset(&self) -> &DatasetInfo {
        &self.record.dataset
    }

    /// How its images were normalised.
    pub fn normalization(&self) -> Normalization {
        self.record.normalization
    }

    /// Features `[N, D]` of images of the data's size, which are normalised as in training. The labels are the images'.
    ///
    /// # Errors
    /// If the images have another size, or a tensor operation fails.
    pub fn embed(&self, images: &Images) -> Result<Features> {
        self.features(images)?.to_eval()
    }

    /// What the headline head makes of each image.
    ///
    /// # Errors
    /// As [`embed`](Self::embed).
    pub fn predict(&self, images: &Images) -> Result<Vec<Prediction>> {
        let features = self.features(images)?;
        let logits = self.head.logits(&features.values)?; // [N, C]
        let peak = logits.max_keepdim(D::Minus1)?;
        let odds = logits.broadcast_sub(&peak)?.exp()?;
        let probabilities = odds.broadcast_div(&odds.sum_keepdim(D::Minus1)?)?;
        let rows = probabilities.to_device(&Device::Cpu)?.to_vec2()?;
        let prediction = |probabilities| Prediction { probabilities };
        Ok(rows.into_iter().map(prediction).collect())
    }

    fn features(&self, images: &Images) -> Result<FeatureSet> {
        let data = self.dataset();
        if (images.height, images.width) != (data.height, data.width) {
            return Err(Error::Unfit {
                message: format!(
                    "the images have {}×{} pixels, the run's have {}×{}: bring them to that size first",
                    images.height, images.width, data.height, data.width
                ),
            });
        }
        let config = LoaderConfig {
            batch_size: self.recipe.evaluate.batch_size,
            normalization: self.record.normalization,
            seed: self.recipe.seed,
            ..LoaderConfig::default()
        };
        let all = Arc::new((0..images.len()).collect());
        let loader = plain_loader(Arc::new(images.clone()), all, config)?;
        let features = FeatureSet::compute(&loader, &self.encoder, &self.device, |_| true)?;
        features.ok_or_else(|| Error::Unfit {
            message: "there is no image to look at: name at least one".to_owned(),
        })
    }

    /// The features of the training images, in the order of [`training_images`](Self::training_images).
    ///
    /// # Errors
    /// If the file is missing or damaged.
    pub fn training_features(&self) -> Result<Features> {
        FeatureSet::load(&self.table("train"), &Device::Cpu)?.to_eval()
    }

    /// The criterion by which an image is unlike the training data: the validation images' distances, or, in a run without any, the
    /// training images'.
    ///
    /// # Errors
    /// As [`training_features`](Self::training_features).
    pub fn familiarity(&self, train: &Features) -> Result<Familiarity> {
        let path = self.table("validation");
        let validation = match path.exists() {
            true => Some(FeatureSet::load(&path, &Device::Cpu)?.to_eval()?),
            false => None,
        };
        Ok(Familiarity::fit(train, validation.as_ref())?)
    }

    /// What the training images look like, as the run recorded it; none in a run of an older version.
    pub fn recorded_pixel_ranges(&self) -> Option<PixelRanges> {
        self.record.pixels
    }

    /// The same, measured from the data set's training images.
    ///
    /// # Errors
    /// As [`training_images`](Self::training_images).
    pub fn measure_pixel_ranges(&self, dataset: &Dataset) -> Result<PixelRanges> {
        self.splits(dataset)?.pixel_ranges()
    }

    /// The `count` training images whose features are nearest to those of each image, with their rows in `train`.
    ///
    /// # Errors
    /// As [`embed`](Self::embed).
    pub fn nearest(
        &self,
        train: &Features,
        images: &Images,
        count: usize,
    ) -> Result<Vec<Vec<Neighbour>>> {
        Ok(eval::nearest(train, &self.embed(images)?, count)?)
    }

    /// The data set's training images, and which of them each row of the training features is.
    ///
    /// # Errors
    /// If these are other data than the run was made of.
    pub fn training_images(&self, dataset: &Dataset) -> Result<(Arc<Images>, Arc<Vec<usize>>)> {
        let splits = self.splits(dataset)?;
        Ok((splits.images, splits.train))
    }

    fn splits(&self, dataset: &Dataset) -> Result<Splits> {
        resume::same_data(self.folder.path(), &self.record.dataset, dataset.info())?;
        Splits::open(dataset, &self.recipe)
    }

    fn table(&self, split: &str) -> std::path::PathBuf {
        let stage = StageId::new(self.arm, StageKind::Evaluate);
        self.folder
            .features(plan::frozen(&self.recipe, stage), split)
    }
}
