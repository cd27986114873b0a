//! The crate from outside: sizes and behaviour of the networks, weight files, the Hub, and parity with PyTorch and Keras.

mod formula;
mod hub;
mod network;
mod parity;
mod weights;
