//! Multi-similarity loss, Wang et al. 2019 (arXiv 1904.06627).

use candle_core::Tensor;

use super::{either, mean_over_rows, per_anchor};
use crate::terms::{check_positive, check_range, log_one_plus_sum_exp};
use crate::{Bounds, Measure, PairLoss, PairSet, PerAnchor, Result, UndefinedRows};

/// Soft weighting of positives and negatives around one similarity λ.
///
/// L_i = 1/α · ln(1 + Σ_{p ∈ P(i)} exp(−α (s_ip − λ))) + 1/β · ln(1 + Σ_{n ∈ N(i)} exp(β (s_in − λ))), s cosines.
///
/// A row without positives (or negatives) keeps its other half; one with neither (a miner may leave
/// such) is undefined; pytorch-metric-learning counts it as 0. Collapse value: the equation
/// at s = 1. Floor: positives at 1, negatives at −1/(C − 1) where all C labels have as many rows (the regular simplex), at
/// −1 otherwise.
///
/// Source: Wang et al. 2019 (arXiv 1904.06627), as its authors' code computes it (research-ms-loss,
/// `ret_benchmark/losses/multi_similarity_loss.py`), without its mining, which is [`mine_multi_similarity`](crate::mine_multi_similarity).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{MultiSimilarity, PairLoss};
/// let z = Tensor::new(&[[1f32, 0.0], [1.0, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 0, 1], &Device::Cpu)?;
/// let loss = MultiSimilarity::default().forward(&z, &labels)?.values.to_vec1::<f32>()?;
/// assert!((loss[0] - (1.0 + (-1f32).exp()).ln() / 2.0).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct MultiSimilarity {
    /// α, on the positives; 2 in the paper.
    pub alpha: f64,
    /// β, on the negatives; 50 in the paper.
    pub beta: f64,
    /// λ; 1 in the paper's text, 0.5 in its code and in pytorch-metric-learning.
    pub base: f64,
    /// What becomes of rows without any pair.
    pub undefined_rows: UndefinedRows,
}

impl Default for MultiSimilarity {
    fn default() -> Self {
        Self {
            alpha: 2.0,
            beta: 50.0,
            base: 0.5,
            undefined_rows: UndefinedRows::Skip,
        }
    }
}

impl MultiSimilarity {
    fn at(&self, (positives, s_p): (f64, f64), (negatives, s_n): (f64, f64)) -> f64 {
        let half = |count: f64, x: f64, sharpness: f64| {
            if count == 0.0 {
                0.0
            } else {
                crate::terms::softplus_of(count.ln() + sharpness * x) / sharpness
            }
        };
        half(positives, self.base - s_p, self.alpha) + half(negatives, s_n - self.base, self.beta)
    }
}

impl PairLoss for MultiSimilarity {
    fn measure(&self) -> Measure {
        Measure::Dot
    }

    fn check(&self) -> Result<()> {
        check_positive("alpha", self.alpha)?;
        check_positive("beta", self.beta)?;
        check_range("base", self.base, -1.0, 1.0)
    }

    fn over(&self, matrix: &Tensor, pairs: &PairSet) -> Result<PerAnchor> {
        self.check()?;
        pairs.check_matrix(matrix)?;
        let device = matrix.device();
        let half = |sharpness: f64, sign: f64, mask: Tensor| -> Result<Tensor> {
            let x = matrix.affine(sign * sharpness, -sign * sharpness * self.base)?; // [N, M]
            Ok(log_one_plus_sum_exp(&x, &mask)?.affine(1.0 / sharpness, 0.0)?) // [N]
        };
        let pull = half(self.alpha, -1.0, pairs.positive_mask(device)?)?;
        let push = half(self.beta, 1.0, pairs.negative_mask(device)?)?;
        let missing = "neither positive nor negative";
        per_anchor(&(pull + push)?, pairs, either, self.undefined_rows, missing)
    }

    fn bounds(&self, pairs: &PairSet) -> Bounds {
        let farthest = pairs.simplex_cosine();
        let mean = |s_n: f64| {
            mean_over_rows(
                pairs,
                self.undefined_rows,
                either,
                |positives, negatives| self.at((positives, 1.0), (negatives, s_n)),
            )
        };
        Bounds {
            collapse: mean(1.0),
            floor: mean(farthest),
        }
    }
}
