//! Weights and inputs from a formula, the same in Python and in Rust; described in `tests/fixtures/formula.py`.
//!
//! Self-contained on purpose: another crate's parity test may copy this file.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

/// FNV-1a, 64 bits.
pub fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// The 24 random bits of each index.
fn bits(name: &str, count: usize) -> impl Iterator<Item = u64> + use<> {
    let hash = fnv1a(name);
    (1..=count as u64).map(move |i| {
        let mut z = hash.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) >> 40
    })
}

/// Values in [−1, 1).
pub fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> + use<> {
    bits(name, count).map(|bits| 2.0 * (bits as f64 / f64::from(1u32 << 24)) - 1.0)
}

/// The tensor of that name, in PyTorch's layout, on the CPU.
pub fn tensor(name: &str, shape: &[usize]) -> Tensor {
    let kind = name.rsplit('.').next().unwrap_or(name);
    if kind == "num_batches_tracked" {
        return Tensor::zeros(shape, DType::I64, &Device::Cpu).unwrap();
    }
    let scale: Box<dyn Fn(f64) -> f64> = match kind {
        "weight" if shape.len() >= 2 => {
            let bound = (6.0 / shape[1..].iter().product::<usize>() as f64).sqrt();
            Box::new(move |u| u * bound)
        }
        "weight" => Box::new(|u| 1.0 + u / 4.0),
        "bias" | "running_mean" => Box::new(|u| u / 10.0),
        "running_var" => Box::new(|u| 1.0 + u / 2.0),
        _ => Box::new(|u| u * 3f64.sqrt()),
    };
    let values: Vec<f32> = uniform(name, shape.iter().product())
        .map(|u| scale(u) as f32)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A formula tensor for each of the given ones (a model's, in file layout).
pub fn tensors_like(shapes: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    shapes
        .iter()
        .map(|(name, like)| (name.clone(), tensor(name, like.dims())))
        .collect()
}

/// Images in memory layout, `[n, side, side, 3]`.
pub fn images(name: &str, n: usize, side: usize) -> Tensor {
    tensor(name, &[n, 3, side, side])
        .permute((0, 2, 3, 1))
        .unwrap()
        .contiguous()
        .unwrap()
}

/// Class labels `[n]`.
pub fn labels(n: usize, classes: u32) -> Vec<u32> {
    bits("labels", n)
        .map(|bits| (bits % u64::from(classes)) as u32)
        .collect()
}

/// Norm, and the product with the formula's uniform values: an order-sensitive fingerprint of a tensor.
pub fn summary(name: &str, value: &Tensor) -> [f64; 2] {
    let values = value
        .to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1::<f64>()
        .unwrap();
    let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
    let probe = uniform(&format!("probe/{name}"), values.len());
    [norm, values.iter().zip(probe).map(|(v, u)| v * u).sum()]
}
