//! `run-all`: every stage of every arm, then the report.

use anyhow::Result;

use crate::{cli::StageArgs, plan::Existing, session::Session};

/// Runs what is not done yet and ends with the table and the path of the report.
pub fn run(args: &StageArgs) -> Result<()> {
    let mut session = Session::open("run-all", args, Existing::IfAsked)?;
    session.print_plan()?;
    for stage in session.stages() {
        session.run(stage)?;
    }
    session.report().map(drop)
}
