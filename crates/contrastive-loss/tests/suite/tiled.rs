//! The tiled path against the dense one, in values and gradients; rows from elsewhere; edge cases.

use candle_core::{DType, Tensor, Var};
use contrastive_loss::tiled::{
    self, Execution, Gathered, InfoNceConfig, SigmoidConfig, info_nce, sigmoid,
};
use contrastive_loss::{
    Denominator, Error, Loss, NpairsTargets, PerAnchor, Scale, UndefinedRows, normalize,
    similarity_matrix,
};

use crate::support::{assert_close, labels, mean_and_gradient, noise, scalar, tensor, values};

/// Every loss that has tiles, with its options.
fn losses() -> Vec<Loss> {
    let mut all = vec![Loss::nt_xent(), Loss::npairs().with_temperature(0.1)];
    all.push(Loss::Npairs {
        temperature: 0.2,
        targets: NpairsTargets::Boolean,
    });
    for denominator in [Denominator::All, Denominator::OnlyNegatives] {
        for (scale, undefined_rows) in [
            (Scale::One, UndefinedRows::Skip),
            (Scale::TemperatureOver(0.07), UndefinedRows::CountAsZero),
        ] {
            let temperature = 0.1;
            all.push(Loss::SupConOut {
                temperature,
                denominator,
                scale,
                undefined_rows,
            });
            all.push(Loss::SupConIn {
                temperature,
                denominator,
                scale,
                undefined_rows,
            });
        }
    }
    all
}

fn both(loss: &Loss, x: &Tensor, labels: &[u32], views: usize) -> [(PerAnchor, Vec<f64>); 2] {
    [Execution::Dense, Execution::Tiled].map(|execution| {
        let run = |x: &Tensor| loss.forward_by(execution, x, labels, views).unwrap();
        (run(x), mean_and_gradient(x, run).1)
    })
}

#[test]
fn tiles_agree_with_the_whole_matrix() {
    // Sizes below, at and beyond a block of 128 rows, with lonely rows.
    for (samples, columns) in [(1, 3), (2, 4), (64, 16), (150, 33)] {
        let labels: Vec<u32> = (0..samples).map(|i| (i * i) % 7).collect();
        for views in [1, 2] {
            let x = noise(samples.into(), views * samples as usize, columns);
            for loss in losses() {
                if loss.needs_views() && views == 1 {
                    continue;
                }
                for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 2e-5)] {
                    let x = tensor(&x, columns, dtype);
                    let [(dense, slope), (tiled, tiled_slope)] = both(&loss, &x, &labels, views);
                    assert_close(&values(&tiled), &values(&dense), tolerance);
                    let norm = slope.iter().map(|g| g * g).sum::<f64>().sqrt().max(1e-3);
                    let scaled = |g: &[f64]| g.iter().map(|g| g / norm).collect::<Vec<_>>();
                    assert_close(&scaled(&tiled_slope), &scaled(&slope), tolerance);
                    assert_eq!(tiled.defined, dense.defined, "{loss:?}");
                    assert_eq!(
                        (
                            tiled.without_positives,
                            tiled.without_negatives,
                            tiled.divisor
                        ),
                        (
                            dense.without_positives,
                            dense.without_negatives,
                            dense.divisor
                        )
                    );
                }
            }
        }
    }
}

#[test]
fn half_precision_is_computed_in_f32_and_gradients_come_back_in_kind() {
    let x = tensor(&noise(5, 300, 24), 24, DType::F32);
    let labels: Vec<u32> = (0..300).map(|i| i % 9).collect();
    for dtype in [DType::F16, DType::BF16] {
        let half = x.to_dtype(dtype).unwrap();
        let rounded = half.to_dtype(DType::F32).unwrap();
        for loss in losses() {
            if loss.needs_views() {
                continue;
            }
            let run = |x: &Tensor| loss.forward_by(Execution::Tiled, x, &labels, 1).unwrap();
            assert_eq!(values(&run(&half)), values(&run(&rounded)));
            let var = Var::from_tensor(&half).unwrap();
            let gradients = run(&var).mean().unwrap().backward().unwrap();
            assert_eq!(gradients.get(&var).unwrap().dtype(), dtype);
        }
    }
}

#[test]
fn low_temperatures_equal_rows_and_one_label_stay_finite() {
    let spread = noise(3, 200, 8);
    let equal = [0.3, -0.1, 0.7, 0.2, 0.0, 0.5, -0.9, 0.1].repeat(200);
    let many: Vec<u32> = (0..200).map(|i| i % 3).collect();
    for x in [&spread, &equal] {
        for labels in [many.clone(), vec![4; 200], (0..200).collect()] {
            for loss in losses() {
                if loss.needs_views() {
                    continue;
                }
                for temperature in [1e-3, 0.05] {
                    let loss = loss.clone().with_temperature(temperature);
                    let x = tensor(x, 8, DType::F32);
                    let [(dense, slope), (tiled, tiled_slope)] = both(&loss, &x, &labels, 1);
                    // Similarities of size 1/τ are rounded in f32 before they cancel.
                    let tolerance = 3e-6 / temperature;
                    assert_close(&values(&tiled), &values(&dense), tolerance);
                    let norm = slope.iter().map(|g| g * g).sum::<f64>().sqrt();
                    assert!(tiled_slope.iter().all(|g| g.is_finite()));
                    for (a, b) in tiled_slope.iter().zip(&slope) {
                        assert!(
                            (a - b).abs() <= tolerance * norm.max(1.0),
                            "{loss:?}: {a} {b}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_no_number_shows_and_what_has_no_tiles_is_named() {
    let mut x = noise(1, 40, 4);
    x[17] = f64::NAN;
    let labels: Vec<u32> = (0..40).map(|i| i % 4).collect();
    let loss = Loss::supcon_out();
    let x = tensor(&x, 4, DType::F32);
    let mean = loss.forward_by(Execution::Tiled, &x, &labels, 1).unwrap();
    assert!(scalar(&mean.mean().unwrap()).is_nan());
    let untiled = Loss::SupConOut {
        temperature: 0.1,
        denominator: Denominator::OnePositive,
        scale: Scale::One,
        undefined_rows: UndefinedRows::Skip,
    };
    let error = untiled
        .forward_by(Execution::Tiled, &x, &labels, 1)
        .unwrap_err();
    assert!(error.to_string().contains("Execution::Dense"), "{error}");
    assert!(untiled.forward(&x, &labels, 1).is_ok());
}

/// One batch cut into parts of unequal size: each part's gradient for its own rows.
#[test]
fn gradients_of_two_three_and_eight_parts_are_the_whole_batchs() {
    let (rows, columns) = (302, 12);
    let x = tensor(&noise(11, rows, columns), columns, DType::F32);
    let labels: Vec<u32> = (0..rows as u32).map(|row| row * row % 11).collect();
    for loss in losses() {
        // For NT-Xent the labels are samples: here of several views.
        let loss_of = |x: &Tensor| {
            let gathered = Gathered {
                rows: x,
                labels: &labels,
                own: 0..rows,
            };
            loss.forward_gathered(x, &gathered).unwrap()
        };
        let (mean, whole) = mean_and_gradient(&x, loss_of);
        if !loss.needs_views() {
            let dense = |x: &Tensor| loss.forward_by(Execution::Dense, x, &labels, 1).unwrap();
            let (dense_mean, dense) = mean_and_gradient(&x, dense);
            assert_close(&[mean], &[dense_mean], 1e-5);
            assert_close(&whole, &dense, 1e-5);
        }
        for parts in [2, 3, 8] {
            let bounds: Vec<usize> = (0..=parts)
                .map(|p| rows * p * (p + 1) / (parts * (parts + 1)))
                .collect();
            let mut together = Vec::new();
            for own in bounds.windows(2).map(|two| two[0]..two[1]) {
                let local = x.narrow(0, own.start, own.len()).unwrap();
                // What stands in the local rows' place does not matter.
                let elsewhere = x
                    .slice_assign(&[own.clone(), 0..columns], &local.ones_like().unwrap())
                    .unwrap();
                let part = |local: &Tensor| {
                    let gathered = Gathered {
                        rows: &elsewhere,
                        labels: &labels,
                        own: own.clone(),
                    };
                    loss.forward_gathered(local, &gathered).unwrap()
                };
                let (value, gradient) = mean_and_gradient(&local, part);
                assert_close(&[value], &[mean], 1e-6);
                together.extend(gradient);
            }
            assert_close(&together, &whole, 1e-6);
        }
    }
}

/// Parameters shared by the ranks: y = x·w on each, gradients of w summed.
#[test]
fn summed_parameter_gradients_of_ranks_are_one_processs() {
    let (rows, inputs, columns) = (96, 10, 6);
    let x = tensor(&noise(2, rows, inputs), inputs, DType::F64);
    let w = tensor(&noise(3, inputs, columns), columns, DType::F64);
    let labels: Vec<u32> = (0..rows as u32).map(|row| row % 5).collect();
    let loss = Loss::supcon_out();
    let (_, whole) = mean_and_gradient(&w, |w| {
        loss.forward_by(Execution::Dense, &x.matmul(w).unwrap(), &labels, 1)
            .unwrap()
    });
    let gathered = x.matmul(&w).unwrap();
    for ranks in [2, 3, 8] {
        let share = rows / ranks;
        let mut sum = vec![0.0; inputs * columns];
        for rank in 0..ranks {
            let own = rank * share..(rank + 1) * share;
            let (_, part) = mean_and_gradient(&w, |w| {
                let local = x.narrow(0, own.start, share).unwrap().matmul(w).unwrap();
                let gathered = Gathered {
                    rows: &gathered,
                    labels: &labels,
                    own: own.clone(),
                };
                loss.forward_gathered(&local, &gathered).unwrap()
            });
            sum.iter_mut()
                .zip(part)
                .for_each(|(sum, part)| *sum += part);
        }
        assert_close(&sum, &whole, 1e-12);
    }
}

#[test]
fn gathered_rows_that_do_not_fit_are_refused() {
    let x = tensor(&noise(1, 6, 3), 3, DType::F32);
    let loss = Loss::npairs();
    let try_with = |own, labels: &[u32]| {
        let local = x.narrow(0, 0, 2).unwrap();
        loss.forward_gathered(
            &local,
            &Gathered {
                rows: &x,
                labels,
                own,
            },
        )
        .map(drop)
    };
    assert!(try_with(4..6, &[0; 6]).is_ok());
    assert!(matches!(
        try_with(4..7, &[0; 6]),
        Err(Error::Mismatch { .. })
    ));
    assert!(matches!(
        try_with(3..6, &[0; 6]),
        Err(Error::Mismatch { .. })
    ));
    assert!(matches!(
        try_with(0..2, &[0; 5]),
        Err(Error::LabelCount { .. })
    ));
}

#[test]
fn a_memory_is_more_candidates() {
    let (n, m, d) = (140, 200, 6);
    let x = noise(21, n + m, d);
    let all: Vec<u32> = (0..(n + m) as u32).map(|row| row * 3 % 8).collect();
    for loss in losses() {
        if loss.needs_views() {
            continue;
        }
        for dtype in [DType::F64, DType::F32] {
            let memory = tensor(&x[n * d..], d, dtype);
            let batch = tensor(&x[..n * d], d, dtype);
            let forward = |z: &Tensor| {
                loss.forward_with_memory(z, &all[..n], &memory, &all[n..])
                    .unwrap()
            };
            // The dense loss of everything, of which the batch's rows are looked at.
            let dense = |z: &Tensor| {
                let both = Tensor::cat(&[z, &memory], 0).unwrap();
                let mut loss = loss.forward_by(Execution::Dense, &both, &all, 1).unwrap();
                loss.values = loss.values.narrow(0, 0, n).unwrap();
                loss
            };
            let tolerance = if dtype == DType::F64 { 1e-11 } else { 3e-5 };
            assert_close(
                &values(&forward(&batch)),
                &values(&dense(&batch)),
                tolerance,
            );
            let sum = |loss: &dyn Fn(&Tensor) -> PerAnchor| {
                let var = Var::from_tensor(&batch).unwrap();
                let gradients = loss(&var).sum().unwrap().backward().unwrap();
                let gradient = gradients.get(&var).unwrap().to_dtype(DType::F64).unwrap();
                gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap()
            };
            assert_close(&sum(&forward), &sum(&dense), 20.0 * tolerance);
        }
    }
}

#[test]
fn info_nce_by_hand_on_every_combination() {
    let (n, m, d, tau) = (130, 150, 5, 0.2);
    let [q, k, queue] = [(1, n), (2, n), (3, m)].map(|(seed, rows)| noise(seed, rows, d));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / tau;
    let row = |x: &[f64], i: usize| x[i * d..(i + 1) * d].to_vec();
    for (in_batch, with_queue) in [(true, false), (false, true), (true, true)] {
        let expected: Vec<f64> = (0..n)
            .map(|i| {
                let positive = dot(&row(&q, i), &row(&k, i));
                let mut total = positive.exp();
                if in_batch {
                    let others = (0..n).filter(|&j| j != i);
                    total += others
                        .map(|j| dot(&row(&q, i), &row(&k, j)).exp())
                        .sum::<f64>();
                }
                if with_queue {
                    total += (0..m)
                        .map(|j| dot(&row(&q, i), &row(&queue, j)).exp())
                        .sum::<f64>();
                }
                total.ln() - positive
            })
            .collect();
        let config = InfoNceConfig {
            temperature: tau,
            in_batch,
        };
        for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 2e-5)] {
            let [q, k, queue] = [&q, &k, &queue].map(|x| tensor(x, d, dtype));
            let negatives = with_queue.then_some(&queue);
            let run = |q: &Tensor, k: &Tensor| info_nce(q, k, negatives, &config).unwrap();
            assert_close(&values(&run(&q, &k)), &expected, tolerance);
            if dtype == DType::F64 {
                for by_query in [true, false] {
                    let of = |x: &Tensor| if by_query { run(x, &k) } else { run(&q, x) };
                    let x = if by_query { &q } else { &k };
                    check_slope(x, of);
                }
            }
        }
    }
    let q = tensor(&q[..d], d, DType::F32);
    let alone = info_nce(&q, &q, None, &InfoNceConfig::default()).unwrap();
    assert_eq!((values(&alone), alone.without_negatives), (vec![0.0], 1));
}

#[test]
fn sigmoid_by_hand() {
    let (n, d) = (200, 5);
    let x = noise(4, n, d);
    let y: Vec<u32> = (0..n as u32).map(|i| i % 6).collect();
    let config = SigmoidConfig {
        temperature: 0.4,
        bias: -2.0,
    };
    let expected: Vec<f64> = (0..n)
        .map(|i| {
            let others = (0..n).filter(|&j| j != i);
            others
                .map(|j| {
                    let dot: f64 = (0..d).map(|k| x[i * d + k] * x[j * d + k]).sum();
                    let sign = if y[i] == y[j] { 1.0 } else { -1.0 };
                    (-sign * (dot / 0.4 - 2.0)).exp().ln_1p()
                })
                .sum()
        })
        .collect();
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-6)] {
        let run = |x: &Tensor| sigmoid(x, &labels(&y), &config).unwrap();
        let x = tensor(&x, d, dtype);
        assert_close(&values(&run(&x)), &expected, tolerance);
        if dtype == DType::F64 {
            check_slope(&x, run);
        } else {
            let exact = mean_and_gradient(&x.to_dtype(DType::F64).unwrap(), run).1;
            assert_close(&mean_and_gradient(&x, run).1, &exact, 2e-5);
        }
    }
    let bad = SigmoidConfig {
        bias: f64::NAN,
        ..config
    };
    let x = tensor(&x, d, DType::F32);
    assert!(matches!(
        sigmoid(&x, &labels(&y), &bad),
        Err(Error::Bias { .. })
    ));
}

/// The gradient along one direction against a central difference, in f64.
#[track_caller]
fn check_slope(x: &Tensor, loss: impl Fn(&Tensor) -> PerAnchor) {
    let (rows, columns) = x.dims2().unwrap();
    let direction = noise(99, rows, columns);
    let at = |step: f64| {
        let moved = (x + tensor(&direction, columns, DType::F64)
            .affine(step, 0.0)
            .unwrap())
        .unwrap();
        scalar(&loss(&moved).mean().unwrap())
    };
    let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
    let gradient = mean_and_gradient(x, &loss).1;
    let slope: f64 = gradient.iter().zip(&direction).map(|(a, b)| a * b).sum();
    assert!(
        (slope - numeric).abs() < 1e-7 * numeric.abs().max(1.0),
        "{slope} {numeric}"
    );
}

#[test]
fn the_function_forms_agree_with_the_dense_functions() {
    let x = normalize(&tensor(&noise(6, 300, 10), 10, DType::F32)).unwrap();
    let y: Vec<u32> = (0..300).map(|i| i % 10).collect();
    let y = labels(&y);
    let supcon = contrastive_loss::SupConConfig::default();
    assert_close(
        &values(&tiled::supcon(&x, &y, &supcon).unwrap()),
        &values(&contrastive_loss::supcon(&x, &y, &supcon).unwrap()),
        1e-5,
    );
    let config = contrastive_loss::NtXentConfig::default();
    assert_close(
        &values(&tiled::nt_xent(&x, 3, &config).unwrap()),
        &values(&contrastive_loss::nt_xent(&x, 3, &config).unwrap()),
        1e-5,
    );
    let config = contrastive_loss::NpairsConfig::default();
    let s = similarity_matrix(&x, 0.1).unwrap();
    assert_close(
        &values(&tiled::npairs(&x, &y, 0.1, &config).unwrap()),
        &values(&contrastive_loss::npairs(&s, &y, &config).unwrap()),
        1e-5,
    );
    assert!(tiled::nt_xent(&x, 1, &contrastive_loss::NtXentConfig::default()).is_err());
}
