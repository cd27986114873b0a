//! The official archives, `cifar-10-binary.tar.gz` and `cifar-100-binary.tar.gz`: read by name list, in memory. A name
//! within the archive is only compared; it never becomes a path.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::binary::Layout;
use super::options::{Archive, SourceOptions};
use super::{Found, Identity, checksum, net};
use crate::dataset::{DatasetInfo, DatasetName, Part, Source};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::progress::{Progress, ProgressEvent};

/// More than the largest official file (CIFAR-100's `train.bin`, 153,700,000 bytes).
const MAX_FILE: u64 = 1 << 28;

/// One archive file.
#[derive(Clone, Debug)]
pub(crate) struct ArchiveSource {
    path: PathBuf,
}

impl ArchiveSource {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn find(root: &Path) -> Option<Self> {
        [DatasetName::Cifar10, DatasetName::Cifar100]
            .map(|dataset| root.join(Archive::file_name(dataset)))
            .into_iter()
            .find(|path| path.is_file())
            .map(Self::new)
    }

    /// Whether a file begins as gzip does.
    pub(crate) fn is_gzip(path: &Path) -> Result<bool> {
        let mut start = Vec::new();
        fs_err::File::open(path)?.take(2).read_to_end(&mut start)?;
        Ok(start == [0x1f, 0x8b])
    }

    pub(crate) fn open(self, identity: &Identity, progress: &mut dyn Progress) -> Result<Found> {
        let name = self
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        progress.event(&ProgressEvent::Checking { file: name.clone() });
        let mut sizes = Vec::new();
        self.visit(|file, size, _| {
            sizes.push((file.to_owned(), size));
            Ok(())
        })?;
        let layout = Layout::ALL
            .into_iter()
            .find(|layout| {
                layout
                    .all_files()
                    .all(|file| sizes.iter().any(|(name, _)| name == file))
            })
            .ok_or_else(|| {
                let found = sizes
                    .iter()
                    .map(|(name, _)| name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ");
                self.refuse(if found.is_empty() {
                    "none of them".to_owned()
                } else {
                    format!("only {found}")
                })
            })?;
        let count = |part| {
            layout.files(part).iter().try_fold(0, |sum, file| {
                let size = sizes
                    .iter()
                    .find(|(name, _)| name == file)
                    .map_or(0, |(_, size)| *size);
                layout
                    .records(&self.path.join(file), size)
                    .map(|records| sum + records)
            })
        };
        let info = DatasetInfo {
            name: String::new(),
            source: self.path.display().to_string(),
            synthetic: false,
            classes: layout.classes(),
            train_len: count(Part::Train)?,
            test_len: count(Part::Test)?,
            height: 32,
            width: 32,
            checksums: [
                (
                    format!("{name} (md5)"),
                    format!("md5:{}", checksum::md5(&self.path)?),
                ),
                (name, format!("sha256:{}", checksum::sha256(&self.path)?)),
            ]
            .into(),
            data_dir: None,
            user_images: false,
            notes: Vec::new(),
        };
        identity.name(info, None, Box::new(self))
    }

    /// Calls `visit(name, size, reader)` for each regular file whose last path component is on the list.
    fn visit(&self, mut visit: impl FnMut(&str, u64, &mut dyn Read) -> Result<()>) -> Result<()> {
        let file = fs_err::File::open(&self.path)?;
        let broken = |error: std::io::Error| self.refuse(format!("a broken archive ({error})"));
        let mut archive = tar::Archive::new(GzDecoder::new(std::io::BufReader::new(file)));
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let Some(name) = entry.path().ok().and_then(|path| {
                path.file_name()
                    .map(|name| name.to_string_lossy().into_owned())
            }) else {
                continue;
            };
            let listed = Layout::ALL
                .iter()
                .any(|layout| layout.all_files().any(|file| file == name));
            if !listed || !entry.header().entry_type().is_file() {
                continue;
            }
            let size = entry.size();
            if size > MAX_FILE {
                return Err(self.refuse(format!("{name} of {size} bytes")));
            }
            visit(&name, size, &mut entry)?;
        }
        Ok(())
    }

    fn refuse(&self, found: String) -> Error {
        Error::file(
            &self.path,
            "a gzipped tar archive with data_batch_1.bin … data_batch_5.bin and test_batch.bin (CIFAR-10), or train.bin \
             and test.bin (CIFAR-100)",
            found,
            "get the archive again",
        )
    }
}

impl Source for ArchiveSource {
    fn path(&self) -> &Path {
        &self.path
    }

    fn load(&self, part: Part) -> Result<Images> {
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        self.visit(|name, size, reader| {
            if Layout::ALL
                .iter()
                .any(|layout| layout.files(part).contains(&name))
            {
                let mut bytes = Vec::with_capacity(size as usize);
                reader.read_to_end(&mut bytes).map_err(|error| {
                    self.refuse(format!(
                        "{name} broken after {} bytes ({error})",
                        bytes.len()
                    ))
                })?;
                files.push((name.to_owned(), bytes));
            }
            Ok(())
        })?;
        let mut images = Images::default();
        for layout in Layout::ALL {
            for name in layout.files(part) {
                if let Some((_, bytes)) = files.iter().find(|(have, _)| have == name) {
                    layout.append(&self.path.join(name), bytes, &mut images)?;
                }
            }
            if !images.is_empty() {
                break;
            }
        }
        Ok(images)
    }
}

/// The official archive: an earlier download, or a new one.
pub(crate) fn open_published(
    options: &SourceOptions,
    progress: &mut dyn Progress,
) -> Result<Found> {
    let archive = options.official_archive();
    let name = Archive::file_name(options.published());
    let path = options.hub.archive_dir().join(name);
    let is_whole =
        |progress: &mut dyn Progress| path.is_file() && check(&path, &archive, progress).is_ok();
    if !is_whole(progress) {
        net::refuse_offline(options, &archive.url)?;
        let _lock = net::lock(&path, progress)?;
        // Whoever held the lock may have brought it.
        if !is_whole(progress) {
            net::download(&archive.url, &path, archive.bytes, options, progress)?;
            if let Err(error) = check(&path, &archive, progress) {
                fs_err::remove_file(&path)?;
                return Err(error);
            }
        }
    }
    let identity = if archive.md5.is_some() {
        Identity::verified(options.published())
    } else {
        Identity::of_user(options.published())
    };
    let mut found = ArchiveSource::new(path).open(&identity, progress)?;
    found.info.source = archive.url;
    Ok(found)
}

/// Holds a downloaded archive against its pins.
fn check(path: &Path, archive: &Archive, progress: &mut dyn Progress) -> Result<()> {
    let refuse = |algorithm, expected: &str, found| Error::Checksum {
        path: path.to_path_buf(),
        origin: archive.url.clone(),
        algorithm,
        expected: expected.to_owned(),
        found,
    };
    let size = fs_err::metadata(path)?.len();
    if let Some(bytes) = archive.bytes.filter(|&bytes| bytes != size) {
        return Err(refuse(
            "size",
            &format!("{bytes} bytes"),
            format!("{size} bytes"),
        ));
    }
    if let Some(expected) = &archive.md5 {
        progress.event(&ProgressEvent::Checking {
            file: path.display().to_string(),
        });
        let found = checksum::md5(path)?;
        if found != *expected {
            return Err(refuse("md5", expected, found));
        }
    }
    Ok(())
}
