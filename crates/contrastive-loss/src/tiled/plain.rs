//! The same sums by plain Candle operators, a tile at a time: on GPUs, for f64, and as the fast path's second oracle.

use std::ops::Range;

use candle_core::{D, DType, Tensor};

use super::cpu::overlap;
use super::sides::{Mask, Sides, Terms};
use crate::Result;
use crate::similarity::one_where_zero;

/// Rows and columns of a tile: 4M entries keep a GPU busy and take 16 MB.
const SIDE: usize = 2048;

/// A problem on any device: anchors `[N, D]`, candidates `[M, D]`.
pub(super) struct Plain<'a> {
    sides: &'a Sides,
    terms: &'a Terms,
    scale: f64,
    anchors: &'a Tensor,
    candidates: &'a Tensor,
    row_groups: Tensor,    // [N, 1]
    column_groups: Tensor, // [1, M]
    side: usize,
}

/// Log-sum-exps (or sums) of a row and the gradients that come in for them.
struct Weights {
    level: Tensor,
    upstream: Tensor,
}

impl<'a> Plain<'a> {
    pub(super) fn new(
        sides: &'a Sides,
        terms: &'a Terms,
        scale: f64,
        anchors: &'a Tensor,
        candidates: &'a Tensor,
    ) -> Result<Self> {
        let device = anchors.device();
        let (n, m) = (sides.anchors.len(), sides.columns().len());
        Ok(Self {
            sides,
            terms,
            scale,
            anchors,
            candidates,
            row_groups: Tensor::from_slice(&sides.anchors, (n, 1), device)?,
            column_groups: Tensor::from_slice(sides.columns(), (1, m), device)?,
            side: SIDE,
        })
    }

    /// Smaller tiles, so that tests meet many of them.
    #[cfg(test)]
    pub(super) fn with_side(mut self, side: usize) -> Self {
        self.side = side;
        self
    }

    /// `[N, K]`: the sums of every row.
    pub(super) fn forward(&self) -> Result<Tensor> {
        let mut rows = Vec::new();
        for row in self.starts(self.sides.anchors.len()) {
            let mut terms = Vec::new();
            match self.terms {
                Terms::LogSumExp(masks) => {
                    for &mask in masks {
                        terms.push(self.log_sum_exp(row, mask, Ok)?);
                    }
                }
                Terms::PositiveShares => {
                    terms.push(self.log_sum_exp(row, Mask::Same, |s| log_sigmoid(&s))?);
                    let slope = |s: Tensor| -> Result<Tensor> {
                        Ok((log_sigmoid(&s)? + log_sigmoid(&s.neg()?)?)?)
                    };
                    terms.push(self.log_sum_exp(row, Mask::Same, slope)?);
                }
                Terms::PairCosts | Terms::PositiveCosts => {
                    let (mut costs, mut slopes) = (None, None);
                    for column in self.starts(self.sides.columns().len()) {
                        let (x, weight) = self.cost_tile(row, column)?;
                        let weight = weight.abs()?;
                        let cost = (log_sigmoid(&x.neg()?)?.neg()? * &weight)?;
                        costs = plus(costs, cost.sum_keepdim(1)?)?;
                        if *self.terms == Terms::PositiveCosts {
                            let slope = (sigmoid(&x)? * weight)?;
                            slopes = plus(slopes, slope.sum_keepdim(1)?)?;
                        }
                    }
                    terms.extend(costs.into_iter().chain(slopes));
                }
            }
            rows.push(Tensor::cat(&terms, 1)?); // [R, K]
        }
        Ok(Tensor::cat(&rows, 0)?)
    }

    /// Running maximum and sum of what `of` makes of the logits, over the tiles of a block of rows → `[R, 1]`.
    fn log_sum_exp(
        &self,
        row: usize,
        mask: Mask,
        of: impl Fn(Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut running: Option<(Tensor, Tensor)> = None;
        for column in self.starts(self.sides.columns().len()) {
            let logits = of(self.logits(row, column)?)?; // [R, C]
            let mask = self.mask(row, column, mask)?;
            let least = match logits.dtype() {
                DType::F64 => logits.ones_like()?.affine(f64::MIN, 0.0)?,
                _ => logits.ones_like()?.affine(f64::from(f32::MIN), 0.0)?,
            };
            let top = mask.where_cond(&logits, &least)?.max_keepdim(1)?; // [R, 1]
            let top = match &running {
                Some((earlier, _)) => earlier.maximum(&top)?,
                None => top,
            };
            let weights = mask.to_dtype(logits.dtype())?;
            // Masked entries are set to the maximum before they weigh nothing: no exponential overflows.
            let shifted = mask.where_cond(&logits.broadcast_sub(&top)?, &logits.zeros_like()?)?;
            let mut sum = (shifted.exp()? * weights)?.sum_keepdim(1)?;
            if let Some((earlier, total)) = running {
                sum = (sum + (total * (earlier - &top)?.exp()?)?)?;
            }
            running = Some((top, sum));
        }
        let (top, sum) = running.ok_or(crate::Error::Empty {
            what: "candidates",
            shape: self.candidates.dims().to_vec(),
        })?;
        let empty = sum.eq(0f64)?;
        let top = empty.where_cond(&top.zeros_like()?, &top)?;
        Ok((one_where_zero(&sum)?.log()? + top)?)
    }

    /// Gradients of Σ_ik upstream_ik · value_ik: values and upstream `[N, K]`.
    pub(super) fn backward(
        &self,
        values: &Tensor,
        upstream: &Tensor,
        wanted: (bool, bool),
    ) -> Result<super::cpu::Gradients> {
        let symmetric = self.sides.symmetric();
        let columns = self.starts(self.sides.columns().len());
        let (n, m) = (self.sides.anchors.len(), self.sides.columns().len());
        let lives = |start: usize, of: usize, live: &Range<usize>| {
            overlap(&(start..(start + self.side).min(of)), live)
        };
        let mut by_rows = Vec::new();
        let mut by_columns: Vec<Option<Tensor>> = vec![None; columns.len()];
        for row in self.starts(n) {
            let mut sum: Option<Tensor> = None;
            let by_row = wanted.0 && lives(row, n, &self.sides.live);
            for (index, &column) in columns.iter().enumerate() {
                let by_column =
                    wanted.1 && !symmetric && lives(column, m, &self.sides.live_columns);
                if !by_row && !by_column {
                    continue;
                }
                let gradient = self.gradient(row, column, values, upstream)?; // [R, C]
                if by_row {
                    let part = gradient.matmul(&self.block(self.candidates, column)?)?;
                    sum = plus(sum, part)?;
                }
                if by_column {
                    let part = gradient
                        .t()?
                        .contiguous()?
                        .matmul(&self.block(self.anchors, row)?)?;
                    by_columns[index] = plus(by_columns[index].take(), part)?;
                }
            }
            if wanted.0 {
                by_rows.push(match sum {
                    Some(sum) => sum,
                    None => self.block(self.anchors, row)?.zeros_like()?,
                });
            }
        }
        let mut columns_of = Vec::new();
        if wanted.1 && !symmetric {
            for (sum, &column) in by_columns.into_iter().zip(&columns) {
                columns_of.push(match sum {
                    Some(sum) => sum,
                    None => self.block(self.candidates, column)?.zeros_like()?,
                });
            }
        }
        let join = |parts: Vec<Tensor>| -> Result<Option<Tensor>> {
            match parts.is_empty() {
                true => Ok(None),
                false => Ok(Some(Tensor::cat(&parts, 0)?.affine(self.scale, 0.0)?)),
            }
        };
        Ok((join(by_rows)?, join(columns_of)?))
    }

    fn gradient(
        &self,
        row: usize,
        column: usize,
        values: &Tensor,
        upstream: &Tensor,
    ) -> Result<Tensor> {
        let symmetric = self.sides.symmetric();
        let weights = |start: usize, k: usize| -> Result<Weights> {
            Ok(Weights {
                level: self.block(values, start)?.narrow(1, k, 1)?,
                upstream: self.block(upstream, start)?.narrow(1, k, 1)?,
            })
        };
        match self.terms {
            Terms::LogSumExp(masks) => {
                let logits = self.logits(row, column)?;
                let mut gradient: Option<Tensor> = None;
                for (k, &mask) in masks.iter().enumerate() {
                    let mask = self.mask(row, column, mask)?;
                    let mut both = vec![weights(row, k)?];
                    if symmetric {
                        let w = weights(column, k)?;
                        both.push(Weights {
                            level: w.level.t()?,
                            upstream: w.upstream.t()?,
                        });
                    }
                    for w in both {
                        let shifted = logits.broadcast_sub(&w.level)?;
                        let zeros = shifted.zeros_like()?;
                        let softmax =
                            mask.where_cond(&mask.where_cond(&shifted, &zeros)?.exp()?, &zeros)?;
                        gradient = plus(gradient, softmax.broadcast_mul(&w.upstream)?)?;
                    }
                }
                gradient.ok_or_else(|| candle_core::Error::Msg("no terms".into()).into())
            }
            Terms::PositiveShares => {
                let s = self.logits(row, column)?;
                let mask = self.mask(row, column, Mask::Same)?;
                let w = weights(row, 0)?;
                let shifted = log_sigmoid(&s)?.broadcast_sub(&w.level)?;
                let zeros = shifted.zeros_like()?;
                let share = mask.where_cond(&mask.where_cond(&shifted, &zeros)?.exp()?, &zeros)?;
                Ok((share * sigmoid(&s.neg()?)?)?.broadcast_mul(&w.upstream)?)
            }
            Terms::PairCosts | Terms::PositiveCosts => {
                let (x, weight) = self.cost_tile(row, column)?;
                Ok((sigmoid(&x)? * weight)?.broadcast_mul(&weights(row, 0)?.upstream)?)
            }
        }
    }

    /// −y s, and −y with 0 in entries that do not count: `[R, C]` each.
    fn cost_tile(&self, row: usize, column: usize) -> Result<(Tensor, Tensor)> {
        let logits = self.logits(row, column)?;
        let same = self.same(row, column)?.to_dtype(logits.dtype())?;
        let sign = same.affine(-2.0, 1.0)?; // −1 within a group, 1 across
        let mask = match self.terms {
            Terms::PositiveCosts => Mask::Same,
            _ => Mask::Others,
        };
        let counted = self.mask(row, column, mask)?.to_dtype(logits.dtype())?;
        Ok(((logits * &sign)?, (sign * counted)?))
    }

    fn logits(&self, row: usize, column: usize) -> Result<Tensor> {
        let anchors = self.block(self.anchors, row)?;
        let candidates = self.block(self.candidates, column)?;
        Ok(anchors.matmul(&candidates.t()?)?.affine(self.scale, 0.0)?)
    }

    fn same(&self, row: usize, column: usize) -> Result<Tensor> {
        let rows = self.block(&self.row_groups, row)?;
        let width = self.side.min(self.sides.columns().len() - column);
        Ok(rows.broadcast_eq(&self.column_groups.narrow(1, column, width)?)?)
    }

    /// A mask as U8 `[R, C]`.
    fn mask(&self, row: usize, column: usize, mask: Mask) -> Result<Tensor> {
        let same = self.same(row, column)?;
        let (rows, columns) = same.dims2()?;
        let mask_of_others = || -> Result<Tensor> {
            let Some(own) = self.sides.own else {
                return Ok(same.ones_like()?);
            };
            let number = |start: usize, count: usize| {
                Tensor::arange(start as u32, (start + count) as u32, same.device())
            };
            let rows = number(row + own, rows)?.unsqueeze(D::Minus1)?;
            Ok(rows.broadcast_ne(&number(column, columns)?.unsqueeze(0)?)?)
        };
        match mask {
            Mask::All => Ok(same.ones_like()?),
            Mask::Others => mask_of_others(),
            Mask::Same => Ok((same.clone() * mask_of_others()?)?),
            Mask::Different => Ok(same.eq(0u8)?),
        }
    }

    fn block(&self, rows: &Tensor, start: usize) -> Result<Tensor> {
        Ok(rows.narrow(0, start, self.side.min(rows.dim(0)? - start))?)
    }

    fn starts(&self, rows: usize) -> Vec<usize> {
        (0..rows).step_by(self.side).collect()
    }
}

/// ln σ(s) = min(s, 0) − ln(1 + e^{−|s|}).
fn log_sigmoid(s: &Tensor) -> Result<Tensor> {
    let tail = (s.abs()?.neg()?.exp()? + 1.0)?.log()?;
    Ok((s.neg()?.relu()?.neg()? - tail)?)
}

/// σ(s) = 1 / (1 + e^{−s}); 1/∞ is 0.
fn sigmoid(s: &Tensor) -> Result<Tensor> {
    Ok((s.neg()?.exp()? + 1.0)?.recip()?)
}

fn plus(sum: Option<Tensor>, part: Tensor) -> Result<Option<Tensor>> {
    Ok(Some(match sum {
        Some(sum) => (sum + part)?,
        None => part,
    }))
}
