//! Lifted structure, Song et al. 2016 (arXiv 1511.06452), in its smooth form, and its generalisation, Hermans et al. 2017
//! (arXiv 1703.07737).

use candle_core::Tensor;

use super::{both, mean_over_rows, per_anchor};
use crate::similarity::row_sums;
use crate::terms::{check_range, hinge, masked};
use crate::{Bounds, Error, Measure, PairLoss, PairSet, PerAnchor, Result, UndefinedRows, logits};

/// Lifted structure: every positive pair against all negatives of both its ends.
///
/// J_ip = ln( Σ_{n ∈ N(i)} exp(m − d_in) + Σ_{n ∈ N(p)} exp(m − d_pn) ) + d_ip,  L = Σ_{(i,p)} \[J_ip\]₊² / (2 |P|), where P
/// holds each pair in both directions and d are Euclidean distances.
///
/// Row i's value is the sum over its positives; the mean divides by |P|. Rows without a positive or without a negative are
/// undefined. Anchors and references must be the same rows. Collapse value: \[ln(2|N|) + m\]₊²/2. Floor over normalised
/// rows: \[ln(2|N|) + m − 2\]₊²/2.
///
/// Source: Song et al. 2016 (arXiv 1511.06452), as TensorFlow Addons computes it after its authors' Caffe layer (`losses/lifted.py`,
/// `lifted_struct_loss`).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{LiftedStructure, PairLoss};
/// let z = Tensor::new(&[[0f32], [0.0], [1.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 0, 1], &Device::Cpu)?;
/// // Both ends of the pair have one negative at distance 1 = m: J = ln 2.
/// let loss = LiftedStructure::default().forward(&z, &labels)?.mean()?.to_scalar::<f32>()?;
/// assert!((loss - 2f32.ln().powi(2) / 2.0).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct LiftedStructure {
    /// m; 1 in the paper.
    pub margin: f64,
    /// What becomes of rows without a positive or a negative; they have no pair that could count as 0.
    pub undefined_rows: UndefinedRows,
}

impl Default for LiftedStructure {
    fn default() -> Self {
        Self {
            margin: 1.0,
            undefined_rows: UndefinedRows::Skip,
        }
    }
}

impl PairLoss for LiftedStructure {
    fn measure(&self) -> Measure {
        Measure::Euclidean
    }

    fn check(&self) -> Result<()> {
        check_range("margin", self.margin, 0.0, f64::MAX)
    }

    fn over(&self, matrix: &Tensor, pairs: &PairSet) -> Result<PerAnchor> {
        self.check()?;
        pairs.check_matrix(matrix)?;
        if pairs.rows() != pairs.columns() {
            return Err(Error::Shape {
                what: "the matrix of the lifted structure loss, which needs both ends' negatives,",
                expected: "[N, N]",
                got: matrix.dims().to_vec(),
            });
        }
        let device = matrix.device();
        let negatives = pairs.negative_mask(device)?;
        let repulsion = logits::log_sum_exp(&matrix.affine(-1.0, self.margin)?, &negatives)?; // [N, 1]
        let (mine, theirs) = (
            repulsion.broadcast_as(matrix.shape())?.contiguous()?,
            repulsion.t()?.broadcast_as(matrix.shape())?.contiguous()?,
        );
        let j = hinge(&(logits::log_add_exp(&mine, &theirs)? + matrix)?)?; // [N, N]
        // Pairs whose anchor has no negative are left out with their row; a partner without one adds nothing to the sum.
        let counts = pairs.counts();
        let (rows, mut kept, mut terms) = (pairs.rows(), vec![0u8; pairs.rows().pow(2)], 0);
        for (i, p) in pairs.positives() {
            if counts[i].1 > 0 && counts[p].1 > 0 {
                kept[i * rows + p] = 1;
                terms += 1;
            }
        }
        let kept = Tensor::from_vec(kept, (rows, rows), device)?;
        let raw = row_sums(&masked(&j, &kept)?.sqr()?)?.affine(0.5, 0.0)?;
        let missing = "no positive or no negative";
        let mut loss = per_anchor(&raw, pairs, both, self.undefined_rows, missing)?;
        loss.divisor = terms;
        Ok(loss)
    }

    fn bounds(&self, pairs: &PairSet) -> Bounds {
        let counts = pairs.counts();
        let terms: Vec<f64> = pairs
            .positives()
            .iter()
            .map(|&(i, p)| (counts[i].1, counts[p].1))
            .filter(|&(mine, theirs)| mine > 0 && theirs > 0)
            .map(|(mine, theirs)| ((mine + theirs) as f64).ln() + self.margin)
            .collect();
        let at = |distance: f64| {
            let half_squares = terms.iter().map(|j| (j - distance).max(0.0).powi(2) / 2.0);
            half_squares.sum::<f64>() / terms.len().max(1) as f64
        };
        Bounds {
            collapse: at(0.0),
            floor: at(2.0),
        }
    }
}

/// Generalised lifted structure: all positives and all negatives of an anchor at once.
///
/// L_i = \[ ln Σ_{p ∈ P(i)} exp(d_ip) + ln Σ_{n ∈ N(i)} exp(m − d_in) \]₊, d Euclidean distances.
///
/// Rows without a positive or without a negative are undefined (pytorch-metric-learning puts 0 for the sum that is missing). Collapse value:
/// \[ln|P| + ln|N| + m\]₊. Floor over normalised rows: \[ln|P| + ln|N| + m − 2\]₊.
///
/// Source: Hermans et al. 2017 (arXiv 1703.07737), as pytorch-metric-learning computes it (`GeneralizedLiftedStructureLoss`).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{GeneralizedLifted, PairLoss};
/// let z = Tensor::new(&[[0f32], [0.5], [1.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 0, 1], &Device::Cpu)?;
/// // Row 0: 0.5 + (1 − 1); row 1: 0.5 + (1 − 0.5); row 2 has no positive.
/// let loss = GeneralizedLifted::default().forward(&z, &labels)?;
/// assert_eq!(loss.values.to_vec1::<f32>()?, [0.5, 1.0, 0.0]);
/// assert_eq!(loss.divisor, 2);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct GeneralizedLifted {
    /// m.
    pub margin: f64,
    /// What becomes of rows without a positive or a negative.
    pub undefined_rows: UndefinedRows,
}

impl Default for GeneralizedLifted {
    fn default() -> Self {
        Self {
            margin: 1.0,
            undefined_rows: UndefinedRows::Skip,
        }
    }
}

impl PairLoss for GeneralizedLifted {
    fn measure(&self) -> Measure {
        Measure::Euclidean
    }

    fn check(&self) -> Result<()> {
        check_range("margin", self.margin, 0.0, f64::MAX)
    }

    fn over(&self, matrix: &Tensor, pairs: &PairSet) -> Result<PerAnchor> {
        self.check()?;
        pairs.check_matrix(matrix)?;
        let device = matrix.device();
        let attraction = logits::log_sum_exp(matrix, &pairs.positive_mask(device)?)?;
        let repulsion = matrix.affine(-1.0, self.margin)?;
        let repulsion = logits::log_sum_exp(&repulsion, &pairs.negative_mask(device)?)?;
        let raw = hinge(&(attraction + repulsion)?)?.squeeze(1)?; // [N]
        per_anchor(
            &raw,
            pairs,
            both,
            self.undefined_rows,
            "no positive or no negative",
        )
    }

    fn bounds(&self, pairs: &PairSet) -> Bounds {
        let at = |distance: f64| {
            mean_over_rows(pairs, self.undefined_rows, both, |positives, negatives| {
                (positives.ln() + negatives.ln() + self.margin - distance).max(0.0)
            })
        };
        Bounds {
            collapse: at(0.0),
            floor: at(2.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn references_of_their_own_are_refused() {
        let matrix = Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let pairs = PairSet::from_pairs(2, 3, &[(0, 1)], &[(0, 2)]).unwrap();
        let error = LiftedStructure::default()
            .over(&matrix, &pairs)
            .unwrap_err();
        assert!(error.to_string().contains("[2, 3]"), "{error}");
    }
}
