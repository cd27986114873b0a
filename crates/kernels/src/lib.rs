#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod allocator;
mod batch_norm;
#[doc(hidden)]
pub mod bench;
pub mod compose;
mod conv;
mod cpu;
mod dropout;
mod geometry;
mod gradients;
mod linear;
mod network;
mod pool;
mod relu;
mod resize;

pub use allocator::CachingAllocator;
pub use batch_norm::{Activation, BatchMoments, batch_norm_eval, batch_norm_train};
pub use conv::conv2d;
pub use cpu::buffer::poison_buffers;
pub use cpu::isa::{CpuFeatures, Isa, check_environment, cpu_features};
pub use dropout::dropout;
pub use geometry::ConvConfig;
pub use gradients::backward;
pub use linear::linear;
pub use network::{ConvNorm, Network, Precision, Prepared, Slot};
pub use pool::{global_avg_pool, max_pool2d};
pub use relu::relu;
pub use resize::{pad_zeros, upsample_bilinear};
