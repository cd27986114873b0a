//! `report`: writes results.json, report.md and report.html again from a run folder.

use anyhow::Result;
use eval::Results;

use crate::{
    cli::{ReportArgs, StageArgs},
    marks::Marks,
    plan::Existing,
    session::Session,
};

/// The marks between which `--readme` writes.
const MARKS: Marks = Marks {
    flag: "--readme",
    begin: "<!-- results -->",
    end: "<!-- /results -->",
};

/// Needs a run with at least one evaluated arm; trains nothing.
pub fn run(args: &ReportArgs) -> Result<()> {
    let session = Session::open(
        "report",
        &StageArgs {
            common: args.common.clone(),
            resume: false,
        },
        Existing::Needed,
    )?;
    let results = session.report()?;
    match &args.readme {
        Some(file) => MARKS.put(file, &block(&results)),
        None => Ok(()),
    }
}

/// The table, and what it takes to see it again.
fn block(results: &Results) -> String {
    let environment = &results.environment;
    format!(
        "```text\n{}\n```\n\n`{}` on {}, {} threads, {} ({}).",
        eval::summary_table(results).trim_end(),
        elsewhere(&results.command),
        environment.cpu,
        environment.threads,
        environment.simd,
        environment.os,
    )
}

/// The command without the place of the data, which is another on every machine.
pub(super) fn elsewhere(command: &str) -> String {
    let mut words: Vec<&str> = command.split(' ').collect();
    for index in 1..words.len() {
        if words[index - 1] == "--data-dir" {
            words[index] = "DIR";
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_the_data_is_left_open() {
        assert_eq!(
            elsewhere("cargo xtask run-all --data-dir /a/b --seed 1"),
            "cargo xtask run-all --data-dir DIR --seed 1"
        );
        assert_eq!(elsewhere("cargo xtask"), "cargo xtask");
    }
}
