//! The losses, put together from row sums and attractions: the same values as the dense functions of the same names.

use std::sync::Arc;

use candle_core::Tensor;

use super::attraction::attraction;
use super::op::row_sums;
use super::sides::{Mask, Sides, Terms};
use crate::pairs::Pairs;
use crate::similarity::{check_temperature, embeddings, row_sums as sums_of_rows};
use crate::{
    Denominator, Error, NpairsConfig, NpairsTargets, NtXentConfig, PerAnchor, Result, Summation,
    SupConConfig, UndefinedRows, labels, logits,
};

/// [`supcon`](crate::supcon()) without a similarity matrix: z `[N, D]` as it is, labels `[N]` → one value per row.
///
/// L_out,i = LSE_{D_i}(s_i) − mean_{P(i)} s_ip and L_in,i = LSE_{D_i}(s_i) − LSE_{P(i)}(s_i) + ln |P(i)|, the same equations, policies
/// and gradients in O(N·D) memory.
///
/// # Errors
/// As [`supcon`](crate::supcon()); and for [`Denominator::OnePositive`], whose denominators differ from positive to positive: it
/// has no tiled form.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{SupConConfig, normalize, supcon, tiled};
/// let z = Tensor::new(&[[1f32, 0.1], [1.0, -0.1], [-1.0, 0.2], [-1.0, 0.0]], &Device::Cpu)?;
/// let (z, labels) = (normalize(&z)?, Tensor::new(&[0u32, 0, 1, 1], &Device::Cpu)?);
/// let config = SupConConfig { temperature: 0.5, ..Default::default() };
/// let dense = supcon(&z, &labels, &config)?.mean()?.to_scalar::<f32>()?;
/// let tiled = tiled::supcon(&z, &labels, &config)?.mean()?.to_scalar::<f32>()?;
/// assert!((dense - tiled).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn supcon(z: &Tensor, labels: &Tensor, config: &SupConConfig) -> Result<PerAnchor> {
    let z = embeddings(z, "embeddings")?;
    let pairs = Pairs::from_labels(labels::read(labels, z.dim(0)?)?);
    supcon_over(&z, None, Sides::itself(pairs.groups_of_rows()), config)
}

/// [`nt_xent`](crate::nt_xent()) without a similarity matrix: z `[V·B, D]`, view-major, as it is → one value per row.
///
/// # Errors
/// As [`nt_xent`](crate::nt_xent()).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{NtXentConfig, tiled};
/// let z = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let loss = tiled::nt_xent(&z, 2, &NtXentConfig { temperature: 0.05 })?.mean()?;
/// assert!(loss.to_scalar::<f32>()? < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn nt_xent(z: &Tensor, views: usize, config: &NtXentConfig) -> Result<PerAnchor> {
    let z = embeddings(z, "embeddings")?;
    crate::nt_xent::check_views(z.dim(0)?, views)?;
    let pairs = Pairs::from_views(z.dim(0)?, views);
    supcon_over(
        &z,
        None,
        Sides::itself(pairs.groups_of_rows()),
        &config.as_supcon(),
    )
}

/// [`npairs`](crate::npairs()) from embeddings, without a similarity matrix: z `[N, D]` as it is, s = z·zᵀ / τ, labels `[N]` → one
/// value per row.
///
/// L_i = LSE(s_i) − (s_ii + Σ_{p ∈ P(i)} s_ip) / n_i, n_i = |P(i)| + 1.
///
/// # Errors
/// If `z` is not a non-empty `[N, D]` float tensor, the labels do not fit it, or τ is not a positive finite number.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{NpairsConfig, tiled};
/// let z = Tensor::new(&[[1f32, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 0, 1, 1], &Device::Cpu)?;
/// let loss = tiled::npairs(&z, &labels, 1.0, &NpairsConfig::default())?.mean()?;
/// assert!((loss.to_scalar::<f32>()? - 1.253856).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn npairs(
    z: &Tensor,
    labels: &Tensor,
    temperature: f64,
    config: &NpairsConfig,
) -> Result<PerAnchor> {
    let z = embeddings(z, "embeddings")?;
    let pairs = Pairs::from_labels(labels::read(labels, z.dim(0)?)?);
    let sides = Sides::itself(pairs.groups_of_rows());
    npairs_over(&z, None, sides, temperature, config)
}

/// Options of [`info_nce`].
#[derive(Clone, Debug, PartialEq)]
pub struct InfoNceConfig {
    /// τ; 0.07 in MoCo.
    pub temperature: f64,
    /// Whether the other rows' keys are negatives too (SimCLR, CLIP) beside those that are handed in (MoCo: those alone).
    pub in_batch: bool,
}

impl Default for InfoNceConfig {
    fn default() -> Self {
        Self {
            temperature: 0.07,
            in_batch: true,
        }
    }
}

/// InfoNCE without a similarity matrix: queries `[N, D]`, their keys `[N, D]`, more negatives `[M, D]` (a queue) → one value per query.
///
/// L_i = ln( e^{q_i·k_i/τ} + Σ_j e^{q_i·n_j/τ} ) − q_i·k_i/τ over the negatives n_j: those handed in, and with `in_batch` the other rows'
/// keys. Rows are taken as they are. A query without any negative has the value 0. Gradients flow to all three; detach keys
/// or queue where they come from a momentum encoder.
///
/// # Errors
/// If the tensors are not non-empty float tensors of one width, queries and keys differ in number, or τ is not a positive
/// finite number.
///
/// Source: van den Oord et al. 2018 (arXiv 1807.03748), equation 4; He et al. 2020 (arXiv 1911.05722), equation 1.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::tiled::{InfoNceConfig, info_nce};
/// let q = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let queue = Tensor::new(&[[-1f32, 0.0]], &Device::Cpu)?;
/// let config = InfoNceConfig { temperature: 1.0, in_batch: false };
/// let values = info_nce(&q, &q, Some(&queue), &config)?.values.to_vec1::<f32>()?;
/// assert!((values[0] - (1.0 + (-2f32).exp()).ln()).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn info_nce(
    queries: &Tensor,
    keys: &Tensor,
    negatives: Option<&Tensor>,
    config: &InfoNceConfig,
) -> Result<PerAnchor> {
    check_temperature(config.temperature)?;
    let queries = embeddings(queries, "queries")?;
    let keys = embeddings(keys, "keys")?.to_dtype(queries.dtype())?;
    let n = queries.dim(0)?;
    if keys.dims() != queries.dims() {
        return Err(mismatch("keys", &keys, "queries", &queries));
    }
    let mut candidates = Vec::new();
    let mut groups: Vec<u32> = Vec::new();
    if config.in_batch {
        candidates.push(keys.clone());
        groups.extend(0..n as u32);
    }
    if let Some(negatives) = negatives {
        let negatives = embeddings(negatives, "negatives")?.to_dtype(queries.dtype())?;
        if negatives.dim(1)? != queries.dim(1)? {
            return Err(mismatch("negatives", &negatives, "queries", &queries));
        }
        groups.resize(groups.len() + negatives.dim(0)?, n as u32);
        candidates.push(negatives);
    }
    let positive = sums_of_rows(&(&queries * &keys)?)?.affine(1.0 / config.temperature, 0.0)?; // [N]
    let own = usize::from(config.in_batch);
    let without_negatives = if groups.len() == own { n } else { 0 };
    let raw = if groups.len() == own {
        positive.zeros_like()?
    } else {
        let candidates = Tensor::cat(&candidates, 0)?; // [M, D]
        let sides = Arc::new(Sides::pair((0..n as u32).collect(), groups, None));
        let terms = Terms::LogSumExp(vec![Mask::Different]);
        let repulsion = row_sums(
            &sides,
            terms,
            config.temperature,
            &queries,
            Some(&candidates),
        )?
        .squeeze(1)?; // [N]
        (logits::log_add_exp(&repulsion, &positive)? - positive)?
    };
    PerAnchor::new(
        &raw,
        vec![true; n],
        (0, without_negatives),
        UndefinedRows::Skip,
        "no positive",
    )
}

/// Options of [`sigmoid`].
#[derive(Clone, Debug, PartialEq)]
pub struct SigmoidConfig {
    /// τ; 1/10 where SigLIP begins.
    pub temperature: f64,
    /// b; −10 where SigLIP begins, about ln of the share of positive pairs.
    pub bias: f64,
}

impl Default for SigmoidConfig {
    fn default() -> Self {
        Self {
            temperature: 0.1,
            bias: -10.0,
        }
    }
}

/// SigLIP's pairwise sigmoid loss over a labelled batch, without a similarity matrix: z `[N, D]` as it is, labels `[N]` → one
/// value per row.
///
/// L_i = Σ_{j ≠ i} ln(1 + exp(−y_ij (z_i·z_j / τ + b))), y_ij = 1 for rows of one label and −1 otherwise. Every row is defined. τ
/// and b are constants here.
///
/// # Errors
/// If `z` is not a non-empty `[N, D]` float tensor, the labels do not fit it, τ is not a positive finite number or b not finite.
///
/// Source: Zhai et al. 2023 (arXiv 2303.15343), equation in section 3.2, with labels in place of pairs.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::tiled::{SigmoidConfig, sigmoid};
/// let z = Tensor::new(&[[1f32, 0.0], [1.0, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 0, 1], &Device::Cpu)?;
/// let config = SigmoidConfig { temperature: 1.0, bias: 0.0 };
/// let values = sigmoid(&z, &labels, &config)?.values.to_vec1::<f32>()?;
/// assert!((values[0] - ((1.0 + (-1f32).exp()).ln() + 2f32.ln())).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn sigmoid(z: &Tensor, labels: &Tensor, config: &SigmoidConfig) -> Result<PerAnchor> {
    check_temperature(config.temperature)?;
    if !config.bias.is_finite() {
        return Err(Error::Bias { got: config.bias });
    }
    let z = embeddings(z, "embeddings")?;
    let pairs = Pairs::from_labels(labels::read(labels, z.dim(0)?)?);
    let lonely = pairs.lonely();
    let sides = Arc::new(Sides::itself(pairs.groups_of_rows()));
    let terms = Terms::Sigmoid {
        bias: config.bias as f32,
    };
    let raw = row_sums(&sides, terms, config.temperature, &z, None)?.squeeze(1)?; // [N]
    PerAnchor::new(
        &raw,
        vec![true; sides.anchors.len()],
        lonely,
        UndefinedRows::Skip,
        "no positive",
    )
}

/// SupCon of anchors against candidates (none: the anchors).
pub(crate) fn supcon_over(
    anchors: &Tensor,
    candidates: Option<&Tensor>,
    sides: Sides,
    config: &SupConConfig,
) -> Result<PerAnchor> {
    config.check()?;
    let denominator = match config.denominator {
        Denominator::All => Mask::Others,
        Denominator::OnlyNegatives => Mask::Different,
        Denominator::OnePositive => {
            return Err(Error::Untiled {
                what: "the denominator of one positive and the negatives",
            });
        }
    };
    let sides = Arc::new(sides);
    let counts = sides.counts();
    let tau = config.temperature;
    let raw = match config.summation {
        Summation::Out => {
            let terms = Terms::LogSumExp(vec![denominator]);
            let repulsion = row_sums(&sides, terms, tau, anchors, candidates)?.squeeze(1)?; // [N]
            (repulsion - attraction(&sides, false, tau, anchors, candidates)?)?
        }
        Summation::In => {
            let terms = Terms::LogSumExp(vec![denominator, Mask::Same]);
            let sums = row_sums(&sides, terms, tau, anchors, candidates)?; // [N, 2]
            let logs = counts
                .iter()
                .map(|&(positives, _)| (positives.max(1) as f64).ln());
            let logs = logits::constant(logs.collect(), counts.len(), anchors)?;
            ((sums.narrow(1, 0, 1)? - sums.narrow(1, 1, 1)?)?.squeeze(1)? + logs)?
        }
    };
    let raw = match config.scale.factor(tau) {
        1.0 => raw,
        factor => raw.affine(factor, 0.0)?,
    };
    let only_negatives = config.denominator == Denominator::OnlyNegatives;
    let defined = counts
        .iter()
        .map(|&(positives, negatives)| positives > 0 && (negatives > 0 || !only_negatives));
    let missing = match only_negatives {
        true => "no positive or no negative",
        false => "no positive",
    };
    PerAnchor::new(
        &raw,
        defined.collect(),
        lonely(&counts),
        config.undefined_rows,
        missing,
    )
}

/// npairs of anchors against candidates (none: the anchors).
pub(crate) fn npairs_over(
    anchors: &Tensor,
    candidates: Option<&Tensor>,
    sides: Sides,
    temperature: f64,
    config: &NpairsConfig,
) -> Result<PerAnchor> {
    check_temperature(temperature)?;
    let sides = Arc::new(sides);
    let counts = sides.counts();
    let terms = Terms::LogSumExp(vec![Mask::All]);
    let normaliser = row_sums(&sides, terms, temperature, anchors, candidates)?.squeeze(1)?; // [N]
    let raw = (normaliser - attraction(&sides, true, temperature, anchors, candidates)?)?;
    let raw = match config.targets {
        NpairsTargets::Normalized => raw,
        NpairsTargets::Boolean => {
            let sizes = counts.iter().map(|&(positives, _)| positives as f64 + 1.0);
            (&raw * logits::constant(sizes.collect(), counts.len(), &raw)?)?
        }
    };
    PerAnchor::new(
        &raw,
        vec![true; counts.len()],
        lonely(&counts),
        config.undefined_rows,
        "no label",
    )
}

/// Anchors without a positive, anchors without a negative.
fn lonely(counts: &[(usize, usize)]) -> (usize, usize) {
    (
        counts.iter().filter(|count| count.0 == 0).count(),
        counts.iter().filter(|count| count.1 == 0).count(),
    )
}

fn mismatch(
    left: &'static str,
    left_tensor: &Tensor,
    right: &'static str,
    right_tensor: &Tensor,
) -> Error {
    Error::Mismatch {
        left,
        left_shape: left_tensor.dims().to_vec(),
        right,
        right_shape: right_tensor.dims().to_vec(),
        need: "keys need the shape of the queries, negatives their width",
    }
}
