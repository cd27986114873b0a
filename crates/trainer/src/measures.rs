//! What an arm's final evaluation measures on request: probes at the optimum of their loss, near-duplicates (and, in
//! `corruption`, common corruptions).
//!
//! Part of the evaluation that opens the test split; whatever is chosen here is chosen on the validation split. Each measurement is
//! a file of its own in `<arm>/measured/`, written when it is found: an evaluation that is taken up again finds it there.

use crate::experiment::Experiment;
use crate::features::FeatureSet;
use crate::model::Encoder;
use crate::{Arm, Event, Result, StageId, files};
use cifar_data::{Images, stream};
use eval::{
    ArmResult, DuplicatesConfig, DuplicatesRecord, Features, FewShotRecord, LogisticConfig,
    Photographs, Predictions, ProbeRecord,
};
use rand_chacha::rand_core::RngCore;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// What was measured before under this name, or what `find` finds now, which is kept; none if a stop is asked for meanwhile.
pub(crate) fn once<T: Serialize + DeserializeOwned>(
    lab: &mut Experiment,
    arm: Arm,
    name: &str,
    find: impl FnOnce(&mut Experiment) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let folder = lab.folder.measured(arm);
    let path = folder.join(format!("{name}.json"));
    if path.exists() {
        return files::read_json(&path).map(Some);
    }
    let found = find(lab)?;
    if let Some(found) = &found {
        fs_err::create_dir_all(&folder)?;
        files::write_json(&path, found)?;
    }
    Ok(found)
}

/// A probe to be fitted to its optimum.
pub(crate) struct Wanted {
    name: String,
    pub label_share: f64,
    label_noise: f64,
}

pub(crate) fn wanted(settings: &crate::Evaluate) -> Vec<Wanted> {
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
    let config = LogisticConfig::default();
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
        let record = once(lab, stage.arm, &format!("probe-{name}"), |lab| {
            let rows = (train.len() as f64 * label_share).ceil() as usize;
            let some = train.balanced_subset(rows.max(classes));
            let labelled = mislabelled(&some, *label_noise, classes, seed, "train");
            let judges = mislabelled(&validation, *label_noise, classes, seed, "validation");
            let lambdas = &settings.lbfgs_lambdas;
            let stop = || lab.stop_asked();
            let probe = eval::validated_probe(&labelled, &judges, classes, lambdas, &config, stop)?;
            let Some(probe) = probe else { return Ok(None) };
            let path = lab.folder.probe_predictions(stage.arm, name);
            if !path.exists() {
                probe.probe.predict(&test)?.save(&path)?;
            }
            let answers = Predictions::load(&path)?;
            Ok(Some(probe.record(&answers, *label_share, *label_noise)?))
        })?;
        let Some(record) = record else {
            return Ok(None);
        };
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

/// Draws of a few labelled images.
pub(crate) const DRAWS: usize = 100;

/// What a few labelled images of each class are worth in the features.
pub(crate) fn few_shot(
    lab: &mut Experiment,
    stage: StageId,
    train: &FeatureSet,
    test: &FeatureSet,
) -> Result<Vec<FewShotRecord>> {
    let (classes, seed) = (lab.dataset().classes.len(), lab.recipe().seed);
    let mut images = vec![0usize; classes];
    train
        .labels
        .iter()
        .for_each(|&label| images[label as usize] += 1);
    let fewest = images.into_iter().min().unwrap_or(0);
    let mut shots = lab.recipe().evaluate.shots.clone();
    shots.retain(|&shots| shots <= fewest);
    if shots.is_empty() {
        return Ok(Vec::new());
    }
    let total = DRAWS * shots.len();
    lab.tell(&Event::Progress {
        stage,
        what: "few labelled images",
        done: 0,
        total,
    });
    let (train, test) = (train.to_eval()?, test.to_eval()?);
    let found = shots.into_iter().map(|shots| {
        let random = |draw| {
            let mut rng = stream(seed, "few-shot", &[shots as u64, draw]);
            move || rng.next_u64()
        };
        Ok(eval::few_shot(
            &train, &test, classes, shots, DRAWS, random,
        )?)
    });
    found.collect()
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

/// Pairs that stand in the results; the arm's own record has all.
const SHOWN_PAIRS: usize = 100;

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
    let mut found = once(lab, stage.arm, "duplicates", |lab| {
        find_duplicates(lab, stage, train, test, headline).map(Some)
    })?;
    if let Some(found) = &mut found {
        found.pairs.truncate(SHOWN_PAIRS);
    }
    Ok(found)
}

fn find_duplicates(
    lab: &mut Experiment,
    stage: StageId,
    train: &FeatureSet,
    test: &FeatureSet,
    headline: &Predictions,
) -> Result<DuplicatesRecord> {
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
    pairs.sort_by(|a, b| b.detail.total_cmp(&a.detail).then(a.test.cmp(&b.test)));
    let repeated = either.iter().filter(|flag| **flag).count();
    Ok(DuplicatesRecord {
        by_pixels: found.by_pixels.len() as u64,
        by_features: found.by_features.len() as u64,
        images: (total - repeated) as u64,
        top1_without_pixels: top1(&by_pixels, false),
        top1: top1(&either, false),
        top1_duplicates: (repeated > 0).then(|| top1(&either, true)),
        pairs,
    })
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
