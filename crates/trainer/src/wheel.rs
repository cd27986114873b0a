//! The wheel that every training stage turns: epochs of steps, with checkpoints, observers and a stop request.

mod looks;

use crate::average::Average;
use crate::checkpoint::{Checkpoint, Position, load_tensors, to_tensors};
use crate::collapse;
use crate::energy::Meter;
use crate::experiment::{Experiment, Outcome};
use crate::feed::{Batch, Feed};
use crate::step::{Forward, Place, Stepped, Stepper, non_finite};
use crate::{Event, Result, StageId, StepEvent, Training};
use candle_core::Tensor;
use resnet::Parameters;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The checkpoint's section of what a stage keeps.
const KEPT: &str = "kept";

/// Accuracy and mean cross-entropy on the validation split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Validation {
    pub accuracy: f64,
    pub loss: f64,
}

/// What a stage remembers from step to step beside weights; its checkpoints hold it.
pub(crate) trait Keeps {
    /// Named tensors, from which [`take_up`](Self::take_up) goes on with the same bits.
    fn kept(&self) -> Result<BTreeMap<String, Tensor>>;
    /// Takes over what [`kept`](Self::kept) gave.
    fn take_up(&self, kept: &BTreeMap<String, Tensor>) -> Result<()>;
}

/// A stage under way.
pub(crate) struct Wheel<'a> {
    experiment: &'a mut Experiment,
    stage: StageId,
    training: Training,
    groups: Vec<(&'static str, &'a Parameters)>,
    stepper: Stepper,
    position: Position,
    best: Option<BTreeMap<String, Tensor>>,
    /// What the checkpoint held for [`keeping`](Self::keeping).
    found: BTreeMap<String, Tensor>,
    keeps: Option<&'a dyn Keeps>,
    steps_per_epoch: usize,
    collapse_patience: usize,
    /// Epochs that take less than this share one checkpoint.
    checkpoint_every: Duration,
    watch: Option<Look<'a>>,
    meter: Option<Meter>,
    clock: Clock,
}

/// Looks at the model when so many epochs are done.
type Look<'a> = Box<dyn FnMut(usize) -> Result<()> + 'a>;

/// Speed over the steps of this process.
struct Clock {
    last_step: Instant,
    last_checkpoint: Instant,
    epoch_seconds: f64,
    step_seconds: f64,
    images_per_second: f64,
}

impl<'a> Wheel<'a> {
    /// Begins a stage, or takes it up where its checkpoint left it.
    pub fn start(
        experiment: &'a mut Experiment,
        stage: StageId,
        training: Training,
        groups: &[(&'static str, &'a Parameters)],
        steps_per_epoch: usize,
    ) -> Result<Self> {
        let mut stepper = Stepper::new(&training, groups, steps_per_epoch)?;
        let mut position = Position::default();
        let mut best = None;
        let mut found = BTreeMap::new();
        if let Some(checkpoint) = Checkpoint::load(&experiment.folder.checkpoint(stage))? {
            load_tensors(groups, &checkpoint.section("model"))?;
            stepper
                .optimizer
                .load_state(&checkpoint.section("optimizer"))?;
            if let Some(average) = &mut stepper.average {
                average.load_state(&checkpoint.section("average"))?;
            }
            best = Some(checkpoint.section("best")).filter(|tensors| !tensors.is_empty());
            found = checkpoint.section(KEPT);
            position = checkpoint.position;
        }
        experiment.tell(&Event::StageStarted {
            stage,
            epochs: training.epochs,
            steps_per_epoch,
            resumed_at: position.global_step,
        });
        let collapse_patience = experiment.recipe().pretrain.collapse_patience;
        let now = Instant::now();
        Ok(Self {
            experiment,
            stage,
            training,
            groups: groups.to_vec(),
            stepper,
            position,
            best,
            found,
            keeps: None,
            steps_per_epoch,
            collapse_patience,
            checkpoint_every: Duration::ZERO,
            watch: None,
            meter: Meter::of_this_machine(),
            clock: Clock {
                last_step: now,
                last_checkpoint: now,
                epoch_seconds: 0.0,
                step_seconds: 0.0,
                images_per_second: 0.0,
            },
        })
    }

    /// Lets epochs that take less than `interval` share one checkpoint.
    pub fn checkpoint_every(mut self, interval: Duration) -> Self {
        self.checkpoint_every = interval;
        self
    }

    /// Lets somebody look at the model before the first step and after each epoch (with the averaged weights, where they
    /// are averaged). After an interruption a look may be repeated: it sees the same bits.
    pub fn watched_by(mut self, look: impl FnMut(usize) -> Result<()> + 'a) -> Self {
        self.watch = Some(Box::new(look));
        self
    }

    /// Lets checkpoints hold what `keeps` remembers; it goes on from what the last one held.
    pub fn keeping(mut self, keeps: &'a dyn Keeps) -> Result<Self> {
        keeps.take_up(&std::mem::take(&mut self.found))?;
        self.keeps = Some(keeps);
        Ok(self)
    }

    /// Turns until the last epoch is done or a stop is asked for.
    pub fn run(
        &mut self,
        feed: &dyn Feed,
        mut forward: impl FnMut(&Batch, &Place) -> Result<Forward>,
        mut validate: impl FnMut() -> Result<Option<Validation>>,
    ) -> Result<Outcome> {
        if let (0, Some(look)) = (self.position.global_step, &mut self.watch) {
            look(0)?;
        }
        self.clock.last_step = Instant::now();
        while self.position.epoch < self.training.epochs {
            let (epoch, first) = (self.position.epoch, self.position.step);
            for batch in feed.epoch(epoch, first) {
                let images = self.step(batch?, &mut forward)?;
                self.position.images += images as u64;
                let epoch_is_over = self.position.step == self.steps_per_epoch;
                if self.experiment.stop_asked() && !epoch_is_over {
                    return self.stopped();
                }
            }
            self.end_epoch(&mut validate)?;
            if self.experiment.stop_asked() && self.position.epoch < self.training.epochs {
                return self.stopped();
            }
        }
        self.settle()
    }

    /// What the stage came to, for its record.
    pub fn position(&self) -> &Position {
        &self.position
    }

    fn step(
        &mut self,
        batch: Batch,
        forward: &mut dyn FnMut(&Batch, &Place) -> Result<Forward>,
    ) -> Result<usize> {
        let images = batch.rows();
        if self.position.global_step == 0 {
            self.show_views(&batch)?;
        }
        let looks_closer = self.looks_closer();
        self.stepper.watch = looks_closer;
        let stepped = self
            .stepper
            .step(batch, self.place(), self.position.global_step, forward)?;
        if looks_closer {
            self.show_spread(&stepped)?;
        }
        let p = &mut self.position;
        p.step += 1;
        p.global_step += 1;
        p.loss_sum += stepped.loss;
        p.correct += stepped.correct.unwrap_or(0) as u64;
        p.rows += if stepped.correct.is_some() {
            stepped.rows as u64
        } else {
            0
        };
        self.clock.tick(images, &mut p.seconds);
        if let Some(meter) = &mut self.meter {
            *p.joules.get_or_insert(0.0) += meter.joules();
        }
        self.report(&stepped);
        Ok(images)
    }

    fn report(&mut self, stepped: &Stepped) {
        let p = &mut self.position;
        let left = (self.training.epochs * self.steps_per_epoch).saturating_sub(p.global_step);
        let monitor = stepped.monitor;
        let warm = p.global_step > self.stepper.warmup_steps();
        let warning = monitor
            .and_then(|m| collapse::watch(p, stepped.loss, &m, warm, self.collapse_patience));
        let look = monitor.and_then(|m| m.look);
        let event = StepEvent {
            stage: self.stage,
            epoch: p.epoch,
            epochs: self.training.epochs,
            step: p.step - 1,
            steps_per_epoch: self.steps_per_epoch,
            global_step: p.global_step,
            loss: stepped.loss,
            lr: stepped.lr,
            grad_norm: stepped.grad_norm,
            accuracy: stepped
                .correct
                .map(|c| c as f64 / stepped.rows.max(1) as f64),
            collapse: monitor.map(|m| m.collapse),
            floor: monitor.map(|m| m.floor),
            spread: monitor.map(|m| m.spread),
            lonely: monitor.map(|m| m.lonely),
            alignment: look.and_then(|l| l.alignment),
            uniformity: look.and_then(|l| l.uniformity),
            effective_rank: look.and_then(|l| l.rank),
            contrastive_top1: look.and_then(|l| l.top1),
            images_per_second: self.clock.images_per_second,
            left: Duration::from_secs_f64(left as f64 * self.clock.step_seconds),
        };
        self.experiment.tell(&Event::Step(event));
        if let Some(message) = warning {
            self.experiment.tell(&Event::Warning {
                stage: Some(self.stage),
                message,
            });
        }
    }

    /// Validates, remembers the best, moves on to the next epoch and writes a checkpoint.
    fn end_epoch(
        &mut self,
        validate: &mut dyn FnMut() -> Result<Option<Validation>>,
    ) -> Result<()> {
        self.check_weights()?;
        self.swap_average()?;
        let validation = validate()?;
        let p = &mut self.position;
        if let Some(look) = &mut self.watch {
            look(p.epoch + 1)?;
        }
        if let (Some(v), true) = (validation, self.training.select_best)
            && p.best.is_none_or(|(_, accuracy)| v.accuracy > accuracy)
        {
            p.best = Some((p.epoch, v.accuracy));
            self.best = Some(to_tensors(&self.groups)?);
        }
        self.swap_average()?;
        let p = &mut self.position;
        let event = Event::EpochEnd {
            stage: self.stage,
            epoch: p.epoch,
            epochs: self.training.epochs,
            global_step: p.global_step,
            loss: p.loss_sum / self.steps_per_epoch as f64,
            accuracy: (p.rows > 0).then(|| p.correct as f64 / p.rows as f64),
            validation_accuracy: validation.map(|v| v.accuracy),
            validation_loss: validation.map(|v| v.loss),
            seconds: self.clock.epoch_seconds,
        };
        p.validation_accuracy = validation.map(|v| v.accuracy);
        p.epoch += 1;
        p.step = 0;
        p.loss_sum = 0.0;
        p.correct = 0;
        p.rows = 0;
        self.clock.end_epoch(&mut p.seconds);
        self.experiment.tell(&event);
        if self.clock.last_checkpoint.elapsed() >= self.checkpoint_every
            || p.epoch == self.training.epochs
        {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Hands on what the recipe asked for: the best epoch, the average, or the last weights.
    fn settle(&mut self) -> Result<Outcome> {
        match &self.best {
            Some(best) => {
                load_tensors(&self.groups, best)?;
                self.position.validation_accuracy =
                    self.position.best.map(|(_, accuracy)| accuracy);
            }
            None => self.swap_average()?,
        }
        Ok(Outcome::Finished)
    }

    fn stopped(&mut self) -> Result<Outcome> {
        self.checkpoint()?;
        let event = Event::Stopped {
            stage: self.stage,
            global_step: self.position.global_step,
        };
        self.experiment.tell(&event);
        Ok(Outcome::Stopped)
    }

    /// Journal first, then the checkpoint that says how long the journal is.
    fn checkpoint(&mut self) -> Result<()> {
        self.check_weights()?;
        self.position.journal = self.experiment.journal.sync()?;
        let mut checkpoint = Checkpoint {
            position: self.position.clone(),
            ..Checkpoint::default()
        };
        checkpoint.insert("model", to_tensors(&self.groups)?);
        checkpoint.insert("optimizer", self.stepper.optimizer.state()?);
        if let Some(average) = &self.stepper.average {
            checkpoint.insert("average", average.state()?);
        }
        if let Some(best) = &self.best {
            checkpoint.insert("best", best.clone());
        }
        if let Some(keeps) = self.keeps {
            checkpoint.insert(KEPT, keeps.kept()?);
        }
        checkpoint.save(&self.experiment.folder.checkpoint(self.stage))?;
        self.clock.last_checkpoint = Instant::now();
        let (epoch, step) = (self.position.epoch, self.position.step);
        self.experiment.tell(&Event::Checkpoint {
            stage: self.stage,
            epoch,
            step,
        });
        Ok(())
    }

    /// Weights that are no numbers never replace a good checkpoint.
    fn check_weights(&self) -> Result<()> {
        for parameter in self.stepper.optimizer.parameters() {
            let sum = crate::cells::sum_of_squares(&parameter.var)?;
            if !sum.is_finite() {
                let lr = self.stepper.lr(self.position.global_step.saturating_sub(1));
                return Err(non_finite(
                    &self.place(),
                    self.position.global_step,
                    sum,
                    lr,
                ));
            }
        }
        Ok(())
    }

    fn swap_average(&self) -> Result<()> {
        self.stepper.average.as_ref().map_or(Ok(()), Average::swap)
    }

    fn place(&self) -> Place {
        Place {
            seed: self.experiment.recipe().seed,
            stage: self.stage,
            epoch: self.position.epoch,
            step: self.position.step,
            part: 0,
        }
    }
}

impl Clock {
    fn tick(&mut self, images: usize, total: &mut f64) {
        let seconds = self.last_step.elapsed().as_secs_f64();
        self.last_step = Instant::now();
        self.epoch_seconds += seconds;
        *total += seconds;
        let keep = if self.step_seconds == 0.0 { 0.0 } else { 0.9 };
        self.step_seconds = keep * self.step_seconds + (1.0 - keep) * seconds;
        self.images_per_second = images as f64 / self.step_seconds.max(1e-9);
    }

    fn end_epoch(&mut self, total: &mut f64) {
        *total += self.last_step.elapsed().as_secs_f64();
        self.last_step = Instant::now();
        self.epoch_seconds = 0.0;
    }
}
