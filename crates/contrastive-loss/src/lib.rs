#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod anchor;
mod bounds;
mod error;
mod labels;
mod logits;
mod loss;
mod npairs;
mod nt_xent;
mod pairs;
#[cfg(feature = "serde")]
mod recipe;
mod similarity;
mod supcon;
pub mod tiled;
mod unit;

pub use anchor::{PerAnchor, UndefinedRows};
pub use error::{Error, Result};
pub use loss::Loss;
pub use npairs::{NpairsConfig, NpairsTargets, npairs, npairs_multilabel};
pub use nt_xent::{NtXentConfig, nt_xent};
pub use similarity::{cosine_similarity, normalize, similarity_matrix};
pub use supcon::{Denominator, Scale, Summation, SupConConfig, supcon};
