//! `probe`: trains heads on frozen encoders, the linear one and the source's 512-unit one.

use anyhow::Result;
use trainer::StageKind;

use super::stages;
use crate::cli::StageArgs;

/// Trains heads on every encoder that is there.
pub fn run(args: &StageArgs) -> Result<()> {
    stages::run("probe", &[StageKind::Probe, StageKind::Head], args).map(drop)
}
