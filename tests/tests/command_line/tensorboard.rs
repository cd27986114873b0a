//! What a run writes for TensorBoard, read by TensorBoard's own reader.

use std::fs;

use serde_json::Value;

use crate::{
    python,
    support::{World, finish, signal, tiny},
};

#[test]
fn tensorboard_reads_scalars_histograms_images_and_the_projector() {
    let world = World::new();
    let more = ["--set=augment.views=2", "--set=arms.finetuned=false"];
    world.tiny("run-all", "run", &more).ok();
    for file in ["tensors.tsv", "metadata.tsv", "sprite.png"] {
        assert!(
            world.path("run/projector/contrastive").join(file).is_file(),
            "{file}"
        );
    }
    let modules = ["tensorboard.backend.event_processing.event_accumulator"];
    let Some(command) = python::with("tensorboard_reads_a_run", &modules) else {
        return;
    };
    let printed = python::script(command, "tensorboard_read.py", &[&world.path("run")]);
    let found: Value = serde_json::from_str(&printed).expect("JSON");
    scalars_are_those_of_the_metrics(&world, &found["scalars"]);
    histograms_count_every_weight(&world, &found["histograms"]);
    // Two views of eight images at the start of pretraining; single views in four columns for the baseline.
    for (tag, size) in [
        ("contrastive/pretrain/first batch", [64, 256]),
        ("baseline/supervised/first batch", [128, 64]),
    ] {
        let image = &found["images"][tag][0];
        assert_eq!(image["step"], 0, "{tag}");
        assert_eq!(image["size"], serde_json::json!(size), "{tag}");
        assert_eq!(image["size"], image["png"], "{tag}");
    }
    let projector = found["projector"].as_array().expect("tables");
    assert_eq!(projector.len(), 3, "baseline, contrastive, control");
    for table in projector {
        let (rows, metadata) = (
            table["rows"].as_array().expect("rows"),
            table["metadata"].as_array().expect("rows"),
        );
        assert_eq!(
            (rows.len(), metadata.len()),
            (100, 101),
            "validation images, and a heading"
        );
        assert_eq!(metadata[0], serde_json::json!(["index", "class"]));
        assert_eq!(rows[0].as_array().map(Vec::len), Some(64));
        assert_eq!(
            (&table["tile"], &table["sprite"]),
            (&serde_json::json!([32, 32]), &serde_json::json!([320, 320]))
        );
    }
}

/// Every step's loss, in order.
fn scalars_are_those_of_the_metrics(world: &World, scalars: &Value) {
    let text = fs::read_to_string(world.path("run/metrics.jsonl")).expect("metrics");
    let steps: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .filter(|line| line["event"] == "step" && line["stage"] == "contrastive/pretrain")
        .collect();
    let losses = scalars["contrastive/pretrain/loss"]
        .as_array()
        .expect("losses");
    assert_eq!(losses.len(), steps.len());
    for (read, step) in losses.iter().zip(&steps) {
        assert_eq!(read[0], step["global_step"]);
        let expected = step["loss"].as_f64().expect("a loss") as f32;
        assert_eq!(read[1].as_f64().map(|value| value as f32), Some(expected));
    }
}

/// The last histogram of a weight is of the weight that the stage handed on.
fn histograms_count_every_weight(world: &World, histograms: &Value) {
    let file = resnet::read_safetensors(&world.path("run/contrastive/encoder.safetensors"))
        .expect("weights");
    for name in ["conv1.weight", "layer4.1.conv2.weight"] {
        let weight: Vec<f32> = file.tensors[name]
            .flatten_all()
            .and_then(|w| w.to_vec1())
            .expect("values");
        let tag = format!("contrastive/pretrain/weights/encoder.{name}");
        let series = histograms[&tag]
            .as_array()
            .unwrap_or_else(|| panic!("{tag}"));
        assert_eq!(series.len(), 2, "an epoch each");
        let last = &series[1];
        let least = weight.iter().copied().fold(f32::INFINITY, f32::min);
        let most = weight.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert_eq!(last["num"].as_f64(), Some(weight.len() as f64));
        assert_eq!(
            (last["min"].as_f64(), last["max"].as_f64()),
            (Some(least.into()), Some(most.into()))
        );
        let list = |field: &str| -> Vec<f64> {
            let values = last[field].as_array().expect("a list");
            values.iter().filter_map(Value::as_f64).collect()
        };
        let (limits, counts) = (list("limits"), list("counts"));
        assert!(limits.is_sorted() && limits.len() == counts.len());
        // As many below each limit as there really are.
        let mut below = 0.0;
        for (limit, count) in limits.iter().zip(counts) {
            below += count;
            let really = weight.iter().filter(|&&w| f64::from(w) < *limit).count();
            let equal = weight.iter().filter(|&&w| f64::from(w) == *limit).count();
            assert!(
                ((really as f64)..=(really + equal) as f64).contains(&below),
                "{limit}"
            );
        }
        let gradient = &histograms[tag.replace("weights", "gradients")][1];
        assert_eq!(gradient["num"], last["num"]);
        assert!(gradient["max"].as_f64() > gradient["min"].as_f64());
    }
}

/// Watching weights changes none, and a resumed run tells what the uninterrupted one told.
#[test]
fn a_resumed_run_tells_the_same() {
    let world = World::new();
    world.tiny("pretrain", "whole", &[]).ok();
    let child = world.start(&tiny("pretrain", "cut", &[]));
    let begun = std::time::Instant::now();
    let metrics = world.path("cut/metrics.jsonl");
    while fs::metadata(&metrics).map_or(0, |file| file.len()) == 0 && begun.elapsed().as_secs() < 60
    {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    signal(&child, "TERM");
    finish(child);
    world.run(&["pretrain", "--run-dir=cut", "--resume"]).ok();
    for weights in ["encoder", "projection"] {
        let file = |run: &str| {
            fs::read(world.path(&format!("{run}/contrastive/{weights}.safetensors")))
                .expect("weights")
        };
        assert!(file("whole") == file("cut"), "{weights}");
    }
    // The event files differ in the clock alone: as many bytes.
    let length = |run: &str| {
        fs::metadata(world.path(run).join("events.out.tfevents.0.run"))
            .expect("events")
            .len()
    };
    assert_eq!(length("whole"), length("cut"));
}
