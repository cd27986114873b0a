//! VICReg, Bardes et al. 2022 (arXiv 2105.04906), equation 6.

use candle_core::Tensor;

use super::{all_defined, centred, off_diagonal_squares, two_views};
use crate::terms::{check_positive, check_range, hinge};
use crate::{Bounds, Error, PerAnchor, Result};

/// Options of [`vicreg`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct VicReg {
    /// λ, the weight of the invariance term; 25 in the paper.
    pub invariance: f64,
    /// μ, the weight of the variance terms; 25 in the paper.
    pub variance: f64,
    /// ν, the weight of the covariance terms; 1 in the paper.
    pub covariance: f64,
    /// ε under the root of the variance; 1e-4 in the paper.
    pub eps: f64,
}

impl Default for VicReg {
    fn default() -> Self {
        Self {
            invariance: 25.0,
            variance: 25.0,
            covariance: 1.0,
            eps: 1e-4,
        }
    }
}

/// VICReg: the two views a, b `[N, D]`, **not normalised**, N ≥ 2, → one value per *dimension* `[D]`, whose mean is the loss.
///
/// L = λ s + μ/2 (v(a) + v(b)) + ν (c(a) + c(b)) with s = 1/(N D) Σ_id (a_id − b_id)², v(x) = 1/D Σ_d \[1 − √(Var x_d + ε)\]₊ and
/// c(x) = 1/D Σ_d Σ_{e ≠ d} Cov(x)_de², variances and covariances divided by N − 1. The means over D in s and the ½ before μ are the
/// paper's code's (and pytorch-metric-learning's), not its equations'.
///
/// No row is undefined. Collapse value (no dimension varies): μ (1 − √ε). Floor: 0.
///
/// # Errors
/// If the views do not fit each other, there is one row only, or an option is out of its range.
///
/// Source: Bardes et al. 2022 (arXiv 2105.04906), equation 6, up to what is said above.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{VicReg, vicreg};
/// let z = Tensor::new(&[[2f32, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]], &Device::Cpu)?;
/// let loss = vicreg(&z, &z, &VicReg::default())?.mean()?.to_scalar::<f32>()?;
/// assert_eq!(loss, 0.0); // alike, spread out, uncorrelated
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn vicreg(a: &Tensor, b: &Tensor, config: &VicReg) -> Result<PerAnchor> {
    config.check()?;
    let (a, b) = two_views(a, b)?;
    let (rows, dims) = a.dims2()?;
    if rows < 2 {
        return Err(Error::Shape {
            what: "a view of VICReg, whose variances need two rows,",
            expected: "[at least 2, D]",
            got: vec![rows, dims],
        });
    }
    let degrees = 1.0 / (rows - 1) as f64;
    let invariance = (&a - &b)?.sqr()?.mean(0)?.affine(config.invariance, 0.0)?; // [D]
    let spread = |x: &Tensor| -> Result<Tensor> {
        let x = centred(x)?;
        let variance = x.sqr()?.sum(0)?.affine(degrees, config.eps)?; // [D]
        let missing = hinge(&variance.sqrt()?.affine(-1.0, 1.0)?)?;
        let covariance = x.t()?.contiguous()?.matmul(&x)?.affine(degrees, 0.0)?; // [D, D]
        let redundancy = off_diagonal_squares(&covariance)?;
        Ok((missing.affine(config.variance / 2.0, 0.0)?
            + redundancy.affine(config.covariance, 0.0)?)?)
    };
    let values = ((invariance + spread(&a)?)? + spread(&b)?)?;
    all_defined(values, 0, dims)
}

impl VicReg {
    /// Checks the options.
    ///
    /// # Errors
    /// If a weight is negative or ε is not above 0.
    pub fn check(&self) -> Result<()> {
        check_range("invariance", self.invariance, 0.0, f64::MAX)?;
        check_range("variance", self.variance, 0.0, f64::MAX)?;
        check_range("covariance", self.covariance, 0.0, f64::MAX)?;
        check_positive("eps", self.eps)
    }

    /// Collapse value and floor.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            collapse: self.variance * (1.0 - self.eps.sqrt()).max(0.0),
            floor: 0.0,
        }
    }
}
