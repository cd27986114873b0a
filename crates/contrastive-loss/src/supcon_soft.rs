//! SupCon where positives are a matter of degree: several labels, label distributions, any given weights.

use candle_core::Tensor;

use crate::similarity::{check_temperature, embeddings, row_sums, similarity_matrix};
use crate::{Error, PerAnchor, Result, UndefinedRows, labels, logits};

/// How much two rows with several labels attract each other. y are rows of Y, y ∧ y′ the labels that both have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Overlap {
    /// W = 1 if they share a label ("ANY" of Dao et al. 2021).
    Any,
    /// W = 1 if they have the same labels ("ALL" of Dao et al. 2021).
    All,
    /// W = Σ_c y_c y′_c: the number of shared labels; for label distributions, the chance of drawing the same label (soft-label SupCon).
    #[default]
    Product,
    /// W = Σ_c min(y_c, y′_c) / Σ_c max(y_c, y′_c), Jaccard's index.
    Jaccard,
    /// One SupCon for each of the anchor's labels, averaged (MulSupCon, Zhang and Wu 2024): W = Σ_{c ∈ y, |P_c| > 0} 1\[c ∈ y′\] / |P_c|, P_c the other
    /// rows with label c.
    PerLabel,
}

/// Options of [`supcon_soft`] and [`supcon_multilabel`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct SoftSupCon {
    /// τ.
    pub temperature: f64,
    /// What becomes of rows that nothing attracts.
    pub undefined_rows: UndefinedRows,
}

impl Default for SoftSupCon {
    fn default() -> Self {
        Self {
            temperature: 0.1,
            undefined_rows: UndefinedRows::Skip,
        }
    }
}

/// SupCon with weighted positives: z `[N, D]` as it is ([`normalize`](crate::normalize) first for cosines), weights W `[N, N]` →
/// one value per row.
///
/// L_i = LSE_{S_i}(s_i) − Σ_{j ≠ i} W_ij s_ij / Σ_{j ≠ i} W_ij, the cross-entropy between the row's weights and its softmax, s_ij = z_i·z_j / τ.
/// With W_ij = 1\[y_i = y_j\] it is [`supcon`](crate::supcon())'s L_out. The diagonal is not read.
///
/// A row whose weights are all 0 is undefined. Collapse value: ln(N − 1). Floor: the entropy of the row's weights, attained as τ → 0 only where the weights
/// are a softmax of attainable similarities.
///
/// # Errors
/// If `z` is not a non-empty `[N, D]` float tensor, the weights are not `[N, N]`, finite and at least 0, or τ is not a positive
/// finite number.
///
/// Source: Khosla et al. 2020 (arXiv 2004.11362), equation 2, its mean over the positives weighted.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{SoftSupCon, supcon_soft};
/// let z = Tensor::new(&[[1f64, 0.0], [1.0, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let weights = Tensor::new(&[[9f64, 0.75, 0.25], [1.0, 9.0, 0.0], [0.0, 0.0, 9.0]], &Device::Cpu)?;
/// let config = SoftSupCon { temperature: 1.0, ..SoftSupCon::default() };
/// let loss = supcon_soft(&z, &weights, &config)?;
/// let lse = (1f64.exp() + 1.0).ln();
/// assert!((loss.values.to_vec1::<f64>()?[0] - (lse - 0.75)).abs() < 1e-12);
/// assert_eq!(loss.without_positives, 1);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn supcon_soft(z: &Tensor, weights: &Tensor, config: &SoftSupCon) -> Result<PerAnchor> {
    let rows = embeddings(z, "embeddings")?.dim(0)?;
    if weights.dims() != [rows, rows] {
        return Err(Error::Shape {
            what: "the weights of the positives",
            expected: "[N, N]",
            got: weights.dims().to_vec(),
        });
    }
    over(z, labels::read_multi_hot(weights, rows)?, config)
}

/// SupCon for rows with several labels, or with label distributions: z `[N, D]` as it is, Y `[N, C]` multi-hot or weights →
/// one value per row.
///
/// [`supcon_soft`] with the weights that [`Overlap`] makes of Y. A row that no other row attracts is undefined. Collapse value and floor
/// are [`supcon_soft`]'s.
///
/// # Errors
/// As [`supcon_soft`]; Y must be `[N, C]`, finite and at least 0.
///
/// Source: Dao et al. 2021 and Zhang and Wu 2024, as [`Overlap`] says; with one label a row, Khosla et al. 2020, equation 2.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{Overlap, SoftSupCon, normalize, supcon_multilabel};
/// let z = normalize(&Tensor::new(&[[1f32, 0.1], [1.0, 0.3], [0.2, 1.0], [0.1, -1.0]], &Device::Cpu)?)?;
/// let y = Tensor::new(&[[1u8, 0, 1], [1, 0, 0], [0, 1, 1], [0, 0, 0]], &Device::Cpu)?;
/// let loss = supcon_multilabel(&z, &y, Overlap::Jaccard, &SoftSupCon::default())?;
/// assert_eq!(loss.defined, [true, true, true, false]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn supcon_multilabel(
    z: &Tensor,
    labels: &Tensor,
    overlap: Overlap,
    config: &SoftSupCon,
) -> Result<PerAnchor> {
    let rows = embeddings(z, "embeddings")?.dim(0)?;
    let y = labels::read_multi_hot(labels, rows)?;
    over(z, overlap.weights(&y), config)
}

impl Overlap {
    fn weights(self, y: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let carriers: Vec<usize> = (0..y.first().map_or(0, Vec::len))
            .map(|class| y.iter().filter(|row| row[class] > 0.0).count())
            .collect();
        let pair = |mine: &[f64], theirs: &[f64]| -> f64 {
            let both = || mine.iter().zip(theirs);
            match self {
                Self::Any => both().any(|(a, b)| a * b > 0.0).into(),
                Self::All => (mine == theirs && mine.iter().any(|&a| a > 0.0)).into(),
                Self::Product => both().map(|(a, b)| a * b).sum(),
                Self::Jaccard => {
                    let joint: f64 = both().map(|(a, b)| a.max(*b)).sum();
                    let shared: f64 = both().map(|(a, b)| a.min(*b)).sum();
                    if joint > 0.0 { shared / joint } else { 0.0 }
                }
                Self::PerLabel => both()
                    .zip(&carriers)
                    .filter(|((a, b), _)| **a > 0.0 && **b > 0.0)
                    .map(|(_, &carriers)| 1.0 / (carriers.max(2) - 1) as f64)
                    .sum(),
            }
        };
        y.iter()
            .map(|mine| y.iter().map(|theirs| pair(mine, theirs)).collect())
            .collect()
    }
}

fn over(z: &Tensor, mut weights: Vec<Vec<f64>>, config: &SoftSupCon) -> Result<PerAnchor> {
    check_temperature(config.temperature)?;
    let rows = weights.len();
    let (mut defined, mut all_alike, mut others) = (Vec::new(), 0, vec![1u8; rows * rows]);
    for (i, row) in weights.iter_mut().enumerate() {
        row[i] = 0.0;
        others[i * rows + i] = 0;
        let sum: f64 = row.iter().sum();
        defined.push(sum > 0.0);
        all_alike += usize::from((0..rows).all(|j| j == i || row[j] > 0.0));
        if sum > 0.0 {
            row.iter_mut().for_each(|w| *w /= sum);
        }
    }
    let similarity = similarity_matrix(z, config.temperature)?;
    let others = Tensor::from_vec(others, (rows, rows), z.device())?;
    let similarity = logits::centre(&similarity, &others)?; // [N, N]
    let weights = logits::constant(weights.concat(), (rows, rows), &similarity)?;
    let attraction = row_sums(&(&similarity * weights)?)?; // [N]
    let raw = (logits::log_sum_exp(&similarity, &others)?.squeeze(1)? - attraction)?;
    let lonely = defined.iter().filter(|&&row| !row).count();
    PerAnchor::new(
        &raw,
        defined,
        (lonely, all_alike),
        config.undefined_rows,
        "no positive",
    )
}
