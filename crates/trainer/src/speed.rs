//! How long stages take: first steps are timed on a throw-away copy, before step 0. A recipe with a budget gets its
//! epochs from this once; afterwards they stand in `config.toml` and are never scaled again.

use crate::environment::RunRecord;
use crate::feed::{Batch, FeatureFeed, Feed, ImageFeed};
use crate::model::{Contrastive, Encoder, Head, Supervised};
use crate::recipe::{CheckedRecipe, Recipe, ScheduleConfig};
use crate::requested::{Counts, Requested};
use crate::splits::Splits;
use crate::step::{Forward, Place, Stepper};
use crate::{Arm, Error, Result, StageId, StageKind, Training, plan, training_thread};
use candle_core::{Device, Tensor};
use cifar_data::Sampler;
use resnet::{Mode, Parameters};
use std::collections::BTreeMap;
use std::time::Instant;

/// Steps that are timed, after one that warms up.
const TIMED: usize = 2;
/// The share of a budget that is planned with; the rest is for checkpoints, the report and a busier machine.
const PLANNED: f64 = 0.92;

/// How long each stage will take.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// Seconds by stage, in running order; 0 for stages that are done.
    pub stages: Vec<(StageId, f64)>,
    /// Seconds of the report at the end: maps and neighbours of the test images.
    pub report_seconds: f64,
}

impl Estimate {
    /// Seconds of everything.
    pub fn total_seconds(&self) -> f64 {
        self.stages.iter().map(|(_, seconds)| seconds).sum::<f64>() + self.report_seconds
    }
}

/// Images per second by kind of work; rows (images times views) for training.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speeds {
    supervised: f64,
    pretrain: f64,
    features: f64,
    probe: f64,
    head: f64,
    /// Length of a feature vector.
    dim: usize,
    /// Measurements on request, and the report.
    requested: Requested,
}

impl Speeds {
    /// Times the first steps of what the recipe will do, on networks that are thrown away.
    pub fn measure(
        recipe: &Recipe,
        splits: &Splits,
        classes: usize,
        device: &Device,
    ) -> Result<Self> {
        training_thread(|| {
            let needs =
                |kinds: &[StageKind]| plan::stages(recipe).iter().any(|s| kinds.contains(&s.kind));
            let encoder = || Encoder::new(&recipe.model, recipe.seed, device);
            let head = |dim| {
                Head::new(
                    recipe.supervised.head,
                    recipe.supervised.dropout,
                    dim,
                    classes,
                    recipe.model.linear_init(),
                    recipe.seed,
                    device,
                )
            };
            let mut speeds = Self {
                supervised: f64::INFINITY,
                pretrain: f64::INFINITY,
                features: 0.0,
                probe: 0.0,
                head: 0.0,
                dim: 0,
                requested: Requested::default(),
            };
            if needs(&[StageKind::Supervised, StageKind::Finetune]) {
                let encoder = encoder()?;
                let head = head(encoder.net.feature_dim())?;
                let model = Supervised {
                    encoder,
                    head,
                    smoothing: 0.0,
                };
                let kind = if recipe.arms.baseline {
                    StageKind::Supervised
                } else {
                    StageKind::Finetune
                };
                let feed = image_feed(
                    recipe,
                    splits,
                    kind,
                    recipe.augment.supervised_views,
                    device,
                )?;
                let mut forward = |batch: &Batch, place: &Place| model.forward(batch, place);
                speeds.supervised = time(recipe, kind, &feed, &model.groups(), &mut forward)?;
            }
            if needs(&[StageKind::Pretrain]) {
                let model = Contrastive::new(recipe, encoder()?, classes, device)?;
                let feed = image_feed(
                    recipe,
                    splits,
                    StageKind::Pretrain,
                    recipe.augment.views,
                    device,
                )?;
                let mut forward = |batch: &Batch, place: &Place| model.forward(batch, place);
                speeds.pretrain = time(
                    recipe,
                    StageKind::Pretrain,
                    &feed,
                    &model.groups(),
                    &mut forward,
                )?;
            }
            let encoder = encoder()?;
            speeds.features = time_features(recipe, splits, &encoder, device)?;
            let dim = encoder.net.feature_dim();
            speeds.dim = dim;
            speeds.requested = Requested::measure(recipe, splits, classes, dim)?;
            for (kind, speed) in [
                (StageKind::Probe, &mut speeds.probe),
                (StageKind::Head, &mut speeds.head),
            ] {
                let head = Head::new(
                    Recipe::head_kind(kind),
                    recipe.head.dropout,
                    dim,
                    classes,
                    recipe.model.linear_init(),
                    recipe.seed,
                    device,
                )?;
                let batch_size = recipe.training(kind).map_or(2, |t| t.batch_size);
                let feed = FeatureFeed {
                    features: Tensor::zeros((batch_size, dim), candle_core::DType::F32, device)?,
                    labels: vec![0; batch_size],
                    batch_size,
                    seed: 0,
                    purpose: "speed".to_owned(),
                };
                let mut forward = |batch: &Batch, place: &Place| {
                    let logits =
                        head.net
                            .forward(&batch.input, Mode::Train, &mut place.rng("dropout"))?;
                    Forward::classified(&logits, &batch.labels, 0.0)
                };
                *speed = time(
                    recipe,
                    kind,
                    &feed,
                    &[("head", &head.parameters)],
                    &mut forward,
                )?;
            }
            Ok(speeds)
        })
    }

    /// For `environment.json`.
    pub fn by_name(&self) -> BTreeMap<String, f64> {
        let all = [
            ("supervised", self.supervised),
            ("pretrain", self.pretrain),
            ("features", self.features),
            ("probe", self.probe),
            ("head", self.head),
        ];
        all.into_iter()
            .filter(|(_, speed)| speed.is_finite())
            .map(|(name, speed)| (name.to_owned(), speed))
            .collect()
    }
}

fn image_feed(
    recipe: &Recipe,
    splits: &Splits,
    kind: StageKind,
    views: usize,
    device: &Device,
) -> Result<ImageFeed> {
    let stage = StageId::new(Arm::Baseline, kind);
    let batch_size = recipe.training(kind).map_or(2, |t| t.batch_size);
    let loader = splits.training_loader(
        stage,
        batch_size,
        views,
        recipe.policy(kind),
        Sampler::Shuffle,
    )?;
    Ok(ImageFeed {
        loader,
        device: device.clone(),
    })
}

/// Rows per second of training steps.
fn time(
    recipe: &Recipe,
    kind: StageKind,
    feed: &dyn Feed,
    groups: &[(&str, &Parameters)],
    forward: &mut dyn FnMut(&Batch, &Place) -> Result<Forward>,
) -> Result<f64> {
    let training = recipe
        .training(kind)
        .unwrap_or_else(|| recipe.supervised.training());
    let mut stepper = Stepper::new(
        &Training {
            epochs: 1,
            ..training
        },
        groups,
        feed.steps_per_epoch(),
    )?;
    let stage = StageId::new(Arm::Baseline, kind);
    let (mut rows, mut started) = (0, Instant::now());
    let batches = (0..=TIMED)
        .flat_map(|epoch| feed.epoch(epoch, 0))
        .take(1 + TIMED);
    for (step, batch) in batches.enumerate() {
        let batch = batch?;
        let (count, place) = (
            batch.rows(),
            Place {
                seed: recipe.seed,
                stage,
                epoch: 0,
                step,
                part: 0,
            },
        );
        match stepper.step(batch, place, step, forward) {
            Ok(_) | Err(Error::NonFinite { .. }) => {} // the real stage will say so, with its checkpoint in place
            Err(e) => return Err(e),
        }
        if step == 0 {
            started = Instant::now();
        } else {
            rows += count;
        }
    }
    for (_, parameters) in groups {
        parameters.device().synchronize()?;
    }
    Ok(rows.max(1) as f64 / started.elapsed().as_secs_f64().max(1e-6))
}

/// Images per second without a graph.
fn time_features(
    recipe: &Recipe,
    splits: &Splits,
    encoder: &Encoder,
    device: &Device,
) -> Result<f64> {
    let loader = splits.plain_loader(&splits.images, &splits.train, recipe.evaluate.batch_size)?;
    let extractor = encoder.net.extractor();
    let (mut images, mut started) = (0, Instant::now());
    for (step, batch) in loader.epoch(0, 0).take(2).enumerate() {
        let batch = Batch::new(batch?, device)?;
        extractor
            .forward(&batch.input)?
            .sum_all()?
            .to_scalar::<f32>()?;
        if step == 0 && loader.steps_per_epoch() > 1 {
            started = Instant::now();
        } else {
            images += batch.labels.len();
        }
    }
    Ok(images.max(1) as f64 / started.elapsed().as_secs_f64().max(1e-6))
}

/// What every stage will take at these speeds.
pub(crate) fn estimate(recipe: &Recipe, speeds: &Speeds, record: &RunRecord) -> Estimate {
    let train = record.train_images as f64;
    let validation = record.validation_images as f64;
    let images = Counts {
        train: record.train_images,
        test: record.test_images,
        classes: record.dataset.classes.len(),
    };
    let mut tables = Vec::new();
    let mut stages = Vec::new();
    for stage in plan::stages(recipe) {
        let epochs = recipe.training(stage.kind).map_or(0, |t| t.epochs) as f64;
        let frozen = plan::frozen(recipe, stage);
        // The first stage that reads an encoder computes its features.
        let mut table = || {
            let first = !tables.contains(&frozen);
            tables.push(frozen);
            if first {
                (train + validation) / speeds.features
            } else {
                0.0
            }
        };
        let seconds = match stage.kind {
            StageKind::Supervised | StageKind::Finetune => {
                let views = recipe.augment.supervised_views as f64;
                epochs * (train * views / speeds.supervised + validation / speeds.features)
            }
            StageKind::Pretrain => epochs * train * recipe.augment.views as f64 / speeds.pretrain,
            StageKind::Probe | StageKind::Head => {
                let augment = recipe.augments(stage.kind);
                let speed = if stage.kind == StageKind::Probe {
                    speeds.probe
                } else {
                    speeds.head
                };
                let rows = train
                    * if augment {
                        recipe.augment.supervised_views as f64
                    } else {
                        1.0
                    };
                let pixels = if augment {
                    epochs * rows / speeds.features
                } else {
                    table()
                };
                pixels + epochs * rows / speed
            }
            StageKind::Evaluate => {
                let requested = &speeds.requested;
                table()
                    + record.test_images as f64 / speeds.features
                    + requested.evaluation(recipe, stage.arm, images, speeds.dim, speeds.features)
            }
        };
        stages.push((stage, seconds));
    }
    Estimate {
        stages,
        report_seconds: speeds.requested.report(recipe, images, speeds.dim),
    }
}

/// Lowers the epochs of all encoder stages (and of heads that see augmented images) by one factor, so that the run fits
/// into `minutes`. Never raises them, never below 1.
pub(crate) fn fit(
    recipe: &CheckedRecipe,
    speeds: &Speeds,
    record: &RunRecord,
    minutes: f64,
) -> Result<CheckedRecipe> {
    let budget = minutes * 60.0 * PLANNED;
    let fits =
        |factor: f64| estimate(&scaled(recipe, factor), speeds, record).total_seconds() <= budget;
    if fits(1.0) {
        return recipe.clone().into_inner().check();
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        if fits(middle) {
            low = middle
        } else {
            high = middle
        }
    }
    scaled(recipe, low).check()
}

fn scaled(recipe: &Recipe, factor: f64) -> Recipe {
    let mut recipe = recipe.clone();
    let scale = |epochs: &mut usize, schedule: &mut ScheduleConfig| {
        let asked = (*epochs).max(1);
        let fewer = ((asked as f64 * factor).floor() as usize).clamp(1, asked);
        set_epochs(epochs, schedule, fewer);
    };
    scale(
        &mut recipe.supervised.epochs,
        &mut recipe.supervised.schedule,
    );
    scale(&mut recipe.pretrain.epochs, &mut recipe.pretrain.schedule);
    scale(&mut recipe.finetune.epochs, &mut recipe.finetune.schedule);
    if recipe.probe.augment && recipe.probe.epochs > 0 {
        scale(&mut recipe.probe.epochs, &mut recipe.probe.schedule);
    }
    if recipe.head.augment && recipe.head.epochs > 0 {
        scale(&mut recipe.head.epochs, &mut recipe.head.schedule);
    }
    recipe
}

/// Gives a stage other epochs. The warm-up keeps its share of the stage: a short run must not be all warm-up.
pub(crate) fn set_epochs(epochs: &mut usize, schedule: &mut ScheduleConfig, to: usize) {
    schedule.warmup_epochs *= to as f64 / (*epochs).max(1) as f64;
    *epochs = to;
}

/// Refuses batches that the training split cannot fill, before anything is written.
pub(crate) fn check_batches(recipe: &Recipe, splits: &Splits) -> Result<()> {
    for stage in plan::stages(recipe) {
        let Some(training) = recipe.training(stage.kind) else {
            continue;
        };
        let left_over = splits.train.len() % training.batch_size;
        if !recipe.data.drop_last && recipe.augments(stage.kind) && left_over == 1 {
            return Err(Error::RecipeField {
                field: "data.drop_last".to_owned(),
                value: "false".to_owned(),
                remedy: format!(
                    "{} images leave a last batch of one image at {}.batch_size = {}, too few for batch norm: set it to true",
                    splits.train.len(),
                    stage.kind,
                    training.batch_size
                ),
            });
        }
        if training.batch_size > splits.train.len() {
            return Err(Error::RecipeField {
                field: format!("{}.batch_size", stage.kind),
                value: training.batch_size.to_string(),
                remedy: format!(
                    "the training split has only {} images: use a smaller batch, a smaller data.validation ({}), or more data",
                    splits.train.len(),
                    splits.validation.len()
                ),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_lowered_by_one_factor_and_never_to_zero() {
        let mut recipe = Recipe::default();
        recipe.supervised.epochs = 40;
        recipe.pretrain.epochs = 20;
        recipe.finetune.epochs = 1;
        recipe.pretrain.schedule.warmup_epochs = 4.0;
        let half = scaled(&recipe, 0.5);
        assert_eq!(
            (
                half.supervised.epochs,
                half.pretrain.epochs,
                half.finetune.epochs
            ),
            (20, 10, 1)
        );
        assert_eq!(half.pretrain.schedule.warmup_epochs, 2.0);
        assert_eq!(half.probe.epochs, recipe.probe.epochs);
        assert_eq!(scaled(&recipe, 1.0), recipe);
        assert_eq!(scaled(&recipe, 0.0).supervised.epochs, 1);
    }
}
