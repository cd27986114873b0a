//! Log lines on stderr: warnings by default, whatever `RUST_LOG` asks for otherwise.

use std::io::{self, Write};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::progress;

/// Installs the subscriber. A `RUST_LOG` that cannot be read is named and ignored.
pub fn init() {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    // The synthetic fallback has a notice of its own, and what a figure does not draw is no user's concern.
    let quiet = EnvFilter::new("warn,cifar_data=error,usvg=error,resvg=error");
    let (filter, complaint) = if wanted.is_empty() {
        (quiet, None)
    } else {
        match EnvFilter::try_new(&wanted) {
            Ok(filter) => (filter, None),
            Err(error) => (quiet, Some(error)),
        }
    };
    let installed = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(AboveBars)
        .with_ansi(false)
        .with_target(!wanted.is_empty())
        .try_init();
    if installed.is_ok()
        && let Some(error) = complaint
    {
        tracing::warn!("RUST_LOG={wanted} is ignored: {error}");
    }
}

/// Writes to stderr with the progress bars out of the way.
struct AboveBars;

impl<'a> MakeWriter<'a> for AboveBars {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        progress::above_bars(|| io::stderr().lock().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
