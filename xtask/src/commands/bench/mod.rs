//! `bench`: images per second of a training step (forward, backward, update), alone, against the same step written with stock
//! Candle, or (with much else) against PyTorch.
//!
//! Ratios of a noisy machine hold only where the contenders alternate; medians are compared.

mod contender;
mod goals;
mod layers;
mod loss;
mod loss_plot;
mod python;
mod rates;
mod stock;
mod table;
mod versus;
mod worker;

use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use candle_core::{Device, Tensor};
use clap::ValueEnum;
use serde::Serialize;
use trainer::BenchNetwork;

use crate::{
    cli::{BenchArgs, BenchOf, PrecisionChoice},
    device::{self, DeviceChoice},
    exit::bad_input,
    machine,
    marks::Marks,
    progress::Screen,
    text::out,
};
use rates::Rates;
pub use versus::Section;

/// Where `--write` puts the comparison.
const MARKS: Marks = Marks {
    flag: "--write",
    begin: "<!-- bench:begin -->",
    end: "<!-- bench:end -->",
};

/// Images per step where nothing else is said, and there is no peer whose batch it could be.
const BATCH: u32 = 128;
/// Training steps per measurement, likewise.
const STEPS: u32 = 2;

/// What `--peer` may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// The same network and step with candle-nn's own layers.
    StockCandle,
    /// PyTorch and torchvision in a process of their own: training, features, threads, AVX2, data.
    Torch,
}

/// The outcome, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Report {
    machine: String,
    device: &'static str,
    network: String,
    precision: PrecisionChoice,
    batch: usize,
    steps: usize,
    rounds: usize,
    images_per_second: Rates,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<PeerReport>,
}

#[derive(Debug, Serialize)]
struct PeerReport {
    name: &'static str,
    images_per_second: Rates,
    /// Median over median.
    times_faster: f64,
}

/// Something that trains one batch per call.
type Step<'a> = dyn FnMut() -> Result<f32> + 'a;

/// Measures and prints.
pub fn run(args: &BenchArgs) -> Result<()> {
    if let Some(BenchOf::Loss(args)) = &args.what {
        return loss::run(args);
    }
    if args.worker {
        return worker::run();
    }
    check(args)?;
    if args.layers {
        return layers::run(args);
    }
    match args.peer {
        Some(Peer::Torch) => against_torch(args),
        Some(Peer::StockCandle) | None => in_process(args),
    }
}

/// Refuses flags that would be passed over.
fn check(args: &BenchArgs) -> Result<()> {
    let torch = args.peer == Some(Peer::Torch);
    for (flag, given) in [
        ("--only", !args.only.is_empty()),
        ("--python", args.python.is_some()),
        ("--write", !args.write.is_empty()),
    ] {
        if given && !torch {
            return Err(bad_input(format!(
                "{flag} belongs to --peer torch; add that"
            )));
        }
    }
    if !torch && !args.layers {
        return Ok(());
    }
    let mode = if torch { "--peer torch" } else { "--layers" };
    if torch && args.layers {
        return Err(bad_input("--layers has no peer; leave --peer out"));
    }
    if args.precision.is_some() {
        return Err(bad_input(format!(
            "--precision: {mode} measures both; leave it out"
        )));
    }
    match args.device {
        None | Some(DeviceChoice::Auto | DeviceChoice::Cpu) => {}
        Some(_) => {
            return Err(bad_input(format!(
                "--device: {mode} measures the CPU; leave it out"
            )));
        }
    }
    if args.layers && args.steps.is_some() {
        return Err(bad_input("--steps: --layers takes no steps; leave it out"));
    }
    args.write.iter().try_for_each(|file| MARKS.check(file))
}

/// Both sides in processes of their own, the whole table or a part of it.
fn against_torch(args: &BenchArgs) -> Result<()> {
    let report = versus::run(args, &Screen::stderr())?;
    match args.json {
        true => out(serde_json::to_string_pretty(&report)?)?,
        false => out(table::terminal(&report).trim_end())?,
    }
    let block = table::markdown(&report);
    args.write
        .iter()
        .try_for_each(|file| MARKS.put(file, &block))
}

/// A training step in this process, alone or beside stock Candle.
fn in_process(args: &BenchArgs) -> Result<()> {
    let device = args.device.unwrap_or_default().open()?;
    let network = args.network.unwrap_or(BenchNetwork::R50);
    let precision = args.precision.unwrap_or_default();
    let (batch, steps) = (args.batch.unwrap_or(BATCH), args.steps.unwrap_or(STEPS));
    let screen = Screen::stderr();
    screen.note(format!(
        "{network} of {batch} images of 32×32 on {}",
        machine::line()
    ));

    let images = batch as usize;
    let mut own = trainer::training_step(network, precision.into(), images, &device)?;
    let mut own = move || Ok(own.run(1)?);
    let mut stock = match args.peer {
        Some(_) => Some(stock_step(network, images, &device)?),
        None => None,
    };
    let mut contenders: Vec<&mut Step> = vec![&mut own];
    if let Some(stock) = &mut stock {
        contenders.push(stock);
    }
    let samples = alternate(&mut contenders, args.rounds, steps, batch, &screen)?;
    let mut rates = samples.into_iter().map(Rates::of);
    let own = rates.next().context("nothing was measured")?;
    let peer = rates.next().map(|stock| PeerReport {
        name: "stock-candle",
        times_faster: own.median / stock.median,
        images_per_second: stock,
    });
    let report = Report {
        machine: machine::line(),
        device: device::name(&device),
        network: network.to_string(),
        precision,
        batch: images,
        steps: steps as usize,
        rounds: args.rounds as usize,
        images_per_second: own,
        peer,
    };
    if args.json {
        return Ok(out(serde_json::to_string_pretty(&report)?)?);
    }
    out(report.table().trim_end())?;
    Ok(())
}

/// The stock twin on the same kind of batch.
fn stock_step(
    network: BenchNetwork,
    batch: usize,
    device: &Device,
) -> Result<impl FnMut() -> Result<f32>> {
    let pixels = Tensor::randn(0f32, 1.0, (batch, 32, 32, 3), device)?;
    let labels: Vec<u32> = (0..batch as u32).map(|row| row % 10).collect();
    let labels = Tensor::from_vec(labels, batch, device)?;
    let mut step = stock::StockStep::new(network, &pixels, &labels, device)?;
    Ok(move || Ok(step.step()?))
}

/// One unmeasured step each, then rounds in which every contender is measured in turn.
fn alternate(
    contenders: &mut [&mut Step],
    rounds: u32,
    steps: u32,
    batch: u32,
    screen: &Screen,
) -> Result<Vec<Vec<f64>>> {
    for step in contenders.iter_mut() {
        step()?;
    }
    let mut samples = vec![Vec::new(); contenders.len()];
    for round in 1..=rounds {
        for (step, rates) in contenders.iter_mut().zip(&mut samples) {
            let begun = Instant::now();
            for _ in 0..steps {
                let loss = step()?;
                if !loss.is_finite() {
                    return Err(anyhow!(
                        "the loss became {loss} while measuring; this is a bug"
                    ));
                }
            }
            let images = f64::from(batch) * f64::from(steps);
            rates.push(images / begun.elapsed().as_secs_f64());
        }
        let latest: Vec<String> = samples
            .iter()
            .filter_map(|rates| rates.last())
            .map(|rate| format!("{rate:.1}"))
            .collect();
        screen.note(format!(
            "round {round}/{rounds}: {} images/s",
            latest.join(" and ")
        ));
    }
    Ok(samples)
}

impl Report {
    fn table(&self) -> String {
        let mut text = format!(
            "{}\n{}, batch {}, {} rounds of {} steps, {}, device {}\n\nimages/s          median    lowest   highest\n",
            self.machine,
            self.network,
            self.batch,
            self.rounds,
            self.steps,
            self.precision,
            self.device
        );
        text += &row("this project", &self.images_per_second);
        if let Some(peer) = &self.peer {
            text += &row(peer.name, &peer.images_per_second);
            text += &format!(
                "\n{:.2} times {} (medians of one process)\n",
                peer.times_faster, peer.name
            );
        }
        text
    }
}

fn row(name: &str, rates: &Rates) -> String {
    format!(
        "{name:<14}{:>10.1}{:>10.1}{:>10.1}\n",
        rates.median, rates.lowest, rates.highest
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_80_columns() {
        let rates = Rates::of(vec![123_456.7]);
        let report = Report {
            machine: "some processor, AVX-512, 2 threads".into(),
            device: "cpu",
            network: "r50-cifar".into(),
            precision: PrecisionChoice::Bf16,
            batch: 128,
            steps: 2,
            rounds: 5,
            images_per_second: rates.clone(),
            peer: Some(PeerReport {
                name: "stock-candle",
                images_per_second: rates,
                times_faster: 1.0,
            }),
        };
        assert!(
            report
                .table()
                .lines()
                .all(|line| line.chars().count() <= 80)
        );
        assert!(report.table().contains("1.00 times stock-candle"));
    }
}
