//! What an encoder makes of a few validation images in the course of training: their cosine similarities, all with all,
//! before the first step and after up to sixteen epochs. `<arm>/snapshots/<stage>-<epochs done>.safetensors` holds one
//! matrix `[N, N]` per space; similarities take little room whatever the width of the space, and both the pictures of a
//! class-sorted batch and its maps are drawn from them.

use crate::experiment::Experiment;
use crate::feed::Batch;
use crate::splits::Splits;
use crate::{Error, Result, StageId, StageKind};
use candle_core::{Device, Tensor};
use cifar_data::Loader;
use eval::{Features, SnapshotFrame, Snapshots};
use resnet::{read_safetensors, write_safetensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Images that are watched, at most, and of how many classes.
const IMAGES: usize = 160;
const CLASSES: usize = 10;
/// Looks after the first, at most.
const LOOKS: usize = 16;
/// The spaces, as they are named in the files and shown.
pub(crate) const FEATURES: &str = "features";
pub(crate) const EMBEDDINGS: &str = "embeddings";

/// The watched images of a stage.
pub(crate) struct Watch {
    /// None where there is no validation split: then nothing is watched.
    loader: Option<Loader>,
    device: Device,
    folder: PathBuf,
    stage: StageId,
    epochs: usize,
}

impl Watch {
    pub fn new(lab: &Experiment, splits: &Splits, stage: StageId, epochs: usize) -> Result<Self> {
        let chosen = class_sorted(&splits.images.labels, &splits.validation);
        let loader = if chosen.len() < 2 {
            None
        } else {
            let size = chosen.len();
            Some(splits.plain_loader(&splits.images, &Arc::new(chosen), size)?)
        };
        Ok(Self {
            loader,
            device: lab.device().clone(),
            folder: lab.folder.snapshots(stage.arm),
            stage,
            epochs,
        })
    }

    /// Writes down how similar the images are in the spaces that `see` names, if it is time for a look.
    pub fn look(
        &self,
        epochs_done: usize,
        see: impl Fn(&Tensor) -> Result<Vec<(&'static str, Tensor)>>,
    ) -> Result<()> {
        let Some(loader) = &self.loader else {
            return Ok(());
        };
        if !is_time(epochs_done, self.epochs) {
            return Ok(());
        }
        let mut tensors = BTreeMap::new();
        for batch in loader.epoch(0, 0) {
            let batch = Batch::new(batch?, &self.device)?;
            let images = batch.labels.len();
            for (space, values) in see(&batch.input)? {
                let dim = values.dim(1)?;
                let values = values.flatten_all()?.to_vec1::<f32>()?;
                let features = Features::new(dim, values, batch.labels.clone())?;
                let cosines =
                    Tensor::from_vec(eval::cosines(&features)?, (images, images), &Device::Cpu)?;
                tensors.insert(space.to_owned(), cosines);
            }
            let labels = Tensor::from_slice(&batch.labels, images, &Device::Cpu)?;
            tensors.insert("labels".to_owned(), labels);
        }
        fs_err::create_dir_all(&self.folder)?;
        let path = self.folder.join(name(self.stage.kind, epochs_done));
        Ok(write_safetensors(&path, &tensors, &BTreeMap::new())?)
    }
}

/// What the watched images looked like in one space of a stage; none if nothing was written down.
pub(crate) fn load(
    folder: &Path,
    stage: StageId,
    epochs: usize,
    space: &str,
) -> Result<Option<Snapshots>> {
    let mut snapshots = Snapshots {
        arm: stage.arm.name().to_owned(),
        space: space.to_owned(),
        labels: Vec::new(),
        frames: Vec::new(),
    };
    for epoch in (0..=epochs).filter(|epoch| is_time(*epoch, epochs)) {
        let path = folder.join(name(stage.kind, epoch));
        if !path.exists() {
            continue;
        }
        let tensors = read_safetensors(&path)?.tensors;
        let Some(similarity) = tensors.get(space) else {
            continue;
        };
        let labels = tensors.get("labels").ok_or_else(|| Error::Damaged {
            path: path.clone(),
            reason: "it has no `labels` [N]".to_owned(),
            remedy: "remove it: the report leaves out what is missing".to_owned(),
        })?;
        snapshots.labels = labels.to_vec1()?;
        snapshots.frames.push(SnapshotFrame {
            epoch: epoch as u64,
            similarity: similarity.flatten_all()?.to_vec1()?,
        });
    }
    Ok((!snapshots.frames.is_empty()).then_some(snapshots))
}

fn name(stage: StageKind, epochs_done: usize) -> String {
    format!("{stage}-{epochs_done:04}.safetensors")
}

/// Before training, after the last epoch, and evenly between.
fn is_time(epochs_done: usize, epochs: usize) -> bool {
    let looks = LOOKS.min(epochs);
    (0..=looks).any(|look| (look * epochs + looks / 2) / looks.max(1) == epochs_done)
}

/// The first validation images of each of the first classes, equally many of each where there are so many, by class.
fn class_sorted(labels: &[u32], validation: &[usize]) -> Vec<usize> {
    let mut by_class: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for &image in validation {
        by_class.entry(labels[image]).or_default().push(image);
    }
    let each = IMAGES / by_class.len().clamp(1, CLASSES);
    let classes = by_class.into_values().take(CLASSES);
    classes
        .flat_map(|images| images.into_iter().take(each))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_at_both_ends_and_evenly_between() {
        let times = |epochs: usize| -> Vec<usize> {
            (0..=epochs).filter(|done| is_time(*done, epochs)).collect()
        };
        assert_eq!(times(0), [0]);
        assert_eq!(times(3), [0, 1, 2, 3]);
        assert_eq!(times(16), (0..=16).collect::<Vec<_>>());
        let many = times(200);
        assert_eq!((many.len(), many[0], many[8], many[16]), (17, 0, 100, 200));
        let odd = times(37);
        assert_eq!((odd.len(), odd[0], odd[16]), (17, 0, 37));
    }

    #[test]
    fn images_come_by_class_and_in_equal_numbers() {
        let labels: Vec<u32> = (0..1000).map(|image| (image * 7 % 5) as u32).collect();
        let validation: Vec<usize> = (300..800).collect();
        let chosen = class_sorted(&labels, &validation);
        assert_eq!(chosen.len(), 160);
        let classes: Vec<u32> = chosen.iter().map(|&image| labels[image]).collect();
        assert!(classes.is_sorted() && classes.iter().filter(|class| **class == 3).count() == 32);
        assert!(chosen.iter().all(|image| validation.contains(image)));
        let many: Vec<u32> = (0..500).map(|image| image % 100).collect();
        let all: Vec<usize> = (0..500).collect();
        // Five images of each of the first ten of a hundred classes.
        assert_eq!(class_sorted(&many, &all).len(), 50);
        assert!(class_sorted(&labels, &[]).is_empty());
    }
}
