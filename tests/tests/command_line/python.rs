//! What other programs make of ours, asked of their own Python libraries where these are installed.

use std::{
    path::Path,
    process::{Command, Output},
};

/// A Python with these modules: `TEST_PYTHON`, which must have them, or else `python3`, which may. Where they are missing the test is
/// named as skipped, with what is missing.
pub fn with(test: &str, modules: &[&str]) -> Option<Command> {
    let named = std::env::var("TEST_PYTHON")
        .ok()
        .filter(|path| !path.is_empty());
    let python = named.clone().unwrap_or_else(|| "python3".to_owned());
    let mut missing = Vec::new();
    for module in modules {
        let found = Command::new(&python)
            .args(["-c", &format!("import {module}")])
            .output();
        if !found.is_ok_and(|output| output.status.success()) {
            missing.push(*module);
        }
    }
    if missing.is_empty() {
        return Some(Command::new(python));
    }
    assert!(
        named.is_none(),
        "{test}: TEST_PYTHON={python} lacks {}",
        missing.join(", ")
    );
    eprintln!(
        "SKIPPED {test}: {python} lacks {}; pip install {} and name that Python in TEST_PYTHON",
        missing.join(", "),
        modules.join(" ")
    );
    None
}

/// Runs a script of `tests/python` to its end; what it printed if it is content.
pub fn script(mut python: Command, name: &str, arguments: &[&Path]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("python")
        .join(name);
    let Output {
        status,
        stdout,
        stderr,
    } = python
        .arg(script)
        .args(arguments)
        .output()
        .expect("Python runs");
    let (out, err) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(status.success(), "{name}:\n{out}{err}");
    out.into_owned()
}
