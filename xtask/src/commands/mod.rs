//! One file per command.

mod arm;
pub mod bench;
pub mod compare_losses;
pub mod completions;
pub mod doctor;
pub mod download;
pub mod embed;
pub mod eval;
pub mod export;
pub mod finetune;
pub mod predict;
pub mod pretrain;
pub mod probe;
pub mod report;
pub mod run_all;
pub mod search;
pub mod seeds;
mod stages;
pub mod train;
pub mod watch;
