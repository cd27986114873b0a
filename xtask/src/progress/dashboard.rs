//! Lines that are drawn over and over at the bottom of a terminal, below what scrolls.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often the lines are drawn at most.
const EVERY: Duration = Duration::from_millis(150);

/// Some lines at the bottom.
#[derive(Default)]
pub struct Dashboard {
    lines: Vec<ProgressBar>,
    drawn: Option<Instant>,
    /// Columns of the terminal when they were drawn.
    columns: usize,
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
        if self.lines.len() != texts.len() || self.is_broken() {
            self.clear(bars);
        }
        self.columns = columns();
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

    /// Whether the terminal has become narrower and has broken the lines into more rows than were drawn.
    fn is_broken(&self) -> bool {
        !self.lines.is_empty() && columns() < self.columns
    }

    /// Takes the lines away; where nobody knows any more how many rows they are, the whole screen.
    pub fn clear(&mut self, bars: &MultiProgress) {
        let broken = self.is_broken();
        for line in self.lines.drain(..) {
            line.finish_and_clear();
            bars.remove(&line);
        }
        if broken {
            // A screen that cannot be wiped stays as it is.
            let _ = bars.suspend(|| io::stderr().write_all(b"\x1b[2J\x1b[H"));
        }
        self.drawn = None;
    }
}

/// Columns of the terminal behind stderr; as many as one likes where there is none.
pub fn columns() -> usize {
    terminal().map_or(usize::MAX, |(columns, _)| columns)
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
