//! The run folder: who may write it, and where everything lies in it.
//!
//! ```text
//! recipe.toml  config.toml  environment.json   before step 0: as asked, as resolved, on what
//! metrics.jsonl  events.out.tfevents.0.run     as it goes
//! projector_config.pbtxt  projector/           TensorBoard's embedding projector, by the evaluations
//! checkpoints/<arm>-<stage>.safetensors        of stages under way
//! <arm>/encoder.safetensors  head-*.safetensors  features-*.safetensors  predictions-*.safetensors
//! <arm>/measured/<name>.json                   what an evaluation measured on request, one by one
//! <arm>/features-*.json                        how long they took
//! <arm>/snapshots/<stage>-<epochs>.safetensors similarities of a few validation images in the course of training
//! <arm>/<stage>.json                           written last: the stage is done
//! samples.safetensors  pictures.safetensors    test photographs for the report
//! results.json  report.md  report.html
//! ```

use crate::files::remove_temporaries;
use crate::journal::JournalPosition;
use crate::plan::Frozen;
use crate::recipe::{CheckedRecipe, HeadKind};
use crate::{Arm, Error, Recipe, Result, StageId};
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// A run folder that this process alone writes, or only reads.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    /// Held while this process may write.
    _lock: Option<File>,
}

/// `<arm>/<stage>.json`: what a finished stage leaves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Epochs trained.
    pub epochs: usize,
    /// Images that went through training steps, every view counted.
    pub images: u64,
    /// Multiply-adds of these, forward and backward.
    pub multiply_adds: u64,
    /// Wall time over all processes.
    pub seconds: f64,
    /// Energy of the processor packages over all processes, where the machine tells.
    #[serde(default)]
    pub joules: Option<f64>,
    /// When it was done, RFC 3339; runs of older versions have not kept it.
    #[serde(default)]
    pub finished: Option<String>,
    /// Accuracy on the validation split at the end.
    pub validation_accuracy: Option<f64>,
    /// The epoch that was handed on, where that was a choice.
    pub selected_epoch: Option<usize>,
    /// How long the journal was.
    pub journal: JournalPosition,
}

impl RunFolder {
    /// Refuses a folder that holds something.
    pub fn refuse_taken(path: &Path) -> Result<()> {
        match foreign_entry(path)? {
            Some(found) => Err(Error::FolderTaken {
                path: path.to_owned(),
                found,
            }),
            None => Ok(()),
        }
    }

    /// Makes a new run folder, or takes an empty one.
    pub fn create(path: &Path) -> Result<Self> {
        Self::refuse_taken(path)?;
        std::fs::create_dir_all(path).map_err(|e| unwritable(path, &e))?;
        let folder = Self {
            path: path.to_owned(),
            _lock: Some(lock(path)?),
        };
        remove_temporaries(path)?;
        Ok(folder)
    }

    /// Whether a run was about to begin here, but was interrupted before step 0: nothing is lost by beginning again.
    pub fn never_began(path: &Path) -> Result<bool> {
        Ok(path.is_dir()
            && fs_err::read_dir(path)?.next().is_some()
            && foreign_entry(path)?.is_none())
    }

    /// Opens the folder of a run that was begun.
    pub fn open(path: &Path) -> Result<Self> {
        for name in [CONFIG, RECIPE, ENVIRONMENT] {
            if !path.join(name).is_file() {
                return Err(Error::NoRun {
                    path: path.to_owned(),
                    missing: name.to_owned(),
                });
            }
        }
        let folder = Self {
            path: path.to_owned(),
            _lock: Some(lock(path)?),
        };
        remove_temporaries(path)?;
        for arm in Arm::ALL {
            if folder.arm(arm).is_dir() {
                remove_temporaries(&folder.arm(arm))?;
            }
            for inside in [folder.snapshots(arm), folder.measured(arm)] {
                if inside.is_dir() {
                    remove_temporaries(&inside)?;
                }
            }
        }
        fs_err::create_dir_all(path.join("checkpoints"))?;
        remove_temporaries(&path.join("checkpoints"))?;
        Ok(folder)
    }

    /// Opens the folder of a run to read what is finished in it: without a lock, so that others may read or even write it.
    pub fn read(path: &Path) -> Result<Self> {
        for name in [CONFIG, ENVIRONMENT] {
            if !path.join(name).is_file() {
                return Err(Error::NotARun {
                    path: path.to_owned(),
                    missing: name.to_owned(),
                });
            }
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: None,
        })
    }

    /// Whether a process holds the lock. Looking takes it for a moment where nobody does.
    pub fn is_locked(&self) -> Result<bool> {
        let file = match File::open(self.path.join(LOCK)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn arm(&self, arm: Arm) -> PathBuf {
        self.path.join(arm.name())
    }

    pub fn encoder(&self, arm: Arm) -> PathBuf {
        self.arm(arm).join("encoder.safetensors")
    }

    pub fn head(&self, arm: Arm, head: HeadKind) -> PathBuf {
        self.arm(arm)
            .join(format!("head-{}.safetensors", head.name()))
    }

    pub fn projection(&self, arm: Arm) -> PathBuf {
        self.arm(arm).join("projection.safetensors")
    }

    /// The weights of an encoder that is read, not trained.
    pub fn frozen_encoder(&self, frozen: Frozen) -> PathBuf {
        self.arm(frozen.owner)
            .join(format!("{}encoder.safetensors", start(frozen)))
    }

    /// The features that it gives.
    pub fn features(&self, frozen: Frozen, split: &str) -> PathBuf {
        self.arm(frozen.owner)
            .join(format!("{}features-{split}.safetensors", start(frozen)))
    }

    /// What computing them took.
    pub fn features_record(&self, frozen: Frozen, split: &str) -> PathBuf {
        self.features(frozen, split).with_extension("json")
    }

    /// A head trained on it, for `arm`.
    pub fn frozen_head(&self, arm: Arm, frozen: Frozen, head: HeadKind) -> PathBuf {
        self.arm(arm)
            .join(format!("{}head-{}.safetensors", start(frozen), head.name()))
    }

    pub fn predictions(&self, arm: Arm, head: HeadKind) -> PathBuf {
        self.arm(arm)
            .join(format!("predictions-{}.safetensors", head.name()))
    }

    /// What a probe at the optimum of its loss answers.
    pub fn probe_predictions(&self, arm: Arm, probe: &str) -> PathBuf {
        self.arm(arm)
            .join(format!("predictions-{probe}.safetensors"))
    }

    /// What an evaluation measured on request, a file each.
    pub fn measured(&self, arm: Arm) -> PathBuf {
        self.arm(arm).join("measured")
    }

    pub fn samples(&self) -> PathBuf {
        self.path.join("samples.safetensors")
    }

    /// All test images, small.
    pub fn pictures(&self) -> PathBuf {
        self.path.join("pictures.safetensors")
    }

    /// What a few validation images looked like in the course of an arm's training.
    pub fn snapshots(&self, arm: Arm) -> PathBuf {
        self.arm(arm).join("snapshots")
    }

    pub fn result(&self, arm: Arm) -> PathBuf {
        self.arm(arm).join("result.json")
    }

    pub fn done_record(&self, stage: StageId) -> PathBuf {
        self.arm(stage.arm).join(format!("{}.json", stage.kind))
    }

    pub fn checkpoint(&self, stage: StageId) -> PathBuf {
        self.path
            .join("checkpoints")
            .join(format!("{}-{}.safetensors", stage.arm, stage.kind))
    }

    pub fn is_done(&self, stage: StageId) -> bool {
        self.done_record(stage).is_file()
    }
}

/// Prefix of the files of the encoder that an arm started from.
fn start(frozen: Frozen) -> &'static str {
    if frozen.start { "start-" } else { "" }
}

pub(crate) const RECIPE: &str = "recipe.toml";
pub(crate) const CONFIG: &str = "config.toml";
pub(crate) const ENVIRONMENT: &str = "environment.json";
const LOCK: &str = ".lock";

/// What stands in the way of a new run: anything but what a run leaves behind that was interrupted before step 0.
fn foreign_entry(path: &Path) -> Result<Option<String>> {
    if path.is_file() {
        return Ok(Some("a file of this name".to_owned()));
    }
    if !path.exists() {
        return Ok(None);
    }
    let mut names = Vec::new();
    for entry in fs_err::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let leftover = |name: &String| {
        [LOCK, RECIPE, ENVIRONMENT].contains(&name.as_str()) || name.starts_with(".new-")
    };
    Ok(names.into_iter().find(|name| !leftover(name)))
}

/// Holds the folder until the returned file is closed, by whatever end of the process.
fn lock(path: &Path) -> Result<File> {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join(LOCK))
        .map_err(|e| unwritable(path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(e)) => Err(e.into()),
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::Unwritable {
        path: path.to_owned(),
        reason: error.kind(),
    }
}

/// Whether a run was about to begin in this folder but was interrupted before its first step: beginning again there loses
/// nothing. Takes no lock and changes nothing.
pub fn never_began(run_dir: impl AsRef<Path>) -> Result<bool> {
    RunFolder::never_began(run_dir.as_ref())
}

/// The resolved recipe of a run folder, as `config.toml` has it. Takes no lock and changes nothing.
pub fn recorded_recipe(run_dir: impl AsRef<Path>) -> Result<CheckedRecipe> {
    let path = run_dir.as_ref();
    let config = path.join(CONFIG);
    if !config.is_file() {
        return Err(Error::NoRun {
            path: path.to_owned(),
            missing: CONFIG.to_owned(),
        });
    }
    read_recipe(&config)
}

pub(crate) fn read_recipe(path: &Path) -> Result<CheckedRecipe> {
    let text = fs_err::read_to_string(path)?;
    Recipe::parse(&text)
        .and_then(|recipe| recipe.check())
        .map_err(|e| Error::Damaged {
            path: path.to_owned(),
            reason: e.to_string(),
            remedy: "restore it, or start again in a new run folder".to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let first = RunFolder::create(&path).unwrap();
        for name in [CONFIG, RECIPE, ENVIRONMENT] {
            std::fs::write(path.join(name), "").unwrap();
        }
        assert!(matches!(RunFolder::open(&path), Err(Error::Locked { .. })));
        drop(first);
        RunFolder::open(&path).unwrap();
    }

    #[test]
    fn a_taken_folder_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.tex"), "precious").unwrap();
        let error = RunFolder::create(folder.path()).unwrap_err();
        assert!(error.to_string().contains("thesis.tex"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = RunFolder::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("config.toml"), "{error}");
    }
}
