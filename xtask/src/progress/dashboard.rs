//! Lines that are drawn over and over at the bottom of a terminal, below what scrolls.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often the lines are drawn at most.
const EVERY: Duration = Duration::from_millis(150);

/// Some lines at the bottom.
#[derive(Default)]
pub struct Dashboard {
    lines: Vec<ProgressBar>,
    drawn: Option<Instant>,
}

impl Dashboard {
    /// Whether it is time to draw again.
    pub fn is_due(&self) -> bool {
        self.drawn.is_none_or(|at| at.elapsed() >= EVERY)
    }

    /// Whether nothing is drawn.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Draws the lines in place of the former ones.
    pub fn draw(&mut self, bars: &MultiProgress, texts: &[String]) {
        if self.lines.len() != texts.len() {
            self.clear(bars);
        }
        for (index, text) in texts.iter().enumerate() {
            if index == self.lines.len() {
                let style = ProgressStyle::with_template("{msg}");
                let line = ProgressBar::new(1)
                    .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                self.lines.push(bars.add(line));
            }
            self.lines[index].set_message(text.clone());
        }
        // A bar draws itself some times a second only; the last lines must not stay behind the first.
        self.lines.iter().for_each(ProgressBar::tick);
        self.drawn = Some(Instant::now());
    }

    /// Takes the lines away.
    pub fn clear(&mut self, bars: &MultiProgress) {
        for line in self.lines.drain(..) {
            line.finish_and_clear();
            bars.remove(&line);
        }
        self.drawn = None;
    }
}

/// Columns and rows of the terminal behind stderr; none where there is none, or one that cannot move its cursor, or the user asked for
/// plain lines (`TERM=dumb`, `NO_COLOR`).
pub fn terminal() -> Option<(usize, usize)> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let plain = set("TERM").is_none_or(|term| term == "dumb") || set("NO_COLOR").is_some();
    (!plain && io::stderr().is_terminal()).then(size)
}

#[cfg(unix)]
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            (usize::from(size.ws_col), usize::from(size.ws_row))
        }
        _ => (80, 24),
    }
}

#[cfg(not(unix))]
fn size() -> (usize, usize) {
    (80, 24)
}
