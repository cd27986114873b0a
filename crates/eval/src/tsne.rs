//! A map in two dimensions: t-SNE (van der Maaten & Hinton 2008), exact, on cosine distances.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::features::Features;
use crate::pca::pca2;
use crate::products::map_rows;

/// The most images: time and memory grow with their square (4,000 images: 64 MB, some ten seconds on two cores).
const MOST: usize = 4000;
/// Steps with exaggerated attraction, and steps after them.
const STEPS: (usize, usize) = (250, 500);
/// How much attraction is exaggerated at first.
const EXAGGERATION: f32 = 12.0;
/// Sums run in lanes of fixed number, so that they are fast and their bits never depend on the machine's width.
const LANES: usize = 16;

/// Settings of [`tsne2`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TsneConfig {
    /// How many neighbours an image feels, roughly (perplexity); at most a third of the images.
    pub perplexity: f64,
}

impl Default for TsneConfig {
    /// Perplexity 30, as in most of the literature.
    fn default() -> Self {
        TsneConfig { perplexity: 30.0 }
    }
}

/// Places features in the plane so that near ones stay near: minimises KL(P ‖ Q) with
///
/// p_{j|i} ∝ exp(−β_i d²_ij), d²_ij = 2 − 2 cos(x_i, x_j), β_i such that the perplexity is as asked,
/// p_ij = (p_{j|i} + p_{i|j}) / 2N, and q_ij ∝ 1 / (1 + |y_i − y_j|²).
///
/// Gradient descent as in van der Maaten's programme (gains, momentum 0.5 then 0.8, exaggeration 12 for 250 of 750 steps)
/// from the principal components, with the learning rate N/12 (Belkina et al. 2019), at least 50. Deterministic: the same bits for
/// any number of threads.
///
/// # Errors
/// If features are empty or not finite, are more than 4,000, or the perplexity is not positive.
pub fn tsne2(features: &Features, config: TsneConfig) -> Result<Vec<[f32; 2]>> {
    features.check()?;
    let rows = features.len();
    if rows > MOST {
        return Err(Error::Invalid(format!(
            "t-SNE compares every image with every other and takes at most {MOST}, got {rows}; choose a subset"
        )));
    }
    if config.perplexity.is_nan() || config.perplexity <= 0.0 {
        return Err(Error::Invalid(format!(
            "the perplexity of t-SNE is a positive number, got {}",
            config.perplexity
        )));
    }
    let start = pca2(features)?.points;
    if rows < 4 {
        return Ok(start);
    }
    let perplexity = config.perplexity.min((rows - 1) as f64 / 3.0);
    let affinities = Affinities::new(features, perplexity)?;
    Ok(descend(&affinities, &start))
}

/// p_ij, dense, each row padded with zeros to whole lanes.
struct Affinities {
    rows: usize,
    stride: usize,
    values: Vec<f32>,
}

impl Affinities {
    fn new(features: &Features, perplexity: f64) -> Result<Self> {
        let rows = features.len();
        let unit = features.unit();
        let conditional = map_rows(&unit, &unit, |query, cosines| {
            neighbourhood(query, cosines, perplexity)
        })?;
        let stride = rows.div_ceil(LANES) * LANES;
        let mut values = vec![0f32; rows * stride];
        let scale = 1.0 / (2.0 * rows as f64);
        values
            .par_chunks_mut(stride)
            .enumerate()
            .for_each(|(i, row)| {
                for (j, value) in row.iter_mut().take(rows).enumerate() {
                    let both = f64::from(conditional[i][j]) + f64::from(conditional[j][i]);
                    *value = (both * scale) as f32;
                }
            });
        Ok(Affinities {
            rows,
            stride,
            values,
        })
    }
}

/// p_{j|i} for one i: β by bisection so that the entropy is ln(perplexity).
fn neighbourhood(query: usize, cosines: &[f32], perplexity: f64) -> Vec<f32> {
    let squares: Vec<f64> = cosines
        .iter()
        .map(|&cosine| (2.0 - 2.0 * f64::from(cosine)).max(0.0))
        .collect();
    let nearest = squares
        .iter()
        .enumerate()
        .filter(|(j, _)| *j != query)
        .map(|(_, square)| *square)
        .fold(f64::INFINITY, f64::min);
    let target = perplexity.ln();
    let (mut beta, mut low, mut high) = (1.0f64, 0.0f64, f64::INFINITY);
    let mut weights = vec![0f64; squares.len()];
    for _ in 0..100 {
        let (mut sum, mut moment) = (0f64, 0f64);
        for (j, (weight, square)) in weights.iter_mut().zip(&squares).enumerate() {
            // Relative to the nearest, so that the sum is at least 1.
            let far = square - nearest;
            *weight = if j == query { 0.0 } else { (-beta * far).exp() };
            sum += *weight;
            moment += *weight * far;
        }
        let entropy = sum.ln() + beta * moment / sum;
        weights.iter_mut().for_each(|weight| *weight /= sum);
        if (entropy - target).abs() < 1e-6 {
            break;
        }
        if entropy > target {
            low = beta;
            beta = if high.is_finite() {
                0.5 * (low + high)
            } else {
                2.0 * beta
            };
        } else {
            high = beta;
            beta = 0.5 * (low + high);
        }
        if beta > 1e12 {
            break; // all neighbours at one distance: there is no β of this perplexity
        }
    }
    weights.into_iter().map(|weight| weight as f32).collect()
}

/// What one image feels: Σ_j p_ij u_ij (y_i − y_j), Σ_j u²_ij (y_i − y_j) and Σ_j u_ij, with u = 1 / (1 + |y_i − y_j|²).
#[derive(Clone, Copy, Default)]
struct Pull {
    attraction: [f32; 2],
    repulsion: [f32; 2],
    mass: f64,
}

fn pull(p: &[f32], x: &[f32], y: &[f32], at: [f32; 2], rows: usize) -> Pull {
    let mut sums = [[0f32; LANES]; 5];
    let chunks = p
        .chunks_exact(LANES)
        .zip(x.chunks_exact(LANES))
        .zip(y.chunks_exact(LANES));
    for (chunk, ((p, x), y)) in chunks.enumerate() {
        let live = (rows - chunk * LANES).min(LANES);
        for lane in 0..LANES {
            let (dx, dy) = (at[0] - x[lane], at[1] - y[lane]);
            let near = 1.0 / (1.0 + dx * dx + dy * dy);
            // Padding stands at infinity.
            let near = if lane < live { near } else { 0.0 };
            let (attract, repel) = (p[lane] * near, near * near);
            sums[0][lane] += attract * dx;
            sums[1][lane] += attract * dy;
            sums[2][lane] += repel * dx;
            sums[3][lane] += repel * dy;
            sums[4][lane] += near;
        }
    }
    let total = |lanes: &[f32; LANES]| lanes.iter().map(|&v| f64::from(v)).sum::<f64>();
    Pull {
        attraction: [total(&sums[0]) as f32, total(&sums[1]) as f32],
        repulsion: [total(&sums[2]) as f32, total(&sums[3]) as f32],
        mass: total(&sums[4]) - 1.0, // without itself
    }
}

/// ∂KL/∂y_i = 4 Σ_j (c·p_ij − q_ij) u_ij (y_i − y_j), with attraction exaggerated by c.
fn gradient(affinities: &Affinities, x: &[f32], y: &[f32], exaggeration: f32) -> Vec<[f32; 2]> {
    let pulls: Vec<Pull> = affinities
        .values
        .par_chunks(affinities.stride)
        .enumerate()
        .map(|(i, p)| pull(p, x, y, [x[i], y[i]], affinities.rows))
        .collect();
    let mass: f64 = pulls.iter().map(|pull| pull.mass).sum();
    let mass = mass.max(f64::MIN_POSITIVE) as f32;
    pulls
        .iter()
        .map(|pull| {
            [0, 1].map(|axis| {
                4.0 * (exaggeration * pull.attraction[axis] - pull.repulsion[axis] / mass)
            })
        })
        .collect()
}

fn descend(affinities: &Affinities, start: &[[f32; 2]]) -> Vec<[f32; 2]> {
    let rows = affinities.rows;
    let spread = (start
        .iter()
        .map(|point| f64::from(point[0]).powi(2))
        .sum::<f64>()
        / rows as f64)
        .sqrt();
    let scale = if spread > 0.0 { 1e-4 / spread } else { 0.0 } as f32;
    let mut place = [0, 1].map(|axis| {
        let mut values = vec![0f32; affinities.stride];
        for (i, (value, point)) in values.iter_mut().zip(start).enumerate() {
            // Images with one and the same feature must be able to part.
            *value = point[axis] * scale + 1e-8 * ((i * 2 + axis) % 97) as f32;
        }
        values
    });
    let mut speed = vec![[0f32; 2]; rows];
    let mut gain = vec![[1f32; 2]; rows];
    let rate = (rows as f32 / EXAGGERATION).max(50.0);
    for step in 0..STEPS.0 + STEPS.1 {
        let (exaggeration, momentum) = if step < STEPS.0 {
            (EXAGGERATION, 0.5)
        } else {
            (1.0, 0.8)
        };
        let slope = gradient(affinities, &place[0], &place[1], exaggeration);
        for i in 0..rows {
            for axis in 0..2 {
                let same_way = (slope[i][axis] > 0.0) == (speed[i][axis] > 0.0);
                let gain = &mut gain[i][axis];
                *gain = if same_way { *gain * 0.8 } else { *gain + 0.2 }.max(0.01);
                let speed = &mut speed[i][axis];
                *speed = momentum * *speed - rate * *gain * slope[i][axis];
                place[axis][i] += *speed;
            }
        }
        for values in &mut place {
            let mean = values[..rows].iter().map(|&v| f64::from(v)).sum::<f64>() / rows as f64;
            values[..rows]
                .iter_mut()
                .for_each(|value| *value -= mean as f32);
        }
    }
    (0..rows).map(|i| [place[0][i], place[1][i]]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three directions with some noise around them.
    fn clusters(each: usize) -> Features {
        let mut state = 1u64;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for i in 0..3 * each {
            for axis in 0..6 {
                values.push(if axis == i % 3 { 1.0 } else { 0.0 } + 0.5 * uniform());
            }
            labels.push((i % 3) as u32);
        }
        Features::new(6, values, labels).unwrap()
    }

    #[test]
    fn near_features_stay_near() {
        let features = clusters(60);
        let points = tsne2(&features, TsneConfig::default()).unwrap();
        for (i, point) in points.iter().enumerate() {
            let distance = |other: &[f32; 2]| (other[0] - point[0]).hypot(other[1] - point[1]);
            let nearest = (0..points.len())
                .filter(|j| *j != i)
                .min_by(|a, b| distance(&points[*a]).total_cmp(&distance(&points[*b])))
                .unwrap();
            assert_eq!(features.labels[nearest], features.labels[i], "image {i}");
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let features = clusters(35);
        let on = |threads: usize| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap()
                .install(|| tsne2(&features, TsneConfig::default()).unwrap())
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn neighbourhoods_have_the_perplexity_asked_for() {
        let cosines: Vec<f32> = (0..90).map(|i| 1.0 - i as f32 / 60.0).collect();
        for perplexity in [2.0, 10.0, 29.0] {
            let p = neighbourhood(3, &cosines, perplexity);
            let entropy: f64 = p
                .iter()
                .filter(|p| **p > 0.0)
                .map(|&p| -f64::from(p) * f64::from(p).ln())
                .sum();
            assert_eq!(p[3], 0.0);
            assert!((entropy.exp() - perplexity).abs() < 1e-3 * perplexity);
        }
    }

    /// KL(P ‖ Q) in f64, straight from its definition.
    fn divergence(affinities: &Affinities, x: &[f64], y: &[f64]) -> f64 {
        let rows = affinities.rows;
        let near = |i: usize, j: usize| 1.0 / (1.0 + (x[i] - x[j]).powi(2) + (y[i] - y[j]).powi(2));
        let pairs = || (0..rows).flat_map(|i| (0..rows).map(move |j| (i, j)));
        let mass: f64 = pairs()
            .filter(|(i, j)| i != j)
            .map(|(i, j)| near(i, j))
            .sum();
        pairs()
            .filter(|(i, j)| i != j)
            .map(|(i, j)| {
                let p = f64::from(affinities.values[i * affinities.stride + j]);
                if p > 0.0 {
                    p * (p * mass / near(i, j)).ln()
                } else {
                    0.0
                }
            })
            .sum()
    }

    #[test]
    fn the_gradient_is_that_of_the_divergence() {
        let features = clusters(7);
        let affinities = Affinities::new(&features, 5.0).unwrap();
        let sum: f64 = affinities.values.iter().map(|&p| f64::from(p)).sum();
        assert!((sum - 1.0).abs() < 1e-5, "P sums to {sum}");
        let rows = affinities.rows;
        let place =
            |turn: f64| -> Vec<f64> { (0..rows).map(|i| (i as f64 * turn).sin() * 2.0).collect() };
        let (x, y) = (place(1.3), place(2.9));
        let padded = |values: &[f64]| {
            let mut padded: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            padded.resize(affinities.stride, 0.0);
            padded
        };
        let slope = gradient(&affinities, &padded(&x), &padded(&y), 1.0);
        let width = 1e-5;
        for i in 0..rows {
            let moved = |by: f64| {
                let mut x = x.clone();
                x[i] += by;
                divergence(&affinities, &x, &y)
            };
            let expected = (moved(width) - moved(-width)) / (2.0 * width);
            // f32 sums of some twenty terms of size 0.1.
            assert!(
                (f64::from(slope[i][0]) - expected).abs() < 1e-6,
                "image {i}: {} against {expected}",
                slope[i][0]
            );
        }
    }

    #[test]
    fn equal_features_few_images_and_too_many_are_handled() {
        let equal = Features::new(2, [1.0, 0.0].repeat(20), vec![0; 20]).unwrap();
        let points = tsne2(&equal, TsneConfig::default()).unwrap();
        assert!(points.iter().flatten().all(|value| value.is_finite()));
        let two = Features::new(2, vec![1.0, 0.0, 0.0, 1.0], vec![0, 1]).unwrap();
        assert_eq!(tsne2(&two, TsneConfig::default()).unwrap().len(), 2);
        let many = Features::new(1, vec![1.0; MOST + 1], vec![0; MOST + 1]).unwrap();
        let message = tsne2(&many, TsneConfig::default()).unwrap_err().to_string();
        assert!(message.contains("4001"), "{message}");
    }
}
