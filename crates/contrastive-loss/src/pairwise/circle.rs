//! Circle loss, Sun et al. 2020 (arXiv 2002.10857), equations 5 and 6.

use candle_core::Tensor;

use super::{both, mean_over_rows, per_anchor};
use crate::terms::{check_positive, check_range, hinge, softplus, softplus_of};
use crate::{Bounds, Measure, PairLoss, PairSet, PerAnchor, Result, UndefinedRows, logits};

/// Similarities weighted by how far each is from its optimum.
///
/// L_i = ln( 1 + Σ_n exp(γ α_n (s_in − m)) · Σ_p exp(−γ α_p (s_ip − 1 + m)) ) with α_n = \[s_in + m\]₊ and
/// α_p = \[1 + m − s_ip\]₊, both constants for the gradient (the paper's choice of O and Δ), s cosines.
///
/// Rows without a positive or without a negative are undefined. Collapse value: ln(1 + |P| |N| exp(γ(1 − 2m²))). Floor:
/// ln(1 + |P| |N| exp(−2γm²)), at s_p = 1 and s_n = 0.
///
/// Source: Sun et al. 2020 (arXiv 2002.10857), equation 6 with the weights of equation 5.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{Circle, PairLoss};
/// let z = Tensor::new(&[[1f32, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 0, 1, 1], &Device::Cpu)?;
/// let loss = Circle { m: 0.25, gamma: 1.0, ..Circle::default() }.forward(&z, &labels)?.mean()?;
/// let floor = (2.0 * (-2.0f32 * 0.0625).exp()).ln_1p();
/// assert!((loss.to_scalar::<f32>()? - floor).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Circle {
    /// m, the relaxation; 0.4 in the paper for image retrieval, 0.25 for faces.
    pub m: f64,
    /// γ, the scale; 80 in the paper for image retrieval, 256 for faces.
    pub gamma: f64,
    /// What becomes of rows without a positive or a negative.
    pub undefined_rows: UndefinedRows,
}

impl Default for Circle {
    fn default() -> Self {
        Self {
            m: 0.4,
            gamma: 80.0,
            undefined_rows: UndefinedRows::Skip,
        }
    }
}

impl PairLoss for Circle {
    fn measure(&self) -> Measure {
        Measure::Dot
    }

    fn check(&self) -> Result<()> {
        check_range("m", self.m, 0.0, 1.0)?;
        check_positive("gamma", self.gamma)
    }

    fn over(&self, matrix: &Tensor, pairs: &PairSet) -> Result<PerAnchor> {
        self.check()?;
        pairs.check_matrix(matrix)?;
        let device = matrix.device();
        let (m, constant) = (self.m, matrix.detach());
        let alpha_n = hinge(&constant.affine(1.0, m)?)?; // [N, M]
        let alpha_p = hinge(&constant.affine(-1.0, 1.0 + m)?)?;
        let push = (alpha_n * matrix.affine(self.gamma, -self.gamma * m)?)?;
        let pull = (alpha_p * matrix.affine(-self.gamma, self.gamma * (1.0 - m))?)?;
        let push = logits::log_sum_exp(&push, &pairs.negative_mask(device)?)?; // [N, 1]
        let pull = logits::log_sum_exp(&pull, &pairs.positive_mask(device)?)?;
        let raw = softplus(&(push + pull)?)?.squeeze(1)?; // [N]
        per_anchor(
            &raw,
            pairs,
            both,
            self.undefined_rows,
            "no positive or no negative",
        )
    }

    fn bounds(&self, pairs: &PairSet) -> Bounds {
        let square = self.m * self.m;
        let at = |exponent: f64| {
            mean_over_rows(pairs, self.undefined_rows, both, |positives, negatives| {
                softplus_of(positives.ln() + negatives.ln() + self.gamma * exponent)
            })
        };
        Bounds {
            collapse: at(1.0 - 2.0 * square),
            floor: at(-2.0 * square),
        }
    }
}
