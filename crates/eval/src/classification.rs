//! Accuracy, confusion and calibration of a classifier's predictions.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::predictions::Predictions;

/// Bins of the expected calibration error, as in Guo et al. 2017.
const BINS: usize = 15;

/// What a classifier reached on one split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassificationMetrics {
    /// Share of images whose highest logit is the true class, 0 to 1.
    #[serde(with = "crate::number")]
    pub top1: f64,
    /// Share of images whose true class is among the five highest logits, 0 to 1.
    #[serde(with = "crate::number")]
    pub top5: f64,
    /// Top-1 accuracy of each class; NaN for a class without images.
    #[serde(with = "crate::number::list")]
    pub per_class: Vec<f64>,
    /// `confusion[true][predicted]`: numbers of images.
    pub confusion: Vec<Vec<u64>>,
    /// Expected calibration error, 0 to 1.
    #[serde(with = "crate::number")]
    pub ece: f64,
    /// Mean negative log-likelihood of the true class, in nats.
    #[serde(with = "crate::number")]
    pub nll: f64,
    /// The reliability diagram behind `ece`: confidence against accuracy, the bins that hold images, in rising order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reliability: Vec<ReliabilityBin>,
}

/// A bar of the reliability diagram: the images whose highest softmax probability lies in (`low`, `high`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Lower end of the bin, 0 to 1.
    #[serde(with = "crate::number")]
    pub low: f64,
    /// Upper end of the bin, 0 to 1.
    #[serde(with = "crate::number")]
    pub high: f64,
    /// Images in it.
    pub images: u64,
    /// Their mean confidence, 0 to 1.
    #[serde(with = "crate::number")]
    pub confidence: f64,
    /// The share of them that was right, 0 to 1.
    #[serde(with = "crate::number")]
    pub accuracy: f64,
}

/// Accuracy, confusion, calibration and likelihood of predictions.
///
/// - top-1, top-5: the true class is among the 1 or 5 highest logits (of equal logits the lower class ranks higher).
/// - ECE = Σ_b |B_b|/N · |accuracy(B_b) − confidence(B_b)| over 15 bins of equal width, ((b−1)/15, b/15], of the highest
///   softmax probability (Guo et al. 2017, equation 3).
/// - NLL = −mean ln softmax(logits)_label.
///
/// # Errors
/// If the predictions are empty, not finite, or do not fit together.
///
/// ```
/// use eval::{Predictions, classification};
/// let predictions = Predictions::new(2, vec![2.0, 0.0, 1.0, 3.0, 5.0, 0.0], vec![0, 1, 1])?;
/// let metrics = classification(&predictions)?;
/// assert_eq!(metrics.confusion, [[1, 0], [1, 1]]);
/// assert!((metrics.top1 - 2.0 / 3.0).abs() < 1e-15);
/// # Ok::<_, eval::Error>(())
/// ```
pub fn classification(predictions: &Predictions) -> Result<ClassificationMetrics> {
    predictions.check()?;
    let outcomes: Vec<Outcome> = (0..predictions.len())
        .into_par_iter()
        .map(|index| Outcome::of(predictions.row(index), predictions.labels[index] as usize))
        .collect();

    let classes = predictions.classes;
    let mut confusion = vec![vec![0u64; classes]; classes];
    let mut bins = [(0u64, 0u64, 0f64); BINS]; // images, right ones, sum of confidences
    let (mut top5, mut nll) = (0u64, 0f64);
    for (outcome, &label) in outcomes.iter().zip(&predictions.labels) {
        confusion[label as usize][outcome.predicted] += 1;
        top5 += u64::from(outcome.rank < 5);
        nll += outcome.nll;
        let bin = ((outcome.confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        let (images, right, confidence) = &mut bins[bin];
        *images += 1;
        *right += u64::from(outcome.rank == 0);
        *confidence += outcome.confidence;
    }
    let images = predictions.len() as f64;
    let right: u64 = (0..classes).map(|class| confusion[class][class]).sum();
    Ok(ClassificationMetrics {
        top1: right as f64 / images,
        top5: top5 as f64 / images,
        per_class: confusion
            .iter()
            .enumerate()
            .map(|(class, row)| row[class] as f64 / row.iter().sum::<u64>() as f64)
            .collect(),
        confusion,
        ece: bins
            .iter()
            .map(|&(_, right, confidence)| (right as f64 - confidence).abs())
            .sum::<f64>()
            / images,
        nll: nll / images,
        reliability: bins
            .iter()
            .enumerate()
            .filter(|(_, (images, ..))| *images > 0)
            .map(|(bin, &(images, right, confidence))| ReliabilityBin {
                low: bin as f64 / BINS as f64,
                high: (bin + 1) as f64 / BINS as f64,
                images,
                confidence: confidence / images as f64,
                accuracy: right as f64 / images as f64,
            })
            .collect(),
    })
}

/// What became of one image.
struct Outcome {
    predicted: usize,
    /// How many classes rank above the true one.
    rank: usize,
    /// Softmax probability of the predicted class.
    confidence: f64,
    /// −ln of the true class's probability.
    nll: f64,
}

impl Outcome {
    fn of(logits: &[f32], label: usize) -> Self {
        let mut predicted = 0;
        for (class, &logit) in logits.iter().enumerate() {
            if logit > logits[predicted] {
                predicted = class;
            }
        }
        let above = |class: usize| {
            logits[class] > logits[label] || (logits[class] == logits[label] && class < label)
        };
        let highest = f64::from(logits[predicted]);
        let sum: f64 = logits
            .iter()
            .map(|&logit| (f64::from(logit) - highest).exp())
            .sum();
        Self {
            predicted,
            rank: (0..logits.len()).filter(|&class| above(class)).count(),
            confidence: 1.0 / sum,
            nll: sum.ln() + highest - f64::from(logits[label]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(classes: usize, logits: &[f32], labels: &[u32]) -> ClassificationMetrics {
        classification(&Predictions::new(classes, logits.to_vec(), labels.to_vec()).unwrap())
            .unwrap()
    }

    #[test]
    fn by_hand_over_two_classes() {
        // Probabilities of class 0: 0.8, 0.8, 0.3, and one image certain of class 1 and wrong.
        let logit = |p: f32| (p / (1.0 - p)).ln();
        let metrics = of(
            2,
            &[
                logit(0.8),
                0.0,
                logit(0.8),
                0.0,
                logit(0.3),
                0.0,
                -60.0,
                0.0,
            ],
            &[0, 1, 1, 0],
        );
        assert_eq!(metrics.confusion, [[1, 1], [1, 1]]);
        assert_eq!((metrics.top1, metrics.top5), (0.5, 1.0));
        assert_eq!(metrics.per_class, [0.5, 0.5]);
        // Bins: 0.8 twice with one right, |1 − 1.6|; 0.7 right, |1 − 0.7|; 1.0 wrong, |0 − 1|.
        assert!(
            (metrics.ece - (0.6 + 0.3 + 1.0) / 4.0).abs() < 1e-7,
            "{}",
            metrics.ece
        );
        // The reliability diagram is those bins, and its bars add up to the error.
        let bars: Vec<_> = metrics
            .reliability
            .iter()
            .map(|bin| (bin.images, bin.accuracy))
            .collect();
        assert_eq!(bars, [(1, 1.0), (2, 0.5), (1, 0.0)]);
        for bin in &metrics.reliability {
            assert!(bin.low < bin.confidence + 1e-7 && bin.confidence <= bin.high + 1e-7);
        }
        let from_bars: f64 = (metrics.reliability.iter())
            .map(|bin| bin.images as f64 * (bin.accuracy - bin.confidence).abs() / 4.0)
            .sum();
        assert!((from_bars - metrics.ece).abs() < 1e-12);
        let nll = -(0.8f64.ln() + 0.2f64.ln() + 0.7f64.ln() - 60.0) / 4.0;
        assert!((metrics.nll - nll).abs() < 1e-6, "{}", metrics.nll);
    }

    #[test]
    fn ties_rank_the_lower_class_first_and_top5_counts_five() {
        let metrics = of(6, &[0.0; 12], &[0, 5]);
        assert_eq!((metrics.top1, metrics.top5), (0.5, 0.5));
        assert!(metrics.per_class[1].is_nan(), "a class without images");
        let metrics = of(6, &[6.0, 5.0, 4.0, 3.0, 2.0, 1.0], &[4]);
        assert_eq!((metrics.top1, metrics.top5), (0.0, 1.0));
    }

    #[test]
    fn a_calibrated_classifier_has_no_error_and_huge_logits_stay_finite() {
        // Confidence 0.75 and three of four right.
        let row = [3f32.ln(), 0.0];
        let metrics = of(2, &row.repeat(4), &[0, 0, 0, 1]);
        assert!(metrics.ece < 1e-7, "{}", metrics.ece);
        let metrics = of(2, &[1e38, -1e38, -1e38, 1e38], &[1, 1]);
        assert!(metrics.nll.is_finite() && metrics.ece == 0.5);
    }

    #[test]
    fn one_class_is_always_right() {
        let metrics = of(1, &[0.3, -2.0], &[0, 0]);
        assert_eq!(
            (metrics.top1, metrics.top5, metrics.ece, metrics.nll),
            (1.0, 1.0, 0.0, 0.0)
        );
    }
}
