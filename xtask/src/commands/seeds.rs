//! `run-all --seeds N`: N complete runs that differ in their seed alone, and what they say together.
//!
//! ```text
//! RUN/recipe.toml                   what every seed runs: the first one's recipe, its epochs frozen
//! RUN/seed-K/                       a complete run, for each of the seeds
//! RUN/seeds.json                    mean, spread, paired differences
//! RUN/results.json report.md report.html    the first seed's, with the statistics over all
//! ```
//!
//! Finished runs are skipped and a stopped one is taken up where it was, so that the same command with `--resume` continues; with
//! a larger N it adds seeds.

use std::path::{Path, PathBuf};

use anyhow::Result;
use cifar_data::stream;
use eval::{ReportInput, SeedRun, SeedsSummary};
use rand_chacha::rand_core::RngCore;

use crate::{
    cli::{Common, StageArgs},
    exit::bad_input,
    plan::{self, Existing},
    session::{self, Session},
    text::{out, quoted},
};

/// The recipe of every seed, epochs frozen, beside the seeds' folders.
const RECIPE: &str = "recipe.toml";

/// Runs the seeds one after the other, then brings them together.
pub fn run(args: &StageArgs, count: u32) -> Result<()> {
    if let Some(run_dir) = &args.common.run_dir {
        check_root(run_dir, args.resume)?;
    }
    let (root, first) = plan::root_of_seeds(&args.common, count)?;
    check_root(&root, args.resume)?;
    let mut args = args.clone();
    if let Some(begun) = seeds_in(&root).first() {
        args.common = plan::at_recorded_data(&args.common, &root.join(folder(*begun)))?;
    }
    let args = &args;
    let resume = resume_line(args, count, &root);
    let mut runs = Vec::new();
    let mut report = None;
    for seed in first..first + u64::from(count) {
        out(format!(
            "seed     {seed} of {first} to {}",
            first + u64::from(count) - 1
        ))?;
        let (run, input) = one(args, &root, first, seed, &resume)?;
        report.get_or_insert(input);
        runs.push(run);
    }
    if let Some(input) = report {
        together(&root, first, &runs, input)?;
    }
    Ok(())
}

/// Refuses a folder that holds something else than what is to be gone on with, or that is to be new and is not.
fn check_root(root: &Path, resume: bool) -> Result<()> {
    let there = root.display();
    if root.join("config.toml").is_file() {
        return Err(bad_input(format!(
            "{there} holds a run of one seed; go on with it without --seeds, or name another folder with --run-dir for several"
        )));
    }
    if !seeds_in(root).is_empty() {
        return match resume {
            true => Ok(()),
            false => Err(bad_input(format!(
                "the run folder {there} already holds runs of several seeds; continue them with --resume, or name another folder with --run-dir"
            ))),
        };
    }
    if resume {
        return Err(bad_input(format!(
            "{there} holds no runs of several seeds (no folder seed-K); leave --resume out to start some, or name another folder with --run-dir"
        )));
    }
    let mut entries = fs_err::read_dir(root).into_iter().flatten().flatten();
    match entries.next() {
        Some(entry) => Err(bad_input(format!(
            "the run folder {there} already holds {}; name another folder with --run-dir",
            entry.file_name().to_string_lossy()
        ))),
        None => Ok(()),
    }
}

/// The refusal of a folder of several seeds where one run is asked for; none where it is no such folder.
pub fn refusal(run_dir: &Path) -> Option<anyhow::Error> {
    let seeds = seeds_in(run_dir);
    let first = seeds
        .first()
        .filter(|_| !run_dir.join("config.toml").is_file())?;
    Some(bad_input(format!(
        "{} holds runs of {}; name one of them (--run-dir {}), or go on with all of them (run-all --seeds N --resume)",
        run_dir.display(),
        match seeds.len() {
            1 => "one seed in its folder".to_owned(),
            count => format!("{count} seeds"),
        },
        quoted(&run_dir.join(folder(*first)).to_string_lossy()),
    )))
}

/// The seeds whose folders lie in `root`, in ascending order.
pub fn seeds_in(root: &Path) -> Vec<u64> {
    let entries = fs_err::read_dir(root).into_iter().flatten().flatten();
    let mut seeds: Vec<u64> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let seed = name.to_str()?.strip_prefix("seed-")?.parse().ok()?;
            (folder(seed) == name.to_str()?).then_some(seed)
        })
        .collect();
    seeds.sort_unstable();
    seeds
}

/// The name of a seed's run folder.
pub fn folder(seed: u64) -> String {
    format!("seed-{seed}")
}

/// A complete run of one seed.
fn one(
    args: &StageArgs,
    root: &Path,
    first: u64,
    seed: u64,
    resume: &str,
) -> Result<(SeedRun, ReportInput)> {
    let mut own = args.clone();
    let run_dir = root.join(folder(seed));
    let frozen = root.join(RECIPE);
    own.resume = run_dir.join("config.toml").is_file() || run_dir.join("recipe.toml").is_file();
    own.common.run_dir = Some(run_dir);
    if seed != first {
        // The first seed's epochs: measured speeds must not make the seeds differ.
        own.common.forget_recipe();
        own.common.recipe = Some(frozen.to_string_lossy().into_owned());
    }
    own.common.seed = Some(seed);
    if own.resume && own.common.recipe.is_none() {
        own.common.seed = None; // the run knows its recipe and seed
    }
    let mut session = Session::open("run-all", &own, Existing::IfAsked)?;
    session.resume_with(resume.to_owned());
    if seed == first && !frozen.is_file() {
        session.save_frozen_recipe(&frozen)?;
    }
    session.print_plan()?;
    for stage in session.stages() {
        session.run(stage)?;
    }
    let input = session.report()?;
    let run = SeedRun {
        results: input.results.clone(),
        right: session.right()?,
    };
    Ok((run, input))
}

/// Writes the report of several seeds again from their folders; none where `--run-dir` holds no such folders.
pub fn again(common: &Common) -> Result<Option<ReportInput>> {
    let Some(root) = &common.run_dir else {
        return Ok(None);
    };
    let seeds = seeds_in(root);
    let Some(&first) = seeds
        .first()
        .filter(|_| !root.join("config.toml").is_file())
    else {
        return Ok(None);
    };
    let (mut runs, mut report) = (Vec::new(), None);
    for seed in seeds {
        let args = StageArgs {
            common: Common {
                run_dir: Some(root.join(folder(seed))),
                ..common.clone()
            },
            resume: false,
        };
        let session = Session::open("report", &args, Existing::Needed)?;
        let results = match seed == first {
            true => report.insert(session.report_input()?).results.clone(),
            false => session.results_alone()?,
        };
        runs.push(SeedRun {
            results,
            right: session.right()?,
        });
    }
    report
        .map(|input| together(root, first, &runs, input))
        .transpose()
}

/// Writes what the seeds say together, and shows it.
fn together(
    root: &Path,
    first: u64,
    runs: &[SeedRun],
    mut input: ReportInput,
) -> Result<ReportInput> {
    let draws = |resample| {
        let mut rng = stream(first, "bootstrap: seeds and test images", &[resample]);
        move || rng.next_u64()
    };
    let summary = SeedsSummary::of(runs, draws)?;
    let path = root.join("seeds.json");
    summary.save(&path)?;
    out(eval::seeds_table(&input.results.dataset, &summary).trim_end())?;
    input.results.seeds = Some(summary);
    input.results.save(&root.join("results.json"))?;
    let paths = eval::write_report(root, &input)?;
    out(format!("seeds    {}", path.display()))?;
    out(format!("report   {}", paths.html.display()))?;
    Ok(input)
}

/// The command that goes on where this one stopped.
fn resume_line(args: &StageArgs, count: u32, root: &Path) -> String {
    let mut line = format!(
        "{} run-all --seeds {count} --resume --run-dir {}",
        session::program(),
        quoted(&root.to_string_lossy())
    );
    let data_dir: Option<&PathBuf> = args.common.data_dir.as_ref();
    if let Some(data_dir) = data_dir {
        line += &format!(" --data-dir {}", quoted(&data_dir.to_string_lossy()));
    }
    if let Some(device) = args.common.device {
        line += &format!(" --device {device}");
    }
    line
}
