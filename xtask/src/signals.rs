//! SIGINT, SIGTERM and SIGUSR1 become a request to stop after the next checkpoint.
//!
//! A second SIGINT or SIGTERM does not wait: the process ends at once, and the run folder is as
//! the last checkpoint left it.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
    thread,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1},
    iterator::Signals,
};
use trainer::StopFlag;

/// Which signal asked for the stop, if any did.
#[derive(Debug, Clone)]
pub struct Received(Arc<AtomicI32>);

impl Received {
    /// The signal's number.
    pub fn signal(&self) -> Option<i32> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal),
        }
    }
}

/// What a signal reaches: the run that is under way, and who is told.
type Reached = Option<(StopFlag, Box<dyn Fn(&str) + Send>)>;
type Listening = Mutex<Reached>;

/// One thread listens for the whole process; runs of several seeds take turns.
static LISTENING: OnceLock<Arc<Listening>> = OnceLock::new();
static RECEIVED: OnceLock<Received> = OnceLock::new();

/// Listens for the three signals and sets `stop`; `notice` is told the first one. A later call takes the earlier one's place, and stops
/// at once if a signal came in between.
pub fn listen(stop: StopFlag, notice: impl Fn(&str) + Send + 'static) -> io::Result<Received> {
    let received = RECEIVED
        .get_or_init(|| Received(Arc::new(AtomicI32::new(0))))
        .clone();
    let fresh = LISTENING.get().is_none();
    let listening = Arc::clone(LISTENING.get_or_init(Arc::default));
    *locked(&listening) = Some((stop.clone(), Box::new(notice)));
    if fresh {
        start(
            Signals::new([SIGINT, SIGTERM, SIGUSR1])?,
            listening,
            received.clone(),
        )?;
    } else if received.signal().is_some() {
        stop.stop();
    }
    Ok(received)
}

fn start(mut signals: Signals, listening: Arc<Listening>, received: Received) -> io::Result<()> {
    let listen = move || {
        for signal in signals.forever() {
            let before = received.0.swap(signal, Ordering::SeqCst);
            if before == 0 {
                if let Some((stop, notice)) = &*locked(&listening) {
                    stop.stop();
                    notice(&format!(
                        "{}: stopping after a checkpoint (once more: stop at once)",
                        name(signal)
                    ));
                }
            } else if signal != SIGUSR1 {
                std::process::exit(128 + signal);
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(listen)?;
    Ok(())
}

fn locked(listening: &Listening) -> MutexGuard<'_, Reached> {
    listening.lock().unwrap_or_else(PoisonError::into_inner)
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
