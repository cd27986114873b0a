//! A run folder opened for work: stages are run here, watched, and stopped by signals.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, anyhow};
use cifar_data::{DatasetName, SourceOptions};
use eval::{ReportInput, Results};
use trainer::{
    Event, Experiment, Options, Outcome, Precision, Recipe, StageId, StageKind, StopFlag,
};

use crate::{
    cli::StageArgs,
    exit::{from_trainer, stopped},
    plan::{self, Existing, Plan, Start},
    progress::{Screen, seconds_of},
    signals::{self, Received},
    text::{self, duration, out, quoted},
};

/// A run folder opened for work.
pub struct Session {
    experiment: Experiment,
    screen: Screen,
    received: Received,
    device: String,
    precision: Option<&'static str>,
    reason: Option<&'static str>,
    /// What to type to go on.
    resume: String,
}

impl Session {
    /// Opens the run that the flags describe; makes it if it is new and may be.
    pub fn open(command: &str, args: &StageArgs, existing: Existing) -> Result<Self> {
        Self::open_if(command, args, existing, |_| Ok(()))
    }

    /// The same; a new run that `accept` refuses leaves no folder.
    pub fn open_if(
        command: &str,
        args: &StageArgs,
        existing: Existing,
        accept: impl FnOnce(&Recipe) -> Result<()>,
    ) -> Result<Self> {
        let screen = Screen::stderr();
        let plan = Plan::make(&args.common, args.resume, existing, &screen)?;
        if let Start::New(recipe) = &plan.start {
            accept(recipe)?;
        }
        let stop = StopFlag::new();
        let above = screen.clone();
        let received = signals::listen(stop.clone(), move |text| above.note(text))
            .context("signal handlers could not be installed")?;
        let shown = screen.clone();
        let options = Options {
            device: plan.device.clone(),
            stop,
            command: command_line(),
            offline: SourceOptions::from_env(DatasetName::Auto).offline,
            observers: vec![Box::new(move |event: &Event| shown.event(event))],
        };
        let device = plan::device_line(args.common.device, &plan.device);
        let target = plan.device.clone();
        let resume = resume_line(command, args, &plan.run_dir);
        let opened = match &plan.start {
            Start::New(recipe) => Experiment::create(&plan.run_dir, recipe, plan.dataset, options),
            Start::Existing(recipe) => {
                Experiment::resume(&plan.run_dir, recipe.as_ref(), plan.dataset, options)
            }
        };
        screen.clear();
        let experiment = opened.map_err(from_trainer)?;
        let precision = precision_line(&experiment.recipe().model, &target);
        Ok(Self {
            experiment,
            precision,
            screen,
            received,
            device,
            reason: plan.reason,
            resume,
        })
    }

    /// The stages of the run, in order.
    pub fn stages(&self) -> Vec<StageId> {
        self.experiment.stages()
    }

    /// The recipe's name.
    pub fn recipe_name(&self) -> String {
        self.experiment.recipe().name.clone()
    }

    /// The run folder.
    pub fn run_dir(&self) -> &Path {
        self.experiment.run_dir()
    }

    /// A line that stays on the screen.
    pub fn note(&self, text: &str) {
        for line in text::wrap(text, 80) {
            self.screen.note(line);
        }
    }

    /// What to type to go on, where this run is part of something larger.
    pub fn resume_with(&mut self, line: String) {
        self.resume = line;
    }

    /// Writes the resolved recipe without its budgets: its epochs stand.
    pub fn save_frozen_recipe(&self, path: &Path) -> Result<()> {
        let mut recipe = self.experiment.recipe().clone().into_inner();
        recipe.budget_minutes = None;
        recipe.budget = None;
        let beside = path.with_extension("new");
        fs_err::write(&beside, recipe.to_toml().map_err(from_trainer)?)?;
        fs_err::rename(&beside, path)?;
        Ok(())
    }

    /// Which test images each arm got right.
    pub fn right(&self) -> Result<BTreeMap<String, Vec<bool>>> {
        self.experiment.right().map_err(from_trainer)
    }

    /// Everything that the report shows.
    pub fn report_input(&self) -> Result<ReportInput> {
        self.experiment.report_input().map_err(from_trainer)
    }

    /// Numbers only these stages on the screen.
    pub fn expect_only(&self, stages: &[StageId]) {
        self.screen.expect(stages.to_vec(), BTreeMap::new());
    }

    /// Prints what will be run and how long that takes at the speed of the first steps.
    pub fn print_plan(&self) -> Result<()> {
        let recipe = self.experiment.recipe();
        let data = self.experiment.dataset();
        let reason = self
            .reason
            .map_or_else(String::new, |reason| format!(" ({reason})"));
        self.screen.note(format!(
            "recipe   {}{reason}, seed {}",
            recipe.name, recipe.seed
        ));
        let from = if data.synthetic { "," } else { " from" };
        for line in text::wrap(&format!("{}{from} {}", data.name, data.source), 71) {
            self.screen.note(format!("data     {line}"));
        }
        self.screen.note(format!("device   {}", self.device));
        if let Some(precision) = self.precision {
            self.screen.note(format!("numbers  {precision}"));
        }
        self.screen
            .note(format!("folder   {}", self.run_dir().display()));
        if self.stages().iter().all(|s| self.experiment.is_done(*s)) {
            self.screen.note("plan     every stage is done");
            self.screen.expect(self.stages(), BTreeMap::new());
            return Ok(());
        }
        self.screen
            .note("plan     measuring the first steps of each stage …");
        let estimate = self.experiment.estimate().map_err(from_trainer)?;
        let seconds: BTreeMap<StageId, f64> = estimate.stages.iter().copied().collect();
        let stages = self.stages();
        for (index, stage) in stages.iter().enumerate() {
            self.screen
                .note(self.plan_line(index, *stage, seconds.get(stage).copied())?);
        }
        if estimate.report_seconds >= 1.0 {
            let time = duration(seconds_of(estimate.report_seconds));
            self.screen
                .note(format!("      {:<22} {:<12} about {time}", "report", ""));
        }
        let total = duration(seconds_of(estimate.total_seconds()));
        self.screen.note(format!(
            "         about {total} in all, at the speed of the first steps"
        ));
        if let Some(budget) = self.experiment.budget() {
            for line in budget_lines(budget, recipe.budget_minutes) {
                self.screen.note(line);
            }
        }
        let least = |stage: &StageId| {
            let training = recipe.training(stage.kind);
            training.is_none_or(|t| t.epochs <= 1) || is_head(*stage)
        };
        if stages.iter().all(least)
            && let Some(line) = unmet(recipe.budget_minutes, seconds.values().sum())
        {
            self.screen.note(line);
        }
        self.screen.expect(stages, seconds);
        Ok(())
    }

    fn plan_line(&self, index: usize, stage: StageId, seconds: Option<f64>) -> Result<String> {
        let progress = self.experiment.progress(stage).map_err(from_trainer)?;
        let work = match progress.epochs {
            0 => String::new(),
            1 => "1 epoch".to_owned(),
            epochs => format!("{epochs} epochs"),
        };
        let time = match (progress.done, progress.steps_done, seconds) {
            (true, ..) => "done".to_owned(),
            (false, 0, Some(seconds)) => format!("about {}", duration(seconds_of(seconds))),
            (false, done, Some(seconds)) => {
                format!(
                    "about {} from step {done} on",
                    duration(seconds_of(seconds))
                )
            }
            (false, _, None) => String::new(),
        };
        let line = format!(
            "  {:>2}  {:<22} {work:<12} {time}",
            index + 1,
            stage.to_string()
        );
        Ok(line.trim_end().to_owned())
    }

    /// Runs one stage; a signal ends the command with what to type to go on.
    pub fn run(&mut self, stage: StageId) -> Result<()> {
        let outcome = self.experiment.run_stage(stage);
        self.screen.clear();
        match outcome.map_err(from_trainer)? {
            Outcome::Finished | Outcome::AlreadyDone => Ok(()),
            Outcome::Stopped => match self.received.signal() {
                Some(signal) => Err(stopped(signal, self.resume.clone())),
                None => Err(anyhow!(
                    "{stage} stopped early; continue with: {}",
                    self.resume
                )),
            },
        }
    }

    /// The results of all arms that are evaluated, and nothing written.
    pub fn results_alone(&self) -> Result<Results> {
        self.experiment.results().map_err(from_trainer)
    }

    /// Writes results.json and the report, and says nothing.
    pub fn results(&self) -> Result<Results> {
        self.experiment.write_report().map_err(from_trainer)?;
        self.experiment.results().map_err(from_trainer)
    }

    /// Writes results.json and the report, and prints the table and where they are.
    pub fn report(&self) -> Result<ReportInput> {
        let input = self.report_input()?;
        write_report(self.run_dir(), &input)?;
        Ok(input)
    }
}

/// Writes results.json and the report into a folder, and prints the table and where they are.
fn write_report(folder: &Path, input: &ReportInput) -> Result<()> {
    let results = folder.join("results.json");
    input.results.save(&results)?;
    let paths = eval::write_report(folder, input)?;
    out(eval::summary_table(&input.results).trim_end())?;
    out(format!("results  {}", results.display()))?;
    out(format!("report   {}", paths.html.display()))?;
    Ok(())
}

/// Whether a stage trains a head on a frozen encoder: the budget of minutes leaves those as they are.
fn is_head(stage: StageId) -> bool {
    matches!(stage.kind, StageKind::Probe | StageKind::Head)
}

/// What is said of minutes that the fewest epochs do not fit into.
fn unmet(minutes: Option<f64>, needed: f64) -> Option<String> {
    let minutes = minutes.filter(|minutes| needed > minutes * 60.0)?;
    Some(format!(
        "budget   {minutes} minutes cannot be met: the fewest epochs take about {}",
        duration(seconds_of(needed))
    ))
}

/// What each arm will cost, all its stages counted.
fn budget_lines(budget: &eval::BudgetRecord, minutes: Option<f64>) -> Vec<String> {
    let how = match (&budget.equalised_by, minutes) {
        (Some(by), _) => format!("made equal to the baseline by {by}"),
        (None, Some(minutes)) => format!("fitted to {minutes} minutes"),
        (None, None) => "as the recipe has them".to_owned(),
    };
    let mut lines = vec![format!("budget   {how}; multiply-adds of all stages")];
    for (name, arm) in &budget.arms {
        lines.push(format!(
            "         {name:<22}{:>6} {:<6}{:>13} images{:>11.2e}",
            arm.encoder_epochs,
            if arm.encoder_epochs == 1 {
                "epoch"
            } else {
                "epochs"
            },
            arm.images_seen,
            arm.multiply_adds as f64
        ));
    }
    lines
}

/// How this program is started: `cargo xtask`, or the alias with the GPU's features.
pub fn program() -> &'static str {
    if cfg!(feature = "cuda") {
        "cargo xtask-cuda"
    } else if cfg!(feature = "metal") {
        "cargo xtask-metal"
    } else {
        "cargo xtask"
    }
}

/// The command as typed, for the report.
pub fn command_line() -> String {
    let typed = std::env::args_os()
        .skip(1)
        .map(|word| quoted(&word.to_string_lossy()));
    [program().to_owned()]
        .into_iter()
        .chain(typed)
        .collect::<Vec<_>>()
        .join(" ")
}

/// What is said of the recipe's precision, unless it is f32 throughout.
fn precision_line(model: &trainer::Model, device: &candle_core::Device) -> Option<&'static str> {
    match (model.precision, model.precision_on(device)) {
        (Precision::F32, _) => None,
        (_, Precision::Bf16) => Some("bf16 activations; parameters and sums f32"),
        (_, Precision::F32) => Some("f32; bf16 takes torchvision's networks on a CPU"),
    }
}

/// The command that goes on where this one stopped.
fn resume_line(command: &str, args: &StageArgs, run_dir: &Path) -> String {
    let mut line = format!(
        "{} {command} --resume --run-dir {}",
        program(),
        quoted(&run_dir.to_string_lossy())
    );
    if let Some(data_dir) = &args.common.data_dir {
        line += &format!(" --data-dir {}", quoted(&data_dir.to_string_lossy()));
    }
    if let Some(device) = args.common.device {
        line += &format!(" --device {device}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_says_what_became_of_it() {
        let mut budget = eval::BudgetRecord::default();
        for (name, encoder_epochs) in [("baseline", 1), ("contrastive", 12)] {
            let arm = eval::ArmBudget {
                encoder_epochs,
                ..eval::ArmBudget::default()
            };
            budget.arms.insert(name.to_owned(), arm);
        }
        let lines = budget_lines(&budget, None);
        assert!(lines[0].contains("as the recipe has them"), "{lines:?}");
        assert!(lines[1].contains(" 1 epoch  "), "{lines:?}");
        assert!(lines[2].contains(" 12 epochs "), "{lines:?}");
        assert_eq!(lines[1].chars().count(), lines[2].chars().count());
        let lines = budget_lines(&budget, Some(0.01));
        assert!(lines[0].contains("fitted to 0.01 minutes"), "{lines:?}");

        assert_eq!(unmet(None, 13.0), None);
        assert_eq!(unmet(Some(1.0), 13.0), None);
        let line = unmet(Some(0.01), 13.0).unwrap();
        assert!(
            line.contains("0.01 minutes cannot be met") && line.contains("13s"),
            "{line}"
        );
    }
}
