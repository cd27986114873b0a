//! A loss value for every anchor, before any reduction.

use candle_core::Tensor;

use crate::{Error, Result};

/// What becomes of rows whose loss is undefined: SupCon rows without a positive, rows without a negative where the
/// denominator consists of negatives only, multi-label rows without any label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum UndefinedRows {
    /// They take no part: the mean is over the remaining rows. If none remains, the mean is 0.
    #[default]
    Skip,
    /// They count as rows of loss 0: the mean is over all rows (as the original SupCon code in TensorFlow does).
    CountAsZero,
    /// They are an error.
    Error,
}

/// The loss of every row, with how many rows a policy touched; the reduction comes last.
///
/// A few losses are no sums over rows: Barlow Twins and VICReg have a value for every dimension, proxy-anchor for every proxy. "Row"
/// means these there.
#[derive(Clone, Debug)]
pub struct PerAnchor {
    /// `[N]`, one value per row; 0 in undefined rows, through which no gradient flows.
    pub values: Tensor,
    /// Whether the row's loss is defined.
    pub defined: Vec<bool>,
    /// How many rows have no positive (for npairs: no other row of their label). They are undefined for SupCon and NT-Xent;
    /// npairs is defined there (its target is the row itself), so that it counts and keeps them.
    pub without_positives: usize,
    /// How many rows have no negative in the batch.
    pub without_negatives: usize,
    /// The number that [`mean`](Self::mean) divides by: the defined rows, or all rows under [`UndefinedRows::CountAsZero`];
    /// for losses over triplets or pairs, how many of those there are; 1 where the values are shares of the loss.
    pub divisor: usize,
}

impl PerAnchor {
    /// Applies the policy: zero in undefined rows, without gradient.
    pub(crate) fn new(
        raw: &Tensor,
        defined: Vec<bool>,
        (without_positives, without_negatives): (usize, usize),
        policy: UndefinedRows,
        missing: &'static str,
    ) -> Result<Self> {
        let rows = defined.len();
        let kept = defined.iter().filter(|&&row| row).count();
        if let (UndefinedRows::Error, Some(first)) = (policy, defined.iter().position(|&row| !row))
        {
            return Err(Error::Undefined {
                rows: rows - kept,
                of: rows,
                first,
                missing,
            });
        }
        let values = if kept == rows {
            raw.clone()
        } else {
            let mask: Vec<u8> = defined.iter().map(|&row| row.into()).collect();
            Tensor::from_vec(mask, rows, raw.device())?.where_cond(raw, &raw.zeros_like()?)?
        };
        let divisor = if policy == UndefinedRows::CountAsZero {
            rows
        } else {
            kept
        };
        Ok(Self {
            values,
            defined,
            without_positives,
            without_negatives,
            divisor,
        })
    }

    /// The mean over the rows that count, a scalar: what to call `backward` on. 0 if no row counts.
    ///
    /// # Errors
    /// Only Candle's own.
    pub fn mean(&self) -> Result<Tensor> {
        Ok(self
            .values
            .sum_all()?
            .affine(1.0 / self.divisor.max(1) as f64, 0.0)?)
    }

    /// The sum over all rows, a scalar.
    ///
    /// # Errors
    /// Only Candle's own.
    pub fn sum(&self) -> Result<Tensor> {
        Ok(self.values.sum_all()?)
    }

    /// The rows weighted: value i times w_i, so scaled that equal weights change nothing. Where [`mean`](Self::mean) is over rows, it
    /// becomes Σ w_i L_i / Σ w_i over those that count.
    ///
    /// # Errors
    /// If there is not one finite weight of at least 0 for each row, or all weights that count are 0.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use contrastive_loss::{SupConConfig, supcon};
    /// let z = Tensor::new(&[[1f64, 0.0], [0.6, 0.8], [0.0, 1.0], [0.0, 1.0]], &Device::Cpu)?;
    /// let labels = Tensor::new(&[0u32, 0, 1, 1], &Device::Cpu)?;
    /// let loss = supcon(&z, &labels, &SupConConfig::default())?;
    /// let first = loss.values.to_vec1::<f64>()?[0];
    /// let only_the_first = loss.weighted(&[2.0, 0.0, 0.0, 0.0])?.mean()?.to_scalar::<f64>()?;
    /// assert!((only_the_first - first).abs() < 1e-12);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn weighted(&self, weights: &[f64]) -> Result<Self> {
        let rows = self.defined.len();
        if weights.len() != rows {
            return Err(Error::Mismatch {
                left: "the loss",
                left_shape: vec![rows],
                right: "the weights",
                right_shape: vec![weights.len()],
                need: "there must be one weight for each row",
            });
        }
        if let Some(&got) = weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
            return Err(Error::Setting {
                option: "weights",
                expected: "finite numbers of at least 0".to_owned(),
                got,
            });
        }
        let counts = |row: usize| self.defined[row] || self.divisor == rows;
        let counted: Vec<f64> = (0..rows)
            .filter(|&row| counts(row))
            .map(|row| weights[row])
            .collect();
        let total: f64 = counted.iter().sum();
        if total == 0.0 && self.divisor > 0 {
            return Err(Error::Setting {
                option: "weights",
                expected: "above 0 for at least one row that counts".to_owned(),
                got: 0.0,
            });
        }
        let factor = counted.len() as f64 / if total > 0.0 { total } else { 1.0 };
        let weights = weights.iter().map(|w| w * factor).collect();
        let mut weighted = self.clone();
        weighted.values = (&self.values * crate::logits::constant(weights, rows, &self.values)?)?;
        Ok(weighted)
    }

    /// How many rows have no defined loss.
    pub fn undefined(&self) -> usize {
        self.defined.iter().filter(|&&row| !row).count()
    }
}
