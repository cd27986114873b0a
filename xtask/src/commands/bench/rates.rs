//! What was measured, round by round, and its median.

use serde::Serialize;

/// One number per round.
#[derive(Debug, Clone, Serialize)]
pub struct Rates {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
    pub samples: Vec<f64>,
}

impl Rates {
    /// Median and extremes of all rounds.
    pub fn of(samples: Vec<f64>) -> Self {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
        };
        Self {
            median,
            lowest: sorted.first().copied().unwrap_or(f64::NAN),
            highest: sorted.last().copied().unwrap_or(f64::NAN),
            samples,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(Rates::of(vec![3.0, 1.0, 2.0]).median, 2.0);
        let rates = Rates::of(vec![4.0, 1.0, 2.0, 3.0]);
        assert_eq!((rates.median, rates.lowest, rates.highest), (2.5, 1.0, 4.0));
        assert_eq!(rates.samples, [4.0, 1.0, 2.0, 3.0]);
    }
}
