//! A run seen from outside while another process works on it, or after: its stages, its journal as events, whether anybody is at work.

use crate::environment::RunRecord;
use crate::folder::{CONFIG, ENVIRONMENT, RunFolder, read_recipe};
use crate::journal::METRICS;
use crate::recipe::CheckedRecipe;
use crate::{Event, Result, StageId, StageKind, StepEvent, files, plan};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A run that is only looked at: no lock is held, nothing is written.
#[derive(Debug)]
pub struct Overview {
    folder: RunFolder,
    recipe: CheckedRecipe,
    train_images: usize,
}

impl Overview {
    /// Looks into a run folder.
    ///
    /// # Errors
    /// If there is no run in it, or its first files are damaged.
    pub fn open(run_dir: impl AsRef<Path>) -> Result<Self> {
        let run_dir = run_dir.as_ref();
        let folder = RunFolder::read(run_dir)?;
        let record: RunRecord = files::read_json(&run_dir.join(ENVIRONMENT))?;
        Ok(Self {
            folder,
            recipe: read_recipe(&run_dir.join(CONFIG))?,
            train_images: record.train_images,
        })
    }

    /// The recipe's name.
    pub fn recipe_name(&self) -> &str {
        &self.recipe.name
    }

    /// All stages in running order.
    pub fn stages(&self) -> Vec<StageId> {
        plan::stages(&self.recipe)
    }

    /// Whether every stage is done.
    pub fn is_finished(&self) -> bool {
        self.stages()
            .into_iter()
            .all(|stage| self.folder.is_done(stage))
    }

    /// Whether a process works on the run now.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn is_at_work(&self) -> Result<bool> {
        self.folder.is_locked()
    }

    /// The file that grows as the run goes on, a line for every event.
    pub fn metrics(&self) -> PathBuf {
        self.folder.path().join(METRICS)
    }

    /// A line of that file as the event that it was; none for what is no event, such as half a line.
    pub fn event(&self, line: &str) -> Option<Event> {
        let line: Value = serde_json::from_str(line).ok()?;
        let number = |field: &str| line[field].as_f64();
        let whole = |field: &str| line[field].as_u64().map(|n| n as usize);
        let stage = line["stage"]
            .as_str()
            .and_then(|name| name.parse::<StageId>().ok());
        match line["event"].as_str()? {
            "step" => self.step(stage?, &line),
            "epoch" => Some(Event::EpochEnd {
                stage: stage?,
                epoch: whole("epoch")?,
                epochs: self.recipe.training(stage?.kind)?.epochs,
                global_step: whole("global_step")?,
                loss: number("loss").unwrap_or(f64::NAN),
                accuracy: number("accuracy"),
                validation_accuracy: number("validation_accuracy"),
                validation_loss: number("validation_loss"),
                seconds: number("seconds")?,
            }),
            "stage" => Some(Event::StageFinished {
                stage: stage?,
                seconds: number("seconds")?,
                validation_accuracy: number("validation_accuracy"),
                test_top1: number("test_top1"),
            }),
            "warning" => Some(Event::Warning {
                stage,
                message: line["message"].as_str()?.to_owned(),
            }),
            _ => None,
        }
    }

    fn step(&self, stage: StageId, line: &Value) -> Option<Event> {
        let number = |field: &str| line[field].as_f64();
        let whole = |field: &str| line[field].as_u64().map(|n| n as usize);
        let training = self.recipe.training(stage.kind)?;
        let steps_per_epoch = plan::steps_per_epoch(&self.recipe, stage.kind, self.train_images);
        let global_step = whole("global_step")?;
        let images_per_second = number("images_per_second")?;
        let views = match stage.kind {
            StageKind::Pretrain => self.recipe.augment.views,
            kind if self.recipe.augments(kind) => self.recipe.augment.supervised_views,
            _ => 1,
        };
        let steps_left = (training.epochs * steps_per_epoch).saturating_sub(global_step);
        let images_left = (steps_left * training.batch_size * views) as f64;
        let left = Duration::try_from_secs_f64(images_left / images_per_second.max(1e-3));
        Some(Event::Step(StepEvent {
            stage,
            epoch: whole("epoch")?,
            epochs: training.epochs,
            step: whole("step")?,
            steps_per_epoch,
            global_step,
            loss: number("loss").unwrap_or(f64::NAN),
            lr: number("lr").unwrap_or(f64::NAN),
            grad_norm: number("grad_norm"),
            accuracy: number("accuracy"),
            collapse: number("collapse"),
            floor: number("floor"),
            spread: number("spread"),
            lonely: number("lonely"),
            alignment: number("alignment"),
            uniformity: number("uniformity"),
            effective_rank: number("effective_rank"),
            contrastive_top1: number("contrastive_top1"),
            images_per_second,
            left: left.unwrap_or_default(),
        }))
    }
}
