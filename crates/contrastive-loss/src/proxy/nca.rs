//! Proxy-NCA, Movshovitz-Attias et al. 2017 (arXiv 1703.07464).

use candle_core::Tensor;

use super::Inputs;
use crate::terms::check_positive;
use crate::{Bounds, PerAnchor, Result};

/// Options of [`proxy_nca`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct ProxyNca {
    /// κ; 1 in the paper.
    pub scale: f64,
}

impl Default for ProxyNca {
    fn default() -> Self {
        Self { scale: 1.0 }
    }
}

/// Proxy-NCA: z `[N, D]`, labels `[N]` below C, proxies `[C, D]` (both are normalised inside) → one value per row.
///
/// L_i = − ln ( exp(−κ ‖z_i − w_{y_i}‖²) / Σ_c exp(−κ ‖z_i − w_c‖²) ).
///
/// The denominator holds the row's own proxy too, as in pytorch-metric-learning; the paper leaves it out. No row is
/// undefined. Collapse value (embeddings and proxies coincide): ln C. Floor: ln(1 + (C − 1) e^{−4κ}).
///
/// # Errors
/// If shapes do not fit, a label has no proxy, or κ is not a positive finite number.
///
/// Source: Movshovitz-Attias et al. 2017 (arXiv 1703.07464), as pytorch-metric-learning computes it (`losses/proxy_losses.py`,
/// `ProxyNCALoss`).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{ProxyNca, proxy_nca};
/// let z = Tensor::new(&[[2f32, 0.0]], &Device::Cpu)?;
/// let proxies = Tensor::new(&[[1f32, 0.0], [-1.0, 0.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32], &Device::Cpu)?;
/// let loss = proxy_nca(&z, &labels, &proxies, &ProxyNca::default())?.mean()?;
/// assert!((loss.to_scalar::<f32>()? - (-4f32).exp().ln_1p()).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn proxy_nca(
    z: &Tensor,
    labels: &Tensor,
    proxies: &Tensor,
    config: &ProxyNca,
) -> Result<PerAnchor> {
    config.check()?;
    let inputs = Inputs::read(z, labels, proxies, 1)?;
    // −κ‖z − w‖² = 2κ cos − 2κ, and the constant cancels.
    inputs.cross_entropy(&inputs.cosines()?.affine(2.0 * config.scale, 0.0)?)
}

impl ProxyNca {
    /// Checks the options.
    ///
    /// # Errors
    /// If κ is not a positive finite number.
    pub fn check(&self) -> Result<()> {
        check_positive("scale", self.scale)
    }

    /// Collapse value and floor with `classes` proxies.
    pub fn bounds(&self, classes: usize) -> Bounds {
        let others = classes.saturating_sub(1) as f64;
        Bounds {
            collapse: others.ln_1p(),
            floor: (others * (-4.0 * self.scale).exp()).ln_1p(),
        }
    }
}
