//! The f32 cells of CPU tensors as slices, in a fixed partition over threads.

use crate::Result;
use candle_core::{CpuStorage, Device, InplaceOp2, Layout, Storage, Tensor, bail};
use rayon::prelude::*;
use std::cell::RefCell;

/// Cells that one task works on. Fixed: the number of threads never shows in a sum.
pub(crate) const CHUNK: usize = 1 << 14;

/// Whether the fused CPU passes apply to a tensor.
pub(crate) fn on_host(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == candle_core::DType::F32
}

/// Calls `read` with a contiguous CPU tensor's cells.
pub(crate) fn read<R>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(read(slice(storage, layout)?)),
        _ => Err(candle_core::Error::Msg(format!(
            "expected a tensor on the CPU, got {:?}",
            tensor.device()
        ))
        .into()),
    }
}

/// `f` of every item, in their order, or the first error. On a CPU the items are taken in parallel: small tensors need no barrier each. A
/// device has a queue of its own, which takes them in turn.
pub(crate) fn map<T: Send, R: Send>(
    items: impl IntoIterator<Item = T>,
    device: &Device,
    f: impl Fn(T) -> Result<R> + Sync + Send,
) -> Result<Vec<R>> {
    if !device.is_cpu() {
        return items.into_iter().map(f).collect();
    }
    let items: Vec<T> = items.into_iter().collect();
    let all: Vec<Result<R>> = items.into_par_iter().with_max_len(1).map(f).collect();
    all.into_iter().collect()
}

/// Σ x², summed in f64 chunk by chunk.
pub(crate) fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    if !on_host(tensor) {
        return Ok(f64::from(
            tensor
                .to_dtype(candle_core::DType::F32)?
                .sqr()?
                .sum_all()?
                .to_scalar::<f32>()?,
        ));
    }
    read(tensor, |cells| {
        let chunks: Vec<f64> = cells
            .par_chunks(CHUNK)
            .map(|chunk| chunk.iter().map(|&x| f64::from(x) * f64::from(x)).sum())
            .collect();
        chunks.iter().sum()
    })
}

/// For every cell: `change(cell, source)`. One pass, in place.
pub(crate) fn update0(
    tensor: &Tensor,
    source: &Tensor,
    change: impl Fn(&mut f32, f32) + Sync,
) -> Result<()> {
    let pass = Pass(RefCell::new(|cells: &mut [f32], source: &[f32]| {
        cells
            .par_chunks_mut(CHUNK)
            .zip(source.par_chunks(CHUNK))
            .for_each(|(cells, source)| {
                for (cell, &source) in cells.iter_mut().zip(source) {
                    change(cell, source);
                }
            });
    }));
    Ok(tensor.inplace_op2(&source.contiguous()?, &pass)?)
}

/// For every cell: `change(cell, source, state)` with `state` as long as `tensor`. One pass, in place.
pub(crate) fn update1(
    tensor: &Tensor,
    source: &Tensor,
    state: &mut [f32],
    change: impl Fn(&mut f32, f32, &mut f32) + Sync,
) -> Result<()> {
    let pass = Pass(RefCell::new(|cells: &mut [f32], source: &[f32]| {
        cells
            .par_chunks_mut(CHUNK)
            .zip(source.par_chunks(CHUNK))
            .zip(state.par_chunks_mut(CHUNK))
            .for_each(|((cells, source), state)| {
                for ((cell, &source), state) in cells.iter_mut().zip(source).zip(state) {
                    change(cell, source, state);
                }
            });
    }));
    Ok(tensor.inplace_op2(&source.contiguous()?, &pass)?)
}

/// For every cell: `change(cell, source, state, second_state)`. One pass, in place.
pub(crate) fn update2(
    tensor: &Tensor,
    source: &Tensor,
    (first, second): (&mut [f32], &mut [f32]),
    change: impl Fn(&mut f32, f32, &mut f32, &mut f32) + Sync,
) -> Result<()> {
    let pass = Pass(RefCell::new(|cells: &mut [f32], source: &[f32]| {
        cells
            .par_chunks_mut(CHUNK)
            .zip(source.par_chunks(CHUNK))
            .zip(first.par_chunks_mut(CHUNK))
            .zip(second.par_chunks_mut(CHUNK))
            .for_each(|(((cells, source), first), second)| {
                for (((cell, &source), first), second) in
                    cells.iter_mut().zip(source).zip(first).zip(second)
                {
                    change(cell, source, first, second);
                }
            });
    }));
    Ok(tensor.inplace_op2(&source.contiguous()?, &pass)?)
}

/// An in-place pass over a variable's own storage beside one other tensor.
struct Pass<F>(RefCell<F>);

impl<F: FnMut(&mut [f32], &[f32])> InplaceOp2 for Pass<F> {
    fn name(&self) -> &'static str {
        "optimiser pass"
    }

    fn cpu_fwd(
        &self,
        cells: &mut CpuStorage,
        layout: &Layout,
        source: &CpuStorage,
        source_layout: &Layout,
    ) -> candle_core::Result<()> {
        let source = slice(source, source_layout)?;
        let (CpuStorage::F32(cells), Some((start, end))) = (cells, layout.contiguous_offsets())
        else {
            bail!(
                "optimiser pass: expected a contiguous f32 variable, got shape {:?}",
                layout.shape()
            );
        };
        if end - start != source.len() {
            bail!(
                "optimiser pass: {} values for {} cells",
                source.len(),
                end - start
            );
        }
        (self.0.borrow_mut())(&mut cells[start..end], source);
        Ok(())
    }
}

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(cells), Some((start, end))) => Ok(&cells[start..end]),
        _ => bail!(
            "expected a contiguous f32 tensor, got shape {:?}",
            layout.shape()
        ),
    }
}
