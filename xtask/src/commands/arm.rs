//! What the commands that use a finished arm share: opening it, and saying whether a photograph is like its data.

use std::path::{Path, PathBuf};

use anyhow::Result;
use cifar_data::Images;
use eval::{Familiarity, Features};
use serde_json::{Value, json};
use trainer::TrainedArm;

use crate::{
    cli::ArmArgs,
    commands::seeds,
    exit::{bad_input, from_data, from_trainer},
    text::note,
};

/// Opens the arm that the flags name, without its features.
pub fn open(args: &ArmArgs) -> Result<TrainedArm> {
    if let Some(error) = seeds::refusal(&args.run_dir) {
        return Err(error);
    }
    let device = args.device.unwrap_or_default().open()?;
    TrainedArm::open(&args.run_dir, args.arm, &device).map_err(from_trainer)
}

/// Refuses a file that cannot be written because its folder is not there, before anything is computed for it.
pub fn check_place(flag: &str, file: &Path) -> Result<()> {
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let problem = match folder {
        _ if file.is_dir() => "is a folder; name a file".to_owned(),
        Some(folder) if !folder.is_dir() => format!(
            "cannot be written, for there is no folder {}; make it, or name another place",
            folder.display()
        ),
        _ => return Ok(()),
    };
    Err(bad_input(format!("{flag} {} {problem}", file.display())))
}

/// A finished arm with its training features and the criterion that they give.
pub struct Opened {
    pub arm: TrainedArm,
    pub train: Features,
    pub familiar: Familiarity,
}

impl Opened {
    /// Opens what the flags name.
    pub fn new(args: &ArmArgs) -> Result<Self> {
        let arm = open(args)?;
        let train = arm.training_features().map_err(from_trainer)?;
        let familiar = arm.familiarity(&train).map_err(from_trainer)?;
        Ok(Self {
            arm,
            train,
            familiar,
        })
    }

    /// Reads photographs at the size of the run's data.
    pub fn read(&self, paths: &[PathBuf]) -> Result<Images> {
        let data = self.arm.dataset();
        cifar_data::read_photographs(paths, data.height, data.width).map_err(from_data)
    }

    /// How far each image is from the training data.
    pub fn distances(&self, features: &Features) -> Result<Vec<f64>> {
        let distances = self.familiar.distances(&self.train, features);
        distances.map_err(|error| from_trainer(error.into()))
    }

    /// A class' name.
    pub fn class(&self, label: usize) -> &str {
        let classes = &self.arm.dataset().classes;
        classes.get(label).map_or("?", String::as_str)
    }

    /// Says of a run on drawn shapes that it is one.
    pub fn say_if_synthetic(&self) {
        if self.arm.dataset().synthetic {
            note("SYNTHETIC: this run has seen drawn shapes only; it knows nothing of photographs");
        }
    }

    /// The line that stands under a photograph unlike the training data.
    pub fn warning(&self, distance: f64) -> Option<String> {
        let Familiarity {
            k,
            threshold,
            quantile,
            held_out,
            ..
        } = self.familiar;
        let whose = if held_out { "validation" } else { "training" };
        self.familiar.is_strange(distance).then(|| {
            format!(
                "  UNLIKE the training data: its {k}th nearest training photograph is at\n  \
                 distance {distance:.3}; for {:.0} % of the {whose} images it is at most {threshold:.3}",
                100.0 * quantile
            )
        })
    }

    /// What JSON output says of the run and of the criterion.
    pub fn head(&self, args: &ArmArgs) -> Value {
        json!({
            "run": args.run_dir.display().to_string(),
            "arm": self.arm.arm().name(),
            "data": self.arm.dataset().name,
            "unlike_training_data": self.familiar,
        })
    }
}
