//! Losses over two views of the same samples: row i of one belongs to row i of the other. Labels are not used.

mod barlow_twins;
mod info_nce;
mod sigmoid;
mod vicreg;

use candle_core::Tensor;

pub use barlow_twins::{BarlowTwins, barlow_twins};
pub(crate) use info_nce::check_queue;
pub use info_nce::{InfoNce, info_nce};
pub(crate) use sigmoid::check_scalars;
pub use sigmoid::{Sigmoid, sigmoid};
pub use vicreg::{VicReg, vicreg};

use crate::similarity::{embeddings, in_one_type};
use crate::{Error, PerAnchor, Result};

/// Two non-empty `[N, D]` float tensors of one shape, in the type losses compute in.
pub(crate) fn two_views(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
    let (a, b) = (embeddings(a, "view 0")?, embeddings(b, "view 1")?);
    if a.dims() != b.dims() {
        return Err(Error::Mismatch {
            left: "view 0",
            left_shape: a.dims().to_vec(),
            right: "view 1",
            right_shape: b.dims().to_vec(),
            need: "both views need one row for each sample",
        });
    }
    in_one_type(&a, &b)
}

/// Values of queries, all defined; where one is `alone`, nothing repels it.
pub(crate) fn without_negatives(values: Tensor, alone: bool) -> Result<PerAnchor> {
    let rows = values.dim(0)?;
    all_defined(values, if alone { rows } else { 0 }, rows)
}

/// Values that are all defined.
fn all_defined(values: Tensor, without_negatives: usize, divisor: usize) -> Result<PerAnchor> {
    Ok(PerAnchor {
        defined: vec![true; values.dim(0)?],
        values,
        without_positives: 0,
        without_negatives,
        divisor,
    })
}

/// A mask `[N, N]` of the diagonal.
fn diagonal(rows: usize, device: &candle_core::Device) -> Result<Tensor> {
    let mut mask = vec![0u8; rows * rows];
    mask.iter_mut().step_by(rows + 1).for_each(|one| *one = 1);
    Ok(Tensor::from_vec(mask, (rows, rows), device)?)
}

/// x minus the mean of each column: `[N, D]`.
fn centred(x: &Tensor) -> Result<Tensor> {
    Ok(x.broadcast_sub(&x.mean_keepdim(0)?)?)
}

/// The row sums of squares off the diagonal: `[D, D]` → `[D]`.
fn off_diagonal_squares(matrix: &Tensor) -> Result<Tensor> {
    let mask = diagonal(matrix.dim(0)?, matrix.device())?;
    let off = mask.where_cond(&matrix.zeros_like()?, matrix)?;
    Ok(off.sqr()?.sum(1)?)
}
