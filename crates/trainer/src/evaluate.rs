//! The end of an arm: the only place that opens the test split. Its predictions are written once, atomically.

use crate::experiment::{Experiment, Outcome};
use crate::features::{Extraction, FeatureSet};
use crate::folder::Done;
use crate::gallery::save_pictures;
use crate::model::{Encoder, Head};
use crate::recipe::HeadKind;
use crate::tensorboard::projector;
use crate::validate::FEATURE_ROWS;
use crate::{Arm, Event, Result, StageId, StageKind, budget, corruption, files, measures, plan};
use candle_core::{Device, Tensor};
use cifar_data::{Images, stream};
use eval::{
    ArmResult, EmbeddingConfig, EmbeddingMetrics, KnnConfig, Predictions, StageRecord, TrainRecord,
};
use rand_chacha::rand_core::RngCore;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// Measures an arm: every head's predictions, and the features under them.
pub(crate) fn measure(lab: &mut Experiment, stage: StageId) -> Result<Outcome> {
    let started = Instant::now();
    lab.tell(&Event::StageStarted {
        stage,
        epochs: 0,
        steps_per_epoch: 0,
        resumed_at: 0,
    });
    let recipe = lab.recipe().clone();
    let frozen = plan::frozen(&recipe, stage);
    let encoder = lab.frozen_encoder(stage)?;
    let Some(test) = test_features(lab, stage, &encoder)? else {
        return lab.stopped(stage);
    };
    let Some(train) = lab.features(stage, &encoder, "train")? else {
        return lab.stopped(stage);
    };
    // Nothing here is measured on them: what a photograph of the user's is compared with, to say whether it is like the data, and
    // what TensorBoard's projector shows.
    let splits = lab.splits()?;
    if !splits.validation.is_empty() {
        let Some(validation) = lab.features(stage, &encoder, "validation")? else {
            return lab.stopped(stage);
        };
        projector::write(
            lab.run_dir(),
            stage.arm,
            &validation.to_eval()?,
            &splits.images,
            &splits.validation,
            &lab.dataset().classes,
        )?;
    }

    let kinds = plan::heads(&recipe, stage.arm);
    let mut heads = BTreeMap::new();
    for &kind in &kinds {
        let path = lab.folder.predictions(stage.arm, kind);
        if !path.exists() {
            let head = lab.head(kind, 0.0, encoder.net.feature_dim())?;
            head.load(&lab.folder.frozen_head(stage.arm, frozen, kind))?;
            predict(&head, &test)?.save(&path)?;
        }
        let predictions = Predictions::load(&path)?;
        heads.insert(kind.name().to_owned(), eval::classification(&predictions)?);
    }
    let embedding = embedding_metrics(lab, stage, &train, &test)?;
    let headline = kinds.first().copied().unwrap_or(HeadKind::Linear);
    let answers = Predictions::load(&lab.folder.predictions(stage.arm, headline))?;
    let Some(probes) = measures::probes(lab, stage, &encoder, &train, &test)? else {
        return lab.stopped(stage);
    };
    let Some(corruption) = corruption::corruption(lab, stage, &encoder, &answers)? else {
        return lab.stopped(stage);
    };
    let few_shot = measures::few_shot(lab, stage, &train, &test)?;
    let duplicates = measures::duplicates(lab, stage, &train, &test, &answers)?;
    let spent = train_record(lab, stage.arm, &encoder)?;
    let result = ArmResult {
        probes,
        few_shot,
        corruption,
        duplicates,
        ..ArmResult::new(headline.name(), heads, embedding, spent)?
    };
    files::write_json(&lab.folder.result(stage.arm), &result)?;
    let done = Done {
        seconds: started.elapsed().as_secs_f64(),
        ..Done::default()
    };
    lab.leave_record(stage, done, Some(result.test.classification.top1))?;
    Ok(Outcome::Finished)
}

/// Features of the test images, from the run folder or computed now; none if a stop is asked for meanwhile.
fn test_features(
    lab: &mut Experiment,
    stage: StageId,
    encoder: &Encoder,
) -> Result<Option<FeatureSet>> {
    let path = lab
        .folder
        .features(plan::frozen(lab.recipe(), stage), "test");
    if path.exists() {
        return FeatureSet::load(&path, lab.device()).map(Some);
    }
    let splits = lab.splits()?;
    let images = Arc::new(lab.dataset.test()?);
    let total = lab
        .recipe()
        .data
        .test_limit
        .map_or(images.len(), |limit| limit.min(images.len()));
    save_samples(lab, &images, total)?;
    save_pictures(lab, &images, total)?;
    let loader = splits.plain_loader(
        &images,
        &Arc::new((0..total).collect()),
        lab.recipe().evaluate.batch_size,
    )?;
    let device = lab.device().clone();
    let features = FeatureSet::compute(&loader, encoder, &device, |done| {
        lab.tell(&Event::Progress {
            stage,
            what: "features of the test images",
            done,
            total,
        });
        !lab.stop_asked()
    })?;
    if let Some(features) = &features {
        features.save(&path)?;
    }
    Ok(features)
}

/// Logits of a head over a feature table.
pub(crate) fn predict(head: &Head, features: &FeatureSet) -> Result<Predictions> {
    let mut logits = Vec::new();
    for (rows, _) in features.chunks(FEATURE_ROWS) {
        logits.extend(head.logits(&rows?)?.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(Predictions::new(
        head.net.classes(),
        logits,
        features.labels.clone(),
    )?)
}

/// What the features are worth without any head.
fn embedding_metrics(
    lab: &mut Experiment,
    stage: StageId,
    train: &FeatureSet,
    test: &FeatureSet,
) -> Result<EmbeddingMetrics> {
    let settings = lab.recipe().evaluate.clone();
    let train = train.to_eval()?;
    let test = test.to_eval()?;
    let total = test.labels.len();
    lab.tell(&Event::Progress {
        stage,
        what: "neighbours of the test images",
        done: 0,
        total,
    });
    let knn = KnnConfig {
        k: settings.knn_k,
        temperature: settings.knn_temperature,
        max_bank: settings.knn_bank,
    };
    let config = EmbeddingConfig {
        knn,
        ..EmbeddingConfig::default()
    };
    Ok(eval::embedding_metrics(Some(&train), &test, &config)?)
}

/// What the arm cost, over every stage that it rests on.
fn train_record(lab: &Experiment, arm: Arm, encoder: &Encoder) -> Result<TrainRecord> {
    let mut stages = Vec::new();
    let splits = lab.splits()?;
    let (train, validation) = (splits.train.len() as u64, splits.validation.len() as u64);
    let frozen = budget::frozen_images(lab.recipe(), arm, train, validation);
    let mut features = Some(StageRecord {
        name: FROZEN_FEATURES.to_owned(),
        multiply_adds: frozen * encoder.net.flops(splits.images.height, splits.images.width),
        ..StageRecord::default()
    })
    .filter(|_| frozen > 0);
    for stage in plan::rests_on(lab.recipe(), arm) {
        let done: Done = files::read_json(&lab.folder.done_record(stage))?;
        if matches!(stage.kind, StageKind::Probe | StageKind::Head)
            && let Some(record) = features.take()
        {
            stages.push(timed(lab, stage, record, frozen > validation)?);
        }
        // Features that were computed once are no images seen.
        let images = if lab.recipe().augments(stage.kind) {
            done.images
        } else {
            0
        };
        stages.push(StageRecord {
            name: stage_name(stage.kind).to_owned(),
            epochs: done.epochs as u64,
            images_seen: images,
            multiply_adds: done.multiply_adds,
            seconds: done.seconds,
            joules: done.joules,
            images_per_second: if done.seconds > 0.0 {
                images as f64 / done.seconds
            } else {
                0.0
            },
        });
    }
    Ok(TrainRecord::over(stages))
}

/// The record of the features that a head reads, with what computing them took: those of the training images only where a head
/// needs them.
fn timed(
    lab: &Experiment,
    stage: StageId,
    record: StageRecord,
    train: bool,
) -> Result<StageRecord> {
    let frozen = plan::frozen(lab.recipe(), stage);
    let (mut seconds, mut joules) = (0.0, Some(0.0));
    for split in [train.then_some("train"), Some("validation")]
        .into_iter()
        .flatten()
    {
        // None for an empty split, nor in a run folder of an older version.
        let path = lab.folder.features_record(frozen, split);
        if path.is_file() {
            let spent: Extraction = files::read_json(&path)?;
            seconds += spent.seconds;
            joules = joules.zip(spent.joules).map(|(sum, more)| sum + more);
        }
    }
    Ok(StageRecord {
        seconds,
        joules: joules.filter(|joules| *joules > 0.0),
        ..record
    })
}

/// The features of a frozen encoder that heads are trained on: one forward pass for each image.
pub(crate) const FROZEN_FEATURES: &str = "frozen-features";

/// A stage's name in results and curves.
pub(crate) fn stage_name(kind: StageKind) -> &'static str {
    match kind {
        StageKind::Probe => "probe-linear",
        StageKind::Head => "probe-mlp",
        other => other.name(),
    }
}

/// Keeps some test photographs for the report: the same ones for all arms, so that nothing opens the split again.
fn save_samples(lab: &Experiment, images: &Images, total: usize) -> Result<()> {
    let path = lab.folder.samples();
    let count = lab.recipe().evaluate.samples.min(total);
    if path.exists() || count == 0 {
        return Ok(());
    }
    let mut rng = stream(lab.recipe().seed, "report: samples", &[]);
    let mut picked = BTreeSet::new();
    while picked.len() < count {
        picked.insert(((u128::from(rng.next_u64()) * total as u128) >> 64) as usize);
    }
    let indices: Vec<usize> = picked.into_iter().collect();
    let photos = images.subset(&indices);
    let shape = (count, images.height, images.width, 3);
    let as_u32: Vec<u32> = indices.iter().map(|&i| i as u32).collect();
    let tensors = BTreeMap::from([
        (
            "pixels".to_owned(),
            Tensor::from_vec(photos.pixels, shape, &Device::Cpu)?,
        ),
        (
            "labels".to_owned(),
            Tensor::from_vec(photos.labels, count, &Device::Cpu)?,
        ),
        (
            "indices".to_owned(),
            Tensor::from_vec(as_u32, count, &Device::Cpu)?,
        ),
    ]);
    Ok(resnet::write_safetensors(
        &path,
        &tensors,
        &BTreeMap::new(),
    )?)
}
