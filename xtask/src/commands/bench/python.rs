//! Finds the Python that runs the PyTorch side.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Result;

use crate::exit::bad_input;

/// What must be there.
const IMPORTS: &str = "import torch, torchvision";

const REMEDY: &str = "make one with `python3 -m venv torch && torch/bin/pip install torch torchvision` and name it with \
                      --python torch/bin/python";

/// The Python asked for, or the first of the active virtual environment's and `python3`, that imports torch and torchvision.
pub fn find(asked: Option<&Path>) -> Result<PathBuf> {
    let candidates: Vec<PathBuf> = match asked {
        Some(python) => vec![python.to_owned()],
        None => std::env::var_os("VIRTUAL_ENV")
            .map(|folder| Path::new(&folder).join("bin/python"))
            .into_iter()
            .chain([PathBuf::from("python3")])
            .collect(),
    };
    let mut refused = Vec::new();
    for python in candidates {
        match import(&python) {
            Ok(()) => return Ok(python),
            Err(reason) => refused.push(format!("{} ({reason})", python.display())),
        }
    }
    Err(bad_input(format!(
        "--peer torch needs a Python with torch and torchvision, which this is not: {}; {REMEDY}",
        refused.join(", ")
    )))
}

/// Why it cannot be used.
fn import(python: &Path) -> Result<(), String> {
    let output = Command::new(python)
        .args(["-c", IMPORTS])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| crate::exit::io_reason(&error))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    Err(last.map_or_else(
        || format!("it ended with {}", output.status),
        |line| line.trim().to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_python_is_refused_with_a_remedy() {
        let error = find(Some(Path::new("no/such/python")))
            .unwrap_err()
            .to_string();
        for word in ["no/such/python", "torchvision", "pip install", "--python"] {
            assert!(error.contains(word), "{error}");
        }
    }
}
