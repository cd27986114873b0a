//! The difference between two accuracies, with an interval over test images.
//!
//! The interval answers one question: had other test images been drawn, how much would the difference between *these
//! two trained networks* move? It says nothing about how much other seeds would move it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// 97.5th percentile of the standard normal distribution: 95 % two-sided.
const Z: f64 = 1.959_963_984_540_054;

/// A difference in top-1 accuracy, first minus second, and its 95 % interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// First accuracy minus the second, −1 to 1.
    #[serde(with = "crate::number")]
    pub difference: f64,
    /// Lower end of the 95 % interval.
    #[serde(with = "crate::number")]
    pub low: f64,
    /// Upper end of the 95 % interval.
    #[serde(with = "crate::number")]
    pub high: f64,
    /// Test images behind it.
    pub images: u64,
    /// How the interval was made.
    pub method: Method,
    /// Images that only the first got right (paired comparisons only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_first: Option<u64>,
    /// Images that only the second got right (paired comparisons only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_second: Option<u64>,
}

/// How an interval was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Image by image on the same images: Bonett & Price 2012, adjusted Wald interval for paired proportions.
    Paired,
    /// From the two accuracies alone: Agresti & Caffo 2000. Wider, since the pairing is unknown.
    Unpaired,
}

impl Comparison {
    /// From what each arm got right on the same images, in the same order.
    ///
    /// With `b` and `c` images right in only the first and only the second: `p = (b + 1)/(n + 2)`,
    /// `q = (c + 1)/(n + 2)`, interval `p − q ± z·√((p + q − (p − q)²)/(n + 2))`.
    ///
    /// # Errors
    /// If the lists differ in length or are empty.
    ///
    /// ```
    /// let first = [true, true, true, false];
    /// let second = [true, false, true, false];
    /// let comparison = eval::Comparison::paired(&first, &second)?;
    /// assert_eq!(comparison.difference, 0.25);
    /// assert!(comparison.low < 0.0 && comparison.high > 0.25);
    /// # Ok::<(), eval::Error>(())
    /// ```
    pub fn paired(first: &[bool], second: &[bool]) -> Result<Self> {
        if first.len() != second.len() || first.is_empty() {
            return Err(Error::Invalid(format!(
                "a paired comparison needs the same test images from both arms, got {} and {}",
                first.len(),
                second.len()
            )));
        }
        let only = |one: &[bool], other: &[bool]| {
            one.iter().zip(other).filter(|(a, b)| **a && !**b).count() as u64
        };
        let (b, c) = (only(first, second), only(second, first));
        let n = first.len() as f64;
        let (p, q) = ((b as f64 + 1.0) / (n + 2.0), (c as f64 + 1.0) / (n + 2.0));
        let half = Z * ((p + q - (p - q).powi(2)) / (n + 2.0)).sqrt();
        Ok(Comparison {
            difference: (b as f64 - c as f64) / n,
            low: (p - q - half).max(-1.0),
            high: (p - q + half).min(1.0),
            images: first.len() as u64,
            method: Method::Paired,
            only_first: Some(b),
            only_second: Some(c),
        })
    }

    /// From correct images and all images of each arm. `None` without images.
    pub fn unpaired(first: (u64, u64), second: (u64, u64)) -> Option<Self> {
        if first.1 == 0 || second.1 == 0 {
            return None;
        }
        let adjusted =
            |(right, n): (u64, u64)| ((right as f64 + 1.0) / (n as f64 + 2.0), n as f64 + 2.0);
        let ((p, n), (q, m)) = (adjusted(first), adjusted(second));
        let half = Z * (p * (1.0 - p) / n + q * (1.0 - q) / m).sqrt();
        Some(Comparison {
            difference: first.0 as f64 / first.1 as f64 - second.0 as f64 / second.1 as f64,
            low: (p - q - half).max(-1.0),
            high: (p - q + half).min(1.0),
            images: first.1.min(second.1),
            method: Method::Unpaired,
            only_first: None,
            only_second: None,
        })
    }
}

/// Wilson's 95 % interval of a share that was measured on `images` images. `None` where there is nothing to measure.
///
/// ```
/// let (low, high) = eval::wilson_interval(0.5, 100).unwrap();
/// assert!((low - 0.4038).abs() < 1e-4 && (high - 0.5962).abs() < 1e-4);
/// ```
pub fn wilson_interval(share: f64, images: u64) -> Option<(f64, f64)> {
    if images == 0 || !share.is_finite() {
        return None;
    }
    let n = images as f64;
    let centre = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    Some(((centre - half).max(0.0), (centre + half).min(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paired_interval_is_narrower_when_the_arms_agree() {
        let first: Vec<bool> = (0..1000).map(|i| i % 10 < 6).collect();
        let second: Vec<bool> = (0..1000).map(|i| i % 10 < 5).collect();
        let paired = Comparison::paired(&first, &second).unwrap();
        let unpaired = Comparison::unpaired((600, 1000), (500, 1000)).unwrap();
        assert!(
            (paired.difference - 0.1).abs() < 1e-12 && (unpaired.difference - 0.1).abs() < 1e-12
        );
        assert!(paired.high - paired.low < unpaired.high - unpaired.low);
        assert_eq!(
            (paired.only_first, paired.only_second),
            (Some(100), Some(0))
        );
    }

    #[test]
    fn paired_interval_has_the_published_value() {
        // Bonett & Price's form by hand: n = 20, b = 6, c = 1 → p = 7/22, q = 2/22.
        let first: Vec<bool> = (0..20).map(|i| i < 10).collect();
        let second: Vec<bool> = (0..20).map(|i| (6..11).contains(&i)).collect();
        let comparison = Comparison::paired(&first, &second).unwrap();
        let (p, q) = (7.0 / 22.0, 2.0 / 22.0f64);
        let half = 1.959_964 * ((p + q - (p - q) * (p - q)) / 22.0f64).sqrt();
        assert_eq!(
            (comparison.only_first, comparison.only_second),
            (Some(6), Some(1))
        );
        assert!((comparison.low - (p - q - half)).abs() < 1e-6);
        assert!((comparison.high - (p - q + half)).abs() < 1e-6);
    }

    #[test]
    fn different_images_are_refused() {
        let message = Comparison::paired(&[true], &[true, false])
            .unwrap_err()
            .to_string();
        assert!(message.contains("1 and 2"), "{message}");
        assert!(Comparison::paired(&[], &[]).is_err());
        assert!(Comparison::unpaired((0, 0), (1, 2)).is_none());
    }

    #[test]
    fn wilson_stays_inside_zero_and_one() {
        let (low, high) = wilson_interval(1.0, 10).unwrap();
        assert!(low > 0.6 && high > 1.0 - 1e-12 && high <= 1.0);
        assert!(wilson_interval(f64::NAN, 10).is_none() && wilson_interval(0.5, 0).is_none());
    }
}
