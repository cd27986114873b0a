//! SupCon over several and soft labels, class weights, and InfoNCE's queue: awkward input, both ends of the scale, gradients.

use crate::support::{assert_close, labels, mean_and_gradient, noise, scalar, tensor, values};
use candle_core::{DType, Device, Tensor};
use contrastive_loss::*;

type Function = Box<dyn Fn(&Tensor) -> PerAnchor>;

const RULES: [Overlap; 5] = [
    Overlap::Any,
    Overlap::All,
    Overlap::Product,
    Overlap::Jaccard,
    Overlap::PerLabel,
];

/// Row 3 shares nothing with the others, row 4 has no label, row 5 has those of row 0.
fn multi_hot() -> Tensor {
    let rows = [
        [1u8, 0, 1, 0],
        [1, 1, 0, 0],
        [0, 1, 1, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 0],
        [1, 0, 1, 0],
    ];
    Tensor::new(&rows, &Device::Cpu).unwrap()
}

fn soft(temperature: f64, undefined_rows: UndefinedRows) -> SoftSupCon {
    SoftSupCon {
        temperature,
        undefined_rows,
    }
}

#[test]
fn rows_that_nothing_attracts_follow_their_policy_in_every_type() {
    let x = noise(21, 6, 4);
    for rule in RULES {
        for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
            let z = tensor(&x, 4, dtype);
            let config = soft(0.1, UndefinedRows::Skip);
            let (mean, gradient) = mean_and_gradient(&z, |z| {
                let loss = supcon_multilabel(&normalize(z).unwrap(), &multi_hot(), rule, &config);
                let loss = loss.unwrap();
                let lonely = if rule == Overlap::All { 4 } else { 2 };
                assert_eq!((loss.undefined(), loss.without_positives), (lonely, lonely));
                loss
            });
            assert!(mean.is_finite() && mean > 0.0, "{rule:?}");
            assert!(gradient.iter().all(|g| g.is_finite()), "{rule:?}");
        }
        let strict = soft(0.1, UndefinedRows::Error);
        let z = tensor(&x, 4, DType::F32);
        let error = supcon_multilabel(&z, &multi_hot(), rule, &strict).unwrap_err();
        assert!(matches!(error, Error::Undefined { .. }), "{error}");
    }
}

#[test]
fn one_label_each_is_supcon_and_identical_rows_sit_at_ln_n_less_one() {
    let y = labels(&[0, 1, 0, 2, 1, 1]);
    let one_hot: Vec<f64> = [0, 1, 0, 2, 1, 1]
        .iter()
        .flat_map(|&label| (0..3).map(move |class| f64::from(u8::from(label == class))))
        .collect();
    let one_hot = tensor(&one_hot, 3, DType::F64);
    let z = normalize(&tensor(&noise(22, 6, 4), 4, DType::F64)).unwrap();
    let point = tensor(&[0.6, 0.0, 0.0, 0.8].repeat(6), 4, DType::F64);
    let expected = supcon(&z, &y, &SupConConfig::default()).unwrap();
    for rule in RULES {
        let config = soft(0.1, UndefinedRows::Skip);
        let got = supcon_multilabel(&z, &one_hot, rule, &config).unwrap();
        assert_close(&values(&got), &values(&expected), 1e-12);
        assert_eq!(
            (&got.defined, got.divisor),
            (&expected.defined, expected.divisor)
        );
        let collapsed = supcon_multilabel(&point, &one_hot, rule, &config).unwrap();
        assert_close(&[scalar(&collapsed.mean().unwrap())], &[5f64.ln()], 1e-12);
    }
}

#[test]
fn finite_differences() {
    const STEP: f64 = 1e-5;
    let x = noise(23, 6, 3);
    let queue = normalize(&tensor(&noise(24, 4, 3), 3, DType::F64)).unwrap();
    let mut functions: Vec<Function> = Vec::new();
    for rule in RULES {
        functions.push(Box::new(move |x| {
            let z = normalize(x).unwrap();
            supcon_multilabel(
                &z,
                &multi_hot(),
                rule,
                &soft(0.3, UndefinedRows::CountAsZero),
            )
            .unwrap()
        }));
    }
    for in_batch in [false, true] {
        let queue = queue.clone();
        let config = InfoNce {
            temperature: 0.3,
            in_batch,
            symmetric: false,
        };
        functions.push(Box::new(move |x| {
            let z = normalize(x).unwrap();
            let (q, k) = (z.narrow(0, 0, 3).unwrap(), z.narrow(0, 3, 3).unwrap());
            info_nce(&q, &k, Some(&queue), &config).unwrap()
        }));
    }
    for function in functions {
        let (_, gradient) = mean_and_gradient(&tensor(&x, 3, DType::F64), &function);
        let at = |index: usize, step: f64| {
            let mut moved = x.clone();
            moved[index] += step;
            scalar(&function(&tensor(&moved, 3, DType::F64)).mean().unwrap())
        };
        let numeric: Vec<f64> = (0..x.len())
            .map(|index| (at(index, STEP) - at(index, -STEP)) / (2.0 * STEP))
            .collect();
        assert_close(&gradient, &numeric, 1e-8);
    }
}

#[test]
fn a_queue_has_its_collapse_value_and_floor() {
    let point = tensor(&[0.6, 0.8].repeat(3), 2, DType::F64);
    let queue = tensor(&[0.6, 0.8].repeat(5), 2, DType::F64);
    let opposite = (&queue * -1.0).unwrap();
    for in_batch in [false, true] {
        let config = InfoNce {
            temperature: 0.5,
            in_batch,
            symmetric: false,
        };
        let bounds = config.bounds(3, 5);
        let mean = |queue: &Tensor| {
            scalar(
                &info_nce(&point, &point, Some(queue), &config)
                    .unwrap()
                    .mean()
                    .unwrap(),
            )
        };
        assert_close(&[mean(&queue)], &[bounds.collapse], 1e-12);
        if !in_batch {
            assert_close(&[mean(&opposite)], &[bounds.floor], 1e-12);
        }
    }
}

#[test]
fn weights_that_fit_no_row_are_refused() {
    let z = tensor(&noise(25, 4, 3), 3, DType::F32);
    let loss = supcon(&z, &labels(&[0, 0, 1, 2]), &SupConConfig::default()).unwrap();
    assert!(loss.weighted(&[1.0; 3]).is_err());
    assert!(loss.weighted(&[1.0, f64::NAN, 1.0, 1.0]).is_err());
    // Rows 2 and 3 do not count: weight on them alone is weight on nothing.
    assert!(loss.weighted(&[0.0, 0.0, 1.0, 1.0]).is_err());
    let same = loss.weighted(&[2.0, 2.0, 7.0, 0.0]).unwrap();
    assert_close(&values(&same), &values(&loss), 1e-6);
}
