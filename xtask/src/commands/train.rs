//! `train`: trains the supervised baseline.

use anyhow::Result;
use trainer::StageKind;

use super::stages;
use crate::cli::StageArgs;

/// Trains the supervised baseline.
pub fn run(args: &StageArgs) -> Result<()> {
    stages::run("train", &[StageKind::Supervised], args).map(drop)
}
