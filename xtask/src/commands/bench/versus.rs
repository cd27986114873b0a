//! `bench --peer torch`: this project and PyTorch, each a process of its own, measured in turn.
//!
//! Within a round every contender is measured once, one after the other; a ratio is one of medians over the rounds. So what
//! slows the machine for a while slows both sides.

use std::{path::Path, process::Command, thread, time::Duration};

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::Serialize;
use trainer::BenchNetwork;

use super::{
    contender::Contender,
    goals::{Goal, goals},
    python,
    rates::Rates,
    worker::{Peak, Question, Ready, Request, Task, Timed},
};
use crate::{
    cli::{BenchArgs, PrecisionChoice},
    exit::bad_input,
    machine,
    progress::Screen,
};

/// The same steps with PyTorch.
const PEER: &str = include_str!("../../../../assets/bench/torch_peer.py");

/// A measurement takes at least so many seconds, or one step.
const SECONDS: f64 = 1.0;

/// Before each measurement, so that threads of the one before have gone to sleep. A step that does not count follows: its threads
/// wake, and its data is in the caches again.
const PAUSE: Duration = Duration::from_millis(250);

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// Training steps: images per second and peak memory.
    Train,
    /// Feature extraction, in evaluation mode.
    Features,
    /// One thread against two, beside a loop that stays in registers.
    Threads,
    /// Training in f32 with both sides held to AVX2.
    Avx2,
    /// Augmented views per second on one thread.
    Data,
}

/// Whose process it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Own,
    Torch,
}

/// One contender of a case.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Entry {
    pub side: Side,
    pub task: Task,
    pub precision: PrecisionChoice,
    pub threads: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub avx2: bool,
}

/// Contenders that are compared with each other.
#[derive(Debug, Clone, Serialize)]
pub struct Case {
    pub section: Section,
    /// None where there is none.
    pub network: Option<&'static str>,
    /// Images, or views, of a step.
    pub batch: usize,
    pub contenders: Vec<Measured>,
    pub goals: Vec<Goal>,
}

/// What a contender reached.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    #[serde(flatten)]
    pub entry: Entry,
    pub steps: usize,
    /// Images or views per second; operations per second of the register loop.
    pub rates: Rates,
    /// The step's, above what the process held before.
    pub peak_bytes: Option<u64>,
}

/// The outcome, as `--json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub machine: String,
    /// Of this project, where its source lies in a repository.
    pub commit: Option<String>,
    pub peer: String,
    pub rounds: u32,
    pub command: String,
    pub cases: Vec<Case>,
}

/// Measures what was asked for.
pub fn run(args: &BenchArgs, screen: &Screen) -> Result<Report> {
    let python = python::find(args.python.as_deref())?;
    let threads = kernels::cpu_features().threads;
    let mut report = Report {
        machine: machine::line(),
        commit: trainer::git_revision(),
        peer: String::new(),
        rounds: args.rounds,
        command: command(args),
        cases: Vec::new(),
    };
    for (section, network, batch) in plan(args, machine::available_threads(), screen)? {
        let name = network.map_or_else(String::new, |n| format!("{n}, "));
        screen.note(format!("{}: {name}batch {batch}", section.title()));
        let mut contenders = Vec::new();
        for entry in lineup(section, threads) {
            let request = Request {
                task: entry.task,
                network: network.map_or_else(String::new, |n| n.to_string()),
                batch,
                precision: entry.precision,
                threads: entry.threads,
            };
            contenders.push(Running::start(&python, entry, &request)?);
        }
        if let Some(ready) = contenders
            .iter()
            .map(|c| &c.ready)
            .find(|ready| ready.torch.is_some())
        {
            // The one held to AVX2 names less than the machine has.
            if report.peer.is_empty() || section != Section::Avx2 {
                report.peer = versions(ready);
            }
        }
        let measured = measure(&mut contenders, args, batch, screen)?;
        let network = network.map(BenchNetwork::name);
        report.cases.push(Case {
            goals: goals(section, network, &measured),
            section,
            network,
            batch,
            contenders: measured,
        });
    }
    Ok(report)
}

/// The cases in order: those of `--only`, else all; of `--network` alone, where it is given.
fn plan(
    args: &BenchArgs,
    available: usize,
    screen: &Screen,
) -> Result<Vec<(Section, Option<BenchNetwork>, usize)>> {
    use BenchNetwork::{R18Cifar, R50, R50Cifar};
    let sections = match (args.only.as_slice(), args.network) {
        ([], Some(_)) => &[Section::Train][..],
        ([], None) => Section::value_variants(),
        (only, _) => only,
    };
    let batch = |usual: u32| args.batch.unwrap_or(usual) as usize;
    let mut cases = Vec::new();
    for &section in sections {
        if section == Section::Threads && available < 2 {
            if args.only.contains(&section) {
                return Err(bad_input(
                    "--only threads compares one thread with two, and this machine grants one; leave it out",
                ));
            }
            screen.note("threads: left out, this machine grants one");
            continue;
        }
        let usual: &[(BenchNetwork, u32)] = match section {
            Section::Train => &[(R50, 128), (R50, 256), (R50Cifar, 64), (R18Cifar, 128)],
            Section::Features => &[(R50, 256)],
            Section::Threads | Section::Avx2 => &[(R50, 128)],
            Section::Data => {
                cases.push((section, None, 512));
                continue;
            }
        };
        match args.network {
            None if args.batch.is_none() => {
                cases.extend(usual.iter().map(|&(n, b)| (section, Some(n), b as usize)));
            }
            None => {
                let mut networks: Vec<_> = usual.iter().map(|&(network, _)| network).collect();
                networks.dedup();
                cases.extend(networks.into_iter().map(|n| (section, Some(n), batch(0))));
            }
            Some(network) => {
                let found = usual.iter().find(|(n, _)| *n == network);
                let usual = found.map_or_else(|| usual_batch(network), |&(_, b)| b);
                cases.push((section, Some(network), batch(usual)));
            }
        }
    }
    Ok(cases)
}

/// The batch a network is measured at where nothing else is said.
pub fn usual_batch(network: BenchNetwork) -> u32 {
    match network {
        BenchNetwork::R50Cifar => 64,
        _ => 128,
    }
}

/// Who is measured, in the order of a round.
fn lineup(section: Section, threads: usize) -> Vec<Entry> {
    use PrecisionChoice::{Bf16, F32};
    let entry = |side, task, precision, threads| Entry {
        side,
        task,
        precision,
        threads,
        avx2: section == Section::Avx2,
    };
    let four = |task| {
        [F32, Bf16]
            .map(|p| [Side::Own, Side::Torch].map(|side| entry(side, task, p, threads)))
            .concat()
    };
    match section {
        Section::Train => four(Task::Train),
        Section::Features => four(Task::Features),
        Section::Threads => [(Task::Train, F32), (Task::Train, Bf16), (Task::Fma, F32)]
            .map(|(task, p)| [1, 2].map(|threads| entry(Side::Own, task, p, threads)))
            .concat(),
        Section::Avx2 => [Side::Own, Side::Torch]
            .map(|side| entry(side, Task::Train, F32, threads))
            .to_vec(),
        Section::Data => [Side::Own, Side::Torch]
            .map(|side| entry(side, Task::Data, F32, 1))
            .to_vec(),
    }
}

/// A contender that has answered its first line.
struct Running {
    entry: Entry,
    process: Contender,
    ready: Ready,
}

impl Running {
    fn start(python: &Path, entry: Entry, request: &Request) -> Result<Self> {
        let (command, remedy) = match entry.side {
            Side::Own => {
                let mut own = Command::new(std::env::current_exe()?);
                own.args(["bench", "--worker"])
                    .env("RAYON_NUM_THREADS", entry.threads.to_string());
                if entry.avx2 {
                    own.env("KERNELS_CPU", "avx2");
                }
                (own, "--batch makes it smaller")
            }
            Side::Torch => {
                let mut torch = Command::new(python);
                torch.args(["-c", PEER]);
                if entry.avx2 {
                    torch
                        .env("ATEN_CPU_CAPABILITY", "avx2")
                        .env("ONEDNN_MAX_CPU_ISA", "AVX2");
                }
                (
                    torch,
                    "--python names another Python, --batch makes it smaller",
                )
            }
        };
        let mut process = Contender::start(command, entry.side.name(), remedy)?;
        let ready: Ready = process.ask(request)?;
        if ready.threads != entry.threads {
            bail!(
                "{} was asked for {} threads and has {}; a limit outside holds it, such as OMP_THREAD_LIMIT",
                entry.side.name(),
                entry.threads,
                ready.threads
            );
        }
        Ok(Self {
            entry,
            process,
            ready,
        })
    }

    fn time(&mut self, steps: usize) -> Result<f64> {
        thread::sleep(PAUSE);
        self.process.ask::<Timed>(&Question::Steps(1))?;
        let timed: Timed = self.process.ask(&Question::Steps(steps))?;
        if !timed.loss.is_some_and(f64::is_finite) {
            bail!(
                "the loss of {} in {} is no finite number; this is a bug",
                self.entry.side.name(),
                self.entry.precision
            );
        }
        // A clock may be too coarse for a very short step.
        Ok(timed.seconds.max(1e-9))
    }
}

/// A short measurement that says how many steps a long one takes, then the rounds.
fn measure(
    contenders: &mut [Running],
    args: &BenchArgs,
    batch: usize,
    screen: &Screen,
) -> Result<Vec<Measured>> {
    let mut steps = Vec::new();
    for contender in contenders.iter_mut() {
        let one = contender.time(1)?;
        steps.push(args.steps.map_or_else(|| steps_for(one), |n| n as usize));
    }
    let mut samples = vec![Vec::new(); contenders.len()];
    for round in 1..=args.rounds {
        for ((contender, rates), &steps) in contenders.iter_mut().zip(&mut samples).zip(&steps) {
            let seconds = contender.time(steps)?;
            rates.push(contender.entry.units(batch) * steps as f64 / seconds);
        }
        let latest = samples.iter().filter_map(|rates| rates.last());
        let latest: Vec<String> = latest.map(|&rate| super::table::number(rate)).collect();
        screen.note(format!(
            "round {round}/{}: {}",
            args.rounds,
            latest.join(", ")
        ));
    }
    let mut measured = Vec::new();
    for ((contender, samples), steps) in contenders.iter_mut().zip(samples).zip(steps) {
        let peak: Peak = contender.process.ask(&Question::Memory(true))?;
        measured.push(Measured {
            entry: contender.entry,
            steps,
            rates: Rates::of(samples),
            peak_bytes: peak.peak_bytes,
        });
    }
    Ok(measured)
}

/// As many steps as take [`SECONDS`], at least one.
fn steps_for(seconds_of_one: f64) -> usize {
    (SECONDS / seconds_of_one).ceil().clamp(1.0, 1e6) as usize
}

fn versions(ready: &Ready) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "unknown".to_owned());
    format!(
        "PyTorch {} ({}), torchvision {}",
        part(&ready.torch),
        part(&ready.capability),
        part(&ready.torchvision)
    )
}

/// What repeats the measurement anywhere: without the place of the Python and of the files written.
fn command(args: &BenchArgs) -> String {
    let mut words = vec!["cargo xtask bench --peer torch".to_owned()];
    if !args.only.is_empty() {
        let only = args.only.iter().filter_map(ValueEnum::to_possible_value);
        let only: Vec<String> = only.map(|value| value.get_name().to_owned()).collect();
        words.push(format!("--only {}", only.join(",")));
    }
    if let Some(network) = args.network {
        words.push(format!("--network {network}"));
    }
    if let Some(batch) = args.batch {
        words.push(format!("--batch {batch}"));
    }
    if let Some(steps) = args.steps {
        words.push(format!("--steps {steps}"));
    }
    words.push(format!("--rounds {}", args.rounds));
    words.join(" ")
}

impl Section {
    /// For headings.
    pub fn title(self) -> &'static str {
        match self {
            Self::Train => "training step",
            Self::Features => "feature extraction",
            Self::Threads => "one thread and two",
            Self::Avx2 => "training step, AVX2 only",
            Self::Data => "augmented views, policy supcon",
        }
    }
}

impl Side {
    /// As messages and tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "this project",
            Self::Torch => "PyTorch",
        }
    }
}

impl Entry {
    /// What one step counts for.
    fn units(&self, batch: usize) -> f64 {
        match self.task {
            Task::Fma => kernels::bench::fma_operations() * self.threads as f64,
            _ => batch as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command as Commands};

    fn args(line: &str) -> BenchArgs {
        let words = "xtask bench --peer torch".split(' ');
        let cli = Cli::try_parse_from(words.chain(line.split_whitespace())).unwrap();
        let Commands::Bench(args) = cli.command else {
            panic!("bench expected")
        };
        args
    }

    fn planned(line: &str, available: usize) -> Vec<String> {
        plan(&args(line), available, &Screen::stderr())
            .unwrap()
            .into_iter()
            .map(|(section, network, batch)| match network {
                Some(network) => format!("{section:?} {network} {batch}"),
                None => format!("{section:?} {batch}"),
            })
            .collect()
    }

    #[test]
    fn without_a_network_it_is_the_whole_table() {
        assert_eq!(
            planned("", 2),
            [
                "Train r50 128",
                "Train r50 256",
                "Train r50-cifar 64",
                "Train r18-cifar 128",
                "Features r50 256",
                "Threads r50 128",
                "Avx2 r50 128",
                "Data 512"
            ]
        );
        assert_eq!(planned("--only data,avx2", 2), ["Data 512", "Avx2 r50 128"]);
    }

    #[test]
    fn a_network_is_trained_at_its_batch_or_the_one_given() {
        assert_eq!(planned("--network r50-cifar", 2), ["Train r50-cifar 64"]);
        assert_eq!(
            planned("--network r18-cifar --batch 8 --only train,features", 2),
            ["Train r18-cifar 8", "Features r18-cifar 8"]
        );
        assert_eq!(
            planned("--batch 16 --only train", 2),
            ["Train r50 16", "Train r50-cifar 16", "Train r18-cifar 16"]
        );
    }

    #[test]
    fn one_thread_alone_is_left_out_or_refused() {
        assert!(
            planned("", 1)
                .iter()
                .all(|case| !case.starts_with("Threads"))
        );
        let error = plan(&args("--only threads"), 1, &Screen::stderr()).unwrap_err();
        assert!(error.to_string().contains("--only threads"), "{error}");
    }

    #[test]
    fn the_sides_alternate_within_a_round() {
        let sides: Vec<Side> = lineup(Section::Train, 2).iter().map(|e| e.side).collect();
        assert_eq!(sides, [Side::Own, Side::Torch, Side::Own, Side::Torch]);
        let threads: Vec<usize> = lineup(Section::Threads, 8)
            .iter()
            .map(|e| e.threads)
            .collect();
        assert_eq!(threads, [1, 2, 1, 2, 1, 2]);
        assert!(lineup(Section::Avx2, 2).iter().all(|e| e.avx2));
    }

    #[test]
    fn a_measurement_takes_a_second_or_a_step() {
        assert_eq!(steps_for(4.0), 1);
        assert_eq!(steps_for(0.3), 4);
        assert_eq!(steps_for(0.0), 1_000_000);
    }

    #[test]
    fn the_command_repeats_it_without_places() {
        let line = "--python /a/b --write x.md --only train --network r50 --batch 4 --json";
        assert_eq!(
            command(&args(line)),
            "cargo xtask bench --peer torch --only train --network r50 --batch 4 --rounds 5"
        );
    }
}
