//! The embedded set: fixed, balanced, drawn in no time, and beyond a linear model on pixels.

use std::collections::BTreeSet;
use std::time::Instant;

use cifar_data::{DatasetName, Images, SourceOptions, SyntheticOptions, open};

fn dataset(synthetic: SyntheticOptions) -> cifar_data::Dataset {
    open(
        &SourceOptions {
            dataset: DatasetName::Synthetic,
            synthetic,
            ..SourceOptions::default()
        },
        &mut (),
    )
    .unwrap()
}

#[test]
fn is_marked_fixed_and_quick() {
    let started = Instant::now();
    let dataset = dataset(SyntheticOptions::default());
    let (train, test) = (dataset.train().unwrap(), dataset.test().unwrap());
    // Three sets' worth with the checksums; far below a second alone, with room for a busy machine.
    assert!(
        started.elapsed().as_secs_f64() < 5.0,
        "{:?}",
        started.elapsed()
    );
    let info = dataset.info();
    assert!(info.synthetic && info.name == "SYNTHETIC shapes");
    assert_eq!((train.len(), test.len()), (4_000, 1_000));
    assert!(
        (0..10).all(|class| train.labels.iter().filter(|&&label| label == class).count() == 400)
    );
    let different: BTreeSet<&[u8]> = (0..4_000)
        .map(|i| train.image(i))
        .chain((0..1_000).map(|i| test.image(i)))
        .collect();
    assert_eq!(different.len(), 5_000);
    // The bytes are part of the interface: figures made from them stay comparable.
    assert_eq!(info.checksums["train"], GOLDEN_TRAIN);
    let other = self::dataset(SyntheticOptions {
        seed: 1,
        ..SyntheticOptions::default()
    });
    assert_ne!(other.info().checksums, info.checksums);
}

const GOLDEN_TRAIN: &str =
    "sha256:8acc2e027fe6ddfb39cdd5652a59437bc9b5265ab52ae3fcef52a003934f8541";

/// Softmax regression on standardised pixels by stochastic gradient descent.
fn linear_accuracy(train: &Images, test: &Images) -> f64 {
    const D: usize = 3072;
    let features = |images: &Images| -> Vec<f32> {
        images
            .pixels
            .iter()
            .map(|&p| (f32::from(p) - 128.0) / 64.0)
            .collect()
    };
    let (x, t) = (features(train), features(test));
    let mut weights = vec![[0f32; 10]; D];
    let logits = |weights: &[[f32; 10]], x: &[f32]| {
        let mut z = [0f32; 10];
        for (value, row) in x.iter().zip(weights) {
            for class in 0..10 {
                z[class] += value * row[class];
            }
        }
        z
    };
    for epoch in 0..12 {
        let rate = 3e-4 / (1.0 + epoch as f32);
        for (x, &label) in x.chunks_exact(D).zip(&train.labels) {
            let z = logits(&weights, x);
            let top = z.iter().copied().fold(f32::MIN, f32::max);
            let mut p = z.map(|z| (z - top).exp());
            let sum: f32 = p.iter().sum();
            p.iter_mut().for_each(|p| *p /= sum);
            p[label as usize] -= 1.0;
            let step = p.map(|p| p * rate);
            for (value, row) in x.iter().zip(&mut weights) {
                for class in 0..10 {
                    row[class] -= value * step[class];
                }
            }
        }
    }
    let right = t.chunks_exact(D).zip(&test.labels).filter(|(x, label)| {
        let z = logits(&weights, x);
        (0..10).all(|class| z[class] <= z[**label as usize])
    });
    right.count() as f64 / test.len() as f64
}

#[test]
fn a_linear_model_on_pixels_fails() {
    let dataset = dataset(SyntheticOptions::default());
    let accuracy = linear_accuracy(&dataset.train().unwrap(), &dataset.test().unwrap());
    assert!(accuracy < 0.35, "{accuracy}");
}
