//! InfoNCE, van den Oord et al. 2018 (arXiv 1807.03748), equation 4; with a queue of negatives, He et al. 2020 (MoCo, arXiv
//! 1911.05722), equation 1.

use candle_core::Tensor;

use super::{diagonal, two_views, without_negatives};
use crate::similarity::{check_temperature, embeddings, row_sums, same_width};
use crate::terms::masked;
use crate::{Bounds, Error, PerAnchor, Result, logits};

/// Options of [`info_nce`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct InfoNce {
    /// τ; 0.07 in MoCo.
    pub temperature: f64,
    /// Whether the other samples' keys repel too (MoCo: only the queue does).
    pub in_batch: bool,
    /// The mean with the roles of queries and keys exchanged, where the batch alone repels (as CLIP does it).
    pub symmetric: bool,
}

impl Default for InfoNce {
    fn default() -> Self {
        Self {
            temperature: 0.07,
            in_batch: true,
            symmetric: false,
        }
    }
}

/// InfoNCE: queries q `[N, D]`, their keys k `[N, D]`, a queue of further negatives `[K, D]`, all as they are
/// ([`normalize`](crate::normalize) first for cosines) → one value per query.
///
/// L_i = ln( e^{q_i·k_i/τ} + Σ_{j ≠ i} e^{q_i·k_j/τ} + Σ_q e^{q_i·q/τ} ) − q_i·k_i/τ; the middle sum only with `in_batch`, the
/// last one over the queue. Keys and queue get gradient if they carry one: detach them where they come from a momentum encoder.
///
/// Every row has its positive. Where nothing repels (one sample, no queue) the loss is 0. Collapse value: ln(1 + M), M negatives of
/// a row. Floor over normalised rows: ln(1 + M e^{−2/τ}).
///
/// # Errors
/// If the tensors do not fit each other, τ is not a positive finite number, there are neither in-batch negatives nor a
/// queue, or `symmetric` comes with a queue.
///
/// Source: van den Oord et al. 2018 (arXiv 1807.03748), equation 4, with f = e^{q·k/τ}; with a queue He et al. 2020 (arXiv 1911.05722),
/// equation 1.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{InfoNce, info_nce};
/// let q = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let queue = Tensor::new(&[[-1f32, 0.0], [0.0, -1.0], [0.0, -1.0]], &Device::Cpu)?;
/// let moco = InfoNce { temperature: 1.0, in_batch: false, ..InfoNce::default() };
/// let loss = info_nce(&q, &q, Some(&queue), &moco)?.values.to_vec1::<f32>()?;
/// assert!((loss[0] - ((-2f32).exp() + 2.0 * (-1f32).exp()).ln_1p()).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn info_nce(
    queries: &Tensor,
    keys: &Tensor,
    queue: Option<&Tensor>,
    config: &InfoNce,
) -> Result<PerAnchor> {
    config.check()?;
    let (q, k) = two_views(queries, keys)?;
    let queue = check_queue(&q, queue, config)?;
    let one_way = one_way(&q, &k, queue.as_ref(), config)?;
    let values = if config.symmetric {
        ((one_way + self::one_way(&k, &q, None, config)?)? * 0.5)?
    } else {
        one_way
    };
    let alone = queue.is_none() && q.dim(0)? == 1;
    without_negatives(values, alone)
}

/// The queue in the queries' type; refuses what does not fit, and options that exclude each other.
pub(crate) fn check_queue(
    q: &Tensor,
    queue: Option<&Tensor>,
    config: &InfoNce,
) -> Result<Option<Tensor>> {
    let Some(queue) = queue else {
        return match config.in_batch {
            true => Ok(None),
            false => Err(Error::Conflict {
                first: "`in_batch = false`",
                second: "no queue",
                remedy: "nothing would repel; give a queue of negatives, or let the batch repel",
            }),
        };
    };
    if config.symmetric {
        return Err(Error::Conflict {
            first: "`symmetric`",
            second: "a queue of negatives",
            remedy: "a queue holds keys, not queries; leave one of them out",
        });
    }
    let queue = embeddings(queue, "the queue")?.to_dtype(q.dtype())?;
    same_width(("the queries", q), ("the queue", &queue))?;
    Ok(Some(queue))
}

fn one_way(q: &Tensor, k: &Tensor, queue: Option<&Tensor>, config: &InfoNce) -> Result<Tensor> {
    let rows = q.dim(0)?;
    let own = diagonal(rows, q.device())?;
    let mut references = k.clone();
    let mut mask = if config.in_batch {
        own.ones_like()?
    } else {
        own.clone()
    };
    let mut own = own;
    if let Some(queue) = queue {
        let further = Tensor::ones((rows, queue.dim(0)?), candle_core::DType::U8, q.device())?;
        references = Tensor::cat(&[&references, queue], 0)?; // [N + K, D]
        mask = Tensor::cat(&[&mask, &further], 1)?; // [N, N + K]
        own = Tensor::cat(&[&own, &further.zeros_like()?], 1)?;
    }
    let s = q
        .matmul(&references.t()?)?
        .affine(1.0 / config.temperature, 0.0)?;
    let s = logits::centre(&s, &mask)?; // [N, N + K]
    let positive = row_sums(&masked(&s, &own)?)?; // [N]
    Ok((logits::log_sum_exp(&s, &mask)?.squeeze(1)? - positive)?)
}

impl InfoNce {
    /// Checks the options.
    ///
    /// # Errors
    /// If τ is not a positive finite number.
    pub fn check(&self) -> Result<()> {
        check_temperature(self.temperature)
    }

    /// Collapse value and floor of `samples` queries with a queue of `queue` negatives.
    pub fn bounds(&self, samples: usize, queue: usize) -> Bounds {
        let in_batch = if self.in_batch {
            samples.saturating_sub(1)
        } else {
            0
        };
        let negatives = (in_batch + queue) as f64;
        Bounds {
            collapse: negatives.ln_1p(),
            floor: (negatives * (-2.0 / self.temperature).exp()).ln_1p(),
        }
    }
}
