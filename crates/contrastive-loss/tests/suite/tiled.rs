//! The tiled path against the dense one, in values and gradients; edge cases.

use candle_core::{DType, Device, Tensor, Var};
use contrastive_loss::tiled::{self, Execution};
use contrastive_loss::{
    Denominator, InfoNce, Loss, NpairsTargets, PerAnchor, Scale, Sigmoid, UndefinedRows, normalize,
    similarity_matrix,
};

use crate::support::{assert_close, labels, mean_and_gradient, noise, scalar, tensor, values};

/// Every loss that has tiles, with its options.
pub fn losses() -> Vec<Loss> {
    let mut all = vec![Loss::nt_xent(), Loss::npairs().with_temperature(0.1)];
    all.push(Loss::Npairs {
        temperature: 0.2,
        targets: NpairsTargets::Boolean,
    });
    for denominator in [
        Denominator::All,
        Denominator::OnlyNegatives,
        Denominator::OnePositive,
    ] {
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
    for symmetric in [false, true] {
        let loss = InfoNce {
            temperature: 0.1,
            symmetric,
            ..InfoNce::default()
        };
        all.push(loss.into());
    }
    let sigmoid = Sigmoid {
        log_scale: 5f64.ln(),
        bias: -2.0,
    };
    all.push(sigmoid.into());
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
    for (samples, columns) in [(1, 3), (2, 4), (64, 16), (300, 33)] {
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
            let views = if loss.needs_views() { 2 } else { 1 };
            let labels = &labels[..300 / views];
            let run = |x: &Tensor| loss.forward_by(Execution::Tiled, x, labels, views).unwrap();
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
                let views = if loss.needs_views() { 2 } else { 1 };
                let labels = &labels[..200 / views];
                for temperature in [1e-3, 0.05] {
                    let loss = loss.clone().with_temperature(temperature);
                    let x = tensor(x, 8, DType::F32);
                    let [(dense, slope), (tiled, tiled_slope)] = both(&loss, &x, labels, views);
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
    let untiled: Loss = "triplet".parse().unwrap();
    let error = untiled
        .forward_by(Execution::Tiled, &x, &labels, 1)
        .unwrap_err();
    assert!(error.to_string().contains("Execution::Dense"), "{error}");
    assert!(untiled.forward(&x, &labels, 1).is_ok());
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
        let config = InfoNce {
            temperature: tau,
            in_batch,
            symmetric: false,
        };
        for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 2e-5)] {
            let [q, k, queue] = [&q, &k, &queue].map(|x| tensor(x, d, dtype));
            let negatives = with_queue.then_some(&queue);
            let run = |q: &Tensor, k: &Tensor| tiled::info_nce(q, k, negatives, &config).unwrap();
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
    let alone = tiled::info_nce(&q, &q, None, &InfoNce::default()).unwrap();
    assert_eq!((values(&alone), alone.without_negatives), (vec![0.0], 1));
}

#[test]
fn a_queue_is_refused_as_the_dense_function_refuses_it() {
    let x = tensor(&noise(1, 6, 3), 3, DType::F32);
    let narrow = tensor(&noise(1, 6, 2), 2, DType::F32);
    let symmetric = InfoNce {
        symmetric: true,
        ..InfoNce::default()
    };
    let only_queue = InfoNce {
        in_batch: false,
        ..InfoNce::default()
    };
    for (queue, config) in [
        (Some(&x), &symmetric),
        (None, &only_queue),
        (Some(&narrow), &InfoNce::default()),
    ] {
        let tiled = tiled::info_nce(&x, &x, queue, config).unwrap_err();
        let dense = contrastive_loss::info_nce(&x, &x, queue, config).unwrap_err();
        assert_eq!(tiled.to_string(), dense.to_string());
    }
}

/// By hand, and the gradients of both views, of the scale and of the bias as the dense path has them.
#[test]
fn sigmoid_by_hand_with_its_own_parameters() {
    let (n, d) = (300, 5);
    let (x, y) = (noise(4, n, d), noise(5, n, d));
    let (log_scale, bias) = (0.9f64, -2.0f64);
    let cost = |i: usize, j: usize| {
        let dot: f64 = (0..d).map(|k| x[i * d + k] * y[j * d + k]).sum();
        let sign = if i == j { 1.0 } else { -1.0 };
        (-sign * (dot * log_scale.exp() + bias)).exp().ln_1p()
    };
    let expected: Vec<f64> = (0..n).map(|i| (0..n).map(|j| cost(i, j)).sum()).collect();
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 3e-6)] {
        let var = |values: &[f64], columns| Var::from_tensor(&tensor(values, columns, dtype));
        let [x, y] = [&x, &y].map(|view| var(view, d).unwrap());
        let [t, b] = [log_scale, bias].map(|scalar| var(&[scalar], 1).unwrap());
        let dense = contrastive_loss::sigmoid(&x, &y, &t, &b).unwrap();
        let tiled = tiled::sigmoid(&x, &y, &t, &b).unwrap();
        assert_close(&values(&tiled), &expected, tolerance);
        assert_close(&values(&dense), &expected, tolerance);
        let [dense, tiled] = [dense, tiled].map(|loss| loss.mean().unwrap().backward().unwrap());
        for var in [&x, &y, &t, &b] {
            let of = |store: &candle_core::backprop::GradStore| {
                let slope = store.get(var).unwrap().to_dtype(DType::F64).unwrap();
                slope.flatten_all().unwrap().to_vec1::<f64>().unwrap()
            };
            let (got, expected) = (of(&tiled), of(&dense));
            let size = expected.iter().fold(0f64, |size, g| size.max(g.abs()));
            let scaled = |g: &[f64]| g.iter().map(|g| g / size).collect::<Vec<_>>();
            assert_close(&scaled(&got), &scaled(&expected), 10.0 * tolerance);
        }
    }
    let x = tensor(&x, d, DType::F32);
    let two = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
    assert!(tiled::sigmoid(&x, &x, &two, &two).is_err());
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
