//! The first 20 losses of both arms are PyTorch's, to 1e-3 relative, with the same weights and the same batches.
//!
//! The fixture (`fixtures/parity/losses.json`, made by `make.py` beside it) holds settings and losses only. Weights and
//! photographs come from integer formulas written once here and once in Python. From there on everything is the
//! crates' own: `cifar-data` normalises and batches, `resnet` computes, `contrastive-loss` and `trainer` give the loss, the
//! gradients and the update.

use candle_core::{Device, Tensor};
use cifar_data::{Images, Loader, LoaderConfig, Normalization, Policy, Sampler, stream};
use contrastive_loss::Loss;
use resnet::{
    Arch, Classifier, ClassifierConfig, LoadOptions, Mode, Parameters, Projection,
    ProjectionConfig, ResNet, ResNetConfig, Stem,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use trainer::{Gradients, Optimizer, OptimizerConfig, Trainable, cross_entropy, training_thread};

const TOLERANCE: f64 = 1e-3;
const CLASSES: usize = 10;
const SIDE: usize = 32;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn fixture() -> Value {
    serde_json::from_str(include_str!("../fixtures/parity/losses.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect()
}

// ------------------------------------------------------------------ the formulas, as in make.py and resnet's formula.py

/// The 24 random bits of each index: FNV-1a of the name, SplitMix64 of the index.
fn bits(name: &str, count: usize) -> impl Iterator<Item = u64> {
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3_u64)
    });
    (1..=count as u64).map(move |i| {
        let mut z = hash.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) >> 40
    })
}

/// The weight of that name, in PyTorch's layout.
fn weight(name: &str, shape: &[usize], residual: f32) -> Tensor {
    let fan_in = shape[1..].iter().product::<usize>() as f64;
    let values: Vec<f32> = bits(name, shape.iter().product())
        .map(|bits| {
            let u = 2.0 * (bits as f64 / f64::from(1u32 << 24)) - 1.0;
            match (name.rsplit('.').next(), shape.len()) {
                (Some("weight"), 1) if name.ends_with("bn3.weight") => {
                    (1.0 + u / 4.0) as f32 * residual
                }
                (Some("weight"), 1) => (1.0 + u / 4.0) as f32,
                (Some("weight"), 2) => (u * (6.0 / fan_in).sqrt()) as f32 * 0.5,
                (Some("weight"), _) => (u * (6.0 / fan_in).sqrt()) as f32,
                _ => (u / 10.0) as f32,
            }
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Sets every trained tensor to the formula's values; running statistics stay at 0 and 1.
fn fill(parameters: &Parameters, residual: f32) -> Result<(), Failure> {
    let mut tensors = parameters.to_tensors()?;
    for (name, _, _) in parameters.trainable() {
        let shape = tensors[name].dims().to_vec();
        tensors.insert(name.to_owned(), weight(name, &shape, residual));
    }
    parameters.load_tensors(&tensors, &LoadOptions::default())?;
    Ok(())
}

/// Slanted triangle waves whose slope and tint belong to the class, each with its own phase, brightness and noise.
fn images(count: usize) -> Images {
    let noise: Vec<i64> = bits("noise", count * SIDE * SIDE * 3)
        .map(|b| (b % 41) as i64 - 20)
        .collect();
    let mut pixels = Vec::with_capacity(noise.len());
    let mut labels = Vec::with_capacity(count);
    for (n, own) in bits("images", count).enumerate() {
        let (label, own) = ((n as i64 * 7 + 3) % CLASSES as i64, own as i64);
        labels.push(label as u32);
        for y in 0..SIDE as i64 {
            for x in 0..SIDE as i64 {
                for c in 0..3 {
                    let t = ((1 + label % 5) * x + (1 + 3 * (label / 5)) * y + own % 64) % 64;
                    let wave = if t < 32 { t } else { 64 - t };
                    let tint = (label * (11 + 13 * c)) % 101 - 50;
                    let light = own / 64 % 31 - 15;
                    let value = 128 + tint + 2 * (wave - 16) + noise[pixels.len()] + light;
                    pixels.push(value.clamp(0, 255) as u8);
                }
            }
        }
    }
    Images {
        height: SIDE,
        width: SIDE,
        pixels,
        labels,
    }
}

/// Order-sensitive and exact in both languages.
fn checksum(pixels: &[u8]) -> u64 {
    pixels.iter().zip(0u64..).fold(0u64, |sum, (&p, i)| {
        sum.wrapping_add(u64::from(p) * (i % 65_521 + 1))
    })
}

// ------------------------------------------------------------------ the two arms

enum Top {
    Classifier(Classifier),
    Projection(Projection, Loss),
}

fn losses(run: &Value, settings: &Value) -> Result<Vec<f64>, Failure> {
    let device = Device::Cpu;
    let count = |name: &str| settings[name].as_u64().unwrap() as usize;
    let (steps, batch_size) = (count("steps"), count("batch_size"));
    let images = images(steps * batch_size);
    assert_eq!(
        checksum(&images.pixels).to_string(),
        settings["images_checksum"],
        "the photographs are not make.py's"
    );

    let config = ResNetConfig {
        arch: Arch::ResNet50,
        stem: Stem::ImageNet,
        width: 1.0,
        upsample: None,
        zero_init_residual: false,
    };
    let (mut encoder_parameters, mut head_parameters) =
        (Parameters::new(&device), Parameters::new(&device));
    let mut rng = stream(0, "overwritten below", &[]);
    let encoder = ResNet::new(&config, &mut encoder_parameters, &mut rng)?;
    let dim = encoder.feature_dim();
    let top = match run["arm"].as_str() {
        Some("baseline") => {
            let config = ClassifierConfig::Mlp512 {
                hidden: 512,
                dropout: 0.0,
                classes: CLASSES,
            };
            Top::Classifier(Classifier::new(
                &config,
                dim,
                &mut head_parameters,
                &mut rng,
            )?)
        }
        _ => {
            let config = ProjectionConfig::LinearRelu { dim: 128 };
            let temperature = settings["temperature"].as_f64().unwrap();
            let projection = Projection::new(&config, dim, &mut head_parameters, &mut rng)?;
            Top::Projection(projection, Loss::npairs().with_temperature(temperature))
        }
    };
    let residual = settings["residual"].as_f64().unwrap() as f32;
    fill(&encoder_parameters, residual)?;
    fill(&head_parameters, residual)?;

    let loader = Loader::new(
        Arc::new(images),
        Arc::new((0..steps * batch_size).collect()),
        LoaderConfig {
            batch_size,
            policy: Policy::None,
            normalization: Normalization {
                mean: [0.5; 3],
                std: [0.25; 3],
            },
            sampler: Sampler::Sequential,
            ..LoaderConfig::default()
        },
    )?;
    let rule: OptimizerConfig = serde_json::from_value(run["optimizer"].clone())?;
    let groups = [("encoder", &encoder_parameters), ("head", &head_parameters)];
    let mut optimizer = Optimizer::new(&rule, Trainable::of(&groups))?;
    let mut losses = Vec::new();
    for batch in loader.epoch(0, 0) {
        let batch = batch?;
        let x = Tensor::from_vec(batch.pixels, (batch_size, SIDE, SIDE, 3), &device)?; // [B, H, W, 3]
        let features = encoder.forward(&x, Mode::Train)?; // [B, D]
        let loss = match &top {
            Top::Classifier(head) => cross_entropy(
                &head.forward(&features, Mode::Train, &mut rng)?,
                &batch.labels,
                0.0,
            )?,
            Top::Projection(head, loss) => loss
                .forward(&head.forward(&features, Mode::Train)?, &batch.labels, 1)?
                .mean()?,
        };
        let mut gradients = Gradients::new();
        gradients.add(&loss, optimizer.parameters())?;
        optimizer.step(&gradients, rule.lr, gradients.mean_factor())?;
        losses.push(f64::from(loss.to_scalar::<f32>()?));
    }
    Ok(losses)
}

fn agrees(name: &str) {
    let fixture = fixture();
    let run = &fixture["runs"][name];
    let expected = numbers(&run["losses"]);
    let ours = training_thread(|| Ok(losses(run, &fixture)))
        .unwrap()
        .unwrap();
    assert_eq!(ours.len(), expected.len(), "{name}: steps");
    let off: Vec<f64> = ours
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs() / b.abs())
        .collect();
    let worst = off.iter().copied().fold(0.0, f64::max);
    println!(
        "{name}: worst of {} losses {worst:.1e} off, first {:.1e}",
        off.len(),
        off[0]
    );
    for (step, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
        assert!(
            off[step] <= TOLERANCE,
            "{name}, step {step}: loss {ours}, PyTorch {expected}, {:.1e} apart",
            off[step]
        );
    }
    // Nothing has had time to grow yet: forward pass and loss alone.
    assert!(
        off[0] <= 1e-5,
        "{name}: the first loss is {}, PyTorch's {}",
        ours[0],
        expected[0]
    );
}

#[test]
fn baseline_with_adam() {
    agrees("baseline/adam");
}

#[test]
fn baseline_with_sgd() {
    agrees("baseline/sgd");
}

#[test]
fn contrastive_with_adam() {
    agrees("contrastive/adam");
}

#[test]
fn contrastive_with_sgd() {
    agrees("contrastive/sgd");
}

/// The comparison means something only where the losses move and PyTorch agrees with itself.
#[test]
fn the_fixture_can_tell_right_from_wrong() {
    let fixture = fixture();
    let runs: BTreeMap<String, Value> = serde_json::from_value(fixture["runs"].clone()).unwrap();
    for (name, run) in runs {
        let losses = numbers(&run["losses"]);
        let change = 1.0 - losses[losses.len() - 1] / losses[0];
        assert!(
            change > 50.0 * TOLERANCE,
            "{name}: the loss falls by {change:.3} only"
        );
        for kind in ["last_place", "f64"] {
            let noise = run["noise"][kind].as_f64().unwrap();
            assert!(
                noise < 0.5 * TOLERANCE,
                "{name}: PyTorch is {noise:.1e} off itself ({kind})"
            );
        }
    }
}
