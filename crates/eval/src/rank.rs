//! Effective rank: how many directions features use, Roy & Vetterli 2007; on embeddings, RankMe, Garrido et al. 2023
//! (arXiv 2210.02885), equation 1.

use candle_core::{Device, Tensor};

use crate::eigen::eigenvalues;
use crate::error::Result;
use crate::features::Features;

/// Rows per matrix product: fixed, so that the bits do not depend on the number of threads.
const BLOCK: usize = 2048;

/// exp(−Σ p_k ln p_k) with p_k = σ_k / Σσ, σ the singular values of the features' matrix as it is (not centred): 1 to min(N, D).
///
/// 1 when all features are multiples of one, D when all directions are used alike; 0 if all features are zeros. In f64.
///
/// # Errors
/// If features are empty or not finite.
///
/// ```
/// use eval::{Features, effective_rank};
/// let features = Features::new(3, vec![2.0, 0.0, 0.0, 0.0, 2.0, 0.0], vec![0, 1])?;
/// assert!((effective_rank(&features)? - 2.0).abs() < 1e-12);
/// # Ok::<_, eval::Error>(())
/// ```
pub fn effective_rank(features: &Features) -> Result<f64> {
    features.check()?;
    let side = features.len().min(features.dim);
    let squares = eigenvalues(gram(features)?, side);
    let largest = squares
        .iter()
        .fold(0f64, |largest, &square| largest.max(square));
    // What lies below the product's rounding is not told from zero.
    let noise = largest * f64::EPSILON * side as f64;
    let singular: Vec<f64> = squares
        .into_iter()
        .filter(|&square| square > noise)
        .map(f64::sqrt)
        .collect();
    let sum: f64 = singular.iter().sum();
    if sum == 0.0 {
        return Ok(0.0);
    }
    let entropy: f64 = singular
        .iter()
        .map(|value| value / sum)
        .map(|p| -p * p.ln())
        .sum();
    Ok(entropy.exp())
}

/// XᵀX or XXᵀ, whichever is smaller, in f64, row by row. Scaled, so that squares neither overflow nor vanish.
fn gram(features: &Features) -> Result<Vec<f64>> {
    let (rows, dim) = (features.len(), features.dim);
    let largest = features
        .values
        .iter()
        .fold(0f32, |largest, value| largest.max(value.abs()));
    let scale = if largest > 0.0 {
        1.0 / f64::from(largest)
    } else {
        1.0
    };
    let block = |values: &[f32], shape: (usize, usize)| {
        let values: Vec<f64> = values
            .iter()
            .map(|&value| f64::from(value) * scale)
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    };
    if rows < dim {
        let x = block(&features.values, (rows, dim))?;
        return Ok(x.matmul(&x.t()?)?.flatten_all()?.to_vec1()?);
    }
    let mut sum = vec![0f64; dim * dim];
    for values in features.values.chunks(BLOCK * dim) {
        let x = block(values, (values.len() / dim, dim))?;
        let product = x.t()?.matmul(&x)?.flatten_all()?.to_vec1::<f64>()?;
        sum.iter_mut()
            .zip(product)
            .for_each(|(sum, value)| *sum += value);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dim: usize, values: Vec<f32>) -> f64 {
        let rows = values.len() / dim;
        effective_rank(&Features::new(dim, values, vec![0; rows]).unwrap()).unwrap()
    }

    #[test]
    fn by_hand() {
        // Singular values 3 and 1: p = 3/4, 1/4.
        let entropy = -(0.75 * 0.75f64.ln() + 0.25 * 0.25f64.ln());
        assert!((of(2, vec![3.0, 0.0, 0.0, 1.0]) - entropy.exp()).abs() < 1e-12);
        assert!((of(2, vec![3.0, 0.0, 0.0, 1.0, 0.0, 0.0]) - entropy.exp()).abs() < 1e-12);
        assert_eq!(of(3, vec![0.0; 6]), 0.0);
    }

    #[test]
    fn multiples_of_one_feature_have_rank_one() {
        let values: Vec<f32> = (1..=50)
            .flat_map(|i| (1..=8).map(move |j| (i * j) as f32))
            .collect();
        assert!((of(8, values) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn scale_and_orientation_do_not_matter() {
        let values: Vec<f32> = (0..60).map(|i| ((i * i) as f32 * 0.31).sin()).collect();
        let tall = of(6, values.clone());
        let scaled = of(6, values.iter().map(|v| v * 2f32.powi(70)).collect());
        assert_eq!(tall, scaled);
        let mut turned = vec![0.0; 60];
        for i in 0..10 {
            for j in 0..6 {
                turned[j * 10 + i] = values[i * 6 + j];
            }
        }
        assert!((tall - of(10, turned)).abs() < 1e-10);
        assert!(tall > 1.0 && tall <= 6.0);
    }
}
