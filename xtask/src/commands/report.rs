//! `report`: writes results.json, report.md and report.html again from a run folder, or from one of several seeds; on request
//! also the table and some pictures in a README, and a page of all pictures.

use std::path::Path;

use anyhow::Result;
use eval::{PicturesPaths, ReportInput, Results};

use crate::{
    cli::{ReportArgs, StageArgs},
    commands::seeds,
    marks::Marks,
    plan::Existing,
    session::Session,
    text::{bytes, out},
};

/// The marks between which `--readme` writes.
const MARKS: Marks = Marks {
    flag: "--readme",
    begin: "<!-- results -->",
    end: "<!-- /results -->",
};

/// Needs a run with at least one evaluated arm; trains nothing.
pub fn run(args: &ReportArgs) -> Result<()> {
    if let Some(file) = &args.readme {
        MARKS.check(file)?;
    }
    let input = match seeds::again(&args.common)? {
        Some(input) => input,
        None => one_seed(args)?,
    };
    let pictures = match &args.pictures {
        Some(folder) => Some(write_pictures(folder, &input)?),
        None => None,
    };
    match &args.readme {
        Some(file) => {
            let mut block = block(&input.results);
            if let Some(pictures) = &pictures {
                block += &cover(file, pictures);
            }
            MARKS.put(file, &block)
        }
        None => Ok(()),
    }
}

fn one_seed(args: &ReportArgs) -> Result<ReportInput> {
    let stages = StageArgs {
        common: args.common.clone(),
        resume: false,
    };
    Session::open("report", &stages, Existing::Needed)?.report()
}

fn write_pictures(folder: &Path, input: &ReportInput) -> Result<PicturesPaths> {
    let paths = eval::write_pictures(folder, input)?;
    let mut size = 0;
    for picture in &paths.pictures {
        size += fs_err::metadata(picture)?.len();
    }
    out(format!(
        "pictures {} ({} files, {})",
        paths.page.display(),
        paths.pictures.len(),
        bytes(size)
    ))?;
    Ok(paths)
}

/// The table, and what it takes to see it again.
fn block(results: &Results) -> String {
    let environment = &results.environment;
    let table = match &results.seeds {
        Some(seeds) => eval::seeds_table(&results.dataset, seeds),
        None => eval::summary_table(results),
    };
    format!(
        "```text\n{}\n```\n\n`{}` on {}, {} threads, {} ({}).",
        table.trim_end(),
        eval::public_command(&results.command),
        environment.cpu,
        environment.threads,
        environment.simd,
        environment.os,
    )
}

/// Some of the pictures, two beside each other, and the way to the others.
fn cover(readme: &Path, pictures: &PicturesPaths) -> String {
    let here = readme.parent().unwrap_or(Path::new(""));
    let from_here = |path: &Path| {
        let path = path.strip_prefix(here).unwrap_or(path);
        path.to_string_lossy().replace('\\', "/")
    };
    let mut text = String::new();
    for row in pictures.cover.chunks(2) {
        let shown = row.iter().map(|(file, says)| {
            format!(
                " ![{}]({}) |",
                says.replace(['[', ']', '|'], " "),
                from_here(file)
            )
        });
        let head: String = shown.collect();
        text += &format!("\n\n|{head}\n|{}", ":---|".repeat(row.len()));
    }
    text + &format!(
        "\n\n[All pictures of this report]({}), each with what it shows.",
        from_here(&pictures.page)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_linked_from_where_the_readme_is() {
        let pictures = PicturesPaths {
            page: "docs/a/README.md".into(),
            pictures: Vec::new(),
            cover: ["one", "two", "three"]
                .map(|name| {
                    (
                        format!("docs/a/{name}.svg").into(),
                        format!("{name}. A [b] | c."),
                    )
                })
                .to_vec(),
        };
        let text = cover(Path::new("docs/README.md"), &pictures);
        let expected = "\n\n| ![one. A  b    c.](a/one.svg) | ![two. A  b    c.](a/two.svg) |\n|:---|:---|\
                        \n\n| ![three. A  b    c.](a/three.svg) |\n|:---|\
                        \n\n[All pictures of this report](a/README.md), each with what it shows.";
        assert_eq!(text, expected);
        assert!(cover(Path::new("README.md"), &pictures).contains("(docs/a/one.svg)"));
    }
}
