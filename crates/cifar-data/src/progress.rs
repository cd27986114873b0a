//! What a source tells while it is being opened. The library itself never prints.

/// Something worth showing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgressEvent {
    /// A source is being tried.
    Trying {
        /// The source, in words.
        source: String,
    },
    /// A source was skipped.
    Skipped {
        /// The source, in words.
        source: String,
        /// Why.
        reason: String,
    },
    /// Bytes of a download arrived.
    Download {
        /// The file's name.
        file: String,
        /// Bytes on disk so far, those of an earlier attempt included.
        received: u64,
        /// Bytes in all, 0 if unknown.
        total: u64,
    },
    /// A file's checksum is being computed.
    Checking {
        /// The file's name.
        file: String,
    },
}

/// Receives [`ProgressEvent`]s, on the thread that called. `()` ignores them; closures work.
pub trait Progress {
    /// Called for every event.
    fn event(&mut self, event: &ProgressEvent);
}

impl Progress for () {
    fn event(&mut self, _event: &ProgressEvent) {}
}

impl<F: FnMut(&ProgressEvent)> Progress for F {
    fn event(&mut self, event: &ProgressEvent) {
        self(event);
    }
}
