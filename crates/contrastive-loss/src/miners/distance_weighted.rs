//! Distance-weighted sampling, Wu et al. 2017, "Sampling Matters in Deep Embedding Learning" (arXiv 1706.07567).

use candle_core::Tensor;

use super::batch;
use crate::terms::check_range;
use crate::{Error, Measure, PairSet, Result, Triplets};

/// Options of [`mine_distance_weighted`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct DistanceWeighted {
    /// Negatives nearer than this are drawn as if they were this far: the weights of near ones are noisy.
    pub cutoff: f64,
    /// Negatives this far or farther are not drawn: they have no loss.
    pub nonzero_loss_cutoff: f64,
}

impl Default for DistanceWeighted {
    /// 0.5 and 1.4, as the paper's code.
    fn default() -> Self {
        Self {
            cutoff: 0.5,
            nonzero_loss_cutoff: 1.4,
        }
    }
}

/// Every positive pair with a negative drawn by distance: z `[N, D]`, **normalised**; labels `[N]` → triplets.
///
/// Anchor i's negative n has the probability w_in / Σ w_in, w = 1/q(d), q(d) = d^(D−2) (1 − d²/4)^((D−3)/2) the density of
/// distances on the sphere: near and far negatives come as often as those at the usual distance of √2. `uniform` gives numbers in
/// \[0, 1), one for each triplet in order: the same generator state gives the same triplets. Anchors without an eligible negative
/// are left out, and draw nothing.
///
/// # Errors
/// If `z` is not a non-empty `[N, D]` float tensor, the labels do not fit it, a cutoff is outside (0, 2], or `uniform` leaves \[0, 1).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{DistanceWeighted, mine_distance_weighted, normalize};
/// use rand_chacha::{ChaCha8Rng, rand_core::{RngCore, SeedableRng}};
/// let z = normalize(&Tensor::new(&[[1f32, 0.1, 0.0], [1.0, 0.0, 0.2], [0.5, 0.9, 0.1]], &Device::Cpu)?)?;
/// let labels = Tensor::new(&[0u32, 0, 1], &Device::Cpu)?;
/// let mut rng = ChaCha8Rng::seed_from_u64(7);
/// let mut uniform = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
/// let triplets = mine_distance_weighted(&z, &labels, &DistanceWeighted::default(), &mut uniform)?;
/// assert_eq!(triplets, [(0, 1, 2), (1, 0, 2)]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn mine_distance_weighted(
    z: &Tensor,
    labels: &Tensor,
    config: &DistanceWeighted,
    uniform: &mut dyn FnMut() -> f64,
) -> Result<Triplets> {
    config.check()?;
    let (distances, pairs) = batch(z, labels, Measure::Euclidean)?;
    distance_weighted_among(&distances, &pairs, z.dim(1)?, config, uniform)
}

/// [`mine_distance_weighted`] of distances `[N][M]` between rows of `dim` columns and the pairs that they belong to.
pub(super) fn distance_weighted_among(
    distances: &[Vec<f64>],
    pairs: &PairSet,
    dim: usize,
    config: &DistanceWeighted,
    uniform: &mut dyn FnMut() -> f64,
) -> Result<Triplets> {
    let weights = config.weights_among(distances, pairs, dim);
    let mut triplets = Triplets::new();
    for (a, weights) in weights.iter().enumerate() {
        if weights.iter().sum::<f64>() == 0.0 {
            continue;
        }
        for p in pairs.positives_of(a) {
            let draw = uniform();
            if !(0.0..1.0).contains(&draw) {
                return Err(Error::Setting {
                    option: "uniform",
                    expected: "a generator of numbers from 0 up to, not including, 1".to_owned(),
                    got: draw,
                });
            }
            triplets.extend(pick(weights, draw).map(|n| (a, p, n)));
        }
    }
    Ok(triplets)
}

impl DistanceWeighted {
    /// The probability of each negative: `[N][N]`, rows that sum to 1, or to 0 where no negative is eligible.
    ///
    /// # Errors
    /// As [`mine_distance_weighted`].
    pub fn weights(&self, z: &Tensor, labels: &Tensor) -> Result<Vec<Vec<f64>>> {
        self.check()?;
        let (distances, pairs) = batch(z, labels, Measure::Euclidean)?;
        Ok(self.weights_among(&distances, &pairs, z.dim(1)?))
    }

    /// Checks the options.
    ///
    /// # Errors
    /// If a cutoff is outside (0, 2].
    pub fn check(&self) -> Result<()> {
        check_range("cutoff", self.cutoff, f64::MIN_POSITIVE, 2.0)?;
        check_range(
            "nonzero_loss_cutoff",
            self.nonzero_loss_cutoff,
            f64::MIN_POSITIVE,
            2.0,
        )
    }

    fn weights_among(&self, distances: &[Vec<f64>], pairs: &PairSet, dim: usize) -> Vec<Vec<f64>> {
        let dim = dim as f64;
        let log_weight = |d: f64| {
            let d = d.max(self.cutoff);
            (2.0 - dim) * d.ln() - (dim - 3.0) / 2.0 * (1.0 - d * d / 4.0).ln()
        };
        distances
            .iter()
            .enumerate()
            .map(|(a, row)| {
                let eligible: Vec<(usize, f64)> = pairs
                    .negatives_of(a)
                    .filter(|&n| row[n].max(self.cutoff) < self.nonzero_loss_cutoff)
                    .map(|n| (n, log_weight(row[n])))
                    .filter(|(_, log)| log.is_finite())
                    .collect();
                let largest = eligible.iter().fold(f64::MIN, |m, &(_, log)| m.max(log));
                let mut weights = vec![0.0; row.len()];
                for &(n, log) in &eligible {
                    weights[n] = (log - largest).exp();
                }
                let total: f64 = weights.iter().sum();
                if total > 0.0 {
                    weights.iter_mut().for_each(|w| *w /= total);
                }
                weights
            })
            .collect()
    }
}

/// The entry where the running sum passes `draw`.
fn pick(weights: &[f64], draw: f64) -> Option<usize> {
    let mut sum = 0.0;
    let passed = weights.iter().position(|weight| {
        sum += weight;
        draw < sum
    });
    passed.or_else(|| weights.iter().rposition(|&weight| weight > 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_weights() {
        let weights = [0.0, 0.25, 0.0, 0.75, 0.0];
        let counts = (0..1000).fold([0; 5], |mut counts, i| {
            counts[pick(&weights, f64::from(i) / 1000.0).unwrap()] += 1;
            counts
        });
        assert_eq!(counts, [0, 250, 0, 750, 0]);
        assert_eq!(pick(&weights, 0.999_999_999_999_999_9), Some(3));
        assert_eq!(pick(&[0.0], 0.5), None);
    }
}
