//! SIGINT, SIGTERM and SIGUSR1 become a request to stop after the next checkpoint.
//!
//! A second SIGINT or SIGTERM does not wait: the process ends at once, and the run folder is as
//! the last checkpoint left it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    thread,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1},
    iterator::{Handle, Signals},
};
use trainer::StopFlag;

/// Which signal asked for the stop, if any did. Dropped, it ends the listening.
#[derive(Debug)]
pub struct Received {
    signal: Arc<AtomicI32>,
    listener: Handle,
}

impl Received {
    /// The signal's number.
    pub fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal),
        }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.listener.close();
    }
}

/// Listens for the three signals and sets `stop`; `notice` is told the first one.
pub fn listen(stop: StopFlag, notice: impl Fn(&str) + Send + 'static) -> io::Result<Received> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])?;
    let first = Arc::new(AtomicI32::new(0));
    let received = Received {
        signal: Arc::clone(&first),
        listener: signals.handle(),
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                let before = first.swap(signal, Ordering::SeqCst);
                if before == 0 {
                    stop.stop();
                    notice(&format!(
                        "{}: stopping after a checkpoint (once more: stop at once)",
                        name(signal)
                    ));
                } else if signal != SIGUSR1 {
                    std::process::exit(128 + signal);
                }
            }
        })?;
    Ok(received)
}

/// A signal's name.
pub fn name(signal: i32) -> &'static str {
    match signal {
        SIGINT => "SIGINT",
        SIGTERM => "SIGTERM",
        SIGUSR1 => "SIGUSR1",
        _ => "signal",
    }
}
