//! A map in two dimensions: the first two principal components, by subspace iteration (Halko, Martinsson & Tropp 2011,
//! arXiv 0909.4061, algorithm 4.4, carried on until it stands still).

use candle_core::{Device, Tensor};

use crate::eigen::jacobi;
use crate::error::Result;
use crate::features::Features;

/// Directions that are iterated: two that are wanted, the others make them converge.
const DIRECTIONS: usize = 10;
/// The most iterations.
const ITERATIONS: usize = 200;
/// The relative change of both variances between two iterations at which the map stands still.
const STILL: f64 = 1e-7;

/// Features on their first two principal axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Pca2 {
    /// `[N]`: the coordinates of each feature, centred.
    pub points: Vec<[f32; 2]>,
    /// Share of the features' variance along each axis, 0 to 1.
    pub explained: [f64; 2],
}

/// Projects centred features onto the two axes of largest variance.
///
/// Deterministic: the iteration starts from fixed numbers, and each axis points so that its largest component is positive.
/// Features that do not vary along a second (or any) axis have 0 there.
///
/// # Errors
/// If features are empty or not finite.
pub fn pca2(features: &Features) -> Result<Pca2> {
    features.check()?;
    let (rows, dim) = (features.len(), features.dim);
    let (centred, variance) = centre(features);
    let x = Tensor::from_vec(centred, (rows, dim), &Device::Cpu)?;
    let transposed = x.t()?;

    let starts = (0..DIRECTIONS.min(dim).min(rows))
        .map(|seed| start(seed, dim))
        .collect();
    let mut axes: Vec<Vec<f64>> = orthonormal(starts); // k rows of D
    let mut variances = [f64::NAN; 2];
    for _ in 0..ITERATIONS {
        let scores = x.matmul(&columns(&axes)?)?; // [N, k]
        let (values, vectors) = jacobi(small_gram(&scores)?);
        let now = [0, 1].map(|axis| values.get(axis).copied().unwrap_or(0.0));
        let still = (0..2).all(|axis| (now[axis] - variances[axis]).abs() <= STILL * now[0]);
        variances = now;
        if still {
            axes = combine(&axes, &vectors); // Rayleigh–Ritz: the principal axes within the subspace
            break;
        }
        let product = transposed.matmul(&scores)?; // [D, k]
        axes = orthonormal(combine(&rows_of(&product.t()?.contiguous()?)?, &vectors));
        if axes.is_empty() {
            break; // nothing varies
        }
    }
    axes.truncate(2);
    axes.iter_mut().for_each(|axis| orient(axis));
    let coordinates: Vec<Vec<f64>> = match axes.is_empty() {
        true => Vec::new(),
        false => rows_of(&x.matmul(&columns(&axes)?)?.t()?.contiguous()?)?,
    };
    let mut points = vec![[0f32; 2]; rows];
    let mut explained = [0f64; 2];
    for (axis, values) in coordinates.iter().enumerate() {
        for (point, &value) in points.iter_mut().zip(values) {
            point[axis] = value as f32;
        }
        if variance > 0.0 {
            explained[axis] = (values.iter().map(|v| v * v).sum::<f64>() / variance).min(1.0);
        }
    }
    Ok(Pca2 { points, explained })
}

/// The features less their mean, and their summed squares.
fn centre(features: &Features) -> (Vec<f32>, f64) {
    let mut mean = vec![0f64; features.dim];
    for row in features.values.chunks(features.dim) {
        mean.iter_mut()
            .zip(row)
            .for_each(|(mean, &value)| *mean += f64::from(value));
    }
    mean.iter_mut()
        .for_each(|mean| *mean /= features.len() as f64);
    let mut squares = 0f64;
    let mut centred = Vec::with_capacity(features.values.len());
    for row in features.values.chunks(features.dim) {
        centred.extend(row.iter().zip(&mean).map(|(&value, mean)| {
            let value = f64::from(value) - mean;
            squares += value * value;
            value as f32
        }));
    }
    (centred, squares)
}

/// Numbers in (−1, 1) that depend on the seed alone.
fn start(seed: usize, length: usize) -> Vec<f64> {
    let mut state = seed as u64;
    (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect()
}

/// Modified Gram–Schmidt, twice; what depends on the rows before it is dropped.
fn orthonormal(rows: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let mut kept: Vec<Vec<f64>> = Vec::new();
    for mut row in rows {
        let before = length(&row);
        for _ in 0..2 {
            for other in &kept {
                let share: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(other).for_each(|(a, b)| *a -= share * b);
            }
        }
        let after = length(&row);
        if after > 1e-6 * before {
            row.iter_mut().for_each(|value| *value /= after);
            kept.push(row);
        }
    }
    kept
}

fn length(row: &[f64]) -> f64 {
    row.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// The rows of the product of `mixing` and `rows`.
fn combine(rows: &[Vec<f64>], mixing: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let sum = |weights: &Vec<f64>| {
        let mut sum = vec![0f64; rows[0].len()];
        for (weight, row) in weights.iter().zip(rows) {
            sum.iter_mut()
                .zip(row)
                .for_each(|(sum, value)| *sum += weight * value);
        }
        sum
    };
    mixing.iter().map(sum).collect()
}

/// Rows in f64 as columns of an f32 matrix `[D, k]`.
fn columns(rows: &[Vec<f64>]) -> Result<Tensor> {
    let values: Vec<f32> = rows.iter().flatten().map(|&value| value as f32).collect();
    Ok(
        Tensor::from_vec(values, (rows.len(), rows[0].len()), &Device::Cpu)?
            .t()?
            .contiguous()?,
    )
}

fn rows_of(matrix: &Tensor) -> Result<Vec<Vec<f64>>> {
    let rows = matrix.to_vec2::<f32>()?;
    Ok(rows
        .into_iter()
        .map(|row| row.into_iter().map(f64::from).collect())
        .collect())
}

/// YᵀY of `[N, k]`, summed in f64.
fn small_gram(scores: &Tensor) -> Result<Vec<Vec<f64>>> {
    let k = scores.dim(1)?;
    let mut gram = vec![vec![0f64; k]; k];
    for row in scores.to_vec2::<f32>()? {
        for i in 0..k {
            for j in 0..=i {
                gram[i][j] += f64::from(row[i]) * f64::from(row[j]);
            }
        }
    }
    let lower = gram.clone();
    for (i, row) in gram.iter_mut().enumerate() {
        for (j, value) in row.iter_mut().enumerate().skip(i + 1) {
            *value = lower[j][i];
        }
    }
    Ok(gram)
}

/// Turns an axis so that its component of largest magnitude (of equals, the first) is positive.
fn orient(axis: &mut [f64]) {
    let mut largest = 0f64;
    for &value in axis.iter() {
        if value.abs() > largest.abs() {
            largest = value;
        }
    }
    if largest < 0.0 {
        axis.iter_mut().for_each(|value| *value = -*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dim: usize, values: Vec<f32>) -> Pca2 {
        let rows = values.len() / dim;
        pca2(&Features::new(dim, values, vec![0; rows]).unwrap()).unwrap()
    }

    #[test]
    fn an_ellipse_is_turned_onto_its_axes() {
        // Long axis (3, 4)/5 with spread 10, short axis (−4, 3)/5 with spread 1, about (7, −2).
        let values = [(10.0, 0.0), (-10.0, 0.0), (0.0, 1.0), (0.0, -1.0)]
            .iter()
            .flat_map(|(long, short)| {
                [
                    7.0 + 0.6 * long - 0.8 * short,
                    -2.0 + 0.8 * long + 0.6 * short,
                ]
            })
            .collect();
        let map = of(2, values);
        let expected = [[10.0, 0.0], [-10.0, 0.0], [0.0, -1.0], [0.0, 1.0]]; // (0.8, −0.6) is the short axis's direction
        for (point, expected) in map.points.iter().zip(expected) {
            assert!(
                (point[0] - expected[0]).abs() < 1e-5 && (point[1] - expected[1]).abs() < 1e-5,
                "{map:?}"
            );
        }
        assert!(
            (map.explained[0] - 200.0 / 202.0).abs() < 1e-6
                && (map.explained[1] - 2.0 / 202.0).abs() < 1e-6
        );
    }

    #[test]
    fn agrees_with_jacobi_on_the_covariance() {
        let (rows, dim) = (80, 24);
        let values: Vec<f32> = (0..rows * dim)
            .map(|i| ((i * i) as f32 * 0.113).sin() * (1.0 + 3.0 / (1 + i % dim) as f32))
            .collect();
        let features = Features::new(dim, values, vec![0; rows]).unwrap();
        let map = pca2(&features).unwrap();
        let (centred, total) = centre(&features);
        let covariance: Vec<Vec<f64>> = (0..dim)
            .map(|i| {
                (0..dim)
                    .map(|j| {
                        centred
                            .chunks(dim)
                            .map(|r| f64::from(r[i]) * f64::from(r[j]))
                            .sum()
                    })
                    .collect()
            })
            .collect();
        let (values, vectors) = jacobi(covariance);
        for axis in 0..2 {
            assert!((map.explained[axis] - values[axis] / total).abs() < 1e-6);
            let mut vector = vectors[axis].clone();
            orient(&mut vector);
            for (point, row) in map.points.iter().zip(centred.chunks(dim)) {
                let expected: f64 = row
                    .iter()
                    .zip(&vector)
                    .map(|(&a, b)| f64::from(a) * b)
                    .sum();
                assert!(
                    (f64::from(point[axis]) - expected).abs() < 2e-2,
                    "{} {expected}",
                    point[axis]
                );
            }
        }
    }

    #[test]
    fn features_without_a_second_axis_or_any() {
        let line = of(3, vec![1.0, 2.0, 2.0, 2.0, 4.0, 4.0, 3.0, 6.0, 6.0]);
        assert!(
            (line.points[2][0] - 3.0).abs() < 1e-5 && (line.points[0][0] + 3.0).abs() < 1e-5,
            "{line:?}"
        );
        assert!(line.points.iter().all(|point| point[1].abs() < 1e-4));
        let same = of(2, vec![5.0, 5.0, 5.0, 5.0]);
        assert_eq!(
            same,
            Pca2 {
                points: vec![[0.0; 2]; 2],
                explained: [0.0; 2]
            }
        );
        assert_eq!(of(1, vec![1.0, 3.0]).points, [[-1.0, 0.0], [1.0, 0.0]]);
        assert_eq!(of(4, vec![1.0; 4]).points, [[0.0, 0.0]]);
    }
}
