//! Several seeds in the results and in the report: the statistics, the words, and no verdict from few of them.

use std::collections::BTreeMap;

use crate::invented::{self, Dice};
use eval::{ReportInput, Results, SeedRun, SeedsSummary, Verdict, write_report};

/// Runs of `count` seeds in which the contrastive arm is right on `more` points more of the test images.
fn runs(count: u64, more: f64) -> Vec<SeedRun> {
    (0..count)
        .map(|seed| {
            let mut results = invented::results(2);
            results.seed = seed;
            let mut dice = Dice::new(seed + 1);
            let mut right =
                |share: f64| -> Vec<bool> { (0..2000).map(|_| dice.uniform() < share).collect() };
            let lists = BTreeMap::from([
                ("baseline".to_owned(), right(0.5)),
                ("contrastive".to_owned(), right(0.5 + more)),
            ]);
            for (arm, right) in &lists {
                let hits = right.iter().filter(|right| **right).count();
                results.arms.get_mut(arm).unwrap().test.classification.top1 = hits as f64 / 2000.0;
            }
            SeedRun {
                results,
                right: lists,
            }
        })
        .collect()
}

fn summary(runs: &[SeedRun]) -> SeedsSummary {
    SeedsSummary::of(runs, |resample| {
        let mut dice = Dice::new(resample * 7919 + 13);
        move || (dice.uniform() * (1u64 << 32) as f64) as u64 * 0x1_0000_0001
    })
    .unwrap()
}

#[test]
fn the_summary_holds_the_runs_figures() {
    let runs = runs(5, 0.1);
    let found = summary(&runs);
    assert_eq!(found.seeds, [0, 1, 2, 3, 4]);
    let top1 = &found.arms["contrastive"]["top1"];
    for (run, value) in runs.iter().zip(&top1.values) {
        assert_eq!(
            run.results.arms["contrastive"].test.classification.top1,
            *value
        );
    }
    let difference = &found.comparisons["contrastive-baseline"];
    for (seed, value) in difference.difference.values.iter().enumerate() {
        let arm = |name: &str| found.arms[name]["top1"].values[seed];
        assert!((arm("contrastive") - arm("baseline") - value).abs() < 1e-12);
    }
    assert_eq!(difference.verdict, Verdict::Better);
    assert_eq!(
        summary(&self::runs(4, 0.1)).comparisons["contrastive-baseline"].verdict,
        Verdict::TooFewSeeds
    );
    assert_eq!(
        summary(&self::runs(5, -0.1)).comparisons["contrastive-baseline"].verdict,
        Verdict::Worse
    );
    // A seed twice is no second seed.
    let twice = [runs[0].clone(), runs[0].clone()];
    let text = SeedsSummary::of(&twice, |_| || 0).unwrap_err().to_string();
    assert!(text.contains("one run per seed"), "{text}");
}

#[test]
fn the_report_gives_the_interval_and_a_verdict_only_from_five_seeds_on() {
    let folder = tempfile::tempdir().unwrap();
    for (count, says) in [(3, "3 seeds give no verdict, it takes 5"), (5, "better")] {
        let runs = runs(count, 0.1);
        let mut results = runs[0].results.clone();
        results.seeds = Some(summary(&runs));
        let path = folder.path().join("results.json");
        results.save(&path).unwrap();
        // Files hold fifteen digits.
        let loaded = Results::load(&path).unwrap();
        assert_eq!(loaded.to_json().unwrap(), results.to_json().unwrap());
        let table = eval::seeds_table(&results.dataset, results.seeds.as_ref().unwrap());
        assert!(
            table.contains(says) && table.lines().all(|line| line.chars().count() <= 80),
            "{table}"
        );
        let written = write_report(folder.path(), &ReportInput::new(results)).unwrap();
        let text = std::fs::read_to_string(written.markdown).unwrap();
        let lead = text
            .lines()
            .find(|line| line.starts_with("**Over "))
            .unwrap();
        assert!(
            lead.contains(says) && lead.contains("95 % interval over seeds and test images"),
            "{lead}"
        );
        assert_eq!(lead.contains("better"), count == 5, "{lead}");
        assert!(text.contains("sample standard deviation"), "{text}");
    }
}
