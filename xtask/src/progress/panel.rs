//! The dashboard of a stage under way: where it is, two curves, and the collapse monitor, as lines of text.
//!
//! ```text
//! [3/6] contrastive/pretrain   epoch 12/38   step 4513/14516
//! ██████████████████▋                                      31 %  213 img/s  8m41s left
//! loss 3.412                             nearest is a positive 41.5 %
//!   5.010┤⡇                                0.415┤            ⣀⠤⠒⠉
//!        ┤⠘⢄⡀                                   ┤      ⢀⡠⠔⠊
//!   3.377┤  ⠈⠒⠤⣀⣀⣀                         0.031┤⣀⠤⠔⠊
//! from collapse 53 %  spread 0.97  rank 37  uniformity −2.31  alignment 0.42
//! ```

use std::time::Duration;

use trainer::{Event, StageId, StepEvent};

use super::chart::{Series, bar};
use super::course::number;
use crate::text::{cut, duration};

/// Rows of a curve.
const ROWS: usize = 4;
/// The narrowest terminal that has room for two curves.
pub const MIN_WIDTH: usize = 60;
/// Lines of the dashboard, and some for what scrolls above it.
pub const MIN_HEIGHT: usize = 2 + 1 + ROWS + 2 + 4;

/// What is known of the stage under way.
#[derive(Default)]
pub struct Panel {
    stage: Option<StageId>,
    step: Option<StepEvent>,
    loss: Series,
    /// Accuracy of the batch, or the contrastive task's top-1.
    score: Series,
    /// The last closer look: rank, uniformity, alignment.
    look: [Option<f64>; 3],
    epoch: Option<String>,
}

impl Panel {
    /// Takes in what happened; another stage's event begins anew.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Step(step) => {
                if self.stage != Some(step.stage) {
                    *self = Self {
                        stage: Some(step.stage),
                        ..Self::default()
                    };
                }
                self.loss.push(step.loss);
                if let Some(score) = step.accuracy.or(step.contrastive_top1) {
                    self.score.push(score);
                }
                let seen = [step.effective_rank, step.uniformity, step.alignment];
                for (kept, seen) in self.look.iter_mut().zip(seen) {
                    *kept = seen.or(*kept);
                }
                self.step = Some(step.clone());
            }
            Event::EpochEnd {
                stage,
                epoch,
                loss,
                validation_accuracy,
                validation_loss,
                ..
            } if self.stage == Some(*stage) => {
                let mut text = format!("epoch {}: mean loss {}", epoch + 1, number(*loss));
                if let Some(accuracy) = validation_accuracy {
                    text += &format!(", validation {:.1} %", 100.0 * accuracy);
                }
                if let Some(loss) = validation_loss {
                    text += &format!(", validation loss {}", number(*loss));
                }
                self.epoch = Some(text);
            }
            _ => {}
        }
    }

    /// The lines, none wider than `width`; none before the first step. `title` says which stage of how many, `left` how long it all takes.
    pub fn lines(&self, title: &str, left: Duration, width: usize) -> Vec<String> {
        let Some(step) = &self.step else {
            return Vec::new();
        };
        let total = step.epochs * step.steps_per_epoch;
        let mut lines = vec![format!(
            "{title}   epoch {}/{}   step {}/{total}",
            step.epoch + 1,
            step.epochs,
            step.global_step
        )];
        let percent = (100 * step.global_step).checked_div(total).unwrap_or(0);
        let rate = format!(
            " {percent:>3} %  {:.0} img/s  {} left",
            step.images_per_second,
            duration(left)
        );
        let room = width.saturating_sub(rate.chars().count()).max(4);
        lines.push(bar(step.global_step as u64, total as u64, room) + &rate);
        lines.extend(self.curves(step, width));
        let monitor = self.monitor(step);
        lines.extend(Some(monitor).filter(|line| !line.is_empty()));
        lines.extend(self.epoch.clone());
        lines.iter().map(|line| cut(line, width)).collect()
    }

    /// Two curves side by side under their names.
    fn curves(&self, step: &StepEvent, width: usize) -> Vec<String> {
        let half = (width.saturating_sub(2)) / 2;
        let loss = format!("loss {}", number(step.loss));
        let name = if step.accuracy.is_some() {
            "training accuracy"
        } else {
            "nearest is a positive"
        };
        let Some(score) = self.score.last() else {
            let chart = self.loss.chart(width, ROWS);
            return [loss].into_iter().chain(chart).collect();
        };
        let head = format!("{loss:<half$}  {name} {:.1} %", 100.0 * score);
        let pairs = self
            .loss
            .chart(half, ROWS)
            .into_iter()
            .zip(self.score.chart(half, ROWS));
        [head]
            .into_iter()
            .chain(pairs.map(|(left, right)| format!("{left}  {right}")))
            .collect()
    }

    /// The collapse monitor of contrastive stages.
    fn monitor(&self, step: &StepEvent) -> String {
        let mut parts = Vec::new();
        if let (Some(collapse), Some(floor)) = (step.collapse, step.floor)
            && collapse > floor
        {
            // From the value where all embeddings coincide (0) to the least possible one (1).
            let way = 100.0 * (collapse - step.loss) / (collapse - floor);
            // No minus before a zero.
            let way = way.clamp(-999.0, 100.0).round() + 0.0;
            parts.push(format!("from collapse {way:.0} %"));
        }
        let [rank, uniformity, alignment] = self.look;
        for (name, value, digits) in [
            ("spread", step.spread, 2),
            ("rank", rank, 0),
            ("uniformity", uniformity, 2),
            ("alignment", alignment, 2),
        ] {
            if let Some(value) = value {
                parts.push(format!("{name} {value:.digits$}"));
            }
        }
        parts.join("  ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainer::{Arm, StageKind};

    fn step(global_step: usize, loss: f64) -> StepEvent {
        StepEvent {
            stage: StageId::new(Arm::Contrastive, StageKind::Pretrain),
            epoch: global_step / 100,
            epochs: 4,
            step: global_step % 100,
            steps_per_epoch: 100,
            global_step,
            loss,
            lr: 0.1,
            grad_norm: None,
            accuracy: None,
            collapse: Some(5.0),
            floor: Some(2.0),
            spread: Some(0.97),
            lonely: None,
            alignment: None,
            uniformity: None,
            effective_rank: None,
            contrastive_top1: None,
            images_per_second: 213.4,
            left: Duration::from_secs(500),
        }
    }

    #[test]
    fn the_dashboard_says_where_the_stage_is_and_fits() {
        let mut panel = Panel::default();
        assert!(panel.lines("x", Duration::ZERO, 80).is_empty());
        for at in 1..=130 {
            let mut event = step(at, 5.0 - at as f64 * 0.015);
            if at % 10 == 0 {
                event.contrastive_top1 = Some(at as f64 / 300.0);
                event.effective_rank = Some(37.2);
                event.uniformity = Some(-2.31);
            }
            panel.take(&Event::Step(event));
        }
        let text = |width| {
            panel.lines(
                "[2/3] contrastive/pretrain",
                Duration::from_secs(500),
                width,
            )
        };
        let lines = text(80);
        assert_eq!(
            lines[0],
            "[2/3] contrastive/pretrain   epoch 2/4   step 130/400"
        );
        assert!(
            lines[1].ends_with(" 32 %  213 img/s  8m20s left"),
            "{}",
            lines[1]
        );
        assert!(
            lines[2].contains("loss 3.050") && lines[2].contains("nearest is a positive 43.3 %")
        );
        assert!(
            lines[3].contains("4.978┤") && lines[6].contains("3.0"),
            "{lines:?}"
        );
        let monitor = &lines[7];
        for part in [
            "from collapse 65 %",
            "spread 0.97",
            "rank 37",
            "uniformity -2.31",
        ] {
            assert!(monitor.contains(part), "{monitor}");
        }
        for width in [MIN_WIDTH, 80, 143] {
            for line in text(width) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
        assert!(text(80).len() + 4 <= MIN_HEIGHT);
    }

    #[test]
    fn collapse_is_zero_percent_away_from_collapse() {
        let mut panel = Panel::default();
        panel.take(&Event::Step(step(1, 5.001)));
        let lines = panel.lines("x", Duration::ZERO, 80).concat();
        assert!(lines.contains("from collapse 0 %"), "{lines}");
    }

    #[test]
    fn another_stage_begins_with_empty_curves() {
        let mut panel = Panel::default();
        panel.take(&Event::Step(step(3, 4.0)));
        let mut other = step(1, 9.0);
        other.stage = StageId::new(Arm::Baseline, StageKind::Supervised);
        other.accuracy = Some(0.25);
        (other.collapse, other.spread) = (None, None);
        panel.take(&Event::Step(other));
        let lines = panel.lines("t", Duration::ZERO, 80);
        assert!(lines[2].contains("loss 9.000") && lines[2].contains("training accuracy 25.0 %"));
        assert!(!lines.concat().contains("4.0"), "{lines:?}");
        assert!(!lines.concat().contains("collapse"));
    }
}
