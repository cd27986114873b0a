//! Tables of what a run measured on request: statistics over seeds, probes at their optimum, corruptions, near-duplicates, and the
//! planned budgets.

use super::format::{NONE, arm_title, count, percent, points, points_range, scientific, shorten};
use super::tables::Table;
use crate::comparison::wilson_interval;
use crate::results::{DatasetRecord, Results};
use serde_json::Value;

use crate::seeds::{SEEDS_FOR_A_VERDICT, SeedsComparison, SeedsSummary, Spread, Verdict};

/// All of them that there is something for, in the order of the report.
pub(crate) fn tables(results: &Results) -> Vec<Table> {
    let mut all = Vec::new();
    if let Some(seeds) = &results.seeds {
        all.push(seeds_arms(results, seeds));
        all.extend(seeds_differences(seeds));
    }
    all.extend(
        [
            probes(results),
            few_shot(results),
            corruption(results),
            duplicates(results),
            planned(results),
        ]
        .into_iter()
        .flatten(),
    );
    all
}

/// The answer over seeds in one sentence. `None` without a comparison of the contrastive arm with the baseline.
pub(crate) fn lead(results: &Results) -> Option<String> {
    let seeds = results.seeds.as_ref()?;
    let found = seeds.comparisons.get("contrastive-baseline")?;
    let top1 = |arm: &str| Some(spread(seeds.arms.get(arm)?.get("top1")?, percent));
    Some(format!(
        "Over {} seeds and {} test images of {}, the contrastive arm reached {} top-1 and the baseline {}: a difference of {} points (95 % interval over seeds and test images {}); {}.",
        seeds.seeds.len(),
        count(found.images),
        results.dataset.label(),
        top1("contrastive")?,
        top1("baseline")?,
        points(found.difference.mean),
        points_range(found.low, found.high),
        verdict(found, seeds.seeds.len()),
    ))
}

/// What may be said of a difference.
fn verdict(found: &SeedsComparison, seeds: usize) -> String {
    match found.verdict {
        Verdict::TooFewSeeds => {
            format!("{seeds} seeds give no verdict, it takes {SEEDS_FOR_A_VERDICT}")
        }
        Verdict::Better => "better".to_owned(),
        Verdict::Worse => "worse".to_owned(),
        Verdict::Undecided => "undecided: the interval holds zero".to_owned(),
    }
}

/// `mean ± sample standard deviation`.
fn spread(spread: &Spread, show: fn(f64) -> String) -> String {
    match spread.deviation {
        Some(deviation) => format!("{} ± {:.2}", show(spread.mean), 100.0 * deviation),
        None => show(spread.mean),
    }
}

const MEASURES: [(&str, &str); 8] = [
    ("top1", "Test top\u{2011}1"),
    ("top1_without_duplicates", "Without near-duplicates"),
    ("knn_top1", "kNN top\u{2011}1"),
    ("lbfgs_top1", "Probe at its optimum"),
    ("lbfgs_1pct_top1", "1 % of the labels"),
    ("few_shot_5_top1", "5 images of each class"),
    ("corruption_error", "Error under corruption"),
    ("ece", "ECE"),
];

fn seeds_arms(results: &Results, seeds: &SeedsSummary) -> Table {
    let list: Vec<String> = seeds.seeds.iter().map(u64::to_string).collect();
    let caption = format!(
        "Over the seeds {} on the test split of {}: mean ± sample standard deviation.",
        list.join(", "),
        results.dataset.label()
    );
    let measured = |key: &str| seeds.arms.values().any(|arm| arm.contains_key(key));
    let columns: Vec<_> = MEASURES.iter().filter(|(key, _)| measured(key)).collect();
    let head: Vec<&str> = ["Arm"]
        .into_iter()
        .chain(columns.iter().map(|(_, title)| *title))
        .collect();
    let mut table = Table::new(caption, &head, 1);
    for (name, _) in results.arms_in_order() {
        let Some(found) = seeds.arms.get(name) else {
            continue;
        };
        let mut cells = vec![arm_title(name)];
        cells.extend(columns.iter().map(|(key, _)| {
            found
                .get(*key)
                .map_or_else(|| NONE.to_owned(), |found| spread(found, percent))
        }));
        table.push(cells, false);
    }
    table
}

fn seeds_differences(seeds: &SeedsSummary) -> Option<Table> {
    let caption = format!(
        "Paired differences in test top-1 over {} seeds, in percentage points. Intervals: 95 %, bootstrap over seeds and over test \
         images (the same draw of images for all seeds).",
        seeds.seeds.len()
    );
    let head = [
        "Difference",
        "Mean ± deviation",
        "Interval",
        "By seed",
        "Verdict",
    ];
    let mut table = Table::new(caption, &head, 1);
    for (name, found) in &seeds.comparisons {
        let deviation = found.difference.deviation;
        let by_seed: Vec<String> = found.difference.values.iter().map(|d| points(*d)).collect();
        table.push(
            vec![
                name.replacen('-', " − ", 1),
                deviation.map_or_else(
                    || points(found.difference.mean),
                    |deviation| {
                        format!(
                            "{} ± {:.2}",
                            points(found.difference.mean),
                            100.0 * deviation
                        )
                    },
                ),
                points_range(found.low, found.high),
                by_seed.join(", "),
                verdict(found, seeds.seeds.len()),
            ],
            false,
        );
    }
    (!table.rows.is_empty()).then_some(table)
}

fn probes(results: &Results) -> Option<Table> {
    let caption = "Linear probes at the optimum of their loss (L-BFGS on standardised features; λ chosen on the validation split), \
                   on the test split. Labels are those that the probe was given: the encoder below it was trained as the recipe says, \
                   as a rule with all of them. Arms of one encoder have the same probes."
        .to_owned();
    let grid: Vec<f64> = (results.recipe["evaluate"]["lbfgs_lambdas"].as_array())
        .map_or_else(Vec::new, |all| {
            all.iter().filter_map(Value::as_f64).collect()
        });
    let head = [
        "Arm",
        "Probe",
        "Labels",
        "Made wrong",
        "λ",
        "Validation top\u{2011}1",
        "Test top\u{2011}1",
        "ECE",
        "Largest gradient",
    ];
    let mut table = Table::new(caption, &head, 2);
    for (name, arm) in results.arms_in_order() {
        for (probe, found) in &arm.probes {
            let gradient = format!("{:.0e}", found.gradient);
            table.push(
                vec![
                    arm_title(name),
                    probe.clone(),
                    count(found.training_images),
                    percent(found.label_noise),
                    lambda(found.lambda, &grid),
                    percent(found.validation_top1),
                    percent(found.top1),
                    percent(found.ece),
                    if found.converged {
                        gradient
                    } else {
                        format!("{gradient}, not converged")
                    },
                ],
                false,
            );
        }
    }
    (!table.rows.is_empty()).then_some(table)
}

/// λ, and whether a wider grid might have chosen another.
fn lambda(chosen: f64, grid: &[f64]) -> String {
    let text = if chosen >= 1e-3 {
        format!("{chosen}")
    } else {
        format!("{chosen:.0e}")
    };
    let inside = |other: fn(&f64, &f64) -> bool| grid.iter().any(|x| other(x, &chosen));
    if grid.is_empty() || (inside(f64::lt) && inside(f64::gt)) {
        text
    } else {
        format!("{text}, an end of the grid")
    }
}

fn few_shot(results: &Results) -> Option<Table> {
    let arms = results.arms_in_order();
    let (_, first) = arms.iter().find(|(_, arm)| !arm.few_shot.is_empty())?;
    let caption = format!(
        "Few-shot: top-1 on the test split from that many labelled training images of each class, by the nearest class mean in the \
         features; mean ± sample standard deviation over {} draws.",
        count(first.few_shot[0].draws)
    );
    let shots: Vec<String> = (first.few_shot.iter())
        .map(|found| match found.shots {
            1 => "1 image".to_owned(),
            shots => format!("{} images", count(shots)),
        })
        .collect();
    let head: Vec<&str> = ["Arm"]
        .into_iter()
        .chain(shots.iter().map(String::as_str))
        .collect();
    let mut table = Table::new(caption, &head, 1);
    for (name, arm) in &arms {
        if arm.few_shot.is_empty() {
            continue;
        }
        let mut cells = vec![arm_title(name)];
        cells.extend(arm.few_shot.iter().map(|found| match found.deviation {
            Some(deviation) => format!("{} ± {:.2}", percent(found.top1), 100.0 * deviation),
            None => percent(found.top1),
        }));
        table.push(cells, false);
    }
    Some(table)
}

fn corruption(results: &Results) -> Option<Table> {
    let arms = results.arms_in_order();
    let (_, first) = arms
        .iter()
        .find_map(|(name, arm)| Some((name, arm.corruption.as_ref()?)))?;
    let caption = format!(
        "Error of the headline head under {} common corruptions at five severities, on the first {} test images{}. Not divided by another \
         network's errors.",
        first.corruptions.len(),
        count(first.images),
        wilson_interval(first.clean_error, first.images).map_or_else(
            String::new,
            |(low, high)| format!(
                " (95 % interval of the first clean error {} to {})",
                percent(low),
                percent(high)
            )
        )
    );
    let mut head = vec!["Arm", "Clean", "Mean"];
    head.extend(first.families.keys().map(String::as_str));
    let mut table = Table::new(caption, &head, 1);
    for (name, arm) in &arms {
        let Some(found) = &arm.corruption else {
            continue;
        };
        let mut cells = vec![
            arm_title(name),
            percent(found.clean_error),
            percent(found.mean_error),
        ];
        cells.extend(found.families.values().map(|error| percent(*error)));
        table.push(cells, false);
    }
    Some(table)
}

fn duplicates(results: &Results) -> Option<Table> {
    let caption = "Test images that repeat a training image (alike as a whole and in detail, mirrored or moved by up to two pixels), found \
                   on pixels and through an arm's features, and top-1 without them."
        .to_owned();
    let head = [
        "Arm",
        "By pixels",
        "Further, through features",
        "Images without any",
        "Top\u{2011}1 without pixels' ones",
        "Top\u{2011}1 without any",
        "Top\u{2011}1 on them",
    ];
    let mut table = Table::new(caption, &head, 1);
    for (name, arm) in results.arms_in_order() {
        let Some(found) = &arm.duplicates else {
            continue;
        };
        table.push(
            vec![
                arm_title(name),
                count(found.by_pixels),
                count(found.by_features),
                count(found.images),
                percent(found.top1_without_pixels),
                percent(found.top1),
                found
                    .top1_duplicates
                    .map_or_else(|| NONE.to_owned(), percent),
            ],
            false,
        );
    }
    (!table.rows.is_empty()).then_some(table)
}

fn planned(results: &Results) -> Option<Table> {
    let budget = results.budget.as_ref()?;
    let caption = match &budget.equalised_by {
        Some(by) => format!("What the arms were planned to cost, before step 0; made equal to the baseline by {by}."),
        None => "What the arms were planned to cost, before step 0; the recipe asks for no equal budget.".to_owned(),
    };
    let head = [
        "Arm",
        "Encoder epochs",
        "Head epochs",
        "Images seen",
        "Multiply-adds",
        "Of the baseline's",
    ];
    let mut table = Table::new(caption, &head, 1);
    let base = budget
        .arms
        .get("baseline")
        .map(|arm| arm.multiply_adds as f64);
    for (name, _) in results.arms_in_order() {
        let Some(arm) = budget.arms.get(name) else {
            continue;
        };
        table.push(
            vec![
                arm_title(name),
                count(arm.encoder_epochs),
                count(arm.head_epochs),
                count(arm.images_seen),
                scientific(arm.multiply_adds),
                base.map_or_else(
                    || NONE.to_owned(),
                    |base| format!("{:.2}", arm.multiply_adds as f64 / base),
                ),
            ],
            false,
        );
    }
    (!table.rows.is_empty()).then_some(table)
}

/// What several seeds found together, as a terminal shows it.
///
/// ```text
/// CIFAR-10, 10,000 test images, 3 seeds: 0, 1, 2
///
/// arm                       top-1 (mean ± sample standard deviation)
/// Baseline                  66.10 % ± 1.02
///
/// difference                points (95 % interval over seeds and test images)
/// contrastive-baseline      −4.12 (−9.00 to +0.71)
///                           3 seeds give no verdict, it takes 5
/// ```
pub fn seeds_table(dataset: &DatasetRecord, summary: &SeedsSummary) -> String {
    let seeds: Vec<String> = summary.seeds.iter().map(u64::to_string).collect();
    let plain = |text: String| text.replace('\u{a0}', " ");
    let mut text = format!(
        "{}, {} test images, {} seeds: {}\n\n",
        shorten(&dataset.label(), 40),
        count(dataset.test_images),
        seeds.len(),
        seeds.join(", ")
    );
    text.push_str(&format!(
        "{:<26}{}\n",
        "arm", "top-1 (mean ± sample standard deviation)"
    ));
    for (name, found) in &summary.arms {
        if let Some(top1) = found.get("top1") {
            text.push_str(&format!(
                "{:<26}{}\n",
                arm_title(name),
                plain(spread(top1, percent))
            ));
        }
    }
    text.push_str(&format!(
        "\n{:<26}{}\n",
        "difference", "points (95 % interval over seeds and test images)"
    ));
    for (name, found) in &summary.comparisons {
        text.push_str(&format!(
            "{:<26}{} ({})\n{:<26}{}\n",
            name,
            points(found.difference.mean),
            points_range(found.low, found.high),
            "",
            verdict(found, seeds.len()),
        ));
    }
    text
}
