//! What a comparison was asked for: kept in its folder, so that it can be taken up with `--resume` and the folder alone.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Result;
use cifar_data::DatasetName;
use contrastive_loss::Loss;
use serde::{Deserialize, Serialize};

use super::{FOLDER, LOSSES, RECIPE};
use crate::{
    cli::{CompareArgs, PrecisionChoice},
    exit::{bad_input, from_trainer},
    plan::at_recorded_data,
    recipes::{self, EMBEDDED},
    session::program,
    text::quoted,
};

/// The file in the comparison's folder.
const FILE: &str = "comparison.json";
/// Beside it, the recipe where it is a file of the user's.
const OWN_RECIPE: &str = "recipe.toml";

/// The flags that decide what is compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    recipe: String,
    losses: Vec<String>,
    seeds: u64,
    seed: Option<u64>,
    dataset: Option<DatasetName>,
    init: Option<String>,
    budget: Option<String>,
    precision: Option<PrecisionChoice>,
    set: Vec<(String, String)>,
}

/// The comparison's folder.
pub fn folder(args: &CompareArgs) -> PathBuf {
    let named = args.stages.common.run_dir.clone();
    named.unwrap_or_else(|| FOLDER.into())
}

/// The flags, completed: with `--resume` by what the comparison was asked for when it began, then by defaults. Refuses a folder that
/// holds something else.
pub fn resumed(args: &CompareArgs) -> Result<CompareArgs> {
    let folder = folder(args);
    let mut args = args.clone();
    once_each(&args.losses)?;
    check(&folder, args.stages.resume)?;
    let common = &mut args.stages.common;
    let path = folder.join(FILE);
    if args.stages.resume && path.is_file() {
        let damaged = |what: &dyn std::fmt::Display| {
            bad_input(format!(
                "{} is damaged ({what}); restore it, or remove it and give the comparison's flags again",
                path.display()
            ))
        };
        let text = fs_err::read_to_string(&path)?;
        let asked: Asked = serde_json::from_str(&text).map_err(|error| damaged(&error))?;
        if args.losses.is_empty() {
            args.losses = all(&asked.losses).map_err(|error| damaged(&error))?;
        }
        args.seeds = args.seeds.or(Some(asked.seeds));
        common.recipe.get_or_insert(match asked.recipe.as_str() {
            OWN_RECIPE => folder.join(OWN_RECIPE).to_string_lossy().into_owned(),
            name => name.to_owned(),
        });
        common.seed = common.seed.or(asked.seed);
        common.dataset = common.dataset.or(asked.dataset);
        common.precision = common.precision.or(asked.precision);
        if let (None, Some(init)) = (&common.init, &asked.init) {
            common.init = Some(init.parse().map_err(|error| damaged(&error))?);
        }
        if let (None, Some(budget)) = (common.budget, &asked.budget) {
            common.budget = Some(budget.parse().map_err(|error| damaged(&error))?);
        }
        if common.set.is_empty() {
            common.set = asked.set;
        }
    }
    if args.stages.resume
        && let Some(run) = runs_in(&folder).first()
    {
        *common = at_recorded_data(common, run)?;
    }
    if args.losses.is_empty() {
        args.losses = all(&LOSSES.map(str::to_owned)).map_err(bad_input)?;
    }
    args.seeds.get_or_insert(1);
    common.recipe.get_or_insert_with(|| RECIPE.to_owned());
    Ok(args)
}

/// Writes down what was asked for.
pub fn remember(args: &CompareArgs) -> Result<()> {
    let folder = folder(args);
    let common = &args.stages.common;
    let wanted = common.recipe.as_deref().unwrap_or(RECIPE);
    let recipe = match EMBEDDED.iter().any(|(name, _)| *name == wanted) {
        true => wanted.to_owned(),
        false => {
            let text = recipes::load(wanted)?.to_toml().map_err(from_trainer)?;
            eval::write_atomically(&folder.join(OWN_RECIPE), text.as_bytes())?;
            OWN_RECIPE.to_owned()
        }
    };
    let asked = Asked {
        recipe,
        losses: args.losses.iter().map(ToString::to_string).collect(),
        seeds: args.seeds.unwrap_or(1),
        seed: common.seed,
        dataset: common.dataset,
        init: common.init.as_ref().map(ToString::to_string),
        budget: common.budget.map(|by| by.name().to_owned()),
        precision: common.precision,
        set: common.set.clone(),
    };
    let text = serde_json::to_string_pretty(&asked)? + "\n";
    Ok(eval::write_atomically(&folder.join(FILE), text.as_bytes())?)
}

/// The command of this comparison: to go on with it, or to make it anew.
pub fn command(args: &CompareArgs, resume: bool) -> String {
    let common = &args.stages.common;
    let mut line = format!("{} compare-losses", program());
    let mut flag = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            line += &format!(" --{name} {}", quoted(&value));
        }
    };
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let losses: Vec<String> = args.losses.iter().map(ToString::to_string).collect();
    flag("recipe", common.recipe.clone());
    flag("losses", Some(losses.join(",")));
    let several = args.seeds.filter(|seeds| *seeds > 1);
    flag("seeds", several.map(|seeds| seeds.to_string()));
    flag("seed", common.seed.map(|seed| seed.to_string()));
    flag("dataset", common.dataset.map(|name| name.to_string()));
    flag("init", common.init.as_ref().map(ToString::to_string));
    flag("budget", common.budget.map(|by| by.name().to_owned()));
    flag("precision", common.precision.map(|p| p.to_string()));
    for (key, value) in &common.set {
        flag("set", Some(format!("{key}={value}")));
    }
    flag("readme", args.readme.as_deref().map(path));
    flag("data-dir", common.data_dir.as_deref().map(path));
    flag("device", common.device.map(|device| device.to_string()));
    match resume {
        true => line.replacen(
            "compare-losses",
            &format!(
                "compare-losses --resume --run-dir {}",
                quoted(&path(folder(args).as_path()))
            ),
            1,
        ),
        false => line,
    }
}

fn all(names: &[String]) -> Result<Vec<Loss>, String> {
    let parse = |name: &String| Loss::from_str(name).map_err(|error| error.to_string());
    names.iter().map(parse).collect()
}

/// Refuses a loss that is named twice: it has one folder.
fn once_each(losses: &[Loss]) -> Result<()> {
    let names: Vec<String> = losses.iter().map(ToString::to_string).collect();
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            return Err(bad_input(format!(
                "--losses {}: {name} stands twice; name each loss once",
                names.join(",")
            )));
        }
    }
    Ok(())
}

/// Refuses a folder that is no comparison to go on with, or that is to be new and is not.
fn check(folder: &Path, resume: bool) -> Result<()> {
    let there = folder.display();
    if folder.join("config.toml").is_file() {
        return Err(bad_input(format!(
            "{there} holds a single run; name the folder of the whole comparison, or a new one, with --run-dir"
        )));
    }
    let begun = folder.join(FILE).is_file() || !runs_in(folder).is_empty();
    let mut entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    match (begun, resume) {
        (true, true) => Ok(()),
        (true, false) => Err(bad_input(format!(
            "{there} already holds a comparison; continue it with --resume, or name another folder with --run-dir"
        ))),
        (false, true) => Err(bad_input(format!(
            "{there} holds no comparison; leave --resume out to start one, or name another folder with --run-dir"
        ))),
        (false, false) => match entries.next() {
            Some(entry) => Err(bad_input(format!(
                "{there} already holds {}; name another folder with --run-dir",
                entry.file_name().to_string_lossy()
            ))),
            None => Ok(()),
        },
    }
}

/// The folders of runs of a comparison, in name order.
fn runs_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    let mut runs: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let parts = name.to_str().and_then(|name| name.rsplit_once("-seed"));
            parts.is_some_and(|(loss, seed)| {
                Loss::from_str(loss).is_ok() && seed.parse::<u64>().is_ok()
            })
        })
        .map(|entry| entry.path())
        .collect();
    runs.sort();
    runs
}
