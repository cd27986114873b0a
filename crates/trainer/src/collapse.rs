//! What contrastive pretraining tells beside its loss, and collapse, called by name: complete (all embeddings in one point) or
//! dimensional (embeddings in few directions, Jing et al. 2022, arXiv 2110.09348).

use crate::Result;
use crate::checkpoint::Position;
use crate::feed::Batch;
use candle_core::{D, Device, Tensor};
use contrastive_loss::{Bounds, Loss};
use eval::{EmbeddingConfig, Features, embedding_metrics};

/// How near to its collapse value a loss counts as collapsed, as a share of that value.
const NEAR: f64 = 0.01;
/// A spread below this is collapse, whatever the loss.
const POINT: f64 = 0.01;
/// Embeddings are narrow below this share of the directions that they have a use for.
const NARROW: f64 = 0.1;
/// A closer look is taken at every step that is a multiple of this.
pub(crate) const LOOK_EVERY: usize = 10;
/// Embeddings that a closer look compares with each other.
const LOOK_ROWS: usize = 512;

/// What a contrastive batch tells beside its loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Monitor {
    /// The loss when all embeddings coincide.
    pub collapse: f64,
    /// The least loss possible on this batch.
    pub floor: f64,
    /// 1 − |mean embedding|².
    pub spread: f64,
    /// Share of the anchors without a positive.
    pub lonely: f64,
    /// How many directions embeddings have a use for: those of the loss' optimum, as far as there are dimensions.
    pub directions: usize,
    /// What is measured every few steps.
    pub look: Option<Look>,
}

/// A closer look at up to 512 embeddings of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Look {
    /// Mean squared distance of positives on the sphere.
    pub alignment: Option<f64>,
    /// ln mean exp(−2 distance²) of all pairs.
    pub uniformity: Option<f64>,
    /// Directions in use.
    pub rank: Option<f64>,
    /// Share of anchors whose nearest other embedding is a positive: the contrastive task's top-1.
    pub top1: Option<f64>,
}

impl Monitor {
    /// Looks at the embeddings `[V·B, E]` of a batch, closer at some steps.
    pub fn of(loss: &Loss, bounds: Bounds, z: &Tensor, batch: &Batch, step: usize) -> Result<Self> {
        let (labels, views) = (&batch.labels, batch.views);
        let groups = groups(loss, batch);
        let mut different = groups.clone();
        different.sort_unstable();
        different.dedup();
        let look = match step.is_multiple_of(LOOK_EVERY) {
            true => look(z, &groups, views)?,
            false => None,
        };
        Ok(Self {
            collapse: bounds.collapse,
            floor: bounds.floor,
            spread: spread(z)?,
            lonely: loss.without_positives(labels, views) as f64 / batch.rows().max(1) as f64,
            directions: z.dim(1)?.min(different.len().saturating_sub(1)),
            look,
        })
    }
}

/// `[B]`: what makes two images positives. For NT-Xent, being the same.
fn groups(loss: &Loss, batch: &Batch) -> Vec<u32> {
    if loss.needs_views() {
        (0..batch.labels.len() as u32).collect()
    } else {
        batch.labels.clone()
    }
}

/// The first images of the batch in all their views; none where an embedding is no number, which the loss says itself.
fn look(z: &Tensor, groups: &[u32], views: usize) -> Result<Option<Look>> {
    let (rows, dim) = z.dims2()?;
    let images = groups.len().min((LOOK_ROWS / views.max(1)).max(2));
    let z = z.detach().reshape((views, rows / views, dim))?;
    let z = z.narrow(1, 0, images)?.contiguous()?.flatten_all()?; // V·b·E
    let values = z.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
    let Ok(features) = Features::new(dim, values, groups[..images].repeat(views)) else {
        return Ok(None);
    };
    let config = EmbeddingConfig {
        max_rows: features.len(),
        ..EmbeddingConfig::default()
    };
    let metrics = embedding_metrics(None, &features, &config)?;
    Ok(Some(Look {
        alignment: metrics.alignment,
        uniformity: metrics.uniformity,
        rank: metrics.effective_rank,
        top1: metrics.precision_at_1,
    }))
}

/// 1 − |mean of the normalised embeddings|²: 0 when all coincide.
fn spread(z: &Tensor) -> Result<f64> {
    let z = z.detach(); // [N, E]
    let length = z
        .sqr()?
        .sum_keepdim(D::Minus1)?
        .sqrt()?
        .clamp(1e-12f32, f32::MAX)?; // [N, 1]
    let mean = z.broadcast_div(&length)?.mean(0)?; // [E]
    let resultant = f64::from(mean.sqr()?.sum_all()?.to_scalar::<f32>()?);
    Ok((1.0 - resultant).clamp(0.0, 1.0))
}

/// Counts steps in a row at the collapse value, or with narrow embeddings; the message, once each, when `patience` is reached.
///
/// `warm` says whether warm-up is over: before, a loss at its collapse value is no sign yet, but embeddings in one point are.
pub(crate) fn watch(
    position: &mut Position,
    loss: f64,
    monitor: &Monitor,
    warm: bool,
    patience: usize,
) -> Option<String> {
    // Where floor and collapse value nearly meet (one label in the batch), the loss tells nothing.
    let telling = monitor.collapse - monitor.floor > 4.0 * NEAR * monitor.collapse.abs();
    let at_value = telling && (loss - monitor.collapse).abs() < NEAR * monitor.collapse.abs();
    if !(at_value && warm) && monitor.spread >= POINT {
        position.collapsed_steps = 0;
        position.collapse_named = false;
        return narrow(position, monitor, warm, patience);
    }
    position.collapsed_steps += 1;
    if position.collapsed_steps < patience || position.collapse_named {
        return None;
    }
    position.collapse_named = true;
    Some(format!(
        "collapse: for {patience} steps the embeddings have nearly coincided: the loss is {loss:.4}, it is {:.4} when all are one \
         point, and their spread is {:.3} (0 is one point). Try a lower learning rate or a longer warm-up, a higher temperature, \
         batch norm in the projection head, or a larger batch",
        monitor.collapse, monitor.spread
    ))
}

fn narrow(
    position: &mut Position,
    monitor: &Monitor,
    warm: bool,
    patience: usize,
) -> Option<String> {
    let rank = monitor.look.and_then(|look| look.rank)?;
    if !warm || monitor.directions < 2 || rank >= (NARROW * monitor.directions as f64).max(1.5) {
        position.narrow_steps = 0;
        position.narrow_named = false;
        return None;
    }
    position.narrow_steps += LOOK_EVERY;
    if position.narrow_steps < patience || position.narrow_named {
        return None;
    }
    position.narrow_named = true;
    Some(format!(
        "dimensional collapse: for {} steps the embeddings have used {rank:.1} directions (effective rank) of {} that they have \
         a use for. Try a lower temperature, stronger augmentation, a projection head of kind \"mlp\", or a lower weight decay",
        position.narrow_steps, monitor.directions
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn monitor() -> Monitor {
        Monitor {
            collapse: 5.5,
            floor: 3.0,
            spread: 0.2,
            lonely: 0.0,
            directions: 64,
            look: None,
        }
    }

    fn bounds(loss: &Loss, batch: &Batch) -> Bounds {
        Bounds {
            collapse: loss.collapse_value(&batch.labels, batch.views),
            floor: loss.floor(&batch.labels, batch.views),
        }
    }

    #[test]
    fn collapse_is_named_once_and_again_after_recovery() {
        let mut position = Position::default();
        let monitor = monitor();
        let mut said = |loss: f64| watch(&mut position, loss, &monitor, true, 3);
        assert!(said(5.52).is_none() && said(5.5).is_none());
        let message = said(5.49).unwrap();
        assert!(
            message.contains("collapse") && message.contains("learning rate"),
            "{message}"
        );
        assert!(said(5.5).is_none());
        assert!(said(4.0).is_none());
        assert!(said(5.5).is_none() && said(5.5).is_none() && said(5.5).is_some());
    }

    #[test]
    fn a_point_is_collapse_even_during_warm_up_and_one_label_is_not() {
        let point = Monitor {
            spread: 1e-4,
            ..monitor()
        };
        for warm in [false, true] {
            assert!(watch(&mut Position::default(), 4.0, &point, warm, 1).is_some());
        }
        let mut position = Position::default();
        assert!(watch(&mut position, 5.5, &monitor(), false, 1).is_none());
        let one_label = Monitor {
            floor: 5.5,
            spread: 0.9,
            ..monitor()
        };
        assert!(watch(&mut position, 5.5, &one_label, true, 1).is_none());
    }

    #[test]
    fn few_directions_are_dimensional_collapse_unless_there_is_use_for_no_more() {
        let looked = |rank: f64, directions: usize| Monitor {
            directions,
            look: Some(Look {
                rank: Some(rank),
                ..Look::default()
            }),
            ..monitor()
        };
        let mut position = Position::default();
        let mut said = |monitor: &Monitor| watch(&mut position, 4.0, monitor, true, 30);
        for _ in 0..2 {
            assert!(said(&looked(3.0, 64)).is_none());
            assert!(said(&monitor()).is_none()); // steps between two looks
        }
        let message = said(&looked(3.0, 64)).unwrap();
        assert!(message.contains("dimensional collapse") && message.contains("30 steps"));
        assert!(said(&looked(3.0, 64)).is_none());
        assert!(said(&looked(30.0, 64)).is_none());
        // Two classes need one direction, ten need nine.
        for _ in 0..9 {
            assert!(said(&looked(1.0, 1)).is_none() && said(&looked(2.0, 9)).is_none());
        }
    }

    #[test]
    fn spread_is_zero_for_a_point_and_one_for_opposites() {
        let point = Tensor::new(&[[1f32, 2.0], [2.0, 4.0], [0.5, 1.0]], &Device::Cpu).unwrap();
        assert!(spread(&point).unwrap() < 1e-6);
        let opposite = Tensor::new(&[[1f32, 0.0], [-3.0, 0.0]], &Device::Cpu).unwrap();
        assert!((spread(&opposite).unwrap() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_closer_look_measures_what_a_loss_calls_positive() {
        // Two views of three images: views coincide; labels 0, 0, 1.
        let rows = [[1f32, 0.0], [0.0, 1.0], [-1.0, 0.0]];
        let z = Tensor::cat(
            &[
                Tensor::new(&rows, &Device::Cpu).unwrap(),
                Tensor::new(&rows, &Device::Cpu).unwrap(),
            ],
            0,
        )
        .unwrap();
        let batch = Batch {
            input: z.clone(),
            labels: vec![0, 0, 1],
            views: 2,
        };
        let of =
            |loss: Loss, step| Monitor::of(&loss, bounds(&loss, &batch), &z, &batch, step).unwrap();
        let simclr = of(Loss::nt_xent(), 0);
        let look = simclr.look.unwrap();
        assert_eq!((look.top1, look.alignment), (Some(1.0), Some(0.0)));
        assert!(look.rank.unwrap() > 1.8 && look.uniformity.unwrap() < -1.0);
        assert_eq!((simclr.lonely, simclr.directions), (0.0, 2));
        assert!(of(Loss::nt_xent(), 3).look.is_none());
        let supervised = of(Loss::supcon_out(), LOOK_EVERY);
        assert!(supervised.look.unwrap().alignment.unwrap() > 1.0);
        let single = Batch {
            input: z.narrow(0, 0, 3).unwrap(),
            labels: vec![0, 0, 1],
            views: 1,
        };
        let loss = Loss::supcon_out();
        let monitor =
            Monitor::of(&loss, bounds(&loss, &single), &single.input, &single, 0).unwrap();
        assert!((monitor.lonely - 1.0 / 3.0).abs() < 1e-12);
    }
}
