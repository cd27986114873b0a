//! From flags to what will be run: recipe, data, device, run folder, and whether it exists.

use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::Device;
use cifar_data::{Dataset, DatasetName, SourceOptions};
use trainer::{CheckedRecipe, Recipe};

use crate::{
    cli::Common,
    commands::seeds,
    device::{self, DeviceChoice},
    exit::{bad_input, from_data, from_trainer},
    notice,
    progress::{self, Screen},
    recipes, text,
};

/// The folder that run folders go into by default.
const RUNS: &str = "runs";

/// When a command may go on in a run folder that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// With `--resume` only: `run-all`.
    IfAsked,
    /// Whenever it holds a run: a stage after other stages.
    Welcome,
    /// It must: `report`.
    Needed,
}

/// A new run, or one to go on with.
pub enum Start {
    /// A new run of this recipe.
    New(CheckedRecipe),
    /// The run in the folder; the recipe where flags say something about it, to be compared.
    Existing(Option<CheckedRecipe>),
}

/// Everything decided before a run folder is touched.
pub struct Plan {
    /// A new run, or one to go on with.
    pub start: Start,
    /// Why this recipe, where the user named none.
    pub reason: Option<&'static str>,
    /// The data.
    pub dataset: Dataset,
    /// The device.
    pub device: Device,
    /// The run folder.
    pub run_dir: PathBuf,
}

impl Plan {
    /// Decides; opens the data, but touches no run folder.
    pub fn make(flags: &Common, resume: bool, existing: Existing, screen: &Screen) -> Result<Self> {
        let device = flags.device.unwrap_or_default().open()?;
        if let Some(run_dir) = &flags.run_dir {
            check_path(run_dir)?;
            if goes_on(run_dir, resume, existing)? {
                return Self::for_existing(flags, run_dir.clone(), device, screen);
            }
        }
        let asked = flags
            .run_dir
            .as_deref()
            .filter(|_| resume)
            .and_then(as_asked);
        let chosen = match asked {
            // Interrupted before its first step: the recipe that was asked for then.
            Some(recipe) if flags.recipe.is_none() => Choice::of(recipe, flags)?,
            _ => Choice::make(flags, &device, screen)?,
        };
        let run_dir = match &flags.run_dir {
            Some(run_dir) => run_dir.clone(),
            None => Path::new(RUNS).join(recipes::folder_name(&chosen.recipe)),
        };
        if flags.run_dir.is_none() && goes_on(&run_dir, resume, existing)? {
            return Self::for_existing(flags, run_dir, device, screen);
        }
        let Choice {
            mut recipe,
            reason,
            dataset,
        } = chosen;
        let dataset = match dataset {
            Some(dataset) => dataset,
            None if resume => {
                let flags = at_recorded_data(flags, &run_dir)?;
                open_data(&flags, &recipe.data, screen)?
            }
            None => open_data(flags, &recipe.data, screen)?,
        };
        recipes::fit(&mut recipe, flags, dataset.info(), screen);
        // What `auto` turned out to be is part of the run: it must not turn out otherwise on resume.
        if recipe.data.dataset == DatasetName::Auto && dataset.info().synthetic {
            recipe.data.dataset = DatasetName::Synthetic;
        }
        Ok(Self {
            start: Start::New(recipes::check(&recipe)?),
            reason,
            dataset,
            device,
            run_dir,
        })
    }

    fn for_existing(
        flags: &Common,
        run_dir: PathBuf,
        device: Device,
        screen: &Screen,
    ) -> Result<Self> {
        let recorded = trainer::recorded_recipe(&run_dir).map_err(from_trainer)?;
        let given = flags.recipe.is_some()
            || flags.seed.is_some()
            || flags.dataset.is_some()
            || flags.init.is_some()
            || flags.budget.is_some()
            || flags.precision.is_some()
            || !flags.set.is_empty();
        let recipe = if given {
            let mut recipe = match &flags.recipe {
                Some(wanted) => recipes::load(wanted)?,
                None => as_asked(&run_dir).unwrap_or_else(|| recorded.clone().into_inner()),
            };
            recipes::apply(&mut recipe, flags)?;
            if recipe.data.dataset == DatasetName::Auto {
                recipe.data.dataset = recorded.data.dataset;
            }
            Some(recipe)
        } else {
            None
        };
        let data = recipe
            .as_ref()
            .map_or(&recorded.data, |recipe| &recipe.data);
        let dataset = open_data(&at_recorded_data(flags, &run_dir)?, data, screen)?;
        let recipe = match recipe {
            Some(mut recipe) => {
                // What the folder holds was fitted when the run began.
                if flags.recipe.is_some() {
                    recipes::fit(&mut recipe, flags, dataset.info(), screen);
                }
                Some(recipes::check(&recipe)?)
            }
            None => None,
        };
        Ok(Self {
            start: Start::Existing(recipe),
            reason: None,
            dataset,
            device,
            run_dir,
        })
    }
}

/// The folder of runs of several seeds, and the first seed, without opening any data or folder.
pub fn root_of_seeds(flags: &Common, count: u32) -> Result<(PathBuf, u64)> {
    if let Some(run_dir) = &flags.run_dir {
        check_path(run_dir)?;
        // The first seed has the smallest number.
        if flags.recipe.is_none() && flags.seed.is_none() {
            let begun = run_dir.join("recipe.toml");
            if begun.is_file() {
                let recipe = recipes::load(&begun.to_string_lossy())?;
                return Ok((run_dir.clone(), recipe.seed));
            }
            if let Some(first) = seeds::seeds_in(run_dir).first() {
                return Ok((run_dir.clone(), *first));
            }
        }
    }
    let device = flags.device.unwrap_or_default().open()?;
    let recipe = Choice::make(flags, &device, &Screen::stderr())?.recipe;
    let run_dir = match &flags.run_dir {
        Some(run_dir) => run_dir.clone(),
        None => Path::new(RUNS).join(format!("{}-seeds{count}", recipes::folder_name(&recipe))),
    };
    if recipe
        .seed
        .checked_add(u64::from(count))
        .is_none_or(|end| i64::try_from(end).is_err())
    {
        return Err(bad_input(format!(
            "--seed {} leaves no room for {count} seeds; use a smaller one",
            recipe.seed
        )));
    }
    Ok((run_dir, recipe.seed))
}

/// The recipe of a run before its epochs were scaled: what flags are compared with, and what a run that never began
/// begins with.
fn as_asked(run_dir: &Path) -> Option<Recipe> {
    let text = fs_err::read_to_string(run_dir.join("recipe.toml")).ok()?;
    Recipe::parse(&text).ok()
}

/// A recipe, and the data if they had to be opened to choose it.
pub struct Choice {
    /// The recipe with all flags applied.
    pub recipe: Recipe,
    /// Why this one, where the user named none.
    pub reason: Option<&'static str>,
    /// The data, if they were opened.
    pub dataset: Option<Dataset>,
}

impl Choice {
    /// `--recipe`, or what fits the data and the device.
    pub fn make(flags: &Common, device: &Device, screen: &Screen) -> Result<Self> {
        let (recipe, reason, dataset) = match &flags.recipe {
            Some(wanted) => (recipes::load(wanted)?, None, None),
            None => {
                let wanted = flags.dataset.unwrap_or_default();
                let dataset = match wanted {
                    DatasetName::Synthetic => None,
                    name => {
                        // No recipe yet: what flags say of the data, and defaults.
                        let mut asked = Recipe::default();
                        recipes::apply(&mut asked, flags)?;
                        asked.data.dataset = name;
                        Some(open_data(flags, &asked.data, screen)?)
                    }
                };
                let synthetic = dataset.as_ref().is_none_or(|data| data.info().synthetic);
                let gpu = !matches!(device, Device::Cpu);
                let (recipe, reason) = recipes::default_for(synthetic, gpu)?;
                (recipe, Some(reason), dataset)
            }
        };
        Ok(Self {
            reason,
            dataset,
            ..Self::of(recipe, flags)?
        })
    }

    /// This recipe, with all flags applied.
    fn of(mut recipe: Recipe, flags: &Common) -> Result<Self> {
        recipes::apply(&mut recipe, flags)?;
        recipes::check(&recipe)?;
        Ok(Self {
            recipe,
            reason: None,
            dataset: None,
        })
    }
}

/// The flags, and where they name no place for the data, the one where the run found them.
///
/// # Errors
/// If the run found its data in a folder that is not there any more.
pub fn at_recorded_data(flags: &Common, run_dir: &Path) -> Result<Common> {
    let mut flags = flags.clone();
    let embedded = flags.dataset == Some(DatasetName::Synthetic);
    let Some(found) = trainer::recorded_dataset(run_dir)
        .ok()
        .filter(|found| flags.data_dir.is_none() && !embedded && !found.synthetic)
    else {
        return Ok(flags);
    };
    // Runs of older versions know only what was typed.
    let typed = || Some(PathBuf::from(&found.source)).filter(|path| path.exists());
    let Some(there) = found.data_dir.clone().or_else(typed) else {
        return Ok(flags);
    };
    if there.exists() {
        flags.data_dir = Some(there);
        return Ok(flags);
    }
    let wanted = trainer::recorded_recipe(run_dir).map(|recipe| recipe.data.dataset);
    let options = SourceOptions::from_env(wanted.unwrap_or_default());
    match options.data_folder() {
        Some(_) => Ok(flags),
        None => Err(bad_input(format!(
            "the run {} found its data in {}, which is not there any more; say where they are now with --data-dir",
            run_dir.display(),
            there.display()
        ))),
    }
}

/// Opens a data set and shows on the way what happens; synthetic data get their notice.
pub fn open_data(flags: &Common, data: &trainer::Data, screen: &Screen) -> Result<Dataset> {
    let mut options = SourceOptions::from_env(data.dataset);
    options.data_dir.clone_from(&flags.data_dir);
    options.image_size = data.image_size;
    let opened = cifar_data::open(&options, &mut |event: &cifar_data::ProgressEvent| {
        screen.data_event(event);
    });
    screen.clear();
    let dataset = opened.map_err(from_data)?;
    if dataset.info().synthetic {
        screen.note(notice::synthetic(dataset.notice(), progress::columns()));
    }
    for note in &dataset.info().notes {
        for line in text::wrap(&format!("data: {note}"), 80) {
            screen.note(line);
        }
    }
    Ok(dataset)
}

/// A run folder that cannot be one is refused before anything is opened.
fn check_path(run_dir: &Path) -> Result<()> {
    if run_dir.as_os_str().is_empty() {
        return Err(bad_input(
            "--run-dir is empty; name a folder, for instance runs/mine",
        ));
    }
    if run_dir.is_file() {
        return Err(bad_input(format!(
            "--run-dir {}: this is a file; name a folder",
            run_dir.display()
        )));
    }
    Ok(())
}

/// Whether to go on with the run in the folder. With `--resume`, a folder in which a run was
/// stopped before its first step has nothing to go on with and nothing to lose: it begins again.
fn goes_on(run_dir: &Path, resume: bool, existing: Existing) -> Result<bool> {
    if run_dir.join("config.toml").is_file() {
        return match existing {
            Existing::IfAsked if !resume => Err(bad_input(format!(
                "the run folder {} already holds a run; continue it with --resume, or name another folder with --run-dir",
                run_dir.display()
            ))),
            _ => Ok(true),
        };
    }
    if let Some(error) = seeds::refusal(run_dir) {
        return Err(error);
    }
    if existing == Existing::Needed
        || (resume && !trainer::never_began(run_dir).map_err(from_trainer)?)
    {
        let remedy = match existing {
            Existing::Needed => "name one with --run-dir",
            _ => "leave --resume out to start one, or name another folder with --run-dir",
        };
        return Err(bad_input(format!(
            "{} holds no run (config.toml is missing); {remedy}",
            run_dir.display()
        )));
    }
    Ok(false)
}

/// `cpu, 2 threads`, `cuda:0`, …
pub fn device_line(choice: Option<DeviceChoice>, device: &Device) -> String {
    match (device, choice) {
        (Device::Cpu, _) => format!("cpu, {} threads", crate::machine::threads()),
        (_, Some(choice @ DeviceChoice::Cuda(_))) => choice.to_string(),
        _ => device::name(device).to_owned(),
    }
}
