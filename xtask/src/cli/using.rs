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
    #[arg(long, value_name = "ID", value_parser = license)]
    pub license: Option<String>,
}

/// The identifiers of licences that the Hub's model cards know (its documentation, "Licenses").
const LICENSES: &str = "apache-2.0 mit openrail openrail++ bigscience-openrail-m creativeml-openrail-m \
    bigscience-bloom-rail-1.0 bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear \
    c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 \
    cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 \
    cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 \
    gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 lgpl-lr isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by \
    odbl osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl deepfloyd-if-license fair-noncommercial-research-license llama2 \
    llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown other";

/// A licence that the Hub knows.
fn license(text: &str) -> Result<String, String> {
    match LICENSES.split_whitespace().any(|known| known == text) {
        true => Ok(text.to_owned()),
        false => Err(
            "use an identifier that the Hub knows, such as apache-2.0, mit, bsd-3-clause, cc-by-4.0, or other".to_owned(),
        ),
    }
}

/// Flags of `watch`.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// The run folder.
    #[arg(value_name = "RUN")]
    pub run_dir: PathBuf,
}
