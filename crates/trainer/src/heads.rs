//! Heads on a frozen encoder: the linear probe and the source's 512-unit head.
//!
//! Where augmentation is off, features are computed once per image; where it is on, once per step. Either way no
//! graph is built through the encoder, and its weights and statistics stay as they are. The linear probe sees
//! standardised features (see `standard`), the 512-unit head plain ones, as in the source.

use crate::experiment::{Experiment, Outcome};
use crate::feed::{Batch, FeatureFeed, Feed, ImageFeed};
use crate::recipe::Recipe;
use crate::standard::Standard;
use crate::step::{Forward, Place};
use crate::validate::measure_features;
use crate::wheel::Wheel;
use crate::{Result, StageId, StageKind, plan};
use candle_core::Tensor;
use cifar_data::Sampler;
use resnet::Mode;
use std::time::Duration;

/// Trains the stage's head on the arm's frozen encoder.
pub(crate) fn train(lab: &mut Experiment, stage: StageId) -> Result<Outcome> {
    let recipe = lab.recipe().clone();
    let training = match stage.kind {
        StageKind::Head => recipe.head.training(),
        _ => recipe.probe.training(),
    };
    let augment = recipe.augments(stage.kind);
    let frozen = plan::frozen(&recipe, stage);
    let encoder = lab.frozen_encoder(stage)?;
    let head = lab.head(
        Recipe::head_kind(stage.kind),
        recipe.head.dropout,
        encoder.net.feature_dim(),
    )?;
    let splits = lab.splits()?;
    let device = lab.device().clone();
    let encoder_flops = encoder.net.flops(splits.images.height, splits.images.width);

    let mut standard = None;
    if stage.kind == StageKind::Probe {
        let Some(train) = lab.features(stage, &encoder, "train")? else {
            return lab.stopped(stage);
        };
        standard = Some(Standard::of(&train)?);
    }
    let on_one_footing = |features: &Tensor| match &standard {
        Some(standard) => standard.apply(features),
        None => Ok(features.clone()),
    };
    let feed: Box<dyn Feed> = if augment {
        let (views, policy) = (recipe.augment.supervised_views, recipe.policy(stage.kind));
        let loader =
            splits.training_loader(stage, training.batch_size, views, policy, Sampler::Shuffle)?;
        Box::new(ImageFeed { loader, device })
    } else {
        let Some(train) = lab.features(stage, &encoder, "train")? else {
            return lab.stopped(stage);
        };
        Box::new(FeatureFeed {
            features: train.values.clone(),
            labels: train.labels.clone(),
            batch_size: training.batch_size,
            seed: recipe.seed,
            purpose: stage.to_string(),
        })
    };
    let mut validation = None;
    if !splits.validation.is_empty() {
        validation = lab.features(stage, &encoder, "validation")?;
        if validation.is_none() {
            return lab.stopped(stage);
        }
    }
    let extractor = encoder.net.extractor();
    let forward = |batch: &Batch, place: &Place| {
        let features = match augment {
            true => extractor.forward(&batch.input)?, // [V·B, D], without a graph
            false => batch.input.clone(),             // [B, D]
        };
        let features = on_one_footing(&features)?;
        let logits = head
            .net
            .forward(&features, Mode::Train, &mut place.rng("dropout"))?; // [V·B, C]
        Forward::classified(&logits, &batch.row_labels(), training.label_smoothing)
    };

    let groups = [("head", &head.parameters)];
    let mut wheel = Wheel::start(
        lab,
        stage,
        training.clone(),
        &groups,
        feed.steps_per_epoch(),
    )?;
    if !augment {
        // An epoch over features takes a moment; a checkpoint a second is often enough.
        wheel = wheel.checkpoint_every(Duration::from_secs(1));
    }
    let outcome = wheel.run(&*feed, forward, || {
        validation
            .as_ref()
            .map(|v| measure_features(&head, v, on_one_footing))
            .transpose()
    })?;
    let position = wheel.position().clone();
    drop(wheel); // it holds the experiment
    if outcome == Outcome::Finished {
        if let Some(standard) = &standard {
            standard.fold_into(&head)?;
        }
        lab.save(
            &lab.folder.frozen_head(stage.arm, frozen, head.kind),
            &head.parameters,
        )?;
        let per_image = 3 * head.net.flops() + if augment { encoder_flops } else { 0 };
        lab.finish(stage, &position, training.epochs, per_image)?;
    }
    Ok(outcome)
}
