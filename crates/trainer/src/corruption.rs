//! The headline head under common corruptions, part of an arm's final evaluation.
//!
//! A corruption at its five severities is the unit of work: what it found is kept when it is done, so that an evaluation that is
//! taken up again loses one of them at most.

use crate::evaluate::predict;
use crate::experiment::Experiment;
use crate::features::FeatureSet;
use crate::measures::once;
use crate::model::{Encoder, Head};
use crate::{Event, Result, StageId, plan};
use cifar_data::{Corruption, Images, corrupt};
use eval::{CorruptionRecord, Predictions};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Severities of a corruption.
pub(crate) const SEVERITIES: usize = 5;

/// Wrong answers under one corruption, by severity: whole numbers, so that nothing is lost on the way through a file.
#[derive(Serialize, Deserialize)]
struct Wrong {
    images: usize,
    wrong: Vec<usize>,
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
    let total = settings.corruptions.len() * SEVERITIES * count;
    let error = |wrong: usize| wrong as f64 / count as f64;
    let mut errors = BTreeMap::new();
    let mut families: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (position, &corruption) in settings.corruptions.iter().enumerate() {
        let before = position * SEVERITIES * count;
        let name = format!("corruption-{}", corruption.name());
        let found = once(lab, stage.arm, &name, |lab| {
            let work = Work {
                stage,
                encoder,
                head: &head,
                images: &images,
                total,
            };
            work.wrong_under(lab, corruption, before)
        })?;
        let Some(found) = found else {
            return Ok(None);
        };
        let by_severity: Vec<f64> = found.wrong.into_iter().map(error).collect();
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
        clean_error: error(wrong(headline, count)),
        mean_error: mean(&all),
        families: families
            .iter()
            .map(|(name, errors)| ((*name).to_owned(), mean(errors)))
            .collect(),
        corruptions: errors,
    })))
}

/// Wrong answers to the first `count` images.
fn wrong(answers: &Predictions, count: usize) -> usize {
    let right = crate::results::correct(answers);
    right.iter().take(count).filter(|right| !**right).count()
}

/// What all corruptions of an arm have in common.
struct Work<'a> {
    stage: StageId,
    encoder: &'a Encoder,
    head: &'a Head,
    images: &'a Images,
    /// Images of all corruptions and severities.
    total: usize,
}

impl Work<'_> {
    /// Wrong answers at every severity; `before`: images of the corruptions that are done.
    fn wrong_under(
        &self,
        lab: &mut Experiment,
        corruption: Corruption,
        before: usize,
    ) -> Result<Option<Wrong>> {
        let count = self.images.len();
        let seed = lab.recipe().seed;
        let mut found = Wrong {
            images: count,
            wrong: Vec::new(),
        };
        for severity in 1..=SEVERITIES {
            let corrupted = corrupt(self.images, corruption, severity, seed)?;
            let done = before + (severity - 1) * count;
            let Some(answers) = self.answers(lab, corrupted, done)? else {
                return Ok(None);
            };
            found.wrong.push(wrong(&answers, count));
        }
        Ok(Some(found))
    }

    /// Logits of the head on images that are held nowhere.
    fn answers(
        &self,
        lab: &mut Experiment,
        images: Images,
        before: usize,
    ) -> Result<Option<Predictions>> {
        let splits = lab.splits()?;
        let indices = Arc::new((0..images.len()).collect());
        let batch = lab.recipe().evaluate.batch_size;
        let loader = splits.plain_loader(&Arc::new(images), &indices, batch)?;
        let device = lab.device().clone();
        let features = FeatureSet::compute(&loader, self.encoder, &device, |done| {
            lab.tell(&Event::Progress {
                stage: self.stage,
                what: "corrupted test images",
                done: before + done,
                total: self.total,
            });
            !lab.stop_asked()
        })?;
        features
            .map(|features| predict(self.head, &features))
            .transpose()
    }
}
