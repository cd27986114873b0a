//! The learning rate of every step, in closed form.
//!
//! With T steps in all, w warm-up steps and step t counted from 0:
//!
//! - warm-up, t < w: `lr · (from + (1 − from) · (t + 1) / w)`
//! - constant: `lr`
//! - cosine: `lr · (f + (1 − f) · (1 + cos(π · (t − w) / (T − w))) / 2)`
//! - linear: `lr · (f + (1 − f) · (1 − (t − w) / (T − w)))`
//! - step: `lr · γ^k`, k the number of milestones m with t ≥ m · T
//! - one cycle (PyTorch's `OneCycleLR`, without a warm-up of its own): from `lr / div` along half a cosine to `lr`
//!   at step `rise · T − 1`, then down to `lr / (div · final_div)` at step T − 1.

use crate::{ScheduleConfig, ScheduleKind};
use std::f64::consts::PI;

/// A learning rate for every step of a stage.
#[derive(Clone, Debug)]
pub struct Schedule {
    config: ScheduleConfig,
    lr: f64,
    total: f64,
    warmup: f64,
}

impl Schedule {
    /// The schedule over `epochs` epochs of `steps_per_epoch` steps around the optimiser's `lr`.
    pub fn new(config: &ScheduleConfig, lr: f64, epochs: usize, steps_per_epoch: usize) -> Self {
        let total = (epochs * steps_per_epoch) as f64;
        let warmup = match config.warmup_steps {
            Some(steps) => steps as f64,
            None => (config.warmup_epochs * steps_per_epoch as f64).round(),
        };
        Self {
            config: config.clone(),
            lr,
            total,
            warmup: warmup.min(total),
        }
    }

    /// Steps of linear warm-up.
    pub fn warmup_steps(&self) -> usize {
        self.warmup as usize
    }

    /// The learning rate of step `step`, counted from 0 since the stage began.
    ///
    /// ```
    /// use trainer::{Schedule, ScheduleConfig};
    /// let schedule = Schedule::new(&ScheduleConfig::cosine(), 0.5, 10, 100);
    /// assert_eq!(schedule.lr(0), 0.5);
    /// assert!((schedule.lr(500) - 0.25).abs() < 1e-12);
    /// ```
    pub fn lr(&self, step: usize) -> f64 {
        let t = step as f64;
        if t < self.warmup {
            let from = self.config.warmup_from;
            return self.lr * (from + (1.0 - from) * (t + 1.0) / self.warmup);
        }
        self.lr
            * match self.config.kind {
                ScheduleKind::Constant => 1.0,
                ScheduleKind::Cosine => anneal(1.0, self.end(), self.progress(t)),
                ScheduleKind::Linear => 1.0 + (self.end() - 1.0) * self.progress(t),
                ScheduleKind::Step => {
                    let milestones = self
                        .config
                        .milestones
                        .as_deref()
                        .unwrap_or(&[0.6, 0.75, 0.9]);
                    let passed = milestones
                        .iter()
                        .filter(|&&m| t + 1e-6 >= m * self.total)
                        .count();
                    self.config.gamma.unwrap_or(0.2).powi(passed as i32)
                }
                ScheduleKind::OneCycle => {
                    let start = 1.0 / self.config.div.unwrap_or(25.0);
                    let end = start / self.config.final_div.unwrap_or(1e4);
                    // At least 0: a cycle of a few steps begins at its top.
                    let top = (self.config.rise.unwrap_or(0.3) * self.total - 1.0).max(0.0);
                    if t <= top && top > 0.0 {
                        anneal(start, 1.0, t / top)
                    } else {
                        anneal(
                            1.0,
                            end,
                            ((t - top) / (self.total - 1.0 - top).max(1.0)).min(1.0),
                        )
                    }
                }
            }
    }

    /// The factor that a fall ends at.
    fn end(&self) -> f64 {
        self.config.final_factor.unwrap_or(0.0)
    }

    /// The share of the steps after warm-up that lies behind step `t`.
    fn progress(&self, t: f64) -> f64 {
        ((t - self.warmup) / (self.total - self.warmup).max(1.0)).min(1.0)
    }
}

/// Half a cosine from `start` at progress 0 to `end` at progress 1.
fn anneal(start: f64, end: f64, progress: f64) -> f64 {
    end + (start - end) * (1.0 + (PI * progress).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(config: ScheduleConfig) -> Schedule {
        Schedule::new(&config, 2.0, 10, 10)
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12 * b.abs().max(1.0), "{a} is not {b}");
    }

    #[test]
    fn constant_and_warmup() {
        let s = schedule(ScheduleConfig {
            warmup_epochs: 0.5,
            warmup_from: 0.1,
            ..ScheduleConfig::constant()
        });
        assert_eq!(s.warmup_steps(), 5);
        close(s.lr(0), 2.0 * (0.1 + 0.9 / 5.0));
        close(s.lr(4), 2.0);
        close(s.lr(99), 2.0);
        let s = schedule(ScheduleConfig {
            warmup_steps: Some(4),
            ..ScheduleConfig::constant()
        });
        close(s.lr(0), 0.5);
        close(s.lr(3), 2.0);
        let s = schedule(ScheduleConfig {
            warmup_steps: Some(4000),
            ..ScheduleConfig::cosine()
        });
        close(s.lr(99), 2.0);
    }

    #[test]
    fn cosine_is_half_a_cosine_after_the_warmup() {
        let s = schedule(ScheduleConfig {
            warmup_epochs: 2.0,
            final_factor: Some(1e-3),
            ..ScheduleConfig::cosine()
        });
        close(s.lr(20), 2.0);
        close(s.lr(60), 2.0 * (1.0 + 1e-3) / 2.0);
        close(s.lr(100), 2.0 * 1e-3);
        assert!((20..99).all(|t| s.lr(t) > s.lr(t + 1)));
    }

    #[test]
    fn linear_is_a_line_after_the_warmup() {
        let s = schedule(ScheduleConfig {
            warmup_epochs: 2.0,
            warmup_from: 0.2,
            final_factor: Some(0.1),
            ..ScheduleConfig::linear()
        });
        close(s.lr(9), 2.0 * (0.2 + 0.8 / 2.0));
        close(s.lr(19), 2.0);
        close(s.lr(20), 2.0);
        close(s.lr(40), 2.0 * (0.1 + 0.9 * 0.75));
        close(s.lr(100), 0.2);
        let s = schedule(ScheduleConfig::linear());
        close(s.lr(25), 1.5);
        close(s.lr(99), 0.02);
    }

    #[test]
    fn step_drops_at_its_milestones() {
        let s = schedule(ScheduleConfig::step());
        close(s.lr(59), 2.0);
        close(s.lr(60), 0.4);
        close(s.lr(75), 0.08);
        close(s.lr(90), 0.016);
    }

    #[test]
    fn one_cycle_is_pytorchs() {
        // torch.optim.lr_scheduler.OneCycleLR(max_lr=2, total_steps=100), torch 2.x, at steps 0, 10, 29, 30, 60, 99.
        let s = schedule(ScheduleConfig::one_cycle());
        for (step, expected) in [
            (0, 0.08),
            (10, 0.5903278969282015),
            (29, 2.0),
            (30, 1.9989930705690486),
            (60, 1.1785601805710575),
            (99, 8e-06),
        ] {
            assert!(
                (s.lr(step) - expected).abs() < 1e-9,
                "{step}: {} is not {expected}",
                s.lr(step)
            );
        }
    }
}
