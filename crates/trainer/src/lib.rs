#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod average;
mod bench;
mod cells;
mod checkpoint;
mod classify;
mod collapse;
mod environment;
mod error;
mod evaluate;
mod experiment;
mod features;
mod feed;
mod files;
mod folder;
mod gradients;
mod heads;
mod journal;
mod model;
mod observer;
mod optimizer;
mod plan;
mod pretrain;
mod recipe;
mod results;
mod resume;
mod schedule;
mod speed;
mod splits;
mod stage_id;
mod step;
mod stop;
mod supervised;
mod tensorboard;
mod thread;
mod validate;
mod wheel;

pub use average::Average;
pub use bench::{BenchNetwork, FeatureStep, TrainingStep, feature_step, training_step};
pub use classify::{accuracy, cross_entropy};
pub use error::{Error, Result};
pub use experiment::{Experiment, Options, Outcome, StageProgress};
pub use folder::recorded_recipe;
pub use gradients::Gradients;
pub use journal::{Journal, JournalPosition};
pub use observer::{Event, Observer, StepEvent};
pub use optimizer::{Optimizer, Trainable};
pub use recipe::*;
pub use schedule::Schedule;
pub use speed::Estimate;
pub use stage_id::{Arm, StageId, StageKind};
pub use stop::StopFlag;
pub use tensorboard::TensorBoard;
pub use thread::training_thread;
