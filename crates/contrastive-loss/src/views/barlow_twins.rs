//! Barlow Twins, Zbontar et al. 2021 (arXiv 2103.03230).

use candle_core::Tensor;

use super::{all_defined, centred, diagonal, off_diagonal_squares, two_views};
use crate::terms::{check_range, masked};
use crate::{Bounds, PerAnchor, Result};

/// Options of [`barlow_twins`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct BarlowTwins {
    /// λ, the weight of the redundancy term; 0.0051 in the paper's code.
    pub lambda: f64,
    /// Added to each dimension's variance, as batch norm does; 1e-5 in the paper's code.
    pub eps: f64,
}

impl Default for BarlowTwins {
    fn default() -> Self {
        Self {
            lambda: 0.0051,
            eps: 1e-5,
        }
    }
}

/// Barlow Twins: the two views a, b `[N, D]`, **not normalised**, → one value per *dimension* `[D]`; their sum is the loss,
/// which [`PerAnchor::mean`] gives.
///
/// L = Σ_d (1 − C_dd)² + λ Σ_d Σ_{e ≠ d} C_de², C_de = 1/N Σ_i â_id b̂_ie, where â and b̂ are the views with each dimension's mean taken
/// away and divided by √(variance + ε).
///
/// No row is undefined. Collapse value (no dimension varies): D. Floor: 0.
///
/// # Errors
/// If the views do not fit each other, or an option is out of its range.
///
/// Source: Zbontar et al. 2021 (arXiv 2103.03230), as its authors' code computes it (`main.py`, `BarlowTwins.forward`).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{BarlowTwins, barlow_twins};
/// // Two dimensions that vary independently, the same in both views.
/// let z = Tensor::new(&[[1f32, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], &Device::Cpu)?;
/// let loss = barlow_twins(&z, &z, &BarlowTwins::default())?.mean()?.to_scalar::<f32>()?;
/// assert!(loss < 1e-8);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn barlow_twins(a: &Tensor, b: &Tensor, config: &BarlowTwins) -> Result<PerAnchor> {
    config.check()?;
    let (a, b) = two_views(a, b)?;
    let (rows, dims) = a.dims2()?;
    let standard = |x: &Tensor| -> Result<Tensor> {
        let x = centred(x)?;
        let variance = x.sqr()?.mean_keepdim(0)?; // [1, D]
        Ok(x.broadcast_div(&variance.affine(1.0, config.eps)?.sqrt()?)?)
    };
    let correlation = standard(&a)?
        .t()?
        .contiguous()?
        .matmul(&standard(&b)?)?
        .affine(1.0 / rows as f64, 0.0)?; // [D, D]
    let own = masked(&correlation, &diagonal(dims, a.device())?)?.sum(1)?; // [D]
    let invariance = own.affine(-1.0, 1.0)?.sqr()?;
    let redundancy = off_diagonal_squares(&correlation)?.affine(config.lambda, 0.0)?;
    all_defined((invariance + redundancy)?, 0, 1)
}

impl BarlowTwins {
    /// Checks the options.
    ///
    /// # Errors
    /// If λ is negative or ε is not above 0.
    pub fn check(&self) -> Result<()> {
        check_range("lambda", self.lambda, 0.0, f64::MAX)?;
        crate::terms::check_positive("eps", self.eps)
    }

    /// Collapse value and floor of embeddings `dim` wide.
    pub fn bounds(&self, dim: usize) -> Bounds {
        Bounds {
            collapse: dim as f64,
            floor: 0.0,
        }
    }
}
