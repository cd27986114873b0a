//! A run in its folder: create or resume it, run its stages, collect its results.

use crate::budget::{self, Costs};
use crate::checkpoint::{Checkpoint, Position};
use crate::environment::{RunRecord, now};
use crate::features::FeatureSet;
use crate::folder::{CONFIG, Done, ENVIRONMENT, RECIPE, RunFolder, read_recipe};
use crate::journal::{Journal, JournalPosition};
use crate::model::{Encoder, Head};
use crate::recipe::{BudgetBy, CheckedRecipe, HeadKind, TransferMode};
use crate::speed::{Estimate, Speeds};
use crate::splits::Splits;
use crate::validate::ValidationImages;
use crate::weights::{InitialWeights, initial_weights};
use crate::{
    Arm, Error, Event, Observer, Result, StageId, StageKind, StopFlag, evaluate, files, heads,
    plan, pretrain, resume, speed, supervised, training_thread,
};
use candle_core::Device;
use cifar_data::{Dataset, DatasetInfo, Normalization};
use resnet::{Init, Parameters};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a run needs to know that is neither recipe nor data.
pub struct Options {
    /// Where tensors live.
    pub device: Device,
    /// Asks the run to stop.
    pub stop: StopFlag,
    /// The command line, for the report.
    pub command: String,
    /// Weights by name come from the local cache alone.
    pub offline: bool,
    /// Who is told what happens.
    pub observers: Vec<Box<dyn Observer>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            stop: StopFlag::new(),
            command: String::new(),
            offline: false,
            observers: Vec::new(),
        }
    }
}

/// How a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran to its end.
    Finished,
    /// It was done before.
    AlreadyDone,
    /// A stop was asked for; a checkpoint is on disk.
    Stopped,
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageProgress {
    /// Whether it is done.
    pub done: bool,
    /// Epochs it will have.
    pub epochs: usize,
    /// Steps of an epoch.
    pub steps_per_epoch: usize,
    /// Steps since it began that are safely on disk.
    pub steps_done: usize,
}

/// A run in its folder.
pub struct Experiment {
    pub(crate) folder: RunFolder,
    pub(crate) journal: Journal,
    pub(crate) record: RunRecord,
    pub(crate) dataset: Dataset,
    pub(crate) tables: Vec<(PathBuf, Arc<FeatureSet>)>,
    recipe: CheckedRecipe,
    splits: Splits,
    speeds: Option<Speeds>,
    options: Options,
}

impl Experiment {
    /// Begins a run in a new or empty folder: takes its lock, freezes what depends on measured speed, and writes
    /// `recipe.toml` (as asked), `config.toml` (as resolved) and `environment.json`. What cannot be run is refused while
    /// there is no folder yet.
    pub fn create(
        run_dir: impl AsRef<Path>,
        recipe: &CheckedRecipe,
        dataset: Dataset,
        mut options: Options,
    ) -> Result<Self> {
        RunFolder::refuse_taken(run_dir.as_ref())?;
        let weights = initial_weights(recipe, options.offline, &mut |event| {
            for observer in &mut options.observers {
                observer.event(event);
            }
        })?;
        check_classes(dataset.info())?;
        let splits = Splits::open(&dataset, recipe)?;
        speed::check_batches(recipe, &splits)?;
        let folder = RunFolder::create(run_dir.as_ref())?;
        let mut record = RunRecord::new(
            recipe,
            dataset.info(),
            &splits,
            &options.device,
            &options.command,
        );
        record.pixels = Some(splits.pixel_ranges()?);
        record.weights = weights.into_iter().map(|w| (w.name, w.checksum)).collect();
        let mut frozen = recipe.clone();
        let mut speeds = None;
        let classes = dataset.info().classes.len();
        if recipe.budget_minutes.is_some() || recipe.budget == Some(BudgetBy::Time) {
            let measured = Speeds::measure(recipe, &splits, classes, &options.device)?;
            record.measured = measured.by_name();
            speeds = Some(measured);
        }
        let costs = Costs::of(recipe, &splits, classes)?;
        if let Some(by) = recipe.budget {
            frozen = budget::equalise(&frozen, by, &costs, speeds.as_ref(), &record)?;
        }
        if let (Some(minutes), Some(measured)) = (recipe.budget_minutes, &speeds) {
            frozen = speed::fit(&frozen, measured, &record, minutes)?;
            if let Some(by) = recipe.budget {
                frozen = budget::equalise(&frozen, by, &costs, speeds.as_ref(), &record)?;
            }
        }
        record.budget = Some(budget::planned(&frozen, &costs, &record));
        files::write(&folder.path().join(RECIPE), recipe.to_toml()?.as_bytes())?;
        files::write_json(&folder.path().join(ENVIRONMENT), &record)?;
        // The run has begun when this file is there.
        files::write(&folder.path().join(CONFIG), frozen.to_toml()?.as_bytes())?;
        fs_err::create_dir_all(folder.path().join("checkpoints"))?;
        let journal = Journal::open(folder.path(), JournalPosition::default())?;
        Ok(Self {
            folder,
            journal,
            record,
            dataset,
            tables: Vec::new(),
            recipe: frozen,
            splits,
            speeds,
            options,
        })
    }

    /// Takes up a run. With a recipe, it must be the one that the run began with; without, the folder's own is used.
    /// The data must be the same, by name and checksums. A run that was interrupted before step 0 begins again.
    pub fn resume(
        run_dir: impl AsRef<Path>,
        recipe: Option<&CheckedRecipe>,
        dataset: Dataset,
        options: Options,
    ) -> Result<Self> {
        let run_dir = run_dir.as_ref();
        if let Some(recipe) = recipe
            && RunFolder::never_began(run_dir)?
        {
            return Self::create(run_dir, recipe, dataset, options);
        }
        let folder = RunFolder::open(run_dir)?;
        let record: RunRecord = files::read_json(&run_dir.join(ENVIRONMENT))?;
        if let Some(recipe) = recipe {
            resume::same_recipe(run_dir, &*read_recipe(&run_dir.join(RECIPE))?, recipe)?;
        }
        resume::same_data(run_dir, &record.dataset, dataset.info())?;
        let recipe = read_recipe(&run_dir.join(CONFIG))?;
        let splits = Splits::open(&dataset, &recipe)?;
        let journal = Journal::open(run_dir, resume::settle(&folder, &recipe)?)?;
        Ok(Self {
            folder,
            journal,
            record,
            dataset,
            tables: Vec::new(),
            recipe,
            splits,
            speeds: None,
            options,
        })
    }

    /// Adds somebody who is told what happens.
    pub fn add_observer(&mut self, observer: impl Observer + 'static) {
        self.options.observers.push(Box::new(observer));
    }

    /// The resolved recipe.
    pub fn recipe(&self) -> &CheckedRecipe {
        &self.recipe
    }

    /// The run folder.
    pub fn run_dir(&self) -> &Path {
        self.folder.path()
    }

    /// The data set.
    pub fn dataset(&self) -> &DatasetInfo {
        &self.record.dataset
    }

    /// What every arm will cost, as planned before step 0; none in a run folder of an older version.
    pub fn budget(&self) -> Option<&eval::BudgetRecord> {
        self.record.budget.as_ref()
    }

    /// Where tensors live.
    pub fn device(&self) -> &Device {
        &self.options.device
    }

    /// All stages in running order.
    pub fn stages(&self) -> Vec<StageId> {
        plan::stages(&self.recipe)
    }

    /// Whether a stage is done.
    pub fn is_done(&self, stage: StageId) -> bool {
        self.folder.is_done(stage)
    }

    /// How far a stage is, by what is safely on disk.
    pub fn progress(&self, stage: StageId) -> Result<StageProgress> {
        let done = self.is_done(stage);
        let Some(training) = self.recipe.training(stage.kind) else {
            return Ok(StageProgress {
                done,
                epochs: 0,
                steps_per_epoch: 0,
                steps_done: 0,
            });
        };
        let steps_per_epoch =
            plan::steps_per_epoch(&self.recipe, stage.kind, self.splits.train.len());
        let steps_done = match done {
            true => training.epochs * steps_per_epoch,
            false => Checkpoint::load(&self.folder.checkpoint(stage))?
                .map_or(0, |c| c.position.global_step),
        };
        Ok(StageProgress {
            done,
            epochs: training.epochs,
            steps_per_epoch,
            steps_done,
        })
    }

    /// How long the stages that are not done will take, from steps timed on a throw-away copy.
    pub fn estimate(&self) -> Result<Estimate> {
        if self.stages().into_iter().all(|stage| self.is_done(stage)) {
            let stages = self.stages().into_iter().map(|stage| (stage, 0.0));
            return Ok(Estimate {
                stages: stages.collect(),
                report_seconds: 0.0,
            });
        }
        let speeds = match self.speeds {
            Some(speeds) => speeds,
            None => Speeds::measure(
                &self.recipe,
                &self.splits,
                self.dataset().classes.len(),
                self.device(),
            )?,
        };
        let mut estimate = speed::estimate(&self.recipe, &speeds, &self.record);
        for (stage, seconds) in &mut estimate.stages {
            let progress = self.progress(*stage)?;
            let steps = (progress.epochs * progress.steps_per_epoch).max(1);
            *seconds *= if progress.done {
                0.0
            } else {
                1.0 - progress.steps_done as f64 / steps as f64
            };
        }
        Ok(estimate)
    }

    /// Runs one stage, unless it is done.
    pub fn run_stage(&mut self, stage: StageId) -> Result<Outcome> {
        let stages = self.stages();
        if !stages.contains(&stage) {
            let known: Vec<String> = stages.iter().map(ToString::to_string).collect();
            return Err(Error::UnknownStage {
                name: stage.to_string(),
                known: format!("this run has {}", known.join(", ")),
            });
        }
        if self.is_done(stage) {
            self.tell(&Event::StageSkipped { stage });
            return Ok(Outcome::AlreadyDone);
        }
        if let Some(missing) = plan::needs(&self.recipe, stage)
            .into_iter()
            .find(|s| !self.is_done(*s))
        {
            return Err(Error::StageOrder {
                stage,
                needs: missing,
            });
        }
        resume::same_device(
            self.run_dir(),
            &self.record.environment.device,
            self.device(),
        )?;
        if self.stop_asked() {
            return self.stopped(stage);
        }
        fs_err::create_dir_all(self.folder.arm(stage.arm))?;
        training_thread(|| match stage.kind {
            StageKind::Supervised => supervised::train(self, stage),
            StageKind::Pretrain => pretrain::train(self, stage),
            StageKind::Probe | StageKind::Head => heads::train(self, stage),
            StageKind::Finetune => supervised::finetune(self, stage),
            StageKind::Evaluate => evaluate::measure(self, stage),
        })
    }

    /// Runs every stage that is not done, in order.
    pub fn run_all(&mut self) -> Result<Outcome> {
        for stage in self.stages() {
            if self.run_stage(stage)? == Outcome::Stopped {
                return Ok(Outcome::Stopped);
            }
        }
        Ok(Outcome::Finished)
    }

    pub(crate) fn tell(&mut self, event: &Event) {
        self.journal.event(event);
        for observer in &mut self.options.observers {
            observer.event(event);
        }
    }

    pub(crate) fn stop_asked(&self) -> bool {
        self.options.stop.is_set()
    }

    /// Says that a stage without a checkpoint of its own stops; what it left on disk is used again.
    pub(crate) fn stopped(&mut self, stage: StageId) -> Result<Outcome> {
        self.tell(&Event::Stopped {
            stage,
            global_step: 0,
        });
        Ok(Outcome::Stopped)
    }

    pub(crate) fn normalization(&self) -> Normalization {
        self.splits.normalization
    }

    pub(crate) fn splits(&self) -> Result<Splits> {
        Ok(self.splits.clone())
    }

    pub(crate) fn validation_loader(&self, splits: &Splits) -> Result<ValidationImages> {
        if splits.validation.is_empty() {
            return Ok(ValidationImages(None));
        }
        let size = self.recipe.evaluate.batch_size;
        Ok(ValidationImages(Some(splits.plain_loader(
            &splits.images,
            &splits.validation,
            size,
        )?)))
    }

    /// An encoder with the recipe's random weights.
    pub(crate) fn new_encoder(&self) -> Result<Encoder> {
        Encoder::new(&self.recipe.model, self.recipe.seed, self.device())
    }

    /// An encoder with the weights that `init` names.
    pub(crate) fn initial_encoder(&mut self, init: &Init) -> Result<Encoder> {
        let encoder = self.new_encoder()?;
        let offline = self.options.offline;
        let Some(weights) = InitialWeights::find(init, offline, &mut |event| self.tell(event))?
        else {
            return Ok(encoder);
        };
        resume::same_weights(self.run_dir(), &self.record.weights, &weights)?;
        if encoder.init(&weights.path)? {
            let message = format!(
                "the weights of {init} are for another stem: the stem convolution begins at random"
            );
            self.tell(&Event::Warning {
                stage: None,
                message,
            });
        }
        Ok(encoder)
    }

    /// The encoder that a head stage or an evaluation reads. The transfer arm's start is written down first.
    pub(crate) fn frozen_encoder(&mut self, stage: StageId) -> Result<Encoder> {
        let frozen = plan::frozen(&self.recipe, stage);
        let path = self.folder.frozen_encoder(frozen);
        if !path.exists() {
            let untrained =
                plan::transfer_mode(&self.recipe, stage.arm) == Some(TransferMode::Frozen);
            if !(untrained || frozen.start) {
                return Err(Error::Damaged {
                    path,
                    reason: "the encoder is missing, though its training is recorded as done"
                        .to_owned(),
                    remedy: "put it back, or begin a new run folder".to_owned(),
                });
            }
            let init = self.recipe.transfer.init.clone();
            let encoder = self.initial_encoder(&init)?;
            self.save(&path, &encoder.parameters)?;
            return Ok(encoder);
        }
        let encoder = self.new_encoder()?;
        encoder.load(&path)?;
        Ok(encoder)
    }

    pub(crate) fn head(&self, kind: HeadKind, dropout: f64, dim: usize) -> Result<Head> {
        Head::new(
            kind,
            dropout,
            dim,
            self.dataset().classes.len(),
            self.recipe.model.linear_init(),
            self.recipe.seed,
            self.device(),
        )
    }

    pub(crate) fn save(&self, path: &Path, parameters: &Parameters) -> Result<()> {
        Ok(parameters.save(path, &BTreeMap::new())?)
    }

    pub(crate) fn save_encoder(&self, arm: Arm, encoder: &Encoder) -> Result<()> {
        self.save(&self.folder.encoder(arm), &encoder.parameters)
    }

    /// Leaves a training stage's record, the last of its files; then its checkpoint goes.
    pub(crate) fn finish(
        &mut self,
        stage: StageId,
        position: &Position,
        epochs: usize,
        multiply_adds_per_image: u64,
    ) -> Result<()> {
        let done = Done {
            epochs,
            images: position.images,
            multiply_adds: position.images.saturating_mul(multiply_adds_per_image),
            seconds: position.seconds,
            joules: position.joules,
            finished: None,
            validation_accuracy: position.validation_accuracy,
            selected_epoch: position.best.map(|(epoch, _)| epoch),
            journal: JournalPosition::default(),
        };
        self.leave_record(stage, done, None)
    }

    pub(crate) fn leave_record(
        &mut self,
        stage: StageId,
        mut done: Done,
        test_top1: Option<f64>,
    ) -> Result<()> {
        let (seconds, validation_accuracy) = (done.seconds, done.validation_accuracy);
        self.tell(&Event::StageFinished {
            stage,
            seconds,
            validation_accuracy,
            test_top1,
        });
        done.journal = self.journal.sync()?;
        done.finished = Some(now());
        files::write_json(&self.folder.done_record(stage), &done)?;
        let checkpoint = self.folder.checkpoint(stage);
        if checkpoint.exists() {
            fs_err::remove_file(checkpoint)?;
        }
        Ok(())
    }
}

/// Refuses data in which there is nothing to tell apart.
fn check_classes(data: &DatasetInfo) -> Result<()> {
    match data.classes.as_slice() {
        [_, _, ..] => Ok(()),
        few => Err(Error::Unfit {
            message: format!(
                "{} has {} ({}), and a classifier tells at least two apart: add a folder of images for another class",
                data.source,
                if few.is_empty() {
                    "no class"
                } else {
                    "one class"
                },
                few.join(", ")
            ),
        }),
    }
}
