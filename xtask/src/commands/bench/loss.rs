//! `bench loss`: forward and backward of a contrastive loss against the batch size, on tiles; beside PyTorch where it fits.
//!
//! Every size and contender is a process of its own that answers line by line, so that peak memory is the loss' own and the
//! contenders alternate: this project, PyTorch, this project, …; medians are compared.

use std::{path::Path, process::Command, time::Instant};

use anyhow::{Context, Result, bail};
use candle_core::{Device, Var};
use contrastive_loss::{Loss, tiled::Execution};
use serde::{Deserialize, Serialize};

use super::{
    contender::{Contender, memory},
    loss_plot,
    rates::Rates,
};
use crate::{cli::LossArgs, machine, progress::Screen, text::out};

/// The same loss with PyTorch.
const PEER: &str = include_str!("../../../../assets/bench/torch_loss.py");

/// What a worker answers for one pass.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Answer {
    seconds: f64,
    loss: f64,
    /// Peak memory above the inputs; none where the system does not tell.
    megabytes: Option<f64>,
    version: String,
}

/// One contender at one size.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Measured {
    pub(super) rows: usize,
    pub(super) seconds: Rates,
    pub(super) megabytes: Option<f64>,
    /// 6·B²·D operations, the products of the whole matrix, over the median time.
    pub(super) gflops: f64,
    loss: f64,
}

/// The outcome, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: String,
    pub(super) columns: usize,
    rounds: u32,
    pub(super) tiled: Vec<Measured>,
    pub(super) peer: Vec<Measured>,
    pub(super) peer_version: Option<String>,
}

/// Measures and prints; with a task, answers as a worker.
pub fn run(args: &LossArgs) -> Result<()> {
    let columns = args.dim as usize;
    if let Some(rows) = args.worker {
        return work(rows, columns);
    }
    let screen = Screen::stderr();
    let mut report = Report {
        machine: machine::line(),
        columns,
        rounds: args.rounds,
        tiled: Vec::new(),
        peer: Vec::new(),
        peer_version: None,
    };
    for &rows in &args.sizes {
        let peer = args.peer.as_deref().filter(|_| rows <= args.peer_limit);
        let rounds = if rows < 32_768 { args.rounds } else { 1 };
        measure(rows, columns, rounds, peer, &mut report)?;
        if let Some(latest) = report.tiled.last() {
            screen.note(format!("{rows} rows: {:.3} s", latest.seconds.median));
        }
    }
    if let Some(file) = &args.plot {
        fs_err::write(file, loss_plot::svg(&report))?;
        screen.note(format!("plot: {}", file.display()));
    }
    if args.json {
        return Ok(out(serde_json::to_string_pretty(&report)?)?);
    }
    out(report.table().trim_end())?;
    Ok(())
}

/// One size: an unmeasured pass each, then rounds in turn.
fn measure(
    rows: usize,
    columns: usize,
    rounds: u32,
    peer: Option<&Path>,
    report: &mut Report,
) -> Result<()> {
    let mut own = Command::new(std::env::current_exe()?);
    let (size, width) = (rows.to_string(), columns.to_string());
    own.args(["bench", "loss", "--dim", &width, "--worker", &size]);
    let mut contenders = vec![Contender::start(
        own,
        "this project",
        "--sizes takes smaller ones",
    )?];
    if let Some(python) = peer {
        let mut command = Command::new(python);
        let threads = kernels::cpu_features().threads.to_string();
        command.args(["-c", PEER, &size, &width, &threads]);
        contenders.push(Contender::start(
            command,
            "the peer",
            "--peer takes a Python with PyTorch, --peer-limit lowers its sizes",
        )?);
    }
    let mut samples = vec![Vec::new(); contenders.len()];
    let mut last = Vec::new();
    for round in 0..=rounds {
        last.clear();
        for (contender, samples) in contenders.iter_mut().zip(&mut samples) {
            let answer: Answer = contender.ask(&"go")?;
            if round > 0 {
                samples.push(answer.seconds);
            }
            last.push(answer);
        }
    }
    let mut measured = samples.into_iter().zip(&last).map(|(samples, answer)| {
        let seconds = Rates::of(samples);
        Measured {
            rows,
            megabytes: answer.megabytes.filter(|m| m.is_finite()),
            gflops: 6e-9 * (rows * rows * columns) as f64 / seconds.median,
            loss: answer.loss,
            seconds,
        }
    });
    report.tiled.extend(measured.next());
    if let Some(peer) = measured.next() {
        let own = report.tiled.last().map_or(f64::NAN, |m| m.loss);
        if (peer.loss - own).abs() > 1e-3 * own.abs() {
            bail!(
                "the contenders disagree on the loss of {rows} rows: {own} here, {} there; this is a bug",
                peer.loss
            );
        }
        report.peer.push(peer);
        report.peer_version = last.pop().map(|answer| answer.version);
    }
    Ok(())
}

/// The same rows as the peer's, and a pass for every line that comes in.
fn work(rows: usize, columns: usize) -> Result<()> {
    let values = (0..rows * columns).map(|k| (k as f32 * 0.7 + (k / 1000) as f32).sin());
    let z = Var::from_vec(values.collect(), (rows, columns), &Device::Cpu)?;
    let labels: Vec<u32> = (0..rows as u32).map(|row| row % 10).collect();
    let loss = Loss::supcon_out();
    let before = memory("VmRSS:");
    for line in std::io::stdin().lines() {
        line?;
        let start = Instant::now();
        let mean = loss.forward_by(Execution::Tiled, &z, &labels, 1)?.mean()?;
        let gradients = mean.backward()?;
        gradients.get(&z).context("no gradient arrived")?;
        let seconds = start.elapsed().as_secs_f64();
        let answer = Answer {
            seconds,
            loss: f64::from(mean.to_scalar::<f32>()?),
            megabytes: memory("VmHWM:")
                .zip(before)
                .map(|(peak, before)| peak.saturating_sub(before) as f64 / 1e6),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        out(serde_json::to_string(&answer)?)?;
    }
    Ok(())
}

impl Report {
    fn table(&self) -> String {
        let peer = self.peer_version.as_deref().unwrap_or("no peer");
        let mut text = format!(
            "{}\nsupcon_out, D = {}, f32, forward + backward; peer: {peer}, whole matrix\n\n",
            self.machine, self.columns
        );
        text += &format!(
            "{:>7}{:>11} {:<18}{:>8}{:>7}{:>9}{:>9}{:>9}\n",
            "B", "seconds", "(lowest–highest)", "GFLOP/s", "MB", "peer s", "peer MB", "faster"
        );
        let megabytes = |m: Option<f64>| m.map_or_else(|| "-".to_owned(), |m| format!("{m:.0}"));
        for own in &self.tiled {
            let s = &own.seconds;
            let spread = format!("({}–{})", short(s.lowest), short(s.highest));
            text += &format!(
                "{:>7}{:>11} {spread:<18}{:>8.0}{:>7}",
                own.rows,
                short(s.median),
                own.gflops,
                megabytes(own.megabytes)
            );
            if let Some(peer) = self.peer.iter().find(|peer| peer.rows == own.rows) {
                text += &format!(
                    "{:>9}{:>9}{:>8.1}×",
                    short(peer.seconds.median),
                    megabytes(peer.megabytes),
                    peer.seconds.median / s.median
                );
            }
            text += "\n";
        }
        text
    }
}

/// Three digits.
fn short(seconds: f64) -> String {
    match seconds {
        s if s < 0.01 => format!("{s:.5}"),
        s if s < 1.0 => format!("{s:.3}"),
        s => format!("{s:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(rows: usize, seconds: f64) -> Measured {
        Measured {
            rows,
            seconds: Rates::of(vec![seconds]),
            megabytes: Some(104.2),
            gflops: 176.0,
            loss: 9.0,
        }
    }

    fn report() -> Report {
        Report {
            machine: "some processor".into(),
            columns: 128,
            rounds: 3,
            tiled: vec![measured(256, 0.001), measured(131_072, 100.5)],
            peer: vec![measured(256, 0.0035)],
            peer_version: Some("PyTorch 2".into()),
        }
    }

    #[test]
    fn the_table_fits_80_columns_and_names_the_ratio() {
        let table = report().table();
        assert!(
            table.lines().all(|line| line.chars().count() <= 80),
            "{table}"
        );
        assert!(table.contains("3.5×"), "{table}");
        let svg = loss_plot::svg(&report());
        assert!(svg.starts_with("<svg") && svg.matches("<polyline").count() == 4);
        assert!(svg.contains("131072") && svg.contains("PyTorch 2"));
    }
}
