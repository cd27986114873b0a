//! The official binary files. A record is 1 label byte (CIFAR-100: 2, coarse then fine) and 3,072 pixel bytes: the red
//! plane, then green, then blue, each 32×32 row by row.

use std::path::{Path, PathBuf};

use super::{Found, Identity, checksum};
use crate::classes::{CIFAR10_CLASSES, CIFAR100_CLASSES, owned};
use crate::dataset::{DatasetInfo, Part, Source};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::progress::{Progress, ProgressEvent};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;

/// Which of the two official layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Cifar10,
    Cifar100,
}

impl Layout {
    pub(crate) const ALL: [Self; 2] = [Self::Cifar10, Self::Cifar100];

    /// The files of a part, in order.
    pub(crate) fn files(self, part: Part) -> &'static [&'static str] {
        match (self, part) {
            (Self::Cifar10, Part::Train) => &[
                "data_batch_1.bin",
                "data_batch_2.bin",
                "data_batch_3.bin",
                "data_batch_4.bin",
                "data_batch_5.bin",
            ],
            (Self::Cifar10, Part::Test) => &["test_batch.bin"],
            (Self::Cifar100, Part::Train) => &["train.bin"],
            (Self::Cifar100, Part::Test) => &["test.bin"],
        }
    }

    pub(crate) fn all_files(self) -> impl Iterator<Item = &'static str> {
        self.files(Part::Train)
            .iter()
            .chain(self.files(Part::Test))
            .copied()
    }

    pub(crate) fn classes(self) -> Vec<String> {
        match self {
            Self::Cifar10 => owned(&CIFAR10_CLASSES),
            Self::Cifar100 => owned(&CIFAR100_CLASSES),
        }
    }

    fn label_bytes(self) -> usize {
        match self {
            Self::Cifar10 => 1,
            Self::Cifar100 => 2,
        }
    }

    /// Images in a file of `bytes` bytes.
    pub(crate) fn records(self, path: &Path, bytes: u64) -> Result<usize> {
        let record = (self.label_bytes() + 3 * PLANE) as u64;
        if bytes == 0 || !bytes.is_multiple_of(record) {
            return Err(Error::file(
                path,
                format!("a whole number of records of {record} bytes"),
                format!("{bytes} bytes"),
                "get the file again; it is cut short or not one of the official binary files",
            ));
        }
        Ok((bytes / record) as usize)
    }

    /// Appends the images of one file's bytes.
    pub(crate) fn append(self, path: &Path, bytes: &[u8], images: &mut Images) -> Result<()> {
        self.records(path, bytes.len() as u64)?;
        (images.height, images.width) = (SIDE, SIDE);
        let header = self.label_bytes();
        for record in bytes.chunks_exact(header + 3 * PLANE) {
            images.labels.push(u32::from(record[header - 1]));
            let (red, rest) = record[header..].split_at(PLANE);
            let (green, blue) = rest.split_at(PLANE);
            images.pixels.extend(
                red.iter()
                    .zip(green)
                    .zip(blue)
                    .flat_map(|((&r, &g), &b)| [r, g, b]),
            );
        }
        Ok(())
    }
}

/// A folder of official binary files.
#[derive(Clone, Debug)]
pub(crate) struct BinarySource {
    folder: PathBuf,
    layout: Layout,
}

impl BinarySource {
    /// The files under `root` or in the folder the official archive unpacks to; `None` where there is none of them.
    pub(crate) fn find(root: &Path) -> Result<Option<Self>> {
        for folder in ["", "cifar-10-batches-bin", "cifar-100-binary"] {
            let folder = root.join(folder);
            for layout in Layout::ALL {
                let missing: Vec<&str> = layout
                    .all_files()
                    .filter(|name| !folder.join(name).is_file())
                    .collect();
                if missing.is_empty() {
                    return Ok(Some(Self { folder, layout }));
                }
                if missing.len() < layout.all_files().count() {
                    return Err(Error::file(
                        &folder,
                        layout.all_files().collect::<Vec<_>>().join(", "),
                        format!("no {}", missing.join(", ")),
                        "put all of them there",
                    ));
                }
            }
        }
        Ok(None)
    }

    pub(crate) fn open(self, identity: &Identity, progress: &mut dyn Progress) -> Result<Found> {
        let mut info = DatasetInfo {
            name: String::new(),
            source: self.folder.display().to_string(),
            synthetic: false,
            classes: self.layout.classes(),
            checksums: Default::default(),
            train_len: 0,
            test_len: 0,
            height: SIDE,
            width: SIDE,
            data_dir: None,
            user_images: false,
            notes: Vec::new(),
        };
        for (part, len) in [
            (Part::Train, &mut info.train_len),
            (Part::Test, &mut info.test_len),
        ] {
            for name in self.layout.files(part) {
                let path = self.folder.join(name);
                *len += self.layout.records(&path, fs_err::metadata(&path)?.len())?;
                progress.event(&ProgressEvent::Checking {
                    file: (*name).to_owned(),
                });
                info.checksums.insert(
                    (*name).to_owned(),
                    format!("sha256:{}", checksum::sha256(&path)?),
                );
            }
        }
        identity.name(info, None, Box::new(self))
    }
}

impl Source for BinarySource {
    fn path(&self) -> &Path {
        &self.folder
    }

    fn load(&self, part: Part) -> Result<Images> {
        let mut images = Images::default();
        for name in self.layout.files(part) {
            let path = self.folder.join(name);
            self.layout
                .append(&path, &fs_err::read(&path)?, &mut images)?;
        }
        Ok(images)
    }
}
