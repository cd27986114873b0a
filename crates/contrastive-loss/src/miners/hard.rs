//! Batch-hard mining, Hermans et al. 2017 (arXiv 1703.07737), "batch hard".

use candle_core::Tensor;

use super::batch;
use crate::{Measure, PairSet, Result, Triplets};

/// Each anchor with its farthest positive and its nearest negative: z `[N, D]` as it is, labels `[N]` → triplets. Of equally
/// far ones the first is taken. Anchors without a positive or a negative are left out.
///
/// # Errors
/// If `z` is not a non-empty `[N, D]` float tensor, or the labels do not fit it.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let z = Tensor::new(&[[0f32], [1.0], [3.0], [2.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 0, 0, 1], &Device::Cpu)?;
/// let triplets = contrastive_loss::mine_hard(&z, &labels)?;
/// assert_eq!(triplets, [(0, 2, 3), (1, 2, 3), (2, 0, 3)]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn mine_hard(z: &Tensor, labels: &Tensor) -> Result<Triplets> {
    let (distances, pairs) = batch(z, labels, Measure::Euclidean)?;
    Ok(hard_among(&distances, &pairs))
}

/// [`mine_hard`] of distances `[N][M]` and the pairs that they belong to.
pub(super) fn hard_among(distances: &[Vec<f64>], pairs: &PairSet) -> Triplets {
    let mut triplets = Triplets::new();
    for (a, row) in distances.iter().enumerate() {
        let positives: Vec<usize> = pairs.positives_of(a).collect();
        let negatives: Vec<usize> = pairs.negatives_of(a).collect();
        triplets.extend(hardest(a, row, &positives, &negatives));
    }
    triplets
}

/// The farthest positive and the nearest negative of one anchor.
pub(crate) fn hardest(
    anchor: usize,
    row: &[f64],
    positives: &[usize],
    negatives: &[usize],
) -> Option<(usize, usize, usize)> {
    let nearest = |numbers: &[usize], sign: f64| {
        let by = |x: &usize, y: &usize| (sign * row[*x]).total_cmp(&(sign * row[*y]));
        numbers.iter().copied().min_by(by) // the first of equals
    };
    Some((anchor, nearest(positives, -1.0)?, nearest(negatives, 1.0)?))
}
