//! The nearest training features of a query, and whether there are any near enough.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::features::Features;
use crate::products::{largest, map_rows};

/// One of a query's nearest features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its row in the bank.
    pub index: usize,
    /// Its class.
    pub label: u32,
    /// Cosine with the query, −1 to 1.
    pub similarity: f64,
}

/// The `k` features of `bank` of highest cosine with each query, nearest first; of equals, the lower row first.
///
/// # Errors
/// If features are empty or not finite, or their widths differ.
pub fn nearest(bank: &Features, queries: &Features, k: usize) -> Result<Vec<Vec<Neighbour>>> {
    fitting(bank, queries)?;
    let bank = bank.unit();
    map_rows(&queries.unit(), &bank, |_, cosines| {
        let found = largest(cosines, k, None).into_iter();
        found
            .map(|row| Neighbour {
                index: row as usize,
                label: bank.labels[row as usize],
                similarity: f64::from(cosines[row as usize]),
            })
            .collect()
    })
}

/// Whether an image is like the training data, by the distance to its k-th nearest training feature, after Sun et al. 2022, *Out-of-
/// Distribution Detection with Deep Nearest Neighbors* (arXiv 2204.06507), section 3: features are scaled to unit length, and an image
/// is unlike the data where
///
/// `d_k(x) = ‖z(x) − z_(k)‖ = √(2 − 2·cos_k(x)) > t`,
///
/// cos_k being the k-th highest cosine. t is a quantile of the distances of images that were held out of training: they are like the
/// data by construction, and the share of them beyond t, one in a hundred, is the rate of false alarms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Familiarity {
    /// Which nearest training feature is looked at.
    pub k: usize,
    /// t: the largest distance, 0 to 2, that still counts as like the data.
    pub threshold: f64,
    /// The share of the reference images within `threshold`.
    pub quantile: f64,
    /// How many images `threshold` was taken from.
    pub images: usize,
    /// Whether these were held out of training. If not, they are training images, each compared with the others.
    pub held_out: bool,
}

impl Familiarity {
    /// The k-th nearest of this many; fewer where there are fewer training features.
    pub const K: usize = 10;
    /// The share of the held-out images that count as like the data.
    pub const QUANTILE: f64 = 0.99;
    /// At most so many images are looked at (of more, a class-balanced part).
    const MAX_IMAGES: usize = 5000;

    /// Takes the threshold from `held_out` features, or, without any, from the training features themselves, each against the others.
    ///
    /// # Errors
    /// If features are empty or not finite, or their widths differ.
    pub fn fit(train: &Features, held_out: Option<&Features>) -> Result<Self> {
        let queries = held_out.unwrap_or(train).balanced_subset(Self::MAX_IMAGES);
        let mut distances = match held_out {
            Some(_) => kth_distances(train, &queries, Self::K, |_| None)?,
            None => {
                // Of the training features themselves only as many as are compared: rows must be the bank's own.
                kth_distances(&queries, &queries, Self::K, Some)?
            }
        };
        distances.sort_by(f64::total_cmp);
        // The smallest value that at least `QUANTILE` of them do not exceed.
        let rank = (Self::QUANTILE * distances.len() as f64).ceil() as usize;
        let threshold = distances[rank.clamp(1, distances.len()) - 1];
        Ok(Self {
            k: Self::K,
            threshold,
            quantile: Self::QUANTILE,
            images: distances.len(),
            held_out: held_out.is_some(),
        })
    }

    /// d_k of each query.
    ///
    /// # Errors
    /// As [`fit`](Self::fit).
    pub fn distances(&self, train: &Features, queries: &Features) -> Result<Vec<f64>> {
        kth_distances(train, queries, self.k, |_| None)
    }

    /// Whether an image at this distance is unlike the training data.
    pub fn is_strange(&self, distance: f64) -> bool {
        distance > self.threshold
    }
}

/// √(2 − 2·cos) to the k-th nearest row of `bank`, or the farthest of fewer; `without` names a row that does not count.
fn kth_distances(
    bank: &Features,
    queries: &Features,
    k: usize,
    without: impl Fn(usize) -> Option<usize> + Sync,
) -> Result<Vec<f64>> {
    fitting(bank, queries)?;
    map_rows(&queries.unit(), &bank.unit(), |query, cosines| {
        let nearest = largest(cosines, k, without(query));
        let cosine = nearest
            .last()
            .map_or(0.0, |&row| f64::from(cosines[row as usize]));
        (2.0 - 2.0 * cosine).max(0.0).sqrt()
    })
}

fn fitting(bank: &Features, queries: &Features) -> Result<()> {
    bank.check()?;
    queries.check()?;
    if bank.dim != queries.dim {
        return Err(Error::Invalid(format!(
            "training features have {} columns and queries {}; both must come from one encoder",
            bank.dim, queries.dim
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn angles(degrees: impl IntoIterator<Item = f32>) -> Features {
        let values: Vec<f32> = degrees
            .into_iter()
            .flat_map(|d| [3.0 * d.to_radians().cos(), 3.0 * d.to_radians().sin()])
            .collect();
        let rows = values.len() / 2;
        Features::new(2, values, (0..rows as u32).collect()).unwrap()
    }

    #[test]
    fn neighbours_come_nearest_first_with_their_cosines() {
        let found = nearest(&angles([0.0, 90.0, 60.0]), &angles([50.0, -90.0]), 2).unwrap();
        let rows = |i: usize| found[i].iter().map(|n| n.index).collect::<Vec<_>>();
        assert_eq!((rows(0), rows(1)), (vec![2, 1], vec![0, 2]));
        let cosine = 10f64.to_radians().cos();
        assert!((found[0][0].similarity - cosine).abs() < 1e-6);
        assert_eq!(found[0][0].label, 2);
        let wide = Features::new(3, vec![1.0; 3], vec![0]).unwrap();
        assert!(nearest(&wide, &angles([1.0]), 1).is_err());
    }

    #[test]
    fn one_in_a_hundred_of_the_held_out_images_is_strange_and_so_is_what_lies_elsewhere() {
        // Training features fill 0° to 40°, held-out ones the same arc.
        let train = angles((0..400).map(|i| i as f32 * 0.1));
        let held_out = angles((0..200).map(|i| i as f32 * 0.2 + 0.05));
        let familiar = Familiarity::fit(&train, Some(&held_out)).unwrap();
        assert!(familiar.held_out && familiar.images == 200);
        let strange = |features: &Features| {
            let distances = familiar.distances(&train, features).unwrap();
            distances
                .iter()
                .filter(|&&d| familiar.is_strange(d))
                .count()
        };
        assert!(strange(&held_out) <= 2, "{}", strange(&held_out));
        assert_eq!(strange(&angles([20.0, 120.0, 200.0, -30.0])), 3);
        // d_k against the closed form: the tenth nearest of a grid of 0.1° around 20.05° is 0.45° away.
        let d = familiar.distances(&train, &angles([20.05])).unwrap()[0];
        let expected = 2.0 * (0.45f64 / 2.0).to_radians().sin();
        assert!((d - expected).abs() < 2e-4, "{d} {expected}"); // cosines near 1 in f32 resolve √(2·6e-8)
    }

    #[test]
    fn without_held_out_images_no_training_image_vouches_for_itself() {
        // Eleven copies and a loner: compared with itself the loner would be at distance 0 for k = 1.
        let train = angles([0.0, 90.0]);
        let familiar = Familiarity::fit(&train, None).unwrap();
        assert!(!familiar.held_out);
        assert!((familiar.threshold - 2f64.sqrt()).abs() < 1e-6);
    }
}
