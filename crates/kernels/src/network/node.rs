//! The network as a node of Candle's graph.
//!
//! A node has at most three inputs, a network hundreds of parameters: they enter as one *token*, a tensor of one value
//! that depends on all of them through a tree of [`Bundle`]s. Backward, the network leaves its gradients with the
//! [`Delivery`] and the bundles hand them out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, TensorId,
};
use half::bf16;

use super::shapes::Shapes;
use super::tape::{self, Forward, Gradients, Layers, Prepared, Statistics, Tape};
use super::{Network, Precision};
use crate::batch_norm::BatchMoments;
use crate::cpu::team::in_pool;
use crate::cpu::value::Value;
use crate::cpu::with_values;
use crate::gradients::collect;

const NAME: &str = "network";

pub fn train(
    network: &Network,
    shapes: Shapes,
    x: &Tensor,
    precision: Precision,
) -> Result<(Tensor, Vec<BatchMoments>)> {
    let x = x.contiguous()?;
    let network = contiguous(network)?;
    match precision {
        Precision::F32 => pass::<f32>(network, shapes, x),
        Precision::Bf16 => pass::<bf16>(network, shapes, x),
    }
}

/// The same network with parameters that can be read as slices.
fn contiguous(network: &Network) -> Result<Network> {
    let mut network = network.clone();
    for layer in network.layers_mut() {
        for parameter in [&mut layer.weight, &mut layer.gamma, &mut layer.beta] {
            if !parameter.is_contiguous() {
                *parameter = parameter.contiguous()?;
            }
        }
    }
    Ok(network)
}

fn pass<T: Value>(
    network: Network,
    shapes: Shapes,
    x: Tensor,
) -> Result<(Tensor, Vec<BatchMoments>)> {
    let tracked: Vec<Tensor> = (network.parameters())
        .filter(|p| p.track_op())
        .cloned()
        .collect();
    let keep = x.track_op() || !tracked.is_empty();
    let Forward {
        features,
        moments,
        tape,
    } = with_values(NAME, &x, |x| {
        in_pool(|| tape::train::<T>(&network, &shapes, x, keep))
    })?;
    let moments = (network.layers().zip(moments).zip(counts(&shapes)))
        .map(|((layer, moments), count)| {
            let (channels, device) = (layer.gamma.dims1()?, x.device());
            Ok(BatchMoments {
                mean: Tensor::from_vec(moments.mean, channels, device)?,
                var: Tensor::from_vec(moments.var, channels, device)?,
                count,
            })
        })
        .collect::<Result<_>>()?;
    let [n, _, _, o] = shapes.last();
    if !keep {
        return Ok((Tensor::from_vec(features, (n, o), x.device())?, moments));
    }
    let delivery = Arc::new(Delivery::default());
    let token = bundle(tracked, &delivery)?;
    let op = Node {
        network,
        shapes,
        tape: Mutex::new(Some(tape)),
        features: Mutex::new(Some(features)),
        delivery,
    };
    Ok((x.apply_op2(&token, op)?, moments))
}

/// Statistics as numbers, one pair per layer.
pub fn read(network: &Network, statistics: &[(Tensor, Tensor)]) -> Result<Vec<Statistics>> {
    let layers = network.layers().count();
    if statistics.len() != layers {
        candle_core::bail!(
            "network: {layers} layers need as many pairs of mean and variance, got {}",
            statistics.len()
        )
    }
    let statistics = (statistics.iter())
        .map(|(mean, var)| Ok((mean.to_vec1::<f32>()?, var.to_vec1::<f32>()?)))
        .collect::<Result<Vec<_>>>()?;
    for (layer, (mean, var)) in network.layers().zip(&statistics) {
        let channels = layer.gamma.dims1()?;
        if mean.len() != channels || var.len() != channels {
            candle_core::bail!(
                "network: a layer of {channels} channels needs as many means and variances, got {} and {}",
                mean.len(),
                var.len()
            )
        }
    }
    Ok(statistics)
}

/// Packs every layer's weights.
pub fn prepare(
    network: &Network,
    shapes: &Shapes,
    statistics: &[(Tensor, Tensor)],
    precision: Precision,
) -> Result<Vec<Prepared>> {
    let statistics = read(network, statistics)?;
    let network = &contiguous(network)?;
    match precision {
        Precision::F32 => tape::prepare::<f32>(network, shapes, &statistics),
        Precision::Bf16 => tape::prepare::<bf16>(network, shapes, &statistics),
    }
}

/// The features, without a graph. On the current thread's pool or team, if it has one.
pub fn infer(
    network: &Network,
    shapes: &Shapes,
    x: &Tensor,
    layers: Layers<'_>,
    precision: Precision,
) -> Result<Tensor> {
    let owned;
    let network = match layers {
        Layers::Given(_) => {
            owned = contiguous(network)?;
            &owned
        }
        Layers::Prepared(_) => network, // whose weights are not read
    };
    let features = with_values(NAME, &x.contiguous()?, |x| match precision {
        Precision::F32 => tape::infer::<f32>(network, shapes, x, layers),
        Precision::Bf16 => tape::infer::<bf16>(network, shapes, x, layers),
    })?;
    let [n, _, _, o] = shapes.last();
    Tensor::from_vec(features, (n, o), x.device())
}

/// Values per channel of every layer's statistics.
fn counts(shapes: &Shapes) -> impl Iterator<Item = usize> {
    shapes.steps.iter().filter_map(|shape| match shape {
        super::shapes::StepShape::Conv(s) => Some(s.n * s.ho * s.wo),
        super::shapes::StepShape::Pool(_) => None,
    })
}

struct Node<T> {
    network: Network,
    shapes: Shapes,
    /// Used up by the backward pass, which frees it on its way.
    tape: Mutex<Option<Tape<T>>>,
    /// Computed before the node is made, handed over once.
    features: Mutex<Option<Vec<f32>>>,
    delivery: Arc<Delivery>,
}

impl<T: Value> CustomOp2 for Node<T> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        _x: &CpuStorage,
        _xl: &Layout,
        _token: &CpuStorage,
        _tl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let [n, _, _, o] = self.shapes.last();
        let features = self
            .features
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match features {
            Some(features) => Ok((CpuStorage::F32(features), (n, o).into())),
            None => candle_core::bail!("network: a node runs forward once"),
        }
    }

    fn bwd(
        &self,
        x: &Tensor,
        token: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let parameters: Vec<&Tensor> = self.network.parameters().collect();
        let tracked: Vec<bool> = parameters.iter().map(|p| p.track_op()).collect();
        let tape = (self.tape.lock().unwrap_or_else(PoisonError::into_inner)).take();
        let Some(tape) = tape else {
            candle_core::bail!(
                "network: backward has run already and freed what it needs; run the forward pass again"
            )
        };
        let Gradients {
            input,
            parameters: gradients,
        } = with_values(NAME, &dy.contiguous()?, |dy| {
            in_pool(|| tape.backward(&self.network, &self.shapes, dy, &tracked, x.track_op()))
        })?;
        for (parameter, gradient) in parameters.into_iter().zip(gradients) {
            let Some(gradient) = gradient else { continue };
            let gradient = Tensor::from_vec(gradient, parameter.shape(), parameter.device())?;
            if let Some(gradient) = collect(parameter, gradient)? {
                self.delivery.put(parameter.id(), gradient)?;
            }
        }
        let dx = input
            .map(|dx| Tensor::from_vec(dx, x.shape(), x.device()))
            .transpose()?;
        Ok((dx, Some(token.zeros_like()?)))
    }
}

/// Gradients on their way from the network to the bundles.
#[derive(Default)]
struct Delivery(Mutex<HashMap<TensorId, Tensor>>);

impl Delivery {
    /// A parameter that several layers share gets the sum.
    fn put(&self, id: TensorId, gradient: Tensor) -> Result<()> {
        let mut parcels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = match parcels.remove(&id) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        parcels.insert(id, sum);
        Ok(())
    }

    fn take(&self, id: TensorId) -> Option<Tensor> {
        let mut parcels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parcels.remove(&id)
    }
}

/// A node without a value of its own: it depends on its inputs and hands each its gradient.
struct Bundle {
    delivery: Arc<Delivery>,
    /// Whether the inputs are parameters; otherwise they are tokens.
    leaf: bool,
}

/// The token of some parameters.
fn bundle(parameters: Vec<Tensor>, delivery: &Arc<Delivery>) -> Result<Tensor> {
    let (mut inputs, mut leaf) = (parameters, true);
    if inputs.is_empty() {
        return Tensor::zeros(1, DType::F32, &candle_core::Device::Cpu);
    }
    while leaf || inputs.len() > 1 {
        inputs = (inputs.chunks(3))
            .map(|inputs| {
                let bundle = Bundle {
                    delivery: delivery.clone(),
                    leaf,
                };
                match inputs {
                    [a, b, c] => a.apply_op3(b, c, bundle),
                    [a, b] => a.apply_op2(b, bundle),
                    [a] => a.apply_op1(bundle),
                    _ => unreachable!("chunks of one to three"),
                }
            })
            .collect::<Result<_>>()?;
        leaf = false;
    }
    Ok(inputs.remove(0))
}

impl Bundle {
    const NAME: &'static str = "network parameters";

    fn token() -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), 1.into()))
    }

    fn gradient(&self, input: &Tensor) -> Result<Option<Tensor>> {
        match self.leaf {
            true => Ok(self.delivery.take(input.id())),
            false => input.zeros_like().map(Some),
        }
    }
}

impl CustomOp1 for Bundle {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Self::token()
    }

    fn bwd(&self, a: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        self.gradient(a)
    }
}

impl CustomOp2 for Bundle {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Self::token()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((self.gradient(a)?, self.gradient(b)?))
    }
}

impl CustomOp3 for Bundle {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Self::token()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok((self.gradient(a)?, self.gradient(b)?, self.gradient(c)?))
    }
}
