//! Noise of the sensor.

use rand_chacha::ChaCha8Rng;

use super::Picture;
use super::field::normal;
use crate::random::unit;

/// `x + σ·n`.
pub(super) fn gaussian(mut picture: Picture, level: usize, rng: &mut ChaCha8Rng) -> Picture {
    let deviation = [0.04, 0.06, 0.08, 0.09, 0.10][level];
    picture
        .values
        .iter_mut()
        .for_each(|x| *x += deviation * normal(rng));
    picture
}

/// `Poisson(c·x) / c`, by inversion of one uniform number: fewer photons are noisier in the same direction.
pub(super) fn shot(mut picture: Picture, level: usize, rng: &mut ChaCha8Rng) -> Picture {
    let photons = [500.0, 250.0, 100.0, 75.0, 50.0][level];
    for x in &mut picture.values {
        *x = (poisson(photons * f64::from(*x), f64::from(unit(rng))) / photons) as f32;
    }
    picture
}

/// The smallest k with `P(X ≤ k) > u` for X of a Poisson distribution with mean `lambda`, at most 500: e⁻⁵⁰⁰ is still an f64.
fn poisson(lambda: f64, u: f64) -> f64 {
    let mut k = 0.0;
    let mut mass = (-lambda).exp();
    let mut sum = mass;
    while sum <= u && k < lambda + 20.0 * lambda.sqrt() + 20.0 {
        k += 1.0;
        mass *= lambda / k;
        sum += mass;
    }
    k
}

/// A share of the values becomes 1 or 0, half and half.
pub(super) fn impulse(mut picture: Picture, level: usize, rng: &mut ChaCha8Rng) -> Picture {
    let share = [0.01, 0.02, 0.03, 0.05, 0.07][level];
    for x in &mut picture.values {
        let (hit, salt) = (unit(rng) < share, unit(rng) < 0.5);
        if hit {
            *x = if salt { 1.0 } else { 0.0 };
        }
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poisson_has_its_mean_and_variance() {
        for lambda in [0.3, 12.5, 480.0] {
            let n = 20_000;
            let draws: Vec<f64> = (0..n)
                .map(|i| poisson(lambda, (f64::from(i) + 0.5) / f64::from(n)))
                .collect();
            let mean = draws.iter().sum::<f64>() / f64::from(n);
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
            // Stratified draws: the error is that of a sum over steps, below 1 %.
            assert!((mean / lambda - 1.0).abs() < 0.01, "{lambda}: {mean}");
            assert!(
                (variance / lambda - 1.0).abs() < 0.02,
                "{lambda}: {variance}"
            );
        }
        assert_eq!(poisson(0.0, 0.999), 0.0);
    }
}
