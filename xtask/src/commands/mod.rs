//! One file per command.

pub mod bench;
pub mod compare_losses;
pub mod completions;
pub mod doctor;
pub mod download;
pub mod eval;
pub mod finetune;
pub mod pretrain;
pub mod probe;
pub mod report;
pub mod run_all;
mod stages;
pub mod train;
