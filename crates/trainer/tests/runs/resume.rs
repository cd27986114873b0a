//! An interrupted and resumed run ends with the same bits as one that was never stopped.

use crate::common::{create, dataset, files, metrics, recipe, stop_after};
use trainer::{Experiment, Options, Outcome};

const ALL: [(&str, &str); 5] = [
    ("arms.control", "true"),
    ("arms.finetuned", "true"),
    ("supervised.ema", "0.9"),
    ("supervised.optimizer.kind", "adamw"),
    ("supervised.optimizer.lr", "0.002"),
];

/// What the arms above leave out: two views of balanced batches, LARS, averages, accumulation, batch norm in the
/// projection, heads on augmented images, dropout.
const OTHERS: [(&str, &str); 13] = [
    ("augment.views", "2"),
    ("augment.supervised_views", "2"),
    ("supervised.head", "mlp"),
    ("supervised.accumulation", "2"),
    ("pretrain.per_class", "4"),
    ("pretrain.optimizer.kind", "lars"),
    ("pretrain.optimizer.nesterov", "none"),
    ("pretrain.ema", "0.9"),
    ("pretrain.accumulation", "2"),
    ("pretrain.projection.batch_norm", "true"),
    ("pretrain.projection.output_norm", "true"),
    ("probe.augment", "true"),
    ("head.augment", "true"),
];

#[test]
fn interrupted_anywhere_the_bits_are_the_same() {
    same_bits_when_interrupted(&ALL);
}

#[test]
fn interrupted_with_every_other_setting_the_bits_are_the_same() {
    same_bits_when_interrupted(&OTHERS);
}

/// A loss with parameters of its own: they are trained, averaged and taken up again with everything else.
#[test]
fn interrupted_with_proxies_the_bits_are_the_same() {
    same_bits_when_interrupted(&[
        ("arms.baseline", "false"),
        ("pretrain.loss", "arcface"),
        ("pretrain.ema", "0.9"),
    ]);
}

fn same_bits_when_interrupted(changes: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    create(&whole, changes).run_all().unwrap();
    let expected = files(&whole);
    let results = |run: &std::path::Path| {
        let experiment = Experiment::resume(run, None, dataset(), Options::default()).unwrap();
        experiment
            .results()
            .unwrap()
            .without_times()
            .to_json()
            .unwrap()
    };

    // 7 steps at a time: in the middle of epochs, at their ends, in every kind of stage.
    let parts = folder.path().join("parts");
    drop(create(&parts, changes));
    let mut rounds = 0;
    loop {
        let mut experiment =
            Experiment::resume(&parts, Some(&recipe(changes)), dataset(), stop_after(7)).unwrap();
        rounds += 1;
        assert!(rounds < 100);
        if experiment.run_all().unwrap() == Outcome::Finished {
            break;
        }
    }
    assert!(rounds > 5, "{rounds}");
    let found = files(&parts);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (path, bytes) in &expected {
        assert!(found[path] == *bytes, "{} differs", path.display());
    }
    assert_eq!(metrics(&parts), metrics(&whole));
    assert_eq!(results(&parts), results(&whole));
    let events = |run: &std::path::Path| {
        std::fs::metadata(run.join("events.out.tfevents.0.run"))
            .unwrap()
            .len()
    };
    assert_eq!(events(&parts), events(&whole));
}

#[test]
fn a_run_killed_between_any_two_files_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let changes = [("arms.contrastive", "false"), ("arms.control", "true")];
    create(&whole, &changes).run_all().unwrap();
    let expected = files(&whole);
    // What a kill leaves behind: a later file is missing while earlier ones are there, or half a temporary is.
    for missing in [
        vec!["control/evaluate.json"],
        vec![
            "control/evaluate.json",
            "control/result.json",
            "control/predictions-linear.safetensors",
        ],
        vec!["control/evaluate.json", "control/head.json"],
        vec![
            "control/evaluate.json",
            "control/head.json",
            "control/head-mlp.safetensors",
            "control/probe.json",
        ],
        vec![
            "baseline/features-train.safetensors",
            "control/evaluate.json",
            "control/probe.json",
        ],
    ] {
        for file in &missing {
            std::fs::remove_file(whole.join(file)).unwrap();
        }
        std::fs::write(whole.join("control/.weights-1234"), "half").unwrap();
        std::fs::write(whole.join("checkpoints/.new-1234"), "half").unwrap();
        let mut experiment =
            Experiment::resume(&whole, None, dataset(), Options::default()).unwrap();
        assert_eq!(experiment.run_all().unwrap(), Outcome::Finished);
        assert!(files(&whole) == expected, "after losing {missing:?}");
        assert!(!whole.join("control/.weights-1234").exists());
    }
}

#[test]
fn a_run_interrupted_before_step_0_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    drop(create(&run, &[]));
    std::fs::remove_file(run.join("config.toml")).unwrap();
    for file in ["metrics.jsonl", "events.out.tfevents.0.run"] {
        std::fs::remove_file(run.join(file)).unwrap();
    }
    std::fs::remove_dir(run.join("checkpoints")).unwrap();
    drop(Experiment::resume(&run, Some(&recipe(&[])), dataset(), Options::default()).unwrap());
    assert!(run.join("config.toml").is_file());
}

#[test]
fn another_recipe_or_seed_is_refused_by_name_without_damage() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    drop(create(&run, &[]));
    let before = std::fs::read(run.join("config.toml")).unwrap();
    for (field, value) in [
        ("seed", "4"),
        ("pretrain.optimizer.lr", "0.3"),
        ("data.validation", "30"),
    ] {
        let result = Experiment::resume(
            &run,
            Some(&recipe(&[(field, value)])),
            dataset(),
            Options::default(),
        );
        let error = result.err().unwrap().to_string();
        assert!(error.contains(field) && error.contains(value), "{error}");
    }
    let result = Experiment::create(&run, &recipe(&[]), dataset(), Options::default());
    assert!(result.err().unwrap().to_string().contains("--resume"));
    let nothing = Experiment::resume(
        folder.path().join("other"),
        None,
        dataset(),
        Options::default(),
    );
    assert!(nothing.err().unwrap().to_string().contains("config.toml"));
    assert_eq!(std::fs::read(run.join("config.toml")).unwrap(), before);
}
