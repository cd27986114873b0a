//! `completions SHELL`: a completion script on stdout.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::{cli::Cli, text::out};

/// Prints the script; `xtask completions bash > ~/.local/share/bash-completion/completions/xtask`.
pub fn run(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "xtask", &mut script);
    Ok(out(String::from_utf8_lossy(&script).trim_end())?)
}
