//! What an arm's final evaluation measures on request: probes at the optimum of their loss, common corruptions, near-duplicates.
//!
//! Part of the evaluation that opens the test split; whatever is chosen here is chosen on the validation split.

use crate::evaluate::predict;
use crate::experiment::Experiment;
use crate::features::FeatureSet;
use crate::model::{Encoder, Head};
use crate::{Arm, Event, Result, StageId, files, plan};
use cifar_data::{Images, corrupt, stream};
use eval::{
    ArmResult, CorruptionRecord, DuplicatesConfig, DuplicatesRecord, Features, LogisticConfig,
    Photographs, Predictions, ProbeRecord,
};
use rand_chacha::rand_core::RngCore;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A probe to be fitted to its optimum.
struct Wanted {
    name: String,
    label_share: f64,
    label_noise: f64,
}

fn wanted(settings: &crate::Evaluate) -> Vec<Wanted> {
    let one = |name: String, label_share, label_noise| Wanted {
        name,
        label_share,
        label_noise,
    };
    let mut all = Vec::new();
    if settings.lbfgs {
        all.push(one("lbfgs".to_owned(), 1.0, 0.0));
    }
    for &share in &settings.few_labels {
        all.push(one(format!("lbfgs_{}pct", 100.0 * share), share, 0.0));
    }
    if let Some(noise) = settings.label_noise {
        all.push(one("lbfgs_noise".to_owned(), 1.0, noise));
    }
    all
}

/// The probes that the recipe asks for; none if a stop is asked for meanwhile.
pub(crate) fn probes(
    lab: &mut Experiment,
    stage: StageId,
    encoder: &Encoder,
    train: &FeatureSet,
    test: &FeatureSet,
) -> Result<Option<BTreeMap<String, ProbeRecord>>> {
    let settings = lab.recipe().evaluate.clone();
    let mut found = BTreeMap::new();
    if !settings.fits_probes() {
        return Ok(Some(found));
    }
    // The control's encoder is the baseline's: so are its probes.
    let baseline = lab.folder.result(Arm::Baseline);
    if stage.arm == Arm::Control && baseline.exists() {
        let result: ArmResult = files::read_json(&baseline)?;
        return Ok(Some(result.probes));
    }
    let Some(validation) = lab.features(stage, encoder, "validation")? else {
        return Ok(None);
    };
    let (train, validation, test) = (train.to_eval()?, validation.to_eval()?, test.to_eval()?);
    let (classes, seed) = (lab.dataset().classes.len(), lab.recipe().seed);
    let all = wanted(&settings);
    for (
        done,
        Wanted {
            name,
            label_share,
            label_noise,
        },
    ) in all.iter().enumerate()
    {
        lab.tell(&Event::Progress {
            stage,
            what: "probes at the optimum of their loss",
            done,
            total: all.len(),
        });
        if lab.stop_asked() {
            return Ok(None);
        }
        let rows = (train.len() as f64 * label_share).ceil() as usize;
        let labelled = mislabelled(
            &train.balanced_subset(rows.max(classes)),
            *label_noise,
            classes,
            seed,
            "train",
        );
        let judges = mislabelled(&validation, *label_noise, classes, seed, "validation");
        let config = LogisticConfig::default();
        let probe = eval::validated_probe(
            &labelled,
            &judges,
            classes,
            &settings.lbfgs_lambdas,
            &config,
        )?;
        let path = lab.folder.probe_predictions(stage.arm, name);
        if !path.exists() {
            probe.probe.predict(&test)?.save(&path)?;
        }
        let record = probe.record(&Predictions::load(&path)?, *label_share, *label_noise)?;
        if !record.converged {
            let message = format!(
                "the probe {name} stopped at a gradient of {:.1e} after {} iterations, above the tolerance of {:.0e}",
                record.gradient, record.iterations, config.tolerance
            );
            lab.tell(&Event::Warning {
                stage: Some(stage),
                message,
            });
        }
        found.insert(name.clone(), record);
    }
    Ok(Some(found))
}

/// The features with a share of their labels replaced, each by one of the other classes at random (symmetric noise).
fn mislabelled(
    features: &Features,
    share: f64,
    classes: usize,
    seed: u64,
    split: &str,
) -> Features {
    let mut noisy = features.clone();
    if share <= 0.0 || classes < 2 {
        return noisy;
    }
    let mut rng = stream(seed, &format!("label noise: {split}"), &[]);
    for label in &mut noisy.labels {
        let coin = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let step = 1 + ((u128::from(rng.next_u64()) * (classes as u128 - 1)) >> 64) as u32;
        if coin < share {
            *label = (*label + step) % classes as u32;
        }
    }
    noisy
}

/// Error of the headline head under the recipe's corruptions; none if a stop is asked for meanwhile.
pub(crate) fn corruption(
    lab: &mut Experiment,
    stage: StageId,
    encoder: &Encoder,
    headline: &Predictions,
) -> Result<Option<Option<CorruptionRecord>>> {
    let settings = lab.recipe().evaluate.clone();
    if settings.corruptions.is_empty() {
        return Ok(Some(None));
    }
    let recipe = lab.recipe().clone();
    let kind = plan::heads(&recipe, stage.arm)
        .first()
        .copied()
        .unwrap_or(recipe.headline);
    let head = lab.head(kind, 0.0, encoder.net.feature_dim())?;
    let frozen = plan::frozen(&recipe, stage);
    head.load(&lab.folder.frozen_head(stage.arm, frozen, kind))?;
    let count = headline.len().min(settings.corruption_images);
    let images = lab.dataset.test()?.subset(&(0..count).collect::<Vec<_>>());
    let error = |predictions: &Predictions| {
        let right = crate::results::correct(predictions).into_iter().take(count);
        1.0 - right.filter(|&right| right).count() as f64 / count as f64
    };
    let total = settings.corruptions.len() * 5 * count;
    let (mut done, mut errors) = (0, BTreeMap::new());
    let mut families: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for &corruption in &settings.corruptions {
        let mut by_severity = Vec::new();
        for severity in 1..=5 {
            let corrupted = corrupt(&images, corruption, severity, recipe.seed)?;
            let Some(predictions) = answers(lab, stage, encoder, &head, corrupted, (done, total))?
            else {
                return Ok(None);
            };
            by_severity.push(error(&predictions));
            done += count;
        }
        families
            .entry(corruption.family().name())
            .or_default()
            .extend(&by_severity);
        errors.insert(corruption.name().to_owned(), by_severity);
    }
    let mean = |errors: &[f64]| errors.iter().sum::<f64>() / errors.len() as f64;
    let all: Vec<f64> = errors.values().flatten().copied().collect();
    Ok(Some(Some(CorruptionRecord {
        images: count as u64,
        clean_error: error(headline),
        mean_error: mean(&all),
        families: families
            .iter()
            .map(|(name, errors)| ((*name).to_owned(), mean(errors)))
            .collect(),
        corruptions: errors,
    })))
}

/// Logits of a head on images that are held nowhere.
fn answers(
    lab: &mut Experiment,
    stage: StageId,
    encoder: &Encoder,
    head: &Head,
    images: Images,
    (before, total): (usize, usize),
) -> Result<Option<Predictions>> {
    let splits = lab.splits()?;
    let indices = Arc::new((0..images.len()).collect());
    let batch = lab.recipe().evaluate.batch_size;
    let loader = splits.plain_loader(&Arc::new(images), &indices, batch)?;
    let device = lab.device().clone();
    let features = FeatureSet::compute(&loader, encoder, &device, |done| {
        lab.tell(&Event::Progress {
            stage,
            what: "corrupted test images",
            done: before + done,
            total,
        });
        !lab.stop_asked()
    })?;
    features
        .map(|features| predict(head, &features))
        .transpose()
}

/// Test images that repeat a training image, and the headline head's score without them; none if the recipe does not ask.
pub(crate) fn duplicates(
    lab: &mut Experiment,
    stage: StageId,
    train: &FeatureSet,
    test: &FeatureSet,
    headline: &Predictions,
) -> Result<Option<DuplicatesRecord>> {
    if !lab.recipe().evaluate.duplicates {
        return Ok(None);
    }
    let total = headline.len();
    lab.tell(&Event::Progress {
        stage,
        what: "near-duplicates of training images",
        done: 0,
        total,
    });
    let splits = lab.splits()?;
    let training = splits.images.subset(&splits.train);
    let tests = lab.dataset.test()?.subset(&(0..total).collect::<Vec<_>>());
    let found = eval::near_duplicates(
        &photographs(&tests),
        &photographs(&training),
        Some((&test.to_eval()?, &train.to_eval()?)),
        &DuplicatesConfig::default(),
    )?;
    let right = crate::results::correct(headline);
    let mut by_pixels = vec![false; total];
    found
        .by_pixels
        .iter()
        .for_each(|pair| by_pixels[pair.test as usize] = true);
    let mut either = by_pixels.clone();
    found
        .by_features
        .iter()
        .for_each(|pair| either[pair.test as usize] = true);
    // Top-1 over the images whose flag is `flag`; NaN where there are none.
    let top1 = |flags: &[bool], flag: bool| {
        let kept = || flags.iter().zip(&right).filter(|(f, _)| **f == flag);
        kept().filter(|(_, right)| **right).count() as f64 / kept().count() as f64
    };
    let mut pairs: Vec<_> = found
        .by_pixels
        .iter()
        .chain(&found.by_features)
        .copied()
        .collect();
    for pair in &mut pairs {
        pair.train = splits.train[pair.train as usize] as u64;
    }
    pairs.sort_by(|a, b| {
        b.correlation
            .total_cmp(&a.correlation)
            .then(a.test.cmp(&b.test))
    });
    pairs.truncate(100);
    let repeated = either.iter().filter(|flag| **flag).count();
    Ok(Some(DuplicatesRecord {
        by_pixels: found.by_pixels.len() as u64,
        by_features: found.by_features.len() as u64,
        images: (total - repeated) as u64,
        top1_without_pixels: top1(&by_pixels, false),
        top1: top1(&either, false),
        top1_duplicates: (repeated > 0).then(|| top1(&either, true)),
        pairs,
    }))
}

fn photographs(images: &Images) -> Photographs<'_> {
    Photographs {
        height: images.height,
        width: images.width,
        pixels: &images.pixels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_replaces_its_share_by_other_classes() {
        let labels: Vec<u32> = (0..4000).map(|i| i % 10).collect();
        let features = Features::new(1, vec![0.5; 4000], labels.clone()).unwrap();
        let noisy = mislabelled(&features, 0.3, 10, 5, "train");
        let changed: Vec<u32> = (noisy.labels.iter().zip(&labels))
            .filter(|(a, b)| a != b)
            .map(|(a, b)| (a + 10 - b) % 10)
            .collect();
        // Four standard deviations of 4000 coins.
        assert!(
            (changed.len() as f64 / 4000.0 - 0.3).abs() < 0.029,
            "{}",
            changed.len()
        );
        for step in 1..10 {
            let share =
                changed.iter().filter(|&&s| s == step).count() as f64 / changed.len() as f64;
            assert!((share - 1.0 / 9.0).abs() < 0.04, "{step}: {share}");
        }
        assert_eq!(noisy, mislabelled(&features, 0.3, 10, 5, "train"));
        assert_ne!(noisy, mislabelled(&features, 0.3, 10, 5, "validation"));
        assert_eq!(mislabelled(&features, 0.0, 10, 5, "train"), features);
    }

    #[test]
    fn probes_are_named_by_what_they_were_given() {
        let settings = crate::Evaluate {
            lbfgs: true,
            few_labels: vec![0.01, 0.1],
            label_noise: Some(0.4),
            ..crate::Evaluate::default()
        };
        let names: Vec<String> = wanted(&settings).into_iter().map(|w| w.name).collect();
        assert_eq!(names, ["lbfgs", "lbfgs_1pct", "lbfgs_10pct", "lbfgs_noise"]);
    }
}
