//! `run-all`: every stage of every arm, then the report.

use anyhow::Result;

use crate::{
    cli::{RunAllArgs, StageArgs},
    commands::seeds,
    plan::Existing,
    session::Session,
};

/// Runs what is not done yet and ends with the table and the path of the report.
pub fn run(args: &RunAllArgs) -> Result<()> {
    match args.seeds {
        Some(count) => seeds::run(&args.stage, count),
        None => one_seed(&args.stage),
    }
}

fn one_seed(args: &StageArgs) -> Result<()> {
    let mut session = Session::open("run-all", args, Existing::IfAsked)?;
    session.print_plan()?;
    for stage in session.stages() {
        session.run(stage)?;
    }
    session.report().map(drop)
}
