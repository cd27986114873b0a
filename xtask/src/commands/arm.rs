//! What the commands that use a finished arm share: opening it, and saying whether a photograph is like its data.

use std::path::{Path, PathBuf};

use anyhow::Result;
use cifar_data::{Dataset, Images, Photograph};
use eval::{Appearance, Familiarity, Features, PixelRanges};
use serde_json::{Value, json};
use trainer::TrainedArm;

use crate::{
    cli::{ArmArgs, Common},
    commands::seeds,
    exit::{bad_input, from_trainer},
    plan::{at_recorded_data, open_data},
    progress::Screen,
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

/// A finished arm with its training features and the criteria of what is like the training data.
pub struct Opened {
    pub arm: TrainedArm,
    pub train: Features,
    familiar: Familiarity,
    /// None in a run of an older version whose data are not at hand.
    ranges: Option<PixelRanges>,
}

/// How like the training data a photograph is.
pub struct Likeness {
    /// To its k-th nearest training feature.
    distance: f64,
    is_far: bool,
    appearance: Appearance,
    /// What of its appearance the training photographs do not have: name, value, range.
    outside: Vec<(&'static str, f64, [f64; 2])>,
}

impl Likeness {
    /// The rules by which it is unlike the training data; none where it is like them.
    pub fn reasons(&self) -> Vec<&'static str> {
        let features = self.is_far.then_some("features");
        let pixels = (!self.outside.is_empty()).then_some("pixels");
        features.into_iter().chain(pixels).collect()
    }

    /// Whether any rule says so.
    pub fn is_strange(&self) -> bool {
        !self.reasons().is_empty()
    }
}

impl Opened {
    /// Opens what the flags name; `data_dir` is where the data lie if not where the run found them.
    pub fn new(args: &ArmArgs, data_dir: Option<&Path>) -> Result<Self> {
        let arm = open(args)?;
        let train = arm.training_features().map_err(from_trainer)?;
        let familiar = arm.familiarity(&train).map_err(from_trainer)?;
        let ranges = arm.recorded_pixel_ranges();
        let ranges = ranges.or_else(|| measured_ranges(&arm, args, data_dir));
        Ok(Self {
            arm,
            train,
            familiar,
            ranges,
        })
    }

    /// Reads photographs at the size of the run's data: each, or why it cannot be read.
    pub fn read(&self, paths: &[PathBuf]) -> Vec<cifar_data::Result<Photograph>> {
        let data = self.arm.dataset();
        cifar_data::read_each_photograph(paths, data.height, data.width)
    }

    /// Photographs as the arm takes them.
    pub fn images(&self, photographs: &[Photograph]) -> Images {
        let data = self.arm.dataset();
        let pixels = photographs.iter().flat_map(|photo| photo.pixels.iter());
        Images {
            height: data.height,
            width: data.width,
            pixels: pixels.copied().collect(),
            labels: vec![0; photographs.len()],
        }
    }

    /// How like the training data each image is.
    pub fn likeness(&self, images: &Images, features: &Features) -> Result<Vec<Likeness>> {
        let photographs = eval::Photographs {
            height: images.height,
            width: images.width,
            pixels: &images.pixels,
        };
        let failed = |error: eval::Error| from_trainer(error.into());
        let distances = self.familiar.distances(&self.train, features);
        let appearances = Appearance::of(&photographs).map_err(failed)?;
        let both = distances.map_err(failed)?.into_iter().zip(appearances);
        Ok(both
            .map(|(distance, appearance)| Likeness {
                distance,
                is_far: self.familiar.is_strange(distance),
                appearance,
                outside: (self.ranges.as_ref())
                    .map_or_else(Vec::new, |ranges| ranges.outside(&appearance)),
            })
            .collect())
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

    /// The lines that stand under a photograph which is enlarged or unlike the training data.
    pub fn remarks(&self, photograph: &Photograph, likeness: &Likeness) -> Vec<String> {
        let mut lines = Vec::new();
        if photograph.enlarged {
            let data = self.arm.dataset();
            lines.push(format!(
                "  enlarged: it has {}×{} pixels, the training images {}×{}",
                photograph.width, photograph.height, data.width, data.height
            ));
        }
        if likeness.is_strange() {
            let reasons = likeness.reasons().join(", ");
            lines.push(format!("  UNLIKE the training data ({reasons})"));
        }
        if likeness.is_far {
            let Familiarity {
                k,
                threshold,
                quantile,
                held_out,
                ..
            } = self.familiar;
            let whose = if held_out { "validation" } else { "training" };
            lines.push(format!(
                "    features: its {k}th nearest training photograph is at distance {:.3};",
                likeness.distance
            ));
            lines.push(format!(
                "      for {:.0} % of the {whose} images it is at most {threshold:.3}",
                100.0 * quantile
            ));
        }
        for (name, value, [low, high]) in &likeness.outside {
            lines.push(format!(
                "    pixels: {name} {value:.3}, of training photographs {low:.3} to {high:.3}"
            ));
        }
        lines
    }

    /// What JSON output says of a photograph in every command.
    pub fn described(&self, photograph: &Photograph, likeness: &Likeness) -> Value {
        json!({
            "width": photograph.width,
            "height": photograph.height,
            "enlarged": photograph.enlarged,
            "distance": likeness.distance,
            "pixels": likeness.appearance,
            "unlike_training_data": likeness.is_strange(),
            "reasons": likeness.reasons(),
        })
    }

    /// What JSON output says of the run and of the criteria.
    pub fn head(&self, args: &ArmArgs) -> Value {
        json!({
            "run": args.run_dir.display().to_string(),
            "arm": self.arm.arm().name(),
            "data": self.arm.dataset().name,
            "familiarity": {"features": self.familiar, "pixels": self.ranges},
        })
    }
}

/// The run's data, where it found them or where the user says that they are.
pub fn open_training_data(
    arm: &TrainedArm,
    args: &ArmArgs,
    data_dir: Option<&Path>,
) -> Result<Dataset> {
    let flags = Common {
        data_dir: data_dir.map(Path::to_path_buf),
        ..Common::default()
    };
    let flags = at_recorded_data(&flags, &args.run_dir)?;
    open_data(&flags, &arm.recipe().data, &Screen::stderr())
}

/// What the training photographs of a run look like that did not record it. Only from data at hand: nothing is downloaded for it.
fn measured_ranges(
    arm: &TrainedArm,
    args: &ArmArgs,
    data_dir: Option<&Path>,
) -> Option<PixelRanges> {
    let info = arm.dataset();
    let at_hand = info.synthetic
        || data_dir.is_some()
        || info.data_dir.as_ref().is_some_and(|there| there.exists());
    let measured = at_hand.then(|| {
        let data = open_training_data(arm, args, data_dir).ok()?;
        arm.measure_pixel_ranges(&data).ok()
    });
    let measured = measured.flatten();
    if measured.is_none() {
        note(
            "this run is of an older version and its data are not at hand: what is unlike\n\
             them is told by features alone, not by pixels",
        );
    }
    measured
}

/// Adds the members of one object to another.
pub fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}
