//! Supervised contrastive loss, Khosla et al. 2020 (arXiv 2004.11362), equations 2 (out) and 3 (in).

use candle_core::Tensor;

use crate::pairs::Pairs;
use crate::similarity::{
    check_temperature, embeddings, one_where_zero, row_sums, similarity_matrix,
};
use crate::{Error, PerAnchor, Result, UndefinedRows, labels, logits};

/// Where the sum over the positives stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Summation {
    /// Outside the logarithm, L_out (equation 2): the better one in the paper, 78.7 against 67.4 on ImageNet.
    #[default]
    Out,
    /// Inside the logarithm, L_in (equation 3): at most L_out, equal to it when each row has one positive.
    In,
}

/// Which rows the denominator sums over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Denominator {
    /// All other rows, S_i: the paper's.
    #[default]
    All,
    /// The positive of the numerator and the negatives.
    OnePositive,
    /// The negatives alone; a row without negatives is undefined.
    OnlyNegatives,
}

/// A factor on every value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Scale {
    /// 1: the equation as printed.
    #[default]
    One,
    /// τ / base: the reference PyTorch code with base 0.07, google-research's `scale_by_temperature` with base 1.
    TemperatureOver(f64),
}

impl Scale {
    /// The factor at a temperature.
    pub(crate) fn factor(self, temperature: f64) -> f64 {
        match self {
            Self::One => 1.0,
            Self::TemperatureOver(base) => temperature / base,
        }
    }
}

/// Options of [`supcon`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct SupConConfig {
    /// τ; 0.1 in the paper.
    pub temperature: f64,
    /// L_out or L_in.
    pub summation: Summation,
    /// Which rows the denominator sums over.
    pub denominator: Denominator,
    /// A factor on every value.
    pub scale: Scale,
    /// What becomes of rows without a positive (or, for [`Denominator::OnlyNegatives`], without a negative).
    pub undefined_rows: UndefinedRows,
}

impl Default for SupConConfig {
    fn default() -> Self {
        Self {
            temperature: 0.1,
            summation: Summation::default(),
            denominator: Denominator::default(),
            scale: Scale::default(),
            undefined_rows: UndefinedRows::default(),
        }
    }
}

impl SupConConfig {
    /// Checks the temperature and the scale.
    pub(crate) fn check(&self) -> Result<()> {
        check_temperature(self.temperature)?;
        match self.scale {
            Scale::TemperatureOver(got) if !(got.is_finite() && got > 0.0) => {
                Err(Error::ScaleBase { got })
            }
            _ => Ok(()),
        }
    }

    /// Whether the loss of a row is defined.
    pub(crate) fn defines(&self, positives: usize, negatives: usize) -> bool {
        positives > 0 && (self.denominator != Denominator::OnlyNegatives || negatives > 0)
    }
}

/// SupCon over embeddings as they are: z `[N, D]` ([`normalize`](crate::normalize) first for cosines), labels `[N]` (an
/// integer type) → one value per row.
///
/// With s_ij = z_i·z_j / τ, P(i) the other rows of i's label, and D_i the denominator's rows (S_i, all rows but i, unless
/// configured otherwise):
///
/// - L_out,i = mean_{p ∈ P(i)} \[ LSE_{D_i}(s_i) − s_ip \]
/// - L_in,i  = − ln mean_{p ∈ P(i)} exp( s_ip − LSE_{D_i}(s_i) )
///
/// D_i is S_i for [`Denominator::All`], p and the negatives for [`Denominator::OnePositive`], the negatives for
/// [`Denominator::OnlyNegatives`]. Rows without a positive are undefined: `config.undefined_rows` says what becomes of them,
/// and the result counts them. Values are multiplied by the factor of `config.scale`.
///
/// Over normalised rows, m_i the negatives of row i, both times that factor: collapse value ln |D_i|, which is ln(N − 1), ln(1 + m_i) or
/// ln m_i for the three denominators; floor ln(|P(i)| + m_i e^{c/τ}), ln(1 + m_i e^{c/τ}) or ln m_i + c/τ, c = −1 − 1/(C − 1) for C labels of
/// as many rows each and −2 otherwise.
///
/// # Errors
/// If `z` is not a non-empty `[N, D]` float tensor, the labels do not fit it, or τ is not a positive finite number.
///
/// Source: Khosla et al. 2020 (arXiv 2004.11362), equations 2 (out) and 3 (in), of which these are the rows; denominators as in
/// google-research's code (`supcon/losses.py`, `contrastive_loss`).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{SupConConfig, normalize, supcon};
/// let z = Tensor::new(&[[1f32, 0.1], [1.0, -0.1], [-1.0, 0.2], [-1.0, 0.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 0, 1, 1], &Device::Cpu)?;
/// let loss = supcon(&normalize(&z)?, &labels, &SupConConfig::default())?;
/// assert_eq!(loss.without_positives, 0);
/// assert!(loss.mean()?.to_scalar::<f32>()? < 1e-4); // the classes are apart already
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn supcon(z: &Tensor, labels: &Tensor, config: &SupConConfig) -> Result<PerAnchor> {
    let z = embeddings(z, "embeddings")?;
    let pairs = Pairs::from_labels(labels::read(labels, z.dim(0)?)?);
    supcon_over(&z, &pairs, config)
}

/// SupCon over embeddings whose rows are already grouped.
pub(crate) fn supcon_over(z: &Tensor, pairs: &Pairs, config: &SupConConfig) -> Result<PerAnchor> {
    let device = z.device();
    let masks = Masks {
        others: pairs.other_mask(device)?,
        positives: pairs.positive_mask(device)?,
        negatives: pairs.negative_mask(device)?,
        counts: pairs.counts(),
        lonely: pairs.lonely(),
    };
    supcon_masked(z, &masks, config)
}

/// Which rows stand where, for every anchor.
pub(crate) struct Masks {
    /// `[N, N]`: what the full denominator sums over.
    pub others: Tensor,
    /// `[N, N]`
    pub positives: Tensor,
    /// `[N, N]`
    pub negatives: Tensor,
    /// Positives and negatives of every row.
    pub counts: Vec<(usize, usize)>,
    /// Rows without a positive, rows without a negative.
    pub lonely: (usize, usize),
}

/// SupCon over embeddings, the pairs given as masks.
pub(crate) fn supcon_masked(z: &Tensor, masks: &Masks, config: &SupConConfig) -> Result<PerAnchor> {
    config.check()?;
    let device = z.device();
    let similarity = similarity_matrix(z, config.temperature)?; // [N, N]
    let similarity = logits::centre(&similarity, &masks.others)?; // [N, N], at most 0, 0 on the diagonal
    let positives = &masks.positives;

    let raw = match config.denominator {
        Denominator::All => {
            let denominator = logits::log_sum_exp(&similarity, &masks.others)?; // [N, 1]
            summed(&similarity, &denominator, positives, config.summation)?
        }
        Denominator::OnlyNegatives => {
            let denominator = logits::log_sum_exp(&similarity, &masks.negatives)?;
            summed(&similarity, &denominator, positives, config.summation)?
        }
        Denominator::OnePositive => {
            let negatives = logits::log_sum_exp(&similarity, &masks.negatives)?; // [N, 1]
            // ln( e^{s_ip} + Σ_negatives ) − s_ip for every p; 0 in rows without negatives, whose fraction is 1.
            let negatives = negatives.broadcast_as(similarity.shape())?;
            let cost = (logits::log_add_exp(&similarity, &negatives)? - &similarity)?; // [N, N]
            let repelled: Vec<u8> = masks.counts.iter().map(|c| (c.1 > 0).into()).collect();
            let repelled = Tensor::from_vec(repelled, (masks.counts.len(), 1), device)?
                .broadcast_as(cost.shape())?;
            let cost = repelled
                .contiguous()?
                .where_cond(&cost, &cost.zeros_like()?)?;
            summed(
                &cost.neg()?,
                &zero_column(&similarity)?,
                positives,
                config.summation,
            )?
        }
    };
    let raw = match config.scale.factor(config.temperature) {
        1.0 => raw,
        factor => raw.affine(factor, 0.0)?,
    };
    let defined = masks
        .counts
        .iter()
        .map(|&(positives, negatives)| config.defines(positives, negatives))
        .collect();
    let missing = match config.denominator {
        Denominator::OnlyNegatives => "no positive or no negative",
        _ => "no positive",
    };
    PerAnchor::new(&raw, defined, masks.lonely, config.undefined_rows, missing)
}

/// mean_P (d_i − s_ip), or − ln mean_P exp(s_ip − d_i): `[N, N]`, `[N, 1]` → `[N]`; finite, if meaningless, where P is empty.
fn summed(
    similarity: &Tensor,
    denominator: &Tensor,
    positives: &Tensor,
    summation: Summation,
) -> Result<Tensor> {
    let weights = positives.to_dtype(similarity.dtype())?; // [N, N]
    let count = one_where_zero(&row_sums(&weights)?)?; // [N], |P|
    let denominator = denominator.squeeze(1)?;
    match summation {
        Summation::Out => {
            let attraction = (row_sums(&(similarity * weights)?)? / count)?;
            Ok((denominator - attraction)?)
        }
        Summation::In => {
            let attraction = logits::log_sum_exp(similarity, positives)?.squeeze(1)?;
            Ok(((denominator - attraction)? + count.log()?)?)
        }
    }
}

fn zero_column(similarity: &Tensor) -> Result<Tensor> {
    Ok(Tensor::zeros(
        (similarity.dim(0)?, 1),
        similarity.dtype(),
        similarity.device(),
    )?)
}
