//! Max-margin contrastive loss, Hadsell et al. 2006, "Dimensionality Reduction by Learning an Invariant Mapping".

use candle_core::Tensor;

use super::{Average, either, per_anchor};
use crate::similarity::row_sums;
use crate::terms::{check_range, count_nonzero, hinge, masked};
use crate::{Bounds, Measure, PairLoss, PairSet, PerAnchor, Result, UndefinedRows};

/// Attraction up to one margin, repulsion up to another, over Euclidean distances d.
///
/// L = mean_{(i,p)} \[d_ip − m₊\]₊ᵏ + mean_{(i,n)} \[m₋ − d_in\]₊ᵏ, with k = 2 if `squared` (the paper's without its factor ½;
/// TensorFlow Addons' `contrastive_loss` up to its common mean) and 1 otherwise (pytorch-metric-learning's `ContrastiveLoss`).
/// The two means are over the pairs that [`Average`] names.
///
/// Row i's value is its share: the values add up to the loss. A row without positives (or negatives) simply has no such
/// terms; one with neither is undefined. Collapse value over normalised rows: m₋ᵏ. Floor: 0 (\[m₋ − 2\]₊ᵏ).
///
/// Source: Hadsell et al. 2006, "Dimensionality Reduction by Learning an Invariant Mapping", its exact loss function; margins and means as in
/// pytorch-metric-learning (`losses/contrastive_loss.py`).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{MaxMargin, PairLoss};
/// let z = Tensor::new(&[[0f32, 0.0], [0.5, 0.0], [0.0, 0.75]], &Device::Cpu)?;
/// let labels = Tensor::new(&[7u32, 7, 8], &Device::Cpu)?;
/// let loss = MaxMargin::default().forward(&z, &labels)?.mean()?.to_scalar::<f32>()?;
/// let apart = 1.0 - (0.25f32 + 0.5625).sqrt();
/// assert!((loss - (0.5 + (0.25 + apart) / 2.0)).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct MaxMargin {
    /// m₊: positives nearer than this are not pulled.
    pub positive_margin: f64,
    /// m₋: negatives farther than this are not pushed.
    pub negative_margin: f64,
    /// Whether the hinges are squared.
    pub squared: bool,
    /// What the sums are divided by.
    pub average: Average,
    /// What becomes of rows without any pair.
    pub undefined_rows: UndefinedRows,
}

impl Default for MaxMargin {
    fn default() -> Self {
        Self {
            positive_margin: 0.0,
            negative_margin: 1.0,
            squared: false,
            average: Average::Active,
            undefined_rows: UndefinedRows::Skip,
        }
    }
}

impl PairLoss for MaxMargin {
    fn measure(&self) -> Measure {
        Measure::Euclidean
    }

    fn check(&self) -> Result<()> {
        check_range("positive_margin", self.positive_margin, 0.0, f64::MAX)?;
        check_range("negative_margin", self.negative_margin, 0.0, f64::MAX)
    }

    fn over(&self, matrix: &Tensor, pairs: &PairSet) -> Result<PerAnchor> {
        self.check()?;
        pairs.check_matrix(matrix)?;
        let device = matrix.device();
        let share = |excess: Tensor, mask: &Tensor, all: usize| -> Result<Tensor> {
            let terms = masked(&hinge(&excess)?, mask)?; // [N, M]
            let terms = if self.squared { terms.sqr()? } else { terms };
            let count = match self.average {
                Average::All => all,
                Average::Active => count_nonzero(&terms)?,
            };
            Ok(row_sums(&terms)?.affine(1.0 / count.max(1) as f64, 0.0)?) // [N]
        };
        let pull = share(
            matrix.affine(1.0, -self.positive_margin)?,
            &pairs.positive_mask(device)?,
            pairs.positives().len(),
        )?;
        let push = share(
            matrix.affine(-1.0, self.negative_margin)?,
            &pairs.negative_mask(device)?,
            pairs.negatives().len(),
        )?;
        let mut loss = per_anchor(
            &(pull + push)?,
            pairs,
            either,
            self.undefined_rows,
            "neither positive nor negative",
        )?;
        loss.divisor = 1;
        Ok(loss)
    }

    fn bounds(&self, pairs: &PairSet) -> Bounds {
        let power = if self.squared { 2 } else { 1 };
        let repels = !pairs.negatives().is_empty();
        let at = |distance: f64| {
            if repels {
                (self.negative_margin - distance).max(0.0).powi(power)
            } else {
                0.0
            }
        };
        Bounds {
            collapse: at(0.0),
            floor: at(2.0),
        }
    }
}
