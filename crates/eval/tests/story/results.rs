//! `results.json`: round trip, reproducible bytes, times apart, and files that are something else.

use std::collections::BTreeMap;

use crate::invented;
use eval::{
    ArmResult, CorruptionRecord, DuplicatesRecord, EmbeddingMetrics, Error, Method, ProbeRecord,
    Results, SCHEMA, TrainRecord,
};
use serde_json::Value;

#[test]
fn what_is_saved_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    let results = invented::results(5);
    results.save(&path).unwrap();
    let read = Results::load(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text == results.to_json().unwrap() && text == read.to_json().unwrap());
    read.save(&path).unwrap();
    assert!(Results::load(&path).unwrap() == read);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "a temporary file was left behind"
    );
}

#[test]
fn the_keys_are_those_of_the_contract() {
    let results = invented::results(2);
    let json: Value = serde_json::from_str(&results.to_json().unwrap()).unwrap();
    assert_eq!(json["schema"], SCHEMA);
    assert_eq!(json["dataset"]["synthetic"], true);
    assert!(json["environment"]["device"].is_string());
    let arm = &json["arms"]["contrastive"];
    assert_eq!(
        arm["test"]["top1"],
        results.arms["contrastive"].test.classification.top1
    );
    for key in [
        "top5",
        "ece",
        "nll",
        "per_class",
        "confusion",
        "knn_top1",
        "precision_at_1",
        "map_at_r",
        "alignment",
        "uniformity",
    ] {
        assert!(!arm["test"][key].is_null(), "test.{key}");
    }
    for key in [
        "epochs",
        "seconds",
        "images_per_second",
        "images_seen",
        "multiply_adds",
        "stages",
    ] {
        assert!(!arm["train"][key].is_null(), "train.{key}");
    }
    assert_eq!(arm["headline"], "linear");
    assert_eq!(arm["heads"]["linear"]["top1"], arm["test"]["top1"]);
    assert!(arm["heads"]["mlp"]["top1"].is_number());
}

#[test]
fn runs_that_differ_in_times_alone_are_equal_without_them() {
    let first = invented::results(3);
    let mut second = first.clone();
    second.environment.started = Some("2031-05-05T05:05:05Z".to_owned());
    second.environment.finished = None;
    for arm in second.arms.values_mut() {
        arm.train.seconds *= 1.7;
        arm.train.images_per_second /= 1.7;
        for stage in &mut arm.train.stages {
            stage.seconds *= 1.7;
            stage.images_per_second /= 1.7;
        }
    }
    assert_ne!(first.to_json().unwrap(), second.to_json().unwrap());
    assert_eq!(
        first.without_times().to_json().unwrap(),
        second.without_times().to_json().unwrap()
    );
    second.arms.get_mut("control").unwrap().train.epochs += 1;
    assert_ne!(first.without_times(), second.without_times());
}

#[test]
fn numbers_that_are_none_survive_as_nan() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    let mut results = invented::results(1);
    let arm = results.arms.get_mut("baseline").unwrap();
    arm.test.classification.nll = f64::INFINITY;
    arm.test.classification.per_class[3] = f64::NAN;
    arm.test.embedding.alignment = Some(f64::NAN);
    arm.test.embedding.uniformity = None;
    results.save(&path).unwrap();
    let read = Results::load(&path).unwrap();
    let test = &read.arms["baseline"].test;
    assert!(test.classification.nll.is_nan() && test.classification.per_class[3].is_nan());
    assert!(test.embedding.alignment.is_some_and(f64::is_nan));
    assert_eq!(test.embedding.uniformity, None);
    assert_eq!(read.to_json().unwrap(), results.to_json().unwrap());
}

#[test]
fn measurements_on_request_survive_whatever_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    let mut results = invented::results(1);
    let arm = results.arms.get_mut("baseline").unwrap();
    arm.corruption = Some(CorruptionRecord {
        images: 3,
        clean_error: f64::NAN,
        mean_error: 2.0 / 3.0,
        families: BTreeMap::from([
            ("noise".to_owned(), f64::NAN),
            ("blur".to_owned(), 1.0 / 3.0),
        ]),
        corruptions: BTreeMap::from([
            ("fog".to_owned(), vec![0.1 + 0.2, f64::INFINITY, 1.0]),
            ("snow".to_owned(), Vec::new()),
        ]),
    });
    arm.duplicates = Some(DuplicatesRecord {
        top1: f64::NAN,
        top1_duplicates: Some(f64::NAN),
        ..DuplicatesRecord::default()
    });
    arm.probes.insert(
        "lbfgs".to_owned(),
        ProbeRecord {
            gradient: f64::NAN,
            ..ProbeRecord::default()
        },
    );
    results.save(&path).unwrap();
    let read = Results::load(&path).unwrap();
    let found = read.arms["baseline"].corruption.as_ref().unwrap();
    assert!(found.clean_error.is_nan() && found.families["noise"].is_nan());
    assert_eq!(found.families["blur"], 0.333333333333333);
    let fog = &found.corruptions["fog"];
    assert!(fog[0] == 0.3 && fog[1].is_nan() && fog[2] == 1.0);
    assert!(found.corruptions["snow"].is_empty());
    let duplicates = read.arms["baseline"].duplicates.as_ref().unwrap();
    assert!(duplicates.top1.is_nan() && duplicates.top1_duplicates.is_some_and(f64::is_nan));
    assert!(read.arms["baseline"].probes["lbfgs"].gradient.is_nan());
    assert_eq!(read.to_json().unwrap(), results.to_json().unwrap());
}

#[test]
fn another_schema_is_called_that() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    for (schema, found) in [
        (
            "\"schema\": \"contrastive-results/9\",",
            "contrastive-results/9",
        ),
        ("", "missing"),
        ("\"schema\": 3,", "3"),
    ] {
        std::fs::write(&path, format!("{{{schema} \"arms\": {{}}}}")).unwrap();
        let error = Results::load(&path).unwrap_err();
        assert!(matches!(error, Error::Schema { .. }));
        let message = error.to_string();
        assert!(
            message.contains(found) && message.contains(SCHEMA) && message.contains("results.json"),
            "{message}"
        );
    }
}

#[test]
fn broken_files_are_named_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    let whole = invented::results(1).to_json().unwrap();
    let without_seed = whole.replace("\"seed\": 0,", "");
    for text in ["", "[]", &whole[..whole.len() / 2], &without_seed] {
        std::fs::write(&path, text).unwrap();
        let message = Results::load(&path).unwrap_err().to_string();
        assert!(
            message.contains("results.json") && message.contains("line"),
            "{message}"
        );
    }
    let absent = folder.path().join("absent.json");
    assert!(
        Results::load(&absent)
            .unwrap_err()
            .to_string()
            .contains("absent.json")
    );
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    std::fs::create_dir(&path).unwrap();
    assert!(invented::results(1).save(&path).is_err());
    assert!(path.is_dir());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn the_headline_must_be_one_of_the_heads() {
    let heads = BTreeMap::from([("linear".to_owned(), Default::default())]);
    let error = ArmResult::new(
        "mlp",
        heads,
        EmbeddingMetrics::default(),
        TrainRecord::default(),
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("\"mlp\"") && error.to_string().contains("linear"),
        "{error}"
    );
}

#[test]
fn an_unrecorded_comparison_is_the_wider_one() {
    let mut results = invented::results(2);
    let paired = results.comparison("contrastive", "baseline").unwrap();
    results.comparisons.clear();
    let unpaired = results.comparison("contrastive", "baseline").unwrap();
    assert_eq!(
        (paired.method, unpaired.method),
        (Method::Paired, Method::Unpaired)
    );
    assert!((paired.difference - unpaired.difference).abs() < 1e-12);
    assert_eq!(results.comparison("contrastive", "absent"), None);
}
