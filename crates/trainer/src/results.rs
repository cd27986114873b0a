//! What a run found, collected from its folder: results, curves, maps and sample photographs.

use crate::environment::written;
use crate::evaluate::{FROZEN_FEATURES, stage_name};
use crate::experiment::Experiment;
use crate::folder::{CONFIG, Done};
use crate::journal::METRICS;
use crate::{Arm, Error, Recipe, Result, StageId, StageKind, files, plan, snapshots};
use candle_core::DType;
use cifar_data::Policy;
use eval::{
    CurvePoint, Predictions, ReportInput, ReportPaths, Results, SamplePhoto, SamplePrediction,
    StageCurve,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// The arms that others are compared with, in this order.
const AGAINST: [Arm; 2] = [Arm::Baseline, Arm::Contrastive];

/// Where the report's figures stand in the run folder.
const SOURCES: [(&str, &str); 8] = [
    (
        "Tables, differences",
        "results.json; of an arm: ARM/result.json",
    ),
    (
        "Learning curves",
        "metrics.jsonl; what a stage cost: ARM/STAGE.json",
    ),
    (
        "Answers, confusion, reliability, mistakes",
        "ARM/predictions-HEAD.safetensors",
    ),
    (
        "Maps, neighbours, retrieval",
        "ARM/features-test.safetensors (of the arm that owns the encoder)",
    ),
    ("Similarity in training", "ARM/snapshots"),
    (
        "Measured on request",
        "ARM/measured, ARM/predictions-PROBE.safetensors",
    ),
    ("Recipe", "recipe.toml as asked, config.toml as resolved"),
    ("Pictures", "figures, as SVG and PNG"),
];

impl Experiment {
    /// The results of all arms that are evaluated.
    pub fn results(&self) -> Result<Results> {
        let arms = self.evaluated();
        if arms.is_empty() {
            let needs = self
                .stages()
                .into_iter()
                .find(|s| s.kind == StageKind::Evaluate);
            return Err(Error::NothingMeasured {
                path: self.run_dir().to_owned(),
                needs: needs.map_or_else(String::new, |s| s.to_string()),
            });
        }
        let mut environment = self.record.environment.clone();
        environment.finished = self.finished()?;
        let recipe = serde_json::to_value(&**self.recipe()).map_err(|e| Error::RecipeSyntax {
            message: e.to_string(),
        })?;
        let record = &self.record;
        let mut results = Results::new(
            record.dataset_record(),
            environment,
            recipe,
            record.seed,
            &record.command,
        );
        results.budget = record.budget.clone();
        results.notes.extend(augmentation_note(self.recipe()));
        for (name, checksum) in &record.weights {
            let note = format!("Training began with the weights {name} ({checksum}).");
            results.notes.push(note);
        }
        results.notes.extend(self.warnings()?);
        let mut right = BTreeMap::new();
        let mut labels = Vec::new();
        for arm in arms {
            let result: eval::ArmResult = files::read_json(&self.folder.result(arm))?;
            let predictions = self.headline_predictions(arm)?;
            right.insert(arm, correct(&predictions));
            labels = predictions.labels;
            results.arms.insert(arm.name().to_owned(), result);
        }
        for against in AGAINST {
            for (arm, correct) in &right {
                if let (true, Some(there)) = (*arm > against, right.get(&against)) {
                    results.compare(arm.name(), correct, against.name(), there, &labels)?;
                }
            }
        }
        Ok(results)
    }

    /// When the last stage was done.
    fn finished(&self) -> Result<Option<String>> {
        let mut last = None;
        for stage in self.stages() {
            if let Some(done) = self.done(stage)? {
                let path = self.folder.done_record(stage);
                last = last.max(done.finished.or_else(|| written(&path)));
            }
        }
        Ok(last)
    }

    /// What the run was warned of, such as a collapse: a figure of such an arm must not be read without it.
    fn warnings(&self) -> Result<Vec<String>> {
        let journal = fs_err::read_to_string(self.run_dir().join(METRICS))?;
        Ok(warnings_in(&journal))
    }

    /// Which test images the headline head of each evaluated arm got right, in the order of the test split.
    pub fn right(&self) -> Result<BTreeMap<String, Vec<bool>>> {
        self.evaluated()
            .into_iter()
            .map(|arm| {
                Ok((
                    arm.name().to_owned(),
                    correct(&self.headline_predictions(arm)?),
                ))
            })
            .collect()
    }

    /// Everything that the report shows.
    pub fn report_input(&self) -> Result<ReportInput> {
        let mut input = ReportInput::new(self.results()?);
        input.recipe_text = fs_err::read_to_string(self.run_dir().join(CONFIG))?;
        input.sources = (SOURCES.iter())
            .map(|(what, files)| ((*what).to_owned(), (*files).to_owned()))
            .collect();
        input.curves = self.curves()?;
        input.maps = self.maps()?;
        input.samples = self.samples()?;
        input.gallery = self.gallery()?;
        input.snapshots = self.snapshots()?;
        Ok(input)
    }

    /// Writes `results.json`, `report.md` and `report.html`.
    pub fn write_report(&self) -> Result<ReportPaths> {
        let input = self.report_input()?;
        input.results.save(&self.run_dir().join("results.json"))?;
        Ok(eval::write_report(self.run_dir(), &input)?)
    }

    pub(crate) fn evaluated(&self) -> Vec<Arm> {
        let stages = self.stages().into_iter();
        stages
            .filter(|s| s.kind == StageKind::Evaluate && self.is_done(*s))
            .map(|s| s.arm)
            .collect()
    }

    pub(crate) fn headline_predictions(&self, arm: Arm) -> Result<Predictions> {
        let head = plan::heads(self.recipe(), arm)
            .first()
            .copied()
            .unwrap_or(self.recipe().headline);
        Ok(Predictions::load(&self.folder.predictions(arm, head))?)
    }

    /// One curve per training stage, read back from `metrics.jsonl`.
    fn curves(&self) -> Result<Vec<StageCurve>> {
        let mut epochs: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let mut collapse: BTreeMap<String, f64> = BTreeMap::new();
        for line in fs_err::read_to_string(self.run_dir().join(METRICS))?.lines() {
            // The last line may still be on its way.
            let Ok(line) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let Some(stage) = line["stage"].as_str().map(str::to_owned) else {
                continue;
            };
            match line["event"].as_str() {
                Some("epoch") => epochs.entry(stage).or_default().push(line),
                Some("step") => {
                    if let Some(value) = line["collapse"].as_f64() {
                        collapse.insert(stage, value);
                    }
                }
                _ => {}
            }
        }
        let mut curves = Vec::new();
        let stages = self
            .stages()
            .into_iter()
            .filter(|s| s.kind != StageKind::Evaluate);
        for stage in stages {
            let name = stage.to_string();
            let Some(lines) = epochs.get(&name) else {
                continue;
            };
            let before = self.spent_before(stage)?.and(self.features_of(stage)?);
            let own = self
                .done(stage)?
                .map(|done| (Spent::of(self.recipe(), stage, &done), done.epochs));
            let points = lines.iter().map(|line| {
                let epoch = line["epoch"].as_u64().unwrap_or(0) + 1;
                let until = own.map(|(all, epochs)| before.and(all.part(epoch, epochs)));
                CurvePoint {
                    epoch: epoch as f64,
                    train_loss: line["loss"].as_f64().unwrap_or(f64::NAN),
                    validation_loss: line["validation_loss"].as_f64(),
                    validation_top1: line["validation_accuracy"].as_f64(),
                    multiply_adds: until.map(|spent| spent.multiply_adds),
                    images: until.map(|spent| spent.images),
                    seconds: until.map(|spent| spent.seconds),
                }
            });
            let loss = match stage.kind {
                StageKind::Pretrain => self.recipe().pretrain.loss.name(),
                _ => "cross-entropy",
            };
            curves.push(StageCurve {
                arm: stage.arm.name().to_owned(),
                stage: stage_name(stage.kind).to_owned(),
                loss: loss.to_owned(),
                collapse: collapse.get(&name).copied(),
                points: points.collect(),
            });
        }
        Ok(curves)
    }

    /// What the stages before this one cost its arm.
    fn spent_before(&self, stage: StageId) -> Result<Spent> {
        let mut sum = Spent::default();
        for before in plan::needs(self.recipe(), stage) {
            if let Some(done) = self.done(before)? {
                sum = sum.and(Spent::of(self.recipe(), before, &done));
            }
        }
        Ok(sum)
    }

    /// What the features cost that a head read, as the arm's evaluation has recorded it.
    fn features_of(&self, stage: StageId) -> Result<Spent> {
        let reads = matches!(stage.kind, StageKind::Probe | StageKind::Head);
        let path = self.folder.result(stage.arm);
        if !reads || !path.exists() {
            return Ok(Spent::default());
        }
        let result: eval::ArmResult = files::read_json(&path)?;
        let mut stages = result.train.stages.iter();
        let features = stages.find(|record| record.name == FROZEN_FEATURES);
        Ok(features.map_or_else(Spent::default, |record| Spent {
            multiply_adds: record.multiply_adds,
            images: 0,
            seconds: record.seconds,
        }))
    }

    fn done(&self, stage: StageId) -> Result<Option<Done>> {
        if !self.is_done(stage) {
            return Ok(None);
        }
        files::read_json(&self.folder.done_record(stage)).map(Some)
    }

    /// How a few validation images lay in the spaces of the two trainings that are compared.
    fn snapshots(&self) -> Result<Vec<eval::Snapshots>> {
        let mut found = Vec::new();
        let stages = self.stages().into_iter();
        for stage in
            stages.filter(|s| [StageKind::Supervised, StageKind::Pretrain].contains(&s.kind))
        {
            let epochs = self.recipe().training(stage.kind).map_or(0, |t| t.epochs);
            let folder = self.folder.snapshots(stage.arm);
            for space in [snapshots::FEATURES, snapshots::EMBEDDINGS] {
                found.extend(snapshots::load(&folder, stage, epochs, space)?);
            }
        }
        Ok(found)
    }

    /// Some test photographs with every arm's answer.
    fn samples(&self) -> Result<Vec<SamplePhoto>> {
        let path = self.folder.samples();
        if !path.exists() {
            return Ok(Vec::new());
        }
        let tensors = resnet::read_safetensors(&path)?.tensors;
        let (Some(pixels), Some(labels), Some(indices)) = (
            tensors.get("pixels"),
            tensors.get("labels"),
            tensors.get("indices"),
        ) else {
            return Ok(Vec::new());
        };
        let (_, height, width, _) = pixels.dims4()?;
        let labels = labels.to_dtype(DType::U32)?.to_vec1::<u32>()?;
        let mut photos = Vec::new();
        for (row, index) in indices
            .to_dtype(DType::U32)?
            .to_vec1::<u32>()?
            .into_iter()
            .enumerate()
        {
            photos.push(SamplePhoto {
                index: u64::from(index),
                height,
                width,
                rgb: pixels.get(row)?.flatten_all()?.to_vec1::<u8>()?,
                label: labels[row],
                predictions: BTreeMap::new(),
            });
        }
        for arm in self.evaluated() {
            let predictions = self.headline_predictions(arm)?;
            for photo in &mut photos {
                if (photo.index as usize) < predictions.len() {
                    let answer = answer(predictions.row(photo.index as usize));
                    photo.predictions.insert(arm.name().to_owned(), answer);
                }
            }
        }
        Ok(photos)
    }
}

/// The warnings of a journal, each once.
fn warnings_in(journal: &str) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for line in journal.lines() {
        // The last line may still be on its way.
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        if let (Some("warning"), Some(message)) = (line["event"].as_str(), line["message"].as_str())
        {
            let place = line["stage"].as_str().map(|stage| format!(" of {stage}"));
            let note = format!(
                "Warning{}: {}.",
                place.unwrap_or_default(),
                message.trim_end_matches('.')
            );
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    notes
}

/// What must be said first: arms whose training images are changed in different ways. None where they are not.
fn augmentation_note(recipe: &Recipe) -> Option<String> {
    let mut seen: Vec<(&str, Policy, usize)> = Vec::new();
    for stage in plan::stages(recipe) {
        let (what, views) = match stage.kind {
            StageKind::Supervised => ("the baseline", recipe.augment.supervised_views),
            StageKind::Pretrain => ("contrastive pretraining", recipe.augment.views),
            StageKind::Finetune => ("fine-tuning", recipe.augment.supervised_views),
            StageKind::Probe if recipe.probe.augment => {
                ("the linear probe", recipe.augment.supervised_views)
            }
            StageKind::Head if recipe.head.augment => {
                ("the 512-unit head", recipe.augment.supervised_views)
            }
            _ => continue,
        };
        if seen.iter().all(|(other, ..)| *other != what) {
            seen.push((what, recipe.policy(stage.kind), views));
        }
    }
    let (_, policy, views) = seen.first()?;
    if seen.iter().all(|(_, p, v)| (p, v) == (policy, views)) {
        return None;
    }
    let list: Vec<String> = seen
        .iter()
        .map(|(what, policy, views)| {
            let views = if *views == 1 {
                "1 view".to_owned()
            } else {
                format!("{views} views")
            };
            format!("{what} sees {views} of an image under \"{policy}\"")
        })
        .collect();
    Some(format!(
        "The arms do not see the same images: {}.",
        list.join(", ")
    ))
}

/// What training cost.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    multiply_adds: u64,
    images: u64,
    seconds: f64,
}

impl Spent {
    fn of(recipe: &Recipe, stage: StageId, done: &Done) -> Self {
        Self {
            multiply_adds: done.multiply_adds,
            // Features that were computed once are no images seen.
            images: if recipe.augments(stage.kind) {
                done.images
            } else {
                0
            },
            seconds: done.seconds,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            multiply_adds: self.multiply_adds + other.multiply_adds,
            images: self.images + other.images,
            seconds: self.seconds + other.seconds,
        }
    }

    /// The share of `epoch` epochs in all.
    fn part(self, epoch: u64, epochs: usize) -> Self {
        let epochs = epochs.max(1) as u64;
        Self {
            multiply_adds: self.multiply_adds / epochs * epoch,
            images: self.images / epochs * epoch,
            seconds: self.seconds * epoch as f64 / epochs as f64,
        }
    }
}

/// Which images were classified correctly.
pub(crate) fn correct(predictions: &Predictions) -> Vec<bool> {
    (0..predictions.len())
        .map(|i| answer(predictions.row(i)).class == predictions.labels[i])
        .collect()
}

/// The class with the highest logit, and its softmax probability.
pub(crate) fn answer(logits: &[f32]) -> SamplePrediction {
    let (class, top) =
        logits
            .iter()
            .copied()
            .enumerate()
            .fold((0, f32::NEG_INFINITY), |best, (i, x)| {
                if x > best.1 { (i, x) } else { best }
            });
    let sum: f64 = logits.iter().map(|&x| f64::from(x - top).exp()).sum();
    SamplePrediction {
        class: class as u32,
        confidence: 1.0 / sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_that_differ_in_augmentation_are_named_first() {
        let mut recipe = Recipe::default();
        assert_eq!(augmentation_note(&recipe), None);
        recipe.augment.views = 2;
        let note = augmentation_note(&recipe).unwrap();
        assert!(
            note.contains("the baseline sees 1 view")
                && note.contains("contrastive pretraining sees 2 views"),
            "{note}"
        );
        recipe.augment.views = 1;
        recipe.augment.pretrain = Some(Policy::None);
        let note = augmentation_note(&recipe).unwrap();
        assert!(note.contains("\"none\""), "{note}");
        recipe.arms.baseline = false;
        assert_eq!(
            augmentation_note(&recipe),
            None,
            "one kind of training differs from nothing"
        );
    }

    #[test]
    fn warnings_of_the_run_are_noted_once_each() {
        let journal = "{\"event\":\"step\",\"stage\":\"contrastive/pretrain\",\"loss\":1.0}\n\
                       {\"event\":\"warning\",\"stage\":\"contrastive/pretrain\",\"message\":\"the embeddings collapse\"}\n\
                       {\"event\":\"warning\",\"stage\":\"contrastive/pretrain\",\"message\":\"the embeddings collapse\"}\n\
                       {\"event\":\"warning\",\"stage\":null,\"message\":\"another stem.\"}\n\
                       {\"event\":\"warn";
        assert_eq!(
            warnings_in(journal),
            [
                "Warning of contrastive/pretrain: the embeddings collapse.",
                "Warning: another stem."
            ]
        );
    }

    #[test]
    fn an_answer_is_the_argmax_with_its_probability() {
        let a = answer(&[0.0, 1000.0, 1000.0 - (2f32).ln()]);
        assert_eq!(a.class, 1);
        assert!((a.confidence - 2.0 / 3.0).abs() < 1e-4);
    }
}
