//! Margins on the angle: ArcFace, Deng et al. 2019 (arXiv 1801.07698), equation 3; sub-centre ArcFace, Deng et al. 2020 (ECCV).

use candle_core::Tensor;

use super::{Inputs, bounds, options};
use crate::terms::{check_positive, check_range, hinge, masked};
use crate::{Bounds, PerAnchor, Result};

options! {
    /// Options of [`arcface`].
    ArcFace {
        /// m, added to the own class' angle, in radians; 0.5 (28.6°) in the paper.
        margin: f64 = 0.5,
        /// s; 64 in the paper.
        scale: f64 = 64.0,
    }
}

options! {
    /// Options of [`subcenter_arcface`].
    SubCenterArcFace {
        /// m, added to the own class' angle, in radians.
        margin: f64 = 0.5,
        /// s.
        scale: f64 = 64.0,
        /// K, proxies for each class; 3 in the paper.
        sub_centers: usize = 3,
    }
}

/// ArcFace: z `[N, D]`, labels `[N]` below C, proxies `[C, D]` (both are normalised inside) → one value per row.
///
/// L_i = − ln softmax_{y_i}( s cos(θ_ic + m 1\[c = y_i\]) ), θ_ic the angle between z_i and w_c. Where θ + m passes π, cos θ − m sin m
/// stands for cos(θ + m), so that the loss keeps falling with θ.
///
/// No row is undefined. Collapse value: ln(1 + (C − 1) e^{s(1 − cos m)}). Floor: ln(1 + (C − 1) e^{−s(1 + cos m)}).
///
/// # Errors
/// If shapes do not fit, a label has no proxy, or an option is out of its range.
///
/// Source: Deng et al. 2019 (arXiv 1801.07698), equation 3.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{ArcFace, arcface};
/// let proxies = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 1], &Device::Cpu)?;
/// let config = ArcFace { margin: 0.5, scale: 2.0 };
/// let loss = arcface(&proxies, &labels, &proxies, &config)?.mean()?.to_scalar::<f32>()?;
/// assert!((loss - (-2.0 * 0.5f32.cos()).exp().ln_1p()).abs() < 1e-3);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn arcface(
    z: &Tensor,
    labels: &Tensor,
    proxies: &Tensor,
    config: &ArcFace,
) -> Result<PerAnchor> {
    config.check()?;
    let inputs = Inputs::read(z, labels, proxies, 1)?;
    angular(&inputs, &inputs.cosines()?, config)
}

/// Sub-centre ArcFace: z `[N, D]`, labels `[N]` below C, proxies `[C·K, D]`, a class' K together (all normalised inside) → one value per row.
///
/// [`arcface`] over max_k cos(z_i, w_ck): a class may have several clusters, and outliers a centre of their own.
///
/// No row is undefined. Collapse value and floor are [`arcface`]'s.
///
/// # Errors
/// As [`arcface`], and if K is 0 or does not divide the number of proxies.
///
/// Source: Deng et al. 2020 (ECCV), "Sub-center ArcFace: Boosting Face Recognition by Large-Scale Noisy Web Faces", as
/// pytorch-metric-learning computes it (`losses/subcenter_arcface_loss.py`).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{ArcFace, SubCenterArcFace, arcface, subcenter_arcface};
/// let proxies = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [-1.0, 0.3], [-1.0, 0.3]], &Device::Cpu)?;
/// let z = Tensor::new(&[[0.9f32, 0.1]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32], &Device::Cpu)?;
/// let config = SubCenterArcFace { sub_centers: 2, ..SubCenterArcFace::default() };
/// let several = subcenter_arcface(&z, &labels, &proxies, &config)?.mean()?.to_scalar::<f32>()?;
/// let nearest = Tensor::new(&[[1f32, 0.0], [-1.0, 0.3]], &Device::Cpu)?;
/// let one = arcface(&z, &labels, &nearest, &ArcFace::default())?.mean()?.to_scalar::<f32>()?;
/// assert_eq!(several, one);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn subcenter_arcface(
    z: &Tensor,
    labels: &Tensor,
    proxies: &Tensor,
    config: &SubCenterArcFace,
) -> Result<PerAnchor> {
    config.check()?;
    let inputs = Inputs::read(z, labels, proxies, config.sub_centers)?;
    let cosines = inputs.cosines()?; // [N, C·K]
    let (rows, columns) = cosines.dims2()?;
    // The nearest sub-centre, the first of equals, chosen on the host: Candle's gradient of `max` counts ties twice.
    let mut nearest = Vec::with_capacity(rows * inputs.classes);
    for (row, values) in crate::miners::host(&cosines)?.iter().enumerate() {
        for class in values.chunks(config.sub_centers).enumerate() {
            let (number, cosines) = class;
            let mut best = 0;
            for (k, cosine) in cosines.iter().enumerate() {
                if *cosine > cosines[best] {
                    best = k;
                }
            }
            nearest.push((row * columns + number * config.sub_centers + best) as u32);
        }
    }
    let nearest = Tensor::from_vec(nearest, rows * inputs.classes, cosines.device())?;
    let cosines = cosines
        .flatten_all()?
        .index_select(&nearest, 0)?
        .reshape((rows, inputs.classes))?; // [N, C]
    angular(&inputs, &cosines, &config.as_arcface())
}

/// ArcFace over cosines `[N, C]`.
fn angular(inputs: &Inputs, cosines: &Tensor, config: &ArcFace) -> Result<PerAnchor> {
    let (cos_m, sin_m) = (config.margin.cos(), config.margin.sin());
    // cos(θ + m) = cos θ cos m − sin θ sin m. Rounding may put |cos θ| past 1, and the root's slope is infinite at 0: there
    // the sine is held at its least value.
    let least = 1e-12;
    let square = hinge(&cosines.sqr()?.affine(-1.0, 1.0 - least)?)?;
    let sine = square.affine(1.0, least)?.sqrt()?;
    let turned = (cosines.affine(cos_m, 0.0)? - sine.affine(sin_m, 0.0)?)?;
    let flat = cosines.affine(1.0, -config.margin * sin_m)?;
    // θ + m ≤ π, where cos θ ≥ −cos m.
    let within = cosines.detach().ge(-cos_m)?;
    let moved = within.where_cond(&turned, &flat)?;
    let own = inputs.own()?;
    let others = own.eq(0u8)?;
    let x = (masked(&moved, &own)? + masked(cosines, &others)?)?;
    inputs.cross_entropy(&x.affine(config.scale, 0.0)?)
}

impl ArcFace {
    /// Checks the options.
    ///
    /// # Errors
    /// If m leaves 0 to π/2, or s is not a positive finite number.
    pub fn check(&self) -> Result<()> {
        check_range("margin", self.margin, 0.0, std::f64::consts::FRAC_PI_2)?;
        check_positive("scale", self.scale)
    }

    /// Collapse value and floor with `classes` classes.
    pub fn bounds(&self, classes: usize) -> Bounds {
        let (s, cosine) = (self.scale, self.margin.cos());
        bounds(classes, s * (1.0 - cosine), -s * (1.0 + cosine))
    }
}

impl SubCenterArcFace {
    /// Checks the options.
    ///
    /// # Errors
    /// As [`ArcFace::check`], and if K is not 1 to 100.
    pub fn check(&self) -> Result<()> {
        check_range("sub_centers", self.sub_centers as f64, 1.0, 100.0)?;
        self.as_arcface().check()
    }

    /// Collapse value and floor with `classes` classes.
    pub fn bounds(&self, classes: usize) -> Bounds {
        self.as_arcface().bounds(classes)
    }

    fn as_arcface(&self) -> ArcFace {
        ArcFace {
            margin: self.margin,
            scale: self.scale,
        }
    }
}
