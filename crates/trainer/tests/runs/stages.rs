//! Each stage does its work, in its order, and the report gets all it needs.

use crate::common::{create, metrics, recipe};
use std::sync::{Arc, Mutex};
use trainer::{Arm, Event, Outcome, StageId, StageKind};

#[test]
fn all_arms_run_to_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut experiment = create(
        &run,
        &[("arms.control", "true"), ("arms.finetuned", "true")],
    );
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&events);
    experiment.add_observer(move |event: &Event| log.lock().unwrap().push(event.clone()));
    assert!(
        experiment
            .results()
            .unwrap_err()
            .to_string()
            .contains("baseline/evaluate")
    );
    assert_eq!(experiment.run_all().unwrap(), Outcome::Finished);

    // Files.
    for file in [
        "config.toml",
        "recipe.toml",
        "environment.json",
        "metrics.jsonl",
        "samples.safetensors",
        "pictures.safetensors",
        "baseline/snapshots/supervised-0000.safetensors",
        "contrastive/snapshots/pretrain-0000.safetensors",
    ] {
        assert!(run.join(file).is_file(), "{file}");
    }
    for arm in ["baseline", "contrastive", "control", "finetuned"] {
        assert!(
            run.join(arm)
                .join("predictions-linear.safetensors")
                .is_file(),
            "{arm}"
        );
    }
    assert!(run.join("contrastive/head-mlp.safetensors").is_file());
    assert_eq!(
        std::fs::read_dir(run.join("checkpoints")).unwrap().count(),
        0
    );

    // Results.
    let results = experiment.results().unwrap();
    assert!(results.dataset.synthetic && results.dataset.train_images == 200);
    assert_eq!(
        results.arms.keys().collect::<Vec<_>>(),
        ["baseline", "contrastive", "control", "finetuned"]
    );
    let contrastive = &results.arms["contrastive"];
    assert_eq!(contrastive.headline, "linear");
    assert_eq!(
        contrastive.heads.keys().collect::<Vec<_>>(),
        ["linear", "mlp"]
    );
    assert_eq!(contrastive.train.epochs, 2 + 4 + 3);
    assert_eq!(results.arms["control"].train.epochs, 2 + 4 + 3);
    assert_eq!(results.arms["finetuned"].train.epochs, 2 + 4 + 1);
    assert!(results.comparisons.contains_key("contrastive-baseline"));
    let input = experiment.report_input().unwrap();
    // Baseline, contrastive and fine-tuned have features of their own; the control reads the baseline's.
    let methods: Vec<&str> = input.maps.iter().map(|maps| maps.method.as_str()).collect();
    assert_eq!(methods, ["PCA", "t-SNE"]);
    assert!(input.maps.iter().all(|maps| maps.maps.len() == 3));
    let gallery = input.gallery.as_ref().unwrap();
    let images = results.arms["baseline"].test.images() as usize;
    assert_eq!(gallery.labels.len(), images);
    assert_eq!(
        gallery.pictures.as_ref().unwrap().rgb.len(),
        images * 32 * 32 * 3
    );
    for arm in &gallery.arms {
        let right = (0..images).filter(|&i| arm.predicted[i] == gallery.labels[i]);
        let top1 = right.count() as f64 / images as f64;
        assert!((top1 - results.arms[&arm.arm].test.classification.top1).abs() < 1e-12);
        assert_eq!(arm.neighbours.is_empty(), arm.arm == "control");
    }
    let spaces: Vec<(&str, &str, usize)> = input
        .snapshots
        .iter()
        .map(|s| (s.arm.as_str(), s.space.as_str(), s.frames.len()))
        .collect();
    assert_eq!(
        spaces,
        [
            ("baseline", "features", 3),
            ("contrastive", "features", 3),
            ("contrastive", "embeddings", 3)
        ]
    );
    // Training changed what the encoder makes of the images that it was watched by.
    let frames = &input.snapshots[2].frames;
    assert_ne!(frames[0].similarity, frames[2].similarity);
    assert_eq!(
        (input.samples.len(), input.samples[0].predictions.len()),
        (6, 4)
    );
    let pretrain = input.curves.iter().find(|c| c.stage == "pretrain").unwrap();
    assert!(pretrain.collapse.is_some() && pretrain.points.len() == 2);
    let probe = input
        .curves
        .iter()
        .find(|c| c.arm == "contrastive" && c.stage == "probe-linear")
        .unwrap();
    // Features are computed once: the probe goes on from where pretraining ended, and sees no more images.
    assert_eq!(probe.points[0].images, pretrain.points[1].images);
    assert!(probe.points[0].multiply_adds > pretrain.points[1].multiply_adds);
    assert!(probe.points[0].seconds > pretrain.points[1].seconds);
    experiment.write_report().unwrap();
    assert!(run.join("results.json").is_file() && run.join("report.html").is_file());

    // Events.
    let events = events.lock().unwrap().clone();
    let steps = |id: &str| {
        let id: StageId = id.parse().unwrap();
        events
            .iter()
            .filter(|e| matches!(e, Event::Step(s) if s.stage == id))
            .count()
    };
    assert_eq!(
        (steps("baseline/supervised"), steps("contrastive/pretrain")),
        (10, 10)
    );
    assert_eq!(
        (steps("control/probe"), steps("contrastive/head")),
        (16, 12)
    );
    let step = metrics(&run)
        .into_iter()
        .find(|l| l["stage"] == "contrastive/pretrain")
        .unwrap();
    assert!(step["collapse"].as_f64().unwrap() > step["floor"].as_f64().unwrap());

    // A done stage is skipped, an unknown one named.
    let done = StageId::new(Arm::Baseline, StageKind::Supervised);
    assert_eq!(experiment.run_stage(done).unwrap(), Outcome::AlreadyDone);
    let unknown = StageId::new(Arm::Transfer, StageKind::Probe);
    assert!(
        experiment
            .run_stage(unknown)
            .unwrap_err()
            .to_string()
            .contains("transfer/probe")
    );
}

#[test]
fn every_stage_learns() {
    let folder = tempfile::tempdir().unwrap();
    let mut experiment = create(
        &folder.path().join("run"),
        &[
            ("augment.policy", "none"),
            ("supervised.epochs", "12"),
            ("pretrain.epochs", "24"),
            ("pretrain.optimizer.kind", "adam"),
            ("pretrain.optimizer.lr", "0.003"),
            ("probe.epochs", "30"),
            ("head.epochs", "30"),
            ("arms.finetuned", "true"),
            ("finetune.epochs", "12"),
        ],
    );
    experiment.run_all().unwrap();
    let lines = metrics(experiment.run_dir());
    for stage in [
        "baseline/supervised",
        "contrastive/pretrain",
        "contrastive/probe",
        "contrastive/head",
        "finetuned/finetune",
    ] {
        let epochs: Vec<_> = lines
            .iter()
            .filter(|l| l["event"] == "epoch" && l["stage"] == stage)
            .collect();
        let loss = |i: usize| epochs[i]["loss"].as_f64().unwrap();
        let (first, last) = (loss(0), loss(epochs.len() - 1));
        assert!(last < 0.9 * first, "{stage}: {first} → {last}");
        // Of the 200 training images, where chance is 0.1; 60 test images are too few to tell.
        if stage != "contrastive/pretrain" {
            let accuracy = epochs[epochs.len() - 1]["accuracy"].as_f64().unwrap();
            assert!(accuracy > 0.5, "{stage}: {accuracy}");
        }
    }
    let results = experiment.results().unwrap();
    let arms: Vec<&str> = results.arms.keys().map(String::as_str).collect();
    assert_eq!(arms, ["baseline", "contrastive", "finetuned"]);
}

#[test]
fn probing_leaves_the_encoder_alone_and_order_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut experiment = create(
        &run,
        &[("probe.augment", "true"), ("arms.baseline", "false")],
    );
    let probe = StageId::new(Arm::Contrastive, StageKind::Probe);
    let error = experiment.run_stage(probe).unwrap_err().to_string();
    assert!(error.contains("contrastive/pretrain"), "{error}");
    experiment
        .run_stage(StageId::new(Arm::Contrastive, StageKind::Pretrain))
        .unwrap();
    let encoder = run.join("contrastive/encoder.safetensors");
    let before = std::fs::read(&encoder).unwrap();
    experiment.run_stage(probe).unwrap();
    experiment
        .run_stage(StageId::new(Arm::Contrastive, StageKind::Head))
        .unwrap();
    assert_eq!(std::fs::read(&encoder).unwrap(), before);
    // With augmentation on, no feature table of the training images is needed.
    assert!(
        run.join("contrastive/features-validation.safetensors")
            .is_file()
    );
}

#[test]
fn transfer_starts_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let only_baseline = [("arms.contrastive", "false"), ("supervised.epochs", "1")];
    let mut experiment = create(&source, &only_baseline);
    experiment
        .run_stage(StageId::new(Arm::Baseline, StageKind::Supervised))
        .unwrap();
    let weights = source.join("baseline/encoder.safetensors");
    for mode in ["frozen", "finetune", "contrastive"] {
        let run = folder.path().join(mode);
        let mut experiment = create(
            &run,
            &[
                ("arms.contrastive", "false"),
                ("arms.baseline", "false"),
                ("arms.transfer", "true"),
                ("transfer.init", weights.to_str().unwrap()),
                ("transfer.mode", mode),
                ("pretrain.epochs", "1"),
            ],
        );
        assert_eq!(experiment.run_all().unwrap(), Outcome::Finished);
        let same = std::fs::read(run.join("transfer/encoder.safetensors")).unwrap()
            == std::fs::read(&weights).unwrap();
        assert_eq!(same, mode == "frozen", "{mode}");
        let results = experiment.results().unwrap();
        assert!(results.arms.contains_key("transfer"));
        let note = &results.notes[0];
        assert!(note.contains(weights.to_str().unwrap()), "{note}");
    }
}

#[test]
fn views_accumulation_averaging_and_balanced_batches_work_together() {
    let folder = tempfile::tempdir().unwrap();
    let mut experiment = create(
        &folder.path().join("run"),
        &[
            ("augment.views", "2"),
            ("augment.supervised_views", "2"),
            ("pretrain.loss", "nt_xent"),
            ("pretrain.per_class", "4"),
            ("pretrain.accumulation", "2"),
            ("pretrain.ema", "0.9"),
            ("supervised.accumulation", "4"),
            ("supervised.head", "mlp"),
            ("supervised.label_smoothing", "0.1"),
            ("supervised.optimizer.kind", "lars"),
            ("supervised.optimizer.trust", "0.02"),
            ("headline", "mlp"),
        ],
    );
    assert_eq!(experiment.run_all().unwrap(), Outcome::Finished);
    let results = experiment.results().unwrap();
    assert_eq!(results.arms["baseline"].headline, "mlp");
    assert_eq!(results.arms["contrastive"].headline, "mlp");
    // Every view counts as an image seen.
    assert_eq!(results.arms["baseline"].train.images_seen, 2 * 2 * 200);
}

#[test]
fn a_budget_is_frozen_into_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let changes = [
        ("budget_minutes", "0.02"),
        ("supervised.epochs", "5000"),
        ("pretrain.epochs", "5000"),
    ];
    let experiment = create(&run, &changes);
    let frozen = experiment.recipe().supervised.epochs;
    assert!((1..5000).contains(&frozen), "{frozen}");
    assert_eq!(
        trainer::recorded_recipe(&run).unwrap().supervised.epochs,
        frozen
    );
    let estimate = experiment.estimate().unwrap();
    assert_eq!(estimate.stages.len(), experiment.stages().len());
    drop(experiment);
    let again = trainer::Experiment::resume(
        &run,
        Some(&recipe(&changes)),
        crate::common::dataset(),
        trainer::Options::default(),
    );
    assert_eq!(again.unwrap().recipe().supervised.epochs, frozen);
}

#[test]
fn every_loss_pretrains_and_its_own_parameters_move() {
    for name in contrastive_loss::Loss::names() {
        let folder = tempfile::tempdir().unwrap();
        let changes = [
            ("arms.baseline", "false"),
            ("augment.views", "2"),
            ("pretrain.per_class", "4"),
            ("pretrain.epochs", "1"),
            ("pretrain.loss", name),
        ];
        let mut experiment = create(folder.path(), &changes);
        let stage = experiment.stages()[0];
        assert_eq!(
            experiment.run_stage(stage).unwrap(),
            Outcome::Finished,
            "{name}"
        );
        let path = folder.path().join("contrastive/projection.safetensors");
        let tensors = candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap();
        let own: Vec<&String> = tensors
            .keys()
            .filter(|key| key.starts_with("loss."))
            .collect();
        let loss: contrastive_loss::Loss = name.parse().unwrap();
        let task = contrastive_loss::Task {
            dim: 16,
            classes: experiment.dataset().classes.len(),
        };
        let expected = loss.parameters(task);
        assert_eq!(own.len(), expected.len(), "{name}: {own:?}");
        for spec in expected {
            let tensor = &tensors[&format!("loss.{}", spec.name)];
            assert_eq!(tensor.dims(), spec.shape);
            if let contrastive_loss::Start::Constant(start) = spec.start {
                assert_ne!(
                    tensor.to_vec1::<f32>().unwrap(),
                    [start as f32],
                    "{name}: {}",
                    spec.name
                );
            }
        }
    }
}
