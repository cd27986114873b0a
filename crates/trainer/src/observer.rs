//! What a run tells while it goes on. Loops report events; who draws, writes or counts them is not their business.

use crate::StageId;
use std::time::Duration;

/// Somebody who wants to know. Called on the training thread: be quick.
pub trait Observer: Send {
    /// Something happened.
    fn event(&mut self, event: &Event);
}

impl<F: FnMut(&Event) + Send> Observer for F {
    fn event(&mut self, event: &Event) {
        self(event);
    }
}

/// One optimiser step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepEvent {
    /// The stage.
    pub stage: StageId,
    /// Epoch, counted from 0.
    pub epoch: usize,
    /// Epochs of the stage.
    pub epochs: usize,
    /// Step within the epoch, counted from 0.
    pub step: usize,
    /// Steps of an epoch.
    pub steps_per_epoch: usize,
    /// Steps since the stage began, this one included.
    pub global_step: usize,
    /// The batch's loss before the update.
    pub loss: f64,
    /// The learning rate of the update.
    pub lr: f64,
    /// Global norm of the gradient before clipping, where clipping is on.
    pub grad_norm: Option<f64>,
    /// Share of the batch classified correctly (stages with a classifier).
    pub accuracy: Option<f64>,
    /// The contrastive loss' value when all embeddings coincide.
    pub collapse: Option<f64>,
    /// The least value that the contrastive loss can take on this batch.
    pub floor: Option<f64>,
    /// 1 − |mean embedding|²: 0 when all embeddings coincide, near 1 when they fill the sphere.
    pub spread: Option<f64>,
    /// Share of the anchors without a positive.
    pub lonely: Option<f64>,
    /// Mean squared distance of positives on the unit sphere (this and the following: every tenth step, on up to 512 embeddings).
    pub alignment: Option<f64>,
    /// ln mean exp(−2 distance²) over pairs of embeddings: 0 when all coincide, about −4 when they fill the sphere.
    pub uniformity: Option<f64>,
    /// How many directions the embeddings use.
    pub effective_rank: Option<f64>,
    /// Share of anchors whose nearest other embedding is a positive: the contrastive task's top-1.
    pub contrastive_top1: Option<f64>,
    /// Images per second, smoothed over the last steps.
    pub images_per_second: f64,
    /// Estimated time until the stage ends.
    pub left: Duration,
}

/// What happened in a run.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A stage began, or went on after an interruption.
    StageStarted {
        /// The stage.
        stage: StageId,
        /// Epochs it will have.
        epochs: usize,
        /// Steps of an epoch.
        steps_per_epoch: usize,
        /// Steps done before the interruption.
        resumed_at: usize,
    },
    /// A stage that was already done is skipped.
    StageSkipped {
        /// The stage.
        stage: StageId,
    },
    /// One optimiser step.
    Step(StepEvent),
    /// An epoch ended.
    EpochEnd {
        /// The stage.
        stage: StageId,
        /// The epoch, counted from 0.
        epoch: usize,
        /// Epochs of the stage.
        epochs: usize,
        /// Steps since the stage began.
        global_step: usize,
        /// Mean loss over the epoch's steps.
        loss: f64,
        /// Share of the epoch's images classified correctly (stages with a classifier).
        accuracy: Option<f64>,
        /// Accuracy on the validation split (stages with a classifier, where there is a split).
        validation_accuracy: Option<f64>,
        /// Mean cross-entropy on the validation split (as above).
        validation_loss: Option<f64>,
        /// Wall time of the epoch's steps done in this process.
        seconds: f64,
    },
    /// Work without optimiser steps: features are computed, metrics measured.
    Progress {
        /// The stage.
        stage: StageId,
        /// What is being done, as a short phrase.
        what: &'static str,
        /// Images done.
        done: usize,
        /// Images in all.
        total: usize,
    },
    /// A download goes on: the weights that arms begin with.
    Download {
        /// What is fetched, as the recipe names it.
        file: String,
        /// Bytes that have arrived.
        received: u64,
        /// Bytes in all; 0 if unknown.
        total: u64,
    },
    /// A checkpoint is safely on disk.
    Checkpoint {
        /// The stage.
        stage: StageId,
        /// Epoch to go on with.
        epoch: usize,
        /// Step in that epoch to go on with.
        step: usize,
    },
    /// A stage is done and on disk.
    StageFinished {
        /// The stage.
        stage: StageId,
        /// Wall time spent in it, over all processes.
        seconds: f64,
        /// Accuracy on the validation split at its end, where there is one.
        validation_accuracy: Option<f64>,
        /// Test top-1 accuracy of the headline head (evaluation stages).
        test_top1: Option<f64>,
    },
    /// Something that the user should know and that does not stop the run: collapse above all.
    Warning {
        /// The stage, if it happened in one.
        stage: Option<StageId>,
        /// One or two sentences: what, and what to try.
        message: String,
    },
    /// A stop was asked for; the run can be resumed.
    Stopped {
        /// The stage.
        stage: StageId,
        /// Steps done since the stage began.
        global_step: usize,
    },
}
