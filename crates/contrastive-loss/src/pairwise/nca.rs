//! Neighbourhood components analysis, Goldberger et al. 2004, "Neighbourhood Components Analysis", equation 6 (the sum of log p_i).

use candle_core::Tensor;

use super::{mean_over_rows, per_anchor};
use crate::terms::check_positive;
use crate::{Bounds, Measure, PairLoss, PairSet, PerAnchor, Result, UndefinedRows, logits};

/// −ln of the probability that a stochastic neighbour has the row's label.
///
/// L_i = − ln ( Σ_{p ∈ P(i)} exp(−κ d²_ip) / Σ_{j ≠ i} exp(−κ d²_ij) ), d² squared Euclidean distances, κ the scale.
///
/// Over normalised rows it is SupCon's L_in at τ = 1/(2κ), less ln|P|. Rows without a positive are undefined; rows without
/// a negative have loss 0. Collapse value: ln((|P| + |N|)/|P|). Floor: ln(1 + |N|/|P| · exp(2κc)), c = −1 − 1/(C − 1) for C
/// labels of as many rows each, −2 otherwise.
///
/// Source: Goldberger et al. 2004, "Neighbourhood Components Analysis", equation 6 with p_i of equation 2, negative and averaged.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{Nca, PairLoss};
/// let z = Tensor::new(&[[0f32], [0.0], [1.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 0, 1], &Device::Cpu)?;
/// let loss = Nca::default().forward(&z, &labels)?;
/// assert!((loss.mean()?.to_scalar::<f32>()? - (-1f32).exp().ln_1p()).abs() < 1e-6);
/// assert_eq!(loss.without_positives, 1);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Nca {
    /// κ; 1 in the paper, where the learned map sets the scale. Over normalised rows 5 to 10 is usual.
    pub scale: f64,
    /// What becomes of rows without a positive.
    pub undefined_rows: UndefinedRows,
}

impl Default for Nca {
    fn default() -> Self {
        Self {
            scale: 1.0,
            undefined_rows: UndefinedRows::Skip,
        }
    }
}

fn attracted(positives: usize, _negatives: usize) -> bool {
    positives > 0
}

impl PairLoss for Nca {
    fn measure(&self) -> Measure {
        Measure::SquaredEuclidean
    }

    fn check(&self) -> Result<()> {
        check_positive("scale", self.scale)
    }

    fn over(&self, matrix: &Tensor, pairs: &PairSet) -> Result<PerAnchor> {
        self.check()?;
        pairs.check_matrix(matrix)?;
        let device = matrix.device();
        let others = pairs.any_mask(device)?;
        let x = logits::centre(&matrix.affine(-self.scale, 0.0)?, &others)?; // [N, M]
        let all = logits::log_sum_exp(&x, &others)?; // [N, 1]
        let own = logits::log_sum_exp(&x, &pairs.positive_mask(device)?)?;
        let raw = (all - own)?.squeeze(1)?;
        per_anchor(&raw, pairs, attracted, self.undefined_rows, "no positive")
    }

    fn bounds(&self, pairs: &PairSet) -> Bounds {
        let contrast = pairs.simplex_cosine() - 1.0;
        let at = |gap: f64| {
            mean_over_rows(
                pairs,
                self.undefined_rows,
                attracted,
                |positives, negatives| {
                    (negatives / positives * (2.0 * self.scale * gap).exp()).ln_1p()
                },
            )
        };
        Bounds {
            collapse: at(0.0),
            floor: at(contrast),
        }
    }
}
