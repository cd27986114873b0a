//! The batches on which good libraries differ and users trip: each finite, with the right gradient, and counted.

use crate::support::{assert_close, labels, mean_and_gradient, noise, scalar, tensor, values};
use candle_core::{DType, Device, Tensor};
use contrastive_loss::{
    Denominator, Error, Loss, NpairsConfig, NpairsTargets, NtXentConfig, Scale, Summation,
    SupConConfig, UndefinedRows, npairs, npairs_multilabel, nt_xent, supcon,
};

/// Every loss with every option that changes its arithmetic.
fn all_losses() -> Vec<Loss> {
    let mut all = vec![Loss::nt_xent()];
    for targets in [NpairsTargets::Normalized, NpairsTargets::Boolean] {
        all.push(Loss::Npairs {
            temperature: 0.05,
            targets,
        });
    }
    for denominator in [
        Denominator::All,
        Denominator::OnePositive,
        Denominator::OnlyNegatives,
    ] {
        for undefined_rows in [UndefinedRows::Skip, UndefinedRows::CountAsZero] {
            for scale in [Scale::One, Scale::TemperatureOver(0.07)] {
                all.push(Loss::SupConOut {
                    temperature: 0.1,
                    denominator,
                    scale,
                    undefined_rows,
                });
                all.push(Loss::SupConIn {
                    temperature: 0.1,
                    denominator,
                    scale,
                    undefined_rows,
                });
            }
        }
    }
    all
}

#[track_caller]
fn assert_finite(loss: &Loss, x: &Tensor, y: &[u32], views: usize) -> (f64, Vec<f64>) {
    let (mean, gradient) = mean_and_gradient(x, |x| loss.forward(x, y, views).unwrap());
    assert!(mean.is_finite(), "{loss:?}: {mean}");
    assert!(
        gradient.iter().all(|g| g.is_finite()),
        "{loss:?}: {gradient:?}"
    );
    (mean, gradient)
}

#[test]
fn awkward_batches_stay_finite_in_every_type() {
    let mut repeated = noise(1, 8, 4);
    repeated.copy_within(0..16, 16); // rows 4..8 repeat rows 0..4
    let constant = [0.5, -0.25, 0.125, 1.0].repeat(8);
    let mut with_zero_row = noise(2, 8, 4);
    with_zero_row[..4].fill(0.0);
    for values in [noise(3, 8, 4), repeated, constant, with_zero_row] {
        for y in [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 1, 2], [1, 1, 2, 2]] {
            for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
                let x = tensor(&values, 4, dtype);
                for loss in all_losses() {
                    assert_finite(&loss, &x, &y, 2);
                    // Without views, labels 0, 1, 2, 3 leave every row alone.
                    if !loss.needs_views() {
                        let eight: Vec<u32> = y
                            .iter()
                            .chain(&y)
                            .enumerate()
                            .map(|(i, l)| l + (i as u32 / 4) * 4)
                            .collect();
                        assert_finite(&loss, &x, &eight, 1);
                    }
                }
            }
        }
    }
}

#[test]
fn npairs_keeps_a_row_without_a_positive() {
    let s = Tensor::new(
        &[[1f64, 0.2, -0.3], [0.2, 1.0, 0.4], [-0.3, 0.4, 1.0]],
        &Device::Cpu,
    )
    .unwrap();
    let loss = npairs(&s, &labels(&[0, 0, 1]), &NpairsConfig::default()).unwrap();
    let lse = ((-0.3f64).exp() + 0.4f64.exp() + 1f64.exp()).ln();
    assert_close(&values(&loss)[2..], &[lse - 1.0], 1e-14);
    assert_eq!(
        (
            loss.without_positives,
            loss.without_negatives,
            loss.undefined(),
            loss.divisor
        ),
        (1, 0, 0, 3)
    );
}

#[test]
fn supcon_without_positives_follows_its_policy_and_counts() {
    let x = tensor(&noise(5, 4, 3), 3, DType::F64);
    let y = labels(&[0, 0, 1, 2]);
    let with = |undefined_rows| {
        supcon(
            &x,
            &y,
            &SupConConfig {
                undefined_rows,
                ..Default::default()
            },
        )
    };
    let skip = with(UndefinedRows::Skip).unwrap();
    assert_eq!(
        (skip.without_positives, skip.undefined(), skip.divisor),
        (2, 2, 2)
    );
    assert_eq!(skip.defined, [true, true, false, false]);
    assert_eq!(values(&skip)[2..], [0.0, 0.0]);
    let zero = with(UndefinedRows::CountAsZero).unwrap();
    assert_eq!((zero.without_positives, zero.divisor), (2, 4));
    let means = [scalar(&skip.mean().unwrap()), scalar(&zero.mean().unwrap())];
    assert_close(&[means[0]], &[2.0 * means[1]], 1e-14);
    assert_close(&[scalar(&skip.sum().unwrap())], &[2.0 * means[0]], 1e-14);
    let error = with(UndefinedRows::Error).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Undefined {
                rows: 2,
                of: 4,
                first: 2,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn without_any_positive_the_mean_is_zero_with_zero_gradient() {
    let x = tensor(&noise(6, 4, 3), 3, DType::F32);
    for loss in [Loss::supcon_out(), Loss::supcon_in()] {
        let (mean, gradient) = assert_finite(&loss, &x, &[0, 1, 2, 3], 1);
        assert_eq!(mean, 0.0);
        assert!(gradient.iter().all(|&g| g == 0.0));
    }
    let alone = tensor(&[1.0, 2.0], 2, DType::F32);
    assert_eq!(assert_finite(&Loss::npairs(), &alone, &[3], 1).0, 0.0);
    assert_eq!(assert_finite(&Loss::supcon_out(), &alone, &[3], 1).0, 0.0);
}

#[test]
fn only_negatives_without_negatives_is_undefined() {
    let x = tensor(&noise(6, 4, 3), 3, DType::F32);
    let config = SupConConfig {
        denominator: Denominator::OnlyNegatives,
        ..Default::default()
    };
    let loss = supcon(&x, &labels(&[7, 7, 7, 7]), &config).unwrap();
    assert_eq!(
        (
            loss.without_negatives,
            loss.without_positives,
            loss.undefined()
        ),
        (4, 0, 4)
    );
    assert_eq!(scalar(&loss.mean().unwrap()), 0.0);
}

#[test]
fn one_positive_without_negatives_is_exactly_zero() {
    let x = tensor(&noise(6, 4, 3), 3, DType::F64);
    for summation in [Summation::Out, Summation::In] {
        let config = SupConConfig {
            denominator: Denominator::OnePositive,
            summation,
            ..Default::default()
        };
        let (mean, gradient) =
            mean_and_gradient(&x, |x| supcon(x, &labels(&[7, 7, 7, 7]), &config).unwrap());
        assert!(mean.abs() < 1e-15);
        assert!(gradient.iter().all(|g| g.abs() < 1e-15));
    }
}

#[test]
fn identical_rows_sit_at_the_collapse_value_with_no_gradient() {
    let y = [0, 0, 1, 1, 2, 2, 2, 3];
    let x = tensor(&[0.3, -0.4, 0.5].repeat(16), 3, DType::F32);
    for loss in all_losses() {
        let (mean, gradient) = assert_finite(&loss, &x, &y, 2);
        assert_close(&[mean], &[loss.collapse_value(&y, 2)], 2e-6);
        assert!(
            gradient.iter().all(|g| g.abs() < 1e-5),
            "{loss:?}: {gradient:?}"
        );
    }
}

#[test]
fn duplicates_with_different_labels_have_the_gradient_of_f64() {
    // Rows 0 and 1 coincide and must part; f32 agrees with f64, whose gradient finite differences confirm.
    let x = [1.0, 0.2, 1.0, 0.2, -0.3, 1.0, 0.8, 0.1];
    let y = [0, 1, 1, 0];
    for loss in all_losses().into_iter().filter(|loss| !loss.needs_views()) {
        let exact = assert_finite(&loss, &tensor(&x, 2, DType::F64), &y, 1);
        let single = assert_finite(&loss, &tensor(&x, 2, DType::F32), &y, 1);
        assert_close(&[single.0], &[exact.0], 1e-5);
        assert_close(&single.1, &exact.1, 1e-4);
        assert!(exact.1.iter().any(|g| g.abs() > 1e-3), "{loss:?}");
    }
}

#[test]
fn extreme_temperatures_agree_with_f64() {
    let values = noise(11, 8, 3);
    let y = [0, 1, 0, 1];
    for temperature in [1e-6, 1e-4, 1e-3, 5e-3, 1e3, 1e6] {
        for loss in all_losses() {
            let loss = loss.with_temperature(temperature);
            let single = assert_finite(&loss, &tensor(&values, 3, DType::F32), &y, 2);
            let exact = assert_finite(&loss, &tensor(&values, 3, DType::F64), &y, 2);
            // A cosine's rounding, about 1e-7, is multiplied by 1/τ (and the scale τ/0.07 takes it back).
            let tolerance = 1e-5 + 1e-6 / temperature;
            assert!(
                (single.0 - exact.0).abs() <= tolerance * exact.0.abs().max(1.0),
                "{loss:?}: {} {}",
                single.0,
                exact.0
            );
        }
    }
}

#[test]
fn low_temperature_does_not_underflow_against_the_diagonal() {
    // (1 − cos)/τ is 150 to every other row: with the diagonal in the maximum, every exponential would be 0 in f32.
    let x = Tensor::new(
        &[
            [1f32, 0.0, 0.0, 0.0],
            [0.0, 1.0, 0.0, 0.0],
            [0.0, 0.0, 1.0, 0.0],
            [0.0, 0.0, 0.0, 1.0],
        ],
        &Device::Cpu,
    )
    .unwrap();
    let config = SupConConfig {
        temperature: 1.0 / 150.0,
        ..Default::default()
    };
    let (mean, gradient) =
        mean_and_gradient(&x, |x| supcon(x, &labels(&[0, 0, 1, 1]), &config).unwrap());
    assert_close(&[mean], &[3f64.ln()], 1e-6);
    assert!(gradient.iter().any(|g| g.abs() > 1.0), "{gradient:?}");
}

#[test]
fn well_separated_negatives_do_not_underflow_a_denominator_of_negatives() {
    // Positives coincide and negatives oppose them: the gap is 2/τ = 400, far beyond f32's exponentials.
    let x = Tensor::new(
        &[[1f32, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]],
        &Device::Cpu,
    )
    .unwrap();
    let loss = Loss::SupConOut {
        temperature: 0.005,
        denominator: Denominator::OnlyNegatives,
        scale: Scale::One,
        undefined_rows: UndefinedRows::Skip,
    };
    let (mean, _) = assert_finite(&loss, &x, &[0, 0, 1, 1], 1);
    assert_close(&[mean], &[2f64.ln() - 400.0], 1e-6);
    assert_close(&[mean], &[loss.floor(&[0, 0, 1, 1], 1)], 1e-6);
}

#[test]
fn half_precision_comes_in_and_f32_is_computed() {
    let x64 = tensor(&noise(12, 12, 16), 16, DType::F64);
    let y = [0, 1, 2, 0, 1, 2];
    for dtype in [DType::F16, DType::BF16] {
        let half = x64.to_dtype(dtype).unwrap();
        let widened = half.to_dtype(DType::F32).unwrap();
        for loss in all_losses() {
            let out = loss.forward(&half, &y, 2).unwrap();
            assert_eq!(out.values.dtype(), DType::F32);
            // The same numbers as from the widened rows: nothing is computed in half precision.
            assert_eq!(
                values(&out),
                values(&loss.forward(&widened, &y, 2).unwrap())
            );
            let (_, half_gradient) = mean_and_gradient(&half, |x| loss.forward(x, &y, 2).unwrap());
            let (_, gradient) = mean_and_gradient(&widened, |x| loss.forward(x, &y, 2).unwrap());
            let rounding = if dtype == DType::F16 { 1e-3 } else { 8e-3 };
            let largest = gradient.iter().fold(0f64, |m, g| m.max(g.abs()));
            for (half, full) in half_gradient.iter().zip(&gradient) {
                assert!(
                    (half - full).abs() <= rounding * largest,
                    "{loss:?}: {half} {full}"
                );
            }
        }
    }
    assert_eq!(
        Loss::npairs().forward(&x64, &y, 2).unwrap().values.dtype(),
        DType::F64
    );
}

#[test]
fn multilabel_row_without_labels_follows_its_policy() {
    let s = Tensor::new(
        &[[1f64, 0.2, 0.1], [0.2, 1.0, 0.4], [0.1, 0.4, 1.0]],
        &Device::Cpu,
    )
    .unwrap();
    let y = Tensor::new(&[[1u8, 0], [1, 1], [0, 0]], &Device::Cpu).unwrap();
    let with = |undefined_rows| {
        npairs_multilabel(
            &s,
            &y,
            &NpairsConfig {
                undefined_rows,
                ..Default::default()
            },
        )
    };
    let skip = with(UndefinedRows::Skip).unwrap();
    assert_eq!(
        (skip.undefined(), skip.divisor, values(&skip)[2]),
        (1, 2, 0.0)
    );
    assert_eq!(with(UndefinedRows::CountAsZero).unwrap().divisor, 3);
    assert!(matches!(
        with(UndefinedRows::Error),
        Err(Error::Undefined { first: 2, .. })
    ));
}

#[test]
fn soft_multilabel_weights_are_taken_as_they_are() {
    let s = Tensor::new(&[[0f64, 1.0], [1.0, 0.0]], &Device::Cpu).unwrap();
    let y = Tensor::new(&[[0.5f64, 0.5], [0.0, 1.0]], &Device::Cpu).unwrap();
    // T = [[0.5, 0.5], [0.5, 1]] by rows: [0.5, 0.5] and [1/3, 2/3].
    let lse = (1.0 + 1f64.exp()).ln();
    let loss = npairs_multilabel(&s, &y, &NpairsConfig::default()).unwrap();
    assert_close(&values(&loss), &[lse - 0.5, lse - 1.0 / 3.0], 1e-14);
}

#[test]
fn wrong_input_is_named() {
    let x = tensor(&noise(1, 4, 3), 3, DType::F32);
    let config = SupConConfig::default();
    let empty = Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap();
    let message = |error: Error| error.to_string();
    assert!(message(supcon(&empty, &labels(&[0; 0]), &config).unwrap_err()).contains("[0, 3]"));
    assert!(message(Loss::npairs().forward(&empty, &[], 1).unwrap_err()).contains("empty"));
    assert!(matches!(
        supcon(&x.flatten_all().unwrap(), &labels(&[0, 1]), &config),
        Err(Error::Shape { .. })
    ));
    assert!(matches!(
        supcon(&x, &labels(&[0, 1]), &config),
        Err(Error::LabelCount { .. })
    ));
    assert!(matches!(
        npairs(&x, &labels(&[0, 1, 2, 3]), &NpairsConfig::default()),
        Err(Error::Shape { .. })
    ));
    assert!(matches!(
        nt_xent(&x, 1, &NtXentConfig::default()),
        Err(Error::Views { .. })
    ));
    assert!(matches!(
        nt_xent(&x, 3, &NtXentConfig::default()),
        Err(Error::Views { .. })
    ));
    let wrong = Loss::npairs().forward(&x, &[0, 1, 2, 3], 2).unwrap_err();
    assert_eq!(
        message(wrong),
        "expected 2 labels (4 rows in 2 views), got 4; labels are given once per sample, not per view"
    );
    assert!(matches!(
        Loss::npairs().forward(&x, &[], 0),
        Err(Error::Views { .. })
    ));
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        for loss in all_losses() {
            let loss = loss.with_temperature(bad);
            assert!(matches!(loss.check(), Err(Error::Temperature { .. })));
            assert!(matches!(
                loss.forward(&x, &[0, 1], 2),
                Err(Error::Temperature { .. })
            ));
        }
    }
    let scaled = SupConConfig {
        scale: Scale::TemperatureOver(0.0),
        ..Default::default()
    };
    assert!(matches!(
        supcon(&x, &labels(&[0, 0, 1, 1]), &scaled),
        Err(Error::ScaleBase { .. })
    ));
}

#[test]
fn scale_multiplies_by_the_temperature_over_its_base() {
    let x = tensor(&noise(1, 4, 3), 3, DType::F64);
    let y = labels(&[0, 0, 1, 1]);
    let plain = SupConConfig {
        temperature: 0.14,
        ..Default::default()
    };
    let scaled = SupConConfig {
        scale: Scale::TemperatureOver(0.07),
        ..plain.clone()
    };
    let expected: Vec<f64> = values(&supcon(&x, &y, &plain).unwrap())
        .iter()
        .map(|v| 2.0 * v)
        .collect();
    assert_close(&values(&supcon(&x, &y, &scaled).unwrap()), &expected, 1e-14);
}

#[test]
fn names_parse_and_print() {
    for name in Loss::names() {
        assert_eq!(name.parse::<Loss>().unwrap().to_string(), name);
    }
    let message = "supcon".parse::<Loss>().unwrap_err().to_string();
    assert!(
        message.starts_with("unknown loss \"supcon\"; expected one of npairs, supcon_out, "),
        "{message}"
    );
}
