//! One file from which a stage goes on as if it had never stopped.
//!
//! Everything random is a function of (seed, purpose, epoch, step), so weights, running statistics, optimiser state and
//! the position suffice. Tensors are named `model/<group>.<name>`, `optimizer/…`, `average/…`, `best/…`, `kept/…` (a memory of
//! former batches); the position is JSON under the one metadata key `position`.

use crate::journal::JournalPosition;
use crate::{Error, Result};
use candle_core::Tensor;
use resnet::{LoadOptions, Parameters, read_safetensors, write_safetensors};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Where a stage stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Epoch to go on with.
    pub epoch: usize,
    /// Step in that epoch to go on with.
    pub step: usize,
    /// Steps done since the stage began.
    pub global_step: usize,
    /// Sum of the running epoch's losses.
    pub loss_sum: f64,
    /// Rows of the running epoch classified correctly, and rows classified.
    pub correct: u64,
    pub rows: u64,
    /// Images that went through training steps, every view counted.
    pub images: u64,
    /// Wall time over all processes.
    pub seconds: f64,
    /// Energy of the processor packages over all processes, where the machine tells.
    #[serde(default)]
    pub joules: Option<f64>,
    /// The best epoch so far and its validation accuracy.
    pub best: Option<(usize, f64)>,
    /// Validation accuracy after the last full epoch.
    pub validation_accuracy: Option<f64>,
    /// Steps in a row at the collapse value, and whether collapse was called.
    pub collapsed_steps: usize,
    pub collapse_named: bool,
    /// Steps in a row with embeddings in few directions, and whether that was called.
    #[serde(default)]
    pub narrow_steps: usize,
    #[serde(default)]
    pub narrow_named: bool,
    /// How long the journal was.
    pub journal: JournalPosition,
}

/// Named tensors and a position.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    pub position: Position,
    pub tensors: BTreeMap<String, Tensor>,
}

const KEY: &str = "position";

impl Checkpoint {
    /// Adds a section's tensors.
    pub fn insert(&mut self, section: &str, tensors: BTreeMap<String, Tensor>) {
        self.tensors.extend(
            tensors
                .into_iter()
                .map(|(name, t)| (format!("{section}/{name}"), t)),
        );
    }

    /// A section's tensors under their own names.
    pub fn section(&self, section: &str) -> BTreeMap<String, Tensor> {
        let prefix = format!("{section}/");
        let strip = |(name, t): (&String, &Tensor)| {
            Some((name.strip_prefix(&prefix)?.to_owned(), t.clone()))
        };
        self.tensors.iter().filter_map(strip).collect()
    }

    /// Writes the file as a whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        let position = serde_json::to_string(&self.position).map_err(|e| damaged(path, &e))?;
        Ok(write_safetensors(
            path,
            &self.tensors,
            &BTreeMap::from([(KEY.to_owned(), position)]),
        )?)
    }

    /// Reads a file that [`save`](Self::save) wrote; none if there is no file.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let file = read_safetensors(path)?;
        let position = file
            .metadata
            .get(KEY)
            .ok_or_else(|| damaged(path, &"it has no position"))?;
        let position = serde_json::from_str(position).map_err(|e| damaged(path, &e))?;
        Ok(Some(Self {
            position,
            tensors: file.tensors,
        }))
    }
}

fn damaged(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Damaged {
        path: path.to_owned(),
        reason: reason.to_string(),
        remedy: "remove it to begin the stage again".to_owned(),
    }
}

/// All tensors of several parameter collections, as `<group>.<name>`.
pub(crate) fn to_tensors(groups: &[(&str, &Parameters)]) -> Result<BTreeMap<String, Tensor>> {
    let mut tensors = BTreeMap::new();
    for (group, parameters) in groups {
        tensors.extend(
            parameters
                .to_tensors()?
                .into_iter()
                .map(|(name, t)| (format!("{group}.{name}"), t)),
        );
    }
    Ok(tensors)
}

/// The reverse of [`to_tensors`].
pub(crate) fn load_tensors(
    groups: &[(&str, &Parameters)],
    tensors: &BTreeMap<String, Tensor>,
) -> Result<()> {
    for (group, parameters) in groups {
        let prefix = format!("{group}.");
        let own = tensors
            .iter()
            .filter_map(|(name, t)| Some((name.strip_prefix(&prefix)?.to_owned(), t.clone())));
        parameters.load_tensors(&own.collect(), &LoadOptions::default())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn comes_back_as_it_went() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        assert!(Checkpoint::load(&path).unwrap().is_none());
        let mut checkpoint = Checkpoint {
            position: Position {
                epoch: 3,
                loss_sum: 0.1 + 0.2,
                best: Some((1, 1.0 / 3.0)),
                ..Position::default()
            },
            ..Checkpoint::default()
        };
        let tensor = Tensor::new(&[1f32, f32::MIN_POSITIVE], &Device::Cpu).unwrap();
        checkpoint.insert("model", BTreeMap::from([("encoder.w".to_owned(), tensor)]));
        checkpoint.save(&path).unwrap();
        let again = Checkpoint::load(&path).unwrap().unwrap();
        assert_eq!(again.position, checkpoint.position);
        let tensor = &again.section("model")["encoder.w"];
        assert_eq!(tensor.to_vec1::<f32>().unwrap(), [1.0, f32::MIN_POSITIVE]);
        std::fs::write(&path, b"12345678{}").unwrap();
        assert!(Checkpoint::load(&path).is_err());
    }
}
