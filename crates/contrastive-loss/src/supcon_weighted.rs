//! SupCon for unbalanced classes: rows weighted by how rare their class is, and a cap on how many positives a row has.

use candle_core::Tensor;

use crate::pair_set::PairSet;
use crate::similarity::{check_temperature, embeddings};
use crate::supcon::{Masks, supcon_masked};
use crate::terms::check_range;
use crate::{Bounds, PerAnchor, Result, Scale, Summation, SupConConfig, UndefinedRows, labels};

/// How a row is weighted by n, how many rows of the batch carry its label.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Balance {
    /// 1: every row the same.
    None,
    /// 1/n: every class the same.
    #[default]
    Inverse,
    /// (1 − β)/(1 − βⁿ), the effective number of samples (Cui et al. 2019, arXiv 1901.05555): between the two, β = 0
    /// being `None` and β → 1 `Inverse`.
    EffectiveNumber(f64),
}

impl Balance {
    /// The weight of every row.
    ///
    /// ```
    /// use contrastive_loss::Balance;
    /// assert_eq!(Balance::Inverse.weights(&[3, 3, 8]), [0.5, 0.5, 1.0]);
    /// assert_eq!(Balance::EffectiveNumber(0.5).weights(&[3, 3, 8]), [1.0 / 1.5, 1.0 / 1.5, 1.0]);
    /// ```
    pub fn weights(self, labels: &[i64]) -> Vec<f64> {
        let mut sizes = std::collections::HashMap::new();
        for label in labels {
            *sizes.entry(label).or_insert(0i32) += 1;
        }
        let weight = |size: i32| match self {
            Self::None => 1.0,
            Self::Inverse => 1.0 / f64::from(size),
            Self::EffectiveNumber(beta) => (1.0 - beta) / (1.0 - beta.powi(size)),
        };
        labels.iter().map(|label| weight(sizes[label])).collect()
    }
}

/// Options of [`supcon_weighted`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct SupConWeighted {
    /// τ.
    pub temperature: f64,
    /// L_out or L_in.
    pub summation: Summation,
    /// A factor on every value.
    pub scale: Scale,
    /// What becomes of rows without a positive.
    pub undefined_rows: UndefinedRows,
    /// How rows are weighted.
    pub balance: Balance,
    /// At most so many other *samples* attract a row, beside its own other views; the first ones of the batch do.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub positives_cap: Option<usize>,
}

impl Default for SupConWeighted {
    fn default() -> Self {
        Self {
            temperature: 0.1,
            summation: Summation::Out,
            scale: Scale::One,
            undefined_rows: UndefinedRows::Skip,
            balance: Balance::Inverse,
            positives_cap: None,
        }
    }
}

/// Class-weighted SupCon: z `[V·B, D]`, view-major and as it is ([`normalize`](crate::normalize) first for cosines), labels `[B]` (an
/// integer type), one for each sample → one value per row.
///
/// L = Σ_i w_i L_i / Σ_i w_i over the rows that count, L_i [`supcon`](crate::supcon())'s with all other rows in the denominator, w_i as
/// [`Balance`] says; the values are so scaled that their mean is L.
///
/// With a cap, positives beyond it are neither attracted nor in the denominator (google-research's `positives_cap`, in samples instead of
/// rows). Rows without a positive are undefined.
///
/// Over normalised rows: collapse value ln(|P(i)| + m_i) and floor ln(|P(i)| + m_i e^{c/τ}), weighted likewise; P(i) the positives that are
/// left, m_i the negatives, c = −1 − 1/(C − 1) for C labels of as many rows each and no cap, −2 otherwise.
///
/// # Errors
/// If `z` is not a non-empty float tensor of V times as many rows as labels, or an option is out of its range.
///
/// Source: Khosla et al. 2020 (arXiv 2004.11362), equations 2 and 3; the cap is that of google-research's code (`supcon/losses.py`,
/// `_cap_positives_mask`), the weights those of Cui et al. 2019 (arXiv 1901.05555).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{SupConWeighted, normalize, supcon_weighted};
/// let z = normalize(&Tensor::new(&[[1f32, 0.1], [0.9, 0.3], [0.8, -0.1], [0.1, 1.0], [-0.2, 1.0]], &Device::Cpu)?)?;
/// let labels = Tensor::new(&[0u32, 0, 0, 1, 1], &Device::Cpu)?;
/// let loss = supcon_weighted(&z, &labels, 1, &SupConWeighted::default())?;
/// let values = loss.values.to_vec1::<f32>()?;
/// // Both classes weigh the same, whatever their sizes.
/// let by_class = (values[..3].iter().sum::<f32>(), values[3..].iter().sum::<f32>());
/// assert!((loss.mean()?.to_scalar::<f32>()? - (by_class.0 + by_class.1) / 5.0).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn supcon_weighted(
    z: &Tensor,
    labels: &Tensor,
    views: usize,
    config: &SupConWeighted,
) -> Result<PerAnchor> {
    config.check()?;
    let z = embeddings(z, "embeddings")?;
    let rows = z.dim(0)?;
    let labels = labels::read(labels, labels::samples(rows, views)?)?;
    let labels: Vec<i64> = (0..views).flat_map(|_| labels.iter().copied()).collect();
    let pairs = config.pairs(&labels, views)?;
    let device = z.device();
    let masks = Masks {
        others: pairs.any_mask(device)?,
        positives: pairs.positive_mask(device)?,
        negatives: pairs.negative_mask(device)?,
        counts: pairs.counts(),
        lonely: pairs.lonely(),
    };
    supcon_masked(&z, &masks, &config.as_supcon())?.weighted(&config.balance.weights(&labels))
}

impl SupConWeighted {
    /// Checks the options.
    ///
    /// # Errors
    /// If τ, the base of the scale or β is out of its range.
    pub fn check(&self) -> Result<()> {
        check_temperature(self.temperature)?;
        self.as_supcon().check()?;
        match self.balance {
            Balance::EffectiveNumber(beta) => {
                check_range("effective_number", beta, 0.0, 1.0 - 1e-12)
            }
            Balance::None | Balance::Inverse => Ok(()),
        }
    }

    /// Collapse value and floor of a batch.
    pub(crate) fn bounds(&self, labels: &[i64], views: usize) -> Bounds {
        let (mut collapse, mut floor, mut total) = (0.0, 0.0, 0.0);
        if let Ok(pairs) = self.pairs(labels, views) {
            let contrast = (pairs.simplex_cosine() - 1.0) / self.temperature;
            let all = self.undefined_rows == UndefinedRows::CountAsZero;
            for ((positives, negatives), weight) in
                pairs.counts().into_iter().zip(self.balance.weights(labels))
            {
                if positives > 0 {
                    collapse += weight * ((positives + negatives) as f64).ln();
                    floor += weight * (positives as f64 + negatives as f64 * contrast.exp()).ln();
                }
                if positives > 0 || all {
                    total += weight;
                }
            }
        }
        let factor = self.scale.factor(self.temperature) / if total > 0.0 { total } else { 1.0 };
        Bounds {
            collapse: collapse * factor,
            floor: floor * factor,
        }
    }

    /// The pairs of rows with `labels`, positives capped.
    fn pairs(&self, labels: &[i64], views: usize) -> Result<PairSet> {
        let all = PairSet::of(labels, labels, Some);
        let Some(cap) = self.positives_cap else {
            return Ok(all);
        };
        let samples = labels.len() / views.max(1);
        let mut kept = Vec::new();
        for row in 0..all.rows() {
            let own = row % samples.max(1);
            let mut chosen: Vec<usize> = (0..samples)
                .filter(|&sample| sample != own && labels[sample] == labels[row])
                .collect();
            chosen.truncate(cap);
            let keeps = |&column: &usize| {
                let sample = column % samples.max(1);
                sample == own || chosen.contains(&sample)
            };
            kept.extend(
                all.positives_of(row)
                    .filter(keeps)
                    .map(|column| (row, column)),
            );
        }
        PairSet::from_pairs(all.rows(), all.columns(), &kept, &all.negatives())
    }

    fn as_supcon(&self) -> SupConConfig {
        SupConConfig {
            temperature: self.temperature,
            summation: self.summation,
            scale: self.scale,
            undefined_rows: self.undefined_rows,
            ..SupConConfig::default()
        }
    }
}
