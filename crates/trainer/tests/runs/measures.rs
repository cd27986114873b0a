//! Measurements on request, budgets that are counted beforehand, and foreign weights used in three ways.

use crate::common::{create, dataset, recipe};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use trainer::{Event, Experiment, Options, Outcome, StopFlag};

const ASKED: [(&str, &str); 11] = [
    ("evaluate.shots", "[1, 5, 50]"),
    ("arms.control", "true"),
    ("arms.finetuned", "true"),
    ("augment.views", "2"),
    ("evaluate.lbfgs", "true"),
    ("evaluate.few_labels", "[0.1]"),
    ("evaluate.label_noise", "0.3"),
    (
        "evaluate.corruptions",
        "[\"gaussian_noise\", \"contrast\", \"jpeg_compression\"]",
    ),
    ("evaluate.corruption_images", "20"),
    ("evaluate.duplicates", "true"),
    ("evaluate.lbfgs_lambdas", "[0.01]"),
];

#[test]
fn what_is_asked_for_is_measured_and_what_is_planned_is_spent() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut experiment = create(&run, &ASKED);
    let planned = experiment.budget().unwrap().clone();
    assert_eq!(planned.equalised_by, None);
    assert_eq!(experiment.run_all().unwrap(), Outcome::Finished);
    let results = experiment.results().unwrap();
    for (name, arm) in &results.arms {
        // Budgets: counted before step 0, and spent.
        let plan = &planned.arms[name];
        assert_eq!(
            plan.encoder_epochs + plan.head_epochs,
            arm.train.epochs,
            "{name}"
        );
        assert_eq!(plan.images_seen, arm.train.images_seen, "{name}");
        assert_eq!(plan.multiply_adds, arm.train.multiply_adds, "{name}");
        // Probes.
        let names: Vec<&String> = arm.probes.keys().collect();
        assert_eq!(names, ["lbfgs", "lbfgs_10pct", "lbfgs_noise"], "{name}");
        let (all, few, noise) = (
            &arm.probes["lbfgs"],
            &arm.probes["lbfgs_10pct"],
            &arm.probes["lbfgs_noise"],
        );
        assert_eq!((all.training_images, few.training_images), (200, 20));
        assert_eq!(
            (all.label_noise, noise.label_noise, few.label_share),
            (0.0, 0.3, 0.1)
        );
        for probe in arm.probes.values() {
            assert!(
                probe.converged && probe.gradient <= 1e-6,
                "{name}: {probe:?}"
            );
            assert_eq!(probe.lambda, 0.01);
            assert!((0.0..=1.0).contains(&probe.top1) && probe.nll.is_finite());
        }
        // Wrong labels cannot be fitted as well as right ones.
        assert!(noise.loss > all.loss, "{name}: {} {}", noise.loss, all.loss);
        // Few-shot: as many shots as asked for, where every class has them; 200 images of ten classes have no 50.
        let shots: Vec<u64> = arm.few_shot.iter().map(|found| found.shots).collect();
        assert_eq!(shots, [1, 5], "{name}");
        assert!(
            (arm.few_shot.iter())
                .all(|found| (0.0..=1.0).contains(&found.top1) && found.draws == 100)
        );
        // Corruptions.
        let corruption = arm.corruption.as_ref().unwrap();
        assert_eq!(corruption.images, 20);
        assert_eq!(
            corruption.families.keys().collect::<Vec<_>>(),
            ["digital", "noise"]
        );
        assert!(
            corruption
                .corruptions
                .values()
                .all(|errors| errors.len() == 5)
        );
        let mean = corruption.corruptions.values().flatten().sum::<f64>() / 15.0;
        assert!((corruption.mean_error - mean).abs() < 1e-12);
        // Near-duplicates: drawn images do not repeat each other at random; what is left and what is not add up.
        let duplicates = arm.duplicates.as_ref().unwrap();
        assert_eq!(
            duplicates.images + duplicates.by_pixels + duplicates.by_features,
            60
        );
        // Calibration.
        let bars = &arm.test.classification.reliability;
        assert_eq!(bars.iter().map(|bin| bin.images).sum::<u64>(), 60);
    }
    // One encoder, one probe.
    assert_eq!(
        results.arms["control"].probes,
        results.arms["baseline"].probes
    );
    for file in [
        "predictions-lbfgs.safetensors",
        "predictions-lbfgs_10pct.safetensors",
    ] {
        assert!(run.join("contrastive").join(file).is_file(), "{file}");
    }
    let first = &results.notes[0];
    assert!(
        first.contains("2 views") && first.contains("1 view"),
        "{first}"
    );
    // The report tells all of it, and a second evaluation of nothing changes nothing.
    let report = experiment.write_report().unwrap();
    let text = std::fs::read_to_string(report.markdown).unwrap();
    for word in [
        "lbfgs\\_10pct",
        "common corruptions",
        "repeat a training image",
        "planned to cost",
    ] {
        assert!(text.contains(word), "{word}");
    }
    let before = std::fs::read(run.join("results.json")).unwrap();
    drop(experiment);
    let mut again = Experiment::resume(&run, None, dataset(), Options::default()).unwrap();
    again.run_all().unwrap();
    let found = again.results().unwrap().without_times();
    let stored: eval::Results = serde_json::from_slice(&before).unwrap();
    // Files hold fifteen digits.
    assert_eq!(
        found.to_json().unwrap(),
        stored.without_times().to_json().unwrap()
    );
}

/// Stops within an evaluation, at the `at`-th piece of corrupted images that this process looks at.
fn stop_among_corruptions(at: usize) -> (Options, Arc<Mutex<Vec<usize>>>) {
    let stop = StopFlag::new();
    let (flag, seen) = (stop.clone(), Arc::new(Mutex::new(Vec::new())));
    let kept = Arc::clone(&seen);
    let observer = move |event: &Event| {
        if let Event::Progress { what, done, .. } = event
            && *what == "corrupted test images"
        {
            let mut seen = kept.lock().unwrap();
            seen.push(*done);
            if seen.len() == at {
                flag.stop();
            }
        }
    };
    let options = Options {
        stop,
        observers: vec![Box::new(observer)],
        ..Options::default()
    };
    (options, seen)
}

#[test]
fn an_evaluation_is_taken_up_at_the_measurement_that_was_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let mut changes = ASKED.to_vec();
    changes.retain(|(field, _)| !field.starts_with("arms."));
    changes.push(("arms.contrastive", "false"));
    let whole = folder.path().join("whole");
    let mut experiment = create(&whole, &changes);
    experiment.run_all().unwrap();
    let expected = experiment.results().unwrap().without_times();

    // Three corruptions of five pieces of 20 images: seven pieces at a time end in the middle of one.
    let parts = folder.path().join("parts");
    drop(create(&parts, &changes));
    let mut begun_at = Vec::new();
    loop {
        let (options, seen) = stop_among_corruptions(7);
        let mut experiment = Experiment::resume(&parts, None, dataset(), options).unwrap();
        let outcome = experiment.run_all().unwrap();
        begun_at.push(seen.lock().unwrap()[0]);
        assert!(begun_at.len() < 9);
        if outcome == Outcome::Finished {
            let found = experiment.results().unwrap().without_times();
            assert_eq!(found.to_json().unwrap(), expected.to_json().unwrap());
            break;
        }
    }
    // Of what was measured before nothing is measured again.
    assert_eq!(begun_at, [20, 120, 220]);
    let measured = |run: &Path| {
        let entries = std::fs::read_dir(run.join("baseline/measured")).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let read = |path: &PathBuf| std::fs::read(path).unwrap();
        files.iter().map(read).collect::<Vec<_>>()
    };
    assert_eq!(measured(&whole).len(), 3 + 3 + 1); // corruptions, probes, near-duplicates
    assert!(measured(&parts) == measured(&whole));
}

#[test]
fn what_is_not_asked_for_is_absent() {
    let folder = tempfile::tempdir().unwrap();
    let mut experiment = create(folder.path(), &[("arms.contrastive", "false")]);
    experiment.run_all().unwrap();
    let text = experiment.results().unwrap().to_json().unwrap();
    for key in ["probes", "corruption", "duplicates", "seeds"] {
        // The recipe, which stands in the same file, has a flag of one of these names.
        assert!(!text.contains(&format!("\"{key}\": {{")), "{key}");
    }
}

#[test]
fn equal_flops_are_frozen_before_step_0() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let changes = [
        ("budget", "flops"),
        ("augment.views", "2"),
        ("supervised.epochs", "9"),
        ("pretrain.epochs", "100"),
    ];
    let experiment = create(&run, &changes);
    let chosen = experiment.recipe().pretrain.epochs;
    // Two views: less than half of the baseline's epochs, since features and heads cost too.
    assert!((3..=4).contains(&chosen), "{chosen}");
    assert_eq!(
        trainer::recorded_recipe(&run).unwrap().pretrain.epochs,
        chosen
    );
    let budget = experiment.budget().unwrap();
    assert_eq!(budget.equalised_by.as_deref(), Some("flops"));
    let spent = |arm: &str| budget.arms[arm].multiply_adds as f64;
    let ratio = spent("contrastive") / spent("baseline");
    assert!(
        (0.85..1.15).contains(&ratio),
        "within half of one epoch of nine: {ratio}"
    );
    drop(experiment);
    let again =
        Experiment::resume(&run, Some(&recipe(&changes)), dataset(), Options::default()).unwrap();
    assert_eq!(again.recipe().pretrain.epochs, chosen);
}

#[test]
fn foreign_weights_are_used_in_three_ways_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let mut experiment = create(
        &source,
        &[("arms.contrastive", "false"), ("supervised.epochs", "1")],
    );
    let first = experiment.stages()[0];
    experiment.run_stage(first).unwrap();
    let weights = source.join("baseline/encoder.safetensors");
    let run = folder.path().join("run");
    let mut experiment = create(
        &run,
        &[
            ("arms.contrastive", "false"),
            ("arms.baseline", "false"),
            ("arms.transfer", "true"),
            ("arms.transfer_frozen", "true"),
            ("arms.transfer_contrastive", "true"),
            ("transfer.init", weights.to_str().unwrap()),
            ("pretrain.epochs", "1"),
        ],
    );
    assert_eq!(experiment.run_all().unwrap(), Outcome::Finished);
    let read = |arm: &str| std::fs::read(run.join(arm).join("encoder.safetensors")).unwrap();
    let given = std::fs::read(&weights).unwrap();
    assert_eq!(read("transfer-frozen"), given);
    assert_ne!(read("transfer"), given);
    assert_ne!(read("transfer-contrastive"), given);
    let results = experiment.results().unwrap();
    let arms: Vec<&str> = results
        .arms_in_order()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        arms,
        ["transfer", "transfer-frozen", "transfer-contrastive"]
    );
}
