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
const MARKS: Marks = Marks("<!-- results -->", "<!-- /results -->");

/// Where a generated text begins and where it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks(pub(super) &'static str, pub(super) &'static str);

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
        Some(file) => put_into(file, MARKS, &block(&results)),
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

/// Replaces what stands between the marks of a text file.
pub(super) fn put_into(file: &Path, marks: Marks, block: &str) -> Result<()> {
    let name = file.display();
    let text = fs_err::read_to_string(file)
        .map_err(|error| bad_input(format!("--readme {name}: cannot be read: {error}")))?;
    let new = replaced(&text, marks, block).ok_or_else(|| {
        let Marks(begin, end) = marks;
        bad_input(format!(
            "--readme {name}: the marks {begin} and {end} are missing; put them where the table is to stand"
        ))
    })?;
    let beside = file.with_extension("new");
    fs_err::write(&beside, new)?;
    fs_err::rename(&beside, file)?;
    Ok(())
}

fn replaced(text: &str, marks: Marks, block: &str) -> Option<String> {
    let begin = text.find(marks.0)? + marks.0.len();
    let end = begin + text[begin..].find(marks.1)?;
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
        let Marks(begin, end) = MARKS;
        let text = format!("a\n{begin}\nold\n{end}\nb {end}");
        let new = replaced(&text, MARKS, "new").unwrap();
        assert_eq!(new, format!("a\n{begin}\nnew\n{end}\nb {end}"));
        assert_eq!(replaced(&new, MARKS, "new").unwrap(), new);
        assert!(replaced("a", MARKS, "new").is_none());
        assert!(replaced(end, MARKS, "new").is_none());
    }
}
