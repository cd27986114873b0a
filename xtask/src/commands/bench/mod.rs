//! `bench`: images per second of a training step (forward, backward, update), alone or against
//! the same step written with stock Candle.
//!
//! Ratios of a noisy machine hold only within one process: the two alternate, and medians are
//! compared.

mod loss;
mod loss_plot;
mod stock;

use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use candle_core::{Device, Tensor};
use clap::ValueEnum;
use serde::Serialize;
use trainer::BenchNetwork;

use crate::{
    cli::{BenchArgs, BenchOf},
    device, machine,
    progress::Screen,
    text::out,
};

/// What `--peer` may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// The same network and step with candle-nn's own layers.
    StockCandle,
}

/// Images per second over all rounds.
#[derive(Debug, Clone, Serialize)]
struct Rates {
    median: f64,
    lowest: f64,
    highest: f64,
    samples: Vec<f64>,
}

/// The outcome, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Report {
    machine: String,
    device: &'static str,
    network: String,
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
    let device = args.device.unwrap_or_default().open()?;
    let batch = args.batch as usize;
    let screen = Screen::stderr();
    screen.note(format!(
        "{} of {batch} images of 32×32 on {}",
        args.network,
        machine::line()
    ));

    let mut own = trainer::training_step(args.network, args.precision.into(), batch, &device)?;
    let mut own = move || Ok(own.run()?);
    let mut stock = match args.peer {
        Some(Peer::StockCandle) => Some(stock_step(args.network, batch, &device)?),
        None => None,
    };
    let mut contenders: Vec<&mut Step> = vec![&mut own];
    if let Some(stock) = &mut stock {
        contenders.push(stock);
    }
    let samples = alternate(&mut contenders, args, &screen)?;
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
        network: args.network.to_string(),
        batch,
        steps: args.steps as usize,
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
    args: &BenchArgs,
    screen: &Screen,
) -> Result<Vec<Vec<f64>>> {
    for step in contenders.iter_mut() {
        step()?;
    }
    let mut samples = vec![Vec::new(); contenders.len()];
    for round in 1..=args.rounds {
        for (step, rates) in contenders.iter_mut().zip(&mut samples) {
            let begun = Instant::now();
            for _ in 0..args.steps {
                let loss = step()?;
                if !loss.is_finite() {
                    return Err(anyhow!(
                        "the loss became {loss} while measuring; this is a bug"
                    ));
                }
            }
            let images = f64::from(args.batch) * f64::from(args.steps);
            rates.push(images / begun.elapsed().as_secs_f64());
        }
        let latest: Vec<String> = samples
            .iter()
            .filter_map(|rates| rates.last())
            .map(|rate| format!("{rate:.1}"))
            .collect();
        screen.note(format!(
            "round {round}/{}: {} images/s",
            args.rounds,
            latest.join(" and ")
        ));
    }
    Ok(samples)
}

impl Rates {
    fn of(samples: Vec<f64>) -> Self {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
        };
        Self {
            median,
            lowest: sorted.first().copied().unwrap_or(f64::NAN),
            highest: sorted.last().copied().unwrap_or(f64::NAN),
            samples,
        }
    }

    fn row(&self, name: &str) -> String {
        format!(
            "{name:<14}{:>10.1}{:>10.1}{:>10.1}\n",
            self.median, self.lowest, self.highest
        )
    }
}

impl Report {
    fn table(&self) -> String {
        let mut text = format!(
            "{}\n{}, batch {}, {} rounds of {} steps, f32, device {}\n\nimages/s          median    lowest   highest\n",
            self.machine, self.network, self.batch, self.rounds, self.steps, self.device
        );
        text += &self.images_per_second.row("this project");
        if let Some(peer) = &self.peer {
            text += &peer.images_per_second.row(peer.name);
            text += &format!(
                "\n{:.2} times {} (medians of one process)\n",
                peer.times_faster, peer.name
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(Rates::of(vec![3.0, 1.0, 2.0]).median, 2.0);
        let rates = Rates::of(vec![4.0, 1.0, 2.0, 3.0]);
        assert_eq!((rates.median, rates.lowest, rates.highest), (2.5, 1.0, 4.0));
        assert_eq!(rates.samples, [4.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn the_table_fits_80_columns() {
        let rates = Rates::of(vec![123_456.7]);
        let report = Report {
            machine: "some processor, AVX-512, 2 threads".into(),
            device: "cpu",
            network: "r50-cifar".into(),
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
