//! The tests of the crate as its users see it, in one program.

mod agreement;
mod bounds;
mod catalogue;
mod context;
mod edge_cases;
mod elsewhere;
mod gradients;
mod reference;
mod refusals;
mod sampler;
mod soft_labels;
mod support;
mod threads;
mod tiled;
mod vectors;
