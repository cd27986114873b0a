//! Flags of the commands that use a finished run.

use std::path::PathBuf;

use clap::Args;
use trainer::Arm;

use crate::device::DeviceChoice;

/// Which arm of which run, and where it is run.
#[derive(Debug, Clone, Args)]
pub struct ArmArgs {
    /// The run folder.
    #[arg(long, value_name = "RUN")]
    pub run_dir: PathBuf,

    /// The arm whose encoder and head are used: baseline, contrastive, control, finetuned, transfer.
    #[arg(long, value_name = "ARM", default_value = "contrastive")]
    pub arm: Arm,

    /// Device: auto, cpu, cuda, cuda:N or metal [default: auto].
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
}

/// Flags of `predict`.
#[derive(Debug, Clone, Args)]
pub struct PredictArgs {
    /// Photographs: PNG or JPEG, of any size.
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<PathBuf>,

    /// Which arm of which run.
    #[command(flatten)]
    pub arm: ArmArgs,

    /// How many classes are named for each photograph.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub top: u32,

    /// Print one JSON object instead of lines.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `embed`.
#[derive(Debug, Clone, Args)]
pub struct EmbedArgs {
    /// A folder with photographs (PNG or JPEG, of any size), also in folders inside it.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,

    /// The file to write: .safetensors, .npy (names beside it) or .parquet.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,

    /// Which arm of which run.
    #[command(flatten)]
    pub arm: ArmArgs,

    /// Print one JSON object instead of lines.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `search`.
#[derive(Debug, Clone, Args)]
pub struct SearchArgs {
    /// A photograph: PNG or JPEG, of any size.
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,

    /// Which arm of which run.
    #[command(flatten)]
    pub arm: ArmArgs,

    /// The data that the run was trained on [default: where the run found them].
    #[arg(long, value_name = "PATH")]
    pub data_dir: Option<PathBuf>,

    /// How many training photographs are named.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub count: u32,

    /// Also write the photograph and what was found as a picture into this PNG file.
    #[arg(long, value_name = "FILE")]
    pub strip: Option<PathBuf>,

    /// Print one JSON object instead of lines.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Which arm of which run.
    #[command(flatten)]
    pub arm: ArmArgs,

    /// The folder to write: empty, new, or a former export.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,

    /// Put the classifier into the ONNX model too: a second output, `logits`.
    #[arg(long)]
    pub with_head: bool,

    /// The licence of the weights, by the Hub's identifier: mit, apache-2.0, cc-by-4.0, …
    #[arg(long, value_name = "ID")]
    pub license: Option<String>,
}

/// Flags of `watch`.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// The run folder.
    #[arg(value_name = "RUN")]
    pub run_dir: PathBuf,
}
