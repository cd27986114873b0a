//! One optimiser step: forward, backward, clip, update, average. The same code trains, is timed and is benchmarked.

use crate::average::Average;
use crate::collapse::Monitor;
use crate::feed::Batch;
use crate::model::OF_THE_LOSS;
use crate::optimizer::Trainable;
use crate::{Error, Gradients, Histogram, Optimizer, Result, Schedule, StageId, Training};
use candle_core::Tensor;
use cifar_data::stream;
use rand_chacha::ChaCha8Rng;
use resnet::Parameters;

/// Where in a run a forward pass stands: all that its random numbers depend on, beside the seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub seed: u64,
    pub stage: StageId,
    pub epoch: usize,
    pub step: usize,
    /// Part of the batch, where gradients are accumulated.
    pub part: usize,
}

impl Place {
    /// The generator for one purpose at this place.
    pub fn rng(&self, purpose: &str) -> ChaCha8Rng {
        let indices = [self.epoch as u64, self.step as u64, self.part as u64];
        stream(self.seed, &format!("{}: {purpose}", self.stage), &indices)
    }
}

/// What a forward pass gives.
#[derive(Debug)]
pub(crate) struct Forward {
    /// Scalar.
    pub loss: Tensor,
    /// Rows classified correctly, where rows are classified.
    pub correct: Option<usize>,
    pub rows: usize,
    pub monitor: Option<Monitor>,
    /// Where the forward pass had to back-propagate on its own: the loss has no graph then.
    pub gradients: Option<Gradients>,
}

/// What a step tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stepped {
    pub loss: f64,
    pub lr: f64,
    pub grad_norm: Option<f64>,
    pub correct: Option<usize>,
    pub rows: usize,
    pub monitor: Option<Monitor>,
    /// Of the mean gradient before clipping, where [`Stepper::watch`] is on.
    pub gradients: Vec<(String, Histogram)>,
}

/// Everything that changes the weights.
#[derive(Debug)]
pub(crate) struct Stepper {
    training: Training,
    schedule: Schedule,
    pub optimizer: Optimizer,
    pub average: Option<Average>,
    /// Steps tell how their gradients are spread.
    pub watch: bool,
}

impl Stepper {
    pub fn new(
        training: &Training,
        groups: &[(&str, &Parameters)],
        steps_per_epoch: usize,
    ) -> Result<Self> {
        let schedule = Schedule::new(
            &training.schedule,
            training.optimizer.lr,
            training.epochs,
            steps_per_epoch,
        );
        Ok(Self {
            schedule,
            optimizer: Optimizer::new(&training.optimizer, at_rates(training, groups))?,
            average: training
                .ema
                .map(|decay| Average::new(decay, groups))
                .transpose()?,
            training: training.clone(),
            watch: false,
        })
    }

    /// The learning rate of a step.
    pub fn lr(&self, global_step: usize) -> f64 {
        self.schedule.lr(global_step)
    }

    /// Steps of warm-up.
    pub fn warmup_steps(&self) -> usize {
        self.schedule.warmup_steps()
    }

    /// One step on one batch.
    pub fn step(
        &mut self,
        batch: Batch,
        mut place: Place,
        global_step: usize,
        forward: &mut dyn FnMut(&Batch, &Place) -> Result<Forward>,
    ) -> Result<Stepped> {
        let lr = self.schedule.lr(global_step);
        let mut stepped = Stepped {
            lr,
            ..Stepped::default()
        };
        let mut gradients = Gradients::new();
        let parts = batch.parts(self.training.accumulation)?;
        let share = 1.0 / parts.len() as f64;
        for (part, batch) in parts.iter().enumerate() {
            place.part = part;
            let out = forward(batch, &place)?;
            let loss = f64::from(out.loss.to_scalar::<f32>()?);
            if !loss.is_finite() {
                return Err(non_finite(&place, global_step, loss, lr));
            }
            match out.gradients {
                Some(part) => gradients.join(part)?,
                None => gradients.add(&out.loss, self.optimizer.parameters())?,
            }
            stepped.loss += loss * share;
            stepped.rows += out.rows;
            stepped.correct = out.correct.map(|c| c + stepped.correct.unwrap_or(0));
            stepped.monitor = out.monitor;
        }
        let mut scale = gradients.mean_factor();
        if self.watch {
            let each = self.optimizer.parameters().iter().zip(gradients.sums());
            for (parameter, sum) in each.filter(|(parameter, _)| parameter.decay) {
                if let Some(sum) = sum {
                    let histogram = Histogram::of_tensor(sum, scale)?;
                    stepped.gradients.push((parameter.name.clone(), histogram));
                }
            }
        }
        if let Some(clip) = self.training.clip {
            let norm = gradients.norm()?;
            if !norm.is_finite() {
                return Err(non_finite(&place, global_step, norm, lr));
            }
            scale *= Gradients::clip_factor(norm, clip);
            stepped.grad_norm = Some(norm);
        }
        self.optimizer.step(&gradients, lr, scale)?;
        if let Some(average) = &mut self.average {
            average.update()?;
        }
        Ok(stepped)
    }
}

/// All trainable parameters, the loss' own at their own rate.
fn at_rates(training: &Training, groups: &[(&str, &Parameters)]) -> Vec<Trainable> {
    let factor = training.loss_lr.map(|lr| lr / training.optimizer.lr);
    let rated = |parameter: Trainable| match factor {
        Some(factor) if parameter.name.starts_with(OF_THE_LOSS) => parameter.with_rate(factor),
        _ => parameter,
    };
    Trainable::of(groups).into_iter().map(rated).collect()
}

/// The error that names where a loss (or gradient norm, or weight) stopped being a number.
pub(crate) fn non_finite(place: &Place, global_step: usize, loss: f64, lr: f64) -> Error {
    let stage = place.stage;
    let section = stage.kind;
    Error::NonFinite {
        stage,
        epoch: place.epoch,
        step: global_step,
        loss,
        lr,
        remedy: format!(
            "lower {section}.optimizer.lr, lengthen {section}.schedule.warmup_epochs, or set {section}.clip (for example 1.0)"
        ),
    }
}
