//! Features on one footing for the linear probe, whatever encoder they come from.
//!
//! f̃ = (f − μ) / (σ·√D), dimension by dimension, with μ and σ over the training images: mean 0, length about 1. Raw
//! features of one encoder can be twenty times as long as another's, and a learning rate that suits the one diverges on
//! the other. A linear head on f̃ is a linear head on f: at the end W ← W / (σ·√D), b ← b − W·μ, and the saved head
//! takes plain features.

use crate::features::FeatureSet;
use crate::model::Head;
use crate::{Error, Result};
use candle_core::Tensor;

/// μ and 1 / (σ·√D) of a feature table; a dimension that never changes has factor 0.
#[derive(Debug)]
pub(crate) struct Standard {
    mean: Tensor,   // [D]
    factor: Tensor, // [D]
}

impl Standard {
    /// Of all rows of a table; sums in f64, in the order of the rows.
    pub fn of(features: &FeatureSet) -> Result<Self> {
        let (rows, width) = features.values.dims2()?;
        let (mut sums, mut squares) = (vec![0f64; width], vec![0f64; width]);
        for (part, _) in features.chunks(4096) {
            for row in part?.to_vec2::<f32>()? {
                for ((sum, square), value) in sums.iter_mut().zip(&mut squares).zip(row) {
                    *sum += f64::from(value);
                    *square += f64::from(value) * f64::from(value);
                }
            }
        }
        let count = rows.max(1) as f64;
        let mean: Vec<f64> = sums.iter().map(|sum| sum / count).collect();
        let factor: Vec<f32> = squares
            .iter()
            .zip(&mean)
            .map(|(square, mean)| {
                let variance = square / count - mean * mean;
                // Below this, what differs is the rounding of the sums.
                let still = variance <= 1e-10 * (mean * mean).max(f64::MIN_POSITIVE);
                if still {
                    0.0
                } else {
                    (1.0 / (variance * width as f64).sqrt()) as f32
                }
            })
            .collect();
        let mean: Vec<f32> = mean.iter().map(|mean| *mean as f32).collect();
        let device = features.values.device();
        Ok(Self {
            mean: Tensor::from_vec(mean, width, device)?,
            factor: Tensor::from_vec(factor, width, device)?,
        })
    }

    /// `[N, D]` → `[N, D]`.
    pub fn apply(&self, features: &Tensor) -> Result<Tensor> {
        Ok(features
            .broadcast_sub(&self.mean)?
            .broadcast_mul(&self.factor)?)
    }

    /// Turns a linear head on f̃ into the same function of f.
    pub fn fold_into(&self, head: &Head) -> Result<()> {
        let parameter = |name: &str| {
            head.parameters
                .get(name)
                .ok_or_else(|| Error::OptimizerState(format!("a linear head has no `{name}`")))
        };
        let (weight, bias) = (parameter("fc.weight")?, parameter("fc.bias")?); // [C, D], [C]
        let folded = weight.as_detached_tensor().broadcast_mul(&self.factor)?;
        let shift = folded.broadcast_mul(&self.mean)?.sum(1)?; // [C]
        bias.set(&(bias.as_detached_tensor() - shift)?)?;
        Ok(weight.set(&folded)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::HeadKind;
    use candle_core::Device;
    use resnet::LinearInit;

    fn table() -> FeatureSet {
        // Three dimensions: small, large and far from 0, constant.
        let values: Vec<f32> = (0..50u8)
            .flat_map(|i| {
                let t = f32::from(i) * 0.7;
                [0.01 * t.sin(), 300.0 + 20.0 * (1.3 * t).cos(), 4.0]
            })
            .collect();
        FeatureSet {
            values: Tensor::from_vec(values, (50, 3), &Device::Cpu).unwrap(),
            labels: vec![0; 50],
        }
    }

    #[test]
    fn dimensions_have_mean_0_and_the_rows_length_about_1() {
        let features = table();
        let scaled = Standard::of(&features)
            .unwrap()
            .apply(&features.values)
            .unwrap();
        let mean = scaled.mean(0).unwrap().to_vec1::<f32>().unwrap();
        assert!(mean.iter().all(|m| m.abs() < 1e-4), "{mean:?}");
        let square = scaled.sqr().unwrap().mean(0).unwrap();
        let square = square.to_vec1::<f32>().unwrap();
        assert!((square[0] - 1.0 / 3.0).abs() < 1e-4 && (square[1] - 1.0 / 3.0).abs() < 1e-4);
        assert_eq!(square[2], 0.0);
    }

    #[test]
    fn the_folded_head_is_the_same_function() {
        let features = table();
        let standard = Standard::of(&features).unwrap();
        let head = Head::new(
            HeadKind::Linear,
            0.0,
            3,
            4,
            LinearInit::Torch,
            1,
            &Device::Cpu,
        )
        .unwrap();
        let before = head
            .logits(&standard.apply(&features.values).unwrap())
            .unwrap();
        standard.fold_into(&head).unwrap();
        let after = head.logits(&features.values).unwrap();
        let apart = (before - after).unwrap().abs().unwrap();
        let apart = apart.max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(apart < 1e-4, "{apart}");
    }
}
