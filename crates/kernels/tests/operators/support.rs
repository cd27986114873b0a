//! Random tensors, gradients of a random weighting, and comparisons that say where they fail.

use std::sync::OnceLock;

use candle_core::{DType, Device, Result, Tensor, Var};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The environment variable that names the device under test: `cpu` (the default), `cuda` or `metal`.
pub const DEVICE: &str = "KERNELS_TEST_DEVICE";

pub fn device() -> &'static Device {
    static CHOICE: OnceLock<Device> = OnceLock::new();
    CHOICE.get_or_init(|| {
        let wish = std::env::var(DEVICE).unwrap_or("cpu".into());
        let device = match wish.as_str() {
            "cpu" => Ok(Device::Cpu),
            "cuda" => Device::new_cuda(0),
            "metal" => Device::new_metal(0),
            _ => panic!("{DEVICE} must be cpu, cuda or metal, got {wish:?}"),
        };
        device.unwrap_or_else(|e| panic!("{DEVICE}={wish}: {e}"))
    })
}

/// f32 and, where the device has it, f64, each with its tolerance.
pub fn types(single: f64, double: f64) -> Vec<(DType, f64)> {
    let mut types = vec![(DType::F32, single)];
    if !device().is_metal() {
        types.push((DType::F64, double));
    }
    types
}

pub fn generator(seed: u64) -> ChaCha8Rng {
    kernels::poison_buffers(true);
    ChaCha8Rng::seed_from_u64(seed)
}

/// Values in (-1, 1) that f32 holds exactly.
pub fn random(rng: &mut ChaCha8Rng, count: usize) -> Vec<f64> {
    (0..count)
        .map(|_| f64::from(rng.random_range(-1f32..1f32)))
        .collect()
}

pub fn var(values: &[f64], dims: &[usize], dtype: DType) -> Result<Var> {
    var_on(device(), values, dims, dtype)
}

pub fn var_on(device: &Device, values: &[f64], dims: &[usize], dtype: DType) -> Result<Var> {
    let tensor = Tensor::from_slice(values, dims, &Device::Cpu)?.to_dtype(dtype)?;
    Var::from_tensor(&tensor.to_device(device)?)
}

/// The gradients of Σ weight·y for each variable; zeros where there is none.
pub fn gradients(y: &Tensor, weight: &[f64], vars: &[&Var]) -> Result<Vec<Vec<f64>>> {
    let weight = Tensor::from_slice(weight, y.shape(), &Device::Cpu)?.to_dtype(y.dtype())?;
    let grads = (y * weight.to_device(y.device())?)?.sum_all()?.backward()?;
    vars.iter()
        .map(|v| match grads.get(v) {
            Some(g) => {
                assert_eq!(g.dims(), v.dims());
                numbers(g)
            }
            None => Ok(vec![0.0; v.elem_count()]),
        })
        .collect()
}

pub fn numbers(t: &Tensor) -> Result<Vec<f64>> {
    let t = t.to_device(&Device::Cpu)?;
    t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// |got − want| ≤ tolerance · (1 + largest |want|), everywhere.
#[track_caller]
pub fn close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    let scale = 1.0 + want.iter().fold(0.0, |m: f64, w| m.max(w.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!(
            (g - w).abs() <= tolerance * scale,
            "{what}: value {i} is {g}, expected {w}"
        );
    }
}

/// Derivative of `f` at a few coordinates by central differences, against `gradient`.
#[track_caller]
pub fn finite_differences(
    what: &str,
    at: &[f64],
    gradient: &[f64],
    rng: &mut ChaCha8Rng,
    f: impl Fn(&[f64]) -> f64,
) {
    let step = 1e-5;
    let scale = 1.0 + gradient.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
    for _ in 0..4 {
        let i = rng.random_range(0..at.len());
        let mut x = at.to_vec();
        x[i] = at[i] + step;
        let up = f(&x);
        x[i] = at[i] - step;
        let slope = (up - f(&x)) / (2.0 * step);
        assert!(
            (slope - gradient[i]).abs() < 1e-4 * scale,
            "{what}: gradient {i} is {}, differences give {slope}",
            gradient[i]
        );
    }
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
