//! Eigenvalues of symmetric matrices in f64: Householder's reduction to three diagonals, then implicit QL; and a small Jacobi
//! with vectors. Golub & Van Loan, "Matrix Computations", sections 8.3 and 8.5.

use rayon::prelude::*;

/// The eigenvalues of a symmetric n × n matrix (row by row; its contents are used up), in no particular order.
///
/// O(n³); each step works on whole rows, in parallel, with sums whose order does not depend on the number of threads.
pub(crate) fn eigenvalues(mut matrix: Vec<f64>, n: usize) -> Vec<f64> {
    let (diagonal, off) = tridiagonal(&mut matrix, n);
    drop(matrix);
    ql(diagonal, off)
}

/// Diagonal and subdiagonal (as long, its last entry 0) of a similar matrix with three diagonals.
fn tridiagonal(a: &mut [f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut diagonal, mut off) = (vec![0.0; n], vec![0.0; n]);
    // The update A − v wᵀ − w vᵀ of the step before, applied on the way through the rows.
    let (mut v, mut w) = (vec![0.0; n], vec![0.0; n]);
    for k in 0..n {
        update(&mut a[k * n..][..n], &v, &w, k, k);
        let row = &a[k * n..][..n];
        diagonal[k] = row[k];
        if k + 1 == n {
            break;
        }
        // The reflection I − β u uᵀ that takes row[k+1..] to (alpha, 0, …, 0).
        let length = dot(&row[k + 1..], &row[k + 1..]).sqrt();
        let alpha = if row[k + 1] > 0.0 { -length } else { length };
        off[k] = alpha;
        let mut u = vec![0.0; n];
        u[k + 1..].copy_from_slice(&row[k + 1..]);
        u[k + 1] -= alpha;
        let squares = dot(&u[k + 1..], &u[k + 1..]);
        let beta = if squares > 0.0 { 2.0 / squares } else { 0.0 };

        let mut p = vec![0.0; n]; // β A u
        let rows = a[(k + 1) * n..]
            .par_chunks_mut(n)
            .zip(p[k + 1..].par_iter_mut())
            .enumerate();
        rows.with_min_len(16).for_each(|(i, (row, p))| {
            update(row, &v, &w, k + 1 + i, k + 1);
            *p = beta * dot(&row[k + 1..], &u[k + 1..]);
        });
        let half = beta / 2.0 * dot(&p, &u);
        w = p.iter().zip(&u).map(|(p, u)| p - half * u).collect();
        v = u;
    }
    (diagonal, off)
}

/// row_i ← row_i − v_i w − w_i v, from column `from`.
fn update(row: &mut [f64], v: &[f64], w: &[f64], i: usize, from: usize) {
    let (vi, wi) = (v[i], w[i]);
    for ((x, v), w) in row[from..].iter_mut().zip(&v[from..]).zip(&w[from..]) {
        *x -= vi * w + wi * v;
    }
}

/// An inner product in eight interleaved sums: fast, and always in the same order.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sums = [0f64; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

/// Eigenvalues of a symmetric matrix with three diagonals, by QL steps with implicit shifts.
fn ql(mut d: Vec<f64>, mut e: Vec<f64>) -> Vec<f64> {
    let n = d.len();
    let scale = d
        .iter()
        .chain(&e)
        .fold(0f64, |largest, x| largest.max(x.abs()));
    let negligible = f64::EPSILON * f64::EPSILON * scale;
    for l in 0..n {
        // Each eigenvalue takes two or three steps; the bound only guards against endless rounding.
        for _ in 0..60 {
            let small = |m: usize| {
                e[m].abs() <= f64::EPSILON * (d[m].abs() + d[m + 1].abs())
                    || e[m].abs() <= negligible
            };
            let m = (l..n - 1).find(|&m| small(m)).unwrap_or(n - 1);
            if m == l {
                break;
            }
            let mut g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let r = g.hypot(1.0);
            g = d[m] - d[l] + e[l] / (g + r.copysign(g));
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut split = false;
            for i in (l..m).rev() {
                let (f, b) = (s * e[i], c * e[i]);
                let r = f.hypot(g);
                e[i + 1] = r;
                if r == 0.0 {
                    d[i + 1] -= p;
                    e[m] = 0.0;
                    split = true;
                    break;
                }
                (s, c) = (f / r, g / r);
                g = d[i + 1] - p;
                let t = (d[i] - g) * s + 2.0 * c * b;
                p = s * t;
                d[i + 1] = g + p;
                g = c * t - b;
            }
            if !split {
                d[l] -= p;
                e[l] = g;
                e[m] = 0.0;
            }
        }
    }
    d
}

/// Eigenvalues, largest first, and eigenvectors (`vectors[j]` belongs to value j) of a small symmetric matrix.
pub(crate) fn jacobi(mut a: Vec<Vec<f64>>) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = a.len();
    let mut rows: Vec<Vec<f64>> = (0..n)
        .map(|i| (0..n).map(|j| f64::from(i == j)).collect())
        .collect();
    let total: f64 = a.iter().flatten().map(|x| x * x).sum();
    for _ in 0..50 {
        let outside: f64 = (0..n)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| a[i][j] * a[i][j])
            .sum();
        if outside <= 1e-32 * total {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q] == 0.0 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = 1.0_f64.copysign(theta) / (theta.abs() + theta.hypot(1.0));
                let c = 1.0 / t.hypot(1.0);
                let s = t * c;
                for row in &mut a {
                    (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                }
                for j in 0..n {
                    let (x, y) = (a[p][j], a[q][j]);
                    (a[p][j], a[q][j]) = (c * x - s * y, s * x + c * y);
                    let (x, y) = (rows[p][j], rows[q][j]);
                    (rows[p][j], rows[q][j]) = (c * x - s * y, s * x + c * y);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[j][j].total_cmp(&a[i][i]));
    (
        order.iter().map(|&i| a[i][i]).collect(),
        order
            .iter()
            .map(|&i| std::mem::take(&mut rows[i]))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(mut values: Vec<f64>) -> Vec<f64> {
        values.sort_by(f64::total_cmp);
        values
    }

    fn assert_close(got: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(got.len(), expected.len());
        for (g, e) in got.iter().zip(expected) {
            assert!((g - e).abs() <= tolerance, "{got:?} {expected:?}");
        }
    }

    #[test]
    fn small_matrices_by_hand() {
        assert_close(
            &sorted(eigenvalues(vec![2.0, 1.0, 1.0, 2.0], 2)),
            &[1.0, 3.0],
            1e-15,
        );
        assert_close(&eigenvalues(vec![5.0], 1), &[5.0], 0.0);
        assert_close(&eigenvalues(vec![0.0; 9], 3), &[0.0; 3], 0.0);
        assert_close(
            &sorted(eigenvalues(vec![1.0; 16], 4)),
            &[0.0, 0.0, 0.0, 4.0],
            1e-14,
        );
        let diagonal = vec![3.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 2.0];
        assert_close(&sorted(eigenvalues(diagonal, 3)), &[-1.0, 2.0, 3.0], 1e-15);
    }

    #[test]
    fn second_differences_have_known_eigenvalues() {
        let n = 37;
        let mut a = vec![0.0; n * n];
        for i in 0..n {
            a[i * n + i] = 2.0;
            if i + 1 < n {
                a[i * n + i + 1] = -1.0;
                a[(i + 1) * n + i] = -1.0;
            }
        }
        let angle = |k: usize| std::f64::consts::PI * k as f64 / (n + 1) as f64;
        let expected: Vec<f64> = (1..=n).map(|k| 2.0 - 2.0 * angle(k).cos()).collect();
        assert_close(&sorted(eigenvalues(a, n)), &expected, 1e-13);
    }

    #[test]
    fn both_methods_agree_on_a_full_matrix_and_jacobi_vectors_are_eigenvectors() {
        let n = 24;
        let entry = |i: usize, j: usize| ((i * j + i + j) as f64 * 0.7).sin();
        let rows: Vec<Vec<f64>> = (0..n)
            .map(|i| (0..n).map(|j| entry(i, j)).collect())
            .collect();
        let (values, vectors) = jacobi(rows.clone());
        let mut other = sorted(eigenvalues(rows.concat(), n));
        other.reverse();
        assert_close(&values, &other, 1e-12);
        for (value, vector) in values.iter().zip(&vectors) {
            for (row, x) in rows.iter().zip(vector) {
                assert!((dot(row, vector) - value * x).abs() < 1e-12);
            }
        }
    }
}
