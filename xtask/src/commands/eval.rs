//! `eval`: opens the test split once per finished arm, then writes results.json and the report.

use anyhow::Result;
use trainer::StageKind;

use super::stages;
use crate::cli::StageArgs;

/// Measures every arm that is trained.
pub fn run(args: &StageArgs) -> Result<()> {
    stages::run("eval", &[StageKind::Evaluate], args)?
        .report()
        .map(drop)
}
