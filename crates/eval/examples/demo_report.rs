//! Writes a report of invented figures, to look at its design: `cargo run -p eval --example demo_report -- FOLDER`.
//!
//! Nothing in it was measured, and the report says so. A number of test images after the folder makes it that large.

use std::path::PathBuf;
use std::process::ExitCode;

#[path = "../tests/story/invented.rs"]
mod invented;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!(
            "name a folder for the report: cargo run -p eval --example demo_report -- FOLDER"
        );
        return ExitCode::from(2);
    };
    let images = std::env::args()
        .nth(2)
        .and_then(|images| images.parse().ok());
    let input = match images {
        Some(images) => invented::large(images),
        None => invented::input(5),
    };
    let written = std::fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot create {}: {error}", folder.display()))
        .and_then(|()| eval::write_report(&folder, &input).map_err(|error| error.to_string()))
        .and_then(|paths| {
            let results = folder.join("results.json");
            input
                .results
                .save(&results)
                .map(|()| paths)
                .map_err(|error| error.to_string())
        });
    match written {
        Ok(paths) => {
            println!(
                "{}\n{}",
                eval::summary_table(&input.results),
                paths.html.display()
            );
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
