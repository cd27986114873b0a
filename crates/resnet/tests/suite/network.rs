//! Sizes, names, cost, determinism and shapes of the networks.

use crate::formula;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use kernels::Precision;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use resnet::{Arch, Mode, Parameters, ResNet, ResNetConfig, Role, Stem};
use serde::Deserialize;

fn build(config: &ResNetConfig, seed: u64) -> (ResNet, Parameters) {
    let mut params = Parameters::new(&Device::Cpu);
    let net = ResNet::new(config, &mut params, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
    (net, params)
}

fn narrow(arch: Arch, stem: Stem) -> ResNetConfig {
    ResNetConfig {
        width: 0.125,
        ..ResNetConfig::new(arch, stem)
    }
}

#[derive(Deserialize)]
struct Names {
    networks: BTreeMap<String, Listing>,
}

#[derive(Deserialize)]
struct Listing {
    tensors: usize,
    fnv1a: String,
}

/// Names, element types and shapes in file layout, as `torchvision_names.py` lists torchvision's.
fn listing(params: &Parameters) -> String {
    let lines = params.all().map(|(name, var, role)| {
        let dims = match (role, var.dims()) {
            (Role::ConvWeight, &[o, kh, kw, i]) => vec![o, i, kh, kw],
            (_, dims) => dims.to_vec(),
        };
        let dtype = if var.dtype() == DType::I64 {
            "int64"
        } else {
            "float32"
        };
        format!("{name} {dtype} {dims:?}\n")
    });
    lines.collect()
}

#[test]
fn parameter_counts_names_and_cost_are_the_published_ones() {
    let names = include_str!("../fixtures/torchvision_names.json");
    let names: Names = serde_json::from_str(names).unwrap();
    // Trainable parameters of torchvision's networks without fc; multiply-adds (millions) at 32×32 and at 224×224.
    // torchvision publishes 1.814, 3.664, 4.089, 7.801 and 11.514 G with fc, rounded.
    let table = [
        (Arch::ResNet18, 11_176_512, 37.0, 1813.6),
        (Arch::ResNet34, 21_284_672, 74.8, 3663.2),
        (Arch::ResNet50, 23_508_032, 83.4, 4087.1),
        (Arch::ResNet101, 42_500_160, 159.2, 7799.4),
        (Arch::ResNet152, 58_143_808, 234.9, 11_511.6),
    ];
    for (arch, count, at32, at224) in table {
        let (net, params) = build(&ResNetConfig::new(arch, Stem::ImageNet), 0);
        assert_eq!(params.count(), count, "{arch}");
        let listed = &names.networks[arch.name()];
        assert_eq!(params.len(), listed.tensors, "{arch}");
        assert_eq!(
            formula::fnv1a(&listing(&params)),
            u64::from_str_radix(&listed.fnv1a, 16).unwrap(),
            "{arch}"
        );
        for (side, expected) in [(32, at32), (224, at224)] {
            let millions = net.flops(side, side) as f64 / 1e6;
            assert!(
                (millions / expected - 1.0).abs() < 1e-3,
                "{arch} at {side}: {millions}"
            );
        }
    }
}

#[test]
fn cifar_stems() {
    let (r18, params) = build(&ResNetConfig::new(Arch::ResNet18, Stem::Cifar), 0);
    assert_eq!(params.count(), 11_168_832);
    assert_eq!(r18.flops(32, 32) / 1_000_000, 555);
    assert_eq!(r18.feature_dim(), 512);
    let (r50, params) = build(&ResNetConfig::new(Arch::ResNet50, Stem::Cifar), 0);
    assert_eq!(params.count(), 23_500_352);
    assert_eq!(r50.flops(32, 32) / 1_000_000, 1297);
    assert_eq!(r50.feature_dim(), 2048);
}

#[test]
fn resnet50v2_is_the_published_size() {
    let (net, params) = build(&ResNetConfig::new(Arch::ResNet50V2, Stem::ImageNet), 0);
    assert_eq!(params.count() + params.buffer_count(), 23_564_800);
    assert_eq!(params.buffer_count(), 45_440);
    assert_eq!(net.flops(32, 32) / 1_000_000, 71);
    assert!(
        params
            .buffers()
            .all(|(name, _)| !name.contains("num_batches"))
    );
}

#[test]
fn upsampling_costs_and_computes_as_the_larger_image() {
    let base = narrow(Arch::ResNet18, Stem::ImageNet);
    let larger = ResNetConfig {
        upsample: Some(64),
        ..base.clone()
    };
    let (small, _) = build(&base, 3);
    let (net, _) = build(&larger, 3);
    assert_eq!(net.flops(32, 32), small.flops(64, 64));
    let x = formula::images("images", 2, 32);
    let expected = small.forward(&kernels::upsample_bilinear(&x, 64, 64).unwrap(), Mode::Eval);
    let got = net.forward(&x, Mode::Eval).unwrap();
    assert_eq!(
        got.to_vec2::<f32>().unwrap(),
        expected.unwrap().to_vec2::<f32>().unwrap()
    );
}

#[test]
fn every_network_trains_at_every_stem_and_odd_sizes() {
    for arch in Arch::ALL {
        for (stem, h, w) in [(Stem::ImageNet, 33, 40), (Stem::Cifar, 9, 7)] {
            let (net, params) = build(&narrow(arch, stem), 1);
            let x = formula::tensor("images", &[3, h, w, 3]);
            let features = net.forward(&x, Mode::Train).unwrap();
            assert_eq!(features.dims(), [3, net.feature_dim()]);
            // A sum of squares: a plain sum of batch-normalised features would not depend on the input.
            let gradients = features
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap()
                .backward()
                .unwrap();
            for (name, var, _) in params.trainable() {
                let g = gradients
                    .get(var)
                    .unwrap_or_else(|| panic!("{arch} {stem}: {name}"));
                let size: f32 = g.sqr().unwrap().sum_all().unwrap().to_scalar().unwrap();
                assert!(size.is_finite(), "{arch} {stem}: {name} {size}");
            }
            assert!(
                params
                    .buffers()
                    .all(|(_, var)| gradients.get(var).is_none())
            );
        }
    }
}

#[test]
fn seeds_decide_the_weights() {
    let config = narrow(Arch::ResNet50, Stem::Cifar);
    let weights = |seed| {
        let (_, params) = build(&config, seed);
        params
            .get("layer4.2.conv3.weight")
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
    };
    assert_eq!(weights(7), weights(7));
    assert_ne!(weights(7), weights(8));
}

#[test]
fn initial_values_have_the_published_spread() {
    let spread = |arch, name: &str| {
        let (_, params) = build(&ResNetConfig::new(arch, Stem::ImageNet), 2);
        let values = params
            .get(name)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let squares: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
        let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        ((squares / values.len() as f64).sqrt(), f64::from(largest))
    };
    // Kaiming, fan_out = 3·3·512.
    let (std, _) = spread(Arch::ResNet18, "layer4.0.conv1.weight");
    assert!((std / (2.0f64 / 4608.0).sqrt() - 1.0).abs() < 0.01, "{std}");
    // Glorot, fan_in = fan_out = 3·3·512.
    let (std, largest) = spread(Arch::ResNet50V2, "conv5_block1_2_conv.weight");
    let bound = (6.0f64 / 9216.0).sqrt();
    assert!(
        (std / (bound / 3f64.sqrt()) - 1.0).abs() < 0.01 && largest <= bound,
        "{std} {largest}"
    );
}

#[test]
fn zero_init_makes_blocks_identities() {
    for (arch, last) in [
        (Arch::ResNet18, "bn2.weight"),
        (Arch::ResNet50, "bn3.weight"),
    ] {
        let config = ResNetConfig {
            zero_init_residual: true,
            ..narrow(arch, Stem::Cifar)
        };
        let (_, params) = build(&config, 0);
        for (name, var, role) in params
            .trainable()
            .filter(|(.., role)| *role == Role::NormScale)
        {
            let expected = if name.starts_with("layer") && name.ends_with(last) {
                0.0
            } else {
                1.0
            };
            let values = var.to_vec1::<f32>().unwrap();
            assert!(values.iter().all(|v| *v == expected), "{name} {role:?}");
        }
    }
}

#[test]
fn training_counts_batches_and_moves_statistics_and_evaluation_does_not() {
    let (net, params) = build(&narrow(Arch::ResNet18, Stem::Cifar), 0);
    let x = formula::images("images", 4, 8);
    let state = |name: &str| {
        let var = params.get(name).unwrap().to_dtype(DType::F64).unwrap();
        var.flatten_all().unwrap().to_vec1::<f64>().unwrap()
    };
    let before = state("bn1.running_mean");
    net.forward(&x, Mode::Eval).unwrap();
    net.forward(&x, Mode::Frozen).unwrap();
    assert_eq!(state("bn1.running_mean"), before);
    net.forward(&x, Mode::Train).unwrap();
    net.forward(&x, Mode::Train).unwrap();
    assert_ne!(state("bn1.running_mean"), before);
    assert_eq!(state("layer4.1.bn2.num_batches_tracked"), [2.0]);
}

#[test]
fn an_extractor_gives_the_bits_of_frozen_passes() {
    for (arch, precision) in [
        (Arch::ResNet18, Precision::F32),
        (Arch::ResNet50, Precision::Bf16),
        (Arch::ResNet50V2, Precision::F32),
    ] {
        let (net, _) = build(&narrow(arch, Stem::Cifar), 0);
        let net = net.with_precision(precision);
        let extractor = net.extractor();
        // Batches of different lengths, then images of another size, and back.
        for (images, side) in [(4, 8), (1, 8), (3, 16), (2, 8)] {
            let x = formula::images("images", images, side);
            let values = |features: Tensor| features.to_vec2::<f32>().unwrap();
            let want = values(net.forward(&x, Mode::Frozen).unwrap());
            assert_eq!(values(extractor.forward(&x).unwrap()), want, "{arch:?}");
        }
        let error = extractor.forward(&formula::images("images", 1, 8).squeeze(0).unwrap());
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("[N, height, width, 3]")
        );
    }
}

#[test]
fn passes_of_one_extractor_may_run_side_by_side() {
    let (net, _) = build(&narrow(Arch::ResNet18, Stem::Cifar), 0);
    let extractor = net.extractor();
    let values = |x: &Tensor| extractor.forward(x).unwrap().to_vec2::<f32>().unwrap();
    let images: Vec<_> = (0..12)
        .map(|i| formula::images("images", 2, 8 + 8 * (i % 2)))
        .collect();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap();
    let side_by_side: Vec<_> = pool.install(|| images.par_iter().map(values).collect());
    let one_by_one: Vec<_> = images.iter().map(values).collect();
    assert_eq!(side_by_side, one_by_one);
}

#[test]
fn wrong_inputs_get_one_clear_sentence() {
    let (net, _) = build(&narrow(Arch::ResNet18, Stem::ImageNet), 0);
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
    for dims in [&[2, 3, 32, 32][..], &[32, 32, 3], &[0, 32, 32, 3]] {
        let message = net
            .forward(&zeros(dims), Mode::Eval)
            .unwrap_err()
            .to_string();
        assert!(message.contains("[N, height, width, 3]"), "{message}");
    }
    let message = net
        .forward(&zeros(&[1, 32, 32, 3]), Mode::Train)
        .unwrap_err()
        .to_string();
    assert!(message.contains("larger batch"), "{message}");
}

/// The README's table of networks, line by line.
fn table_line(arch: Arch) -> String {
    let thousands = |n: usize| {
        let digits = n.to_string();
        let groups: Vec<&str> = digits
            .as_bytes()
            .rchunks(3)
            .rev()
            .map(|g| std::str::from_utf8(g).unwrap())
            .collect();
        groups.join(",")
    };
    let (imagenet, params) = build(&ResNetConfig::new(arch, Stem::ImageNet), 0);
    let (cifar, cifar_params) = build(&ResNetConfig::new(arch, Stem::Cifar), 0);
    let millions = |net: &ResNet, side| format!("{:.0}", net.flops(side, side) as f64 / 1e6);
    format!(
        "| `{arch}` | {} | {} | {} | {} | {} | {} |",
        imagenet.feature_dim(),
        thousands(params.count()),
        thousands(cifar_params.count()),
        millions(&imagenet, 32),
        millions(&cifar, 32),
        millions(&imagenet, 224)
    )
}

#[test]
fn the_readme_tells_the_truth() {
    let readme = include_str!("../../README.md");
    let missing: Vec<String> = Arch::ALL
        .into_iter()
        .map(table_line)
        .filter(|line| !readme.contains(line))
        .collect();
    assert!(
        missing.is_empty(),
        "the README lacks:\n{}",
        missing.join("\n")
    );
}
