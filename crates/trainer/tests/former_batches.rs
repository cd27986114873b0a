//! Miners, a memory of former batches, a queue and proxies at their own rate, in a run that is stopped and resumed in the midst of an
//! epoch: the same bits as one that never stopped.

use std::collections::BTreeMap;
use std::path::Path;

use cifar_data::{Dataset, DatasetName, SourceOptions};
use trainer::{Arm, Event, Experiment, Options, Outcome, Recipe, StageId, StageKind, StopFlag};

const PRETRAIN: StageId = StageId {
    arm: Arm::Contrastive,
    kind: StageKind::Pretrain,
};

/// A small run; `pretrain` is what its section says of the loss.
fn recipe(pretrain: &str) -> Recipe {
    let text = format!(
        r#"
        name = "former batches"
        [data]
        validation = 40
        [model]
        arch = "resnet18"
        width = 0.0625
        [augment]
        views = 2
        [arms]
        baseline = false
        [pretrain]
        epochs = 2
        batch_size = 40
        per_class = 4
        {pretrain}
        [pretrain.projection]
        dim = 16
        [probe]
        epochs = 1
        batch_size = 40
        [head]
        epochs = 0
        "#
    );
    Recipe::parse(&text).unwrap()
}

fn data() -> Dataset {
    let mut source = SourceOptions {
        dataset: DatasetName::Synthetic,
        ..SourceOptions::default()
    };
    source.synthetic.train = 200;
    source.synthetic.test = 20;
    cifar_data::open(&source, &mut ()).unwrap()
}

/// Pretrains; stops after each of these steps and goes on in a new process' state. Gives the losses in order, and the weights.
fn pretrain(
    recipe: &Recipe,
    folder: &Path,
    stops: &[usize],
) -> (Vec<f64>, BTreeMap<String, Vec<u8>>) {
    let losses = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    for round in 0..=stops.len() {
        let stop = StopFlag::new();
        let (flag, seen) = (stop.clone(), losses.clone());
        let at = stops.get(round).copied();
        let observer = move |event: &Event| {
            if let Event::Step(step) = event {
                seen.lock().unwrap().push(step.loss);
                if Some(step.global_step) == at {
                    flag.stop();
                }
            }
        };
        let options = Options {
            stop,
            observers: vec![Box::new(observer)],
            ..Options::default()
        };
        let mut experiment = match round {
            0 => Experiment::create(folder, &recipe.check().unwrap(), data(), options),
            _ => Experiment::resume(folder, None, data(), options),
        }
        .unwrap();
        let outcome = experiment.run_stage(PRETRAIN).unwrap();
        let expected = match at {
            Some(_) => Outcome::Stopped,
            None => Outcome::Finished,
        };
        assert_eq!(outcome, expected);
    }
    let files = [
        "contrastive/encoder.safetensors",
        "contrastive/projection.safetensors",
    ];
    let read = |name: &&str| (name.to_string(), std::fs::read(folder.join(name)).unwrap());
    let losses = losses.lock().unwrap().clone();
    (losses, files.iter().map(read).collect())
}

#[test]
fn stopped_and_resumed_runs_end_with_the_same_bits() {
    for section in [
        "loss = \"triplet\"\nminer = \"distance_weighted\"\nmemory = 100",
        "loss = \"multi_similarity\"\nminer = \"multi_similarity\"",
        "loss = \"supcon_out\"\nmemory = 96",
        "loss = { name = \"info_nce\", in_batch = false }\nmemory = 64",
        "loss = \"nt_xent\"\nmemory = 96\nchunk = 16",
        "loss = \"proxy_anchor\"\nloss_lr = 1.0",
    ] {
        let recipe = recipe(section);
        let folder = tempfile::tempdir().unwrap();
        let whole = pretrain(&recipe, &folder.path().join("whole"), &[]);
        // In the first epoch, while the memory fills, and in the second.
        let stopped = pretrain(&recipe, &folder.path().join("stopped"), &[1, 3, 6]);
        assert_eq!(whole.0, stopped.0, "{section}");
        assert!(whole.0.len() == 8 && whole.0.iter().all(|loss| loss.is_finite()));
        assert!(whole.1 == stopped.1, "{section}: other weights");
    }
}

/// What is remembered, mined, or given a rate of its own changes the run: none of it is idle.
#[test]
fn each_setting_changes_what_is_learnt() {
    for (section, setting) in [
        ("loss = \"triplet\"", "miner = \"hard\""),
        ("loss = \"circle\"", "miner = \"semi_hard\""),
        ("loss = \"supcon_in\"", "memory = 96"),
        ("loss = \"info_nce\"", "memory = 96"),
        ("loss = \"arcface\"", "loss_lr = 2.0"),
        ("loss = \"sigmoid\"", "loss_lr = 2.0"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let plain = pretrain(&recipe(section), &folder.path().join("plain"), &[]);
        let with = recipe(&format!("{section}\n{setting}"));
        let with = pretrain(&with, &folder.path().join("with"), &[]);
        assert_ne!(plain.0, with.0, "{section}, {setting}");
    }
}
