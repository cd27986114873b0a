//! `run-all` on embedded data: every stage, the report, and the same bits every time.

use std::fs;

use crate::support::{World, assert_narrow, assert_same};

#[test]
fn run_all_ends_with_the_table_and_the_report() {
    let world = World::new();
    let outcome = world.tiny("run-all", "runs/first", &[]);
    outcome.ok();
    assert_narrow(&outcome.stderr);
    assert_narrow(&outcome.stdout);

    // The notice, the plan with its estimate, the stages, the epochs.
    assert!(
        outcome.stderr.contains("S Y N T H E T I C"),
        "{}",
        outcome.stderr
    );
    assert!(outcome.stdout.contains("SYNTHETIC"), "{}", outcome.stdout);
    assert!(
        outcome
            .stderr
            .contains("in all, at the speed of the first steps"),
        "{}",
        outcome.stderr
    );
    for stage in [
        "baseline/supervised",
        "contrastive/pretrain",
        "control/probe",
        "finetuned/finetune",
    ] {
        assert!(
            outcome.stderr.contains(stage),
            "{stage}: {}",
            outcome.stderr
        );
    }
    assert!(
        outcome.stderr.contains("epoch 2/2: loss "),
        "{}",
        outcome.stderr
    );
    assert!(
        !outcome.stderr.contains('\u{1b}'),
        "no escape codes where there is no terminal"
    );

    // The table and the paths.
    for arm in ["Baseline", "Contrastive", "Control", "Fine-tuned"] {
        assert!(outcome.stdout.contains(arm), "{arm}: {}", outcome.stdout);
    }
    assert!(
        outcome.stdout.contains("runs/first/report.html"),
        "{}",
        outcome.stdout
    );

    // The folder, as documented.
    let run = world.path("runs/first");
    for file in [
        "config.toml",
        "environment.json",
        "metrics.jsonl",
        "results.json",
        "report.md",
        "report.html",
        "baseline/encoder.safetensors",
        "contrastive/encoder.safetensors",
    ] {
        assert!(run.join(file).is_file(), "{file}");
    }
    assert!(
        fs::read_dir(&run).expect("a folder").any(|entry| entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .starts_with("events.out.tfevents.")),
        "TensorBoard events"
    );
    let results = world.results("runs/first");
    assert_eq!(results["dataset"]["synthetic"], true);
    for name in ["baseline", "contrastive", "control", "finetuned"] {
        let arm = &results["arms"][name];
        let top1 = arm["test"]["top1"].as_f64().expect("top1");
        assert!((0.0..=1.0).contains(&top1));
        for cost in ["epochs", "seconds", "images_per_second"] {
            assert!(
                arm["train"][cost].as_f64().is_some_and(|value| value > 0.0),
                "{cost}"
            );
        }
        // Features of a frozen encoder are computed once, and that takes its time.
        for stage in arm["train"]["stages"].as_array().expect("stages") {
            assert!(
                stage["seconds"].as_f64().is_some_and(|s| s > 0.0),
                "{stage}"
            );
        }
        // Both heads are trained on frozen encoders.
        let both = matches!(name, "contrastive" | "control");
        assert!(arm["heads"]["linear"].is_object());
        assert_eq!(arm["heads"]["mlp"].is_object(), both, "{name}");
    }
    let report = fs::read_to_string(run.join("report.html")).expect("a report");
    assert!(report.contains("SYNTHETIC"));
    for outside in ["src=\"http", "href=\"http", "url(http", "@import"] {
        assert!(
            !report.contains(outside),
            "the report needs the network: {outside}"
        );
    }

    // Again with --resume: everything is done, nothing changes but the clock.
    let weights = fs::read(run.join("contrastive/encoder.safetensors")).expect("weights");
    // A clock that shows seconds must not stand still by chance.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let again = world.run(&["run-all", "--run-dir=runs/first", "--resume"]);
    again.ok();
    assert!(
        again.stderr.contains("every stage is done") && !again.stderr.contains("measuring"),
        "{}",
        again.stderr
    );
    let finished = &results["environment"]["finished"];
    assert!(finished.is_string(), "{finished}");
    assert_eq!(
        &world.results("runs/first")["environment"]["finished"],
        finished,
        "the run was finished when its last stage was"
    );
    assert!(
        again.stderr.contains("done before") || again.stderr.contains(" done"),
        "{}",
        again.stderr
    );
    assert_eq!(
        fs::read(run.join("contrastive/encoder.safetensors")).expect("weights"),
        weights
    );

    // The report again from the folder alone.
    fs::remove_file(run.join("report.html")).expect("removed");
    world.run(&["report", "--run-dir=runs/first"]).ok();
    assert_eq!(
        fs::read_to_string(run.join("report.html"))
            .expect("a report")
            .len(),
        report.len()
    );
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let world = World::new();
    for threads in ["1", "3"] {
        let mut command = world.command(&crate::support::tiny("run-all", threads, &[]));
        command.env("RAYON_NUM_THREADS", threads);
        crate::support::finish(command.spawn().expect("started")).ok();
    }
    assert_same_but_for_threads(&world);
}

/// `environment.threads` is the one thing that may differ.
fn assert_same_but_for_threads(world: &World) {
    for threads in ["1", "3"] {
        let mut results = world.results(threads);
        results["environment"]["threads"] = 0.into();
        let path = world.path(threads).join("results.json");
        fs::write(path, results.to_string()).expect("written");
    }
    assert_same(&world.path("1"), &world.path("3"));
}

#[test]
fn the_default_run_folder_is_named_after_recipe_and_seed() {
    let world = World::new();
    let mut arguments = vec!["train", "--seed=5"];
    arguments.extend(crate::support::TINY);
    world.run(&arguments).ok();
    assert!(
        world
            .path("runs/smoke-seed5/baseline/encoder.safetensors")
            .is_file()
    );
}

#[test]
fn a_closed_stdout_is_no_failure() {
    let world = World::new();
    let mut child = world.start(&["completions", "bash"]);
    drop(child.stdout.take());
    let status = child.wait().expect("an end");
    assert_eq!(status.code(), Some(0));
}
