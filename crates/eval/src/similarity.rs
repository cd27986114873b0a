//! Cosine similarities of a few images, all with all, and maps that follow them through training.

use crate::error::{Error, Result};
use crate::features::Features;
use crate::products::map_rows;

/// Rounds of orthogonal iteration; the maps are of some hundred images, so that all of them cost milliseconds.
const ROUNDS: usize = 300;

/// cos(x_i, x_j) for all i and j, row by row: `[N · N]`.
///
/// # Errors
/// If features are empty or not finite.
pub fn cosines(features: &Features) -> Result<Vec<f32>> {
    features.check()?;
    let unit = features.unit();
    let rows = map_rows(&unit, &unit, |_, cosines| cosines.to_vec())?;
    Ok(rows.concat())
}

/// Maps of the same images at several times of training, each from its matrix of cosines (classical scaling, Torgerson
/// 1952: the principal components of the unit features), turned and mirrored so that it lies as near as can be to the map
/// before it (orthogonal Procrustes).
///
/// # Errors
/// If a matrix is not `images · images` long.
pub fn follow(images: usize, matrices: &[&[f32]]) -> Result<Vec<Vec<[f32; 2]>>> {
    let mut maps: Vec<Vec<[f64; 2]>> = Vec::new();
    // The last map comes first: classes are apart there, and earlier ones are turned towards it.
    for matrix in matrices.iter().rev() {
        if matrix.len() != images * images {
            return Err(Error::Invalid(format!(
                "similarities of {images} images are {} numbers, got {}",
                images * images,
                matrix.len()
            )));
        }
        let mut map = scaled(images, matrix);
        if let Some(after) = maps.last() {
            turn_towards(&mut map, after);
        }
        maps.push(map);
    }
    maps.reverse();
    Ok(maps
        .into_iter()
        .map(|map| map.into_iter().map(|p| p.map(|v| v as f32)).collect())
        .collect())
}

/// The two leading principal coordinates of a matrix of inner products.
fn scaled(n: usize, matrix: &[f32]) -> Vec<[f64; 2]> {
    let mut gram: Vec<f64> = matrix.iter().map(|&value| f64::from(value)).collect();
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / n as f64;
    let rows: Vec<f64> = (0..n)
        .map(|i| mean(&mut gram[i * n..(i + 1) * n].iter().copied()))
        .collect();
    let all = mean(&mut rows.iter().copied());
    for i in 0..n {
        for j in 0..n {
            gram[i * n + j] += all - rows[i] - rows[j];
        }
    }
    let mut axes: Vec<Vec<f64>> = (0..4.min(n))
        .map(|axis| {
            (0..n)
                .map(|i| (1.0 + (i * (axis + 2)) as f64).sin())
                .collect()
        })
        .collect();
    let mut values = vec![0f64; axes.len()];
    for _ in 0..ROUNDS {
        for axis in 0..axes.len() {
            let mut product: Vec<f64> = gram
                .chunks(n)
                .map(|row| row.iter().zip(&axes[axis]).map(|(g, v)| g * v).sum())
                .collect();
            for before in &axes[..axis] {
                let shared: f64 = before.iter().zip(&product).map(|(a, b)| a * b).sum();
                product
                    .iter_mut()
                    .zip(before)
                    .for_each(|(value, other)| *value -= shared * other);
            }
            let length = product.iter().map(|v| v * v).sum::<f64>().sqrt();
            values[axis] = length;
            if length > 1e-12 {
                product.iter_mut().for_each(|value| *value /= length);
            } else {
                product.fill(0.0);
            }
            axes[axis] = product;
        }
    }
    (0..n)
        .map(|i| {
            [0, 1].map(|axis| {
                let direction = axes.get(axis).map_or(0.0, |axis| axis[i]);
                direction * values.get(axis).copied().unwrap_or(0.0).sqrt()
            })
        })
        .collect()
}

/// The rotation, with or without a reflection, that brings `map` nearest to `target` in squares.
fn turn_towards(map: &mut [[f64; 2]], target: &[[f64; 2]]) {
    let sum =
        |a: usize, b: usize| -> f64 { map.iter().zip(target).map(|(m, t)| m[a] * t[b]).sum() };
    let (xx, xy, yx, yy) = (sum(0, 0), sum(0, 1), sum(1, 0), sum(1, 1));
    // Of all rotations the best has trace hypot(xx + yy, xy − yx), of all reflections hypot(xx − yy, xy + yx).
    let (turn, flip) = ((xx + yy).hypot(xy - yx), (xx - yy).hypot(xy + yx));
    let (c, s, mirror) = if turn >= flip {
        (xx + yy, xy - yx, 1.0)
    } else {
        (xx - yy, xy + yx, -1.0)
    };
    let length = c.hypot(s);
    if length == 0.0 {
        return;
    }
    let (c, s) = (c / length, s / length);
    for point in map {
        let (x, y) = (point[0], mirror * point[1]);
        *point = [c * x - s * y, s * x + c * y];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corners() -> Features {
        let angles = [0.0f32, 0.2, 1.5, 1.7, 3.0, 3.2, 4.4];
        let values = angles.iter().flat_map(|a| [a.cos(), a.sin()]).collect();
        Features::new(2, values, vec![0; 7]).unwrap()
    }

    #[test]
    fn cosines_are_those_of_the_angles() {
        let matrix = cosines(&corners()).unwrap();
        assert!((matrix[1] - 0.2f32.cos()).abs() < 1e-6 && matrix[1] == matrix[7]);
        assert!((matrix[0] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_plane_is_found_again_up_to_a_turn() {
        let features = corners();
        let matrix = cosines(&features).unwrap();
        let maps = follow(7, &[&matrix, &matrix]).unwrap();
        assert_eq!(maps.len(), 2);
        for map in &maps {
            for i in 0..7 {
                for j in 0..7 {
                    let found = (map[i][0] - map[j][0]).hypot(map[i][1] - map[j][1]);
                    let (a, b) = (features.row(i), features.row(j));
                    let expected = (a[0] - b[0]).hypot(a[1] - b[1]);
                    assert!(
                        (found - expected).abs() < 1e-4,
                        "{i} {j}: {found} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_turned_and_mirrored_map_is_turned_back() {
        let target: Vec<[f64; 2]> = vec![[1.0, 0.0], [0.0, 2.0], [-3.0, 1.0], [0.5, -1.0]];
        for mirror in [1.0, -1.0] {
            let (s, c) = 2.1f64.sin_cos();
            let mut map: Vec<[f64; 2]> = target
                .iter()
                .map(|p| [c * p[0] - s * mirror * p[1], s * p[0] + c * mirror * p[1]])
                .collect();
            turn_towards(&mut map, &target);
            for (found, expected) in map.iter().zip(&target) {
                assert!((found[0] - expected[0]).abs() < 1e-12);
                assert!((found[1] - expected[1]).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn wrong_sizes_are_refused_and_one_point_stays_one() {
        assert!(
            follow(3, &[&[1.0; 8]])
                .unwrap_err()
                .to_string()
                .contains("9 numbers, got 8")
        );
        let maps = follow(2, &[&[1.0; 4]]).unwrap();
        assert_eq!(maps[0], [[0.0; 2]; 2]);
    }
}
