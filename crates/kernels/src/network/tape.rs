//! A network's passes: forward with a tape of what backward needs, backward along it, and inference without one.

use candle_core::Result;

use super::entry::Entry;
use super::shapes::{Shapes, StepShape};
use super::{ConvNorm, Network, Step};
use crate::batch_norm::Activation;
use crate::cpu::finish::Finish;
use crate::cpu::gather::{conv_backward_input, conv_forward, pack_forward};
use crate::cpu::norm::{self, Backward, Gate, Moments};
use crate::cpu::value::Value;
use crate::cpu::weight_grad::conv_backward_weight;
use crate::cpu::weights::{Packed, Weights};
use crate::cpu::{pointwise, pool, with_values};
use crate::geometry::ConvShape;

const NAME: &str = "network";

/// What a forward pass leaves for the backward pass.
pub struct Tape<T> {
    /// The input as the first layer reads it, then what every step gives; empty where nothing reads it any more, or it can be restored.
    slots: Vec<Vec<T>>,
    /// What every step computed on the way.
    records: Vec<Option<Record<T>>>,
}

/// A convolution before its normalisation.
struct Record<T> {
    sums: Vec<T>,
    mean: Vec<f32>,
    inv_std: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

/// What a forward pass gives.
pub struct Forward<T> {
    /// `[N, O]`
    pub features: Vec<f32>,
    /// Of every [`ConvNorm`].
    pub moments: Vec<Moments>,
    pub tape: Tape<T>,
}

/// Gradients of the input and of every parameter, where asked for.
pub struct Gradients {
    pub input: Option<Vec<f32>>,
    pub parameters: Vec<Option<Vec<f32>>>,
}

/// Runs `f` on a layer's shape and weight as they are computed.
fn with_weight<T: Value, R>(
    i: usize,
    shape: &ConvShape,
    layer: &ConvNorm,
    f: impl FnOnce(&ConvShape, &[f32]) -> R,
) -> Result<R> {
    with_values(NAME, &layer.weight, |w| {
        if i > 0 {
            return Ok(f(shape, w));
        }
        let entry = Entry::new::<T>(*shape);
        match entry.outer.c == entry.inner.c {
            true => Ok(f(&entry.inner, w)),
            false => Ok(f(&entry.inner, &entry.weight(w))),
        }
    })
}

fn first(shapes: &Shapes) -> ConvShape {
    match shapes.steps[0] {
        StepShape::Conv(shape) => shape,
        StepShape::Pool(_) => unreachable!("`Shapes` lets a network begin with a convolution only"),
    }
}

/// For every slot the last step that reads it.
fn last_readers(network: &Network, output: usize) -> Vec<usize> {
    let mut last = vec![0; network.steps.len() + 1];
    for (i, step) in network.steps.iter().enumerate() {
        match step {
            Step::ConvNorm {
                input, residual, ..
            } => {
                last[*input] = i;
                residual.iter().for_each(|r| last[*r] = i);
            }
            Step::MaxPool { input, .. } => last[*input] = i,
        }
    }
    last[output] = usize::MAX;
    last
}

/// For every slot whether it is kept for the backward pass: what a layer multiplies or pools, what a pooling gave, and what a ReLU gave
/// after a residual. A shortcut's own normalised values, say, are only added, and their gradient needs none of them. What is its layer's
/// sums normalised, and no more, is not kept either: [`Tape::restore`] computes it again in one pass.
fn kept_slots(network: &Network) -> Vec<bool> {
    let mut kept = vec![false; network.steps.len() + 1];
    for (i, step) in network.steps.iter().enumerate() {
        let (Step::ConvNorm { input, .. } | Step::MaxPool { input, .. }) = step;
        kept[*input] |= !restorable(network, *input);
        kept[i + 1] |= match step {
            Step::ConvNorm {
                residual, layer, ..
            } => residual.is_some() && layer.act == Activation::Relu,
            Step::MaxPool { .. } => true,
        };
    }
    kept
}

/// Whether a slot holds normalised sums to which nothing was added.
fn restorable(network: &Network, slot: usize) -> bool {
    let step = slot.checked_sub(1).map(|i| &network.steps[i]);
    matches!(step, Some(Step::ConvNorm { residual: None, .. }))
}

/// The walk that training and inference share: `layer(step, shape, layer, x, residual)` gives a layer's result.
fn walk<T: Value>(
    network: &Network,
    shapes: &Shapes,
    x: &[f32],
    keep: bool,
    mut layer: impl FnMut(usize, &ConvShape, &ConvNorm, &[T], Option<&[T]>) -> Result<Vec<T>>,
) -> Result<(Vec<f32>, Vec<Vec<T>>)> {
    let last = last_readers(network, shapes.output);
    let kept = match keep {
        true => kept_slots(network),
        false => vec![false; network.steps.len() + 1],
    };
    let mut slots: Vec<Vec<T>> = Vec::with_capacity(network.steps.len() + 1);
    slots.push(Entry::new::<T>(first(shapes)).input(x));
    for (i, (step, shape)) in network.steps.iter().zip(&shapes.steps).enumerate() {
        let given = match (step, shape) {
            (
                Step::ConvNorm {
                    input,
                    residual,
                    layer: l,
                },
                StepShape::Conv(s),
            ) => {
                let residual = residual.map(|r| slots[r].as_slice());
                layer(i, s, l, &slots[*input], residual)?
            }
            (Step::MaxPool { input, .. }, StepShape::Pool(s)) => {
                pool::max_forward(s, &slots[*input])
            }
            _ => unreachable!("`Shapes` has one shape of the same kind for every step"),
        };
        slots.push(given);
        for (slot, (last, kept)) in slots.iter_mut().zip(last.iter().zip(&kept)) {
            if *last <= i && !kept {
                *slot = Vec::new();
            }
        }
    }
    let [_, h, w, c] = shapes.last();
    let features = pool::mean_forward(h * w, c, &slots[shapes.output]);
    Ok((features, slots))
}

/// With the batch's statistics; without `keep`, nothing is left for a backward pass.
pub fn train<T: Value>(
    network: &Network,
    shapes: &Shapes,
    x: &[f32],
    keep: bool,
) -> Result<Forward<T>> {
    let mut moments = Vec::new();
    let mut records: Vec<Option<Record<T>>> = (0..network.steps.len()).map(|_| None).collect();
    let (features, slots) = walk(network, shapes, x, keep, |i, shape, layer, x, residual| {
        let sums: Vec<T> = with_weight::<T, _>(i, shape, layer, |s, w| {
            conv_forward(s, x, Weights::Plain(w), Finish::NONE)
        })?;
        let of_batch = norm::moments(&sums, shape.o);
        let inv_std = norm::inverse_std(&of_batch.var, layer.eps);
        let (scale, shift) = affine(layer, &of_batch.mean, &inv_std)?;
        let y = norm::normalise(&sums, &scale, &shift, residual, layer.act);
        if keep {
            records[i] = Some(Record {
                sums,
                mean: of_batch.mean.clone(),
                inv_std,
                scale,
                shift,
            });
        }
        moments.push(of_batch);
        Ok(y)
    })?;
    Ok(Forward {
        features,
        moments,
        tape: Tape { slots, records },
    })
}

/// Mean and variance of a layer's channels.
pub type Statistics = (Vec<f32>, Vec<f32>);

/// What inference needs of one layer, whatever the images.
pub struct Prepared {
    weight: Packed,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

/// Every [`ConvNorm`] with given statistics, mean and variance.
pub fn prepare<T: Value>(
    network: &Network,
    shapes: &Shapes,
    statistics: &[Statistics],
) -> Result<Vec<Prepared>> {
    let mut statistics = statistics.iter();
    let mut prepared = Vec::new();
    for (i, step) in network.steps.iter().zip(&shapes.steps).enumerate() {
        let (Step::ConvNorm { layer, .. }, StepShape::Conv(shape)) = step else {
            continue;
        };
        let (mean, var) = statistics.next().expect("as many pairs as layers");
        let (scale, shift) = affine(layer, mean, &norm::inverse_std(var, layer.eps))?;
        prepared.push(Prepared {
            weight: with_weight::<T, _>(i, shape, layer, |s, w| pack_forward::<T>(s, w))?,
            scale,
            shift,
        });
    }
    Ok(prepared)
}

/// Where inference finds what it needs of the layers.
#[derive(Clone, Copy)]
pub enum Layers<'a> {
    /// Mean and variance of every one; weights are packed layer by layer, in space that the next one takes over.
    Given(&'a [Statistics]),
    /// Prepared for images of this size.
    Prepared(&'a [Prepared]),
}

/// The features.
pub fn infer<T: Value>(
    network: &Network,
    shapes: &Shapes,
    x: &[f32],
    layers: Layers<'_>,
) -> Result<Vec<f32>> {
    let mut next = 0..;
    let (features, _) = walk::<T>(network, shapes, x, false, |i, shape, layer, x, residual| {
        let at = next.next().unwrap_or(usize::MAX);
        let finish = |scale, bias| Finish {
            scale: Some(scale),
            bias: Some(bias),
            residual,
            relu: layer.act == Activation::Relu,
        };
        match layers {
            Layers::Given(statistics) => {
                let (mean, var) = &statistics[at];
                let (scale, shift) = affine(layer, mean, &norm::inverse_std(var, layer.eps))?;
                with_weight::<T, _>(i, shape, layer, |s, w| {
                    conv_forward(s, x, Weights::Plain(w), finish(&scale, &shift))
                })
            }
            Layers::Prepared(all) => {
                let Prepared {
                    weight,
                    scale,
                    shift,
                } = &all[at];
                let shape = match i {
                    0 => Entry::new::<T>(*shape).inner,
                    _ => *shape,
                };
                Ok(conv_forward(
                    &shape,
                    x,
                    Weights::Packed(weight),
                    finish(scale, shift),
                ))
            }
        }
    })?;
    Ok(features)
}

/// Scale and shift of `gamma · (x − mean) · inv_std + beta`.
fn affine(layer: &ConvNorm, mean: &[f32], inv_std: &[f32]) -> Result<(Vec<f32>, Vec<f32>)> {
    let (gamma, beta) = (layer.gamma.to_vec1::<f32>()?, layer.beta.to_vec1::<f32>()?);
    let scale: Vec<f32> = gamma.iter().zip(inv_std).map(|(g, i)| g * i).collect();
    let shift = (beta.iter().zip(mean).zip(&scale))
        .map(|((b, m), s)| b - m * s)
        .collect();
    Ok((scale, shift))
}

impl<T: Value> Tape<T> {
    /// Gradients from that of the features, `dy: [N, O]`; `tracked` says which parameters want one. What a step leaves is
    /// freed as soon as its gradients are there.
    pub fn backward(
        mut self,
        network: &Network,
        shapes: &Shapes,
        dy: &[f32],
        tracked: &[bool],
        input_tracked: bool,
    ) -> Result<Gradients> {
        let needed = needed(network, tracked, input_tracked);
        let mut gradients = Gradients {
            input: None,
            parameters: vec![None; tracked.len()],
        };
        let mut slots: Vec<Option<Vec<T>>> = vec![None; network.steps.len() + 1];
        let [_, h, w, c] = shapes.last();
        slots[shapes.output] = Some(pool::mean_backward(h * w, c, dy));

        let mut parameter = tracked.len();
        for (i, step) in network.steps.iter().enumerate().rev() {
            let given = slots[i + 1].take().filter(|_| needed[i + 1]);
            let y = std::mem::take(&mut self.slots[i + 1]);
            let record = self.records[i].take();
            match (step, &shapes.steps[i]) {
                (
                    Step::ConvNorm {
                        input,
                        residual,
                        layer,
                    },
                    StepShape::Conv(shape),
                ) => {
                    parameter -= 3;
                    let Some(mut dy) = given else { continue };
                    let record = record.expect("a tape that was kept");
                    let gate = match (layer.act, residual) {
                        (Activation::Identity, _) => Gate::Open,
                        (Activation::Relu, Some(_)) => Gate::Result(y.as_slice()),
                        (Activation::Relu, None) => Gate::Affine(&record.scale, &record.shift),
                    };
                    let gamma = layer.gamma.to_vec1::<f32>()?;
                    let mut backward = Backward {
                        x: &record.sums,
                        gate,
                        mean: &record.mean,
                        inv_std: &record.inv_std,
                        gamma: &gamma,
                        statistics: true,
                    };
                    // The gradient of the sums, in place of the result's where nothing else needs that.
                    let (sums, dy) = match residual.filter(|r| needed[*r]) {
                        Some(residual) => {
                            let sums = backward.close_and_sum(&mut dy);
                            backward.gate = Gate::Open;
                            let before = backward.input_of(&sums, &dy);
                            accumulate(&mut slots[residual], dy);
                            (sums, before)
                        }
                        None => {
                            let sums = backward.sums(&dy);
                            backward.input(&sums, &mut dy);
                            (sums, dy)
                        }
                    };
                    drop((record, y)); // large, and not needed any more
                    let (d_gamma, d_beta) = sums.affine.split_at(shape.o);
                    let own = &mut gradients.parameters[parameter..parameter + 3];
                    own[1] = tracked[parameter + 1].then(|| d_gamma.to_vec());
                    own[2] = tracked[parameter + 2].then(|| d_beta.to_vec());
                    if tracked[parameter] {
                        self.restore(network, *input);
                        let x = &self.slots[*input];
                        own[0] = Some(if i == 0 {
                            let entry = Entry::new::<T>(*shape);
                            entry.weight_gradient(conv_backward_weight(&entry.inner, x, &dy))
                        } else {
                            conv_backward_weight(shape, x, &dy)
                        });
                    }
                    if needed[*input] {
                        let onto = slots[*input].take();
                        let dx = with_weight::<T, _>(i, shape, layer, |s, w| {
                            conv_backward_input(s, &dy, w, onto)
                        })?;
                        match input {
                            0 => {
                                gradients.input = Some(Entry::new::<T>(*shape).input_gradient(&dx))
                            }
                            _ => slots[*input] = Some(dx),
                        }
                    }
                }
                (Step::MaxPool { input, .. }, StepShape::Pool(shape)) => {
                    let Some(dy) = given else { continue };
                    self.restore(network, *input);
                    let dx = pool::max_backward(shape, &self.slots[*input], &y, &dy);
                    accumulate(&mut slots[*input], dx);
                }
                _ => unreachable!("`Shapes` has one shape of the same kind for every step"),
            }
        }
        Ok(gradients)
    }

    /// Normalises a layer's sums again where the result was not kept: the same bits. Its step, which comes later, drops it.
    fn restore(&mut self, network: &Network, slot: usize) {
        if !self.slots[slot].is_empty() || !restorable(network, slot) {
            return;
        }
        if let (Step::ConvNorm { layer, .. }, Some(of)) =
            (&network.steps[slot - 1], &self.records[slot - 1])
        {
            self.slots[slot] = norm::normalise(&of.sums, &of.scale, &of.shift, None, layer.act);
        }
    }
}

/// For every slot whether anything before it wants a gradient.
fn needed(network: &Network, tracked: &[bool], input_tracked: bool) -> Vec<bool> {
    let mut needed = vec![input_tracked];
    let mut tracked = tracked.chunks_exact(3);
    for step in &network.steps {
        let wanted = match step {
            Step::ConvNorm {
                input, residual, ..
            } => {
                let own = tracked.next().is_some_and(|own| own.contains(&true));
                own || needed[*input] || residual.is_some_and(|r| needed[r])
            }
            Step::MaxPool { input, .. } => needed[*input],
        };
        needed.push(wanted);
    }
    needed
}

fn accumulate<T: Value>(slot: &mut Option<Vec<T>>, gradient: Vec<T>) {
    match slot {
        Some(sum) => pointwise::add(sum, &gradient),
        None => *slot = Some(gradient),
    }
}
