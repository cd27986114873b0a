//! One writer per run folder, and folders that cannot be written.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::support::{World, assert_same, finish, signal, tiny};

#[test]
fn two_processes_cannot_write_one_run() {
    let world = World::new();
    // Far more epochs than it will be given time for.
    let long = ["--set=supervised.epochs=1000"];
    let first = world.start(&tiny("run-all", "run", &long));
    wait_for(&world, "run/config.toml");
    world
        .run(&["run-all", "--run-dir=run", "--resume"])
        .refused(&["run", "in use"]);
    world.run(&["report", "--run-dir=run"]).refused(&["in use"]);
    signal(&first, "KILL");
    assert_eq!(finish(first).code, None);
    // The lock ends with its process, however that ended.
    let second = world.start(&["run-all", "--run-dir=run", "--resume"]);
    thread::sleep(Duration::from_millis(1500));
    signal(&second, "TERM");
    assert_eq!(finish(second).code, Some(143));
}

#[test]
fn a_write_that_fails_ends_the_run_cleanly_and_the_run_goes_on_later() {
    let world = World::new();
    world.tiny("run-all", "whole", &[]).ok();
    // Files of at most 64 KiB, and EFBIG instead of a signal: the first checkpoint cannot be written.
    let program = env!("CARGO_BIN_EXE_xtask-under-test");
    let arguments = tiny("run-all", "small", &[]).join(" ");
    let mut command = Command::new("bash");
    world.prepare(&mut command);
    command.args([
        "-c",
        &format!("trap '' XFSZ; ulimit -f 64; exec '{program}' {arguments}"),
    ]);
    let outcome = finish(command.spawn().expect("bash"));
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    let last = outcome.stderr.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("error: ") && last.contains("small"),
        "{}",
        outcome.stderr
    );
    world.run(&["run-all", "--run-dir=small", "--resume"]).ok();
    assert_same(&world.path("whole"), &world.path("small"));
}

#[test]
fn an_unwritable_place_is_named() {
    let world = World::new();
    world.write("locked/file", "");
    let mut permissions = fs::metadata(world.path("locked"))
        .expect("a folder")
        .permissions();
    permissions.set_readonly(true);
    fs::set_permissions(world.path("locked"), permissions).expect("permissions");
    // For root, permissions do not bind: there, /proc takes no folders either.
    let bound = fs::create_dir(world.path("locked/probe")).is_err();
    let place = if bound { "locked/run" } else { "/proc/run" };
    if bound || cfg!(target_os = "linux") {
        world
            .tiny("run-all", place, &[])
            .refused(&["--run-dir", place]);
    }
}

/// Waits until a file of the world is there.
fn wait_for(world: &World, name: &str) {
    let begun = Instant::now();
    while !world.path(name).exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{name} never came"
        );
        thread::sleep(Duration::from_millis(10));
    }
}
