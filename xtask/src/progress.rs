//! What a run shows while it goes on: bars on a terminal, a line every so often elsewhere.
//!
//! Everything goes to stderr and fits 80 columns. Lines that stay (an epoch, a finished stage, a
//! warning) are the same in both; only what moves differs.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    io::{self, IsTerminal},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cifar_data::ProgressEvent;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use trainer::{Event, StageId, StepEvent};

use crate::text::{self, bytes, duration};

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
}

/// Which stages there are, and how long those not begun will take.
#[derive(Default)]
struct Course {
    stages: Vec<StageId>,
    seconds: BTreeMap<StageId, f64>,
    /// What the last closer look at contrastive embeddings found, and in which stage.
    look: Option<(StageId, f64, f64)>,
}

impl Screen {
    /// Bars if stderr is a terminal that can move its cursor, else lines.
    pub fn stderr() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self::new(io::stderr().is_terminal() && !dumb)
    }

    fn new(terminal: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            terminal,
            bar: None,
            last_line: None,
            course: Course::default(),
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
        above_bars(|| text::note(text));
    }

    /// Takes the bar away; what was noted stays.
    pub fn clear(&self) {
        self.state().clear();
    }

    /// Shows what training reports.
    pub fn event(&self, event: &Event) {
        let mut state = self.state();
        match event {
            Event::Step(step) => {
                let done = step.global_step as u64;
                let total = (step.epochs * step.steps_per_epoch) as u64;
                state.course.look_at(step);
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
                    above_bars(|| text::note(line));
                }
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
        above_bars(|| text::note(text::cut(&line, WIDTH)));
    }
}

impl State {
    fn clear(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
            BARS.remove(&bar);
        }
        self.last_line = None;
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
        if self.bar.as_ref().is_none_or(|(current, _)| current != key) {
            self.clear();
            let bar = BARS.add(ProgressBar::new(total).with_style(style()));
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

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} {wide_bar} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Course {
    /// `[2/7] contrastive/pretrain`.
    fn title(&self, stage: StageId) -> String {
        match self.stages.iter().position(|other| *other == stage) {
            Some(index) => format!("[{}/{}] {stage}", index + 1, self.stages.len()),
            None => stage.to_string(),
        }
    }

    /// Time left in all: this stage's, and what was estimated for the stages after it.
    fn left(&self, step: &StepEvent) -> Option<Duration> {
        let index = self.stages.iter().position(|other| *other == step.stage)?;
        let later: Option<f64> = self.stages[index + 1..]
            .iter()
            .map(|stage| self.seconds.get(stage).copied())
            .sum();
        let later = later.filter(|seconds| seconds.is_finite() && *seconds > 0.0)?;
        Some(step.left + Duration::try_from_secs_f64(later).ok()?)
    }

    /// Keeps what steps tell now and then.
    fn look_at(&mut self, step: &StepEvent) {
        if let (Some(top1), Some(rank)) = (step.contrastive_top1, step.effective_rank) {
            self.look = Some((step.stage, top1, rank));
        }
    }

    /// The contrastive task's top-1 and the embeddings' effective rank, as last seen in a stage.
    fn looked(&self, stage: StageId) -> Option<(String, String)> {
        let (_, top1, rank) = self.look.filter(|(seen, ..)| *seen == stage)?;
        Some((
            format!("top-1 {:.0}%", 100.0 * top1),
            format!("rank {rank:.0}"),
        ))
    }

    fn step_message(&self, step: &StepEvent) -> String {
        let rate = format!("{:.0} img/s", step.images_per_second);
        let left = self.left(step).unwrap_or(step.left);
        let top1 = self.looked(step.stage);
        let top1 = top1.map_or_else(String::new, |(top1, _)| format!("{top1} "));
        format!(
            "loss {} {top1}{rate} {} left",
            number(step.loss),
            duration(left)
        )
    }

    /// The line without a terminal; its last parts go first where it would not fit.
    fn step_line(&self, step: &StepEvent) -> String {
        let total = (step.epochs * step.steps_per_epoch) as u64;
        let mut parts = vec![
            self.title(step.stage),
            format!("epoch {}/{}", step.epoch + 1, step.epochs),
            percent(step.global_step as u64, total),
            format!("loss {}", number(step.loss)),
            format!("{:.0} img/s", step.images_per_second),
            format!("{} left", duration(self.left(step).unwrap_or(step.left))),
        ];
        let stays = parts.len();
        // From the value where all embeddings coincide (0) to the least possible one (1).
        if let (Some(collapse), Some(floor)) = (step.collapse, step.floor)
            && collapse > floor
        {
            let way = 100.0 * (collapse - step.loss) / (collapse - floor);
            let way = way.clamp(-999.0, 100.0);
            parts.push(format!("{way:.0}% to floor"));
        }
        if let Some((top1, rank)) = self.looked(step.stage) {
            parts.extend([top1, rank]);
        }
        let length = |parts: &[String]| parts.iter().map(|p| p.chars().count() + 1).sum::<usize>();
        while length(&parts) > WIDTH + 1 && parts.len() > 1 {
            // The percentage says least once the epoch is known.
            let least = match parts.len().cmp(&stays) {
                Ordering::Equal => 2,
                _ => parts.len() - 1,
            };
            parts.remove(least);
        }
        parts.join(" ")
    }

    /// The lines of an event that stay.
    fn lines(&self, event: &Event) -> Vec<String> {
        let one = |line: String| vec![text::cut(&line, WIDTH)];
        match event {
            Event::StageStarted {
                stage,
                epochs,
                steps_per_epoch,
                resumed_at,
            } => {
                let title = self.title(*stage);
                let resumed = match resumed_at {
                    0 => String::new(),
                    step => format!(", resumed at step {step}"),
                };
                match epochs * steps_per_epoch {
                    0 => one(title),
                    _ => one(format!(
                        "{title}: {epochs} {} of {steps_per_epoch} steps{resumed}",
                        if *epochs == 1 { "epoch" } else { "epochs" }
                    )),
                }
            }
            Event::StageSkipped { stage } => one(format!("{}: done before", self.title(*stage))),
            Event::EpochEnd {
                stage,
                epoch,
                epochs,
                loss,
                accuracy,
                validation_accuracy,
                seconds,
                ..
            } => {
                let share = |name: &str, value: &Option<f64>| {
                    value.map_or_else(String::new, |v| format!(" {name} {:.1}%", 100.0 * v))
                };
                one(format!(
                    "  {stage} epoch {}/{epochs}: loss {}{}{} in {}",
                    epoch + 1,
                    number(*loss),
                    share("train", accuracy),
                    share("val", validation_accuracy),
                    duration(seconds_of(*seconds)),
                ))
            }
            Event::StageFinished {
                stage,
                seconds,
                validation_accuracy,
                test_top1,
            } => {
                let result = match (test_top1, validation_accuracy) {
                    (Some(top1), _) => format!(", test top-1 {:.2}%", 100.0 * top1),
                    (None, Some(value)) => format!(", validation {:.2}%", 100.0 * value),
                    (None, None) => String::new(),
                };
                one(format!(
                    "{}: done in {}{result}",
                    self.title(*stage),
                    duration(seconds_of(*seconds))
                ))
            }
            Event::Warning { stage, message } => {
                let place = stage.map_or_else(String::new, |stage| format!("{stage}: "));
                text::wrap(&format!("warning: {place}{message}"), WIDTH)
            }
            Event::Stopped { stage, global_step } => one(format!(
                "{stage}: stopped at step {global_step}, checkpoint written"
            )),
            _ => Vec::new(),
        }
    }
}

/// Four digits or so, however large or small.
fn number(value: f64) -> String {
    if value != 0.0 && value.is_finite() && !(1e-3..1e4).contains(&value.abs()) {
        format!("{value:.1e}")
    } else {
        format!("{value:.3}")
    }
}

fn percent(done: u64, total: u64) -> String {
    format!(
        "{}%",
        done.saturating_mul(100).checked_div(total).unwrap_or(0)
    )
}

/// A duration from seconds that may be NaN or negative.
pub fn seconds_of(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use trainer::{Arm, StageKind};

    use super::*;

    fn step(loss: f64, epochs: usize, left: u64) -> StepEvent {
        StepEvent {
            stage: StageId::new(Arm::Contrastive, StageKind::Pretrain),
            epoch: epochs - 1,
            epochs,
            step: 3,
            steps_per_epoch: 382,
            global_step: epochs * 382 - 10,
            loss,
            lr: 0.1,
            grad_norm: None,
            accuracy: None,
            collapse: None,
            floor: None,
            spread: None,
            lonely: None,
            alignment: None,
            uniformity: None,
            effective_rank: None,
            contrastive_top1: None,
            images_per_second: 213.4,
            left: Duration::from_secs(left),
        }
    }

    fn course() -> Course {
        let stages = vec![
            StageId::new(Arm::Baseline, StageKind::Supervised),
            StageId::new(Arm::Contrastive, StageKind::Pretrain),
            StageId::new(Arm::Contrastive, StageKind::Probe),
        ];
        let seconds = stages.iter().map(|stage| (*stage, 100.0)).collect();
        Course {
            stages,
            seconds,
            look: None,
        }
    }

    #[test]
    fn a_step_line_says_stage_loss_rate_and_time_left() {
        assert_eq!(
            course().step_line(&step(3.4121, 4, 200)),
            "[2/3] contrastive/pretrain epoch 4/4 99% loss 3.412 213 img/s 5m00s left"
        );
    }

    #[test]
    fn a_contrastive_step_says_how_far_it_is_as_far_as_there_is_room() {
        let mut course = course();
        course.stages.truncate(2);
        let mut step = StepEvent {
            collapse: Some(5.0),
            floor: Some(2.0),
            contrastive_top1: Some(0.415),
            effective_rank: Some(37.2),
            ..step(3.5, 4, 200)
        };
        course.look_at(&step);
        step.contrastive_top1 = None; // the steps between two looks
        step.effective_rank = None;
        let line = course.step_line(&step);
        assert!(line.contains("99% loss 3.500 213 img/s"), "{line}");
        assert!(course.step_message(&step).contains("top-1 42% 213 img/s"));
        step.epochs = 1;
        step.epoch = 0;
        step.stage = StageId::new(Arm::Transfer, StageKind::Pretrain);
        course.look = Some((step.stage, 0.5, 9.0));
        step.left = Duration::from_secs(3);
        let line = course.step_line(&step);
        assert!(line.contains("50% to floor"), "{line}");
    }

    #[test]
    fn no_line_is_wider_than_80_columns() {
        let mut course = course();
        course.look = Some((course.stages[1], 0.9, 128.0));
        for (loss, epochs, left) in [
            (3.0, 4, 9),
            (-1.23e-9, 100_000, 1 << 30),
            (f64::NAN, 1000, 0),
            (1e30, 10, 1 << 40),
        ] {
            let step = step(loss, epochs, left);
            assert!(course.step_line(&step).chars().count() <= WIDTH);
            let stage = step.stage;
            for event in [
                Event::StageStarted {
                    stage,
                    epochs,
                    steps_per_epoch: 999_999,
                    resumed_at: 123_456_789,
                },
                Event::EpochEnd {
                    stage,
                    epoch: epochs,
                    epochs,
                    global_step: 1,
                    loss,
                    accuracy: Some(1.0),
                    validation_accuracy: Some(1.0),
                    validation_loss: Some(1e9),
                    seconds: 1e6,
                },
                Event::StageFinished {
                    stage,
                    seconds: f64::NAN,
                    validation_accuracy: Some(0.5),
                    test_top1: Some(1.0),
                },
                Event::Warning {
                    stage: Some(stage),
                    message: "the loss sits at its collapse value; ".repeat(9),
                },
            ] {
                for line in course.lines(&event) {
                    assert!(line.chars().count() <= WIDTH, "{line}");
                    assert!(!line.is_empty());
                }
            }
        }
    }

    #[test]
    fn an_epoch_line_reads_well() {
        let stage = StageId::new(Arm::Baseline, StageKind::Supervised);
        let event = Event::EpochEnd {
            stage,
            epoch: 0,
            epochs: 4,
            global_step: 382,
            loss: 1.71,
            accuracy: Some(0.412),
            validation_accuracy: Some(0.4305),
            validation_loss: Some(1.6),
            seconds: 192.0,
        };
        assert_eq!(
            course().lines(&event),
            ["  baseline/supervised epoch 1/4: loss 1.710 train 41.2% val 43.0% in 3m12s"]
        );
    }

    #[test]
    fn percentages_survive_nothing_to_do() {
        assert_eq!(
            (percent(0, 0), percent(1, 3)),
            ("0%".to_owned(), "33%".to_owned())
        );
    }
}
