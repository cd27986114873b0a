//! What holds for every loss of the catalogue: awkward batches, half precision, finite differences, both ends of the scale.

use crate::sampler::starts;
use crate::support::{assert_close, mean_and_gradient, noise, scalar, tensor, values};
use candle_core::{DType, Tensor};
use contrastive_loss::*;

/// Every loss with its source's options, and variants of those whose options change the formula.
pub fn all() -> Vec<Loss> {
    let mut all: Vec<Loss> = Loss::names()
        .iter()
        .map(|name| name.parse().unwrap())
        .collect();
    for mining in [Mining::All, Mining::Hard, Mining::SemiHard] {
        for soft in [false, true] {
            for (average, undefined_rows) in [
                (Average::All, UndefinedRows::Skip),
                (Average::Active, UndefinedRows::CountAsZero),
            ] {
                all.push(
                    Triplet {
                        margin: 0.7,
                        soft,
                        mining,
                        average,
                        undefined_rows,
                    }
                    .into(),
                );
            }
        }
    }
    for average in [Average::All, Average::Active] {
        all.push(
            MaxMargin {
                squared: true,
                average,
                ..MaxMargin::default()
            }
            .into(),
        );
    }
    for balance in [Balance::None, Balance::EffectiveNumber(0.9)] {
        for positives_cap in [None, Some(0), Some(1)] {
            for undefined_rows in [UndefinedRows::Skip, UndefinedRows::CountAsZero] {
                let loss = SupConWeighted {
                    balance,
                    positives_cap,
                    undefined_rows,
                    ..SupConWeighted::default()
                };
                all.push(loss.clone().into());
                all.push(
                    SupConWeighted {
                        summation: Summation::In,
                        ..loss
                    }
                    .into(),
                );
            }
        }
    }
    let zero = UndefinedRows::CountAsZero;
    all.push(
        GeneralizedLifted {
            undefined_rows: zero,
            ..GeneralizedLifted::default()
        }
        .into(),
    );
    all.push(
        MultiSimilarity {
            undefined_rows: zero,
            ..MultiSimilarity::default()
        }
        .into(),
    );
    all.push(
        Circle {
            undefined_rows: zero,
            m: 0.25,
            gamma: 256.0,
        }
        .into(),
    );
    all.push(
        Nca {
            undefined_rows: zero,
            scale: 8.0,
        }
        .into(),
    );
    all.push(
        InfoNce {
            symmetric: true,
            ..InfoNce::default()
        }
        .into(),
    );
    all
}

/// Whether the loss compares a batch in so many views.
fn takes(loss: &Loss, views: usize) -> bool {
    (!loss.needs_views() || views > 1) && (!loss.needs_two_views() || views == 2)
}

fn task(y: &[u32], columns: usize) -> Task {
    Task {
        dim: columns,
        classes: y.iter().max().map_or(1, |&label| label as usize + 1),
    }
}

#[test]
fn awkward_batches_stay_finite_in_every_type() {
    let mut repeated = noise(1, 8, 4);
    repeated.copy_within(0..16, 16); // rows 4..8 repeat rows 0..4
    let constant = [0.5, -0.25, 0.125, 1.0].repeat(8);
    let mut with_zero_row = noise(2, 8, 4);
    with_zero_row[..4].fill(0.0);
    for values in [noise(3, 8, 4), repeated, constant, with_zero_row] {
        for y in [
            vec![0; 8],
            (0..8).collect(),
            vec![0, 0, 1, 2, 3, 3, 4, 5],
            vec![1, 1, 2, 2],
        ] {
            let views = 8 / y.len();
            for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
                let x = tensor(&values, 4, dtype);
                for loss in all().iter().filter(|loss| takes(loss, views)) {
                    let parameters = starts(loss, task(&y, 4));
                    let (mean, gradient) = mean_and_gradient(&x, |x| {
                        loss.forward_with(x, &y, views, &parameters).unwrap()
                    });
                    assert!(mean.is_finite(), "{loss:?} {y:?}: {mean}");
                    assert!(
                        gradient.iter().all(|g| g.is_finite()),
                        "{loss:?} {y:?}: {gradient:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn half_precision_comes_in_and_f32_is_computed() {
    let x64 = tensor(&noise(12, 12, 16), 16, DType::F64);
    let y = [0, 1, 2, 0, 1, 2];
    for dtype in [DType::F16, DType::BF16] {
        let half = x64.to_dtype(dtype).unwrap();
        let widened = half.to_dtype(DType::F32).unwrap();
        for loss in all() {
            let parameters = starts(&loss, task(&y, 16));
            let forward = |x: &Tensor| loss.forward_with(x, &y, 2, &parameters).unwrap();
            assert_eq!(forward(&half).values.dtype(), DType::F32);
            // The same numbers as from the widened rows: nothing is computed in half precision.
            assert_eq!(
                values(&forward(&half)),
                values(&forward(&widened)),
                "{loss:?}"
            );
            let (_, half_gradient) = mean_and_gradient(&half, forward);
            let (_, gradient) = mean_and_gradient(&widened, forward);
            let rounding = if dtype == DType::F16 { 1e-3 } else { 8e-3 };
            let largest = gradient.iter().fold(0f64, |m, g| m.max(g.abs()));
            for (half, full) in half_gradient.iter().zip(&gradient) {
                // Below 6e-5 f16 is denormal: its rounding is no longer relative.
                assert!(
                    (half - full).abs() <= rounding * largest + 3e-8,
                    "{loss:?}: {half} {full}"
                );
            }
        }
    }
}

#[test]
fn finite_differences_with_lonely_rows_and_repeated_rows() {
    const STEP: f64 = 1e-6;
    let mut x = noise(7, 8, 3);
    x.copy_within(0..3, 6); // row 2 repeats row 0, with another label
    for (y, views) in [(vec![0u32, 0, 1, 1, 2, 0, 1, 3], 1), (vec![0, 0, 1, 2], 2)] {
        for loss in all().iter().filter(|loss| takes(loss, views)) {
            // Coinciding rows sit on the kink of a Euclidean distance, and circle's weights are constants by definition.
            let euclidean = matches!(
                loss,
                Loss::Pairwise(
                    Pairwise::MaxMargin(_)
                        | Pairwise::Triplet(_)
                        | Pairwise::LiftedStructure(_)
                        | Pairwise::GeneralizedLifted(_)
                )
            );
            if matches!(loss, Loss::Pairwise(Pairwise::Circle(_))) {
                continue;
            }
            let x = if euclidean { noise(7, 8, 3) } else { x.clone() };
            let parameters = starts(loss, task(&y, 3));
            let forward = |x: &Tensor| loss.forward_with(x, &y, views, &parameters).unwrap();
            let (_, gradient) = mean_and_gradient(&tensor(&x, 3, DType::F64), forward);
            let at = |index: usize, step: f64| {
                let mut moved = x.clone();
                moved[index] += step;
                scalar(&forward(&tensor(&moved, 3, DType::F64)).mean().unwrap())
            };
            let numeric: Vec<f64> = (0..x.len())
                .map(|index| (at(index, STEP) - at(index, -STEP)) / (2.0 * STEP))
                .collect();
            let largest = gradient.iter().fold(1f64, |m, g| m.max(g.abs()));
            for (got, expected) in gradient.iter().zip(&numeric) {
                assert!(
                    (got - expected).abs() < 1e-6 * largest,
                    "{loss:?}: {got} {expected}"
                );
            }
        }
    }
}

#[test]
fn identical_rows_and_proxies_sit_at_the_collapse_value() {
    let y = [0, 0, 1, 1, 2, 2, 2, 3];
    let x = tensor(&[0.3, -0.4, 0.5].repeat(16), 3, DType::F64);
    for loss in all() {
        let mut parameters = starts(&loss, task(&y, 3));
        if let (Loss::Proxied(_), [proxies]) = (&loss, parameters.as_mut_slice()) {
            let rows = proxies.dim(0).unwrap();
            *proxies = tensor(&[0.3, -0.4, 0.5].repeat(rows), 3, DType::F64);
        }
        let mean = loss
            .forward_with(&x, &y, 2, &parameters)
            .unwrap()
            .mean()
            .unwrap();
        let bounds = loss.bounds(&y, 2, task(&y, 3), &parameters).unwrap();
        // The sine of ArcFace is held above 1e-6.
        let tolerance = if matches!(loss, Loss::Proxied(_)) {
            1e-4
        } else {
            1e-5
        };
        assert_close(&[scalar(&mean)], &[bounds.collapse], tolerance);
        assert!(bounds.floor <= bounds.collapse, "{loss:?}: {bounds:?}");
    }
}

#[test]
fn no_batch_goes_below_the_floor() {
    for seed in 0..20 {
        let y: Vec<u32> = noise(seed, 1, 8)
            .iter()
            .map(|x| ((x + 1.0) * 2.0) as u32)
            .collect();
        for (rows, spread) in [(8, 1.0), (16, 3.0)] {
            let views = rows / 8;
            let mut x = noise(seed + 50, rows, 4);
            for (row, values) in x.chunks_mut(4).enumerate() {
                // Towards a corner for each class: near the floor.
                values[y[row % 8] as usize % 4] += spread * if y[row % 8] > 1 { -1.0 } else { 1.0 };
            }
            let x = tensor(&x, 4, DType::F64);
            for loss in all().iter().filter(|loss| takes(loss, views)) {
                let parameters = starts(loss, task(&y, 4));
                let mean = loss
                    .forward_with(&x, &y, views, &parameters)
                    .unwrap()
                    .mean()
                    .unwrap();
                let bounds = loss.bounds(&y, views, task(&y, 4), &parameters).unwrap();
                assert!(
                    scalar(&mean) >= bounds.floor - 1e-9,
                    "{loss:?}: {} {bounds:?}",
                    scalar(&mean)
                );
            }
        }
    }
}

#[test]
fn a_simplex_of_classes_attains_the_floors_that_are_minima() {
    // Three classes at the corners of a triangle.
    let corners = [
        [1.0, 0.0],
        [-0.5, 0.75f64.sqrt()],
        [-0.5, -(0.75f64.sqrt())],
    ];
    let y = [0u32, 1, 2, 0, 1, 2];
    let x: Vec<f64> = y
        .iter()
        .flat_map(|&label| corners[label as usize])
        .collect();
    let x = tensor(&x, 2, DType::F64);
    let losses: [Loss; 4] = [
        MultiSimilarity::default().into(),
        Nca::default().into(),
        SupConWeighted::default().into(),
        Loss::npairs(),
    ];
    for loss in losses {
        let mean = scalar(&loss.forward(&x, &y, 1).unwrap().mean().unwrap());
        assert_close(&[mean], &[loss.floor(&y, 1)], 1e-12);
    }
}

#[test]
fn extreme_sharpness_stays_finite() {
    let x = tensor(&noise(11, 8, 3), 3, DType::F32);
    let y = [0, 1, 0, 1];
    let sharp: Vec<Loss> = vec![
        Circle {
            gamma: 1e5,
            ..Circle::default()
        }
        .into(),
        MultiSimilarity {
            alpha: 1e5,
            beta: 1e5,
            ..MultiSimilarity::default()
        }
        .into(),
        Nca {
            scale: 1e5,
            ..Nca::default()
        }
        .into(),
        InfoNce {
            temperature: 1e-5,
            ..InfoNce::default()
        }
        .into(),
        Sigmoid {
            log_scale: 10.0,
            bias: -500.0,
        }
        .into(),
        ArcFace {
            scale: 1e5,
            ..ArcFace::default()
        }
        .into(),
        CosFace {
            scale: 1e5,
            ..CosFace::default()
        }
        .into(),
        ProxyAnchor {
            alpha: 1e5,
            ..ProxyAnchor::default()
        }
        .into(),
        ProxyNca { scale: 1e5 }.into(),
        NormalizedSoftmax { temperature: 1e-5 }.into(),
        SupConWeighted {
            temperature: 1e-5,
            ..SupConWeighted::default()
        }
        .into(),
    ];
    for loss in sharp {
        let parameters = starts(&loss, task(&y, 3));
        let (mean, gradient) =
            mean_and_gradient(&x, |x| loss.forward_with(x, &y, 2, &parameters).unwrap());
        assert!(
            mean.is_finite() && gradient.iter().all(|g| g.is_finite()),
            "{loss:?}: {mean} {gradient:?}"
        );
    }
}

/// Also where values are sums over triplets or shares of the loss.
#[test]
fn equal_weights_change_no_mean() {
    let x = tensor(&noise(13, 12, 4), 4, DType::F64);
    let y = [0, 1, 0, 1, 2, 2];
    for loss in all() {
        let parameters = starts(&loss, task(&y, 4));
        let plain = loss.forward_with(&x, &y, 2, &parameters).unwrap();
        let weights = vec![3.0; plain.defined.len()];
        let weighted = plain.weighted(&weights).unwrap();
        let [plain, weighted] = [plain, weighted].map(|loss| scalar(&loss.mean().unwrap()));
        assert!(plain > 0.0, "{loss:?}");
        assert_close(&[weighted], &[plain], 1e-12);
    }
}
