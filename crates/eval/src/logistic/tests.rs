use super::*;
use serde::Deserialize;

/// Made by `tests/fixtures/logistic.py` with scikit-learn.
#[derive(Deserialize)]
struct Fixture {
    dim: usize,
    classes: usize,
    features: Vec<f32>,
    labels: Vec<u32>,
    optima: Vec<Optimum>,
}

#[derive(Deserialize)]
struct Optimum {
    lambda: f64,
    loss: f64,
    weights: Vec<f64>,
    bias: Vec<f64>,
}

fn fixture() -> (Fixture, Features) {
    let fixture: Fixture =
        serde_json::from_str(include_str!("../../tests/fixtures/logistic.json")).unwrap();
    let features = Features::new(
        fixture.dim,
        fixture.features.clone(),
        fixture.labels.clone(),
    )
    .unwrap();
    (fixture, features)
}

#[test]
fn the_optimum_is_scikit_learns() {
    let (fixture, features) = fixture();
    for optimum in &fixture.optima {
        let config = LogisticConfig {
            lambda: optimum.lambda,
            tolerance: 1e-9,
            ..LogisticConfig::default()
        };
        let found = fit_logistic(&features, fixture.classes, &config, None).unwrap();
        assert!(
            found.converged,
            "λ = {}: {}",
            optimum.lambda, found.gradient
        );
        // scikit-learn stops at a gradient of about 1e-10, where F is flat to 1e-16.
        assert!(
            (found.loss - optimum.loss).abs() < 1e-10,
            "{} {}",
            found.loss,
            optimum.loss
        );
        let (weights, bias) = found.parameters.split_at(fixture.classes * fixture.dim);
        // The bias is free up to a common shift: compare its differences. A gradient of 1e-9 over λ bounds the weights.
        for (found, expected) in weights.iter().zip(&optimum.weights) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
        for class in 1..fixture.classes {
            let (found, expected) = (bias[class] - bias[0], optimum.bias[class] - optimum.bias[0]);
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }
}

#[test]
fn a_warm_start_ends_at_the_same_place() {
    let (fixture, features) = fixture();
    let config = |lambda| LogisticConfig {
        lambda,
        tolerance: 1e-9,
        ..LogisticConfig::default()
    };
    let rough = fit_logistic(&features, fixture.classes, &config(1e-1), None).unwrap();
    let cold = fit_logistic(&features, fixture.classes, &config(1e-3), None).unwrap();
    let warm = fit_logistic(&features, fixture.classes, &config(1e-3), Some(&rough)).unwrap();
    assert!((warm.loss - cold.loss).abs() < 1e-13);
    assert!(warm.iterations > 0 && rough.loss > cold.loss);
}

/// Features wide and many enough for several blocks, with noise and a dimension that never changes.
fn many() -> Features {
    let mut state = 7u64;
    let mut draw = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let rows = 2 * BLOCK + 77;
    let labels: Vec<u32> = (0..rows as u32).map(|i| i % 4).collect();
    let values = labels
        .iter()
        .flat_map(|&label| {
            let mut row: Vec<f32> = (0..9).map(|_| draw() * 3.0).collect();
            row[label as usize] += 1.0;
            row.push(5.0);
            row
        })
        .collect();
    Features::new(10, values, labels).unwrap()
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    let features = many();
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| fit_logistic(&features, 4, &LogisticConfig::default(), None).unwrap())
    };
    let (one, three) = (on(1), on(3));
    assert!(one.converged);
    assert_eq!(one, three);
}

#[test]
fn the_gradient_is_the_losses_slope() {
    let features = many();
    let standard = Standard::of(&features);
    let at: Vec<f64> = (0..44).map(|i| (f64::from(i) * 0.7).sin() * 0.3).collect();
    let mut gradient = vec![0.0; 44];
    let f = |at: &[f64], gradient: &mut [f64]| {
        objective(&features, &standard, 4, 0.01, at, gradient).unwrap()
    };
    f(&at, &mut gradient);
    for place in [0, 5, 9, 23, 39, 40, 43] {
        let mut moved = [at.clone(), at.clone()];
        moved[0][place] += 1e-5;
        moved[1][place] -= 1e-5;
        let slope = (f(&moved[0], &mut [0.0; 44]) - f(&moved[1], &mut [0.0; 44])) / 2e-5;
        // Central differences err by h²: 1e-10, and by rounding over h: 1e-11.
        assert!(
            (slope - gradient[place]).abs() < 1e-8,
            "{place}: {slope} {}",
            gradient[place]
        );
    }
}

#[test]
fn the_validation_split_chooses_and_the_record_tells() {
    let features = many();
    let half = |odd: usize| {
        let rows: Vec<usize> = (0..features.len()).filter(|i| (i / 4) % 2 == odd).collect();
        let values = rows
            .iter()
            .flat_map(|&i| features.row(i))
            .copied()
            .collect();
        Features::new(
            10,
            values,
            rows.iter().map(|&i| features.labels[i]).collect(),
        )
        .unwrap()
    };
    let (train, validation) = (half(0), half(1));
    let grid = [10.0, 1e-2, 1e-4];
    let config = LogisticConfig::default();
    let fit =
        |grid: &[f64], stop: bool| validated_probe(&train, &validation, 4, grid, &config, || stop);
    let chosen = fit(&grid, false).unwrap().unwrap();
    assert!(fit(&grid, true).unwrap().is_none());
    for lambda in grid {
        let config = LogisticConfig {
            lambda,
            ..LogisticConfig::default()
        };
        let other = fit_logistic(&train, 4, &config, None).unwrap();
        let top1 = classification(&other.predict(&validation).unwrap())
            .unwrap()
            .top1;
        assert!(top1 <= chosen.validation_top1 + 1e-12, "{lambda}: {top1}");
    }
    let record = chosen
        .record(&chosen.probe.predict(&validation).unwrap(), 1.0, 0.0)
        .unwrap();
    assert_eq!(record.top1, chosen.validation_top1);
    assert_eq!(record.training_images as usize, train.len());
    assert!(fit(&[], false).is_err());
}

#[test]
fn wrong_labels_and_widths_are_named() {
    let features = many();
    let text = fit_logistic(&features, 3, &LogisticConfig::default(), None)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("3 classes") && text.contains("label 3"),
        "{text}"
    );
    let config = LogisticConfig {
        lambda: -1.0,
        ..LogisticConfig::default()
    };
    let text = fit_logistic(&features, 4, &config, None)
        .unwrap_err()
        .to_string();
    assert!(text.contains("lambda") && text.contains("-1"), "{text}");
}
