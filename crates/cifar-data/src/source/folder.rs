//! An image folder: PNG or JPEG, any number of classes, images of any size.
//!
//! Two layouts: `train/<class>/*` with `test/<class>/*`, or without a test part, then also `<class>/*` alone. Where there is no
//! test part, a fifth of each class is drawn for it, by a seed of its own: the same files give the same parts for ever, whatever
//! the seed of a run. Classes and files are taken in name order; files whose name begins with a dot are passed over.
//!
//! Images that all have one size are kept as they are. Others are brought to one: see [`fit`](super::decode::fit).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::decode::{decode, decode_all, format_of, size};
use super::{Found, Identity, SourceOptions, checksum, relative};
use crate::dataset::{DatasetInfo, Part, Source};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::photograph::ENDINGS;
use crate::progress::{Progress, ProgressEvent};
use crate::split::stratified;

/// One image of so many goes to the test part where there is none.
const TEST_SHARE: usize = 5;
/// The seed of that choice.
const TEST_SEED: u64 = 0;

/// Files with their labels.
type Files = Vec<(PathBuf, u32)>;

/// The files of both parts with their labels.
#[derive(Clone, Debug)]
pub(crate) struct FolderSource {
    root: PathBuf,
    classes: Vec<String>,
    train: Files,
    test: Files,
    /// Whether the test part was drawn from the images by this program.
    drawn: bool,
    /// The size that images are brought to; none where they all have one.
    to: Option<(usize, usize)>,
}

impl FolderSource {
    /// Lists `root`; `None` where there is neither `train` nor `test`, nor a folder with images.
    pub(crate) fn find(root: &Path) -> Result<Option<Self>> {
        let parts = [root.join("train"), root.join("test")];
        let whole = parts.iter().all(|part| !part.is_dir());
        if whole && !has_class_folders(root)? {
            return Ok(None);
        }
        let drawn = !parts[1].is_dir();
        let parts = match whole {
            true => vec![root.to_path_buf()],
            false if drawn => vec![parts[0].clone()],
            false => parts.to_vec(),
        };
        let mut classes = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let names = folder_names(part)?;
            if index == 0 {
                classes = names;
            } else if let Some(stranger) = names.iter().find(|name| !classes.contains(name)) {
                return Err(refuse(
                    &part.join(stranger),
                    "a class that train has too",
                    format!("one that is not among its {} classes", classes.len()),
                ));
            }
        }
        if classes.is_empty() {
            return Err(refuse(&parts[0], "a folder per class", "none".to_owned()));
        }
        let mut listed = Vec::new();
        for part in &parts {
            let mut files = Files::new();
            for (label, class) in classes.iter().enumerate() {
                let folder = part.join(class);
                if folder.is_dir() {
                    let found = list(&folder, false)?;
                    files.extend(found.into_iter().map(|path| (path, label as u32)));
                }
            }
            if files.is_empty() {
                let expected = "images in its class folders";
                return Err(refuse(part, expected, "none".to_owned()));
            }
            listed.push(files);
        }
        let (train, test) = match (listed.pop(), listed.pop()) {
            (Some(test), Some(train)) => (train, test),
            (Some(all), None) => draw_test(&parts[0], &classes, all)?,
            _ => return Ok(None),
        };
        Ok(Some(Self {
            root: root.to_path_buf(),
            classes,
            train,
            test,
            drawn,
            to: None,
        }))
    }

    /// Reads every file's header and checksum. With `image_size`, images will be brought to that many pixels a side.
    pub(crate) fn open(
        mut self,
        identity: &Identity,
        image_size: Option<usize>,
        progress: &mut dyn Progress,
    ) -> Result<Found> {
        let (path, _) = &self.train[0];
        let bytes = fs_err::read(path)?;
        let format = format_of(&bytes).map_err(|found| not_an_image(path, found))?;
        decode(&bytes).map_err(|found| not_an_image(path, found))?;
        let mut info = DatasetInfo {
            name: String::new(),
            source: self.root.display().to_string(),
            synthetic: false,
            classes: self.classes.clone(),
            checksums: Default::default(),
            train_len: self.train.len(),
            test_len: self.test.len(),
            height: 0,
            width: 0,
            data_dir: None,
            user_images: false,
            notes: Vec::new(),
        };
        let mut sizes = BTreeSet::new();
        for (part, files) in [(Part::Train, &self.train), (Part::Test, &self.test)] {
            progress.event(&ProgressEvent::Checking {
                file: part.name().to_owned(),
            });
            let (sum, found) = self.survey(files)?;
            sizes.extend(found);
            info.checksums
                .insert(format!("{}/*", part.name()), format!("sha256:{sum}"));
        }
        let side = image_size.unwrap_or(SourceOptions::DEFAULT_IMAGE_SIZE);
        (info.height, info.width) = match sizes.first() {
            Some(&one) if sizes.len() == 1 && image_size.is_none_or(|side| one == (side, side)) => {
                one
            }
            _ => {
                self.to = Some((side, side));
                info.notes.push(resized(&sizes, side));
                (side, side)
            }
        };
        if self.drawn {
            info.notes.push(format!(
                "The folder has no test part: {} of its {} images, a fifth of each class, were drawn for it by a fixed seed.",
                self.test.len(),
                self.test.len() + self.train.len()
            ));
        }
        identity.name(info, Some(format), Box::new(self))
    }

    /// SHA-256 of the lines `sha256  relative/path`, in order (what `sha256sum` would print), and the sizes that occur.
    fn survey(&self, files: &[(PathBuf, u32)]) -> Result<(String, BTreeSet<(usize, usize)>)> {
        let seen = files
            .par_iter()
            .map(|(path, _)| {
                let bytes = fs_err::read(path)?;
                let size = size(&bytes).map_err(|found| not_an_image(path, found))?;
                Ok((checksum::hex(Sha256::digest(&bytes)), size))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut hash = Sha256::new();
        for ((sum, _), (path, _)) in seen.iter().zip(files) {
            hash.update(format!("{sum}  {}\n", relative(&self.root, path)));
        }
        let sizes = seen.into_iter().map(|(_, size)| size).collect();
        Ok((checksum::hex(hash.finalize()), sizes))
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
            self.to,
            |row| Ok(fs_err::read(&files[row].0)?),
            |row, found| not_an_image(&files[row].0, found),
        )
    }
}

/// Sets a fifth of the images aside, the classes in proportion.
fn draw_test(part: &Path, classes: &[String], all: Files) -> Result<(Files, Files)> {
    let labels: Vec<u32> = all.iter().map(|(_, label)| *label).collect();
    for (label, class) in classes.iter().enumerate() {
        let count = labels.iter().filter(|&&l| l as usize == label).count();
        if count < TEST_SHARE {
            return Err(Error::file(
                &part.join(class),
                format!(
                    "at least {TEST_SHARE} images, of which one in {TEST_SHARE} is drawn for the test part"
                ),
                count.to_string(),
                "add images, or give the folder a test part of its own (test/<class>/*)",
            ));
        }
    }
    let count = (all.len() / TEST_SHARE).max(1);
    let split = stratified(&labels, count, TEST_SEED, "test split of a folder")?;
    let pick = |indices: &[usize]| indices.iter().map(|&index| all[index].clone()).collect();
    Ok((pick(&split.train), pick(&split.validation)))
}

/// What was done to images of these sizes, (height, width).
fn resized(sizes: &BTreeSet<(usize, usize)>, side: usize) -> String {
    let by_area = |(h, w): &&(usize, usize)| h * w;
    let name =
        |size: Option<&(usize, usize)>| size.map_or_else(String::new, |(h, w)| format!("{w}×{h}"));
    let smallest = name(sizes.iter().min_by_key(by_area));
    let what = match sizes.len() {
        1 => format!("images of {smallest} pixels"),
        count => format!(
            "images of {count} sizes, {smallest} to {} pixels",
            name(sizes.iter().max_by_key(by_area))
        ),
    };
    format!(
        "The {what} were brought to {side}×{side}: the largest centred square, resized with antialiasing (data.image_size)."
    )
}

fn not_an_image(path: &Path, found: String) -> Error {
    refuse(path, "a PNG or JPEG image", found)
}

fn refuse(path: &Path, expected: &str, found: String) -> Error {
    Error::file(
        path,
        expected,
        found,
        "the layout is train/<class>/* and test/<class>/*, or <class>/* alone",
    )
}

/// Whether at least half of the folders in `root` hold an image: a folder of all kinds of things is no data set because there are
/// pictures somewhere in it.
fn has_class_folders(root: &Path) -> Result<bool> {
    let folders = list(root, true)?;
    let mut with_images = 0;
    for folder in &folders {
        let image = |path: &PathBuf| {
            let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
            ENDINGS.iter().any(|known| ending == *known)
        };
        with_images += usize::from(list(folder, false)?.iter().any(image));
    }
    Ok(with_images > 0 && 2 * with_images >= folders.len())
}

fn folder_names(part: &Path) -> Result<Vec<String>> {
    let name = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    Ok(list(part, true)?.iter().map(name).collect())
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
