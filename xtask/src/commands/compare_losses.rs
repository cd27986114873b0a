//! `compare-losses`: the same encoder, data, views, epochs and optimiser with one contrastive loss after the other, and the linear
//! probes on the test split side by side.
//!
//! ```text
//! DIR/comparison.json    what was asked for, so that --resume needs no more than the folder
//! DIR/recipe.toml        the recipe, where it is a file of the user's
//! DIR/LOSS-seedK/        a complete run, for each of the losses and seeds
//! ```

mod asked;

use std::path::Path;

use anyhow::Result;
use contrastive_loss::Loss;
use eval::Results;
use serde_json::Value;

use self::asked::{command, remember, resumed};
use crate::{
    cli::{CompareArgs, StageArgs},
    marks::Marks,
    plan::Existing,
    session::Session,
    text::out,
};

/// The recipe of a comparison, where none is named.
const RECIPE: &str = "losses";
/// Its losses, where none is named.
const LOSSES: [&str; 4] = ["npairs", "supcon_out", "supcon_in", "nt_xent"];
/// Where the runs live, where no folder is named.
const FOLDER: &str = "runs/losses";
/// The marks between which `--readme` writes.
const MARKS: Marks = Marks {
    flag: "--readme",
    begin: "<!-- losses -->",
    end: "<!-- /losses -->",
};
/// The arm that is compared.
const ARM: &str = "contrastive";

/// One loss, and what each of its runs came to.
struct Line {
    loss: String,
    results: Vec<Results>,
}

/// Runs what is not done yet, loss by loss, and ends with the table.
pub fn run(args: &CompareArgs) -> Result<()> {
    let args = &resumed(args)?;
    let hint = command(args, true);
    let mut lines: Vec<Line> = Vec::new();
    for loss in &args.losses {
        let mut results = Vec::new();
        for more in 0..args.seeds.unwrap_or(1) {
            let (name, stages) = of_one(args, loss, more);
            let mut session = Session::open("compare-losses", &stages, Existing::IfAsked)?;
            session.resume_with(hint.clone());
            remember(args)?;
            results.push(one(&name, session)?);
        }
        lines.push(Line {
            loss: loss.to_string(),
            results,
        });
    }
    let table = table(&lines, &command(args, false));
    out(&table)?;
    match &args.readme {
        Some(file) => MARKS.put(file, &table),
        None => Ok(()),
    }
}

/// The name of one run, and its flags.
fn of_one(args: &CompareArgs, loss: &Loss, more: u64) -> (String, StageArgs) {
    let mut stages = args.stages.clone();
    let common = &mut stages.common;
    let seed = common.seed.unwrap_or(0) + more;
    let name = format!("{loss}-seed{seed}");
    let folder = asked::folder(args).join(&name);
    // What was not begun yet has nothing to go on with.
    stages.resume &= begun(&folder);
    common.run_dir = Some(folder);
    common.seed = Some(seed);
    common.recipe.get_or_insert_with(|| RECIPE.to_owned());
    // First, so that options of a loss can follow.
    let only = ["baseline", "control", "finetuned", "transfer"];
    let only = only.map(|arm| (format!("arms.{arm}"), "false".to_owned()));
    let arm = (format!("arms.{ARM}"), "true".to_owned());
    let loss = ("pretrain.loss".to_owned(), loss.to_string());
    common.set.splice(0..0, only.into_iter().chain([arm, loss]));
    (name, stages)
}

fn begun(folder: &Path) -> bool {
    ["config.toml", "recipe.toml"]
        .iter()
        .any(|file| folder.join(file).is_file())
}

/// Runs all stages of one run.
fn one(name: &str, mut session: Session) -> Result<Results> {
    session.note(&format!("── {name}"));
    let stages = session.stages();
    session.expect_only(&stages);
    for stage in stages {
        session.run(stage)?;
    }
    session.results()
}

/// The table, and what it takes to see it again.
fn table(lines: &[Line], command: &str) -> String {
    let mut text = "| loss | linear probe, test top-1 | kNN, test top-1 | pretraining |\n\
                    |---|---|---|---|\n"
        .to_owned();
    for line in lines {
        let of = |value: &dyn Fn(&Results) -> Option<f64>| -> Vec<f64> {
            line.results.iter().filter_map(value).collect()
        };
        let probe = of(&|r| Some(r.arms.get(ARM)?.heads.get("linear")?.top1));
        let knn = of(&|r| r.arms.get(ARM)?.test.embedding.knn_top1);
        let minutes = of(&|r| {
            let stages = &r.arms.get(ARM)?.train.stages;
            let stage = stages.iter().find(|stage| stage.name == "pretrain")?;
            Some(stage.seconds / 60.0)
        });
        text += &format!(
            "| `{}` | {} | {} | {} |\n",
            line.loss,
            percent(&probe),
            percent(&knn),
            match mean(&minutes) {
                Some(minutes) => format!("{minutes:.1} min"),
                None => "–".to_owned(),
            }
        );
    }
    if let Some(first) = lines.iter().find_map(|line| line.results.first()) {
        text += "\n";
        text += &caption(first, lines, command);
    }
    text
}

/// Data, budget, machine and command.
fn caption(first: &Results, lines: &[Line], command: &str) -> String {
    let (recipe, machine) = (&first.recipe, &first.environment);
    let field = |path: &str| -> String {
        match recipe.pointer(path) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => "each loss' own".to_owned(),
        }
    };
    let mut seeds: Vec<u64> = lines
        .iter()
        .flat_map(|line| line.results.iter().map(|results| results.seed))
        .collect();
    seeds.sort_unstable();
    seeds.dedup();
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let data = &first.dataset;
    format!(
        "{}: {} training and {} test images of {}×{}; {} ({}), {} passes over {} views, batches of {}, temperature {}, {}; seeds {}. \
         `{}` on {}, {} threads, {}.",
        data.label(),
        data.train_images,
        data.test_images,
        data.height,
        data.width,
        field("/model/arch"),
        field("/model/precision"),
        field("/pretrain/epochs"),
        field("/augment/views"),
        field("/pretrain/batch_size"),
        field("/pretrain/temperature"),
        field("/pretrain/optimizer/kind"),
        seeds.join(", "),
        eval::public_command(command),
        machine.cpu,
        machine.threads,
        machine.simd,
    )
}

/// `48.3 %`, with the range where there are several.
fn percent(values: &[f64]) -> String {
    let Some(mean) = mean(values) else {
        return "–".to_owned();
    };
    let (least, most) = values
        .iter()
        .fold((f64::MAX, f64::MIN), |(least, most), &value| {
            (least.min(value), most.max(value))
        });
    match values.len() {
        1 => format!("{:.1} %", 100.0 * mean),
        _ => format!(
            "{:.1} % ({:.1}–{:.1})",
            100.0 * mean,
            100.0 * least,
            100.0 * most
        ),
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parsed(line: &[&str]) -> CompareArgs {
        let words = [&["xtask", "compare-losses"], line].concat();
        match Cli::try_parse_from(words).unwrap().command {
            Command::CompareLosses(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_run_has_its_loss_its_seed_and_its_folder() {
        let args = parsed(&[
            "--run-dir",
            "no/runs/losses",
            "--seeds",
            "2",
            "--set",
            "pretrain.epochs=1",
        ]);
        let args = resumed(&args).unwrap();
        assert_eq!(args.losses.len(), 4);
        let (name, stages) = of_one(&args, &args.losses[2], 1);
        assert_eq!(name, "supcon_in-seed1");
        let common = stages.common;
        assert_eq!(common.recipe.as_deref(), Some("losses"));
        assert_eq!(common.seed, Some(1));
        assert!(
            common
                .run_dir
                .unwrap()
                .ends_with("runs/losses/supcon_in-seed1")
        );
        let last = &common.set[common.set.len() - 2..];
        assert_eq!(
            last[0],
            ("pretrain.loss".to_owned(), "supcon_in".to_owned())
        );
        assert_eq!(last[1].0, "pretrain.epochs");
        let mut recipe = crate::recipes::load("losses").unwrap();
        for (key, value) in &common.set {
            recipe.set(key, value).unwrap();
        }
        let recipe = recipe.check().unwrap();
        assert_eq!(recipe.pretrain.loss().name(), "supcon_in");
        assert!(recipe.arms.contrastive && !recipe.arms.baseline);
    }

    #[test]
    fn a_loss_that_does_not_exist_is_refused_at_once() {
        let error = Cli::try_parse_from(["xtask", "compare-losses", "--losses", "npairs,triplets"]);
        let text = crate::cli::sentence(&error.unwrap_err());
        assert!(
            text.contains("triplets") && text.contains("supcon_out"),
            "{text}"
        );
    }

    #[test]
    fn a_comparison_is_taken_up_with_all_that_it_was_asked_for() {
        let world = tempfile::tempdir().unwrap();
        let folder = world.path().join("cmp").to_string_lossy().into_owned();
        let begin = parsed(&[
            "--run-dir",
            &folder,
            "--recipe",
            "smoke",
            "--losses",
            "npairs,nt_xent",
            "--seeds",
            "2",
            "--seed",
            "3",
            "--set",
            "augment.views=2",
        ]);
        let begin = resumed(&begin).unwrap();
        let line = command(&begin, true);
        for part in [
            "compare-losses --resume --run-dir ",
            "--recipe smoke",
            "--losses npairs,nt_xent",
            "--seeds 2",
            "--seed 3",
            "--set augment.views=2",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(!command(&begin, false).contains("--resume"));
        std::fs::create_dir_all(format!("{folder}/npairs-seed3")).unwrap();
        remember(&begin).unwrap();
        // The folder alone is enough; what is given counts.
        let again = resumed(&parsed(&["--resume", "--run-dir", &folder])).unwrap();
        assert_eq!(command(&again, true), line);
        let more = ["--resume", "--run-dir", &folder, "--losses", "npairs"];
        let more = resumed(&parsed(&more)).unwrap();
        assert_eq!((more.losses.len(), more.seeds), (1, Some(2)));

        // A recipe of the user's own is kept beside the runs, whatever becomes of the file.
        let own = world.path().join("mine.toml");
        std::fs::write(&own, "[pretrain]\nepochs = 7\n").unwrap();
        let other = world.path().join("other").to_string_lossy().into_owned();
        let begin = parsed(&["--run-dir", &other, "--recipe", &own.to_string_lossy()]);
        std::fs::create_dir_all(format!("{other}/npairs-seed0")).unwrap();
        remember(&CompareArgs {
            losses: again.losses.clone(),
            ..begin
        })
        .unwrap();
        std::fs::remove_file(own).unwrap();
        let again = resumed(&parsed(&["--resume", "--run-dir", &other])).unwrap();
        let recipe = crate::recipes::load(&again.stages.common.recipe.unwrap()).unwrap();
        assert_eq!((recipe.name.as_str(), recipe.pretrain.epochs), ("mine", 7));
    }

    #[test]
    fn what_is_no_comparison_is_refused() {
        let world = tempfile::tempdir().unwrap();
        let path = |name: &str| world.path().join(name).to_string_lossy().into_owned();
        for file in ["run/config.toml", "thesis/a.txt", "cmp/npairs-seed0/.lock"] {
            let file = world.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        for (line, says) in [
            (&["--losses", "npairs,npairs"][..], "npairs stands twice"),
            (&["--run-dir", &path("run")], "holds a single run"),
            (
                &["--resume", "--run-dir", &path("run")],
                "holds a single run",
            ),
            (&["--run-dir", &path("cmp")], "with --resume"),
            (&["--run-dir", &path("thesis")], "already holds a.txt"),
            (
                &["--resume", "--run-dir", &path("thesis")],
                "holds no comparison",
            ),
            (
                &["--resume", "--run-dir", &path("nosuch")],
                "holds no comparison",
            ),
        ] {
            let error = resumed(&parsed(line)).err().unwrap();
            assert_eq!(crate::exit::code(&error), 2);
            assert!(error.to_string().contains(says), "{line:?}: {error}");
        }
        assert!(!world.path().join("nosuch").exists());
    }

    #[test]
    fn shares_are_percentages_with_their_range() {
        assert_eq!(percent(&[]), "–");
        assert_eq!(percent(&[0.4832]), "48.3 %");
        assert_eq!(percent(&[0.5, 0.4, 0.6]), "50.0 % (40.0–60.0)");
    }
}
