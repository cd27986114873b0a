//! `export`: a finished arm as a folder for other programs and for the Hub.

use anyhow::Result;
use trainer::{ExportOptions, TrainedArm};

use crate::{cli::ExportArgs, exit::from_trainer, text::out};

/// Writes weights, ONNX, configuration and model card, and names them.
pub fn run(args: &ExportArgs) -> Result<()> {
    let device = args.arm.device.unwrap_or_default().open()?;
    let arm = TrainedArm::open(&args.arm.run_dir, args.arm.arm, &device).map_err(from_trainer)?;
    let options = ExportOptions {
        with_head: args.with_head,
        license: args.license.clone(),
    };
    for path in arm.export(&args.to, &options).map_err(from_trainer)? {
        out(format!("wrote {}", path.display()))?;
    }
    Ok(())
}
