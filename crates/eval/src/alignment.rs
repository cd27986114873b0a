//! Alignment: how close positive pairs lie on the unit sphere, Wang & Isola 2020 (arXiv 2005.10242), section 4.1.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::features::Features;

/// Mean ‖f(x) − f(y)‖² over all pairs of different features of one class, f scaled to unit length: 0 to 4, smaller is tighter.
///
/// Exact, in O(N·D): Σ_{i≠j} ‖f_i − f_j‖² = 2n Σ‖f_i‖² − 2‖Σ f_i‖² within a class of n.
///
/// # Errors
/// If features are empty or not finite, or no class has two.
///
/// ```
/// use eval::{Features, alignment};
/// // Perpendicular unit vectors are √2 apart.
/// let features = Features::new(2, vec![1.0, 0.0, 0.0, 2.0], vec![3, 3])?;
/// assert!((alignment(&features)? - 2.0).abs() < 1e-12);
/// # Ok::<_, eval::Error>(())
/// ```
pub fn alignment(features: &Features) -> Result<f64> {
    features.check()?;
    let unit = features.unit();
    // Of each class: how many, Σ‖f‖², Σ f.
    let mut classes: BTreeMap<u32, (usize, f64, Vec<f64>)> = BTreeMap::new();
    for (index, &label) in unit.labels.iter().enumerate() {
        let (count, squares, sum) = classes
            .entry(label)
            .or_insert_with(|| (0, 0.0, vec![0.0; unit.dim]));
        *count += 1;
        for (total, &value) in sum.iter_mut().zip(unit.row(index)) {
            *squares += f64::from(value) * f64::from(value);
            *total += f64::from(value);
        }
    }
    let (mut pairs, mut distances) = (0f64, 0f64);
    for (count, squares, sum) in classes.into_values() {
        let count = count as f64;
        pairs += count * (count - 1.0);
        distances += 2.0 * (count * squares - sum.iter().map(|x| x * x).sum::<f64>());
    }
    if pairs == 0.0 {
        return Err(Error::Invalid(
            "alignment needs a class with at least two features".into(),
        ));
    }
    Ok((distances / pairs).max(0.0))
}

/// Mean ‖f(x) − f(y)‖² over the rows of two views of the same images, f scaled to unit length.
///
/// # Errors
/// If features are empty or not finite, or the views differ in shape.
pub fn view_alignment(first: &Features, second: &Features) -> Result<f64> {
    first.check()?;
    second.check()?;
    if (first.len(), first.dim) != (second.len(), second.dim) {
        return Err(Error::Invalid(format!(
            "two views must have the same shape, got [{}, {}] and [{}, {}]",
            first.len(),
            first.dim,
            second.len(),
            second.dim
        )));
    }
    let (a, b) = (first.unit(), second.unit());
    let squares = a
        .values
        .iter()
        .zip(&b.values)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    Ok(squares.sum::<f64>() / first.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_mean_over_all_pairs() {
        let values: Vec<f32> = (0..21).map(|i| ((i * i) as f32 * 0.37).sin()).collect();
        let features = Features::new(3, values, vec![0, 1, 0, 1, 1, 0, 2]).unwrap();
        let unit = features.unit();
        let (mut pairs, mut sum) = (0.0, 0.0);
        for i in 0..7 {
            for j in (0..7).filter(|&j| j != i && features.labels[i] == features.labels[j]) {
                pairs += 1.0;
                sum += unit
                    .row(i)
                    .iter()
                    .zip(unit.row(j))
                    .map(|(a, b)| f64::from(a - b).powi(2))
                    .sum::<f64>();
            }
        }
        assert!((alignment(&features).unwrap() - sum / pairs).abs() < 1e-6);
    }

    #[test]
    fn equal_features_are_aligned_and_opposite_ones_are_not() {
        let equal = Features::new(2, vec![0.5, 0.5, 2.0, 2.0], vec![1, 1]).unwrap();
        assert!(alignment(&equal).unwrap() < 1e-12);
        let opposite = Features::new(2, vec![-0.5, -0.5, -2.0, -2.0], vec![1, 1]).unwrap();
        assert!((view_alignment(&equal, &opposite).unwrap() - 4.0).abs() < 1e-6);
        assert_eq!(view_alignment(&equal, &equal).unwrap(), 0.0);
    }

    #[test]
    fn no_pair_is_an_error() {
        let lone = Features::new(1, vec![1.0, 2.0], vec![0, 1]).unwrap();
        assert!(
            alignment(&lone)
                .unwrap_err()
                .to_string()
                .contains("at least two")
        );
        let short = Features::new(1, vec![1.0], vec![0]).unwrap();
        assert!(view_alignment(&lone, &short).is_err());
    }
}
