//! Weighted k-nearest neighbours, Wu et al. 2018 (arXiv 1805.01978), section 3.4.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::features::Features;
use crate::products::{largest, map_rows};

/// Options of [`knn`].
#[derive(Clone, Debug, PartialEq)]
pub struct KnnConfig {
    /// Neighbours that vote; 200 in the paper.
    pub k: usize,
    /// τ of the votes' weights; 0.07 in the paper.
    pub temperature: f64,
    /// The most training features that are searched: a larger set is reduced to a class-balanced subset
    /// ([`Features::balanced_subset`]), which [`Knn::bank`] tells. `usize::MAX` searches all.
    pub max_bank: usize,
}

impl Default for KnnConfig {
    fn default() -> Self {
        Self {
            k: 200,
            temperature: 0.07,
            max_bank: 10_000,
        }
    }
}

/// What the neighbours reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knn {
    /// Share of queries whose winning class is the true one, 0 to 1.
    pub top1: f64,
    /// How many training features were searched.
    pub bank: usize,
}

/// Classifies each query by its nearest training features.
///
/// The k training features of highest cosine s vote for their class with weight exp(s/τ); the class with the largest sum
/// wins (of equals, the lower). Fewer than k training features all vote.
///
/// # Errors
/// If features are empty or not finite, their widths differ, k is 0, or τ is not a positive finite number.
pub fn knn(train: &Features, queries: &Features, config: &KnnConfig) -> Result<Knn> {
    train.check()?;
    queries.check()?;
    if train.dim != queries.dim {
        return Err(Error::Invalid(format!(
            "training features have {} columns and queries {}; both must come from one encoder",
            train.dim, queries.dim
        )));
    }
    if config.k == 0 || config.max_bank == 0 {
        return Err(Error::Invalid(format!(
            "nearest neighbours need k and max_bank of at least 1, got {} and {}",
            config.k, config.max_bank
        )));
    }
    if !(config.temperature.is_finite() && config.temperature > 0.0) {
        return Err(Error::Invalid(format!(
            "the temperature of nearest neighbours must be a positive finite number, got {}",
            config.temperature
        )));
    }
    let bank = train.balanced_subset(config.max_bank).unit();
    let right = map_rows(&queries.unit(), &bank, |index, cosines| {
        vote(cosines, &bank.labels, config) == Some(queries.labels[index])
    })?;
    let right = right.into_iter().filter(|&right| right).count();
    Ok(Knn {
        top1: right as f64 / queries.len() as f64,
        bank: bank.len(),
    })
}

/// The class that wins.
fn vote(cosines: &[f32], labels: &[u32], config: &KnnConfig) -> Option<u32> {
    let nearest = largest(cosines, config.k, None);
    let highest = f64::from(cosines[*nearest.first()? as usize]);
    let mut votes: BTreeMap<u32, f64> = BTreeMap::new();
    for index in nearest {
        let weight = ((f64::from(cosines[index as usize]) - highest) / config.temperature).exp();
        *votes.entry(labels[index as usize]).or_default() += weight;
    }
    let mut winner = None;
    for (class, votes) in votes {
        if winner.is_none_or(|(_, most)| votes > most) {
            winner = Some((class, votes));
        }
    }
    winner.map(|(class, _)| class)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn angles(degrees: &[f32], labels: &[u32]) -> Features {
        let values = degrees
            .iter()
            .flat_map(|d| [d.to_radians().cos(), d.to_radians().sin()])
            .collect();
        Features::new(2, values, labels.to_vec()).unwrap()
    }

    #[test]
    fn near_votes_outweigh_many_far_ones_at_a_low_temperature() {
        let train = angles(&[0.0, 60.0, 61.0, 62.0], &[7, 3, 3, 3]);
        let query = angles(&[10.0], &[7]);
        let with = |temperature| {
            let config = KnnConfig {
                k: 4,
                temperature,
                ..Default::default()
            };
            knn(&train, &query, &config).unwrap().top1
        };
        // Weights relative to the nearest: exp((cos 50°… − cos 10°)/τ), about exp(−0.35/τ) each.
        assert_eq!((with(0.07), with(10.0)), (1.0, 0.0));
    }

    #[test]
    fn one_neighbour_is_the_nearest_and_ties_go_to_the_lower_class() {
        let train = angles(&[0.0, 90.0, 180.0], &[0, 1, 2]);
        let config = KnnConfig {
            k: 1,
            ..Default::default()
        };
        assert_eq!(
            knn(
                &train,
                &angles(&[10.0, 80.0, 170.0, 100.0], &[0, 1, 2, 2]),
                &config
            )
            .unwrap()
            .top1,
            0.75
        );
        let same = angles(&[0.0, 0.0], &[5, 4]);
        assert_eq!(
            knn(&same, &angles(&[0.0], &[4]), &KnnConfig::default())
                .unwrap()
                .top1,
            1.0
        );
    }

    #[test]
    fn the_bank_is_limited_and_said_so() {
        let train = angles(&[0.0, 1.0, 2.0, 90.0, 91.0], &[0, 0, 0, 1, 1]);
        let config = KnnConfig {
            max_bank: 2,
            ..Default::default()
        };
        let result = knn(&train, &train, &config).unwrap();
        assert_eq!(result, Knn { top1: 1.0, bank: 2 });
    }

    #[test]
    fn wrong_options_are_named() {
        let train = angles(&[0.0], &[0]);
        let message = |config| knn(&train, &train, &config).unwrap_err().to_string();
        assert!(
            message(KnnConfig {
                k: 0,
                ..Default::default()
            })
            .contains("at least 1")
        );
        assert!(
            message(KnnConfig {
                temperature: f64::NAN,
                ..Default::default()
            })
            .contains("NaN")
        );
        let wide = Features::new(3, vec![0.0; 3], vec![0]).unwrap();
        assert!(
            knn(&train, &wide, &KnnConfig::default())
                .unwrap_err()
                .to_string()
                .contains("columns")
        );
    }
}
