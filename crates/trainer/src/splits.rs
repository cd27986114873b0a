//! The training photographs and who may look at which. The test split is not among them.

use crate::{Error, Recipe, Result, StageId};
use cifar_data::{
    Dataset, Images, Loader, LoaderConfig, Normalization, Policy, Sampler, validation_split,
};
use std::sync::Arc;

/// Decoded training images with their validation split and normalisation.
#[derive(Clone, Debug)]
pub(crate) struct Splits {
    pub images: Arc<Images>,
    pub train: Arc<Vec<usize>>,
    pub validation: Arc<Vec<usize>>,
    pub normalization: Normalization,
    seed: u64,
    drop_last: bool,
    prefetch: usize,
}

impl Splits {
    /// Decodes the training images and carves the validation split from them.
    pub fn open(dataset: &Dataset, recipe: &Recipe) -> Result<Self> {
        let images = Arc::new(dataset.train()?);
        if recipe.data.validation >= images.len() {
            return Err(Error::RecipeField {
                field: "data.validation".to_owned(),
                value: recipe.data.validation.to_string(),
                remedy: format!(
                    "at least one of the {} training images must be left to train on: use fewer",
                    images.len()
                ),
            });
        }
        let split = validation_split(&images.labels, recipe.data.validation, recipe.seed)?;
        let train = match recipe.data.train_limit {
            Some(limit) if limit < split.train.len() => {
                let labels: Vec<u32> = split.train.iter().map(|&i| images.labels[i]).collect();
                let part = validation_split(&labels, limit, recipe.seed)?.validation;
                part.into_iter().map(|i| split.train[i]).collect()
            }
            _ => split.train,
        };
        let normalization = Normalization::fit(&images, &train)?;
        Ok(Self {
            images,
            train: Arc::new(train),
            validation: Arc::new(split.validation),
            normalization,
            seed: recipe.seed,
            drop_last: recipe.data.drop_last,
            prefetch: recipe.data.prefetch,
        })
    }

    /// What the training images look like.
    pub fn pixel_ranges(&self) -> Result<eval::PixelRanges> {
        let photographs = eval::Photographs {
            height: self.images.height,
            width: self.images.width,
            pixels: &self.images.pixels,
        };
        Ok(eval::PixelRanges::fit(&photographs, &self.train)?)
    }

    /// Augmented training batches of a stage.
    pub fn training_loader(
        &self,
        stage: StageId,
        batch_size: usize,
        views: usize,
        policy: Policy,
        sampler: Sampler,
    ) -> Result<Loader> {
        let config = LoaderConfig {
            batch_size,
            views,
            policy,
            sampler,
            seed: self.seed,
            purpose: stage.to_string(),
            normalization: self.normalization,
            drop_last: self.drop_last,
            prefetch: self.prefetch,
            ..LoaderConfig::default()
        };
        Ok(Loader::new(
            Arc::clone(&self.images),
            Arc::clone(&self.train),
            config,
        )?)
    }

    /// Plain images in order, every one once.
    pub fn plain_loader(
        &self,
        images: &Arc<Images>,
        indices: &Arc<Vec<usize>>,
        batch_size: usize,
    ) -> Result<Loader> {
        plain_loader(
            Arc::clone(images),
            Arc::clone(indices),
            LoaderConfig {
                batch_size,
                seed: self.seed,
                normalization: self.normalization,
                prefetch: self.prefetch,
                ..LoaderConfig::default()
            },
        )
    }
}

/// Images in order, every one once, nothing changed but the normalisation.
pub(crate) fn plain_loader(
    images: Arc<Images>,
    indices: Arc<Vec<usize>>,
    config: LoaderConfig,
) -> Result<Loader> {
    let config = LoaderConfig {
        policy: Policy::None,
        sampler: Sampler::Sequential,
        purpose: "plain".to_owned(),
        drop_last: false,
        ..config
    };
    Ok(Loader::new(images, indices, config)?)
}
