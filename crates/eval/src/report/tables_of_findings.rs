//! Tables of what a run may measure beyond its headline: several seeds, probes at their optimum, robustness.

use super::format::{NONE, arm_title, count, optional, percent, points, points_range};
use super::tables::Table;
use crate::results::{ArmResult, Results};
use crate::seeds::{Spread, Verdict};

/// `52.31 % ± 0.40`: mean and standard deviation over seeds, in per cent.
pub(crate) fn spread(spread: &Spread) -> String {
    match spread.deviation.filter(|deviation| deviation.is_finite()) {
        Some(deviation) => format!("{} ± {:.2}", percent(spread.mean), 100.0 * deviation),
        None => percent(spread.mean),
    }
}

/// Every arm over all seeds, with its difference to the reference. `None` for one seed.
pub(crate) fn seeds(results: &Results) -> Option<Table> {
    let summary = results.seeds.as_ref()?;
    let reference = super::story::reference(results)?;
    let list: Vec<String> = summary.seeds.iter().map(u64::to_string).collect();
    let caption = format!(
        "Test top-1 over {} seeds ({}) on {}: mean ± standard deviation. Intervals: 95 %, over seeds and test images \
         (bootstrap of both); differences in percentage points.",
        summary.seeds.len(),
        list.join(", "),
        results.dataset.label()
    );
    let head = [
        "Arm",
        "Test top\u{2011}1",
        "Lowest",
        "Highest",
        "Difference",
        "Interval",
        "Verdict",
    ];
    let mut table = Table::new(caption, &head, 1);
    for (name, _) in results.arms_in_order() {
        let Some(top1) = summary.arms.get(name).and_then(|arm| arm.get("top1")) else {
            continue;
        };
        let low = top1.values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = top1
            .values
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        let mut cells = vec![arm_title(name), spread(top1), percent(low), percent(high)];
        cells.extend(
            match summary.comparisons.get(&format!("{name}-{reference}")) {
                Some(paired) => [
                    points(paired.difference.mean),
                    points_range(paired.low, paired.high),
                    match paired.verdict {
                        Verdict::TooFewSeeds => "none: too few seeds",
                        Verdict::Better => "better",
                        Verdict::Worse => "worse",
                        Verdict::Undecided => "open",
                    }
                    .to_owned(),
                ],
                None => [NONE, NONE, NONE].map(str::to_owned),
            },
        );
        table.push(cells, false);
    }
    (!table.rows.is_empty()).then_some(table)
}

/// A column: its head, and its cell for an arm.
type Column = (String, Box<dyn Fn(&ArmResult) -> Option<f64>>);

/// Probes at their optimum, corruptions, near-duplicates: the columns that any arm has. `None` if there are none.
pub(crate) fn findings(results: &Results) -> Option<Table> {
    let mut columns: Vec<Column> = Vec::new();
    let mut notes = Vec::new();
    let named = [
        ("lbfgs", "Optimal probe"),
        ("lbfgs_1pct", "1 % of labels"),
        ("lbfgs_10pct", "10 % of labels"),
        ("lbfgs_noise", "Noisy labels"),
    ];
    for (key, title) in named {
        let cell = move |arm: &ArmResult| arm.probes.get(key).map(|probe| probe.top1);
        columns.push((title.to_owned(), Box::new(cell)));
    }
    let corruption = |arm: &ArmResult| arm.corruption.as_ref().map(|found| found.mean_error);
    columns.push(("Corrupted: mean error".to_owned(), Box::new(corruption)));
    let unique = |arm: &ArmResult| arm.duplicates.as_ref().map(|found| found.top1);
    columns.push((
        "Without near\u{2011}duplicates".to_owned(),
        Box::new(unique),
    ));
    columns.retain(|(_, cell)| results.arms.values().any(|arm| cell(arm).is_some()));
    if columns.is_empty() {
        return None;
    }
    if results.arms.values().any(|arm| !arm.probes.is_empty()) {
        notes.push("probes are linear, at the optimum of their loss (L-BFGS), regularised on the validation split".to_owned());
    }
    if let Some(found) = results
        .arms
        .values()
        .find_map(|arm| arm.corruption.as_ref())
    {
        notes.push(format!(
            "corruptions: {} kinds at five severities on {} test images",
            found.corruptions.len(),
            count(found.images)
        ));
    }
    if let Some(found) = results
        .arms
        .values()
        .find_map(|arm| arm.duplicates.as_ref())
    {
        notes.push(format!(
            "{} test images repeat a training image by their pixels",
            count(found.by_pixels)
        ));
    }
    let caption = format!(
        "Beyond the headline, on the test split of {}: {}.",
        results.dataset.label(),
        notes.join("; ")
    );
    let mut head = vec!["Arm"];
    head.extend(columns.iter().map(|(title, _)| title.as_str()));
    let mut table = Table::new(caption, &head, 1);
    for (name, arm) in results.arms_in_order() {
        let mut cells = vec![arm_title(name)];
        cells.extend(columns.iter().map(|(_, cell)| optional(cell(arm), percent)));
        table.push(cells, false);
    }
    Some(table)
}
