//! Seeded initial values.
//!
//! | scheme | convolution | fully connected | batch norm | biases |
//! |---|---|---|---|---|
//! | torch | normal, σ = √(2 / fan_out) (Kaiming) | uniform ±1/√fan_in | γ = 1, β = 0 | uniform ±1/√fan_in |
//! | keras | uniform ±√(6 / (fan_in + fan_out)) (Glorot) | the same | γ = 1, β = 0 | 0 |
//!
//! Sources: torchvision's `resnet.py` (`kaiming_normal_(mode="fan_out")`), `torch.nn.Linear.reset_parameters`, Keras'
//! `glorot_uniform`. The values come from the generator handed down, never from a global one.

use candle_core::{Device, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// How the weights of fully connected layers begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinearInit {
    /// `torch.nn.Linear`'s default: weight and bias uniform in ±1/√fan_in.
    #[default]
    Torch,
    /// Keras' `Dense` default (Glorot uniform): weight uniform in ±√(6 / (fan_in + fan_out)), bias 0.
    Glorot,
}

/// Normal values with standard deviation `std` (Box–Muller, both halves used), f32 on the CPU.
///
/// # Errors
/// Only Candle's own.
///
/// ```
/// use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
/// let weights = resnet::normal(&[10, 64], 0.1, &mut ChaCha8Rng::seed_from_u64(1))?;
/// assert_eq!(weights.dims(), [10, 64]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn normal(shape: &[usize], std: f64, rng: &mut ChaCha8Rng) -> candle_core::Result<Tensor> {
    let count: usize = shape.iter().product();
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // 1 − u lies in (0, 1], so that the logarithm is finite.
        let radius = std * (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * rng.random::<f64>()).sin_cos();
        values.push((radius * cos) as f32);
        values.push((radius * sin) as f32);
    }
    values.truncate(count);
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Uniform values in [−bound, bound).
pub(crate) fn uniform(
    shape: &[usize],
    bound: f64,
    rng: &mut ChaCha8Rng,
) -> candle_core::Result<Tensor> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|_| (bound * (2.0 * rng.random::<f64>() - 1.0)) as f32)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// The bound of Glorot's uniform distribution.
pub(crate) fn glorot_bound(fan_in: usize, fan_out: usize) -> f64 {
    (6.0 / (fan_in + fan_out) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn moments_are_those_asked_for() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let n = normal(&[100_001], 0.5, &mut rng)
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let u = uniform(&[100_001], 0.3, &mut rng)
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let std = |v: &[f32]| {
            let mean = v.iter().map(|x| f64::from(*x)).sum::<f64>() / v.len() as f64;
            assert!(mean.abs() < 0.01, "mean {mean}");
            (v.iter()
                .map(|x| (f64::from(*x) - mean).powi(2))
                .sum::<f64>()
                / v.len() as f64)
                .sqrt()
        };
        assert!((std(&n) - 0.5).abs() < 0.005);
        assert!((std(&u) - 0.3 / 3f64.sqrt()).abs() < 0.002);
        assert!(u.iter().all(|x| x.abs() <= 0.3));
    }

    #[test]
    fn the_seed_decides() {
        let draw = |seed| {
            normal(&[7], 1.0, &mut ChaCha8Rng::seed_from_u64(seed))
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
