//! A run small enough for tests: ResNet-18 of an eighth of the width on a few synthetic images.

use cifar_data::{Dataset, DatasetName, SourceOptions, SyntheticOptions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use trainer::{CheckedRecipe, Event, Experiment, Options, Recipe, StopFlag};

pub const RECIPE: &str = r#"
name = "tiny"
seed = 3
[data]
dataset = "synthetic"
validation = 40
[model]
arch = "resnet18"
width = 0.125
[augment]
policy = "standard"
[supervised]
epochs = 2
batch_size = 40
optimizer = { kind = "sgd", lr = 0.05, weight_decay = 5e-4 }
[pretrain]
epochs = 2
batch_size = 40
clip = 5.0
loss = "supcon_out"
optimizer = { kind = "sgd", lr = 0.1, nesterov = true }
schedule = { kind = "cosine", warmup_epochs = 0.5 }
projection = { kind = "mlp", dim = 16 }
[probe]
epochs = 4
batch_size = 50
[head]
epochs = 3
batch_size = 50
select_best = true
[finetune]
epochs = 1
batch_size = 40
[evaluate]
batch_size = 64
knn_k = 5
samples = 6
"#;

pub fn dataset() -> Dataset {
    let mut options = SourceOptions {
        dataset: DatasetName::Synthetic,
        ..SourceOptions::default()
    };
    options.synthetic = SyntheticOptions {
        train: 240,
        test: 60,
        ..SyntheticOptions::default()
    };
    cifar_data::open(&options, &mut ()).unwrap()
}

pub fn recipe(changes: &[(&str, &str)]) -> CheckedRecipe {
    let mut recipe = Recipe::parse(RECIPE).unwrap();
    for (field, value) in changes {
        recipe.set(field, value).unwrap();
    }
    recipe.check().unwrap()
}

pub fn create(run_dir: &Path, changes: &[(&str, &str)]) -> Experiment {
    Experiment::create(run_dir, &recipe(changes), dataset(), Options::default()).unwrap()
}

/// Options that stop the run after `steps` optimiser steps.
pub fn stop_after(steps: usize) -> Options {
    let stop = StopFlag::new();
    let flag = stop.clone();
    let mut seen = 0;
    let observer = move |event: &Event| {
        if let Event::Step(_) = event {
            seen += 1;
            if seen == steps {
                flag.stop();
            }
        }
    };
    Options {
        stop,
        observers: vec![Box::new(observer)],
        ..Options::default()
    }
}

/// Every file of a run that must not depend on the clock, with its bytes.
pub fn files(run_dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![run_dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "safetensors") {
                files.insert(
                    path.strip_prefix(run_dir).unwrap().to_owned(),
                    std::fs::read(&path).unwrap(),
                );
            }
        }
    }
    files
}

/// `metrics.jsonl` without what depends on the clock.
pub fn metrics(run_dir: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(run_dir.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
            for key in ["seconds", "images_per_second"] {
                value.as_object_mut().unwrap().remove(key);
            }
            value
        })
        .collect()
}
