//! Uniformity: how evenly features spread over the unit sphere, Wang & Isola 2020 (arXiv 2005.10242), section 4.1.

use crate::error::{Error, Result};
use crate::features::Features;
use crate::products::map_rows;

/// ln mean exp(−2‖f(x) − f(y)‖²) over all pairs of different features, f scaled to unit length: −8 to 0, smaller is more even.
///
/// 0 when all features coincide; for features spread evenly over a sphere of many dimensions, about −4.
///
/// # Errors
/// If features are not finite or fewer than two.
pub fn uniformity(features: &Features) -> Result<f64> {
    features.check()?;
    if features.len() < 2 {
        return Err(Error::Invalid(
            "uniformity needs at least two features, got 1".into(),
        ));
    }
    let unit = features.unit();
    let squares: Vec<f64> = unit
        .values
        .chunks(unit.dim)
        .map(|row| row.iter().map(|&x| f64::from(x) * f64::from(x)).sum())
        .collect();
    let potentials = map_rows(&unit, &unit, |query, products| {
        let later = query + 1..products.len();
        later
            .map(|other| {
                (-2.0
                    * (squares[query] + squares[other] - 2.0 * f64::from(products[other])).max(0.0))
                .exp()
            })
            .sum::<f64>()
    })?;
    let pairs = features.len() as f64 * (features.len() - 1) as f64 / 2.0;
    Ok((potentials.into_iter().sum::<f64>() / pairs).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dim: usize, values: &[f32]) -> f64 {
        uniformity(&Features::new(dim, values.to_vec(), vec![0; values.len() / dim]).unwrap())
            .unwrap()
    }

    #[test]
    fn by_hand() {
        // Squared distances 2, 2, 4.
        let expected = ((2.0 * (-4f64).exp() + (-8f64).exp()) / 3.0).ln();
        assert!((of(2, &[1.0, 0.0, 0.0, 3.0, -1.0, 0.0]) - expected).abs() < 1e-6);
        assert!(of(2, &[1.0, 0.0].repeat(9)).abs() < 1e-6);
        // A feature of zeros lies in the middle, at distance 1.
        assert!((of(1, &[0.0, 5.0]) + 2.0).abs() < 1e-6);
        // Far apart and yet not −∞.
        assert!((of(1, &[-1.0, 1.0]) + 8.0).abs() < 1e-6);
    }

    #[test]
    fn one_feature_is_an_error() {
        let lone = Features::new(1, vec![1.0], vec![0]).unwrap();
        assert!(
            uniformity(&lone)
                .unwrap_err()
                .to_string()
                .contains("at least two")
        );
    }
}
