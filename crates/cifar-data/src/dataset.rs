//! A data set that has been found: what it is, and its two splits, decoded when asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, panic_message};
use crate::images::Images;

/// Which data set is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatasetName {
    /// The user's own data where given, else CIFAR-10, else the embedded synthetic set.
    #[default]
    Auto,
    /// CIFAR-10 or an error.
    Cifar10,
    /// CIFAR-100 with its fine labels, or an error.
    Cifar100,
    /// The embedded set of procedurally drawn shapes.
    Synthetic,
    /// The user's own images, any number of classes, in any layout this crate reads.
    Folder,
}

impl DatasetName {
    /// All names.
    pub const ALL: [Self; 5] = [
        Self::Auto,
        Self::Cifar10,
        Self::Cifar100,
        Self::Synthetic,
        Self::Folder,
    ];

    /// The name as typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::Synthetic => "synthetic",
            Self::Folder => "folder",
        }
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DatasetName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == text)
            .ok_or_else(|| {
                Error::setting(
                    "dataset",
                    text,
                    "one of auto, cifar10, cifar100, synthetic, folder is accepted",
                )
            })
    }
}

/// What is known of a data set before an image is decoded; goes into results as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetInfo {
    /// What it may be called: `CIFAR-10`, `CIFAR-10 (JPEG mirror)`, `SYNTHETIC shapes`, …
    pub name: String,
    /// Where it came from: a path, or a repository and revision.
    pub source: String,
    /// Whether the images are drawn by a program.
    pub synthetic: bool,
    /// The class names in label order.
    pub classes: Vec<String>,
    /// File (relative to the source) → `sha256:…`.
    pub checksums: BTreeMap<String, String>,
    /// Training images.
    pub train_len: usize,
    /// Test images.
    pub test_len: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// The folder or file that the user named, as an absolute path: where a later program finds the data again. None for downloaded and
    /// drawn images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Whether they are images of the user's own, rather than a copy of a published set or drawn ones.
    #[serde(default)]
    pub user_images: bool,
    /// What was done to the user's files and a reader of figures must know: resizing, a test part drawn by the program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The two published parts of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Train,
    Test,
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// Somewhere images can be read from.
pub(crate) trait Source: Send + Sync + fmt::Debug {
    /// Where it is, for messages.
    fn path(&self) -> &Path;
    /// Reads and decodes one part.
    fn load(&self, part: Part) -> Result<Images>;
}

/// A data set that has been found by [`open`](crate::open).
#[derive(Debug)]
pub struct Dataset {
    pub(crate) info: DatasetInfo,
    pub(crate) notice: Option<String>,
    pub(crate) source: Box<dyn Source>,
}

impl Dataset {
    /// What it is and where it came from.
    pub fn info(&self) -> &DatasetInfo {
        &self.info
    }

    /// Something the user must see: set where `auto` fell back to the embedded synthetic set, with the reasons.
    pub fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// Decodes the training images.
    ///
    /// # Errors
    /// If a file is corrupt, truncated or disagrees with [`info`](Self::info); the message names it.
    pub fn train(&self) -> Result<Images> {
        self.load(Part::Train, self.info.train_len)
    }

    /// Decodes the test images. Nothing that selects (a checkpoint, a threshold, a recipe) should call this.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn test(&self) -> Result<Images> {
        self.load(Part::Test, self.info.test_len)
    }

    fn load(&self, part: Part, expected: usize) -> Result<Images> {
        let path = self.source.path();
        // The decoders are other people's; on hostile bytes a panic of theirs is a message of ours.
        let images =
            catch_unwind(AssertUnwindSafe(|| self.source.load(part))).unwrap_or_else(|panic| {
                Err(Error::file(
                    path,
                    "readable images",
                    format!("bytes a decoder panicked on ({})", panic_message(panic)),
                    "get the file again",
                ))
            })?;
        images.check()?;
        let shape = (images.len(), images.height, images.width);
        let promised = (expected, self.info.height, self.info.width);
        if shape != promised {
            return Err(Error::file(
                path,
                format!(
                    "{} {} images of {}×{} as when it was opened",
                    promised.0,
                    part.name(),
                    promised.1,
                    promised.2
                ),
                format!("{} of {}×{}", shape.0, shape.1, shape.2),
                "give every image one size, and leave the files alone while they are in use",
            ));
        }
        if let Some(row) = images
            .labels
            .iter()
            .position(|&label| label as usize >= self.info.classes.len())
        {
            return Err(Error::file(
                path,
                format!(
                    "labels below {}, the number of classes",
                    self.info.classes.len()
                ),
                format!(
                    "label {} in row {row} of the {} part",
                    images.labels[row],
                    part.name()
                ),
                "get the file again, or correct its labels",
            ));
        }
        Ok(images)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in DatasetName::ALL {
            assert_eq!(name.to_string().parse::<DatasetName>().unwrap(), name);
            assert_eq!(serde_json::to_string(&name).unwrap(), format!("\"{name}\""));
        }
        let message = "cifar".parse::<DatasetName>().unwrap_err().to_string();
        assert!(
            message.contains("dataset = cifar") && message.contains("cifar100"),
            "{message}"
        );
    }
}
