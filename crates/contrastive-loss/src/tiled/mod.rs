//! Losses on tiles of the similarity matrix, which is never formed: exact values and gradients in O(N·D) memory.
//!
//! Every loss here is made of two kinds of sums over the rows of s = z·zᵀ / τ:
//!
//! - log-sum-exps (or sums of softplus) over masked rows, tile by tile: a matrix product into a small buffer, a running maximum
//!   and sum for each row, in f32. The backward pass keeps the rows' log-sum-exps and computes each tile again:
//!   ∂LSE_i/∂s_ij = exp(s_ij − LSE_i), then two matrix products. On the CPU a symmetric matrix is visited on and above its
//!   diagonal only; tiles run on threads in an order that depends on sizes alone.
//! - means over the positives, which need the sums of the groups' rows and no pass over pairs.
//!
//! Where a scale, a bias or another row sum stands inside the product, one more column carries it: t x·y + b = (t x, b)·(y, 1).
//!
//! f32 (and f16, bf16, as f32) on the CPU takes a path with vector instructions; GPUs and f64 take plain Candle operators, a tile at a
//! time. The idea of recomputing tiles is FlashAttention's (Dao et al. 2022, arXiv 2205.14135), for contrastive losses Inf-CL's
//! (Cheng et al. 2024, arXiv 2410.17243).

mod attraction;
mod cpu;
mod elsewhere;
mod execution;
mod lanes;
mod losses;
mod op;
mod plain;
mod schedule;
mod sides;
mod tile;
mod two_views;

pub use elsewhere::Gathered;
pub use execution::Execution;
pub use losses::{npairs, nt_xent, supcon};
pub use two_views::{info_nce, sigmoid};

pub(crate) use cpu::{applies, with_f32};
pub(crate) use lanes::vectorised;
pub(crate) use op::Sums;
pub(crate) use sides::Sides;
