//! The command line as typed: commands, flags and their help.
//!
//! Values are parsed into typed enums here, so that a bad one is refused before anything is opened.

mod using;

use std::{fmt, path::PathBuf};

use cifar_data::DatasetName;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use contrastive_loss::Loss;
use serde::{Deserialize, Serialize};

use resnet::Init;
use trainer::{BenchNetwork, BudgetBy};

use crate::{
    commands::bench::{Peer, Section},
    device::DeviceChoice,
};

pub use using::{ArmArgs, EmbedArgs, ExportArgs, PredictArgs, SearchArgs, WatchArgs};

/// Does contrastive pretraining with a frozen-encoder head beat supervised training of the same
/// network on CIFAR-10?
///
/// `run-all` answers it in one go, from photographs to report; the other commands are its stages.
/// Exit codes: 0 done, 1 failed while running, 2 bad input, 128 + signal (130, 138, 143) stopped
/// by a signal after writing a checkpoint.
#[derive(Debug, Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One variant per file of `commands`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fetch and check the data set (and the initial weights) a recipe needs.
    Download(Common),
    /// Train encoders contrastively.
    Pretrain(StageArgs),
    /// Train the supervised baseline.
    Train(StageArgs),
    /// Train heads on frozen encoders.
    Probe(StageArgs),
    /// Fine-tune everything after pretraining.
    Finetune(StageArgs),
    /// Open the test split once per finished arm and write results.json.
    Eval(StageArgs),
    /// Write report.md and report.html again from a run folder, or from one of several seeds.
    Report(ReportArgs),
    /// Do all of it: data, every arm of the recipe, evaluation and report.
    RunAll(RunAllArgs),
    /// Watch a run from another terminal: curves, speed, time left; q leaves, the run goes on.
    Watch(WatchArgs),
    /// Say what photographs of yours show, with a finished run's encoder and head.
    ///
    /// A photograph is turned as its camera was held (EXIF), its largest centred part of the training images' shape is resized to
    /// their size, and it is normalised as they were. It is called UNLIKE the training data where the distance to its tenth
    /// nearest training photograph, in the encoder's features, is beyond that of 99 % of the validation images, or where its
    /// contrast or roughness is outside the range of the training photographs: then the answer means little. An image that cannot
    /// be read is named with its reason, and the others are answered; the exit code is then 2.
    Predict(PredictArgs),
    /// Write the features of a folder of photographs as .safetensors, .npy or .parquet.
    Embed(EmbedArgs),
    /// Find the training photographs that are nearest to one of yours.
    Search(SearchArgs),
    /// Write a finished arm as a folder for other programs: safetensors, ONNX, config.json, model card.
    Export(ExportArgs),
    /// Pretrain with several losses at equal budget and compare linear probes on the test split.
    #[command(mut_arg("recipe", |arg| arg
        .help("A recipe that comes with the program, or a TOML file of your own [default: losses]")
        .long_help("A recipe that comes with the program, or a TOML file of your own [default: losses].")))]
    #[command(mut_arg("run_dir", |arg| arg
        .help("Where the runs live [default: runs/losses]")
        .long_help("Where the runs live [default: runs/losses].")))]
    CompareLosses(CompareArgs),
    /// Measure training steps per second, alone or against stock Candle or PyTorch.
    Bench(BenchArgs),
    /// Say what this machine offers: device, threads, SIMD, memory, disk, data.
    Doctor(Common),
    /// Print a completion script for a shell.
    Completions {
        /// The shell to write for.
        shell: Shell,
    },
}

/// What to run, on which data, where.
#[derive(Debug, Clone, Default, Args)]
pub struct Common {
    /// A recipe that comes with the program, or a TOML file of your own.
    ///
    /// Without it: `smoke` on embedded data, `quick` on a CPU, `supcon` (scaled to half an hour)
    /// on a GPU.
    #[arg(long, value_name = "NAME|FILE")]
    pub recipe: Option<String>,

    /// Data set: auto, cifar10, cifar100, synthetic or folder [default: the recipe's].
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<DatasetName>,

    /// Folder or file with the data; also CIFAR10_DIR.
    #[arg(long, value_name = "PATH")]
    pub data_dir: Option<PathBuf>,

    /// Where the run lives [default: runs/RECIPE-seedN].
    #[arg(long, value_name = "PATH")]
    pub run_dir: Option<PathBuf>,

    /// Device: auto, cpu, cuda, cuda:N or metal [default: auto].
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,

    /// Seed of everything random [default: the recipe's].
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        allow_hyphen_values = true,
        value_parser = seed
    )]
    pub seed: Option<u64>,

    /// First weights: random, a .safetensors file, or hub:owner/name [default: the recipe's].
    ///
    /// They are the transfer arm's (`transfer.init`) in a recipe that has this arm, and everybody's
    /// (`model.init`) in others. A whole classifier's file will do: its last layer is left aside.
    #[arg(long, value_name = "WEIGHTS")]
    pub init: Option<Init>,

    /// Make the other arms' training as long as the baseline's: by epochs, flops or time.
    #[arg(long, value_name = "epochs|flops|time")]
    pub budget: Option<BudgetBy>,

    /// How the encoder keeps its activations on a CPU: f32 or bf16 [default: the recipe's].
    ///
    /// Parameters and sums stay f32. Takes effect in torchvision's family of networks on a CPU.
    #[arg(long, value_name = "f32|bf16")]
    pub precision: Option<PrecisionChoice>,

    /// Change one field of the recipe, for instance `--set pretrain.epochs=3`; repeatable.
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
}

impl Common {
    /// Forgets every flag that changes the recipe.
    pub fn forget_recipe(&mut self) {
        *self = Self {
            data_dir: self.data_dir.take(),
            run_dir: self.run_dir.take(),
            device: self.device,
            ..Self::default()
        };
    }
}

/// Flags of the commands that write to a run folder.
#[derive(Debug, Clone, Default, Args)]
pub struct StageArgs {
    /// What to run, on which data, where.
    #[command(flatten)]
    pub common: Common,

    /// Continue the run in --run-dir where it stopped; finished stages are skipped.
    #[arg(long)]
    pub resume: bool,
}

/// Flags of `run-all`.
#[derive(Debug, Clone, Default, Args)]
pub struct RunAllArgs {
    /// What every stage is told.
    #[command(flatten)]
    pub stage: StageArgs,

    /// Do it N times, with N seeds from --seed on, and report mean, spread and paired differences.
    ///
    /// Each seed has its own folder, RUN-DIR/seed-K. Below five seeds there is an interval and no
    /// verdict. With --resume a stopped command goes on, and a larger N adds seeds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub seeds: Option<u32>,
}

/// Flags of `report`.
#[derive(Debug, Clone, Default, Args)]
pub struct ReportArgs {
    /// What to run, on which data, where.
    #[command(flatten)]
    pub common: Common,

    /// Also put the table into this text file, between `<!-- results -->` and `<!-- /results -->`.
    #[arg(long, value_name = "FILE")]
    pub readme: Option<PathBuf>,

    /// Also write a page of the report's pictures into this folder: README.md, SVG and PNG files. With --readme, the
    /// table there is followed by some of them.
    #[arg(long, value_name = "DIR")]
    pub pictures: Option<PathBuf>,
}

/// Flags of `compare-losses`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// What to run, on which data, where. Each loss and seed has a folder of its own inside of --run-dir.
    #[command(flatten)]
    pub stages: StageArgs,

    /// The losses, by name [default: npairs,supcon_out,supcon_in,nt_xent].
    #[arg(long, value_name = "NAME,NAME,…", value_delimiter = ',')]
    pub losses: Vec<Loss>,

    /// One run of each loss for every seed from --seed on; the table has means and ranges [default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100))]
    pub seeds: Option<u64>,

    /// Also put the table into this text file, between `<!-- losses -->` and `<!-- /losses -->`.
    #[arg(long, value_name = "FILE")]
    pub readme: Option<PathBuf>,
}

/// Flags of `bench`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    /// Something else than a network's training step.
    #[command(subcommand)]
    pub what: Option<BenchOf>,

    /// Network: r50 (torchvision's ResNet-50), r50-cifar or r18-cifar (3×3 stem), on 32×32 images.
    ///
    /// Without it: r50; with `--peer torch` each at its batch.
    #[arg(long, value_name = "NAME")]
    pub network: Option<BenchNetwork>,

    /// How activations are kept: f32 or bf16 [default: f32; with `--peer torch` or `--layers` both].
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionChoice>,

    /// Images per step [default: 128; with `--peer torch` or `--layers` the network's own].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=65536))]
    pub batch: Option<u32>,

    /// Rounds; each measures every contender in turn, and the medians are compared.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,

    /// Training steps per measurement [default: 2; with `--peer torch` as many as take a second].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub steps: Option<u32>,

    /// Measure somebody else's step in turn.
    #[arg(long, value_enum)]
    pub peer: Option<Peer>,

    /// With `--peer torch`: only these comparisons; repeatable or separated by commas.
    #[arg(long, value_enum, value_name = "SECTION", value_delimiter = ',')]
    pub only: Vec<Section>,

    /// With `--peer torch`: a Python that imports torch and torchvision.
    ///
    /// Without it: the active virtual environment's, else python3.
    #[arg(long, value_name = "PYTHON")]
    pub python: Option<PathBuf>,

    /// With `--peer torch`: put the tables into this text file, between `<!-- bench:begin -->` and `<!-- bench:end -->`;
    /// repeatable.
    #[arg(long, value_name = "FILE")]
    pub write: Vec<PathBuf>,

    /// Measure every distinct convolution of the network alone, beside the register tile's own speed.
    #[arg(long)]
    pub layers: bool,

    /// Device: auto, cpu, cuda, cuda:N or metal.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,

    /// Print JSON instead of the table.
    #[arg(long)]
    pub json: bool,

    /// Answer another `bench`, line by line.
    #[arg(long, hide = true)]
    pub worker: bool,
}

/// What `bench` measures beside training steps.
#[derive(Debug, Clone, Subcommand)]
pub enum BenchOf {
    /// Measure a contrastive loss against the batch size: time, memory, GFLOP/s, beside PyTorch.
    Loss(LossArgs),
}

/// Flags of `bench loss`.
#[derive(Debug, Clone, Args)]
pub struct LossArgs {
    /// Rows of the batch.
    #[arg(
        long,
        value_name = "B,B,…",
        value_delimiter = ',',
        default_values_t = (8..=17).map(|power| 1 << power)
    )]
    pub sizes: Vec<usize>,

    /// Width of an embedding.
    #[arg(long, value_name = "D", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub dim: u32,

    /// Measured passes below 32,768 rows; above it is one.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,

    /// A Python with PyTorch: its dense version of the loss is measured in turn.
    #[arg(long, value_name = "PYTHON")]
    pub peer: Option<PathBuf>,

    /// The largest batch that the peer is asked for: its memory grows with B².
    #[arg(long, value_name = "B", default_value_t = 16_384)]
    pub peer_limit: usize,

    /// Draw time and memory into this SVG file.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,

    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub json: bool,

    /// Answer passes over this many rows, line by line.
    #[arg(long, hide = true)]
    pub worker: Option<usize>,
}

/// A seed: what TOML holds as a whole number.
fn seed(text: &str) -> Result<u64, String> {
    let number = text.parse().ok();
    number
        .filter(|seed| i64::try_from(*seed).is_ok())
        .ok_or_else(|| format!("use a whole number from 0 to {}", i64::MAX))
}

/// `key=value`, with a key that is not empty.
fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("expected KEY=VALUE, for instance pretrain.epochs=3".to_owned()),
    }
}

/// Clap's many-line refusal as one sentence that ends in the remedy.
pub fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut parts: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        let line = line
            .trim_start_matches("error: ")
            .trim_start_matches("tip: ");
        if !line.is_empty() {
            parts.push(line.to_owned());
        }
    }
    format!("{}; `--help` lists what is accepted", parts.join("; "))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn refusals_are_one_sentence_with_flag_value_and_remedy() {
        for (line, wants) in [
            (&["run-all", "--sed", "3"][..], &["--sed", "--seed"][..]),
            (&["run-al"], &["run-al", "run-all"]),
            (
                &["run-all", "--seed", "-1x"],
                &["--seed", "-1x", "whole number from 0"],
            ),
            (
                &["run-all", "--seed", "-1"],
                &["--seed", "-1", "whole number from 0"],
            ),
            (
                &["export", "--license", "garbage"],
                &["--license", "garbage", "apache-2.0"],
            ),
            (
                &["compare-losses", "--losses", "triplets"],
                &["--losses", "triplets", "supcon_out"],
            ),
            (
                &["run-all", "--set", "epochs"],
                &["--set", "epochs", "KEY=VALUE"],
            ),
            (
                &["run-all", "--device", "tpu"],
                &["--device", "tpu", "metal"],
            ),
            (
                &["run-all", "--dataset", "mnist"],
                &["--dataset", "mnist", "cifar10", "folder"],
            ),
            (
                &["run-all", "--init", "hub:resnet50"],
                &["--init", "hub:resnet50", "hub:owner/name"],
            ),
            (
                &["bench", "--network", "vgg"],
                &["--network", "vgg", "r50-cifar"],
            ),
            (&["completions", "dosh"], &["dosh", "bash"]),
            (&["run-all", "--seeds", "0"], &["--seeds", "0"]),
            (
                &["run-all", "--budget", "money"],
                &["--budget", "money", "epochs, flops or time"],
            ),
            (&["run-all", "stray"], &["stray"]),
        ] {
            let error = Cli::try_parse_from([&["xtask"], line].concat()).unwrap_err();
            let text = sentence(&error);
            assert!(!text.contains('\n'), "{text}");
            for want in wants {
                assert!(text.contains(want), "{line:?}: {text:?} lacks {want}");
            }
        }
    }

    #[test]
    fn flags_reach_their_fields() {
        let cli = Cli::try_parse_from([
            "xtask", "run-all", "--recipe", "smoke", "--seed", "7", "--set", "a.b=1", "--set",
            "c = x=y", "--device", "cuda:1", "--resume", "--seeds", "3", "--budget", "flops",
        ])
        .unwrap();
        let Command::RunAll(args) = cli.command else {
            panic!("run-all expected")
        };
        assert_eq!(args.seeds, Some(3));
        let args = args.stage;
        assert_eq!(args.common.budget, Some(BudgetBy::Flops));
        assert_eq!(args.common.recipe.as_deref(), Some("smoke"));
        assert_eq!(args.common.seed, Some(7));
        assert_eq!(args.common.device, Some(DeviceChoice::Cuda(1)));
        assert_eq!(args.common.set[1], ("c".to_owned(), "x=y".to_owned()));
        assert!(args.resume);
    }
}

/// `--precision`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// 32 bits.
    #[default]
    F32,
    /// Activations of 16 bits; parameters and sums stay f32.
    Bf16,
}

impl fmt::Display for PrecisionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl From<PrecisionChoice> for trainer::Precision {
    fn from(choice: PrecisionChoice) -> Self {
        match choice {
            PrecisionChoice::F32 => Self::F32,
            PrecisionChoice::Bf16 => Self::Bf16,
        }
    }
}
