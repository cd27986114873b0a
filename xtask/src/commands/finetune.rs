//! `finetune`: trains everything on after pretraining and its head.

use anyhow::Result;
use trainer::StageKind;

use super::stages;
use crate::cli::StageArgs;

/// Trains everything on after pretraining and its head.
pub fn run(args: &StageArgs) -> Result<()> {
    stages::run("finetune", &[StageKind::Finetune], args).map(drop)
}
