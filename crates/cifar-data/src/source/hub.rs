//! The Hub: files of a pinned revision, by way of hf-hub and in its cache layout.
//!
//! hf-hub neither knows time-outs, nor `HF_HUB_OFFLINE`, nor checksums: a probe comes before it, a watch stands over it, and
//! SHA-256 comes after it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::options::{Hub, HubFile, HubPin, SourceOptions};
use super::parquet::ParquetSource;
use super::{Found, Identity, checksum, net};
use crate::error::{Error, Result};
use crate::progress::{Progress, ProgressEvent};

/// Both files from the cache, whatever program put them there.
pub(crate) fn open_cached(options: &SourceOptions, progress: &mut dyn Progress) -> Result<Found> {
    let pin = options.hub_pin();
    open(options, &pin, progress, |file, _| {
        cached(&options.hub, &pin, file).ok_or_else(|| {
            Error::file(
                &options.hub.cache_dir(),
                format!("a copy of {}", pin.repo),
                "none",
                "let it be downloaded",
            )
        })
    })
}

/// Both files, downloaded where the cache lacks them.
pub(crate) fn open_remote(options: &SourceOptions, progress: &mut dyn Progress) -> Result<Found> {
    let pin = options.hub_pin();
    net::refuse_offline(options, &options.hub.endpoint)?;
    open(options, &pin, progress, |file, progress| {
        match cached(&options.hub, &pin, file) {
            Some(path) if verify(&path, file, &pin, "the cache", &mut ()).is_ok() => Ok(path),
            _ => download(&options.hub, &pin, file, progress),
        }
    })
}

fn open(
    options: &SourceOptions,
    pin: &HubPin,
    progress: &mut dyn Progress,
    mut get: impl FnMut(&HubFile, &mut dyn Progress) -> Result<PathBuf>,
) -> Result<Found> {
    let mut paths = Vec::new();
    let mut checksums = BTreeMap::new();
    for file in [&pin.train, &pin.test] {
        let path = get(file, progress)?;
        let sum = verify(&path, file, pin, &options.hub.endpoint, progress)?;
        checksums.insert(file.path.clone(), format!("sha256:{sum}"));
        paths.push(path);
    }
    let snapshot = paths[0]
        .ancestors()
        .nth(Path::new(&pin.train.path).components().count());
    let source = ParquetSource {
        root: snapshot.unwrap_or(&paths[0]).to_path_buf(),
        train: vec![paths.swap_remove(0)],
        test: vec![paths.swap_remove(0)],
    };
    let pinned = pin.train.sha256.is_some() && pin.test.sha256.is_some();
    let identity = if pinned {
        Identity::verified(options.published())
    } else {
        Identity::of_user(options.published())
    };
    let mut found = source.open(&identity, Some(checksums), progress)?;
    found.info.source = format!("{} at revision {}", pin.repo, pin.revision);
    Ok(found)
}

fn repo(pin: &HubPin) -> Repo {
    Repo::with_revision(pin.repo.clone(), RepoType::Dataset, pin.revision.clone())
}

/// Where the cache keeps a file: under the commit itself (as Python's client does), or under the commit a ref names.
fn cached(hub: &Hub, pin: &HubPin, file: &HubFile) -> Option<PathBuf> {
    let cache = Cache::new(hub.cache_dir()).repo(repo(pin));
    let direct = cache.pointer_path(&pin.revision).join(&file.path);
    if direct.is_file() {
        Some(direct)
    } else {
        cache.get(&file.path)
    }
}

/// The file's SHA-256, if it is the pinned one.
fn verify(
    path: &Path,
    file: &HubFile,
    pin: &HubPin,
    origin: &str,
    progress: &mut dyn Progress,
) -> Result<String> {
    progress.event(&ProgressEvent::Checking {
        file: file.path.clone(),
    });
    let found = checksum::sha256(path)?;
    match &file.sha256 {
        Some(expected) if *expected != found => Err(Error::Checksum {
            path: path.to_path_buf(),
            origin: format!("{origin} ({} at revision {})", pin.repo, pin.revision),
            algorithm: "sha256",
            expected: expected.clone(),
            found,
        }),
        _ => Ok(found),
    }
}

/// Downloads one file into the cache. Wrong bytes are removed; if they grew out of an earlier partial download, one more
/// attempt is made from nothing.
fn download(
    hub: &Hub,
    pin: &HubPin,
    file: &HubFile,
    progress: &mut dyn Progress,
) -> Result<PathBuf> {
    let cache = Cache::new(hub.cache_dir());
    let token = hub
        .token
        .clone()
        .or_else(|| Cache::new(hub.home.join("hub")).token());
    let api = ApiBuilder::from_cache(cache.clone())
        .with_endpoint(hub.endpoint.clone())
        .with_token(token.clone())
        .with_progress(false)
        .with_retries(hub.retries)
        .build()
        .map_err(|error| network(&hub.endpoint, &error))?;
    let url = api.repo(repo(pin)).url(&file.path);
    net::probe(&url, token.as_deref(), hub.connect_timeout)?;

    let blobs = cache.repo(repo(pin)).blob_path("");
    let pointer = cache
        .repo(repo(pin))
        .pointer_path(&pin.revision)
        .join(&file.path);
    let resumed = parts(&blobs).next().is_some();
    let mut attempt = || {
        // hf-hub keeps an existing link even where its target is another blob.
        remove(&pointer)?;
        let path = watched(api.repo(repo(pin)), &url, &file.path, hub, progress)?;
        verify(&path, file, pin, &hub.endpoint, progress).inspect_err(|_| discard(&path))?;
        Ok(path)
    };
    match attempt() {
        Err(error) if resumed && is_stale(&error) => {
            tracing::info!(%error, "the partial download is of no use, starting afresh");
            for part in parts(&blobs) {
                remove(&part)?;
            }
            attempt()
        }
        outcome => outcome,
    }
}

/// Whether a failure may come from an earlier partial download that does not fit.
fn is_stale(error: &Error) -> bool {
    match error {
        Error::Checksum { .. } => true,
        Error::Network { reason, .. } => {
            reason.contains("HTTP 416") || reason.contains("part file")
        }
        _ => false,
    }
}

fn parts(blobs: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(blobs)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "part")
        })
}

/// Removes a link and what it points to.
fn discard(path: &Path) {
    if let Ok(blob) = std::fs::canonicalize(path) {
        let _ = std::fs::remove_file(blob);
    }
    let _ = std::fs::remove_file(path);
}

fn remove(path: &Path) -> Result<()> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

enum Report {
    Start(u64),
    Bytes(u64),
    End(std::result::Result<PathBuf, ApiError>),
}

struct Reporter(Sender<Report>);

impl hf_hub::api::Progress for Reporter {
    fn init(&mut self, size: usize, _filename: &str) {
        let _ = self.0.send(Report::Start(size as u64));
    }

    fn update(&mut self, size: usize) {
        let _ = self.0.send(Report::Bytes(size as u64));
    }

    fn finish(&mut self) {}
}

/// Runs hf-hub in a thread and gives up on it when nothing has arrived for a while (it would wait for ever).
fn watched(
    repo: ApiRepo,
    url: &str,
    file: &str,
    hub: &Hub,
    progress: &mut dyn Progress,
) -> Result<PathBuf> {
    let (sender, reports) = mpsc::channel();
    let name = file.to_owned();
    thread::Builder::new()
        .name("hub download".to_owned())
        .spawn(move || {
            let outcome = repo.download_with_progress(&name, Reporter(sender.clone()));
            let _ = sender.send(Report::End(outcome));
        })?;
    let (mut received, mut total) = (0, 0);
    loop {
        match reports.recv_timeout(hub.stall_timeout) {
            Ok(Report::Start(size)) => (received, total) = (0, size),
            Ok(Report::Bytes(bytes)) => received += bytes,
            Ok(Report::End(outcome)) => return outcome.map_err(|error| network(url, &error)),
            Err(cause) => {
                let reason = match cause {
                    RecvTimeoutError::Timeout => {
                        format!(
                            "stood still for {:.0?} after {received} of {total} bytes",
                            hub.stall_timeout
                        )
                    }
                    RecvTimeoutError::Disconnected => {
                        "the client gave up on a malformed answer".to_owned()
                    }
                };
                return Err(Error::Network {
                    url: url.to_owned(),
                    reason,
                    remedy: "try again: the download resumes".to_owned(),
                });
            }
        }
        progress.event(&ProgressEvent::Download {
            file: file.to_owned(),
            received,
            total,
        });
    }
}

fn network(url: &str, error: &ApiError) -> Error {
    match error {
        ApiError::RequestError(error) => net::failed(url, error),
        ApiError::TooManyRetries(error) => network(url, error),
        ApiError::LockAcquisition(lock) => Error::Network {
            url: url.to_owned(),
            reason: format!(
                "another process is downloading it (lock {})",
                lock.display()
            ),
            remedy: "wait for that one to end".to_owned(),
        },
        error => Error::Network {
            url: url.to_owned(),
            reason: error.to_string(),
            remedy: "try again, or name a folder with your own copy (--data-dir)".to_owned(),
        },
    }
}
