//! `report`: writes results.json, report.md and report.html again from a run folder.

use anyhow::Result;

use crate::{
    cli::{Common, StageArgs},
    plan::Existing,
    session::Session,
};

/// Needs a run with at least one evaluated arm; trains nothing.
pub fn run(flags: &Common) -> Result<()> {
    let args = StageArgs {
        common: flags.clone(),
        resume: false,
    };
    Session::open("report", &args, Existing::Needed)?.report()
}
