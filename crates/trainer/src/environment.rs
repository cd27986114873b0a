//! On what a run began: `environment.json`, on disk before step 0.

use crate::folder::ENVIRONMENT;
use crate::recipe::Recipe;
use crate::splits::Splits;
use crate::{Error, Result, files};
use candle_core::Device;
use cifar_data::{DatasetInfo, Normalization};
use kernels::Isa;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The data that a run began with, and where it found them, as `environment.json` has it. Takes no lock and changes nothing.
///
/// # Errors
/// If the folder holds no run, or the file is damaged.
pub fn recorded_dataset(run_dir: impl AsRef<Path>) -> Result<DatasetInfo> {
    let path = run_dir.as_ref();
    let file = path.join(ENVIRONMENT);
    if !file.is_file() {
        return Err(Error::NoRun {
            path: path.to_owned(),
            missing: ENVIRONMENT.to_owned(),
        });
    }
    Ok(files::read_json::<RunRecord>(&file)?.dataset)
}

/// Everything about a run that its recipe does not say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    /// The command that began the run.
    pub command: String,
    /// The seed of every random stream.
    pub seed: u64,
    /// The machine and the program.
    pub environment: eval::Environment,
    /// The data set with its checksums.
    pub dataset: DatasetInfo,
    /// The weights that arms began with instead of random ones: name → checksum.
    #[serde(default)]
    pub weights: BTreeMap<String, String>,
    /// Images in each split.
    pub train_images: usize,
    pub validation_images: usize,
    pub test_images: usize,
    /// Fitted on the training split.
    pub normalization: Normalization,
    /// What the training photographs look like. Runs of older versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<eval::PixelRanges>,
    /// Images per second by kind of step, measured before step 0 where the recipe has a budget.
    pub measured: BTreeMap<String, f64>,
    /// What every arm was meant to cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<eval::BudgetRecord>,
}

impl RunRecord {
    pub fn new(
        recipe: &Recipe,
        dataset: &DatasetInfo,
        splits: &Splits,
        device: &Device,
        command: &str,
    ) -> Self {
        let test_images = recipe
            .data
            .test_limit
            .map_or(dataset.test_len, |limit| limit.min(dataset.test_len));
        Self {
            command: command.to_owned(),
            seed: recipe.seed,
            environment: environment(device),
            dataset: dataset.clone(),
            weights: BTreeMap::new(),
            train_images: splits.train.len(),
            validation_images: splits.validation.len(),
            test_images,
            normalization: splits.normalization,
            pixels: None,
            measured: BTreeMap::new(),
            budget: None,
        }
    }

    /// The data set as results tell it.
    pub fn dataset_record(&self) -> eval::DatasetRecord {
        let d = &self.dataset;
        eval::DatasetRecord {
            name: d.name.clone(),
            source: d.source.clone(),
            synthetic: d.synthetic,
            classes: d.classes.clone(),
            checksums: d.checksums.clone(),
            train_images: self.train_images as u64,
            validation_images: self.validation_images as u64,
            test_images: self.test_images as u64,
            height: d.height as u64,
            width: d.width as u64,
            note: (!d.notes.is_empty()).then(|| d.notes.join(" ")),
        }
    }
}

fn environment(device: &Device) -> eval::Environment {
    let mut versions =
        BTreeMap::from([("trainer".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    if let Some(candle) = option_env!("TRAINER_CANDLE") {
        versions.insert("candle-core".to_owned(), candle.to_owned());
    }
    eval::Environment {
        versions,
        git_revision: git_revision(),
        device: device_name(device),
        cpu: cpu_name(),
        threads: rayon::current_num_threads() as u64,
        simd: simd().to_owned(),
        os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        rustc: env!("TRAINER_RUSTC").to_owned(),
        started: Some(now()),
        finished: None,
    }
}

/// `cpu`, `cuda:0`, `metal:0`.
pub(crate) fn device_name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".to_owned(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// The commit of the source that this was built from, if it still lies there; `-dirty` if files differ from it.
pub fn git_revision() -> Option<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("git")
        .arg("-C")
        .arg(source)
        .args([
            "describe",
            "--always",
            "--dirty",
            "--abbrev=40",
            "--exclude=*",
        ])
        .output()
        .ok()?;
    let revision = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !revision.is_empty()).then_some(revision)
}

fn cpu_name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |(_, name)| name.trim().to_owned(),
    )
}

/// The instruction set that the kernels use.
fn simd() -> &'static str {
    match kernels::cpu_features().used {
        Isa::Amx => "amx+avx512bf16",
        Isa::Avx512Bf16 => "avx512bf16",
        Isa::Avx512 => "avx512f",
        Isa::Avx2 => "avx2+fma",
        Isa::Portable if cfg!(target_arch = "aarch64") => "neon",
        Isa::Portable => "portable",
    }
}

/// The time, as RFC 3339 in UTC.
pub(crate) fn now() -> String {
    rfc3339(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs()),
    )
}

/// When a file was last written, as RFC 3339 in UTC.
pub(crate) fn written(path: &Path) -> Option<String> {
    let time = std::fs::metadata(path).ok()?.modified().ok()?;
    Some(rfc3339(time.duration_since(UNIX_EPOCH).ok()?.as_secs()))
}

/// Seconds since 1970 as RFC 3339 (days to civil date after Howard Hinnant).
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_across_leap_days() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(rfc3339(4_102_444_800), "2100-01-01T00:00:00Z");
    }

    #[test]
    fn the_environment_names_machine_and_compiler() {
        let environment = environment(&Device::Cpu);
        assert_eq!(environment.device, "cpu");
        assert!(
            environment.rustc.starts_with("rustc ")
                && environment.threads > 0
                && !environment.simd.is_empty()
        );
    }
}
