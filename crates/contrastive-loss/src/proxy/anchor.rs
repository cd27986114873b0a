//! Proxy-anchor, Kim et al. 2020 (arXiv 2003.13911), equation 4.

use candle_core::Tensor;

use super::Inputs;
use crate::terms::{check_positive, check_range, log_one_plus_sum_exp, softplus_of};
use crate::{Bounds, PerAnchor, Result, logits};

/// Options of [`proxy_anchor`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct ProxyAnchor {
    /// α, the scale; 32 in the paper.
    pub alpha: f64,
    /// δ, the margin; 0.1 in the paper.
    pub margin: f64,
}

impl Default for ProxyAnchor {
    fn default() -> Self {
        Self {
            alpha: 32.0,
            margin: 0.1,
        }
    }
}

/// Proxy-anchor: z `[N, D]`, labels `[N]` below C, proxies `[C, D]` (both are normalised inside) → one value per *proxy* `[C]`; they
/// add up to the loss, which [`PerAnchor::mean`] gives.
///
/// L = 1/|W⁺| Σ_{w ∈ W⁺} ln(1 + Σ_{i: y_i = w} exp(−α (cos(z_i, w) − δ))) + 1/C Σ_w ln(1 + Σ_{i: y_i ≠ w} exp(α (cos(z_i, w) + δ))),
/// W⁺ the proxies with a row of their class in the batch.
///
/// A proxy without such a row keeps its second term; [`PerAnchor::without_positives`] counts them. Collapse value: the equation at cos = 1. Floor: own cosines 1,
/// others −1.
///
/// # Errors
/// If shapes do not fit, a label has no proxy, or an option is out of its range.
///
/// Source: Kim et al. 2020 (arXiv 2003.13911), equation 4.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{ProxyAnchor, proxy_anchor};
/// let proxies = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 1], &Device::Cpu)?;
/// let config = ProxyAnchor { alpha: 1.0, margin: 0.0 };
/// let loss = proxy_anchor(&proxies, &labels, &proxies, &config)?.mean()?.to_scalar::<f32>()?;
/// assert!((loss - ((-1f32).exp().ln_1p() + 2f32.ln())).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn proxy_anchor(
    z: &Tensor,
    labels: &Tensor,
    proxies: &Tensor,
    config: &ProxyAnchor,
) -> Result<PerAnchor> {
    config.check()?;
    let inputs = Inputs::read(z, labels, proxies, 1)?;
    let cosines = inputs.cosines()?.t()?.contiguous()?; // [C, N]
    let own = inputs.own()?.t()?.contiguous()?;
    let others = own.eq(0u8)?;
    let (alpha, shift) = (config.alpha, config.alpha * config.margin);
    let pull = log_one_plus_sum_exp(&cosines.affine(-alpha, shift)?, &own)?; // [C]
    let push = log_one_plus_sum_exp(&cosines.affine(alpha, shift)?, &others)?;
    let mut sizes = vec![0usize; inputs.classes];
    for &label in &inputs.labels {
        sizes[label] += 1;
    }
    let with_rows = sizes.iter().filter(|&&size| size > 0).count();
    let rows = inputs.labels.len();
    let shares = |count: usize| {
        logits::constant(
            vec![1.0 / count.max(1) as f64; sizes.len()],
            sizes.len(),
            &pull,
        )
    };
    let values = ((&pull * shares(with_rows)?)? + (push * shares(inputs.classes)?)?)?;
    Ok(PerAnchor {
        values,
        defined: vec![true; inputs.classes],
        without_positives: inputs.classes - with_rows,
        without_negatives: sizes.iter().filter(|&&size| size == rows).count(),
        divisor: 1,
    })
}

impl ProxyAnchor {
    /// Checks the options.
    ///
    /// # Errors
    /// If α is not a positive finite number, or δ leaves 0 to 2.
    pub fn check(&self) -> Result<()> {
        check_positive("alpha", self.alpha)?;
        check_range("margin", self.margin, 0.0, 2.0)
    }

    /// Collapse value and floor of a batch with `labels`, of `classes` classes.
    pub fn bounds(&self, labels: &[u32], classes: usize) -> Bounds {
        let mut sizes = vec![0usize; classes];
        for &label in labels {
            if let Some(size) = sizes.get_mut(label as usize) {
                *size += 1;
            }
        }
        let term = |count: usize, x: f64| match count {
            0 => 0.0,
            count => softplus_of((count as f64).ln() + self.alpha * x),
        };
        let with_rows = sizes.iter().filter(|&&size| size > 0).count().max(1) as f64;
        let at = |others: f64| {
            sizes
                .iter()
                .map(|&size| {
                    term(size, self.margin - 1.0) / with_rows
                        + term(labels.len() - size, others + self.margin) / classes as f64
                })
                .sum()
        };
        Bounds {
            collapse: at(1.0),
            floor: at(-1.0),
        }
    }
}
