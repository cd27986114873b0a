//! The comparison as text: 80 columns for a terminal, Markdown for a README.

use super::{
    goals::{Goal, Target},
    rates::Rates,
    versus::{Case, Entry, Measured, Report, Section, Side},
    worker::Task,
};
use crate::cli::PrecisionChoice::{Bf16, F32};

/// For a terminal.
pub fn terminal(report: &Report) -> String {
    let mut text = String::new();
    for line in [&report.machine, &report.peer] {
        text += &crate::text::wrap(line, 80).join("\n");
        text += "\n";
    }
    text += &format!("rounds: {}; medians (lowest–highest)\n", report.rounds);
    for case in &report.cases {
        let memory = match case.section {
            Section::Train => "peak memory",
            _ => "",
        };
        text += &format!("\n{:<60}{memory:>11}\n", heading(case));
        for measured in &case.contenders {
            text += &format!(
                "  {:<28}{:>11} {:<19}{:>10}\n",
                contender(case.section, &measured.entry),
                number(measured.rates.median),
                spread(&measured.rates),
                match case.section {
                    Section::Train => megabytes(measured, " MB"),
                    _ => String::new(),
                }
            );
        }
        for goal in &case.goals {
            text += &format!(
                "  {:<48}{:>10}  {:<10}{}\n",
                goal.what,
                value(goal),
                bound(goal),
                mark(goal)
            );
        }
    }
    // Nothing stands beyond the last column.
    text.lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

/// For a README: what was measured, the ratios with their targets, and how to repeat it.
pub fn markdown(report: &Report) -> String {
    let mut text = format!(
        "{}{}; {}. Rounds: {}; the contenders alternate in each, and medians are compared (lowest–highest); every contender is a \
         process of its own; this project's is held to as many processors as it computes with threads. PyTorch runs eagerly, channels last, \
         its bf16 by autocast; here 3×3 windows take transformed tiles (Winograd), and feature extraction packs the weights once for all batches. Peak memory is what the step holds above the process without it.\n",
        report.machine,
        (report.commit.as_deref())
            .map_or_else(String::new, |commit| format!("; commit {}", short(commit))),
        report.peer,
        report.rounds
    );
    text += "\n| | PyTorch f32 | PyTorch bf16 | here f32 | here bf16 |\n|---|---|---|---|---|\n";
    for case in &report.cases {
        text += &rows(case);
    }
    text += "\n| ratio | measured | target | reached |\n|---|---|---|---|\n";
    for case in &report.cases {
        for goal in &case.goals {
            text += &format!(
                "| {}; {} | {} | {} | {} |\n",
                markdown_heading(case),
                goal.what,
                value(goal),
                bound(goal),
                mark(goal)
            );
        }
    }
    text += &format!("\n```text\n{}\n```", report.command);
    text
}

/// Nine digits of a revision, and whether files differ from it.
fn short(commit: &str) -> String {
    let (digits, dirty) = match commit.strip_suffix("-dirty") {
        Some(digits) => (digits, " with changes"),
        None => (commit, ""),
    };
    format!("{}{dirty}", digits.get(..9).unwrap_or(digits))
}

/// A case's lines of the first table: its rates, and its memory where that counts.
fn rows(case: &Case) -> String {
    let columns = [
        (Side::Torch, F32),
        (Side::Torch, Bf16),
        (Side::Own, F32),
        (Side::Own, Bf16),
    ];
    let row = |name: &str, of: &dyn Fn(&Measured) -> bool, cell: &dyn Fn(&Measured) -> String| {
        let cells = columns.map(|(side, precision)| {
            let here =
                |m: &&Measured| m.entry.side == side && m.entry.precision == precision && of(m);
            case.contenders
                .iter()
                .find(here)
                .map_or_else(String::new, cell)
        });
        format!("| {name} | {} |\n", cells.join(" | "))
    };
    let rate = |m: &Measured| format!("{} ({})", number(m.rates.median), spread_of(&m.rates));
    let heading = format!("{}, {}", markdown_heading(case), unit(case.section));
    match case.section {
        Section::Threads => {
            let threads = |name: &str, task: Task, n: usize| {
                row(
                    name,
                    &|m| m.entry.task == task && m.entry.threads == n,
                    &rate,
                )
            };
            let base = format!("{}, {}", network(case), unit(case.section));
            threads(&format!("{base}, one thread"), Task::Train, 1)
                + &threads(&format!("{base}, two threads"), Task::Train, 2)
                + &threads(
                    "a loop in registers, operations/s, one thread",
                    Task::Fma,
                    1,
                )
                + &threads(
                    "a loop in registers, operations/s, two threads",
                    Task::Fma,
                    2,
                )
        }
        Section::Train => {
            row(&heading, &|_| true, &rate)
                + &row("the same, peak memory, MB", &|_| true, &|m| {
                    megabytes(m, "")
                })
        }
        Section::Data => {
            let heading = format!("{heading}; torchvision's transforms on PIL images");
            row(&heading, &|_| true, &rate)
        }
        _ => row(&heading, &|_| true, &rate),
    }
}

fn heading(case: &Case) -> String {
    let network = case.network.map_or_else(String::new, |n| format!("{n}, "));
    let title = case.section.title();
    format!(
        "{network}batch {}: {title}, {}",
        case.batch,
        unit(case.section)
    )
}

/// The network in code type.
fn network(case: &Case) -> String {
    match case.network {
        Some(name) => format!("`{name}`, batch {}", case.batch),
        None => "one thread".to_owned(),
    }
}

fn markdown_heading(case: &Case) -> String {
    format!("{}: {}", network(case), case.section.title())
}

fn unit(section: Section) -> &'static str {
    match section {
        Section::Data => "views/s",
        _ => "images/s",
    }
}

fn contender(section: Section, entry: &Entry) -> String {
    let threads = match (section, entry.threads) {
        (Section::Threads, 1) => ", 1 thread".to_owned(),
        (Section::Threads, n) => format!(", {n} threads"),
        _ => String::new(),
    };
    match (entry.task, entry.side) {
        (Task::Fma, _) => format!("registers{threads}, op/s"),
        (Task::Data, Side::Own) => "this project".to_owned(),
        (Task::Data, Side::Torch) => "torchvision on PIL images".to_owned(),
        (_, side) => format!("{} {}{threads}", side.name(), entry.precision),
    }
}

/// Four digits or so: `1.94e11` is `194 G`.
pub fn number(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.1} G", v / 1e9),
        v if v >= 999.95 => {
            let whole = format!("{v:.0}");
            let cut = whole.len() - 3;
            match cut {
                ..=3 => format!("{},{}", &whole[..cut], &whole[cut..]),
                _ => whole,
            }
        }
        v => format!("{v:.1}"),
    }
}

fn spread_of(rates: &Rates) -> String {
    format!("{}–{}", number(rates.lowest), number(rates.highest))
}

fn spread(rates: &Rates) -> String {
    format!("({})", spread_of(rates))
}

fn megabytes(measured: &Measured, unit: &str) -> String {
    let bytes = measured.peak_bytes;
    bytes.map_or_else(String::new, |bytes| format!("{}{unit}", bytes / 1_000_000))
}

fn value(goal: &Goal) -> String {
    match goal.value {
        v if v >= 1000.0 => number(v),
        v => format!("{v:.2}×"),
    }
}

fn bound(goal: &Goal) -> String {
    let short = |bound: f64| match bound {
        b if b >= 1000.0 => number(b),
        b => format!("{b:.1}×"),
    };
    match goal.target {
        Some(Target::AtLeast(bound)) => format!("≥ {}", short(bound)),
        Some(Target::AtMost(bound)) => format!("≤ {}", short(bound)),
        None => String::new(),
    }
}

fn mark(goal: &Goal) -> &'static str {
    match goal.reached {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::goals::{
        goals,
        tests::{four, measured},
    };
    use super::*;

    fn report() -> Report {
        let case = |section, network, batch, contenders: Vec<Measured>| Case {
            goals: goals(section, network, &contenders),
            section,
            network,
            batch,
            contenders,
        };
        let one_and_two = |task, precision, rate: f64| {
            [1, 2].map(|n| measured(Side::Own, task, precision, n, rate * n as f64, 1))
        };
        let threads = [
            one_and_two(Task::Train, F32, 150.0),
            one_and_two(Task::Train, Bf16, 1_234.5),
            one_and_two(Task::Fma, F32, 1e11),
        ];
        let views = [(Side::Own, 25_000.0), (Side::Torch, 2_800.0)]
            .map(|(side, rate)| measured(side, Task::Data, F32, 1, rate, 1));
        Report {
            machine:
                "some processor with a very long name that goes on and on, AVX-512, BF16, 2 threads"
                    .into(),
            commit: Some("0123456789abcdef0123456789abcdef01234567-dirty".into()),
            peer: "PyTorch 2.15.0+cpu (AVX512), torchvision 0.30.0".into(),
            rounds: 5,
            command: "cargo xtask bench --peer torch --rounds 5".into(),
            cases: vec![
                case(Section::Train, Some("r50-cifar"), 256, four()),
                case(Section::Threads, Some("r50"), 128, threads.concat()),
                case(Section::Data, None, 512, views.to_vec()),
            ],
        }
    }

    #[test]
    fn the_terminals_table_fits_80_columns() {
        let text = terminal(&report());
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
            assert_eq!(line, line.trim_end());
        }
        for part in [
            "r50-cifar, batch 256: training step",
            "(270.0–330.0)",
            "943 MB",
            "≥ 1.0×",
            "≤ 1.0×",
            "this project bf16, 1 thread       1,234 (1,111–1,358)\n",
            "registers, 2 threads, op/s      200.0 G (180.0 G–220.0 G)\n",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }

    #[test]
    fn every_row_of_the_markdown_has_its_cells() {
        let text = markdown(&report());
        for line in text.lines().filter(|line| line.starts_with('|')) {
            let cells = line.matches('|').count() - 1;
            assert!(cells == 5 || cells == 4, "{line}");
        }
        for part in [
            "| `r50-cifar`, batch 256: training step, images/s | 210.0 (189.0–231.0) | 300.0 (270.0–330.0) | 300.0 ",
            "| the same, peak memory, MB | 1048 | 1048 | 943 | 1153 |",
            "to PyTorch's faster, bf16 | 2.00× | ≥ 1.0× | yes |",
            "peak memory: bf16 to bf16 | 1.10× | ≤ 1.0× | no |",
            "views/s on one thread | 25,000 | ≥ 20,000 | yes |",
            "some processor",
            "PyTorch 2.15.0+cpu (AVX512)",
            "cargo xtask bench --peer torch --rounds 5",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }

    #[test]
    fn numbers_keep_about_four_digits() {
        for (value, text) in [
            (2.345, "2.3"),
            (999.94, "999.9"),
            (999.96, "1,000"),
            (25_000.4, "25,000"),
            (1_234_567.0, "1234567"),
            (1.944e11, "194.4 G"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
