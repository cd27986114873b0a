//! What L-BFGS needs to know of a logistic regression's curvature beforehand.
//!
//! With p = softmax(z), the Hessian of the mean loss over parameters `[C, D]` is
//! `1/N · Σᵢ (diag pᵢ − pᵢpᵢᵀ) ⊗ f̃ᵢf̃ᵢᵀ + λI`. Its mean over the classes' own blocks, one matrix for every class,
//! `A = 1/S · Σᵢ wᵢ·f̃ᵢf̃ᵢᵀ + λI` with `wᵢ = (1 − Σ_c p_{ic}²) / C` over S rows spread evenly over the features, is close
//! enough that tens of iterations do where hundreds would be needed without it. It decides how fast the optimum is reached,
//! never where it is; so f32 products are exact enough.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::error::Result;

/// Right-hand sides solved at a time: the lanes of a vector.
const LANES: usize = 8;
/// Rows of the factor worked on at a time.
const PANEL: usize = 32;

/// `A = L·Lᵀ`, and the curvature of a bias.
pub(crate) struct Curvature {
    dim: usize,
    /// L, row by row; above the diagonal lies what A had there.
    factor: Vec<f64>,
    bias: f64,
}

impl Curvature {
    /// From rows `√wᵢ·f̃ᵢ`, `[S, D]` row by row, and Σᵢ wᵢ.
    pub fn new(rows: Vec<f32>, dim: usize, weight: f64, lambda: f64) -> Result<Self> {
        let count = rows.len() / dim;
        let rows = Tensor::from_vec(rows, (count, dim), &Device::Cpu)?;
        let gram = rows.t()?.matmul(&rows)?.flatten_all()?.to_vec1::<f32>()?;
        let mut factor: Vec<f64> = gram
            .into_iter()
            .map(|x| f64::from(x) / count as f64)
            .collect();
        // Far below any curvature that matters, far above rounding.
        let trace: f64 = factor.iter().step_by(dim + 1).sum();
        let ridge = lambda + 1e-6 * trace / dim as f64 + f64::MIN_POSITIVE;
        for diagonal in factor.iter_mut().step_by(dim + 1) {
            *diagonal += ridge;
        }
        decompose(&mut factor, dim);
        Ok(Self {
            dim,
            factor,
            bias: weight / count as f64 + f64::MIN_POSITIVE,
        })
    }

    /// `A⁻¹` on each row of W, `[C, D]`, and the bias by its own: `[C, D]` then `[C]` as they came.
    pub fn solve(&self, gradient: &[f64]) -> Vec<f64> {
        let classes = gradient.len() / (self.dim + 1);
        let mut solved = gradient.to_vec();
        let (weights, bias) = solved.split_at_mut(classes * self.dim);
        weights
            .par_chunks_mut(LANES * self.dim)
            .for_each(|rows| self.solve_lanes(rows));
        bias.iter_mut().for_each(|b| *b /= self.bias);
        solved
    }

    /// At most [`LANES`] rows of W, side by side.
    fn solve_lanes(&self, rows: &mut [f64]) {
        let dim = self.dim;
        let mut x = vec![[0.0; LANES]; dim];
        for (lane, row) in rows.chunks(dim).enumerate() {
            x.iter_mut().zip(row).for_each(|(x, &r)| x[lane] = r);
        }
        for i in 0..dim {
            let (before, here) = x.split_at_mut(i);
            let row = &self.factor[i * dim..][..=i];
            let mut sum = here[0];
            for (l, x) in row.iter().zip(&*before) {
                (0..LANES).for_each(|k| sum[k] -= l * x[k]);
            }
            here[0] = sum.map(|s| s / row[i]);
        }
        for i in (0..dim).rev() {
            let (before, here) = x.split_at_mut(i);
            let row = &self.factor[i * dim..][..=i];
            here[0] = here[0].map(|s| s / row[i]);
            for (l, x) in row.iter().zip(before) {
                (0..LANES).for_each(|k| x[k] -= l * here[0][k]);
            }
        }
        for (lane, row) in rows.chunks_mut(dim).enumerate() {
            row.iter_mut().zip(&x).for_each(|(r, x)| *r = x[lane]);
        }
    }
}

/// Cholesky's factor of the positive definite `[D, D]` in its lower triangle (Golub & Van Loan, *Matrix Computations*,
/// section 4.2, row by row). Rows of a panel need only finished panels and one another's corner, so the panels' rows go in
/// parallel, and every element is one sum in one order.
fn decompose(matrix: &mut [f64], dim: usize) {
    for start in (0..dim).step_by(PANEL) {
        let (done, rest) = matrix.split_at_mut(start * dim);
        let panel = &mut rest[..PANEL.min(dim - start) * dim];
        panel.par_chunks_mut(dim).for_each(|row| {
            for j in 0..start {
                let other = &done[j * dim..][..=j];
                row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
            }
        });
        for i in 0..panel.len() / dim {
            let (above, row) = panel.split_at_mut(i * dim);
            let row = &mut row[..dim];
            for (j, other) in above.chunks(dim).enumerate() {
                let j = start + j;
                row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
            }
            let i = start + i;
            row[i] = (row[i] - dot(&row[..i], &row[..i])).sqrt();
        }
    }
}

/// ⟨a, b⟩ as eight sums.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder());
    let rest: f64 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        (0..LANES).for_each(|k| sums[k] += a[k] * b[k]);
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_solved_gives_back_the_right_hand_side() {
        // Three panels, the last one short; more classes than lanes.
        let (dim, count, classes, lambda) = (2 * PANEL + 5, 40, LANES + 3, 0.01);
        let mut state = 1u64;
        let mut draw = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let rows: Vec<f32> = (0..count * dim).map(|_| draw()).collect();
        let curvature = Curvature::new(rows.clone(), dim, 3.0, lambda).unwrap();
        let gradient: Vec<f64> = (0..classes * (dim + 1))
            .map(|_| f64::from(draw()))
            .collect();
        let solved = curvature.solve(&gradient);
        let (weights, bias) = solved.split_at(classes * dim);
        for (found, given) in weights.chunks(dim).zip(gradient.chunks(dim)) {
            let mut back: Vec<f64> = found.iter().map(|x| lambda * x).collect();
            for row in rows.chunks(dim) {
                let along: f64 = row.iter().zip(found).map(|(&r, x)| f64::from(r) * x).sum();
                for (back, &r) in back.iter_mut().zip(row) {
                    *back += f64::from(r) * along / count as f64;
                }
            }
            for (back, given) in back.iter().zip(given) {
                // The ridge is 1e-6 of the mean curvature, A's smallest eigenvalue λ.
                assert!((back - given).abs() < 1e-3, "{back} {given}");
            }
        }
        for (found, given) in bias.iter().zip(&gradient[classes * dim..]) {
            assert!((found * 3.0 / count as f64 - given).abs() < 1e-12);
        }
    }

    #[test]
    fn no_curvature_at_all_is_survived() {
        let curvature = Curvature::new(vec![0.0; 6], 3, 0.0, 0.0).unwrap();
        assert!(curvature.factor.iter().all(|l| !l.is_nan()));
    }
}
