//! The same operators composed of plain Candle operators: every device, every float type, differentiable.
//!
//! This is the path taken on CUDA and Metal and for types without a fast kernel, and an oracle in the tests. Shapes are
//! checked as in the functions of the crate root, which document the equations. Candle's own traps are stepped around:
//! windows are gathered by index (its convolution and pooling gradients are slow, missing or scaled), the ReLU has
//! gradient 0 at 0, and of equal maxima only the first receives the gradient.

mod conv;
mod norm;
mod pointwise;
mod pool;
mod resize;

pub use conv::{conv2d, linear};
pub use norm::{batch_norm_eval, batch_norm_train};
pub use pointwise::{dropout, relu};
pub use pool::{global_avg_pool, max_pool2d};
pub use resize::{pad_zeros, upsample_bilinear};
