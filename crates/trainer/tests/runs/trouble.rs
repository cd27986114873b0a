//! What goes wrong is named: collapse, a loss that is no number, a folder in use.

use crate::common::{create, dataset, recipe};
use candle_core::Device;
use resnet::{Arch, Parameters, ResNet, ResNetConfig, Stem};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use trainer::{Arm, Error, Event, Experiment, Options, StageId, StageKind};

const PRETRAIN: StageId = StageId {
    arm: Arm::Contrastive,
    kind: StageKind::Pretrain,
};

#[test]
fn collapse_is_called_by_name_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut experiment = create(
        &folder.path().join("run"),
        &[
            // A decay that halves all weights at every step: only the last bias is left of an embedding.
            ("pretrain.optimizer.weight_decay", "5.0"),
            ("pretrain.optimizer.nesterov", "false"),
            ("pretrain.optimizer.momentum", "0.0"),
            ("pretrain.schedule.kind", "constant"),
            ("pretrain.epochs", "6"),
            ("pretrain.collapse_patience", "4"),
        ],
    );
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&warnings);
    experiment.add_observer(move |event: &Event| {
        if let Event::Warning { message, .. } = event {
            log.lock().unwrap().push(message.clone());
        }
    });
    experiment.run_stage(PRETRAIN).unwrap();
    let warnings = warnings.lock().unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("collapse") && warnings[0].contains("temperature"));
}

#[test]
fn a_loss_that_is_no_number_stops_with_step_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let changes = [
        ("supervised.optimizer.lr", "1e30"),
        ("supervised.epochs", "20"),
    ];
    let mut experiment = create(&run, &changes);
    let stage = StageId::new(Arm::Baseline, StageKind::Supervised);
    let error = experiment.run_stage(stage).unwrap_err();
    assert!(matches!(error, Error::NonFinite { .. }), "{error}");
    let message = error.to_string();
    for word in [
        "baseline/supervised",
        "step",
        "learning rate",
        "supervised.optimizer.lr",
        "supervised.clip",
    ] {
        assert!(message.contains(word), "{message}");
    }
    assert!(!run.join("baseline/supervised.json").exists());
}

#[test]
fn a_run_folder_has_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let first = create(&run, &[]);
    let second = Experiment::resume(&run, None, dataset(), Options::default());
    assert!(matches!(second.err().unwrap(), Error::Locked { .. }));
    drop(first);
    Experiment::resume(&run, None, dataset(), Options::default()).unwrap();
}

#[test]
fn batches_larger_than_the_data_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let recipe = recipe(&[("pretrain.batch_size", "4000")]);
    let error = Experiment::create(&run, &recipe, dataset(), Options::default())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("pretrain.batch_size") && error.contains("200 images"),
        "{error}"
    );
    assert!(!run.exists());
}

/// Random weights of the recipe's network, `width` wide.
fn write_weights(path: &Path, width: f64, seed: u64) {
    let config = ResNetConfig {
        width,
        ..ResNetConfig::new(Arch::ResNet18, Stem::ImageNet)
    };
    let mut parameters = Parameters::new(&Device::Cpu);
    let mut rng = cifar_data::stream(seed, "test", &[]);
    ResNet::new(&config, &mut parameters, &mut rng).unwrap();
    parameters.save(path, &BTreeMap::new()).unwrap();
}

#[test]
fn initial_weights_that_are_missing_or_do_not_fit_leave_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let wide = folder.path().join("wide.safetensors");
    write_weights(&wide, 0.25, 0);
    for (file, reason) in [
        ("nowhere.safetensors", "no file"),
        (wide.to_str().unwrap(), "do not fit"),
    ] {
        for changes in [
            &[("model.init", file)][..],
            &[("arms.transfer", "true"), ("transfer.init", file)],
        ] {
            let result = Experiment::create(&run, &recipe(changes), dataset(), Options::default());
            let error = result.err().unwrap();
            assert!(
                matches!(error, Error::Network(_) | Error::Unfit { .. }),
                "{error}"
            );
            let message = error.to_string();
            assert!(
                message.contains(file) && message.contains(reason),
                "{message}"
            );
            assert!(!run.exists());
        }
        // Of an arm that is off, nobody asks.
        create(&folder.path().join(reason), &[("transfer.init", file)]);
    }
}

#[test]
fn initial_weights_that_changed_since_the_run_began_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let weights = folder.path().join("w.safetensors");
    write_weights(&weights, 0.125, 0);
    let file = weights.to_str().unwrap();
    let mut experiment = create(&run, &[("model.init", file)]);
    let checksum = resnet::sha256(&weights).unwrap();
    let record = std::fs::read_to_string(run.join("environment.json")).unwrap();
    assert!(record.contains(&checksum), "{record}");
    write_weights(&weights, 0.125, 1);
    let error = experiment.run_stage(PRETRAIN).unwrap_err();
    assert!(matches!(error, Error::ResumeMismatch { .. }), "{error}");
    assert!(error.to_string().contains(&checksum), "{error}");
    write_weights(&weights, 0.125, 0);
    experiment.run_stage(PRETRAIN).unwrap();
}

#[test]
fn a_run_does_not_change_its_device() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    drop(create(&run, &[]));
    let record = run.join("environment.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let elsewhere = text.replace("\"device\": \"cpu\"", "\"device\": \"cuda:0\"");
    assert_ne!(text, elsewhere);
    std::fs::write(&record, elsewhere).unwrap();
    let mut experiment = Experiment::resume(&run, None, dataset(), Options::default()).unwrap();
    let error = experiment.run_stage(PRETRAIN).unwrap_err();
    assert!(matches!(error, Error::ResumeMismatch { .. }), "{error}");
    assert!(error.to_string().contains("cuda:0"), "{error}");
}

#[test]
fn an_encoder_that_was_trained_and_is_gone_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut experiment = create(&run, &[]);
    experiment.run_stage(PRETRAIN).unwrap();
    std::fs::remove_file(run.join("contrastive/encoder.safetensors")).unwrap();
    let probe = StageId {
        arm: Arm::Contrastive,
        kind: StageKind::Probe,
    };
    let error = experiment.run_stage(probe).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("encoder.safetensors"), "{error}");
}
