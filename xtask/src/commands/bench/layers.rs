//! `bench --layers`: every distinct convolution of a network, its three products one by one, against the register tile's own
//! speed and the roof that memory sets (Williams et al. 2009), both of the same run.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use kernels::{
    Precision,
    bench::{Convolution, Loaded, Product, memory_speed, tile_speed},
};
use serde::Serialize;
use trainer::BenchNetwork;

use super::{rates::Rates, versus::usual_batch};
use crate::{cli::BenchArgs, machine, progress::Screen, text::out};

/// A measurement takes at least so long.
const TIME: Duration = Duration::from_millis(15);

/// How long the tile is measured.
const TILE_TIME: Duration = Duration::from_millis(400);

const PRODUCTS: [Product; 3] = [
    Product::Forward,
    Product::InputGradient,
    Product::WeightGradient,
];

/// One network's convolutions at one precision.
#[derive(Debug, Serialize)]
struct Table {
    network: &'static str,
    batch: usize,
    precision: &'static str,
    /// GFLOP/s of the register tile on all threads.
    tile_gflops: f64,
    /// GB/s that all threads read and write together.
    memory_gigabytes: f64,
    layers: Vec<Layer>,
}

/// One distinct convolution.
#[derive(Debug, Serialize)]
struct Layer {
    name: String,
    /// How often the network has it.
    count: usize,
    gflop: f64,
    megabytes: f64,
    /// Medians of forward, input gradient (none for the first layer) and weight gradient.
    gflops: [Option<f64>; 3],
}

/// Measures and prints.
pub fn run(args: &BenchArgs) -> Result<()> {
    let screen = Screen::stderr();
    let networks = match args.network {
        Some(network) => vec![network],
        None => vec![BenchNetwork::R50, BenchNetwork::R18Cifar],
    };
    let mut tables = Vec::new();
    for network in networks {
        let batch = args.batch.unwrap_or_else(|| usual_batch(network)) as usize;
        for precision in [Precision::F32, Precision::Bf16] {
            screen.note(format!("{network}, {}", name(precision)));
            tables.push(measure(network, batch, precision, args.rounds));
        }
    }
    if args.json {
        return Ok(out(serde_json::to_string_pretty(&tables)?)?);
    }
    out(machine::line())?;
    for table in &tables {
        out(table.text().trim_end())?;
    }
    Ok(())
}

fn measure(network: BenchNetwork, batch: usize, precision: Precision, rounds: u32) -> Table {
    let layers = convolutions(network, batch)
        .into_iter()
        .map(|(convolution, count)| {
            let loaded = Loaded::new(&convolution, precision);
            let gflop = convolution.operations() / 1e9;
            Layer {
                name: describe(&convolution),
                count,
                gflop,
                megabytes: convolution.bytes(precision) / 1e6,
                gflops: PRODUCTS.map(|product| {
                    let wanted = !(convolution.first && product == Product::InputGradient);
                    wanted.then(|| gflop / seconds(&loaded, product, rounds))
                }),
            }
        })
        .collect();
    Table {
        network: network.name(),
        batch,
        precision: name(precision),
        layers,
        tile_gflops: tile_speed(precision, TILE_TIME) / 1e9,
        memory_gigabytes: memory_speed() / 1e9,
    }
}

/// The median of the rounds, each of as many runs as take [`TIME`].
fn seconds(loaded: &Loaded, product: Product, rounds: u32) -> f64 {
    loaded.run(product); // its buffers and packed weights come into being
    let mut runs = 1;
    let mut samples = Vec::new();
    while samples.len() < rounds as usize {
        let begun = Instant::now();
        for _ in 0..runs {
            loaded.run(product);
        }
        let taken = begun.elapsed();
        if samples.is_empty() && taken < TIME && runs < 1 << 20 {
            runs *= 2;
            continue;
        }
        samples.push(taken.as_secs_f64() / f64::from(runs));
    }
    Rates::of(samples).median
}

/// The distinct convolutions of a network on 32×32 images, in order of appearance, with their counts.
fn convolutions(network: BenchNetwork, batch: usize) -> Vec<(Convolution, usize)> {
    let (depths, bottleneck) = match network {
        BenchNetwork::R50 | BenchNetwork::R50Cifar => ([3, 4, 6, 3], true),
        BenchNetwork::R18Cifar => ([2, 2, 2, 2], false),
    };
    let mut all: Vec<Convolution> = Vec::new();
    let mut add = |side: usize, channels, outputs, window, stride| {
        all.push(Convolution {
            batch,
            side,
            channels,
            outputs,
            window,
            stride,
            first: all.is_empty(),
        });
        side.div_ceil(stride)
    };
    let mut side = match network {
        // The stem and the max-pool halve once each.
        BenchNetwork::R50 => add(32, 3, 64, 7, 2) / 2,
        _ => add(32, 3, 64, 3, 1),
    };
    let mut channels = 64;
    for (stage, depth) in depths.into_iter().enumerate() {
        let width = 64 << stage;
        let outputs = if bottleneck { 4 * width } else { width };
        for block in 0..depth {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            if stride != 1 || channels != outputs {
                add(side, channels, outputs, 1, stride);
            }
            side = if bottleneck {
                let side = add(side, channels, width, 1, 1);
                let side = add(side, width, width, 3, stride);
                add(side, width, outputs, 1, 1)
            } else {
                let side = add(side, channels, width, 3, stride);
                add(side, width, width, 3, 1)
            };
            channels = outputs;
        }
    }
    let mut order: Vec<(Convolution, usize)> = Vec::new();
    let mut places = HashMap::new();
    for convolution in all {
        let place = *places.entry(convolution).or_insert_with(|| {
            order.push((convolution, 0));
            order.len() - 1
        });
        order[place].1 += 1;
    }
    order
}

/// `3×3/2 32px 64→128`
fn describe(c: &Convolution) -> String {
    let stride = match c.stride {
        1 => String::new(),
        stride => format!("/{stride}"),
    };
    format!(
        "{k}×{k}{stride} {}px {}→{}",
        c.side,
        c.channels,
        c.outputs,
        k = c.window
    )
}

fn name(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    }
}

impl Table {
    fn text(&self) -> String {
        let mut text = format!(
            "\n{}, batch {}, {}: GFLOP/s, and percent of the register tile's {:.0};\nroof: what memory's {:.1} GB/s allow of that\n",
            self.network, self.batch, self.precision, self.tile_gflops, self.memory_gigabytes
        );
        text += &format!(
            "{:<20}{:>3}{:>7}{:>7}{:>6}{:>12}{:>12}{:>12}\n",
            "convolution", "n", "GFLOP", "MB", "roof", "forward", "dx", "dw"
        );
        for layer in &self.layers {
            let Layer {
                name,
                count,
                gflop,
                megabytes,
                gflops,
            } = layer;
            let roof = 100.0 * self.roof(layer) / self.tile_gflops;
            text += &format!("{name:<20}{count:>3}{gflop:>7.2}{megabytes:>7.1}{roof:>5.0}%");
            for speed in gflops {
                text += &self.cell(*speed);
            }
            text += "\n";
        }
        text += &format!("{:<20}{:>3}{:>7.2}{:>13}", "all", "", self.gflop(), "");
        for product in 0..3 {
            text += &self.cell(self.overall(product));
        }
        text + "\nGFLOP are those of the plain sum without padding. A 3×3 window in transformed\n\
                tiles needs fewer, and can pass 100 %.\n"
    }

    /// GFLOP/s that neither the tile nor memory lets a layer pass: its bytes move once at least.
    fn roof(&self, layer: &Layer) -> f64 {
        let least = layer.megabytes / 1e3 / self.memory_gigabytes;
        (layer.gflop / least).min(self.tile_gflops)
    }

    fn cell(&self, speed: Option<f64>) -> String {
        match speed {
            Some(speed) => format!("{speed:>7.0}{:>4.0}%", 100.0 * speed / self.tile_gflops),
            None => format!("{:>12}", ""),
        }
    }

    /// Of the whole network.
    fn gflop(&self) -> f64 {
        let all = self.layers.iter();
        all.map(|layer| layer.count as f64 * layer.gflop).sum()
    }

    /// A product's speed over all layers that have it, weighted by time.
    fn overall(&self, product: usize) -> Option<f64> {
        let with = || {
            self.layers.iter().filter_map(move |layer| {
                let work = layer.count as f64 * layer.gflop;
                Some((work, work / layer.gflops[product]?))
            })
        };
        let (work, time) = with().fold((0.0, 0.0), |(w, t), (work, time)| (w + work, t + time));
        (time > 0.0).then(|| work / time)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// The list is written down here a second time; the networks themselves say what they multiply.
    #[test]
    fn the_convolutions_are_all_that_the_network_multiplies() {
        for (network, features) in [
            (BenchNetwork::R50, 2048),
            (BenchNetwork::R50Cifar, 2048),
            (BenchNetwork::R18Cifar, 512),
        ] {
            let with_padding = |(c, count): (Convolution, usize)| {
                let out = (c.side + 2 * (c.window / 2) - c.window) / c.stride + 1;
                count * out * out * c.window * c.window * c.channels * c.outputs
            };
            let listed: usize = convolutions(network, 1).into_iter().map(with_padding).sum();
            let step =
                trainer::training_step(network, Default::default(), 1, &Device::Cpu).unwrap();
            // Forward and twice as many backward; the classifier has ten classes.
            assert_eq!(3 * (listed + 10 * features), step.multiply_adds() as usize);
        }
    }

    #[test]
    fn layers_repeat() {
        let list = convolutions(BenchNetwork::R18Cifar, 8);
        let names: Vec<(String, usize)> = list.iter().map(|(c, n)| (describe(c), *n)).collect();
        assert_eq!(names[0], ("3×3 32px 3→64".to_owned(), 1));
        assert_eq!(names[1], ("3×3 32px 64→64".to_owned(), 4));
        assert!(list[0].0.first && !list[1].0.first);
        assert_eq!(list.len(), 11);
    }

    #[test]
    fn the_table_fits_80_columns_and_weighs_by_time() {
        let layer = |gflops, count| Layer {
            name: "3×3/2 32px 1024→2048".to_owned(),
            count,
            gflop: 100.0,
            megabytes: 1000.0,
            gflops,
        };
        let table = Table {
            network: "r50-cifar",
            batch: 65_536,
            precision: "bf16",
            tile_gflops: 2000.0,
            memory_gigabytes: 10.0,
            layers: vec![
                layer([Some(1000.0), None, Some(500.0)], 1),
                layer([Some(500.0), Some(250.0), None], 2),
            ],
        };
        let text = table.text();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(text.contains("   1000  50%"), "{text}");
        // 1 GB takes 0.1 s, in which the tile would make 200 GFLOP of the layer's 100.
        assert!(text.contains(" 1000.0   50%"), "{text}");
        // 300 GFLOP in 0.1 + 0.4 s.
        assert_eq!(table.overall(0), Some(600.0));
        assert_eq!(table.overall(1), Some(250.0));
    }
}
