//! One training step against torchvision and Keras: outputs, loss, every gradient, running statistics, evaluation, and the
//! loss after a step of SGD. Fixtures and the scripts that made them stand in `tests/fixtures`.
//!
//! The references are float64, and are met twice. In f64 (through the operators' compositions) everything must agree to
//! [`F64`]: the architecture is the same, to the last gradient. In f32 (through the fast operators) what may deviate is
//! taken from the fixture: the reference library's own float32 run, times [`SLACK`] (another order of summation), but
//! never below [`FLOOR`]; in a deep network a rounding difference flips a few ReLUs, and a gradient then differs by far
//! more than the rounding.
//!
//! Gradients are compared by norm and by the product with a fixed tensor (which notices a permutation), relative to the
//! gradient's norm; a gradient that is mathematically zero (a bias before batch norm) is compared relative to the norm of
//! all gradients.

use crate::formula;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{D, DType, Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use resnet::{Classifier, ClassifierConfig, LoadOptions, Mode, Parameters, ResNet, ResNetConfig};
use serde::Deserialize;

/// Far above f64 rounding (as amplified by the network), far below any difference of formula.
const F64: f64 = 1e-8;
const SLACK: f64 = 5.0;
const FLOOR: f64 = 1e-5;
/// Share of the total gradient norm below which a gradient counts as zero.
const ZERO: f64 = 1e-6;

#[derive(Deserialize)]
struct Fixture {
    arch: String,
    stem: String,
    batch: usize,
    side: usize,
    classes: usize,
    rate: f64,
    float32: BTreeMap<String, f64>,
    logits: Vec<Vec<f64>>,
    loss: f64,
    gradients: BTreeMap<String, [f64; 2]>,
    running: BTreeMap<String, [f64; 2]>,
    eval_logits: Vec<Vec<f64>>,
    loss_after_step: f64,
}

impl Fixture {
    fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name);
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn check(&self, dtype: DType, what: &str, error: f64) {
        let tolerance = match dtype {
            DType::F64 => F64,
            // A loss is one number, whose deviation is luck; that of the logits behind it is the measure.
            _ if what.starts_with("loss") => (SLACK * self.float32["logits"]).max(FLOOR),
            _ => (SLACK * self.float32[what]).max(FLOOR),
        };
        println!(
            "{} {} {dtype:?} {what}: {error:.2e}, allowed {tolerance:.2e}",
            self.arch, self.stem
        );
        assert!(
            error <= tolerance,
            "{dtype:?} {what}: deviates by {error:.3e}, allowed {tolerance:.3e}"
        );
    }
}

fn cross_entropy(logits: &Tensor, labels: &[u32]) -> Tensor {
    let n = labels.len();
    let labels = Tensor::from_slice(labels, (n, 1), &Device::Cpu).unwrap();
    let shifted = logits
        .broadcast_sub(&logits.max_keepdim(D::Minus1).unwrap().detach())
        .unwrap();
    let log_sum = shifted
        .exp()
        .unwrap()
        .sum_keepdim(D::Minus1)
        .unwrap()
        .log()
        .unwrap();
    let log_p = shifted.broadcast_sub(&log_sum).unwrap();
    (log_p.gather(&labels, 1).unwrap().sum_all().unwrap() * (-1.0 / n as f64)).unwrap()
}

/// Largest difference relative to the largest magnitude.
fn matrix_error(value: &Tensor, reference: &[Vec<f64>]) -> f64 {
    let value = value
        .to_dtype(DType::F64)
        .unwrap()
        .to_vec2::<f64>()
        .unwrap();
    let pairs = value.iter().flatten().zip(reference.iter().flatten());
    let (difference, scale) = pairs.fold((0.0f64, 0.0f64), |(d, s), (v, r)| {
        (d.max((v - r).abs()), s.max(r.abs()))
    });
    assert_eq!(value.len(), reference.len());
    difference / scale
}

fn scalar(loss: &Tensor) -> f64 {
    loss.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

fn one_step(file: &str) {
    let fixture = Fixture::read(file);
    for dtype in [DType::F64, DType::F32] {
        one_step_in(&fixture, dtype);
    }
}

fn one_step_in(fixture: &Fixture, dtype: DType) {
    let rng = &mut ChaCha8Rng::seed_from_u64(0);
    let config = ResNetConfig::new(fixture.arch.parse().unwrap(), fixture.stem.parse().unwrap());
    let mut encoder_params = Parameters::with_dtype(&Device::Cpu, dtype);
    let mut head_params = Parameters::with_dtype(&Device::Cpu, dtype);
    let encoder = ResNet::new(&config, &mut encoder_params, rng).unwrap();
    let linear = ClassifierConfig::Linear {
        classes: fixture.classes,
    };
    let head = Classifier::new(&linear, encoder.feature_dim(), &mut head_params, rng).unwrap();
    for params in [&encoder_params, &head_params] {
        let values = formula::tensors_like(&params.to_tensors().unwrap());
        params
            .load_tensors(&values, &LoadOptions::default())
            .unwrap();
    }
    let images = formula::images("images", fixture.batch, fixture.side)
        .to_dtype(dtype)
        .unwrap();
    let labels = formula::labels(fixture.batch, fixture.classes as u32);
    let mut run = |mode| {
        head.forward(&encoder.forward(&images, mode).unwrap(), mode, rng)
            .unwrap()
    };

    let logits = run(Mode::Train);
    let loss = cross_entropy(&logits, &labels);
    let gradients = loss.backward().unwrap();
    fixture.check(dtype, "logits", matrix_error(&logits, &fixture.logits));
    fixture.check(dtype, "loss", (scalar(&loss) / fixture.loss - 1.0).abs());

    let total = fixture
        .gradients
        .values()
        .map(|[norm, _]| norm * norm)
        .sum::<f64>()
        .sqrt();
    let (mut worst, mut seen) = (0.0f64, 0);
    for (name, var, role) in encoder_params.trainable().chain(head_params.trainable()) {
        let gradient = gradients
            .get(var)
            .unwrap_or_else(|| panic!("{name} has no gradient"));
        let gradient = match role {
            resnet::Role::ConvWeight => gradient.permute((0, 3, 1, 2)).unwrap(),
            _ => gradient.clone(),
        };
        let value = formula::summary(name, &gradient);
        let reference = fixture.gradients[name];
        let scale = reference[0].max(ZERO * total);
        for (v, r) in value.into_iter().zip(reference) {
            worst = worst.max((v - r).abs() / scale);
        }
        seen += 1;
    }
    assert_eq!(seen, fixture.gradients.len());
    fixture.check(dtype, "gradients", worst);

    let mut worst = 0.0f64;
    for (name, reference) in &fixture.running {
        let value = formula::summary(name, encoder_params.get(name).unwrap());
        for (v, r) in value.into_iter().zip(reference) {
            worst = worst.max((v - r).abs() / reference[0]);
        }
    }
    fixture.check(dtype, "running", worst);
    let eval = run(Mode::Eval);
    fixture.check(
        dtype,
        "eval_logits",
        matrix_error(&eval, &fixture.eval_logits),
    );
    let frozen = run(Mode::Frozen);
    let difference = (frozen - eval).unwrap().abs().unwrap().sum_all().unwrap();
    assert_eq!(scalar(&difference), 0.0);

    for (_, var, _) in encoder_params.trainable().chain(head_params.trainable()) {
        let step = (gradients.get(var).unwrap() * fixture.rate).unwrap();
        var.set(&(var.as_detached_tensor() - step).unwrap())
            .unwrap();
    }
    let after = cross_entropy(&run(Mode::Train), &labels);
    fixture.check(
        dtype,
        "loss_after_step",
        (scalar(&after) / fixture.loss_after_step - 1.0).abs(),
    );
}

#[test]
fn resnet18_imagenet_stem_is_torchvisions() {
    one_step("torchvision_resnet18_imagenet.json");
}

#[test]
fn resnet18_cifar_stem_is_torchvisions() {
    one_step("torchvision_resnet18_cifar.json");
}

#[test]
fn resnet50_imagenet_stem_is_torchvisions() {
    one_step("torchvision_resnet50_imagenet.json");
}

#[test]
fn resnet50_cifar_stem_is_torchvisions() {
    one_step("torchvision_resnet50_cifar.json");
}

#[test]
fn resnet50v2_is_keras() {
    one_step("keras_resnet50v2.json");
}
