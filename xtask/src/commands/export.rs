//! `export`: a finished arm as a folder for other programs and for the Hub.

use anyhow::Result;
use trainer::ExportOptions;

use crate::{cli::ExportArgs, exit::from_trainer, text::out};

/// Writes weights, ONNX, configuration and model card, and names them.
pub fn run(args: &ExportArgs) -> Result<()> {
    let arm = super::arm::open(&args.arm)?;
    let options = ExportOptions {
        with_head: args.with_head,
        license: args.license.clone(),
    };
    for path in arm.export(&args.to, &options).map_err(from_trainer)? {
        out(format!("wrote {}", path.display()))?;
    }
    Ok(())
}
