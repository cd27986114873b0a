//! Losses over pairs: a measure, a set of pairs, a formula, a reduction.
//!
//! `matrix = measure(z, references)`, `values = formula(matrix, pairs)`, and the mean comes last: labels, a miner or a
//! memory only change the set of pairs.

mod circle;
mod lifted;
mod max_margin;
mod multi_similarity;
mod nca;
mod triplet;

use candle_core::Tensor;

pub use circle::Circle;
pub use lifted::{GeneralizedLifted, LiftedStructure};
pub use max_margin::MaxMargin;
pub use multi_similarity::MultiSimilarity;
pub use nca::Nca;
pub use triplet::{Mining, Triplet, Triplets};

use crate::similarity::embeddings;
use crate::{Measure, PairSet, PerAnchor, Result, UndefinedRows, labels};

/// What a sum over pairs or triplets is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Average {
    /// The terms above 0 (pytorch-metric-learning's `AvgNonZeroReducer`): those that are satisfied do not dilute the others.
    #[default]
    Active,
    /// All terms, as the papers print it.
    All,
}

/// Both ends of a monitor's scale, over normalised embeddings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The mean loss when all embeddings (and proxies) coincide.
    pub collapse: f64,
    /// A number that the mean loss cannot go below.
    pub floor: f64,
}

/// A loss over pairs of rows.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{MultiSimilarity, PairLoss, mine_multi_similarity, normalize};
/// let z = normalize(&Tensor::new(&[[1f32, 0.1], [1.0, -0.4], [-1.0, 0.2], [-0.3, 1.0]], &Device::Cpu)?)?;
/// let labels = Tensor::new(&[0u32, 0, 1, 1], &Device::Cpu)?;
/// let loss = MultiSimilarity::default();
/// let all = loss.forward(&z, &labels)?;
/// let mined = mine_multi_similarity(&z, &labels, 0.1)?;
/// let hard = loss.forward_mined(&z, &mined)?;
/// assert!(hard.sum()?.to_scalar::<f32>()? <= all.sum()?.to_scalar::<f32>()?);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub trait PairLoss {
    /// What the formula is a function of.
    fn measure(&self) -> Measure;

    /// Checks the options.
    ///
    /// # Errors
    /// If an option is out of its range.
    fn check(&self) -> Result<()>;

    /// The formula: matrix `[N, M]` of [`measure`](Self::measure), pairs of N anchors and M references → one value per
    /// anchor.
    ///
    /// # Errors
    /// If the matrix does not fit the pairs, or an option is out of its range.
    fn over(&self, matrix: &Tensor, pairs: &PairSet) -> Result<PerAnchor>;

    /// Collapse value and floor for these pairs, over normalised rows.
    fn bounds(&self, pairs: &PairSet) -> Bounds;

    /// The loss over all pairs of a batch: z `[N, D]` as it is ([`normalize`](crate::normalize) first for cosines), labels
    /// `[N]` (an integer type) → one value per row.
    ///
    /// # Errors
    /// If `z` is not a non-empty `[N, D]` float tensor, the labels do not fit it, or an option is out of its range.
    fn forward(&self, z: &Tensor, labels: &Tensor) -> Result<PerAnchor> {
        let z = embeddings(z, "embeddings")?;
        let labels = labels::read(labels, z.dim(0)?)?;
        self.forward_mined(&z, &PairSet::of(&labels, &labels, Some))
    }

    /// The loss over the pairs that a miner chose within a batch: z `[N, D]`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    fn forward_mined(&self, z: &Tensor, pairs: &PairSet) -> Result<PerAnchor> {
        self.forward_against(z, z, pairs)
    }

    /// The loss of anchors `[N, D]` against references `[M, D]`, such as a memory's.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    fn forward_against(
        &self,
        z: &Tensor,
        references: &Tensor,
        pairs: &PairSet,
    ) -> Result<PerAnchor> {
        self.over(&self.measure().matrix(z, references)?, pairs)
    }
}

/// Values, with the rows that `defined` names; the policy for the others.
fn per_anchor(
    raw: &Tensor,
    pairs: &PairSet,
    defined: impl Fn(usize, usize) -> bool,
    policy: UndefinedRows,
    missing: &'static str,
) -> Result<PerAnchor> {
    let defined = pairs
        .counts()
        .into_iter()
        .map(|(positives, negatives)| defined(positives, negatives))
        .collect();
    PerAnchor::new(raw, defined, pairs.lonely(), policy, missing)
}

/// The mean of a function of (|P|, |N|) over the rows that `defined` names (over all rows, if undefined ones count as 0); 0 if there is none.
fn mean_over_rows(
    pairs: &PairSet,
    policy: UndefinedRows,
    defined: impl Fn(usize, usize) -> bool,
    value: impl Fn(f64, f64) -> f64,
) -> f64 {
    let counts = pairs.counts();
    let kept: Vec<f64> = counts
        .iter()
        .filter(|&&(positives, negatives)| defined(positives, negatives))
        .map(|&(positives, negatives)| value(positives as f64, negatives as f64))
        .collect();
    let divisor = if policy == UndefinedRows::CountAsZero {
        counts.len()
    } else {
        kept.len()
    };
    kept.iter().sum::<f64>() / divisor.max(1) as f64
}

fn both(positives: usize, negatives: usize) -> bool {
    positives > 0 && negatives > 0
}

fn either(positives: usize, negatives: usize) -> bool {
    positives > 0 || negatives > 0
}
