#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod anchor;
mod bounds;
mod catalogue;
mod context;
mod distance;
mod error;
mod family;
mod labels;
mod logits;
mod loss;
mod memory;
mod miners;
mod npairs;
mod nt_xent;
mod pair_set;
mod pairs;
mod pairwise;
mod proxy;
#[cfg(feature = "serde")]
mod recipe;
mod similarity;
mod supcon;
mod supcon_soft;
mod supcon_weighted;
mod terms;
pub mod tiled;
mod unit;
mod views;

pub use anchor::{PerAnchor, UndefinedRows};
pub use context::Context;
pub use distance::Measure;
pub use error::{Error, Result};
pub use family::{Pairwise, ParameterSpec, Proxied, Start, Task, TwoViews};
pub use loss::Loss;
pub use memory::CrossBatchMemory;
pub use miners::{
    DistanceWeighted, Mined, Miner, TripletKind, mine_distance_weighted, mine_hard,
    mine_multi_similarity, mine_triplets,
};
pub use npairs::{NpairsConfig, NpairsTargets, npairs, npairs_multilabel};
pub use nt_xent::{NtXentConfig, nt_xent};
pub use pair_set::PairSet;
pub use pairwise::{
    Average, Bounds, Circle, GeneralizedLifted, LiftedStructure, MaxMargin, Mining,
    MultiSimilarity, Nca, PairLoss, Triplet, Triplets,
};
pub use proxy::{
    ArcFace, CosFace, NormalizedSoftmax, ProxyAnchor, ProxyNca, SubCenterArcFace, arcface, cosface,
    normalized_softmax, proxy_anchor, proxy_nca, subcenter_arcface,
};
pub use similarity::{cosine_similarity, normalize, similarity_matrix};
pub use supcon::{Denominator, Scale, Summation, SupConConfig, supcon};
pub use supcon_soft::{Overlap, SoftSupCon, supcon_multilabel, supcon_soft};
pub use supcon_weighted::{Balance, SupConWeighted, supcon_weighted};
pub use views::{BarlowTwins, InfoNce, Sigmoid, VicReg, barlow_twins, info_nce, sigmoid, vicreg};
