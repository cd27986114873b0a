//! Stopped at any moment and resumed, a run ends with the same bits as one that never stopped.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::support::{World, assert_same, finish, signal, tiny};

/// SIGKILL after random delays, again and again, until the run gets through.
#[test]
fn killed_at_random_moments() {
    let world = World::new();
    let begun = Instant::now();
    world.tiny("run-all", "whole", &[]).ok();
    let whole = begun.elapsed();

    // Moments from a fixed generator, spread over the run's own time.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut kills = 0;
    let mut outcome = None;
    for attempt in 0..40 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let share = (state >> 40) as f64 / (1u64 << 24) as f64;
        let more: &[&str] = if world.path("killed/recipe.toml").exists() {
            &["--resume"]
        } else {
            &[]
        };
        let child = world.start(&tiny("run-all", "killed", more));
        if attempt < 8 {
            thread::sleep(whole.mul_f64(0.1 + 0.5 * share));
            signal(&child, "KILL");
        }
        let end = finish(child);
        match end.code {
            None => kills += 1,
            Some(_) => {
                outcome = Some(end);
                break;
            }
        }
    }
    outcome.expect("the run got through").ok();
    assert!(kills >= 2, "only {kills} kills: the delays are too long");
    assert_same(&world.path("whole"), &world.path("killed"));
}

/// SIGTERM, SIGINT and SIGUSR1 write a checkpoint, say how to go on, and exit with 128 + signal.
#[test]
fn stopped_by_signals() {
    let world = World::new();
    let begun = Instant::now();
    world.tiny("run-all", "whole", &[]).ok();
    let whole = begun.elapsed();

    let usr1 = if cfg!(target_os = "macos") {
        128 + 30
    } else {
        128 + 10
    };
    for (turn, (name, code)) in [("TERM", 143), ("INT", 130), ("USR1", usr1)]
        .into_iter()
        .enumerate()
    {
        let more: &[&str] = if turn == 0 { &[] } else { &["--resume"] };
        let child = world.start(&tiny("run-all", "stopped", more));
        wait_for_config(&world, "stopped");
        thread::sleep(whole.mul_f64(0.2));
        signal(&child, name);
        let end = finish(child);
        assert_eq!(end.code, Some(code), "{name}: {}", end.stderr);
        let last = end.stderr.lines().last().unwrap_or_default();
        assert!(
            last.contains("--resume") && last.contains("--run-dir stopped"),
            "{}",
            end.stderr
        );
    }
    world
        .run(&["run-all", "--run-dir=stopped", "--resume"])
        .ok();
    assert_same(&world.path("whole"), &world.path("stopped"));
}

/// A second SIGINT does not wait for the checkpoint.
#[test]
fn a_second_interrupt_ends_at_once() {
    let world = World::new();
    let child = world.start(&tiny("run-all", "run", &["--set=supervised.epochs=1000"]));
    wait_for_config(&world, "run");
    thread::sleep(Duration::from_millis(300));
    signal(&child, "INT");
    signal(&child, "INT");
    let begun = Instant::now();
    assert_eq!(finish(child).code, Some(130));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

fn wait_for_config(world: &World, run: &str) {
    let begun = Instant::now();
    while !world.path(run).join("config.toml").exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the run never began"
        );
        thread::sleep(Duration::from_millis(10));
    }
}
