//! Published values of the losses.

use crate::support::{assert_close, labels, scalar, values};
use candle_core::{DType, Device, Tensor};
use contrastive_loss::{
    Denominator, Loss, NpairsConfig, NpairsTargets, NtXentConfig, Summation, SupConConfig,
    normalize, npairs, npairs_multilabel, nt_xent, similarity_matrix, supcon,
};

const TIGHT: f64 = 1e-6;

fn square() -> Tensor {
    Tensor::new(
        &[[1f32, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]],
        &Device::Cpu,
    )
    .unwrap()
}

/// The grid of google-research's tests, view-major.
const GRID: [[f64; 3]; 6] = [
    [0.01, 0.02, 0.14],
    [0.86, 0.97, 0.33],
    [0.32, 0.64, 0.28],
    [0.38, 0.61, 0.50],
    [0.26, 0.68, 0.45],
    [0.45, 0.74, 0.73],
];
const GRID_LABELS: [u32; 6] = [0, 0, 1, 0, 0, 1];

fn grid() -> Tensor {
    Tensor::new(&GRID, &Device::Cpu)
        .unwrap()
        .to_dtype(DType::F32)
        .unwrap()
}

#[test]
fn npairs_over_the_square() {
    let s = similarity_matrix(&square(), 1.0).unwrap();
    for (y, expected) in [
        ([0, 1, 2, 3], 0.253856),
        ([0, 0, 1, 1], 1.2538560),
        ([5, 5, 5, 5], 2.2538560),
    ] {
        let loss = npairs(&s, &labels(&y), &NpairsConfig::default()).unwrap();
        assert_close(&[scalar(&loss.mean().unwrap())], &[expected], TIGHT);
    }
}

#[test]
fn npairs_multilabel_over_the_square() {
    let s = similarity_matrix(&square(), 1.0).unwrap();
    let y = Tensor::new(
        &[[1u8, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 1]],
        &Device::Cpu,
    )
    .unwrap();
    let loss = npairs_multilabel(&s, &y, &NpairsConfig::default()).unwrap();
    assert_close(
        &values(&loss),
        &[0.9205227, 1.753856, 1.753856, 1.253856],
        TIGHT,
    );
    assert_close(&[scalar(&loss.mean().unwrap())], &[1.4205227], TIGHT);
}

#[test]
fn multilabel_with_one_label_each_is_npairs() {
    let s = similarity_matrix(&square(), 1.0).unwrap();
    let one_hot = Tensor::new(
        &[[1f32, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]],
        &Device::Cpu,
    )
    .unwrap();
    let several = npairs_multilabel(&s, &one_hot, &NpairsConfig::default()).unwrap();
    let single = npairs(&s, &labels(&[0, 0, 1, 0]), &NpairsConfig::default()).unwrap();
    assert_close(&values(&several), &values(&single), 1e-7);
    assert_eq!(
        (several.without_positives, several.without_negatives),
        (single.without_positives, single.without_negatives)
    );
}

#[test]
fn the_slides_boolean_targets_differ_from_addons_by_the_size_of_the_label() {
    let s = similarity_matrix(&square(), 1.0).unwrap();
    let y = labels(&[0, 0, 0, 1]);
    let addons = npairs(&s, &y, &NpairsConfig::default()).unwrap();
    let config = NpairsConfig {
        targets: NpairsTargets::Boolean,
        ..Default::default()
    };
    let slides = npairs(&s, &y, &config).unwrap();
    let expected: Vec<f64> = values(&addons)
        .iter()
        .zip([3.0, 3.0, 3.0, 1.0])
        .map(|(v, n)| v * n)
        .collect();
    assert_close(&values(&slides), &expected, TIGHT);
    assert!((scalar(&slides.mean().unwrap()) - scalar(&addons.mean().unwrap())).abs() > 1.0);
}

#[test]
fn google_research_grid() {
    use Denominator::{All, OnePositive, OnlyNegatives};
    use Summation::{In, Out};
    for (denominator, summation, expected) in [
        (All, Out, [1.675585, 1.797377, 1.584710]),
        (All, In, [1.635668, 1.713587, 1.584710]),
        (OnePositive, Out, [1.178263, 1.343550, 1.584710]),
        (OnePositive, In, [1.157167, 1.294157, 1.584710]),
        (OnlyNegatives, Out, [0.796528, 1.015499, 1.352946]),
        (OnlyNegatives, In, [0.756611, 0.931709, 1.352946]),
    ] {
        let config = SupConConfig {
            temperature: 1.0,
            denominator,
            summation,
            ..Default::default()
        };
        let loss = values(&supcon(&grid(), &labels(&GRID_LABELS), &config).unwrap());
        let per_sample: Vec<f64> = (0..3).map(|i| (loss[i] + loss[i + 3]) / 2.0).collect();
        assert_close(&per_sample, &expected, TIGHT);
    }
}

#[test]
fn normalised_grid_at_a_low_temperature() {
    let z = normalize(&grid()).unwrap();
    let y = labels(&GRID_LABELS);
    for (summation, expected) in [(Summation::Out, 2.3155673), (Summation::In, 1.7905430)] {
        let config = SupConConfig {
            temperature: 0.1,
            summation,
            ..Default::default()
        };
        let mean = supcon(&z, &y, &config).unwrap().mean().unwrap();
        assert_close(&[scalar(&mean)], &[expected], TIGHT);
    }
    let mean = npairs(
        &similarity_matrix(&z, 0.1).unwrap(),
        &y,
        &NpairsConfig::default(),
    )
    .unwrap()
    .mean()
    .unwrap();
    assert_close(&[scalar(&mean)], &[2.4081110], TIGHT);
}

#[test]
fn nt_xent_over_the_normalised_grid() {
    let loss = nt_xent(
        &normalize(&grid()).unwrap(),
        2,
        &NtXentConfig { temperature: 0.5 },
    )
    .unwrap();
    assert_close(&[scalar(&loss.mean().unwrap())], &[1.6257660], TIGHT);
}

#[test]
fn the_loss_value_normalises_and_repeats_labels_itself() {
    for (loss, expected) in [
        (Loss::supcon_out(), 2.3155673),
        (Loss::supcon_in(), 1.7905430),
        (Loss::npairs().with_temperature(0.1), 2.4081110),
        (Loss::nt_xent(), 1.6257660),
    ] {
        let mean = loss
            .forward(&grid(), &[0, 0, 1], 2)
            .unwrap()
            .mean()
            .unwrap();
        assert_close(&[scalar(&mean)], &[expected], TIGHT);
    }
}
