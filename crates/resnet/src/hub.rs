//! Weight files from the Hub, through hf-hub and in its cache layout.
//!
//! hf-hub knows no time-outs, no `HF_HUB_OFFLINE` and no checksums. Here the transfer runs on a thread of its own under
//! a watch, offline is decided before it, and what arrived is compared with the SHA-256 that the Hub announces for large
//! files.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Cache, Repo, RepoType};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Where the Hub is, where its cache is, and whether it may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubConfig {
    /// The Hub's address; `HF_ENDPOINT`.
    pub endpoint: String,
    /// The cache folder; `HF_HUB_CACHE`, else `HF_HOME` followed by `hub`.
    pub cache: PathBuf,
    /// Access token; `HF_TOKEN`, else the file `token` in `HF_HOME`.
    pub token: Option<String>,
    /// Use the cache only; `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// Give up when nothing arrives for so long.
    pub patience: Duration,
}

impl HubConfig {
    /// The configuration that the environment asks for.
    ///
    /// # Errors
    /// If no variable names the cache and there is no home folder.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let home = variable("HF_HOME").map(PathBuf::from).or_else(|| {
            let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")));
            Some(cache?.join("huggingface"))
        });
        let Some(home) = home else {
            return Err(Error::config(
                "HF_HOME",
                "unset",
                "no home folder: set it to a folder for the Hub's cache",
            ));
        };
        let token =
            variable("HF_TOKEN").or_else(|| std::fs::read_to_string(home.join("token")).ok());
        let offline = variable("HF_HUB_OFFLINE").map(|v| v.to_ascii_lowercase());
        Ok(Self {
            endpoint: variable("HF_ENDPOINT")
                .map(|e| e.trim_end_matches('/').to_owned())
                .unwrap_or_else(|| "https://huggingface.co".into()),
            cache: variable("HF_HUB_CACHE")
                .map(PathBuf::from)
                .unwrap_or_else(|| home.join("hub")),
            token: token.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()),
            offline: offline.is_some_and(|v| matches!(v.as_str(), "1" | "on" | "yes" | "true")),
            patience: Duration::from_secs(30),
        })
    }

    /// The path of a file of a model repository: from the cache, or downloaded into it (resuming a partial download).
    ///
    /// `progress` is told the bytes that have arrived and their total.
    ///
    /// # Errors
    /// [`Error::Hub`] if the file is not cached and cannot be had: offline, refused, not found, no connection, stalled,
    /// or other bytes than announced.
    pub fn fetch(
        &self,
        repo: &str,
        revision: &str,
        file: &str,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<PathBuf> {
        let failed = |problem: String| Error::Hub {
            repo: repo.into(),
            problem,
        };
        let entry = Repo::with_revision(repo.into(), RepoType::Model, revision.into());
        // hf-hub links by relative paths, which it makes of absolute ones only.
        let folder = std::path::absolute(&self.cache).map_err(|e| failed(e.to_string()))?;
        let cache = Cache::new(folder).repo(entry.clone());
        let pinned = cache.pointer_path(revision).join(file);
        if let Some(path) = pinned
            .is_file()
            .then_some(pinned)
            .or_else(|| cache.get(file))
        {
            return Ok(path);
        }
        if self.offline {
            return Err(failed(format!(
                "{file} at revision {revision} is not in the cache {} and HF_HUB_OFFLINE is set; unset it, or give a \
                 .safetensors file by its path",
                self.cache.display()
            )));
        }
        tracing::info!(repo, revision, file, endpoint = %self.endpoint, "downloading weights");
        let path = self.download(entry, file, progress).map_err(failed)?;
        verify(&path).map_err(failed)?;
        Ok(path)
    }

    fn download(
        &self,
        entry: Repo,
        file: &str,
        progress: &mut dyn FnMut(u64, u64),
    ) -> std::result::Result<PathBuf, String> {
        let folder = std::path::absolute(&self.cache).map_err(|e| e.to_string())?;
        let api = ApiBuilder::from_cache(Cache::new(folder))
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_progress(false)
            .build()
            .map_err(|e| e.to_string())?
            .repo(entry);
        let url = api.url(file);
        let name = file.to_owned();
        let (sender, events) = mpsc::channel();
        let worker = std::thread::Builder::new()
            .name("hub".into())
            .spawn(move || api.download_with_progress(&name, Watched(sender)))
            .map_err(|e| e.to_string())?;
        let (mut done, mut total) = (0, 0);
        loop {
            match events.recv_timeout(self.patience) {
                Ok(Event::Total(bytes)) => (done, total) = (0, bytes),
                Ok(Event::More(bytes)) => done += bytes,
                Err(RecvTimeoutError::Disconnected) => break,
                // The thread is left to its fate: hf-hub cannot be interrupted.
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!(
                        "nothing came from {url} for {} s ({done} of {total} bytes so far); check the connection and \
                         try again (the download resumes), or give a .safetensors file by its path",
                        self.patience.as_secs_f32()
                    ));
                }
            }
            progress(done, total);
        }
        match worker.join() {
            Ok(Ok(path)) => Ok(path),
            Ok(Err(error)) => Err(explain(&url, &error.to_string())),
            Err(_) => Err(format!(
                "an answer from {url} was not understood; try again"
            )),
        }
    }
}

/// The transport's message, with what to do.
fn explain(url: &str, message: &str) -> String {
    let remedy = if message.contains("401") || message.contains("403") {
        "access is refused: set HF_TOKEN to a token that may read this repository, and check its name"
    } else if message.contains("404") {
        "there is no such file: check repository and revision"
    } else if message.contains("Lock acquisition") {
        "another process is downloading it: wait for that one"
    } else {
        "check the connection and HF_ENDPOINT and try again, or give a .safetensors file by its path"
    };
    format!("{url}: {message}; {remedy}")
}

/// The SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// If the file cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let read = |source| Error::Io {
        path: path.to_owned(),
        action: "read",
        source,
    };
    let mut hash = Sha256::new();
    std::io::copy(&mut std::fs::File::open(path).map_err(read)?, &mut hash).map_err(read)?;
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// Compares a cached file with the SHA-256 that names it in the cache (large files; small ones are named by a Git hash).
fn verify(path: &Path) -> std::result::Result<(), String> {
    let blob = path
        .canonicalize()
        .map_err(|e| format!("{}: {e}", path.display()))?;
    let expected = blob
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    if expected.len() != 64 || !expected.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(());
    }
    let found = sha256(&blob).map_err(|e| e.to_string())?;
    if found == expected {
        return Ok(());
    }
    let removed = std::fs::remove_file(path).and_then(|()| std::fs::remove_file(&blob));
    Err(format!(
        "the downloaded file has SHA-256 {found}, the Hub announced {expected}; {}",
        match removed {
            Ok(()) => "it was removed: try again".into(),
            Err(e) => format!("remove {} ({e}) and try again", blob.display()),
        }
    ))
}

enum Event {
    Total(u64),
    More(u64),
}

/// hf-hub's progress, sent to the watch. A send fails only after the watch has given up.
struct Watched(Sender<Event>);

impl hf_hub::api::Progress for Watched {
    fn init(&mut self, size: usize, _file: &str) {
        let _ = self.0.send(Event::Total(size as u64));
    }

    fn update(&mut self, size: usize) {
        let _ = self.0.send(Event::More(size as u64));
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_honoured() {
        let set = |pairs: &'static [(&str, &str)]| {
            HubConfig::from_variables(|name| {
                pairs
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, value)| value.to_string())
            })
            .unwrap()
        };
        let config = set(&[
            ("HF_HOME", "somewhere"),
            ("HF_ENDPOINT", "http://mirror.test/"),
            ("HF_TOKEN", " secret\n"),
            ("HF_HUB_OFFLINE", "ON"),
        ]);
        assert_eq!(config.cache, Path::new("somewhere").join("hub"));
        assert_eq!(config.endpoint, "http://mirror.test");
        assert_eq!(config.token.as_deref(), Some("secret"));
        assert!(config.offline);
        let config = set(&[
            ("HF_HOME", "a"),
            ("HF_HUB_CACHE", "b"),
            ("HF_HUB_OFFLINE", "0"),
        ]);
        assert_eq!(config.cache, Path::new("b"));
        assert!(!config.offline && config.token.is_none());
        assert_eq!(config.endpoint, "https://huggingface.co");
        let config = set(&[("XDG_CACHE_HOME", "c")]);
        assert_eq!(config.cache, Path::new("c").join("huggingface").join("hub"));
    }

    #[test]
    fn checksums_are_those_of_sha256sum() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-2, appendix B.1
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path).unwrap(), expected);
        let error = sha256(&folder.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("none: cannot read"), "{error}");
    }
}
