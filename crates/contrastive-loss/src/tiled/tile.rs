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

    /// ln σ(s), or with `SLOPES` ln σ(s)σ(−s), of the anchor's group but itself, −∞ elsewhere.
    pub(super) fn log_shares<const SLOPES: bool>(&self, products: &[f32], logits: &mut Vec<f32>) {
        self.logits(products, Mask::Same, logits);
        vectorised(
            #[inline(always)]
            || {
                for s in logits.iter_mut() {
                    let slope = if SLOPES { softplus(*s).0 } else { 0.0 };
                    *s = -softplus(-*s).0 - slope;
                }
            },
        );
    }

    /// G = g_i e^{ln σ(s_ij) − L_i} σ(−s_ij) within the anchor's group, 0 across and where the anchor meets itself.
    pub(super) fn share_gradient(&self, products: &[f32], rows: Weights, gradient: &mut [f32]) {
        vectorised(
            #[inline(always)]
            || {
                let width = self.columns.len();
                let all = gradient
                    .chunks_exact_mut(width)
                    .zip(products.chunks_exact(width));
                for (r, (out, row)) in all.enumerate() {
                    let (group, g, l) = (self.rows[r], rows.upstream[r], rows.level[r]);
                    for ((out, &product), &other) in out.iter_mut().zip(row).zip(self.columns) {
                        let (cost, slope) = softplus(-product * self.scale); // −ln σ(s), σ(−s)
                        let kept = if other == group { g } else { 0.0 };
                        *out = kept * slope * exp(if other == group { -cost - l } else { 0.0 });
                    }
                    if let Some(own) = self.own(r) {
                        out[own] = 0.0;
                    }
                }
            },
        );
    }

    /// Σ_j softplus(−y_ij s_ij), or with `SLOPES` Σ_j σ(−y_ij s_ij), of each row, over its group or (`across`) over all, added to `sums`;
    /// the anchor itself left out.
    pub(super) fn costs<const SLOPES: bool>(
        &self,
        products: &[f32],
        across: bool,
        sums: &mut [f64],
    ) {
        let far = if across { 1.0f32 } else { 0.0 };
        vectorised(
            #[inline(always)]
            || {
                let width = self.columns.len();
                for (r, row) in products.chunks_exact(width).enumerate() {
                    let group = self.rows[r];
                    let total = |part: std::ops::Range<usize>| {
                        f64::from(sum_of(
                            &row[part.clone()],
                            &self.columns[part],
                            #[inline(always)]
                            |product, other| {
                                let x = product * self.scale;
                                let same = other == group;
                                let weight = if same { 1.0 } else { far };
                                let (cost, slope) = softplus(if same { -x } else { x });
                                weight * if SLOPES { slope } else { cost }
                            },
                        ))
                    };
                    sums[r] += match self.own(r) {
                        None => total(0..width),
                        Some(own) => total(0..own) + total(own + 1..width),
                    };
                }
            },
        );
    }

    /// G = g_i ∂softplus(−y s)/∂s: −σ(−s) within a group, σ(s) (`across`) or 0 across; 0 where an anchor meets itself.
    pub(super) fn cost_gradient(
        &self,
        products: &[f32],
        across: bool,
        rows: &[f32],
        gradient: &mut [f32],
    ) {
        let far = if across { 1.0f32 } else { 0.0 };
        vectorised(
            #[inline(always)]
            || {
                let width = self.columns.len();
                let all = gradient
                    .chunks_exact_mut(width)
                    .zip(products.chunks_exact(width));
                for (r, (out, row)) in all.enumerate() {
                    let (group, g) = (self.rows[r], rows[r]);
                    for ((out, &product), &other) in out.iter_mut().zip(row).zip(self.columns) {
                        let x = product * self.scale;
                        let sign = if other == group { -1.0 } else { 1.0 };
                        let weight = if other == group { -1.0 } else { far };
                        *out = g * weight * softplus(sign * x).1;
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
