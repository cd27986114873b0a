//! doctor, completions, help, version, bench.

use crate::support::{World, assert_narrow};

#[test]
fn doctor_describes_the_machine() {
    let world = World::new();
    let outcome = world.run(&["doctor"]);
    outcome.ok();
    for name in [
        "device", "threads", "simd", "memory", "disk", "data", "recipe",
    ] {
        assert!(
            outcome.stdout.contains(&format!("\n{name} ")),
            "{name}: {}",
            outcome.stdout
        );
    }
    assert!(
        outcome.stdout.contains("smoke would be run by default"),
        "{}",
        outcome.stdout
    );
    assert_narrow(&outcome.stdout);
}

#[test]
fn doctor_refuses_what_is_named_and_unusable() {
    let world = World::new();
    world
        .run(&["doctor", "--data-dir", "nowhere"])
        .refused_after_output(&["nowhere"]);
}

#[test]
fn completions_for_every_shell() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let outcome = world.run(&["completions", shell]);
        outcome.ok();
        assert!(outcome.stdout.contains("run-all"), "{shell}");
        assert_eq!(outcome.stderr, "");
    }
}

#[test]
fn help_names_every_command_and_fits() {
    let world = World::new();
    let outcome = world.run(&["--help"]);
    outcome.ok();
    for command in [
        "download",
        "pretrain",
        "train",
        "probe",
        "finetune",
        "eval",
        "report",
        "run-all",
        "watch",
        "predict",
        "embed",
        "search",
        "export",
        "bench",
        "doctor",
        "completions",
    ] {
        assert!(
            outcome.stdout.contains(&format!("  {command} ")),
            "{command}: {}",
            outcome.stdout
        );
    }
    assert!(outcome.stdout.contains("130"), "exit codes are documented");
    for command in ["run-all", "predict", "embed", "search", "bench", "doctor"] {
        world.run(&[command, "--help"]).ok();
    }
    world.run(&["--version"]).ok();
}

#[test]
fn no_command_shows_help_and_is_bad_input() {
    let world = World::new();
    let outcome = world.run::<&str>(&[]);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.contains("run-all"));
}

#[test]
fn bench_prints_json() {
    let world = World::new();
    let outcome = world.run(&[
        "bench",
        "--network=r50",
        "--batch=2",
        "--rounds=1",
        "--steps=1",
        "--json",
    ]);
    outcome.ok();
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON on stdout");
    assert_eq!(report["network"], "r50");
    assert!(
        report["images_per_second"]["median"]
            .as_f64()
            .is_some_and(|rate| rate > 0.0)
    );
    assert!(report.get("peer").is_none());
}

#[test]
fn bench_against_stock_candle_prints_the_ratio() {
    let world = World::new();
    let outcome = world.run(&[
        "bench",
        "--batch=2",
        "--rounds=1",
        "--steps=1",
        "--peer=stock-candle",
    ]);
    outcome.ok();
    assert!(
        outcome.stdout.contains("times stock-candle"),
        "{}",
        outcome.stdout
    );
    assert_narrow(&outcome.stdout);
}
