//! The miner of the multi-similarity loss, Wang et al. 2019 (arXiv 1904.06627).

use candle_core::Tensor;

use super::batch;
use crate::terms::check_range;
use crate::{Measure, PairSet, Result};

/// Pairs that are within ε of the hardest of the other kind: z `[N, D]`, normalised; labels `[N]` → pairs.
///
/// A positive is kept if s_ip − ε < max_n s_in, a negative if s_in + ε > min_p s_ip. Anchors without a negative keep no
/// positive, and the reverse.
///
/// # Errors
/// If `z` is not a non-empty `[N, D]` float tensor, the labels do not fit it, or ε is not a finite number of at least 0.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let z = Tensor::new(&[[1f32, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 0, 1, 1], &Device::Cpu)?;
/// let pairs = contrastive_loss::mine_multi_similarity(&z, &labels, 0.1)?;
/// assert_eq!(pairs.negatives(), [(2, 0), (2, 1)]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn mine_multi_similarity(z: &Tensor, labels: &Tensor, epsilon: f64) -> Result<PairSet> {
    check_range("epsilon", epsilon, 0.0, f64::MAX)?;
    let (s, pairs) = batch(z, labels, Measure::Dot)?;
    multi_similarity_among(&s, &pairs, epsilon)
}

/// [`mine_multi_similarity`] of similarities `[N][M]` and the pairs that they belong to.
pub(super) fn multi_similarity_among(
    s: &[Vec<f64>],
    pairs: &PairSet,
    epsilon: f64,
) -> Result<PairSet> {
    let (mut positives, mut negatives) = (Vec::new(), Vec::new());
    for (i, row) in s.iter().enumerate() {
        let hardest_negative = pairs
            .negatives_of(i)
            .map(|n| row[n])
            .fold(f64::NEG_INFINITY, f64::max);
        let hardest_positive = pairs
            .positives_of(i)
            .map(|p| row[p])
            .fold(f64::INFINITY, f64::min);
        let near = |&p: &usize| row[p] - epsilon < hardest_negative;
        positives.extend(pairs.positives_of(i).filter(near).map(|p| (i, p)));
        let near = |&n: &usize| row[n] + epsilon > hardest_positive;
        negatives.extend(pairs.negatives_of(i).filter(near).map(|n| (i, n)));
    }
    PairSet::from_pairs(pairs.rows(), pairs.columns(), &positives, &negatives)
}
