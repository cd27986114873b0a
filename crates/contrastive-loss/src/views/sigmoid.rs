//! The pairwise sigmoid loss of SigLIP, Zhai et al. 2023 (arXiv 2303.15343), section 3.2 and algorithm 1.

use candle_core::Tensor;

use super::{all_defined, diagonal, two_views};
use crate::terms::{check_range, softplus, softplus_of};
use crate::{Bounds, Error, PerAnchor, Result};

/// Options of [`sigmoid`]: where its two parameters begin.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Sigmoid {
    /// ln t, t the scale of the similarities; ln 10 in the paper.
    pub log_scale: f64,
    /// b, the bias; −10 in the paper, since nearly all pairs are negatives.
    pub bias: f64,
}

impl Default for Sigmoid {
    fn default() -> Self {
        Self {
            log_scale: 10f64.ln(),
            bias: -10.0,
        }
    }
}

/// The pairwise sigmoid loss: view 0 x `[N, D]` and view 1 y `[N, D]` as they are ([`normalize`](crate::normalize) first for
/// cosines), ln t and b scalars (trainable, or constants) → one value per row of x.
///
/// L_i = Σ_j ln( 1 + exp(−z_ij (t x_i·y_j + b)) ), z_ij = 1 for i = j and −1 otherwise.
///
/// Every row has its positive. Collapse value: ln(1 + e^{−t−b}) + (N − 1) ln(1 + e^{t+b}). Floor over normalised rows: ln(1 + e^{−t−b}) + (N − 1)
/// ln(1 + e^{b−t}).
///
/// # Errors
/// If the tensors do not fit each other, or a parameter is no scalar.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::sigmoid;
/// let x = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let (log_scale, bias) = (Tensor::new(0f32, &Device::Cpu)?, Tensor::new(0f32, &Device::Cpu)?);
/// let loss = sigmoid(&x, &x, &log_scale, &bias)?.mean()?.to_scalar::<f32>()?;
/// assert!((loss - ((-1f32).exp().ln_1p() + 2f32.ln())).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn sigmoid(x: &Tensor, y: &Tensor, log_scale: &Tensor, bias: &Tensor) -> Result<PerAnchor> {
    let (x, y) = two_views(x, y)?;
    for (what, parameter) in [("log_scale", log_scale), ("bias", bias)] {
        if parameter.elem_count() != 1 {
            return Err(Error::Shape {
                what,
                expected: "[] or [1]",
                got: parameter.dims().to_vec(),
            });
        }
    }
    let scalar = |parameter: &Tensor| parameter.to_dtype(x.dtype())?.reshape((1, 1));
    let rows = x.dim(0)?;
    let logits = x
        .matmul(&y.t()?)?
        .broadcast_mul(&scalar(log_scale)?.exp()?)?
        .broadcast_add(&scalar(bias)?)?; // [N, N]
    let own = diagonal(rows, x.device())?;
    let terms = softplus(&own.where_cond(&logits.neg()?, &logits)?)?;
    all_defined(terms.sum(1)?, usize::from(rows == 1), rows)
}

impl Sigmoid {
    /// Checks the options.
    ///
    /// # Errors
    /// If the scale leaves e⁻¹⁰ to e¹⁰, or the bias ±1000.
    pub fn check(&self) -> Result<()> {
        check_range("log_scale", self.log_scale, -10.0, 10.0)?;
        check_range("bias", self.bias, -1000.0, 1000.0)
    }

    /// Collapse value and floor of `samples` rows at these parameters.
    pub fn bounds(&self, samples: usize) -> Bounds {
        let (t, b) = (self.log_scale.exp(), self.bias);
        let others = samples.saturating_sub(1) as f64;
        Bounds {
            collapse: softplus_of(-t - b) + others * softplus_of(t + b),
            floor: softplus_of(-t - b) + others * softplus_of(b - t),
        }
    }
}
