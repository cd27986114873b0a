//! Collapse values, floors, and relations between the losses, on any batch.

use crate::support::{assert_close, noise, scalar, tensor, values};
use candle_core::{DType, Device, Tensor};
use contrastive_loss::{Denominator, Loss, NpairsTargets, Scale, UndefinedRows};
use proptest::prelude::*;

fn mean(loss: &Loss, x: &Tensor, labels: &[u32], views: usize) -> f64 {
    scalar(&loss.forward(x, labels, views).unwrap().mean().unwrap())
}

fn supcon(denominator: Denominator, temperature: f64) -> [Loss; 2] {
    let (scale, undefined_rows) = (Scale::One, UndefinedRows::Skip);
    [
        Loss::SupConOut {
            temperature,
            denominator,
            scale,
            undefined_rows,
        },
        Loss::SupConIn {
            temperature,
            denominator,
            scale,
            undefined_rows,
        },
    ]
}

#[test]
fn collapse_values_are_the_logarithms_they_should_be() {
    let labels = [0, 0, 1, 1, 1, 2];
    assert_close(
        &[Loss::npairs().collapse_value(&labels, 2)],
        &[12f64.ln()],
        1e-15,
    );
    assert_close(
        &[Loss::supcon_out().collapse_value(&labels, 2)],
        &[11f64.ln()],
        1e-15,
    );
    assert_close(
        &[Loss::nt_xent().collapse_value(&labels, 2)],
        &[11f64.ln()],
        1e-15,
    );
    let [only_negatives, _] = supcon(Denominator::OnlyNegatives, 0.1);
    let expected = (4.0 * 8f64.ln() + 6.0 * 6f64.ln() + 2.0 * 10f64.ln()) / 12.0;
    assert_close(
        &[only_negatives.collapse_value(&labels, 2)],
        &[expected],
        1e-15,
    );
    // One view: the last row has no positive and is skipped.
    let expected = (2.0 * 4f64.ln() + 3.0 * 3f64.ln()) / 5.0;
    assert_close(
        &[only_negatives.collapse_value(&labels, 1)],
        &[expected],
        1e-15,
    );
    let boolean = Loss::Npairs {
        temperature: 0.1,
        targets: NpairsTargets::Boolean,
    };
    assert_close(
        &[boolean.collapse_value(&labels, 1)],
        &[6f64.ln() * (4.0 + 9.0 + 1.0) / 6.0],
        1e-15,
    );
}

#[test]
fn floors_at_a_low_temperature_are_logarithms_of_the_positives() {
    let labels = [0, 0, 0, 1, 1, 1, 2, 2, 2];
    assert_close(
        &[Loss::npairs().with_temperature(0.01).floor(&labels, 1)],
        &[3f64.ln()],
        1e-12,
    );
    for loss in supcon(Denominator::All, 0.01) {
        assert_close(&[loss.floor(&labels, 1)], &[2f64.ln()], 1e-12);
    }
    for loss in supcon(Denominator::OnePositive, 0.01) {
        assert_close(&[loss.floor(&labels, 1)], &[0.0], 1e-12);
    }
}

#[test]
fn a_simplex_of_classes_attains_the_floor() {
    // Three classes at the corners of a triangle, the best that balanced labels allow.
    let half = 3f64.sqrt() / 2.0;
    let x = tensor(&[1.0, 0.0, -0.5, half, -0.5, -half], 2, DType::F64);
    let labels = [4, 5, 6];
    let mut losses = vec![
        Loss::npairs(),
        Loss::nt_xent(),
        Loss::Npairs {
            temperature: 0.4,
            targets: NpairsTargets::Boolean,
        },
    ];
    for denominator in [
        Denominator::All,
        Denominator::OnePositive,
        Denominator::OnlyNegatives,
    ] {
        losses.extend(supcon(denominator, 0.7));
    }
    let x = Tensor::cat(&[&x, &x, &x], 0).unwrap();
    for loss in losses {
        assert_close(
            &[mean(&loss, &x, &labels, 3)],
            &[loss.floor(&labels, 3)],
            1e-12,
        );
    }
}

#[test]
fn an_empty_batch_has_neither_collapse_value_nor_floor() {
    for loss in [Loss::npairs(), Loss::supcon_out(), Loss::nt_xent()] {
        assert_eq!(
            (loss.collapse_value(&[], 2), loss.floor(&[], 2)),
            (0.0, 0.0)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_batch_goes_below_the_floor(
        seed in any::<u64>(), labels in prop::collection::vec(0u32..4, 2..9), temperature in 0.05f64..2.0,
    ) {
        let x = tensor(&noise(seed, 2 * labels.len(), 3), 3, DType::F64);
        let mut losses = vec![Loss::npairs(), Loss::nt_xent()];
        for denominator in [Denominator::All, Denominator::OnePositive, Denominator::OnlyNegatives] {
            losses.extend(supcon(denominator, 0.1));
        }
        for loss in losses {
            let loss = loss.with_temperature(temperature);
            prop_assert!(mean(&loss, &x, &labels, 2) >= loss.floor(&labels, 2) - 1e-12, "{:?}", loss);
        }
    }

    #[test]
    fn in_is_at_most_out_and_equal_with_one_positive(seed in any::<u64>(), labels in prop::collection::vec(0u32..3, 1..6)) {
        let x = tensor(&noise(seed, 2 * labels.len(), 3), 3, DType::F64);
        for denominator in [Denominator::All, Denominator::OnePositive, Denominator::OnlyNegatives] {
            let [out, inside] = supcon(denominator, 0.2).map(|loss| values(&loss.forward(&x, &labels, 2).unwrap()));
            for (row, (a, b)) in out.iter().zip(&inside).enumerate() {
                let alone = labels.iter().filter(|&&l| l == labels[row % labels.len()]).count() == 1;
                prop_assert!(b - a <= 1e-12 && (!alone || (a - b).abs() < 1e-12), "{} {}", a, b);
            }
        }
    }

    #[test]
    fn the_order_of_rows_does_not_matter(seed in any::<u64>(), labels in prop::collection::vec(0u32..3, 2..8)) {
        let x = tensor(&noise(seed, labels.len(), 3), 3, DType::F64);
        let order: Vec<u32> = (0..labels.len() as u32).rev().collect();
        let turned = x.index_select(&Tensor::new(order.as_slice(), &Device::Cpu).unwrap(), 0).unwrap();
        let back: Vec<u32> = labels.iter().rev().copied().collect();
        for loss in [Loss::npairs(), Loss::supcon_out(), Loss::supcon_in()] {
            let mut there = values(&loss.forward(&turned, &back, 1).unwrap());
            there.reverse();
            for (a, b) in there.iter().zip(values(&loss.forward(&x, &labels, 1).unwrap())) {
                prop_assert!((a - b).abs() < 1e-12);
            }
        }
    }
}
