//! Augmentation: u8 `[H, W, 3]` → normalised f32 `[H, W, 3]`.
//!
//! The steps, in this order, each skipped where it is off: flip; rotation and scaling (one affine sampling); pad-and-crop;
//! random resized crop; colour jitter; grey; normalisation; cutout. Values are f32 in 0..1 between the steps, clamped after
//! each colour operation, as torchvision's functions on float tensors do (nothing is rounded to 8 bits in between).

mod colour;
mod config;
mod geometry;
#[cfg(test)]
mod parity;
mod pipeline;

pub use config::{
    Augmentation, ColorJitter, Flip, Pad, PadCrop, Policy, RandomResizedCrop, Scaling,
};
pub use pipeline::{Augmenter, Sample, Workspace};
