//! Where images come from: the order in which sources are tried, and one file per kind of source.

mod archive;
mod binary;
mod checksum;
pub(crate) mod decode;
mod folder;
mod hub;
mod identity;
mod net;
mod options;
mod parquet;
mod synthetic;

use std::path::Path;

use crate::dataset::{Dataset, DatasetInfo, DatasetName, Source};
use crate::error::{Error, Result};
use crate::progress::{Progress, ProgressEvent};

use identity::Identity;
pub use options::{Archive, Hub, HubFile, HubPin, SourceOptions};
pub use synthetic::SyntheticOptions;

/// A source that was found, described.
pub(crate) struct Found {
    pub info: DatasetInfo,
    pub source: Box<dyn Source>,
}

impl From<Found> for Dataset {
    fn from(found: Found) -> Self {
        Self {
            info: found.info,
            notice: None,
            source: found.source,
        }
    }
}

/// Finds a data set, downloading it if need be.
///
/// | `dataset` | tried in this order |
/// |---|---|
/// | `auto` | the data folder; CIFAR-10 from the Hub cache, the Hub, the official archive; the embedded synthetic set |
/// | `cifar10`, `cifar100` | the data folder; the Hub cache, the Hub, the official archive |
/// | `folder` | the data folder |
/// | `synthetic` | the embedded synthetic set |
///
/// A data folder that is given is the only source: if it cannot be read, that is an error. Whatever is downloaded must match
/// the pinned checksums. Only `auto` falls back to the synthetic set, and then [`Dataset::notice`] says so and why.
///
/// # Errors
/// If no source could be used; the message lists what was tried and what to do.
pub fn open(options: &SourceOptions, progress: &mut dyn Progress) -> Result<Dataset> {
    let name = options.dataset;
    if name == DatasetName::Synthetic {
        return Ok(synthetic::open(&options.synthetic)?.into());
    }
    if let Some(folder) = options.data_folder() {
        progress.event(&ProgressEvent::Trying {
            source: folder.display().to_string(),
        });
        if !folder.exists() {
            return Err(Error::file(
                folder,
                "a folder or file with the data",
                "nothing",
                format!("correct {}", options.named_by()),
            ));
        }
        let identity = Identity::of_user(name);
        let mut found = open_path(folder, &identity, options.image_size, progress)?;
        let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
        found.info.data_dir = Some(absolute);
        return sized(found, options.image_size);
    }
    if name == DatasetName::Folder {
        return Err(Error::setting(
            "dataset",
            name,
            "the user's own images need a data folder (SourceOptions::data_dir, --data-dir)",
        ));
    }
    let tried = match open_published(options, progress) {
        Ok(found) => return sized(found, options.image_size),
        Err(tried) => tried,
    };
    if name == DatasetName::Auto {
        let mut dataset = Dataset::from(synthetic::open(&options.synthetic)?);
        let notice = format!(
            "SYNTHETIC DATA: CIFAR-10 could not be had ({}); the embedded set of drawn shapes is used instead, and nothing \
             made from it says anything about CIFAR-10",
            tried.join("; ")
        );
        tracing::warn!("{notice}");
        dataset.notice = Some(notice);
        return Ok(dataset);
    }
    Err(Error::NoSource {
        dataset: name.to_string(),
        tried,
        remedy: format!(
            "connect to the network, or copy the files here and name their folder (--data-dir or {}), or use the embedded \
             set (--dataset synthetic)",
            if name == DatasetName::Cifar100 {
                "CIFAR100_DIR"
            } else {
                "CIFAR10_DIR"
            }
        ),
    })
}

/// Refuses a size that was asked for where images have another one and are not brought to it.
fn sized(found: Found, size: Option<usize>) -> Result<Dataset> {
    match size {
        Some(size) if (size, size) != (found.info.height, found.info.width) => Err(Error::setting(
            "image_size",
            size,
            format!(
                "only image folders are resized, and {} has images of {}×{}; leave it out (a network may enlarge them: \
                     model.upsample)",
                found.info.name, found.info.height, found.info.width
            ),
        )),
        _ => Ok(found.into()),
    }
}

/// The published copies in turn; on failure, why each was skipped.
fn open_published(
    options: &SourceOptions,
    progress: &mut dyn Progress,
) -> std::result::Result<Found, Vec<String>> {
    type Attempt = fn(&SourceOptions, &mut dyn Progress) -> Result<Found>;
    let attempts: [(&str, Attempt); 3] = [
        ("Hub cache", hub::open_cached),
        ("Hub", hub::open_remote),
        ("official archive", archive::open_published),
    ];
    let mut tried = Vec::new();
    for (source, attempt) in attempts {
        progress.event(&ProgressEvent::Trying {
            source: source.to_owned(),
        });
        match attempt(options, progress) {
            Ok(found) => return Ok(found),
            Err(error) => {
                let reason = match &error {
                    // The closing remedy says the same for all sources at once.
                    Error::Network {
                        url,
                        reason,
                        remedy,
                    } if remedy == net::CONNECT => format!("{url}: {reason}"),
                    error => error.to_string(),
                };
                tracing::info!(source, reason, "source skipped");
                tried.push(format!("{source}: {reason}"));
                progress.event(&ProgressEvent::Skipped {
                    source: source.to_owned(),
                    reason,
                });
            }
        }
    }
    Err(tried)
}

/// Whatever lies at a path the user named.
fn open_path(
    path: &Path,
    identity: &Identity,
    image_size: Option<usize>,
    progress: &mut dyn Progress,
) -> Result<Found> {
    if path.is_file() {
        if !archive::ArchiveSource::is_gzip(path)? {
            return Err(Error::file(
                path,
                "cifar-10-binary.tar.gz or cifar-100-binary.tar.gz, or a folder",
                "a file of another kind",
                "name the folder that holds it: with train-*.parquet and test-*.parquet, or with images in a folder per class",
            ));
        }
        return archive::ArchiveSource::new(path.to_path_buf()).open(identity, progress);
    }
    fs_err::read_dir(path)?;
    if let Some(source) = parquet::ParquetSource::find(path)? {
        return source.open(identity, None, progress);
    }
    if let Some(source) = binary::BinarySource::find(path)? {
        return source.open(identity, progress);
    }
    if let Some(source) = archive::ArchiveSource::find(path) {
        return source.open(identity, progress);
    }
    if let Some(source) = folder::FolderSource::find(path)? {
        return source.open(identity, image_size, progress);
    }
    Err(Error::file(
        path,
        "train-*.parquet and test-*.parquet, or data_batch_1.bin … test_batch.bin, or train.bin and test.bin, or \
         cifar-10-binary.tar.gz, or train/<class>/* and test/<class>/*, or <class>/*",
        "none of them",
        "name a folder that holds one of these layouts",
    ))
}

/// `path` below `root` with forward slashes, for keys and messages.
pub(crate) fn relative(root: &Path, path: &Path) -> String {
    let tail = path.strip_prefix(root).unwrap_or(path);
    tail.iter()
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join("/")
}
