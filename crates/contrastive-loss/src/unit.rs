//! Rows of unit length as one node of the graph: f32 on the CPU, two passes over a row, lengths in f64.
//!
//! y = x / ‖x‖ and ∂x = (∂y − (∂y·y) y) / ‖x‖; a row of zeros stays zero and passes nothing.

use candle_core::{CpuStorage, CustomOp1, Layout, Result as CandleResult, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::Result;
use crate::tiled::{vectorised, with_f32};

/// Rows that one task takes: fixed, so that the work is cut by size.
const ROWS: usize = 256;

/// Divides each row of a contiguous f32 tensor on the CPU by its length: `[N, D]` → `[N, D]`.
pub(crate) fn unit_rows(x: &Tensor) -> Result<Tensor> {
    Ok(x.contiguous()?.apply_op1(UnitRows)?)
}

struct UnitRows;

const NAME: &str = "unit-rows";

impl CustomOp1 for UnitRows {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("{NAME}: rows must be contiguous")
        };
        let (x, width) = (&x.as_slice::<f32>()?[start..end], layout.dims()[1]);
        let mut y = vec![0f32; x.len()];
        let blocks = y
            .par_chunks_mut(ROWS * width)
            .zip(x.par_chunks(ROWS * width));
        blocks.for_each(|(y, x)| {
            vectorised(
                #[inline(always)]
                || {
                    for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                        let inverse = inverse(dot(x, x).sqrt());
                        for (y, &x) in y.iter_mut().zip(x) {
                            *y = (f64::from(x) * inverse) as f32;
                        }
                    }
                },
            );
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, upstream: &Tensor) -> CandleResult<Option<Tensor>> {
        let (width, upstream) = (x.dim(1)?, upstream.contiguous()?);
        let mut slope = vec![0f32; x.elem_count()];
        with_f32(x, |x| {
            with_f32(y, |y| {
                with_f32(&upstream, |g| {
                    let size = ROWS * width;
                    let blocks = slope
                        .par_chunks_mut(size)
                        .zip(x.par_chunks(size).zip(y.par_chunks(size)))
                        .zip(g.par_chunks(size));
                    blocks.for_each(|((slope, (x, y)), g)| {
                        vectorised(
                            #[inline(always)]
                            || backward(slope, x, y, g, width),
                        );
                    });
                })
            })
        })???;
        Ok(Some(Tensor::from_vec(slope, x.shape(), x.device())?))
    }
}

#[inline(always)]
fn backward(slope: &mut [f32], x: &[f32], y: &[f32], g: &[f32], width: usize) {
    let rows = slope
        .chunks_exact_mut(width)
        .zip(x.chunks_exact(width).zip(y.chunks_exact(width)))
        .zip(g.chunks_exact(width));
    for ((slope, (x, y)), g) in rows {
        let inverse = inverse(dot(x, x).sqrt());
        let along = dot(g, y);
        for ((slope, &y), &g) in slope.iter_mut().zip(y).zip(g) {
            *slope = ((f64::from(g) - along * f64::from(y)) * inverse) as f32;
        }
    }
}

/// 1 / length; 0 for a row of zeros.
#[inline(always)]
fn inverse(length: f64) -> f64 {
    if length == 0.0 { 0.0 } else { 1.0 / length }
}

/// a·b in f64, eight partial sums wide.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut lanes = [0f64; 8];
    for (a, b) in a.iter().zip(b) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += f64::from(a) * f64::from(b);
        }
    }
    let rest = a_rest.iter().zip(b_rest);
    let rest: f64 = rest.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    lanes.iter().fold(rest, |sum, lane| sum + lane)
}
