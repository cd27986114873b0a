//! Miners: which pairs or triplets of a batch are worth looking at. They read embeddings and give numbers; no gradient passes.

mod distance_weighted;
mod hard;
mod margin;
mod miner;
mod multi_similarity;
#[cfg(feature = "serde")]
mod recipe;

use candle_core::{DType, Device, Tensor};

pub use distance_weighted::{DistanceWeighted, mine_distance_weighted};
pub(crate) use hard::hardest;
pub use hard::mine_hard;
pub use margin::{TripletKind, mine_triplets};
pub use miner::{Mined, Miner};
pub use multi_similarity::mine_multi_similarity;

use crate::similarity::embeddings;
use crate::{Measure, PairSet, Result, labels};

/// A matrix as rows of numbers on the host.
pub(crate) fn host(matrix: &Tensor) -> Result<Vec<Vec<f64>>> {
    let matrix = matrix.detach().to_device(&Device::Cpu)?;
    Ok(matrix.to_dtype(DType::F64)?.to_vec2()?)
}

/// The measure over a batch, on the host, and all of the batch's pairs.
fn batch(z: &Tensor, labels: &Tensor, measure: Measure) -> Result<(Vec<Vec<f64>>, PairSet)> {
    let z = embeddings(z, "embeddings")?.detach();
    let labels = labels::read(labels, z.dim(0)?)?;
    let pairs = PairSet::of(&labels, &labels, Some);
    Ok((host(&measure.matrix(&z, &z)?)?, pairs))
}
