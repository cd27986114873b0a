//! An image folder, `train/<class>/*` and `test/<class>/*`: PNG or JPEG, any number of classes, one image size.
//!
//! Classes and files are taken in name order; files whose name begins with a dot are passed over. Nothing is resized: an
//! image of another size is an error that names it.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::decode::{decode, decode_all, format_of};
use super::{Found, Identity, checksum, relative};
use crate::dataset::{DatasetInfo, Part, Source};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::progress::{Progress, ProgressEvent};

/// The files of both parts with their labels.
#[derive(Clone, Debug)]
pub(crate) struct FolderSource {
    root: PathBuf,
    classes: Vec<String>,
    train: Vec<(PathBuf, u32)>,
    test: Vec<(PathBuf, u32)>,
}

impl FolderSource {
    /// Lists `root`; `None` where there is neither `train` nor `test`.
    pub(crate) fn find(root: &Path) -> Result<Option<Self>> {
        let parts = [root.join("train"), root.join("test")];
        if parts.iter().all(|part| !part.is_dir()) {
            return Ok(None);
        }
        let [classes, test_classes] = [list(&parts[0], true)?, list(&parts[1], true)?];
        let names = |folders: &[PathBuf]| -> Vec<String> {
            folders
                .iter()
                .map(|path| {
                    path.file_name()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned()
                })
                .collect()
        };
        let (classes, test_classes) = (names(&classes), names(&test_classes));
        if classes.is_empty() {
            return Err(refuse(&parts[0], "a folder per class", "none".to_owned()));
        }
        if let Some(stranger) = test_classes.iter().find(|name| !classes.contains(name)) {
            return Err(refuse(
                &parts[1].join(stranger),
                "a class that train has too",
                format!("one that is not among its {} classes", classes.len()),
            ));
        }
        let mut listed = [Vec::new(), Vec::new()];
        for (part, files) in parts.iter().zip(&mut listed) {
            for (label, class) in classes.iter().enumerate() {
                let folder = part.join(class);
                if folder.is_dir() {
                    files.extend(
                        list(&folder, false)?
                            .into_iter()
                            .map(|path| (path, label as u32)),
                    );
                }
            }
            if files.is_empty() {
                return Err(refuse(
                    part,
                    "images in its class folders",
                    "none".to_owned(),
                ));
            }
        }
        let [train, test] = listed;
        Ok(Some(Self {
            root: root.to_path_buf(),
            classes,
            train,
            test,
        }))
    }

    pub(crate) fn open(self, identity: &Identity, progress: &mut dyn Progress) -> Result<Found> {
        let (path, _) = &self.train[0];
        let bytes = fs_err::read(path)?;
        let refuse = |found| refuse(path, "a PNG or JPEG image", found);
        let format = format_of(&bytes).map_err(refuse)?;
        let (height, width, _) = decode(&bytes).map_err(refuse)?;
        let mut info = DatasetInfo {
            name: String::new(),
            source: self.root.display().to_string(),
            synthetic: false,
            classes: self.classes.clone(),
            checksums: Default::default(),
            train_len: self.train.len(),
            test_len: self.test.len(),
            height,
            width,
        };
        for (part, files) in [(Part::Train, &self.train), (Part::Test, &self.test)] {
            progress.event(&ProgressEvent::Checking {
                file: part.name().to_owned(),
            });
            info.checksums.insert(
                format!("{}/*", part.name()),
                format!("sha256:{}", self.manifest(files)?),
            );
        }
        identity.name(info, Some(format), Box::new(self))
    }

    /// SHA-256 of the lines `sha256  relative/path`, in order: what `sha256sum` would print.
    fn manifest(&self, files: &[(PathBuf, u32)]) -> Result<String> {
        let sums = files
            .par_iter()
            .map(|(path, _)| checksum::sha256(path))
            .collect::<Result<Vec<_>>>()?;
        let mut hash = Sha256::new();
        for (sum, (path, _)) in sums.iter().zip(files) {
            hash.update(format!("{sum}  {}\n", relative(&self.root, path)));
        }
        Ok(checksum::hex(hash.finalize()))
    }
}

impl Source for FolderSource {
    fn path(&self) -> &Path {
        &self.root
    }

    fn load(&self, part: Part) -> Result<Images> {
        let files = match part {
            Part::Train => &self.train,
            Part::Test => &self.test,
        };
        decode_all(
            files.len(),
            files.iter().map(|&(_, label)| label).collect(),
            |row| Ok(fs_err::read(&files[row].0)?),
            |row, found| {
                refuse(
                    &files[row].0,
                    "a PNG or JPEG image of the folder's one size",
                    found,
                )
            },
        )
    }
}

fn refuse(path: &Path, expected: &str, found: String) -> Error {
    Error::file(
        path,
        expected,
        found,
        "the layout is train/<class>/* and test/<class>/*",
    )
}

/// The folders or the files in `folder`, in name order, hidden ones left out.
fn list(folder: &Path, folders: bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.is_dir() == folders {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
