//! How well features find their own class: precision@1 and MAP@R, Musgrave et al. 2020 (arXiv 2003.08505), section 3.2.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::features::Features;
use crate::products::{largest, map_rows};

/// What the search among the features themselves reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retrieval {
    /// Share of queries whose nearest other feature is of the same class, 0 to 1.
    pub precision_at_1: f64,
    /// Mean over the queries of average precision at R.
    pub map_at_r: f64,
    /// How many features had another of their class: the others cannot be found and are no queries.
    pub queries: usize,
}

/// Searches for each feature among all others by cosine.
///
/// With R the number of other features of the query's class,
/// MAP@R = mean over queries of (1/R) Σ_{i=1..R} \[the i-th nearest is of the class\] · (precision among the first i).
/// Of equally near features the one of lower index comes first.
///
/// # Errors
/// If features are empty or not finite, or no class has two.
pub fn retrieval(features: &Features) -> Result<Retrieval> {
    features.check()?;
    let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
    for &label in &features.labels {
        *sizes.entry(label).or_default() += 1;
    }
    let unit = features.unit();
    let scores = map_rows(&unit, &unit, |query, cosines| {
        let label = features.labels[query];
        let others = sizes[&label] - 1;
        let (mut found, mut precisions, mut first) = (0usize, 0f64, false);
        for (place, index) in largest(cosines, others, Some(query))
            .into_iter()
            .enumerate()
        {
            if features.labels[index as usize] == label {
                found += 1;
                precisions += found as f64 / (place + 1) as f64;
                first |= place == 0;
            }
        }
        (others > 0).then(|| (first, precisions / others as f64))
    })?;
    let (mut queries, mut right, mut average) = (0usize, 0usize, 0f64);
    for (first, precision) in scores.into_iter().flatten() {
        queries += 1;
        right += usize::from(first);
        average += precision;
    }
    if queries == 0 {
        return Err(Error::Invalid(format!(
            "retrieval needs a class with at least two features; {} features have {} classes",
            features.len(),
            sizes.len()
        )));
    }
    Ok(Retrieval {
        precision_at_1: right as f64 / queries as f64,
        map_at_r: average / queries as f64,
        queries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_circle(degrees: &[f32], labels: &[u32]) -> Features {
        let values = degrees
            .iter()
            .flat_map(|d| [d.to_radians().cos(), d.to_radians().sin()])
            .collect();
        Features::new(2, values, labels.to_vec()).unwrap()
    }

    #[test]
    fn by_hand_over_five_features() {
        // In order on the circle: a a b a b, 10°, 11°, 13°, … apart so that no two distances agree.
        let features = on_a_circle(&[0.0, 10.0, 21.0, 34.0, 49.0], &[0, 0, 1, 0, 1]);
        let result = retrieval(&features).unwrap();
        // Query, neighbours, R, AP: 0: 1 2 → a b, (1 + 0)/2; 1: 0 2 → a b, 1/2; 3: 2 4 → b b, 0; 2: 1 → a, 0; 4: 3 → a, 0.
        assert_eq!(result.precision_at_1, 2.0 / 5.0);
        assert!((result.map_at_r - (0.5 + 0.5) / 5.0).abs() < 1e-15);
        assert_eq!(result.queries, 5);
    }

    #[test]
    fn late_hits_count_with_their_precision() {
        let features = on_a_circle(&[0.0, 5.0, 11.0, 180.0], &[0, 1, 0, 0]);
        // Query 0: b a → (0 + 1/2)/2; query 2: b a → 1/4; query 3: a (11°, 169° away) b (175°) → 1/2. Query 1 has no other.
        let result = retrieval(&features).unwrap();
        assert_eq!(result.queries, 3);
        assert!(
            (result.map_at_r - (0.25 + 0.25 + 0.5) / 3.0).abs() < 1e-15,
            "{result:?}"
        );
        assert_eq!(result.precision_at_1, 1.0 / 3.0);
    }

    #[test]
    fn separated_classes_are_found_and_lone_ones_are_an_error() {
        let features = on_a_circle(&[0.0, 1.0, 90.0, 91.0], &[4, 4, 9, 9]);
        assert_eq!(
            retrieval(&features).unwrap(),
            Retrieval {
                precision_at_1: 1.0,
                map_at_r: 1.0,
                queries: 4
            }
        );
        let lone = on_a_circle(&[0.0, 1.0], &[0, 1]);
        assert!(
            retrieval(&lone)
                .unwrap_err()
                .to_string()
                .contains("at least two")
        );
    }
}
