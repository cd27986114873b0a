//! Everything that features tell without a head, in one call.

use crate::alignment::alignment;
use crate::error::Result;
use crate::features::Features;
use crate::knn::{KnnConfig, knn};
use crate::rank::effective_rank;
use crate::results::EmbeddingMetrics;
use crate::retrieval::retrieval;
use crate::uniformity::uniformity;

/// Options of [`embedding_metrics`].
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingConfig {
    /// Nearest neighbours among the training features.
    pub knn: KnnConfig,
    /// The most test features that are compared with each other (a class-balanced subset of more).
    pub max_rows: usize,
}

impl Default for EmbeddingConfig {
    fn default() -> Self {
        Self {
            knn: KnnConfig::default(),
            max_rows: 10_000,
        }
    }
}

/// Nearest neighbours of `test` among `train`; retrieval, alignment, uniformity and effective rank of `test`.
///
/// Without training features the neighbours are left out; where no class has two features, retrieval and alignment are.
/// The neighbours judge every test feature; the rest looks at no more than `config.max_rows`.
///
/// # Errors
/// If features are empty or not finite, or do not fit together.
pub fn embedding_metrics(
    train: Option<&Features>,
    test: &Features,
    config: &EmbeddingConfig,
) -> Result<EmbeddingMetrics> {
    test.check()?;
    let neighbours = train
        .map(|train| knn(train, test, &config.knn))
        .transpose()?;
    let sample = test.balanced_subset(config.max_rows.max(1));
    let mut labels = sample.labels.clone();
    labels.sort_unstable();
    let pairs = labels.windows(2).any(|pair| pair[0] == pair[1]);
    let found = if pairs {
        Some(retrieval(&sample)?)
    } else {
        None
    };
    Ok(EmbeddingMetrics {
        knn_top1: neighbours.as_ref().map(|knn| knn.top1),
        knn_bank: neighbours.as_ref().map(|knn| knn.bank),
        precision_at_1: found.as_ref().map(|found| found.precision_at_1),
        map_at_r: found.as_ref().map(|found| found.map_at_r),
        alignment: if pairs {
            Some(alignment(&sample)?)
        } else {
            None
        },
        uniformity: if sample.len() > 1 {
            Some(uniformity(&sample)?)
        } else {
            None
        },
        effective_rank: Some(effective_rank(&sample)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tight_classes() {
        let train = Features::new(2, vec![1.0, 0.0, 0.0, 1.0], vec![0, 1]).unwrap();
        let test = Features::new(
            2,
            vec![2.0, 0.0, 3.0, 0.0, 0.0, 1.0, 0.0, 4.0],
            vec![0, 0, 1, 1],
        )
        .unwrap();
        let metrics = embedding_metrics(Some(&train), &test, &EmbeddingConfig::default()).unwrap();
        assert_eq!((metrics.knn_top1, metrics.knn_bank), (Some(1.0), Some(2)));
        assert_eq!(
            (metrics.precision_at_1, metrics.map_at_r),
            (Some(1.0), Some(1.0))
        );
        assert_eq!(metrics.alignment, Some(0.0));
        // Two pairs at distance 0 and four at √2.
        let expected = ((2.0 + 4.0 * (-4f64).exp()) / 6.0).ln();
        assert!((metrics.uniformity.unwrap() - expected).abs() < 1e-6);
        assert!(metrics.effective_rank.unwrap() > 1.9);
    }

    #[test]
    fn what_cannot_be_computed_is_absent() {
        let lone = Features::new(2, vec![2.0, 0.0], vec![0]).unwrap();
        let metrics = embedding_metrics(None, &lone, &EmbeddingConfig::default()).unwrap();
        let rank = metrics.effective_rank;
        assert_eq!(
            metrics,
            EmbeddingMetrics {
                effective_rank: rank,
                ..Default::default()
            }
        );
    }
}
