//! The same bits with one thread and with two: each count in a process of its own.

use crate::common::{create, files};
use std::path::Path;
use std::process::Command;

const FOLDER: &str = "TRAINER_TEST_RUN";

/// What the child processes do; alone it does nothing.
#[test]
fn run_where_told() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        create(Path::new(&folder), &[]).run_all().unwrap();
    }
}

#[test]
fn one_thread_and_two_give_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let run = |threads: &str| {
        let run = folder.path().join(threads);
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["threads::run_where_told", "--exact"])
            .env("RAYON_NUM_THREADS", threads)
            .env(FOLDER, &run)
            .output()
            .unwrap();
        assert!(
            status.status.success(),
            "{}",
            String::from_utf8_lossy(&status.stdout)
        );
        files(&run)
    };
    let (one, two) = (run("1"), run("2"));
    assert!(one.len() > 10);
    for (path, bytes) in &one {
        assert!(two[path] == *bytes, "{} differs", path.display());
    }
}
