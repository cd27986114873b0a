//! Every operator: values and gradients against naive f64 oracles, against the composition of plain Candle operators
//! and by finite differences; the same bits at any number of threads; errors; every instruction set.

mod conv;
mod errors;
mod half;
mod instruction_sets;
mod network;
mod norm;
mod one_node;
mod oracle;
mod pointwise;
mod pool;
mod support;
mod threads;
