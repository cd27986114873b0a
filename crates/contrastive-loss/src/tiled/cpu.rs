//! The fast path: f32 on the CPU. One matrix product, one pass over the tile, and in the backward direction two products more.
//!
//! A symmetric matrix is visited on and above its diagonal only: a tile serves its rows and its columns.

use std::ops::Range;

use candle_core::{CpuStorage, Device, Storage, Tensor};

use super::schedule::{blocks, sweep_grid, sweep_symmetric};
use super::sides::{Sides, Terms};
use super::tile::{Place, Running, Weights};
use crate::Result;

/// Gradients of anchors and candidates; of candidates none where the anchors are the candidates.
pub(super) type Gradients = (Option<Tensor>, Option<Tensor>);

/// A problem on the CPU.
pub(super) struct Cpu<'a> {
    sides: &'a Sides,
    terms: &'a Terms,
    /// 1/τ.
    scale: f32,
    anchors: &'a Tensor,    // [N, D], contiguous f32
    candidates: &'a Tensor, // [M, D], contiguous f32
    rows: Vec<Range<usize>>,
    columns: Vec<Range<usize>>,
}

/// What a block of rows accumulates forward.
#[derive(Default)]
struct State {
    /// Log-sum-exps, one for each of the K columns.
    running: Vec<Running>,
    /// Sums, one for each of the K columns.
    sums: Vec<Vec<f64>>,
}

impl<'a> Cpu<'a> {
    /// Anchors `[N, D]` and candidates `[M, D]`, contiguous f32 on the CPU.
    pub(super) fn new(
        sides: &'a Sides,
        terms: &'a Terms,
        scale: f64,
        anchors: &'a Tensor,
        candidates: &'a Tensor,
    ) -> Self {
        Self {
            sides,
            terms,
            scale: scale as f32,
            anchors,
            candidates,
            rows: blocks(sides.anchors.len()),
            columns: blocks(sides.columns().len()),
        }
    }

    /// `[N, K]`: the sums of every row.
    pub(super) fn forward(&self) -> Result<Tensor> {
        let terms = self.terms.count();
        let fresh = |rows: usize| match self.terms {
            Terms::LogSumExp(_) | Terms::PositiveShares => State {
                running: vec![Running::new(rows); terms],
                sums: Vec::new(),
            },
            Terms::PairCosts | Terms::PositiveCosts => State {
                running: Vec::new(),
                sums: vec![vec![0.0; rows]; terms],
            },
        };
        let mut states: Vec<State> = self.rows.iter().map(|rows| fresh(rows.len())).collect();
        if self.sides.symmetric() {
            sweep_symmetric(
                &mut states,
                |_, _| true,
                |i, j, row, column| self.absorb(i, j, row, column),
            )?;
        } else {
            let mut columns = vec![(); self.columns.len()];
            sweep_grid(&mut states, &mut columns, |i, j, row, ()| {
                self.absorb(i, j, row, None)
            })?;
        }
        let mut values = vec![0f32; self.sides.anchors.len() * terms];
        for (state, rows) in states.iter().zip(&self.rows) {
            let block = &mut values[rows.start * terms..rows.end * terms];
            for (k, running) in state.running.iter().enumerate() {
                for (row, level) in running.finish().enumerate() {
                    block[row * terms + k] = level;
                }
            }
            for (k, sums) in state.sums.iter().enumerate() {
                for (row, &sum) in sums.iter().enumerate() {
                    block[row * terms + k] = sum as f32;
                }
            }
        }
        Ok(Tensor::from_vec(
            values,
            (self.sides.anchors.len(), terms),
            &Device::Cpu,
        )?)
    }

    fn absorb(
        &self,
        i: usize,
        j: usize,
        row: &mut State,
        column: Option<&mut State>,
    ) -> Result<()> {
        let tile = self.tile(i, j)?;
        let place = self.place(i, j);
        let width = place.columns.len();
        with_f32(&tile, |products| match self.terms {
            Terms::LogSumExp(masks) => {
                let mut logits = Vec::new();
                let mut column = column;
                for (k, &mask) in masks.iter().enumerate() {
                    place.logits(products, mask, &mut logits);
                    row.running[k].rows(&logits, width);
                    if let Some(column) = &mut column {
                        column.running[k].columns(&logits, width);
                    }
                }
            }
            Terms::PositiveShares => {
                let mut shares = Vec::new();
                place.log_shares::<false>(products, &mut shares);
                row.running[0].rows(&shares, width);
                place.log_shares::<true>(products, &mut shares);
                row.running[1].rows(&shares, width);
            }
            Terms::PairCosts => place.costs::<false>(products, true, &mut row.sums[0]),
            Terms::PositiveCosts => {
                place.costs::<false>(products, false, &mut row.sums[0]);
                place.costs::<true>(products, false, &mut row.sums[1]);
            }
        })
    }

    /// Gradients of Σ_ik upstream_ik · value_ik: values and upstream `[N, K]`.
    pub(super) fn backward(
        &self,
        values: &Tensor,
        upstream: &Tensor,
        wanted: (bool, bool),
    ) -> Result<Gradients> {
        let by_term = |tensor: &Tensor| -> Result<Vec<Vec<f32>>> {
            Ok(tensor.t()?.to_vec2::<f32>()?) // K × N
        };
        let (values, upstream) = (by_term(values)?, by_term(upstream)?);
        let (n, width) = self.anchors.dims2()?;
        let zeros = |blocks: &[Range<usize>], wanted: bool| -> Vec<Vec<f32>> {
            let length = |rows: &Range<usize>| if wanted { rows.len() * width } else { 0 };
            blocks.iter().map(|rows| vec![0f32; length(rows)]).collect()
        };
        if self.sides.symmetric() {
            let mut sums = zeros(&self.rows, true);
            let lives = |i: usize| overlap(&self.rows[i], &self.sides.live);
            sweep_symmetric(
                &mut sums,
                |i, j| lives(i) || lives(j),
                |i, j, row, column| {
                    let gradient = self.gradient(i, j, &values, &upstream)?;
                    if lives(i) {
                        add(row, &gradient.matmul(&self.candidate_block(j)?)?)?;
                    }
                    if let Some(column) = column.filter(|_| lives(j)) {
                        add(column, &gradient.t()?.matmul(&self.anchor_block(i)?)?)?;
                    }
                    Ok(())
                },
            )?;
            return Ok((Some(self.finish(sums, n)?), None));
        }
        let m = self.sides.columns().len();
        let mut rows = zeros(&self.rows, wanted.0);
        let mut columns = zeros(&self.columns, wanted.1);
        sweep_grid(&mut rows, &mut columns, |i, j, row, column| {
            let by_row = wanted.0 && overlap(&self.rows[i], &self.sides.live);
            let by_column = wanted.1 && overlap(&self.columns[j], &self.sides.live_columns);
            if !by_row && !by_column {
                return Ok(());
            }
            let gradient = self.gradient(i, j, &values, &upstream)?;
            if by_row {
                add(row, &gradient.matmul(&self.candidate_block(j)?)?)?;
            }
            if by_column {
                add(column, &gradient.t()?.matmul(&self.anchor_block(i)?)?)?;
            }
            Ok(())
        })?;
        let finish = |wanted: bool, sums, rows| -> Result<Option<Tensor>> {
            wanted.then(|| self.finish(sums, rows)).transpose()
        };
        Ok((finish(wanted.0, rows, n)?, finish(wanted.1, columns, m)?))
    }

    /// ∂/∂(a_i·c_j) of a tile, less the factor 1/τ.
    fn gradient(
        &self,
        i: usize,
        j: usize,
        values: &[Vec<f32>],
        upstream: &[Vec<f32>],
    ) -> Result<Tensor> {
        let tile = self.tile(i, j)?;
        let place = self.place(i, j);
        let (rows, columns) = (&self.rows[i], &self.columns[j]);
        let mut gradient = vec![0f32; place.rows.len() * place.columns.len()];
        let both = self.sides.symmetric();
        with_f32(&tile, |products| match self.terms {
            Terms::LogSumExp(masks) => {
                let mut logits = Vec::new();
                for (k, &mask) in masks.iter().enumerate() {
                    place.logits(products, mask, &mut logits);
                    let weights = |range: &Range<usize>| Weights {
                        level: &values[k][range.clone()],
                        upstream: &upstream[k][range.clone()],
                    };
                    let by_columns = both.then(|| weights(columns));
                    place.softmax(&logits, weights(rows), by_columns, &mut gradient);
                }
            }
            Terms::PositiveShares => {
                let weights = Weights {
                    level: &values[0][rows.clone()],
                    upstream: &upstream[0][rows.clone()],
                };
                place.share_gradient(products, weights, &mut gradient);
            }
            Terms::PairCosts | Terms::PositiveCosts => {
                let across = *self.terms == Terms::PairCosts;
                place.cost_gradient(products, across, &upstream[0][rows.clone()], &mut gradient);
            }
        })?;
        let shape = (place.rows.len(), place.columns.len());
        Ok(Tensor::from_vec(gradient, shape, &Device::Cpu)?)
    }

    /// The products of block i's anchors with block j's candidates.
    fn tile(&self, i: usize, j: usize) -> Result<Tensor> {
        Ok(self
            .anchor_block(i)?
            .matmul(&self.candidate_block(j)?.t()?)?)
    }

    fn anchor_block(&self, i: usize) -> Result<Tensor> {
        Ok(self
            .anchors
            .narrow(0, self.rows[i].start, self.rows[i].len())?)
    }

    fn candidate_block(&self, j: usize) -> Result<Tensor> {
        Ok(self
            .candidates
            .narrow(0, self.columns[j].start, self.columns[j].len())?)
    }

    fn place(&self, i: usize, j: usize) -> Place<'_> {
        let (rows, columns) = (&self.rows[i], &self.columns[j]);
        let offset = rows.start as isize - columns.start as isize;
        Place {
            own: self.sides.own.map(|own| own as isize + offset),
            rows: &self.sides.anchors[rows.clone()],
            columns: &self.sides.columns()[columns.clone()],
            scale: self.scale,
        }
    }

    /// The blocks as one tensor `[rows, D]`, times 1/τ.
    fn finish(&self, sums: Vec<Vec<f32>>, rows: usize) -> Result<Tensor> {
        let mut all = Vec::with_capacity(rows * self.anchors.dim(1)?);
        for block in sums {
            all.extend(block.into_iter().map(|value| value * self.scale));
        }
        Ok(Tensor::from_vec(
            all,
            (rows, self.anchors.dim(1)?),
            &Device::Cpu,
        )?)
    }
}

/// Whether the fast path takes this tensor.
pub(crate) fn applies(z: &Tensor) -> bool {
    z.device().is_cpu() && z.dtype() == candle_core::DType::F32
}

/// Looks at the values of a contiguous f32 tensor on the CPU.
pub(crate) fn with_f32<R>(tensor: &Tensor, look: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => {
            Ok(look(&values[start..end]))
        }
        _ => Err(candle_core::Error::Msg(format!(
            "tiled losses: expected a contiguous f32 tensor on the CPU, got {:?} on {:?}",
            tensor.dtype(),
            tensor.device()
        ))
        .into()),
    }
}

/// Whether two ranges of rows meet.
pub(super) fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// sums += product.
fn add(sums: &mut [f32], product: &Tensor) -> Result<()> {
    with_f32(product, |product| {
        for (sum, value) in sums.iter_mut().zip(product) {
            *sum += value;
        }
    })
}
