//! The answer in words: one honest sentence, and what must be known with it.

use super::format::{arm_title, count, percent, points, points_range};
use crate::comparison::{Method, wilson_interval};
use crate::results::Results;

/// The arm that others are measured against: the baseline, else the first.
pub(crate) fn reference(results: &Results) -> Option<&str> {
    results.arms_in_order().first().map(|(name, _)| *name)
}

/// The comparison that the report is about: contrastive (else the first other arm) against the reference.
pub(crate) fn main_pair(results: &Results) -> Option<(&str, &str)> {
    let against = reference(results)?;
    let others: Vec<&str> = results
        .arms_in_order()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| *name != against)
        .collect();
    let arm = others
        .iter()
        .find(|name| **name == "contrastive")
        .or(others.first())?;
    Some((arm, against))
}

/// The answer in one sentence.
pub(crate) fn lead(results: &Results) -> String {
    let Some(against) = reference(results) else {
        return "No arm has been evaluated yet.".to_owned();
    };
    let test = |name: &str| results.arms.get(name).map(|arm| &arm.test);
    let top1 = |name: &str| test(name).map_or(f64::NAN, |test| test.classification.top1);
    let images = test(against).map_or(0, |test| test.images());
    let kind = if results.dataset.synthetic {
        "drawn test images"
    } else {
        "test images"
    };
    let opening = format!("On {} {kind} of {}", count(images), results.dataset.label());
    let Some((arm, against)) = main_pair(results) else {
        let interval =
            wilson_interval(top1(against), images).map_or_else(String::new, |(low, high)| {
                format!(
                    " (95 % interval over test images {} to {})",
                    percent(low),
                    percent(high)
                )
            });
        return format!(
            "{opening}, the {} arm reached {} top-1{interval}; one arm and one seed compare nothing.",
            arm_title(against).to_lowercase(),
            percent(top1(against)),
        );
    };
    let reached = format!(
        "{opening}, the {} arm reached {} top-1 and the {} {}",
        arm_title(arm).to_lowercase(),
        percent(top1(arm)),
        arm_title(against).to_lowercase(),
        percent(top1(against)),
    );
    match results.comparison(arm, against) {
        Some(comparison) if comparison.difference.is_finite() => format!(
            "{reached}: a difference of {} points (95 % interval over test images {}), and one seed gives no verdict.",
            points(comparison.difference),
            points_range(comparison.low, comparison.high),
        ),
        _ => format!(
            "{reached}; without test predictions of both there is no interval, and one seed gives no verdict."
        ),
    }
}

/// What must be read with the answer, most important first.
pub(crate) fn caveats(results: &Results) -> Vec<String> {
    let mut caveats = Vec::new();
    if results.dataset.synthetic {
        caveats.push(
            "The data set is SYNTHETIC: images drawn by the program. These figures show that the program works; they \
             say nothing about photographs."
                .to_owned(),
        );
    }
    caveats.extend(results.dataset.note.clone());
    caveats.extend(results.notes.iter().cloned());
    let Some((arm, against)) = main_pair(results) else {
        return caveats;
    };
    if let Some(comparison) = results.comparison(arm, against) {
        let how = match (comparison.method, comparison.only_first, comparison.only_second) {
            (Method::Paired, Some(first), Some(second)) => format!(
                "Image by image, {} were right only in the {} arm and {} only in the {}.",
                count(first),
                arm_title(arm).to_lowercase(),
                count(second),
                arm_title(against).to_lowercase()
            ),
            _ => "It was computed from the two accuracies alone, which makes it wider than a paired one.".to_owned(),
        };
        let several = results
            .seeds
            .as_ref()
            .is_some_and(|summary| summary.seeds.len() > 1);
        let of_run = if several {
            "of the table of arms is that of one seed: it "
        } else {
            ""
        };
        let of_seeds = match &results.seeds {
            Some(summary) if summary.seeds.len() > 1 => {
                "How far it depends on the seed, the table over seeds says."
            }
            _ => "How far it depends on the seed, one run cannot say.",
        };
        caveats.push(format!(
            "The interval {of_run}says how far the difference between these two trained networks depends on which test images \
             were drawn. {how} {of_seeds}"
        ));
    }
    if let Some(ratio) = budget_ratio(results, arm, against) {
        caveats.push(ratio);
    }
    caveats
}

/// How the two budgets compare, in multiply-adds, where they were counted.
fn budget_ratio(results: &Results, arm: &str, against: &str) -> Option<String> {
    let spent =
        |name: &str| Some(results.arms.get(name)?.train.multiply_adds).filter(|spent| *spent > 0);
    let ratio = spent(arm)? as f64 / spent(against)? as f64;
    let (arm, against) = (
        arm_title(arm).to_lowercase(),
        arm_title(against).to_lowercase(),
    );
    Some(if (0.98..=1.02).contains(&ratio) {
        format!(
            "Both arms spent the same compute on training, within 2 % (multiply-adds, all stages of the {arm} arm counted)."
        )
    } else {
        format!(
            "The budgets are not equal: the {arm} arm spent {ratio:.2} times the multiply-adds of the {against}, all its stages counted."
        )
    })
}
