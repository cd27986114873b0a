//! Features of a frozen encoder: computed once per image, without a graph, and kept in the run folder.

use crate::energy::Meter;
use crate::experiment::Experiment;
use crate::feed::Batch;
use crate::model::Encoder;
use crate::{Error, Event, Result, StageId, files, plan};
use candle_core::{Device, Tensor};
use cifar_data::Loader;
use resnet::{read_safetensors, write_safetensors};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What it took to compute a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Extraction {
    /// Wall time, decoding and normalisation included.
    pub seconds: f64,
    /// Energy of the processor packages, where the machine tells.
    pub joules: Option<f64>,
}

/// A feature table.
#[derive(Clone, Debug)]
pub(crate) struct FeatureSet {
    /// `[N, D]`, on the run's device.
    pub values: Tensor,
    /// `[N]`.
    pub labels: Vec<u32>,
}

impl FeatureSet {
    /// Features of all images of `loader`, in order. `progress` hears how many are done and says whether to go on; if
    /// not, there is no table.
    pub fn compute(
        loader: &Loader,
        encoder: &Encoder,
        device: &Device,
        mut progress: impl FnMut(usize) -> bool,
    ) -> Result<Option<Self>> {
        let extractor = encoder.net.extractor();
        let mut parts = Vec::new();
        let mut labels = Vec::new();
        for batch in loader.epoch(0, 0) {
            let batch = Batch::new(batch?, device)?;
            parts.push(extractor.forward(&batch.input)?); // [B, D]
            labels.extend_from_slice(&batch.labels);
            if !progress(labels.len()) {
                return Ok(None);
            }
        }
        Ok(Some(Self {
            values: Tensor::cat(&parts, 0)?,
            labels,
        }))
    }

    /// Writes the table as a whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        let labels = Tensor::from_slice(&self.labels, self.labels.len(), &Device::Cpu)?;
        let tensors = BTreeMap::from([
            ("features".to_owned(), self.values.to_device(&Device::Cpu)?),
            ("labels".to_owned(), labels),
        ]);
        Ok(write_safetensors(path, &tensors, &BTreeMap::new())?)
    }

    /// Reads a table that [`save`](Self::save) wrote.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let file = read_safetensors(path)?;
        match (file.tensors.get("features"), file.tensors.get("labels")) {
            (Some(values), Some(labels))
                if values.rank() == 2 && values.dim(0)? == labels.elem_count() =>
            {
                Ok(Self {
                    values: values.to_device(device)?,
                    labels: labels.to_vec1()?,
                })
            }
            _ => Err(Error::Damaged {
                path: path.to_owned(),
                reason: "it has no `features` [N, D] with `labels` [N]".to_owned(),
                remedy: "remove it: it will be computed again".to_owned(),
            }),
        }
    }

    /// Rows and labels, `size` at a time.
    pub fn chunks(&self, size: usize) -> impl Iterator<Item = (Result<Tensor>, &[u32])> {
        self.labels
            .chunks(size)
            .enumerate()
            .map(move |(i, labels)| {
                (
                    self.values
                        .narrow(0, i * size, labels.len())
                        .map_err(Error::from),
                    labels,
                )
            })
    }

    /// The table as plain numbers, as `eval` takes it.
    pub fn to_eval(&self) -> Result<eval::Features> {
        let values = self.values.to_device(&Device::Cpu)?;
        Ok(eval::Features::new(
            values.dim(1)?,
            values.flatten_all()?.to_vec1()?,
            self.labels.clone(),
        )?)
    }
}

impl Experiment {
    /// The features of `split` (`train` or `validation`) under the encoder that `stage` reads: from memory, from the
    /// run folder, or computed now; none if a stop is asked for meanwhile.
    pub(crate) fn features(
        &mut self,
        stage: StageId,
        encoder: &Encoder,
        split: &'static str,
    ) -> Result<Option<Arc<FeatureSet>>> {
        let path = self
            .folder
            .features(plan::frozen(self.recipe(), stage), split);
        if let Some((_, features)) = self.tables.iter().find(|(of, _)| *of == path) {
            return Ok(Some(Arc::clone(features)));
        }
        // Tables are large: those of another encoder make room.
        let prefix = path.parent().map(Path::to_owned);
        self.tables
            .retain(|(of, _)| of.parent().map(Path::to_owned) == prefix);
        let features = if path.exists() {
            FeatureSet::load(&path, self.device())?
        } else {
            let splits = self.splits()?;
            let (indices, what) = match split {
                "train" => (&splits.train, "features of the training images"),
                _ => (&splits.validation, "features of the validation images"),
            };
            let loader =
                splits.plain_loader(&splits.images, indices, self.recipe().evaluate.batch_size)?;
            let device = self.device().clone();
            let total = indices.len();
            let started = Instant::now();
            let mut meter = Meter::of_this_machine();
            let mut joules = 0.0;
            let features = FeatureSet::compute(&loader, encoder, &device, |done| {
                self.tell(&Event::Progress {
                    stage,
                    what,
                    done,
                    total,
                });
                if let Some(meter) = &mut meter {
                    joules += meter.joules();
                }
                !self.stop_asked()
            })?;
            let Some(features) = features else {
                return Ok(None);
            };
            let frozen = plan::frozen(self.recipe(), stage);
            fs_err::create_dir_all(self.folder.arm(frozen.owner))?;
            let spent = Extraction {
                seconds: started.elapsed().as_secs_f64(),
                joules: meter.map(|mut meter| joules + meter.joules()),
            };
            // Before the table: where that is, it is known what it took.
            files::write_json(&self.folder.features_record(frozen, split), &spent)?;
            features.save(&path)?;
            features
        };
        let features = Arc::new(features);
        self.tables.push((path, Arc::clone(&features)));
        Ok(Some(features))
    }
}
