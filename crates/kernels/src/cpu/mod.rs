//! The fast path: f32 on a CPU, channels last.
//!
//! Convolutions and dense layers are three matrix products over gathered rows ([`gather`], [`weight_grad`]), or over transformed
//! tiles ([`winograd`]), built on one register tile ([`tile`]). Work is cut into tasks by shape alone, so the bits do not depend on the number of threads.

#[cfg(target_arch = "x86_64")]
pub mod amx;
pub mod buffer;
pub mod chunk;
pub mod finish;
pub mod gather;
pub mod isa;
pub mod norm;
pub mod plan;
pub mod pointwise;
pub mod pool;
pub mod simd;
pub mod team;
pub mod tile;
pub mod transpose;
pub mod value;
pub mod weight_grad;
pub mod weight_grad_rows;
pub mod weights;
pub mod winograd;
pub mod winograd_product;
pub mod winograd_weight_grad;

#[cfg(test)]
mod bf16_tests;

use candle_core::{CpuStorage, DType, Layout, Result, Tensor, bail};

/// Whether every tensor is f32 in main memory, so that the fast path applies.
pub fn applies(tensors: &[&Tensor]) -> bool {
    tensors
        .iter()
        .all(|t| t.dtype() == DType::F32 && t.device().is_cpu())
}

/// The values of a contiguous f32 storage, from the layout's offset on.
pub fn values<'a>(op: &'static str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => {
            bail!("{op}: expected a contiguous tensor, got {layout:?}; call contiguous() first")
        }
    }
}

/// Calls `f` with the values of a contiguous f32 tensor on the CPU.
pub fn with_values<T>(
    op: &'static str,
    tensor: &Tensor,
    f: impl FnOnce(&[f32]) -> Result<T>,
) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(storage) => f(values(op, storage, layout)?),
        _ => bail!(
            "{op}: expected a tensor on the CPU, got {:?}",
            tensor.device()
        ),
    }
}
