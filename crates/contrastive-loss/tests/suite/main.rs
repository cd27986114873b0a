//! The tests of the crate as its users see it, in one program.

mod bounds;
mod edge_cases;
mod gradients;
mod support;
mod threads;
mod tiled;
mod vectors;
