//! The losses over two views, put together from row sums: the same values as the dense functions of the same names.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;

use super::op::Sums;
use super::sides::{Mask, Sides, Terms};
use crate::similarity::row_sums;
use crate::views::{check_queue, check_scalars, two_views, without_negatives};
use crate::{InfoNce, PerAnchor, Result, logits};

/// [`info_nce`](crate::info_nce()) without a similarity matrix: queries `[N, D]`, their keys `[N, D]`, a queue of further negatives
/// `[K, D]`, all as they are → one value per query. The same equation, options and gradients in O((N + K)·D) memory.
///
/// # Errors
/// As [`info_nce`](crate::info_nce()).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{InfoNce, tiled};
/// let q = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let queue = Tensor::new(&[[-1f32, 0.0]], &Device::Cpu)?;
/// let moco = InfoNce { temperature: 1.0, in_batch: false, ..InfoNce::default() };
/// let values = tiled::info_nce(&q, &q, Some(&queue), &moco)?.values.to_vec1::<f32>()?;
/// assert!((values[0] - (1.0 + (-2f32).exp()).ln()).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn info_nce(
    queries: &Tensor,
    keys: &Tensor,
    queue: Option<&Tensor>,
    config: &InfoNce,
) -> Result<PerAnchor> {
    let (q, k) = two_views(queries, keys)?;
    let samples = q.dim(0)?;
    let views = TwoSides {
        a: &q,
        b: &k,
        candidates: [&q, &k],
        own: 0..samples,
        live: 0..samples,
    };
    info_nce_over(&views, queue, config, &mut Sums::default())
}

/// [`sigmoid`](crate::sigmoid()) without a similarity matrix: view 0 x `[N, D]` and view 1 y `[N, D]` as they are, ln t and b scalars
/// (trainable, or constants) → one value per row of x. The same equation and gradients in O(N·D) memory.
///
/// # Errors
/// As [`sigmoid`](crate::sigmoid()).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::tiled;
/// let x = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let (log_scale, bias) = (Tensor::new(0f32, &Device::Cpu)?, Tensor::new(0f32, &Device::Cpu)?);
/// let loss = tiled::sigmoid(&x, &x, &log_scale, &bias)?.mean()?.to_scalar::<f32>()?;
/// assert!((loss - ((-1f32).exp().ln_1p() + 2f32.ln())).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn sigmoid(x: &Tensor, y: &Tensor, log_scale: &Tensor, bias: &Tensor) -> Result<PerAnchor> {
    let (x, y) = two_views(x, y)?;
    let samples = x.dim(0)?;
    let views = TwoSides {
        a: &x,
        b: &y,
        candidates: [&x, &y],
        own: 0..samples,
        live: 0..samples,
    };
    sigmoid_over(&views, log_scale, bias, &mut Sums::default())
}

/// Both views of some samples, and who is compared with them.
pub(crate) struct TwoSides<'a> {
    /// View 0 of the samples whose values are computed: `[N, D]`.
    pub(crate) a: &'a Tensor,
    /// View 1 of them: `[N, D]`.
    pub(crate) b: &'a Tensor,
    /// Views 0 and 1 of all samples: `[M, D]` each.
    pub(crate) candidates: [&'a Tensor; 2],
    /// Where the samples stand among all.
    pub(crate) own: Range<usize>,
    /// The samples whose gradient is wanted, among all.
    pub(crate) live: Range<usize>,
}

impl TwoSides<'_> {
    /// The samples against all, and a queue that belongs to none of them.
    fn sides(&self, queue: usize) -> Result<Sides> {
        let all = self.candidates[0].dim(0)?;
        let mut columns: Vec<u32> = (0..all as u32).collect();
        columns.resize(all + queue, all as u32);
        let anchors = self.own.clone().map(|sample| sample as u32).collect();
        let mut sides = Sides::pair(anchors, columns, None);
        let first = self.own.start;
        sides.live = self.live.start.saturating_sub(first)..self.live.end.saturating_sub(first);
        sides.live_columns = match queue {
            0 => self.live.clone(),
            _ => 0..all + queue,
        };
        Ok(sides)
    }
}

/// InfoNCE of some samples against all and a queue.
pub(crate) fn info_nce_over(
    views: &TwoSides,
    queue: Option<&Tensor>,
    config: &InfoNce,
    sums: &mut Sums,
) -> Result<PerAnchor> {
    config.check()?;
    let (a, b) = (views.a, views.b);
    let queue = check_queue(a, queue, config)?;
    let [all_a, all_b] = views.candidates;
    let values = one_way(a, b, all_b, queue.as_ref(), views, config, sums)?;
    let values = match config.symmetric {
        true => ((values + one_way(b, a, all_a, None, views, config, sums)?)? * 0.5)?,
        false => values,
    };
    let alone = queue.is_none() && all_a.dim(0)? == 1;
    without_negatives(values, alone)
}

/// ln( e^{q_i·k_i/τ} + Σ over other samples' keys and the queue ) − q_i·k_i/τ: `[N]`.
fn one_way(
    q: &Tensor,
    k: &Tensor,
    keys: &Tensor,
    queue: Option<&Tensor>,
    views: &TwoSides,
    config: &InfoNce,
    sums: &mut Sums,
) -> Result<Tensor> {
    let tau = config.temperature;
    let positive = row_sums(&(q * k)?)?.affine(1.0 / tau, 0.0)?; // [N]
    let queued = queue.map_or(Ok(0), |queue| queue.dim(0))?;
    let (candidates, sides) = match queue {
        Some(queue) if config.in_batch => {
            (Tensor::cat(&[keys, queue], 0)?, views.sides(queued)?) // [M + K, D]
        }
        Some(queue) => {
            let nobody = vec![keys.dim(0)? as u32; queued];
            let anchors = views.sides(0)?.anchors;
            (queue.clone(), Sides::pair(anchors, nobody, None))
        }
        None if keys.dim(0)? == 1 => return Ok((&positive * positive.zeros_like()?)?), // nothing repels
        None => (keys.clone(), views.sides(0)?),
    };
    let terms = Terms::LogSumExp(vec![Mask::Different]);
    let repulsion = sums.of(&Arc::new(sides), terms, tau, q, Some(&candidates))?;
    Ok((logits::log_add_exp(&repulsion.squeeze(1)?, &positive)? - positive)?)
}

/// The pairwise sigmoid loss of some samples against all.
///
/// Scale and bias go through the products: t x_i·y_j + b = (t x_i, b)·(y_j, 1), so that autograd has their gradients.
pub(crate) fn sigmoid_over(
    views: &TwoSides,
    log_scale: &Tensor,
    bias: &Tensor,
    sums: &mut Sums,
) -> Result<PerAnchor> {
    let [log_scale, bias] = check_scalars(views.a, log_scale, bias)?; // [1, 1]
    let one = |rows: &Tensor| rows.narrow(1, 0, 1)?.ones_like();
    let keys = views.candidates[1];
    let sides = views.sides(0)?;
    let scale = of_live_rows(&log_scale.exp()?, &sides, views.a)?; // [N, 1]
    let scaled = views.a.broadcast_mul(&scale)?;
    let left = Tensor::cat(&[&scaled, &of_live_rows(&bias, &sides, views.a)?], 1)?; // [N, D + 1]
    let right = Tensor::cat(&[keys, &one(keys)?], 1)?; // [M, D + 1]
    let values = sums.of(&Arc::new(sides), Terms::PairCosts, 1.0, &left, Some(&right))?;
    without_negatives(values.squeeze(1)?, keys.dim(0)? == 1)
}

/// A scalar `[1, 1]` for every anchor, with gradient from those that live: `[N, 1]`.
fn of_live_rows(scalar: &Tensor, sides: &Sides, like: &Tensor) -> Result<Tensor> {
    let rows = sides.anchors.len();
    let live = (0..rows).map(|row| f64::from(u8::from(sides.live.contains(&row))));
    let live = logits::constant(live.collect(), (rows, 1), like)?;
    let others = live.affine(-1.0, 1.0)?.broadcast_mul(&scalar.detach())?;
    Ok((live.broadcast_mul(scalar)? + others)?)
}
