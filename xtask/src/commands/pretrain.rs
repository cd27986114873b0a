//! `pretrain`: trains encoders contrastively.

use anyhow::Result;
use trainer::StageKind;

use super::stages;
use crate::cli::StageArgs;

/// Trains encoders contrastively.
pub fn run(args: &StageArgs) -> Result<()> {
    stages::run("pretrain", &[StageKind::Pretrain], args).map(drop)
}
