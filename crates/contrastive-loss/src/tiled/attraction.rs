//! The pull of the positives, without a pass over pairs: the mean of a_i·c_p over i's group needs the group's sum alone.
//!
//! mean_{p ∈ P(i)} a_i·c_p / τ = a_i · (Σ_{j in i's group} c_j − c_i) / (|P(i)| τ), in O(N·D). With the anchor itself counted, as
//! npairs does it, nothing is subtracted and n_i divides.

use std::sync::Arc;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Device, Layout, Result as CandleResult, Shape, Tensor,
};

use super::cpu;
use super::sides::Sides;
use crate::{Result, logits};

/// Mean similarity of each anchor with its positives: anchors `[N, D]`, candidates `[M, D]` (none: the anchors) → `[N]`; 0 for an
/// anchor without any.
pub(super) fn attraction(
    sides: &Arc<Sides>,
    with_self: bool,
    temperature: f64,
    anchors: &Tensor,
    candidates: Option<&Tensor>,
) -> Result<Tensor> {
    let own = usize::from(with_self && sides.own.is_some());
    let weights = sides.counts().into_iter().map(|(positives, _)| {
        let count = positives + own;
        1.0 / (temperature * count.max(1) as f64) * f64::from(u8::from(count > 0))
    });
    let means = Means {
        weights: weights.collect(),
        without_self: !with_self && sides.own.is_some(),
        groups: sides.groups(),
        sides: Arc::clone(sides),
    };
    let anchors = anchors.contiguous()?;
    if !cpu::applies(&anchors) {
        return means.plain(&anchors, candidates.unwrap_or(&anchors));
    }
    Ok(match candidates {
        None => anchors.apply_op1(means)?,
        Some(candidates) => anchors.apply_op2(&candidates.contiguous()?, means)?,
    })
}

/// Group sums in f64 on the CPU: groups may have tens of thousands of rows.
struct Means {
    sides: Arc<Sides>,
    /// 1 / (count · τ) of each anchor; 0 without positives.
    weights: Vec<f64>,
    without_self: bool,
    groups: usize,
}

impl Means {
    /// Σ weight_r · row_r over the rows of each group: groups × D.
    fn group_sums(
        &self,
        rows: &[f32],
        width: usize,
        groups: &[u32],
        weight: impl Fn(usize) -> f64,
    ) -> Vec<f64> {
        let mut sums = vec![0f64; self.groups * width];
        for (r, (row, &group)) in rows.chunks_exact(width).zip(groups).enumerate() {
            let weight = weight(r);
            let sum = &mut sums[group as usize * width..][..width];
            for (sum, &value) in sum.iter_mut().zip(row) {
                *sum += weight * f64::from(value);
            }
        }
        sums
    }

    fn own(&self, anchor: usize) -> Option<usize> {
        self.sides
            .own
            .filter(|_| self.without_self)
            .map(|own| anchor + own)
    }

    fn values(&self, anchors: &[f32], candidates: &[f32], width: usize) -> Vec<f32> {
        let sums = self.group_sums(candidates, width, self.sides.columns(), |_| 1.0);
        let dot = |a: &[f32], c: &[f64]| -> f64 {
            a.iter().zip(c).map(|(&a, &c)| f64::from(a) * c).sum()
        };
        let mut own = vec![0f64; width];
        let value = |(i, (anchor, &group)): (usize, (&[f32], &u32))| {
            let mut sum = dot(anchor, &sums[group as usize * width..][..width]);
            if let Some(j) = self.own(i) {
                for (own, &value) in own.iter_mut().zip(&candidates[j * width..]) {
                    *own = f64::from(value);
                }
                sum -= dot(anchor, &own);
            }
            (self.weights[i] * sum) as f32
        };
        let rows = anchors.chunks_exact(width).zip(&self.sides.anchors);
        rows.enumerate().map(value).collect()
    }

    /// Gradients with respect to anchors and candidates.
    fn gradients(
        &self,
        anchors: &[f32],
        candidates: &[f32],
        width: usize,
        upstream: &[f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let weight = |i: usize| self.weights[i] * f64::from(upstream[i]);
        let pulled = self.group_sums(candidates, width, self.sides.columns(), |_| 1.0);
        let pulling = self.group_sums(anchors, width, &self.sides.anchors, weight);
        let mut by_anchor = Vec::with_capacity(anchors.len());
        for (i, &group) in self.sides.anchors.iter().enumerate() {
            let weight = weight(i);
            let sum = &pulled[group as usize * width..][..width];
            match self.own(i) {
                None => by_anchor.extend(sum.iter().map(|&sum| (weight * sum) as f32)),
                Some(j) => {
                    let own = sum.iter().zip(&candidates[j * width..]);
                    by_anchor.extend(own.map(|(&s, &c)| (weight * (s - f64::from(c))) as f32));
                }
            }
        }
        let mut by_candidate = Vec::with_capacity(candidates.len());
        for (j, &group) in self.sides.columns().iter().enumerate() {
            let sum = &pulling[group as usize * width..][..width];
            let anchor = self.sides.own.filter(|_| self.without_self);
            let anchor = anchor.and_then(|own| j.checked_sub(own));
            match anchor.filter(|&i| i < self.sides.anchors.len()) {
                None => by_candidate.extend(sum.iter().map(|&sum| sum as f32)),
                Some(i) => {
                    let weight = weight(i);
                    let own = sum.iter().zip(&anchors[i * width..]);
                    by_candidate.extend(own.map(|(&s, &a)| (s - weight * f64::from(a)) as f32));
                }
            }
        }
        (by_anchor, by_candidate)
    }

    /// The same by Candle's operators, which differentiate themselves.
    fn plain(&self, anchors: &Tensor, candidates: &Tensor) -> Result<Tensor> {
        let (n, d) = anchors.dims2()?;
        let index = |groups: &[u32]| Tensor::from_slice(groups, groups.len(), anchors.device());
        let sums = Tensor::zeros((self.groups, d), anchors.dtype(), anchors.device())?.index_add(
            &index(self.sides.columns())?,
            candidates,
            0,
        )?; // [G, D]
        let mut pulled = sums.index_select(&index(&self.sides.anchors)?, 0)?; // [N, D]
        if let Some(own) = self.own(0) {
            pulled = (pulled - candidates.narrow(0, own, n)?)?;
        }
        let weights = logits::constant(self.weights.clone(), n, anchors)?;
        Ok(((anchors * pulled)?.sum(1)? * weights)?)
    }

    fn forward(
        &self,
        anchors: (&CpuStorage, &Layout),
        candidates: (&CpuStorage, &Layout),
    ) -> CandleResult<(CpuStorage, Shape)> {
        let width = anchors.1.dims()[1];
        let values = self.values(
            contiguous(anchors.0, anchors.1)?,
            contiguous(candidates.0, candidates.1)?,
            width,
        );
        let shape = Shape::from(values.len());
        Ok((CpuStorage::F32(values), shape))
    }

    fn backward(
        &self,
        anchors: &Tensor,
        candidates: &Tensor,
        upstream: &Tensor,
    ) -> CandleResult<(Tensor, Tensor)> {
        let width = anchors.dim(1)?;
        let upstream = upstream.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        let (a, c) = cpu::with_f32(anchors, |a| {
            cpu::with_f32(candidates, |c| self.gradients(a, c, width, &upstream))
        })??;
        Ok((
            Tensor::from_vec(a, anchors.shape(), &Device::Cpu)?,
            Tensor::from_vec(c, candidates.shape(), &Device::Cpu)?,
        ))
    }
}

fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> CandleResult<&'a [f32]> {
    let values = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => candle_core::bail!("{NAME}: rows must be contiguous"),
    }
}

const NAME: &str = "tiled-attraction";

impl CustomOp1 for Means {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, z: &CpuStorage, layout: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        self.forward((z, layout), (z, layout))
    }

    fn bwd(&self, z: &Tensor, _: &Tensor, upstream: &Tensor) -> CandleResult<Option<Tensor>> {
        let (by_anchor, by_candidate) = self.backward(z, z, upstream)?;
        Ok(Some((by_anchor + by_candidate)?))
    }
}

impl CustomOp2 for Means {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        anchors: &CpuStorage,
        anchors_layout: &Layout,
        candidates: &CpuStorage,
        candidates_layout: &Layout,
    ) -> CandleResult<(CpuStorage, Shape)> {
        self.forward((anchors, anchors_layout), (candidates, candidates_layout))
    }

    fn bwd(
        &self,
        anchors: &Tensor,
        candidates: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>)> {
        let (a, c) = self.backward(anchors, candidates, upstream)?;
        Ok((Some(a), Some(c)))
    }
}
