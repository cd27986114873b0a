//! Triplets by how far they miss a margin: hard and semi-hard, Schroff et al. 2015 (FaceNet, arXiv 1503.03832),
//! equation 4.

use candle_core::Tensor;

use super::batch;
use crate::terms::check_range;
use crate::{Measure, PairSet, Result, Triplets};

/// Which triplets are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum TripletKind {
    /// All that miss the margin: d_an − d_ap ≤ m.
    #[default]
    All,
    /// The negative is no farther than the positive: d_an − d_ap ≤ 0.
    Hard,
    /// The negative is farther, but within the margin: 0 < d_an − d_ap ≤ m.
    SemiHard,
}

/// The triplets of a batch that miss the margin: z `[N, D]` as it is, labels `[N]` → triplets, ordered by anchor.
///
/// # Errors
/// If `z` is not a non-empty `[N, D]` float tensor, the labels do not fit it, or the margin is negative or not finite.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{TripletKind, mine_triplets};
/// let z = Tensor::new(&[[0f32], [1.0], [1.5], [4.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 0, 1, 1], &Device::Cpu)?;
/// let semi_hard = mine_triplets(&z, &labels, 0.75, TripletKind::SemiHard)?;
/// assert_eq!(semi_hard, [(0, 1, 2), (3, 2, 1)]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn mine_triplets(
    z: &Tensor,
    labels: &Tensor,
    margin: f64,
    kind: TripletKind,
) -> Result<Triplets> {
    check_range("margin", margin, 0.0, f64::MAX)?;
    let (distances, pairs) = batch(z, labels, Measure::Euclidean)?;
    Ok(triplets_among(&distances, &pairs, margin, kind))
}

/// [`mine_triplets`] of distances `[N][M]` and the pairs that they belong to.
pub(super) fn triplets_among(
    distances: &[Vec<f64>],
    pairs: &PairSet,
    margin: f64,
    kind: TripletKind,
) -> Triplets {
    let mut triplets = Triplets::new();
    for (a, row) in distances.iter().enumerate() {
        for p in pairs.positives_of(a) {
            triplets.extend(
                pairs
                    .negatives_of(a)
                    .filter(|&n| {
                        let lead = row[n] - row[p];
                        match kind {
                            TripletKind::All => lead <= margin,
                            TripletKind::Hard => lead <= margin && lead <= 0.0,
                            TripletKind::SemiHard => lead <= margin && lead > 0.0,
                        }
                    })
                    .map(|n| (a, p, n)),
            );
        }
    }
    triplets
}
