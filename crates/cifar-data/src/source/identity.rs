//! What a found data set may be called: a published name only where a published checksum matches.

use image::ImageFormat;

use super::Found;
use super::options::{Archive, HubPin};
use crate::classes::{CIFAR10_CLASSES, CIFAR100_CLASSES, owned};
use crate::dataset::{DatasetInfo, DatasetName, Source};
use crate::error::{Error, Result};

/// SHA-256 of the two parquet files of the JPEG mirror of CIFAR-10.
const JPEG_MIRROR: [&str; 2] = [
    "ebdae1cbbf4163a03f93634a25107dc821394d0a3c5e0abb63fdb6034f8895d2",
    "2395a5ced07497fa9c7b6333ca17cd90fd190331083f06ca1c6fffb346eb4136",
];

/// Who says what the data are.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    wanted: DatasetName,
    /// Downloaded and checked against pins by us: the published name is deserved.
    verified: bool,
}

impl Identity {
    pub(crate) fn of_user(wanted: DatasetName) -> Self {
        Self {
            wanted,
            verified: false,
        }
    }

    pub(crate) fn verified(wanted: DatasetName) -> Self {
        Self {
            wanted,
            verified: true,
        }
    }

    /// Names for `count` classes nobody named.
    pub(crate) fn class_names(&self, count: usize, fine: bool) -> Vec<String> {
        let ten = match self.wanted {
            DatasetName::Auto => count == 10,
            DatasetName::Cifar10 => count <= 10,
            _ => false,
        };
        if ten && !fine {
            owned(&CIFAR10_CLASSES)
        } else if fine || (count == 100 && self.wanted == DatasetName::Cifar100) {
            owned(&CIFAR100_CLASSES)
        } else {
            (0..count).map(|class| format!("class {class}")).collect()
        }
    }

    /// Gives the data set its name, or refuses one that is not what was asked for.
    pub(crate) fn name(
        &self,
        mut info: DatasetInfo,
        format: Option<ImageFormat>,
        source: Box<dyn Source>,
    ) -> Result<Found> {
        let published = match &info.classes {
            classes if *classes == CIFAR10_CLASSES => Some(DatasetName::Cifar10),
            classes if *classes == CIFAR100_CLASSES => Some(DatasetName::Cifar100),
            _ => None,
        };
        if matches!(self.wanted, DatasetName::Cifar10 | DatasetName::Cifar100)
            && published != Some(self.wanted)
        {
            return Err(Error::file(
                source.path(),
                format!("the classes of {}", self.wanted),
                format!("{} classes: {}", info.classes.len(), sample(&info.classes)),
                "name the folder of that data set, or ask for --dataset folder",
            ));
        }
        info.user_images = published.is_none();
        info.name = match published {
            Some(published) => {
                let title = if published == DatasetName::Cifar10 {
                    "CIFAR-10"
                } else {
                    "CIFAR-100"
                };
                let holds = |sums: &[String]| {
                    sums.iter()
                        .all(|sum| info.checksums.values().any(|have| have == sum))
                };
                let pins = HubPin::of(published);
                let official: Vec<String> = [pins.train, pins.test]
                    .into_iter()
                    .filter_map(|file| file.sha256)
                    .map(sha256)
                    .collect();
                let archive: Vec<String> = Archive::of(published)
                    .md5
                    .into_iter()
                    .map(|sum| format!("md5:{sum}"))
                    .collect();
                if self.verified
                    || [official, archive]
                        .iter()
                        .any(|sums| !sums.is_empty() && holds(sums))
                {
                    title.to_owned()
                } else if holds(&JPEG_MIRROR.map(|sum| sha256(sum.to_owned()))) {
                    format!("{title} (JPEG mirror)")
                } else if format == Some(ImageFormat::Jpeg) {
                    format!("{title} (JPEG re-encoded, user's copy)")
                } else {
                    format!("{title} (user's copy)")
                }
            }
            None => {
                let folder = source
                    .path()
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned());
                format!(
                    "{} (user's images)",
                    folder.unwrap_or_else(|| "folder".to_owned())
                )
            }
        };
        Ok(Found { info, source })
    }
}

fn sha256(sum: String) -> String {
    format!("sha256:{sum}")
}

fn sample(classes: &[String]) -> String {
    let shown = classes
        .iter()
        .take(5)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if classes.len() > 5 {
        format!("{shown}, …")
    } else {
        shown
    }
}
