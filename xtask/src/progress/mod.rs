//! What a run shows while it goes on: a dashboard on a terminal, a line every so often elsewhere.
//!
//! Everything goes to stderr. Lines that stay (an epoch, a finished stage, a warning) fit 80 columns and are the same in both;
//! only what moves differs: curves where the terminal has room for them, else a bar; lines in a log, a dumb terminal, or with NO_COLOR.

mod chart;
mod course;
mod dashboard;
mod panel;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cifar_data::ProgressEvent;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use trainer::{Event, StageId};

use self::course::{Course, percent};
use self::dashboard::{Dashboard, terminal};
use self::panel::{MIN_HEIGHT, MIN_WIDTH, Panel};
use crate::text::{self, bytes};

pub use self::course::seconds_of;
pub use self::dashboard::columns;

const WIDTH: usize = 80;
/// How often a line appears where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// All bars of the process: a terminal is one for everybody.
static BARS: LazyLock<MultiProgress> =
    LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));

/// Runs `write` with the bars out of the way.
pub fn above_bars<R>(write: impl FnOnce() -> R) -> R {
    BARS.suspend(write)
}

/// Where progress is shown. Clones show in the same place.
#[derive(Clone)]
pub struct Screen(Arc<Mutex<State>>);

struct State {
    terminal: bool,
    /// The bar of what is going on now, and what it counts.
    bar: Option<(String, ProgressBar)>,
    last_line: Option<Instant>,
    course: Course,
    panel: Panel,
    dashboard: Dashboard,
}

impl Screen {
    /// A dashboard if stderr is a terminal that can move its cursor, else lines.
    pub fn stderr() -> Self {
        Self::new(terminal().is_some())
    }

    fn new(terminal: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            terminal,
            bar: None,
            last_line: None,
            course: Course::default(),
            panel: Panel::default(),
            dashboard: Dashboard::default(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the screen what is coming, for `[2/7]` and for the time left in all.
    pub fn expect(&self, stages: Vec<StageId>, seconds: BTreeMap<StageId, f64>) {
        self.state().course = Course {
            stages,
            seconds,
            look: None,
        };
    }

    /// A line that stays.
    pub fn note(&self, text: impl AsRef<str>) {
        put(text.as_ref());
    }

    /// Takes the bar away; what was noted stays.
    pub fn clear(&self) {
        self.state().clear();
    }

    /// Shows what training reports.
    pub fn event(&self, event: &Event) {
        let mut state = self.state();
        state.panel.take(event);
        match event {
            Event::Step(step) => {
                let done = step.global_step as u64;
                let total = (step.epochs * step.steps_per_epoch) as u64;
                state.course.look_at(step);
                let left = state.course.left(step).unwrap_or(step.left);
                if let Some(width) = state.room() {
                    if state.dashboard.is_due() || done == total {
                        let title = state.course.title(step.stage);
                        let lines = state.panel.lines(&title, left, width);
                        state.take_bar_away();
                        state.dashboard.draw(&BARS, &lines);
                    }
                    return;
                }
                state.dashboard.clear(&BARS);
                let line = state.course.step_line(step);
                let message = state.course.step_message(step);
                let title = format!(
                    "{} {}/{}",
                    state.course.title(step.stage),
                    step.epoch + 1,
                    step.epochs
                );
                state.moving(
                    &step.stage.to_string(),
                    &title,
                    done,
                    total,
                    &message,
                    || line,
                );
            }
            Event::Progress {
                stage,
                what,
                done,
                total,
            } => {
                let title = state.course.title(*stage);
                let line = format!("{title} {what} {}", percent(*done as u64, *total as u64));
                let key = format!("{stage} {what}");
                state.moving(&key, &title, *done as u64, *total as u64, what, || line);
            }
            Event::Download {
                file,
                received,
                total,
            } => {
                if *received == 0 {
                    let size = bytes(*total);
                    self.line(&mut state, format!("weights: downloading {file} ({size})"));
                }
                state.download("weights", file, *received, *total);
            }
            other => {
                if matches!(other, Event::StageFinished { .. } | Event::Stopped { .. }) {
                    state.clear();
                }
                for line in state.course.lines(other) {
                    put(&line);
                }
            }
        }
    }

    /// Takes in what happened before anybody looked: curves without a line for every epoch.
    pub fn catch_up(&self, event: &Event) {
        let mut state = self.state();
        state.panel.take(event);
        if let Event::Step(step) = event {
            state.course.look_at(step);
        }
        if matches!(event, Event::StageFinished { .. }) {
            for line in state.course.lines(event) {
                put(&line);
            }
        }
    }

    /// Shows what a data source reports.
    pub fn data_event(&self, event: &ProgressEvent) {
        let mut state = self.state();
        match event {
            ProgressEvent::Trying { source } => {
                self.line(&mut state, format!("data: trying {source}"))
            }
            ProgressEvent::Skipped { source, reason } => {
                for line in text::wrap(&format!("data: no {source} ({reason})"), WIDTH) {
                    self.line(&mut state, line);
                }
            }
            ProgressEvent::Download {
                file,
                received,
                total,
            } => state.download("data", file, *received, *total),
            ProgressEvent::Checking { file } => {
                self.line(&mut state, format!("data: checking {file}"))
            }
            _ => {}
        }
    }

    fn line(&self, state: &mut State, line: String) {
        state.clear();
        put(&text::cut(&line, WIDTH));
    }
}

/// A line that stays, broken between words where the terminal is narrower than it.
fn put(lines: &str) {
    above_bars(|| {
        for line in lines.lines().flat_map(|line| text::fold(line, columns())) {
            text::note(line);
        }
    });
}

impl State {
    fn clear(&mut self) {
        self.take_bar_away();
        self.dashboard.clear(&BARS);
        self.last_line = None;
    }

    fn take_bar_away(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
            BARS.remove(&bar);
        }
    }

    /// The terminal's columns, if it has room for the dashboard.
    fn room(&self) -> Option<usize> {
        let (columns, rows) = terminal().filter(|_| self.terminal)?;
        // The last column stays free: some terminals wrap when it is written.
        (columns > MIN_WIDTH && rows >= MIN_HEIGHT).then(|| (columns - 1).min(120))
    }

    /// Bytes that arrive.
    fn download(&mut self, what: &str, file: &str, received: u64, total: u64) {
        let of = match total {
            0 => String::new(),
            total => format!(" of {}", bytes(total)),
        };
        let message = format!("{}{of}", bytes(received));
        let line = format!("{what}: {file}: {message}");
        let title = text::cut(file, 30);
        self.moving(file, &title, received, total, &message, || line);
    }

    /// Something that counts up: a bar, or a line if the last one is long enough ago.
    fn moving(
        &mut self,
        key: &str,
        title: &str,
        done: u64,
        total: u64,
        message: &str,
        line: impl FnOnce() -> String,
    ) {
        if !self.terminal {
            let now = Instant::now();
            let begun = *self.last_line.get_or_insert(now);
            if now.duration_since(begun) >= EVERY {
                self.last_line = Some(now);
                text::note(text::cut(&line(), WIDTH));
            }
            return;
        }
        if self.bar.as_ref().is_none_or(|(current, _)| current != key) || !self.dashboard.is_empty()
        {
            self.clear();
            let narrow = terminal().is_some_and(|(columns, _)| columns <= MIN_WIDTH);
            let bar = BARS.add(ProgressBar::new(total).with_style(style(narrow)));
            self.bar = Some((key.to_owned(), bar));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set_length(total);
            bar.set_prefix(title.to_owned());
            bar.set_message(message.to_owned());
            bar.set_position(done);
        }
    }
}

/// A bar between what is going on and how it goes; in a narrow terminal two lines without one.
fn style(narrow: bool) -> ProgressStyle {
    let template = match narrow {
        true => "{prefix}\n{msg}",
        false => "{prefix} {wide_bar} {msg}",
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
