//! What happens inside one tile of the similarity matrix, between its matrix products.
//!
//! A tile is `[R, C]` products a_i·c_j, row by row. Masked entries become −∞ before any maximum is taken, so that they weigh
//! nothing and cannot push others out of range.

use super::lanes::{exp, largest, softplus, sum, sum_of, vectorised};
use super::sides::Mask;

/// The groups of a tile's rows and columns, and where its anchors meet themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) rows: &'a [u32],
    pub(super) columns: &'a [u32],
    /// Row r is column r + `own`, as far as that lies in the tile.
    pub(super) own: Option<isize>,
    /// 1/τ.
    pub(super) scale: f32,
}

impl Place<'_> {
    /// The column that is row r itself.
    #[inline(always)]
    fn own(&self, row: usize) -> Option<usize> {
        let column = usize::try_from(row as isize + self.own?).ok()?;
        (column < self.columns.len()).then_some(column)
    }

    /// s = product / τ where the mask holds, −∞ elsewhere.
    pub(super) fn logits(&self, products: &[f32], mask: Mask, logits: &mut Vec<f32>) {
        logits.resize(products.len(), 0.0);
        vectorised(
            #[inline(always)]
            || {
                let width = self.columns.len();
                let rows = logits
                    .chunks_exact_mut(width)
                    .zip(products.chunks_exact(width));
                for (r, (out, row)) in rows.enumerate() {
                    let group = self.rows[r];
                    match mask {
                        Mask::All | Mask::Others => {
                            for (out, &product) in out.iter_mut().zip(row) {
                                *out = product * self.scale;
                            }
                        }
                        Mask::Same => {
                            for ((out, &product), &other) in
                                out.iter_mut().zip(row).zip(self.columns)
                            {
                                let kept = other == group;
                                *out = if kept {
                                    product * self.scale
                                } else {
                                    f32::NEG_INFINITY
                                };
                            }
                        }
                        Mask::Different => {
                            for ((out, &product), &other) in
                                out.iter_mut().zip(row).zip(self.columns)
                            {
                                let kept = other != group;
                                *out = if kept {
                                    product * self.scale
                                } else {
                                    f32::NEG_INFINITY
                                };
                            }
                        }
                    }
                    if let (Mask::Others | Mask::Same, Some(own)) = (mask, self.own(r)) {
                        out[own] = f32::NEG_INFINITY;
                    }
                }
            },
        );
    }

    /// G += g_i e^{s_ij − L_i} + g_j e^{s_ij − L_j} over logits: a log-sum-exp's gradient by rows and, if given, by columns.
    pub(super) fn softmax(
        &self,
        logits: &[f32],
        rows: Weights,
        columns: Option<Weights>,
        gradient: &mut [f32],
    ) {
        vectorised(
            #[inline(always)]
            || {
                let width = self.columns.len();
                let all = gradient
                    .chunks_exact_mut(width)
                    .zip(logits.chunks_exact(width));
                for (r, (out, row)) in all.enumerate() {
                    let (g, l) = (rows.upstream[r], rows.level[r]);
                    match columns {
                        None => {
                            for (out, &s) in out.iter_mut().zip(row) {
                                *out += g * exp(s - l);
                            }
                        }
                        Some(columns) => {
                            let columns = columns.upstream.iter().zip(columns.level);
                            for ((out, &s), (&g_j, &l_j)) in out.iter_mut().zip(row).zip(columns) {
                                *out += g * exp(s - l) + g_j * exp(s - l_j);
                            }
                        }
                    }
                }
            },
        );
    }

    /// Σ_j softplus(−y_ij (s_ij + b)) of each row, added to `sums`.
    pub(super) fn sigmoid_sums(&self, products: &[f32], bias: f32, sums: &mut [f64]) {
        vectorised(
            #[inline(always)]
            || {
                let width = self.columns.len();
                for (r, row) in products.chunks_exact(width).enumerate() {
                    let cost = |product: f32, other: u32, group: u32| {
                        let x = product * self.scale + bias;
                        softplus(if other == group { -x } else { x }).0
                    };
                    let group = self.rows[r];
                    let mut total = f64::from(sum_of(
                        row,
                        self.columns,
                        #[inline(always)]
                        |product, other| cost(product, other, group),
                    ));
                    if let Some(own) = self.own(r) {
                        total -= f64::from(cost(row[own], group, group));
                    }
                    sums[r] += total;
                }
            },
        );
    }

    /// As [`sigmoid_sums`](Self::sigmoid_sums), of each column.
    pub(super) fn sigmoid_column_sums(&self, products: &[f32], bias: f32, sums: &mut [f64]) {
        let mut totals = vec![0f32; sums.len()];
        vectorised(
            #[inline(always)]
            || {
                for (r, row) in products.chunks_exact(self.columns.len()).enumerate() {
                    let group = self.rows[r];
                    for ((total, &product), &other) in totals.iter_mut().zip(row).zip(self.columns)
                    {
                        let x = product * self.scale + bias;
                        *total += softplus(if other == group { -x } else { x }).0;
                    }
                }
            },
        );
        for (sum, total) in sums.iter_mut().zip(totals) {
            *sum += f64::from(total);
        }
    }

    /// G = (g_i + g_j) ∂softplus(−y x)/∂x: −σ(−x) within a group, σ(x) across; 0 where an anchor meets itself.
    pub(super) fn sigmoid_gradient(
        &self,
        products: &[f32],
        bias: f32,
        rows: &[f32],
        columns: Option<&[f32]>,
        gradient: &mut [f32],
    ) {
        let zeros;
        let columns = match columns {
            Some(columns) => columns,
            None => {
                zeros = vec![0f32; self.columns.len()];
                &zeros
            }
        };
        vectorised(
            #[inline(always)]
            || {
                let width = self.columns.len();
                let all = gradient
                    .chunks_exact_mut(width)
                    .zip(products.chunks_exact(width));
                for (r, (out, row)) in all.enumerate() {
                    let (group, g) = (self.rows[r], rows[r]);
                    let others = self.columns.iter().zip(columns);
                    for ((out, &product), (&other, &g_j)) in out.iter_mut().zip(row).zip(others) {
                        let x = product * self.scale + bias;
                        let sign = if other == group { -1.0 } else { 1.0 };
                        *out = (g + g_j) * sign * softplus(sign * x).1;
                    }
                    if let Some(own) = self.own(r) {
                        out[own] = 0.0;
                    }
                }
            },
        );
    }
}

/// The log-sum-exps L of rows (or columns) and the gradients g that come in for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights<'a> {
    pub(super) level: &'a [f32],
    pub(super) upstream: &'a [f32],
}

/// Running log-sum-exps of a block of rows: the largest logit so far, and Σ exp(s − largest).
#[derive(Clone, Debug, Default)]
pub(super) struct Running {
    largest: Vec<f32>,
    sum: Vec<f64>,
}

impl Running {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            largest: vec![f32::NEG_INFINITY; rows],
            sum: vec![0.0; rows],
        }
    }

    /// Takes in a tile's rows.
    pub(super) fn rows(&mut self, logits: &[f32], width: usize) {
        for (r, row) in logits.chunks_exact(width).enumerate() {
            let (top, total) = vectorised(
                #[inline(always)]
                || {
                    let top = largest(row);
                    let level = if top > f32::NEG_INFINITY { top } else { 0.0 };
                    (
                        top,
                        sum(
                            row,
                            #[inline(always)]
                            |s| exp(s - level),
                        ),
                    )
                },
            );
            self.merge(r, top, total);
        }
    }

    /// Takes in a tile's columns.
    pub(super) fn columns(&mut self, logits: &[f32], width: usize) {
        let mut tops = vec![f32::NEG_INFINITY; width];
        let mut totals = vec![0f32; width];
        vectorised(
            #[inline(always)]
            || {
                for row in logits.chunks_exact(width) {
                    for (top, &s) in tops.iter_mut().zip(row) {
                        *top = if s > *top { s } else { *top };
                    }
                }
                let levels: Vec<f32> = tops
                    .iter()
                    .map(|&top| if top > f32::NEG_INFINITY { top } else { 0.0 })
                    .collect();
                for row in logits.chunks_exact(width) {
                    for ((total, &s), &level) in totals.iter_mut().zip(row).zip(&levels) {
                        *total += exp(s - level);
                    }
                }
            },
        );
        for (c, (top, total)) in tops.into_iter().zip(totals).enumerate() {
            self.merge(c, top, total);
        }
    }

    fn merge(&mut self, row: usize, top: f32, total: f32) {
        if total == 0.0 {
            return; // all masked
        }
        let (largest, sum) = (&mut self.largest[row], &mut self.sum[row]);
        // Where a NaN came in, the maxima are of what was comparable and the sum is NaN.
        if top > *largest {
            let factor = if *sum == 0.0 {
                0.0
            } else {
                f64::from(*largest - top).exp()
            };
            *sum = *sum * factor + f64::from(total);
            *largest = top;
        } else if top > f32::NEG_INFINITY {
            *sum += f64::from(total) * f64::from(top - *largest).exp();
        } else {
            *sum = f64::NAN;
        }
    }

    /// ln Σ exp of each row; 0 for a row that nothing came in for.
    pub(super) fn finish(&self) -> impl Iterator<Item = f32> {
        self.largest.iter().zip(&self.sum).map(|(&largest, &sum)| {
            if sum == 0.0 {
                0.0
            } else if largest > f32::NEG_INFINITY {
                (f64::from(largest) + sum.ln()) as f32
            } else {
                f32::NAN
            }
        })
    }
}
