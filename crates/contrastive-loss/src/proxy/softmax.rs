//! Classification losses over cosines: normalised softmax, Zhai and Wu 2019 (arXiv 1811.12649); CosFace, Wang et al.
//! 2018 (arXiv 1801.09414), equation 4.

use candle_core::Tensor;

use super::{Inputs, bounds, options};
use crate::similarity::check_temperature;
use crate::terms::{check_positive, check_range};
use crate::{Bounds, PerAnchor, Result};

options! {
    /// Options of [`normalized_softmax`].
    NormalizedSoftmax {
        /// τ; 0.05 in the paper.
        temperature: f64 = 0.05,
    }
}

options! {
    /// Options of [`cosface`].
    CosFace {
        /// m, taken from the own class' cosine; 0.35 in the paper.
        margin: f64 = 0.35,
        /// s; 64 in the paper.
        scale: f64 = 64.0,
    }
}

/// Normalised softmax: z `[N, D]`, labels `[N]` below C, proxies `[C, D]` (both are normalised inside) → one value per row.
///
/// L_i = − ln softmax_{y_i}( cos(z_i, w_c) / τ ).
///
/// No row is undefined. Collapse value (embeddings and proxies coincide): ln C. Floor: ln(1 + (C − 1) e^{−2/τ}).
///
/// # Errors
/// If shapes do not fit, a label has no proxy, or τ is not a positive finite number.
///
/// Source: Zhai and Wu 2019 (arXiv 1811.12649), as its authors' code computes it (classification_metric_learning,
/// `metric_learning/modules/losses.py`, `NormSoftmaxLoss`).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{NormalizedSoftmax, normalized_softmax};
/// let proxies = Tensor::new(&[[1f32, 0.0], [0.0, 3.0]], &Device::Cpu)?;
/// let z = Tensor::new(&[[5f32, 0.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32], &Device::Cpu)?;
/// let config = NormalizedSoftmax { temperature: 1.0 };
/// let loss = normalized_softmax(&z, &labels, &proxies, &config)?.mean()?;
/// assert!((loss.to_scalar::<f32>()? - (-1f32).exp().ln_1p()).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn normalized_softmax(
    z: &Tensor,
    labels: &Tensor,
    proxies: &Tensor,
    config: &NormalizedSoftmax,
) -> Result<PerAnchor> {
    config.check()?;
    let inputs = Inputs::read(z, labels, proxies, 1)?;
    inputs.cross_entropy(&inputs.cosines()?.affine(1.0 / config.temperature, 0.0)?)
}

/// CosFace: z `[N, D]`, labels `[N]` below C, proxies `[C, D]` (both are normalised inside) → one value per row.
///
/// L_i = − ln softmax_{y_i}( s (cos(z_i, w_c) − m 1\[c = y_i\]) ).
///
/// No row is undefined. Collapse value: ln(1 + (C − 1) e^{sm}). Floor: ln(1 + (C − 1) e^{−s(2 − m)}).
///
/// # Errors
/// If shapes do not fit, a label has no proxy, or an option is out of its range.
///
/// Source: Wang et al. 2018 (arXiv 1801.09414), equation 4.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{CosFace, cosface};
/// let proxies = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 1], &Device::Cpu)?;
/// let config = CosFace { margin: 0.25, scale: 2.0 };
/// let loss = cosface(&proxies, &labels, &proxies, &config)?.mean()?.to_scalar::<f32>()?;
/// assert!((loss - (-1.5f32).exp().ln_1p()).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn cosface(
    z: &Tensor,
    labels: &Tensor,
    proxies: &Tensor,
    config: &CosFace,
) -> Result<PerAnchor> {
    config.check()?;
    let inputs = Inputs::read(z, labels, proxies, 1)?;
    let cosines = inputs.cosines()?;
    let moved = inputs
        .own()?
        .where_cond(&cosines.affine(1.0, -config.margin)?, &cosines)?;
    inputs.cross_entropy(&moved.affine(config.scale, 0.0)?)
}

impl NormalizedSoftmax {
    /// Checks the options.
    ///
    /// # Errors
    /// If τ is not a positive finite number.
    pub fn check(&self) -> Result<()> {
        check_temperature(self.temperature)
    }

    /// Collapse value and floor with `classes` classes.
    pub fn bounds(&self, classes: usize) -> Bounds {
        bounds(classes, 0.0, -2.0 / self.temperature)
    }
}

impl CosFace {
    /// Checks the options.
    ///
    /// # Errors
    /// If m leaves 0 to 2, or s is not a positive finite number.
    pub fn check(&self) -> Result<()> {
        check_range("margin", self.margin, 0.0, 2.0)?;
        check_positive("scale", self.scale)
    }

    /// Collapse value and floor with `classes` classes.
    pub fn bounds(&self, classes: usize) -> Bounds {
        let m = self.margin;
        bounds(classes, self.scale * m, self.scale * (m - 2.0))
    }
}
