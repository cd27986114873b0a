//! What can go wrong, said in one sentence: what was expected, what came, where, and what to do.

use std::path::{Path, PathBuf};

/// The result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written (the message of the cause names it).
    #[error("{0}")]
    Io(#[from] std::io::Error),

    /// A file holds something else than it should.
    #[error("{}: expected {expected}, found {found}; {remedy}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What should have been there.
        expected: String,
        /// What was there.
        found: String,
        /// What to do about it.
        remedy: String,
    },

    /// A setting is out of its range or does not fit another one.
    #[error("{field} = {value}: {reason}")]
    Setting {
        /// The setting's name.
        field: &'static str,
        /// Its value.
        value: String,
        /// Why it is refused and what is accepted.
        reason: String,
    },

    /// A download failed.
    #[error("{url}: {reason}; {remedy}")]
    Network {
        /// The address.
        url: String,
        /// What happened.
        reason: String,
        /// What to do about it.
        remedy: String,
    },

    /// A downloaded file differs from the pinned one.
    #[error(
        "{}: {algorithm} {found} came from {origin}, but {expected} is pinned; it is not used: try again, or name a copy \
         of your own (--data-dir), which is not checked",
        path.display()
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Where it came from.
        origin: String,
        /// `sha256`, `md5` or `size`.
        algorithm: &'static str,
        /// The pinned value.
        expected: String,
        /// The file's value.
        found: String,
    },

    /// None of the sources of a data set could be used.
    #[error("no source of {dataset} could be used ({}); {remedy}", tried.join("; "))]
    NoSource {
        /// The data set asked for.
        dataset: String,
        /// Each source and why it was skipped.
        tried: Vec<String>,
        /// What to do about it.
        remedy: String,
    },

    /// A background thread of the loader panicked.
    #[error("a loader thread panicked while making batch {step} of epoch {epoch}: {message}")]
    Panic {
        /// The epoch.
        epoch: usize,
        /// The step within the epoch.
        step: usize,
        /// The panic's message.
        message: String,
    },
}

impl Error {
    pub(crate) fn file(
        path: &Path,
        expected: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::File {
            path: path.to_path_buf(),
            expected: expected.into(),
            found: found.into(),
            remedy: remedy.into(),
        }
    }

    pub(crate) fn setting(
        field: &'static str,
        value: impl ToString,
        reason: impl Into<String>,
    ) -> Self {
        Self::Setting {
            field,
            value: value.to_string(),
            reason: reason.into(),
        }
    }
}

/// The message a panic carried.
pub(crate) fn panic_message(payload: Box<dyn std::any::Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload
            .downcast_ref::<&str>()
            .map_or_else(|| "no message".to_owned(), |text| (*text).to_owned()),
    }
}
