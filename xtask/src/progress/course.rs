//! The words of progress: which stage of how many, how far it is, how long it takes. Nothing here is wider than 80 columns.

use std::{cmp::Ordering, collections::BTreeMap, time::Duration};

use trainer::{Event, StageId, StepEvent};

use super::WIDTH;
use crate::text::{self, duration};

/// Which stages there are, and how long those not begun will take.
#[derive(Default)]
pub(super) struct Course {
    pub(super) stages: Vec<StageId>,
    pub(super) seconds: BTreeMap<StageId, f64>,
    /// What the last closer look at contrastive embeddings found, and in which stage.
    pub(super) look: Option<(StageId, f64, f64)>,
}

impl Course {
    /// `[2/7] contrastive/pretrain`.
    pub(super) fn title(&self, stage: StageId) -> String {
        match self.stages.iter().position(|other| *other == stage) {
            Some(index) => format!("[{}/{}] {stage}", index + 1, self.stages.len()),
            None => stage.to_string(),
        }
    }

    /// Time left in all: this stage's, and what was estimated for the stages after it.
    pub(super) fn left(&self, step: &StepEvent) -> Option<Duration> {
        let index = self.stages.iter().position(|other| *other == step.stage)?;
        let later: Option<f64> = self.stages[index + 1..]
            .iter()
            .map(|stage| self.seconds.get(stage).copied())
            .sum();
        let later = later.filter(|seconds| seconds.is_finite() && *seconds > 0.0)?;
        Some(step.left + Duration::try_from_secs_f64(later).ok()?)
    }

    /// Keeps what steps tell now and then.
    pub(super) fn look_at(&mut self, step: &StepEvent) {
        if let (Some(top1), Some(rank)) = (step.contrastive_top1, step.effective_rank) {
            self.look = Some((step.stage, top1, rank));
        }
    }

    /// The contrastive task's top-1 and the embeddings' effective rank, as last seen in a stage.
    pub(super) fn looked(&self, stage: StageId) -> Option<(String, String)> {
        let (_, top1, rank) = self.look.filter(|(seen, ..)| *seen == stage)?;
        Some((
            format!("top-1 {:.0}%", 100.0 * top1),
            format!("rank {rank:.0}"),
        ))
    }

    pub(super) fn step_message(&self, step: &StepEvent) -> String {
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
    pub(super) fn step_line(&self, step: &StepEvent) -> String {
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
            let way = way.clamp(-999.0, 100.0).round() + 0.0; // no minus before a zero
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
    pub(super) fn lines(&self, event: &Event) -> Vec<String> {
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
                // Epochs of a head take milliseconds: a hundred lines would push everything else away.
                let told = (epoch + 1) % epochs.div_ceil(5).max(1) == 0 || epoch + 1 == *epochs;
                if *seconds < 1.0 && !told {
                    return Vec::new();
                }
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
pub fn number(value: f64) -> String {
    if value != 0.0 && value.is_finite() && !(1e-3..1e4).contains(&value.abs()) {
        format!("{value:.1e}")
    } else {
        format!("{value:.3}")
    }
}

pub(super) fn percent(done: u64, total: u64) -> String {
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
    fn of_many_quick_epochs_a_few_are_told() {
        let told = |epochs: usize, seconds: f64| {
            let lines = (0..epochs).map(|epoch| {
                course().lines(&Event::EpochEnd {
                    stage: StageId::new(Arm::Contrastive, StageKind::Probe),
                    epoch,
                    epochs,
                    global_step: 1,
                    loss: 1.0,
                    accuracy: None,
                    validation_accuracy: None,
                    validation_loss: None,
                    seconds,
                })
            });
            lines.flatten().count()
        };
        assert_eq!((told(100, 0.02), told(4, 0.02), told(7, 0.02)), (5, 4, 4));
        assert_eq!(told(100, 1.5), 100);
    }

    #[test]
    fn percentages_survive_nothing_to_do() {
        assert_eq!(
            (percent(0, 0), percent(1, 3)),
            ("0%".to_owned(), "33%".to_owned())
        );
    }
}
