//! What the comparison is to reach: ratios of medians, each beside its target.

use serde::Serialize;

use super::{
    versus::{Measured, Section, Side},
    worker::Task,
};
use crate::cli::PrecisionChoice::{self, Bf16, F32};

/// A ratio (or a rate) and its target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Goal {
    pub what: String,
    pub value: f64,
    /// None where nothing was aimed at.
    pub target: Option<Target>,
    pub reached: Option<bool>,
}

/// The bound of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    fn new(what: impl Into<String>, value: f64, target: Option<Target>) -> Self {
        let reached = target.map(|target| match target {
            Target::AtLeast(bound) => value >= bound,
            Target::AtMost(bound) => value <= bound,
        });
        Self {
            what: what.into(),
            value,
            target,
            reached,
        }
    }
}

/// The goals of one case.
pub fn goals(section: Section, network: Option<&str>, measured: &[Measured]) -> Vec<Goal> {
    let torchvisions = network == Some("r50");
    match section {
        Section::Train => {
            let (best, f32s) = if torchvisions { (2.0, 1.5) } else { (1.0, 1.2) };
            let mut goals = speed(measured, Some(best));
            goals.extend(f32_to_f32(measured, f32s));
            goals.extend([F32, Bf16].into_iter().filter_map(|p| memory(measured, p)));
            goals
        }
        Section::Features => speed(measured, torchvisions.then_some(2.0)),
        Section::Threads => threads(measured),
        Section::Avx2 => f32_to_f32(measured, 1.2).into_iter().collect(),
        Section::Data => data(measured),
    }
}

fn find(measured: &[Measured], side: Side, precision: PrecisionChoice) -> Option<&Measured> {
    let of = |m: &&Measured| m.entry.side == side && m.entry.precision == precision;
    measured.iter().find(of)
}

/// The better of a side's precisions.
fn best(measured: &[Measured], side: Side) -> Option<&Measured> {
    let own = measured.iter().filter(|m| m.entry.side == side);
    own.max_by(|a, b| a.rates.median.total_cmp(&b.rates.median))
}

fn speed(measured: &[Measured], target: Option<f64>) -> Vec<Goal> {
    let (Some(own), Some(peer)) = (best(measured, Side::Own), best(measured, Side::Torch)) else {
        return Vec::new();
    };
    let (ours, theirs) = (own.entry.precision, peer.entry.precision);
    vec![Goal::new(
        format!("speed: {ours} to PyTorch's faster, {theirs}"),
        own.rates.median / peer.rates.median,
        target.map(Target::AtLeast),
    )]
}

fn f32_to_f32(measured: &[Measured], target: f64) -> Option<Goal> {
    let (own, peer) = (
        find(measured, Side::Own, F32)?,
        find(measured, Side::Torch, F32)?,
    );
    let ratio = own.rates.median / peer.rates.median;
    Some(Goal::new(
        "speed: f32 to f32",
        ratio,
        Some(Target::AtLeast(target)),
    ))
}

fn memory(measured: &[Measured], precision: PrecisionChoice) -> Option<Goal> {
    let own = find(measured, Side::Own, precision)?.peak_bytes?;
    let peer = find(measured, Side::Torch, precision)?.peak_bytes?;
    let what = format!("peak memory: {precision} to {precision}");
    Some(Goal::new(
        what,
        own as f64 / peer as f64,
        Some(Target::AtMost(1.0)),
    ))
}

/// What the second thread gives, against what it gives a loop in registers.
fn threads(measured: &[Measured]) -> Vec<Goal> {
    let gain = |task: Task, precision: PrecisionChoice| {
        let at = |threads: usize| {
            let of = |m: &&Measured| {
                (m.entry.task, m.entry.precision, m.entry.threads) == (task, precision, threads)
            };
            measured.iter().find(of).map(|m| m.rates.median)
        };
        Some(at(2)? / at(1)?)
    };
    let Some(registers) = gain(Task::Fma, F32) else {
        return Vec::new();
    };
    let mut goals = vec![Goal::new("second thread: registers alone", registers, None)];
    for precision in [F32, Bf16] {
        if let Some(gain) = gain(Task::Train, precision) {
            let what = format!("second thread: {precision} {gain:.2}×, to that");
            let target = Some(Target::AtLeast(0.9));
            goals.push(Goal::new(what, gain / registers, target));
        }
    }
    goals
}

fn data(measured: &[Measured]) -> Vec<Goal> {
    let Some(own) = find(measured, Side::Own, F32) else {
        return Vec::new();
    };
    let rate = own.rates.median;
    let mut goals = vec![Goal::new(
        "views/s on one thread",
        rate,
        Some(Target::AtLeast(20_000.0)),
    )];
    if let Some(peer) = find(measured, Side::Torch, F32) {
        let ratio = rate / peer.rates.median;
        goals.push(Goal::new(
            "speed: to torchvision on PIL images",
            ratio,
            None,
        ));
    }
    goals
}

#[cfg(test)]
pub mod tests {
    use super::super::{rates::Rates, versus::Entry};
    use super::*;

    /// A contender with a median and a peak.
    pub fn measured(
        side: Side,
        task: Task,
        precision: PrecisionChoice,
        threads: usize,
        median: f64,
        peak: u64,
    ) -> Measured {
        Measured {
            entry: Entry {
                side,
                task,
                precision,
                threads,
                avx2: false,
            },
            steps: 1,
            rates: Rates::of(vec![median * 0.9, median, median * 1.1]),
            peak_bytes: Some(peak),
        }
    }

    /// Four contenders of a training step.
    pub fn four() -> Vec<Measured> {
        [
            (Side::Own, F32, 300.0, 900),
            (Side::Torch, F32, 210.0, 1000),
            (Side::Own, Bf16, 600.0, 1100),
            (Side::Torch, Bf16, 300.0, 1000),
        ]
        .map(|(side, precision, rate, peak)| {
            measured(side, Task::Train, precision, 2, rate, peak << 20)
        })
        .to_vec()
    }

    fn of(goals: &[Goal]) -> Vec<(f64, Option<bool>)> {
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        goals.iter().map(|g| (round(g.value), g.reached)).collect()
    }

    #[test]
    fn training_is_held_against_the_faster_and_against_f32_and_in_memory() {
        let goals = goals(Section::Train, Some("r50"), &four());
        assert_eq!(
            of(&goals),
            [
                (2.0, Some(true)),
                (1.429, Some(false)),
                (0.9, Some(true)),
                (1.1, Some(false))
            ]
        );
        assert!(goals[0].what.contains("bf16 to PyTorch's faster, bf16"));
    }

    #[test]
    fn a_cifar_stem_has_targets_of_its_own() {
        let goals = goals(Section::Train, Some("r18-cifar"), &four());
        assert_eq!(goals[0].target, Some(Target::AtLeast(1.0)));
        assert_eq!(goals[1].target, Some(Target::AtLeast(1.2)));
        assert_eq!(goals[1].reached, Some(true));
    }

    #[test]
    fn the_faster_of_pytorchs_two_counts() {
        let mut four = four();
        four[1] = measured(Side::Torch, Task::Train, F32, 2, 400.0, 1);
        let goals = goals(Section::Features, Some("r50"), &four);
        assert_eq!(of(&goals), [(1.5, Some(false))]);
        assert!(goals[0].what.ends_with("faster, f32"));
    }

    #[test]
    fn a_second_thread_is_held_against_the_registers() {
        let one_and_two = |task, precision, one, two| {
            [(1, one), (2, two)].map(|(n, rate)| measured(Side::Own, task, precision, n, rate, 1))
        };
        let all = [
            one_and_two(Task::Train, F32, 100.0, 180.0),
            one_and_two(Task::Train, Bf16, 100.0, 160.0),
            one_and_two(Task::Fma, F32, 50e9, 95e9),
        ]
        .concat();
        let goals = goals(Section::Threads, Some("r50"), &all);
        assert_eq!(
            of(&goals),
            [(1.9, None), (0.947, Some(true)), (0.842, Some(false))]
        );
    }

    #[test]
    fn views_have_an_absolute_target() {
        let rows = [(Side::Own, 25_000.0), (Side::Torch, 2_500.0)]
            .map(|(side, rate)| measured(side, Task::Data, F32, 1, rate, 1));
        let goals = goals(Section::Data, None, &rows);
        assert_eq!(of(&goals), [(25_000.0, Some(true)), (10.0, None)]);
    }

    #[test]
    fn without_memory_there_is_no_goal_of_it() {
        let mut four = four();
        for m in &mut four {
            m.peak_bytes = None;
        }
        assert_eq!(goals(Section::Train, Some("r50"), &four).len(), 2);
    }
}
