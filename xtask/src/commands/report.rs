//! `report`: writes results.json, report.md and report.html again from a run folder.

use std::path::Path;

use anyhow::Result;
use eval::Results;

use crate::{
    cli::{ReportArgs, StageArgs},
    exit::bad_input,
    plan::Existing,
    session::Session,
};

/// The marks between which `--readme` writes.
const BEGIN: &str = "<!-- results -->";
const END: &str = "<!-- /results -->";

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
        Some(file) => put_into(file, &block(&results)),
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
fn elsewhere(command: &str) -> String {
    let mut words: Vec<&str> = command.split(' ').collect();
    for index in 1..words.len() {
        if words[index - 1] == "--data-dir" {
            words[index] = "DIR";
        }
    }
    words.join(" ")
}

/// Replaces what stands between the marks of a text file.
fn put_into(file: &Path, block: &str) -> Result<()> {
    let name = file.display();
    let text = fs_err::read_to_string(file)
        .map_err(|error| bad_input(format!("--readme {name}: cannot be read: {error}")))?;
    let new = replaced(&text, block).ok_or_else(|| {
        bad_input(format!(
            "--readme {name}: the marks {BEGIN} and {END} are missing; put them where the table is to stand"
        ))
    })?;
    let beside = file.with_extension("new");
    fs_err::write(&beside, new)?;
    fs_err::rename(&beside, file)?;
    Ok(())
}

fn replaced(text: &str, block: &str) -> Option<String> {
    let begin = text.find(BEGIN)? + BEGIN.len();
    let end = begin + text[begin..].find(END)?;
    Some(format!("{}\n{block}\n{}", &text[..begin], &text[end..]))
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

    #[test]
    fn only_the_text_between_the_marks_changes() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb {END}");
        let new = replaced(&text, "new").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\nnew\n{END}\nb {END}"));
        assert_eq!(replaced(&new, "new").unwrap(), new);
        assert!(replaced("a", "new").is_none());
        assert!(replaced(END, "new").is_none());
    }
}
