//! The sums as one node of Candle's graph: values computed beforehand, by whichever path fits, and a backward of their own.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, Layout, MetalStorage, Result as CandleResult,
    Shape, Storage, Tensor, bail,
};

use super::cpu::{self, Cpu};
use super::plain::Plain;
use super::sides::{Sides, Terms};
use crate::{Error, Result};

/// The row sums of a loss, in the order in which it asks for them: computed here, or taken from what the ranks of a
/// data-parallel group computed for their own rows and exchanged.
#[derive(Debug, Default)]
pub(crate) struct Sums<'a> {
    given: Option<&'a Tensor>, // [N, ΣK]
    taken: usize,
    computed: Vec<Tensor>, // [N, K] each
}

impl<'a> Sums<'a> {
    /// Sums that came from elsewhere: `[N, ΣK]`.
    pub(crate) fn given(sums: Option<&'a Tensor>) -> Self {
        Self {
            given: sums,
            ..Self::default()
        }
    }

    /// What was computed: `[N, ΣK]`, without a graph.
    pub(crate) fn computed(&self) -> Result<Tensor> {
        Ok(Tensor::cat(&self.computed, 1)?.detach())
    }

    /// Sums over each row of s = a·cᵀ / τ: anchors `[N, D]`, candidates `[M, D]` (none: the anchors) → `[N, K]`, with gradients to
    /// both.
    pub(super) fn of(
        &mut self,
        sides: &Arc<Sides>,
        terms: Terms,
        temperature: f64,
        anchors: &Tensor,
        candidates: Option<&Tensor>,
    ) -> Result<Tensor> {
        let anchors = anchors.contiguous()?;
        let candidates = candidates.map(Tensor::contiguous).transpose()?;
        let columns = terms.count();
        let problem = Problem {
            sides: Arc::clone(sides),
            terms,
            scale: 1.0 / temperature,
        };
        let values = match self.given {
            Some(given) => {
                let fits = given.dims().len() == 2
                    && given.dims()[0] == sides.anchors.len()
                    && given.dims()[1] >= self.taken + columns;
                if !fits {
                    return Err(Error::Mismatch {
                        left: "the row sums",
                        left_shape: given.dims().to_vec(),
                        right: "the gathered rows",
                        right_shape: vec![sides.anchors.len(), self.taken + columns],
                        need: "gather what `Loss::row_sums` of the same loss gave on every rank, one after the other",
                    });
                }
                let given = given.detach().to_dtype(anchors.dtype())?;
                given.narrow(1, self.taken, columns)?.contiguous()?
            }
            None => {
                let plain = candidates.as_ref().unwrap_or(&anchors).detach();
                problem.forward(&anchors.detach(), &plain)?
            }
        };
        self.taken += columns;
        self.computed.push(values.clone());
        let node = Node { values, problem };
        Ok(match &candidates {
            None => anchors.apply_op1(node)?,
            Some(candidates) => anchors.apply_op2(candidates, node)?,
        })
    }
}

/// What is summed over what.
#[derive(Debug)]
struct Problem {
    sides: Arc<Sides>,
    terms: Terms,
    /// 1/τ.
    scale: f64,
}

impl Problem {
    fn forward(&self, anchors: &Tensor, candidates: &Tensor) -> Result<Tensor> {
        if cpu::applies(anchors) {
            Cpu::new(&self.sides, &self.terms, self.scale, anchors, candidates).forward()
        } else {
            Plain::new(&self.sides, &self.terms, self.scale, anchors, candidates)?.forward()
        }
    }

    fn backward(
        &self,
        anchors: &Tensor,
        candidates: &Tensor,
        values: &Tensor,
        upstream: &Tensor,
    ) -> Result<cpu::Gradients> {
        let wanted = (anchors.track_op(), candidates.track_op());
        let (anchors, candidates) = (anchors.detach(), candidates.detach());
        let upstream = upstream.detach().contiguous()?;
        let (sides, terms, scale) = (&*self.sides, &self.terms, self.scale);
        if cpu::applies(&anchors) {
            Cpu::new(sides, terms, scale, &anchors, &candidates).backward(values, &upstream, wanted)
        } else {
            Plain::new(sides, terms, scale, &anchors, &candidates)?
                .backward(values, &upstream, wanted)
        }
    }
}

/// A node of the graph: hands over its values, and computes gradients when asked.
struct Node {
    problem: Problem,
    values: Tensor, // [N, K]
}

const NAME: &str = "tiled-row-sums";

impl Node {
    fn on_cpu(&self) -> CandleResult<(CpuStorage, Shape)> {
        let (storage, layout) = self.values.storage_and_layout();
        match &*storage {
            Storage::Cpu(values) => Ok((values.try_clone(layout)?, layout.shape().clone())),
            _ => bail!("{NAME}: the values are not on the CPU"),
        }
    }

    fn on_cuda(&self) -> CandleResult<(CudaStorage, Shape)> {
        let (storage, layout) = self.values.storage_and_layout();
        match &*storage {
            Storage::Cuda(values) => Ok((values.try_clone(layout)?, layout.shape().clone())),
            _ => bail!("{NAME}: the values are not on the CUDA device"),
        }
    }

    fn on_metal(&self) -> CandleResult<(MetalStorage, Shape)> {
        let (storage, layout) = self.values.storage_and_layout();
        match &*storage {
            Storage::Metal(values) => Ok((values.try_clone(layout)?, layout.shape().clone())),
            _ => bail!("{NAME}: the values are not on the Metal device"),
        }
    }
}

impl CustomOp1 for Node {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        self.on_cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> CandleResult<(CudaStorage, Shape)> {
        self.on_cuda()
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> CandleResult<(MetalStorage, Shape)> {
        self.on_metal()
    }

    fn bwd(&self, z: &Tensor, _: &Tensor, upstream: &Tensor) -> CandleResult<Option<Tensor>> {
        Ok(self.problem.backward(z, z, &self.values, upstream)?.0)
    }
}

impl CustomOp2 for Node {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> CandleResult<(CpuStorage, Shape)> {
        self.on_cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> CandleResult<(CudaStorage, Shape)> {
        self.on_cuda()
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> CandleResult<(MetalStorage, Shape)> {
        self.on_metal()
    }

    fn bwd(
        &self,
        anchors: &Tensor,
        candidates: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>)> {
        Ok(self
            .problem
            .backward(anchors, candidates, &self.values, upstream)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::sides::Mask;
    use super::*;

    /// Both paths on one problem, with tiles that do not divide it.
    fn compare(sides: Sides, terms: Terms, own_candidates: bool) {
        let (n, m, d) = (sides.anchors.len(), sides.columns().len(), 5);
        let noise = |rows: usize, seed: f32| {
            let values = (0..rows * d).map(|k| ((k as f32 + seed) * 0.73).sin());
            Tensor::from_vec(values.collect(), (rows, d), &Device::Cpu).unwrap()
        };
        let anchors = noise(n, 0.1);
        let candidates = if own_candidates {
            noise(m, 7.7)
        } else {
            anchors.clone()
        };
        let scale = 1.0 / 0.3;
        let fast = Cpu::new(&sides, &terms, scale, &anchors, &candidates);
        let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
        let (anchors_wide, candidates_wide) = (wide(&anchors), wide(&candidates));
        let plain = Plain::new(&sides, &terms, scale, &anchors_wide, &candidates_wide)
            .unwrap()
            .with_side(50);
        let close = |got: &Tensor, expected: &Tensor, what: &str| {
            let largest = (wide(got) - expected)
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap();
            let largest = largest.to_scalar::<f64>().unwrap();
            assert!(largest < 1e-5, "{terms:?} {what}: off by {largest:e}");
        };
        let values = fast.forward().unwrap();
        let exact = plain.forward().unwrap();
        let scale_of_values = exact.abs().unwrap().max_all().unwrap();
        let scale_of_values = scale_of_values.to_scalar::<f64>().unwrap().max(1.0);
        close(
            &values.affine(1.0 / scale_of_values, 0.0).unwrap(),
            &exact.affine(1.0 / scale_of_values, 0.0).unwrap(),
            "values",
        );
        let weights = (0..n * terms.count()).map(|k| (k as f32 * 0.31).cos());
        let upstream =
            Tensor::from_vec(weights.collect(), (n, terms.count()), &Device::Cpu).unwrap();
        let got = fast.backward(&values, &upstream, (true, true)).unwrap();
        let expected = plain
            .backward(&exact, &wide(&upstream), (true, true))
            .unwrap();
        let size = expected
            .0
            .as_ref()
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap();
        let size = size.to_scalar::<f64>().unwrap().max(1.0);
        for (got, expected) in [(got.0, expected.0), (got.1, expected.1)] {
            match (got, expected) {
                (Some(got), Some(expected)) => close(
                    &got.affine(1.0 / size, 0.0).unwrap(),
                    &expected.affine(1.0 / size, 0.0).unwrap(),
                    "gradient",
                ),
                (None, None) => assert!(sides.symmetric()),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_fast_path_agrees_with_plain_operators_on_every_mask() {
        for rows in [3, 130, 300] {
            let groups: Vec<u32> = (0..rows as u32).map(|row| row * row % 7).collect();
            for mask in [Mask::All, Mask::Others, Mask::Same, Mask::Different] {
                compare(
                    Sides::itself(groups.clone()),
                    Terms::LogSumExp(vec![mask]),
                    false,
                );
            }
            let both = Terms::LogSumExp(vec![Mask::Others, Mask::Same]);
            compare(Sides::itself(groups.clone()), both.clone(), false);
            let anchors = &groups[..rows.min(150)];
            let mut more: Vec<u32> = (0..170).map(|row| row % 5).collect();
            more[9..9 + anchors.len()].copy_from_slice(anchors);
            let of_pairs = [
                both,
                Terms::PairCosts,
                Terms::PositiveCosts,
                Terms::PositiveShares,
            ];
            for own in [None, Some(9)] {
                for terms in of_pairs.clone() {
                    let sides = Sides::pair(anchors.to_vec(), more.clone(), own);
                    compare(sides, terms, true);
                }
            }
        }
    }

    /// Blocks without a row whose gradient is wanted are passed over, by both paths.
    #[test]
    fn gradients_of_live_rows_do_not_depend_on_which_others_live() {
        let (n, d) = (700, 4); // three blocks
        let groups: Vec<u32> = (0..n as u32).map(|row| row % 5).collect();
        let values = (0..n * d).map(|k| (k as f32 * 0.73).sin());
        let z = Tensor::from_vec(values.collect(), (n, d), &Device::Cpu).unwrap();
        let upstream = Tensor::ones((n, 1), DType::F32, &Device::Cpu).unwrap();
        let own = 520..640;
        let rows = |t: &Tensor| {
            let rows = t.narrow(0, own.start, own.len()).unwrap();
            rows.to_vec2::<f32>().unwrap()
        };
        for sides in [
            Sides::itself(groups.clone()),
            Sides::pair(groups.clone(), groups, Some(0)),
        ] {
            let terms = Terms::LogSumExp(vec![Mask::Others]);
            let alive = sides.clone().alive(own.clone());
            let all = Cpu::new(&sides, &terms, 2.0, &z, &z);
            let some = Cpu::new(&alive, &terms, 2.0, &z, &z);
            let values = all.forward().unwrap();
            let all = all.backward(&values, &upstream, (true, true)).unwrap();
            let some = some.backward(&values, &upstream, (true, true)).unwrap();
            let first = some.0.as_ref().unwrap().get(0).unwrap();
            assert_eq!(first.to_vec1::<f32>().unwrap(), [0.0; 4]);
            let plain = |sides: &Sides| {
                let plain = Plain::new(sides, &terms, 2.0, &z, &z)
                    .unwrap()
                    .with_side(100);
                plain.backward(&values, &upstream, (true, true)).unwrap()
            };
            for (all, some) in [(all, some), (plain(&sides), plain(&alive))] {
                assert_eq!(
                    rows(all.0.as_ref().unwrap()),
                    rows(some.0.as_ref().unwrap())
                );
                if let (Some(all), Some(some)) = (all.1, some.1) {
                    assert_eq!(rows(&all), rows(&some));
                }
            }
        }
    }
}
