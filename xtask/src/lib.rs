//! The command line of the comparison: parse, call, draw progress.
//!
//! One file per command in `commands`; training itself lives in `trainer`. [`main`] is the whole
//! program, so that the tests package can link the very same one.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod cli;
mod commands;
mod device;
mod exit;
mod keys;
mod logs;
mod machine;
mod marks;
mod notice;
mod plan;
mod progress;
mod recipes;
mod session;
mod signals;
mod text;

use std::{process::ExitCode, thread};

use anyhow::{Result, anyhow};
use clap::{Parser, error::ErrorKind};

use cli::{Cli, Command};

/// Training asks for the same blocks at every step; mapping their pages anew took a third of its time.
#[global_allocator]
static ALLOCATOR: kernels::CachingAllocator = kernels::CachingAllocator::new();

/// Candle's backward pass recurses over the graph: a deep network needs a deep stack.
const STACK_BYTES: usize = 256 << 20;

/// Parses the command line, runs the command and returns its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refusal(&error),
    };
    logs::init();
    let worker = thread::Builder::new()
        .name("main".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || run(cli.command));
    let result = match worker {
        Ok(handle) => handle.join().unwrap_or_else(|_| {
            Err(anyhow!(
                "the program panicked; this is a bug, and the lines above say where"
            ))
        }),
        Err(error) => Err(anyhow!("no thread could be started: {error}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            text::note(exit::line(&error));
            ExitCode::from(exit::code(&error))
        }
    }
}

fn run(command: Command) -> Result<()> {
    kernels::check_environment().map_err(exit::bad_input)?;
    match command {
        Command::Download(flags) => commands::download::run(&flags),
        Command::Pretrain(args) => commands::pretrain::run(&args),
        Command::Train(args) => commands::train::run(&args),
        Command::Probe(args) => commands::probe::run(&args),
        Command::Finetune(args) => commands::finetune::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::RunAll(args) => commands::run_all::run(&args),
        Command::Predict(args) => commands::predict::run(&args),
        Command::Embed(args) => commands::embed::run(&args),
        Command::Search(args) => commands::search::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Watch(args) => commands::watch::run(&args),
        Command::CompareLosses(args) => commands::compare_losses::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Doctor(flags) => commands::doctor::run(&flags),
        Command::Completions { shell } => commands::completions::run(shell),
    }
}

/// Help and version are answers; everything else is bad input.
fn refusal(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe is the reader's choice.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(2)
        }
        _ => {
            text::note(format!("error: {}", cli::sentence(error)));
            ExitCode::from(2)
        }
    }
}
