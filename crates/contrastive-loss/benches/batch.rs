//! Forward and backward of a loss against the batch size: time, memory above the inputs, GFLOP/s; on tiles and over the whole matrix.
//!
//! `cargo bench -p contrastive-loss` measures 256 to 8,192 rows; `cargo bench -p contrastive-loss -- 65536 131072` these. Each
//! measurement is a process of its own, so that peak memory (Linux) is that of the loss; the time is the best of as many runs as fit
//! into two seconds, at least three below 16,384 rows. GFLOP/s count 6·B²·D, the products of the whole matrix, for both.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor, Var};
use contrastive_loss::Loss;
use contrastive_loss::tiled::Execution;

const COLUMNS: usize = 128;
/// Beyond this many rows the whole matrix and its masks are too large for most machines.
const LARGEST_DENSE: usize = 8192;
const WORKER: &str = "CONTRASTIVE_LOSS_BENCH";

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let outcome = match std::env::var(WORKER) {
        Ok(task) => worker(&task),
        Err(_) => table(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All sizes, one line each.
fn table() -> Outcome<()> {
    let mut sizes: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = (8..=13).map(|power| 1 << power).collect();
    }
    println!("supcon_out, D = {COLUMNS}, f32, forward + backward\n");
    println!("      B   path      seconds    GFLOP/s   MB above the inputs");
    for rows in sizes {
        for (execution, fits) in [("tiled", true), ("dense", rows <= LARGEST_DENSE)] {
            if !fits {
                continue;
            }
            let output = Command::new(std::env::current_exe()?)
                .env(WORKER, format!("{execution} {rows}"))
                .output()?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into());
            }
            let text = String::from_utf8(output.stdout)?;
            let mut words = text.split_whitespace();
            let seconds: f64 = words.next().unwrap_or_default().parse()?;
            let flops = 6.0 * (rows * rows * COLUMNS) as f64;
            println!(
                "{rows:>7}   {execution:<6}{seconds:>11.4}{:>11.1}{:>12}",
                flops / seconds / 1e9,
                words.next().unwrap_or("-")
            );
        }
    }
    Ok(())
}

/// One measurement: prints seconds and, where known, megabytes.
fn worker(task: &str) -> Outcome<()> {
    let (execution, rows) = task.split_once(' ').ok_or("expected PATH ROWS")?;
    let rows: usize = rows.parse()?;
    let execution = match execution {
        "tiled" => Execution::Tiled,
        _ => Execution::Dense,
    };
    let values: Vec<f32> = (0..rows * COLUMNS)
        .map(|k| (k as f32 * 0.7 + (k / 1000) as f32).sin())
        .collect();
    let z = Var::from_vec(values, (rows, COLUMNS), &Device::Cpu)?;
    let labels: Vec<u32> = (0..rows as u32).map(|row| row % 10).collect();
    let loss = Loss::supcon_out();
    let step = || -> Outcome<Tensor> {
        let mean = loss.forward_by(execution, &z, &labels, 1)?.mean()?;
        let gradients = mean.backward()?;
        Ok(gradients.get(&z).ok_or("no gradient")?.clone())
    };
    let before = memory("VmRSS:");
    step()?;
    let peak = memory("VmHWM:")
        .zip(before)
        .map(|(peak, before)| peak - before);
    let (begun, mut best) = (Instant::now(), Duration::MAX);
    let least = if rows < 16_384 { 3 } else { 1 };
    let mut runs = 0;
    while runs < least || begun.elapsed() < Duration::from_secs(2) {
        let start = Instant::now();
        step()?;
        best = best.min(start.elapsed());
        runs += 1;
    }
    let megabytes = peak.map_or_else(
        || "-".to_owned(),
        |kilobytes| format!("{:.1}", kilobytes / 1e3),
    );
    println!("{} {megabytes}", best.as_secs_f64());
    Ok(())
}

/// A line of `/proc/self/status`, in kB.
fn memory(field: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
