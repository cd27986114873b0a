//! What can go wrong, in one sentence each: what was expected, what came, where, what to do.

use std::io;
use std::path::PathBuf;

/// The error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `write`, `create`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A file is not the JSON that it should be.
    #[error("{} does not hold {expected}: {source}; write it anew or restore it", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// Where and how the text departs from it.
        source: serde_json::Error,
    },
    /// A file was written by another version of the schema, or is something else.
    #[error(
        "{} has schema {found}, expected \"{expected}\"; evaluate the run again with this version, \
         or read the file with the version that wrote it",
        path.display()
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// The schema that this version reads.
        expected: String,
        /// The schema that the file names, as JSON (`missing` if it names none).
        found: String,
    },
    /// A file that is written once exists already.
    #[error("{} exists already and is written only once; remove it by hand if it is to be made anew", path.display())]
    AlreadyWritten {
        /// The file.
        path: PathBuf,
    },
    /// A file is not the safetensors file that it should be.
    #[error("{} does not hold {expected}: {source}; write it anew or restore it", path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// Where the bytes depart from the format.
        source: safetensors::SafeTensorError,
    },
    /// A matrix product failed.
    #[error("a matrix product failed: {0}")]
    Product(#[from] candle_core::Error),
    /// The values handed over do not fit together.
    #[error("{0}")]
    Invalid(String),
}

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
