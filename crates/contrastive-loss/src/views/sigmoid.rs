//! The pairwise sigmoid loss of SigLIP, Zhai et al. 2023 (arXiv 2303.15343), section 3.2 and algorithm 1.

use candle_core::Tensor;

use super::{diagonal, two_views, without_negatives};
use crate::terms::{check_range, softplus, softplus_of};
use crate::{Bounds, Error, PerAnchor, Result, logits};

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
/// Source: Zhai et al. 2023 (arXiv 2303.15343), algorithm 1, whose sign the bias has; the equation of section 3.2, without a number, prints
/// −t x·y + b.
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
    let [log_scale, bias] = check_scalars(&x, log_scale, bias)?;
    let rows = x.dim(0)?;
    let logits = x
        .matmul(&y.t()?)?
        .broadcast_mul(&log_scale.exp()?)?
        .broadcast_add(&bias)?; // [N, N]
    let own = diagonal(rows, x.device())?;
    let terms = softplus(&own.where_cond(&logits.neg()?, &logits)?)?;
    without_negatives(terms.sum(1)?, rows == 1)
}

/// ln t and b as `[1, 1]` in the embeddings' type.
pub(crate) fn check_scalars(x: &Tensor, log_scale: &Tensor, bias: &Tensor) -> Result<[Tensor; 2]> {
    let scalar = |what, parameter: &Tensor| match parameter.elem_count() {
        1 => Ok(parameter.to_dtype(x.dtype())?.reshape((1, 1))?),
        _ => Err(Error::Shape {
            what,
            expected: "[] or [1]",
            got: parameter.dims().to_vec(),
        }),
    };
    Ok([scalar("log_scale", log_scale)?, scalar("bias", bias)?])
}

impl Sigmoid {
    /// ln t and b: the trained ones, or where they begin, as constants.
    pub(crate) fn scalars(&self, like: &Tensor, parameters: &[Tensor]) -> Result<[Tensor; 2]> {
        match parameters {
            [log_scale, bias] => Ok([log_scale.clone(), bias.clone()]),
            _ => Ok([
                logits::constant(vec![self.log_scale], 1, like)?,
                logits::constant(vec![self.bias], 1, like)?,
            ]),
        }
    }

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
