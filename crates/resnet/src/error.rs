//! What can go wrong, in words: what was expected, what came, where, and what to do.

use std::path::PathBuf;

/// The error of every fallible function here that is not a plain tensor operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),

    /// A field of a configuration is out of range, or two of them contradict each other.
    #[error("{field} = {value}: {expected}")]
    Config {
        /// The field's name, as written in a configuration.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is accepted, and what to do.
        expected: String,
    },

    /// A parameter was added twice, or asked for and not there.
    #[error("parameter {name:?}: {problem}")]
    Parameter {
        /// The parameter's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },

    /// A file could not be read or written.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done: "read", "write".
        action: &'static str,
        /// The operating system's answer.
        source: std::io::Error,
    },

    /// A file was read and is not what it should be.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },

    /// Tensors and model do not fit each other; nothing was changed.
    #[error("{origin}: the weights do not fit this model: {problem}")]
    Mismatch {
        /// The file, or "the given tensors".
        origin: String,
        /// The missing, unexpected and mis-shaped tensors (the first few of each), and what to do.
        problem: String,
    },

    /// The Hub did not give the file.
    #[error("hub:{repo}: {problem}")]
    Hub {
        /// The repository, `owner/name`.
        repo: String,
        /// What happened and what to do.
        problem: String,
    },
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn config(
        field: &'static str,
        value: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        Self::Config {
            field,
            value: value.to_string(),
            expected: expected.into(),
        }
    }
}
