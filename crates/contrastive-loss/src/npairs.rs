//! The npairs loss of the SHARCNET slides and the Keras example: TensorFlow Addons' `npairs_loss`, a cross-entropy over the
//! rows of a similarity matrix whose targets are the label matrix.

use candle_core::Tensor;

use crate::pairs::Pairs;
use crate::similarity::{embeddings, row_sums};
use crate::{Error, PerAnchor, Result, UndefinedRows, labels, logits};

/// The targets T of the cross-entropy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum NpairsTargets {
    /// T_ij = 1[y_i = y_j] / n_i: each row sums to one, as TensorFlow Addons does it.
    #[default]
    Normalized,
    /// T_ij = 1[y_i = y_j], as the slides print it: row i weighs n_i times as much.
    Boolean,
}

/// Options of [`npairs`] and [`npairs_multilabel`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct NpairsConfig {
    /// Whether the rows of the target matrix are divided by their sums.
    pub targets: NpairsTargets,
    /// What becomes of multi-label rows without any label; [`npairs`] has no undefined rows.
    pub undefined_rows: UndefinedRows,
}

/// npairs over a similarity matrix: `[N, N]`, labels `[N]` (an integer type) → one value per row.
///
/// L_i = − Σ_j T_ij · ln softmax_j(s_i), with T_ij = 1\[y_i = y_j\] / n_i, **the diagonal included**; n_i is how many rows
/// carry i's label, itself counted. Equally L_i = LSE(s_i) − (s_ii + Σ_{p ∈ P(i)} s_ip) / n_i.
///
/// It neither normalises nor divides by τ: that is [`similarity_matrix`](crate::similarity_matrix)'s part. A row without a
/// positive is defined, LSE(s_i) − s_ii, and counted.
///
/// Over cosines divided by τ: collapse value ln N; floor ln(n_i + m_i e^{c/τ}), m_i = N − n_i negatives, c = −1 − 1/(C − 1) for C labels
/// of as many rows each and −2 otherwise. With boolean targets both times n_i.
///
/// # Errors
/// If the matrix is not square and non-empty, or the labels do not fit it.
///
/// Source: Sohn 2016, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", in the form of TensorFlow Addons
/// (`losses/npairs.py`, `npairs_loss`), which counts the row itself among the positives and averages over them.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{NpairsConfig, npairs, similarity_matrix};
/// let z = Tensor::new(&[[1f32, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 0, 1, 1], &Device::Cpu)?;
/// let loss = npairs(&similarity_matrix(&z, 1.0)?, &labels, &NpairsConfig::default())?.mean()?;
/// assert!((loss.to_scalar::<f32>()? - 1.253856).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn npairs(similarity: &Tensor, labels: &Tensor, config: &NpairsConfig) -> Result<PerAnchor> {
    let similarity = square(similarity)?;
    let pairs = Pairs::from_labels(labels::read(labels, similarity.dim(0)?)?);
    npairs_over(&similarity, &pairs, config)
}

/// npairs over a similarity matrix whose rows are already grouped.
pub(crate) fn npairs_over(
    similarity: &Tensor,
    pairs: &Pairs,
    config: &NpairsConfig,
) -> Result<PerAnchor> {
    let rows = pairs.rows();
    let same = pairs
        .same_mask(similarity.device())?
        .to_dtype(similarity.dtype())?; // [N, N]
    let sizes = (0..rows).map(|row| pairs.group_size(row) as f64).collect();
    let raw = cross_entropy(similarity, &same, sizes, config.targets)?;
    PerAnchor::new(
        &raw,
        vec![true; rows],
        pairs.lonely(),
        config.undefined_rows,
        "no label",
    )
}

/// npairs for rows with several labels: similarity `[N, N]`, multi-hot labels Y `[N, C]` → one value per row.
///
/// L_i = − Σ_j T_ij · ln softmax_j(s_i), with T = Y·Yᵀ and each row divided by its sum. A row without any label has no
/// target (0/0 in TensorFlow Addons): `config.undefined_rows` says what becomes of it. One that shares a label with no other row is defined.
///
/// Collapse value: ln N. Floor: the entropy of the row's targets, −Σ_j T_ij ln T_ij. With boolean targets both times the row's sum of Y·Yᵀ.
///
/// # Errors
/// If the matrix is not square and non-empty, or the labels do not fit it or are negative or not finite.
///
/// Source: TensorFlow Addons (`losses/npairs.py`, `npairs_multilabel_loss`).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{NpairsConfig, npairs_multilabel, similarity_matrix};
/// let z = Tensor::new(&[[1f32, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], &Device::Cpu)?;
/// let y = Tensor::new(&[[1u8, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 1]], &Device::Cpu)?;
/// let loss = npairs_multilabel(&similarity_matrix(&z, 1.0)?, &y, &NpairsConfig::default())?.mean()?;
/// assert!((loss.to_scalar::<f32>()? - 1.4205227).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn npairs_multilabel(
    similarity: &Tensor,
    labels: &Tensor,
    config: &NpairsConfig,
) -> Result<PerAnchor> {
    let similarity = square(similarity)?;
    let rows = similarity.dim(0)?;
    let weights = labels::read_multi_hot(labels, rows)?; // N × C
    let mut targets = Vec::with_capacity(rows * rows);
    let (mut lonely, mut all_alike) = (0, 0);
    for (i, mine) in weights.iter().enumerate() {
        let start = targets.len();
        targets.extend(
            weights
                .iter()
                .map(|theirs| mine.iter().zip(theirs).map(|(a, b)| a * b).sum::<f64>()),
        );
        let others = || {
            targets[start..]
                .iter()
                .enumerate()
                .filter(|&(j, _)| j != i)
                .map(|(_, &weight)| weight)
        };
        lonely += usize::from(others().all(|weight| weight == 0.0));
        all_alike += usize::from(others().all(|weight| weight > 0.0));
    }
    let sums: Vec<f64> = targets.chunks(rows).map(|row| row.iter().sum()).collect();
    let defined = sums.iter().map(|&sum| sum > 0.0).collect();
    let targets = logits::constant(targets, (rows, rows), &similarity)?;
    let raw = cross_entropy(&similarity, &targets, sums, config.targets)?;
    PerAnchor::new(
        &raw,
        defined,
        (lonely, all_alike),
        config.undefined_rows,
        "no label",
    )
}

/// − Σ_j T_ij ln softmax_j(s_i) with T = `weights`, divided by `sums` if normalised: `[N, N]` → `[N]`; 0 where a sum is 0.
fn cross_entropy(
    similarity: &Tensor,
    weights: &Tensor,
    sums: Vec<f64>,
    targets: NpairsTargets,
) -> Result<Tensor> {
    let all = Tensor::ones(
        similarity.shape(),
        candle_core::DType::U8,
        similarity.device(),
    )?;
    let centred = logits::centre(similarity, &all)?; // [N, N]
    let normaliser = logits::log_sum_exp(&centred, &all)?.squeeze(1)?; // [N]
    let attraction = row_sums(&(&centred * weights)?)?; // [N]
    let rows = sums.len();
    let column = |values: Vec<f64>| logits::constant(values, rows, similarity);
    match targets {
        NpairsTargets::Boolean => Ok(((normaliser * column(sums)?)? - attraction)?),
        NpairsTargets::Normalized => {
            let inverses = sums
                .iter()
                .map(|&sum| if sum > 0.0 { 1.0 / sum } else { 0.0 })
                .collect();
            Ok((normaliser - (attraction * column(inverses)?)?)?)
        }
    }
}

/// A non-empty square matrix of floats, in the type losses compute in.
fn square(similarity: &Tensor) -> Result<Tensor> {
    let similarity = embeddings(similarity, "the similarity matrix")?;
    let (rows, columns) = similarity.dims2()?;
    if rows != columns {
        return Err(Error::Shape {
            what: "the similarity matrix",
            expected: "[N, N]",
            got: vec![rows, columns],
        });
    }
    Ok(similarity)
}
