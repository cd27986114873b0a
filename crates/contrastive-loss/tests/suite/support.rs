//! Small helpers of the tests.

use candle_core::{DType, Device, Tensor, Var};
use contrastive_loss::PerAnchor;

/// `[rows, columns]` of numbers in (−1, 1) that depend on the seed alone.
pub fn noise(seed: u64, rows: usize, columns: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    (0..rows * columns)
        .map(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect()
}

pub fn tensor(values: &[f64], columns: usize, dtype: DType) -> Tensor {
    let rows = values.len() / columns;
    Tensor::from_slice(values, (rows, columns), &Device::Cpu)
        .unwrap()
        .to_dtype(dtype)
        .unwrap()
}

pub fn labels(values: &[u32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

pub fn values(loss: &PerAnchor) -> Vec<f64> {
    loss.values.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

pub fn scalar(tensor: &Tensor) -> f64 {
    tensor.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

/// The mean loss and its gradient with respect to `x`.
pub fn mean_and_gradient(x: &Tensor, loss: impl Fn(&Tensor) -> PerAnchor) -> (f64, Vec<f64>) {
    let x = Var::from_tensor(x).unwrap();
    let mean = loss(&x).mean().unwrap();
    let gradients = mean.backward().unwrap();
    let gradient = gradients
        .get(&x)
        .expect("a gradient")
        .to_dtype(DType::F64)
        .unwrap();
    (
        scalar(&mean),
        gradient.flatten_all().unwrap().to_vec1().unwrap(),
    )
}

#[track_caller]
pub fn assert_close(got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    for (index, (g, e)) in got.iter().zip(expected).enumerate() {
        let allowed = tolerance * e.abs().max(1.0);
        assert!(
            (g - e).abs() <= allowed,
            "entry {index}: got {g}, expected {e}, tolerance {allowed:e}"
        );
    }
}
