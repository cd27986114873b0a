//! Tells the crate which compiler built it and, where a lock file is near, which Candle it was built with.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc).arg("--version").output();
    let version = version
        .ok()
        .and_then(|out| String::from_utf8(out.stdout).ok())
        .unwrap_or_default();
    println!("cargo::rustc-env=TRAINER_RUSTC={}", version.trim());

    let home = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let lock = Path::new(&home)
        .ancestors()
        .map(|folder| folder.join("Cargo.lock"))
        .find(|file| file.is_file());
    if let Some(lock) = lock {
        println!("cargo::rerun-if-changed={}", lock.display());
        let text = fs::read_to_string(lock).unwrap_or_default();
        let mut lines = text
            .lines()
            .skip_while(|line| *line != "name = \"candle-core\"");
        if let Some(version) = lines.nth(1).and_then(|line| line.split('"').nth(1)) {
            println!("cargo::rustc-env=TRAINER_CANDLE={version}");
        }
    }
}
