//! Gradients through Candle's autograd: against PyTorch's, and against finite differences in f64.

use std::collections::HashMap;
use std::path::Path;

use crate::support::{assert_close, labels, mean_and_gradient, noise, tensor, values};
use candle_core::{DType, Device, Tensor};
use contrastive_loss::{
    Denominator, NpairsConfig, NpairsTargets, NtXentConfig, PerAnchor, Scale, Summation,
    SupConConfig, UndefinedRows, normalize, npairs, npairs_multilabel, nt_xent, similarity_matrix,
    supcon,
};

const TAU: f64 = 0.2;

type Function = Box<dyn Fn(&Tensor) -> PerAnchor>;

/// Every loss and option, over normalised rows, under the fixture's names.
fn losses(y: &Tensor, multi_hot: &Tensor) -> Vec<(String, Function)> {
    let mut all: Vec<(String, Function)> = Vec::new();
    for (name, targets) in [
        ("npairs", NpairsTargets::Normalized),
        ("npairs_boolean", NpairsTargets::Boolean),
    ] {
        let y = y.clone();
        let config = NpairsConfig {
            targets,
            ..Default::default()
        };
        let function = move |x: &Tensor| {
            npairs(
                &similarity_matrix(&normalize(x).unwrap(), TAU).unwrap(),
                &y,
                &config,
            )
            .unwrap()
        };
        all.push((name.into(), Box::new(function)));
    }
    let multi_hot = multi_hot.clone();
    all.push((
        "npairs_multilabel".into(),
        Box::new(move |x| {
            let s = similarity_matrix(&normalize(x).unwrap(), TAU).unwrap();
            npairs_multilabel(&s, &multi_hot, &NpairsConfig::default()).unwrap()
        }),
    ));
    for (name, views) in [("nt_xent", 2), ("nt_xent_3", 3)] {
        let config = NtXentConfig { temperature: TAU };
        all.push((
            name.into(),
            Box::new(move |x| nt_xent(&normalize(x).unwrap(), views, &config).unwrap()),
        ));
    }
    for (first, summation) in [("out", Summation::Out), ("in", Summation::In)] {
        for (second, denominator) in [
            ("all", Denominator::All),
            ("one_positive", Denominator::OnePositive),
            ("only_negatives", Denominator::OnlyNegatives),
        ] {
            let y = y.clone();
            let config = SupConConfig {
                temperature: TAU,
                summation,
                denominator,
                ..Default::default()
            };
            let function = move |x: &Tensor| supcon(&normalize(x).unwrap(), &y, &config).unwrap();
            all.push((format!("supcon_{first}_{second}"), Box::new(function)));
        }
    }
    all
}

fn fixture() -> HashMap<String, Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

#[test]
fn values_and_gradients_agree_with_pytorch_in_f64_and_f32() {
    let fixture = fixture();
    let flat = |name: String| {
        fixture[&name]
            .flatten_all()
            .unwrap()
            .to_vec1::<f64>()
            .unwrap()
    };
    let mut compared = 0;
    for seed in 0..3 {
        let y = &fixture[&format!("{seed}.labels")];
        for (name, loss) in losses(y, &fixture[&format!("{seed}.y")]) {
            let expected = flat(format!("{seed}.{name}.values"));
            let expected_gradient = flat(format!("{seed}.{name}.gradient"));
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 3e-6)] {
                let x = fixture[&format!("{seed}.x")].to_dtype(dtype).unwrap();
                assert_close(&values(&loss(&x)), &expected, tolerance);
                assert_close(
                    &mean_and_gradient(&x, &loss).1,
                    &expected_gradient,
                    tolerance,
                );
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 3 * 11 * 2);
}

/// Central differences of the mean loss, entry by entry.
fn numeric(x: &[f64], columns: usize, loss: &Function) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let at = |index: usize, step: f64| {
        let mut moved = x.to_vec();
        moved[index] += step;
        crate::support::scalar(&loss(&tensor(&moved, columns, DType::F64)).mean().unwrap())
    };
    (0..x.len())
        .map(|index| (at(index, STEP) - at(index, -STEP)) / (2.0 * STEP))
        .collect()
}

#[test]
fn finite_differences_with_lonely_rows_and_repeated_rows() {
    let mut x = noise(7, 7, 3);
    x.copy_within(0..3, 6); // row 2 repeats row 0, with another label
    let y = labels(&[0, 0, 1, 1, 2, 0, 1]); // row 4 has no positive
    let multi_hot = Tensor::new(
        &[
            [1u8, 0, 1],
            [1, 0, 0],
            [0, 1, 0],
            [0, 1, 1],
            [0, 0, 1],
            [1, 1, 0],
            [0, 1, 0],
        ],
        &Device::Cpu,
    )
    .unwrap();
    for (name, loss) in losses(&y, &multi_hot) {
        if name.starts_with("nt_xent") {
            continue; // seven rows are no two views
        }
        let (_, gradient) = mean_and_gradient(&tensor(&x, 3, DType::F64), &loss);
        assert_close(&gradient, &numeric(&x, 3, &loss), 1e-8);
    }
}

#[test]
fn finite_differences_under_each_policy_and_scale() {
    let x = noise(8, 6, 4);
    for undefined_rows in [UndefinedRows::Skip, UndefinedRows::CountAsZero] {
        for scale in [Scale::One, Scale::TemperatureOver(0.07)] {
            let config = SupConConfig {
                temperature: 0.3,
                undefined_rows,
                scale,
                ..Default::default()
            };
            let y = labels(&[0, 1, 0, 2, 3, 1]);
            let loss: Function =
                Box::new(move |x| supcon(&normalize(x).unwrap(), &y, &config).unwrap());
            let (_, gradient) = mean_and_gradient(&tensor(&x, 4, DType::F64), &loss);
            assert_close(&gradient, &numeric(&x, 4, &loss), 1e-8);
        }
    }
}
