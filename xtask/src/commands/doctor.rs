//! `doctor`: what this machine offers to a run, one line each, and what stands in the way.

use std::path::Path;

use anyhow::Result;
use candle_core::Device;
use cifar_data::{DatasetName, SourceOptions};

use crate::{
    cli::Common,
    exit::from_data,
    machine,
    plan::device_line,
    recipes,
    text::{bytes, out, wrap},
};

/// A run folder of `supcon` with its checkpoints stays below this.
const DISK_WANTED: u64 = 2 << 30;
/// ResNet-50 at batch 256 with its activations, and the data.
const MEMORY_WANTED: u64 = 6 << 30;

/// Prints the machine; a device or data folder that is named and unusable is bad input.
pub fn run(flags: &Common) -> Result<()> {
    line(
        "program",
        &format!(
            "xtask {}, built for {}",
            env!("CARGO_PKG_VERSION"),
            features()
        ),
    )?;
    let device = flags.device.unwrap_or_default().open()?;
    line("device", &device_line(flags.device, &device))?;
    line("cpu", &machine::processor())?;
    line(
        "threads",
        &format!(
            "{} in use, {} granted by the system",
            machine::threads(),
            machine::available_threads()
        ),
    )?;
    line("simd", &kernels::cpu_features().to_string())?;
    memory()?;
    disk(flags.run_dir.as_deref().unwrap_or(Path::new("runs")))?;
    let synthetic = data(flags)?;
    let recipe = match &flags.recipe {
        Some(wanted) => {
            let mut recipe = recipes::load(wanted)?;
            recipes::apply(&mut recipe, flags)?;
            recipes::check(&recipe)?;
            format!("{wanted} is valid")
        }
        None => {
            let (recipe, reason) = recipes::default_for(synthetic, !matches!(device, Device::Cpu))?;
            format!("{} would be run by default ({reason})", recipe.name)
        }
    };
    line("recipe", &recipe)
}

fn features() -> String {
    let mut names = vec!["cpu"];
    for (name, on) in [
        ("cuda", cfg!(feature = "cuda")),
        ("cudnn", cfg!(feature = "cudnn")),
        ("metal", cfg!(feature = "metal")),
        ("accelerate", cfg!(feature = "accelerate")),
        ("mkl", cfg!(feature = "mkl")),
    ] {
        if on {
            names.push(name);
        }
    }
    names.join(", ")
}

fn memory() -> Result<()> {
    let Some(memory) = machine::memory() else {
        return line("memory", "unknown");
    };
    let available = memory.available.unwrap_or(memory.total);
    let mut text = format!("{} free of {}", bytes(available), bytes(memory.total));
    if available < MEMORY_WANTED {
        text += &format!(
            "; full-size recipes want {}: lower batch_size or raise accumulation",
            bytes(MEMORY_WANTED)
        );
    }
    line("memory", &text)
}

fn disk(run_dir: &Path) -> Result<()> {
    let Some(free) = machine::disk_free(run_dir) else {
        return line("disk", &format!("unknown at {}", run_dir.display()));
    };
    let mut text = format!("{} free at {}", bytes(free), run_dir.display());
    if free < DISK_WANTED {
        text += &format!(
            "; a run wants up to {}: choose another --run-dir",
            bytes(DISK_WANTED)
        );
    }
    line("disk", &text)
}

/// Looks for data without the network; returns whether only the embedded set is at hand.
fn data(flags: &Common) -> Result<bool> {
    let wanted = flags.dataset.unwrap_or(DatasetName::Auto);
    let mut options = SourceOptions::from_env(wanted);
    options.data_dir.clone_from(&flags.data_dir);
    options.offline = true;
    let named = flags.data_dir.is_some();
    match cifar_data::open(&options, &mut ()) {
        Ok(dataset) => {
            let info = dataset.info();
            let (train, test) = (info.train_len, info.test_len);
            let from = if info.synthetic { "," } else { " from" };
            line(
                "data",
                &format!(
                    "{} ({train} + {test} images){from} {}",
                    info.name, info.source
                ),
            )?;
            if dataset.notice().is_some() {
                line(
                    "",
                    "no photographs on this machine yet; `download` fetches CIFAR-10",
                )?;
            }
            Ok(info.synthetic)
        }
        Err(error) if named => Err(from_data(error)),
        Err(_) => {
            line(
                "data",
                &format!("{wanted} is not on this machine yet; `download` fetches it"),
            )?;
            Ok(false)
        }
    }
}

fn line(name: &str, text: &str) -> Result<()> {
    for (index, part) in wrap(text, 70).iter().enumerate() {
        let name = if index == 0 { name } else { "" };
        out(format!("{name:<8}  {part}"))?;
    }
    Ok(())
}
