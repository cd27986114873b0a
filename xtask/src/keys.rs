//! Single keys from the terminal, without Enter: the terminal's settings are put back when this goes out of scope.

use std::time::Duration;

/// A terminal that hands over every key.
pub struct Keys {
    #[cfg(unix)]
    saved: Option<rustix::termios::Termios>,
}

#[cfg(unix)]
impl Keys {
    /// Listens if stdin is a terminal. Ctrl-C is a key like others then.
    pub fn listen() -> Self {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let stdin = std::io::stdin();
        let saved = tcgetattr(&stdin).ok();
        if let Some(saved) = &saved {
            let mut keys = saved.clone();
            keys.local_modes
                .remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
            // Where this fails, Ctrl-C ends the program as everywhere.
            let _ = tcsetattr(&stdin, OptionalActions::Now, &keys);
        }
        Self { saved }
    }

    /// Waits for `time`, or until q or Ctrl-C is pressed: then the answer is true.
    pub fn leave_within(&self, time: Duration) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        if self.saved.is_none() {
            std::thread::sleep(time);
            return false;
        }
        let stdin = std::io::stdin();
        let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
        let timeout = Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: time.subsec_nanos().into(),
        };
        match poll(&mut ready, Some(&timeout)) {
            Ok(1..) => {
                let mut typed = [0u8; 16];
                match rustix::io::read(&stdin, &mut typed) {
                    // The terminal went away.
                    Ok(0) => true,
                    Ok(count) => typed[..count].iter().any(|key| b"qQ\x03\x04".contains(key)),
                    Err(_) => false,
                }
            }
            _ => false,
        }
    }
}

#[cfg(unix)]
impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            let now = rustix::termios::OptionalActions::Now;
            let _ = rustix::termios::tcsetattr(std::io::stdin(), now, saved);
        }
    }
}

#[cfg(not(unix))]
impl Keys {
    /// Keys are not read here; Ctrl-C ends the program.
    pub fn listen() -> Self {
        Self {}
    }

    /// Waits.
    pub fn leave_within(&self, time: Duration) -> bool {
        std::thread::sleep(time);
        false
    }
}
