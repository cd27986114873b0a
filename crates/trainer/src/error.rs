//! What can go wrong in a run.

use crate::{Arm, StageId};
use std::path::PathBuf;

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in a run: what was expected, what came, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The recipe is not valid TOML, or has a field that there is not.
    #[error("the recipe cannot be read: {message}")]
    RecipeSyntax {
        /// TOML's own message, with the line.
        message: String,
    },
    /// A field of the recipe is out of range.
    #[error("recipe field `{field}` = `{value}`: {remedy}")]
    RecipeField {
        /// The dotted name.
        field: String,
        /// What was given.
        value: String,
        /// What to do.
        remedy: String,
    },
    /// The recipe does not fit the data.
    #[error("{message}")]
    Unfit {
        /// What does not fit, and what to do.
        message: String,
    },
    /// A new run was to go into a folder that holds something.
    #[error("the run folder {} already holds {found}; resume it (--resume) or name another folder (--run-dir)", path.display())]
    FolderTaken {
        /// The run folder.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// The run folder cannot be made, or not written.
    #[error("the run folder {} cannot be written ({reason}); name one that you may write to (--run-dir)", path.display())]
    Unwritable {
        /// The run folder.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::ErrorKind,
    },
    /// A folder was to be resumed that holds no run.
    #[error("{} holds no run to resume ({missing} is missing); start one without --resume", path.display())]
    NoRun {
        /// The run folder.
        path: PathBuf,
        /// The file that is missing.
        missing: String,
    },
    /// A folder was named as a run that holds none.
    #[error("{} holds no run ({missing} is missing); name the folder of one with --run-dir", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// The file that is missing.
        missing: String,
    },
    /// An arm was asked for that the run does not have.
    #[error("{} has no arm `{arm}`; it has {known} (--arm)", path.display())]
    NoArm {
        /// The run folder.
        path: PathBuf,
        /// What was asked for.
        arm: Arm,
        /// What there is.
        known: String,
    },
    /// An arm was asked for that is not finished.
    #[error("arm `{arm}` of {} is not finished ({needs} is missing): go on with the run first (run-all --resume --run-dir {})", path.display(), path.display())]
    Unfinished {
        /// The run folder.
        path: PathBuf,
        /// What was asked for.
        arm: Arm,
        /// The stage that is not done.
        needs: StageId,
    },
    /// Another process writes this run folder.
    #[error("the run folder {} is in use by another process; wait for it or name another folder (--run-dir)", path.display())]
    Locked {
        /// The run folder.
        path: PathBuf,
    },
    /// The run to be resumed was started differently.
    #[error("cannot resume {}: `{field}` was `{before}` when the run began and is `{now}` now; give the former value or start a new run folder", path.display())]
    ResumeMismatch {
        /// The run folder.
        path: PathBuf,
        /// The dotted name of the first field that differs.
        field: String,
        /// Its value in the run folder.
        before: String,
        /// Its value now.
        now: String,
    },
    /// A file of the run folder does not hold what it should.
    #[error("{} is damaged: {reason}; {remedy}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A stage's name is not one of this run's.
    #[error("there is no stage `{name}`: {known}")]
    UnknownStage {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A stage was asked for before the one it builds on.
    #[error("stage {stage} builds on {needs}, which is not done: run that first")]
    StageOrder {
        /// The stage asked for.
        stage: StageId,
        /// The stage it needs.
        needs: StageId,
    },
    /// No arm is finished yet.
    #[error("no arm of {} is evaluated yet: run `{needs}` first", path.display())]
    NothingMeasured {
        /// The run folder.
        path: PathBuf,
        /// An evaluation stage.
        needs: String,
    },
    /// The loss is not a number any more.
    #[error(
        "{stage}: the loss is {loss} at step {step} (epoch {epoch}) with learning rate {lr:.3e}; {remedy}. The last checkpoint is kept"
    )]
    NonFinite {
        /// The stage.
        stage: StageId,
        /// The epoch, counted from 0.
        epoch: usize,
        /// Steps done since the stage began.
        step: usize,
        /// The loss: NaN or infinite.
        loss: f64,
        /// The learning rate of the step.
        lr: f64,
        /// What to try.
        remedy: String,
    },
    /// Optimiser state does not belong to these parameters.
    #[error("optimiser state does not fit the model: {0}")]
    OptimizerState(String),
    /// A thread could not be started, or died.
    #[error("the training thread {0}")]
    Thread(String),
    /// A file or folder could not be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The data could not be had.
    #[error(transparent)]
    Data(#[from] cifar_data::Error),
    /// The network could not be built, or its weights not read.
    #[error(transparent)]
    Network(#[from] resnet::Error),
    /// The contrastive loss refused its input.
    #[error(transparent)]
    Loss(#[from] contrastive_loss::Error),
    /// A measurement or the report failed.
    #[error(transparent)]
    Eval(#[from] eval::Error),
}
