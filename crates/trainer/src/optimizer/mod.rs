//! Optimisers with state that saves and loads: SGD with momentum and Nesterov, Adam, AdamW, LARS.
//!
//! g is the gradient times the factor handed to [`Optimizer::step`] (averaging and clipping), η the learning rate,
//! λ the weight decay, which leaves biases and batch norm alone:
//!
//! - SGD (PyTorch): `g += λ p; m = μ m + g; p −= η m` (Nesterov: `p −= η (g + μ m)`)
//! - Adam (Kingma & Ba 2015; PyTorch): `g += λ p; m = β₁ m + (1 − β₁) g; v = β₂ v + (1 − β₂) g²;`
//!   `p −= η / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)`
//! - AdamW (Loshchilov & Hutter 2019; PyTorch): `p −= η λ p`, then Adam without its decay
//! - LARS (You et al. 2017, as in solo-learn): for weights,
//!   `g = (g + λ p) · trust · |p| / (|g| + λ |p| + ε)` where both norms are above zero; then SGD
//!
//! On the CPU one parallel pass updates all parameters, each in its own storage; elsewhere the same formulas
//! are composed of tensor operations.

mod composed;
mod fused;

use crate::cells::{map, on_host, sum_of_squares};
use crate::{Error, Gradients, OptimizerConfig, OptimizerKind, Result};
use candle_core::{Device, Tensor, Var};
use resnet::Parameters;
use std::collections::BTreeMap;

/// A parameter that an optimiser changes.
#[derive(Clone, Debug)]
pub struct Trainable {
    /// Its name in checkpoints: `encoder.conv1.weight`.
    pub name: String,
    /// The variable.
    pub var: Var,
    /// Whether weight decay (and LARS' adaptation) applies: weights yes, biases and batch norm no.
    pub decay: bool,
    /// What its learning rate is multiplied by.
    pub rate: f64,
}

impl Trainable {
    /// A parameter by name.
    pub fn new(name: &str, var: &Var, decay: bool) -> Self {
        Self {
            name: name.to_owned(),
            var: var.clone(),
            decay,
            rate: 1.0,
        }
    }

    /// The same parameter with its learning rate multiplied by `rate`.
    #[must_use]
    pub fn with_rate(self, rate: f64) -> Self {
        Self { rate, ..self }
    }

    /// All trainable parameters of several collections, each under its prefix.
    pub fn of(groups: &[(&str, &Parameters)]) -> Vec<Self> {
        let mut all = Vec::new();
        for (prefix, parameters) in groups {
            for (name, var, role) in parameters.trainable() {
                all.push(Self::new(
                    &format!("{prefix}.{name}"),
                    var,
                    role.is_weight(),
                ));
            }
        }
        all
    }
}

/// State of one parameter: one value per cell, where the parameter lives.
#[derive(Debug)]
enum State {
    Host(Vec<f32>),
    Device(Tensor),
}

impl State {
    fn zeros(var: &Var) -> Result<Self> {
        Ok(if on_host(var) {
            Self::Host(vec![0.0; var.elem_count()])
        } else {
            Self::Device(var.zeros_like()?)
        })
    }

    fn tensor(&self, var: &Var) -> Result<Tensor> {
        Ok(match self {
            Self::Host(cells) => Tensor::from_slice(cells, var.shape(), &Device::Cpu)?,
            Self::Device(tensor) => tensor.to_device(&Device::Cpu)?,
        })
    }

    fn set(&mut self, tensor: &Tensor) -> Result<()> {
        match self {
            Self::Host(cells) => *cells = tensor.flatten_all()?.to_vec1()?,
            Self::Device(state) => *state = tensor.to_device(state.device())?,
        }
        Ok(())
    }
}

/// The numbers of one update, as every rule needs them.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    lr: f64,
    /// On the gradient: averaging, clipping, LARS' adaptation.
    scale: f64,
    decay: f64,
    momentum: f64,
    nesterov: bool,
    betas: [f64; 2],
    eps: f64,
    /// 1 − βᵗ of both moments.
    corrections: [f64; 2],
}

/// An update rule with its state.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    parameters: Vec<Trainable>,
    states: Vec<Vec<State>>,
    steps: u64,
}

impl Optimizer {
    /// The rule over these parameters, with fresh state.
    pub fn new(config: &OptimizerConfig, parameters: Vec<Trainable>) -> Result<Self> {
        let slots = slot_names(config.kind).len();
        let states = parameters
            .iter()
            .map(|p| (0..slots).map(|_| State::zeros(&p.var)).collect())
            .collect::<Result<_>>()?;
        Ok(Self {
            config: config.clone(),
            parameters,
            states,
            steps: 0,
        })
    }

    /// The parameters, in the order of [`Gradients::sums`].
    pub fn parameters(&self) -> &[Trainable] {
        &self.parameters
    }

    /// One update with learning rate `lr`; the gradients are multiplied by `scale` first.
    pub fn step(&mut self, gradients: &Gradients, lr: f64, scale: f64) -> Result<()> {
        self.steps += 1;
        let c = &self.config;
        let t = self.steps as f64;
        let numbers = Numbers {
            lr,
            scale,
            decay: 0.0,
            momentum: c.momentum(),
            nesterov: c.nesterov.unwrap_or(false),
            betas: c.betas(),
            eps: c.eps(),
            corrections: c.betas().map(|beta| 1.0 - beta.powf(t)),
        };
        let Some(first) = self.parameters.first() else {
            return Ok(());
        };
        let all = (self.parameters.iter().zip(&mut self.states)).zip(gradients.sums());
        map(all, first.var.device(), |((parameter, state), gradient)| {
            let Some(gradient) = gradient else {
                return Ok(());
            };
            let mut n = numbers;
            n.lr *= parameter.rate;
            if parameter.decay {
                n.decay = c.weight_decay;
            }
            if c.kind == OptimizerKind::Lars && parameter.decay {
                let adapted = lars_factor(c, &parameter.var, gradient, scale)?;
                n.scale *= adapted;
                n.decay *= adapted;
            }
            if on_host(&parameter.var) {
                fused::update(c.kind, &parameter.var, gradient, state, &n)
            } else {
                composed::update(c.kind, &parameter.var, gradient, state, &n)
            }
        })?;
        Ok(())
    }

    /// The state as named tensors on the CPU: `momentum.encoder.conv1.weight`, …, and the step count.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for (parameter, states) in self.parameters.iter().zip(&self.states) {
            for (slot, state) in slot_names(self.config.kind).iter().zip(states) {
                tensors.insert(
                    format!("{slot}.{}", parameter.name),
                    state.tensor(&parameter.var)?,
                );
            }
        }
        let steps = i64::try_from(self.steps).unwrap_or(i64::MAX);
        tensors.insert("steps".to_owned(), Tensor::new(&[steps], &Device::Cpu)?);
        Ok(tensors)
    }

    /// Takes over what [`state`](Self::state) gave. Nothing changes if a tensor is missing or of the wrong shape.
    pub fn load_state(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let find = |name: &str| {
            tensors.get(name).ok_or_else(|| {
                Error::OptimizerState(format!(
                    "`{name}` is missing; it was saved by another optimiser or model"
                ))
            })
        };
        let slots = slot_names(self.config.kind);
        for parameter in &self.parameters {
            for slot in slots {
                let name = format!("{slot}.{}", parameter.name);
                let tensor = find(&name)?;
                if tensor.shape() != parameter.var.shape() {
                    let (found, expected) = (tensor.dims(), parameter.var.dims());
                    return Err(Error::OptimizerState(format!(
                        "`{name}` is {found:?}, expected {expected:?}"
                    )));
                }
            }
        }
        let steps = find("steps")?.to_vec1::<i64>()?;
        for (parameter, states) in self.parameters.iter().zip(&mut self.states) {
            for (slot, state) in slots.iter().zip(states) {
                state.set(find(&format!("{slot}.{}", parameter.name))?)?;
            }
        }
        self.steps = steps
            .first()
            .copied()
            .and_then(|s| u64::try_from(s).ok())
            .unwrap_or(0);
        Ok(())
    }
}

/// What a rule keeps per parameter.
fn slot_names(kind: OptimizerKind) -> &'static [&'static str] {
    match kind {
        OptimizerKind::Sgd | OptimizerKind::Lars => &["momentum"],
        OptimizerKind::Adam | OptimizerKind::Adamw => &["mean", "square"],
    }
}

/// LARS' factor on `g + λ p`.
fn lars_factor(config: &OptimizerConfig, var: &Var, gradient: &Tensor, scale: f64) -> Result<f64> {
    let weight = sum_of_squares(var)?.sqrt();
    let gradient = sum_of_squares(gradient)?.sqrt() * scale;
    if weight == 0.0 || gradient == 0.0 {
        return Ok(1.0);
    }
    Ok(config.trust() * weight / (gradient + config.weight_decay * weight + config.eps()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXTURE: &str = include_str!("../../tests/fixtures/optimizers.json");

    fn run(config: &OptimizerConfig, case: &serde_json::Value, composed: bool) -> Vec<f32> {
        let values = |v: &serde_json::Value| -> Vec<f32> {
            v.as_array()
                .unwrap()
                .iter()
                .map(|x| x.as_f64().unwrap() as f32)
                .collect()
        };
        let weight = Var::from_vec(values(&case["weight"]), (3, 4), &Device::Cpu).unwrap();
        let bias = Var::from_vec(values(&case["bias"]), 3, &Device::Cpu).unwrap();
        let parameters = vec![
            Trainable::new("weight", &weight, true),
            Trainable::new("bias", &bias, false),
        ];
        let mut optimizer = Optimizer::new(config, parameters).unwrap();
        if composed {
            for (parameter, states) in optimizer.parameters.iter().zip(&mut optimizer.states) {
                for state in states {
                    *state = State::Device(parameter.var.zeros_like().unwrap());
                }
            }
        }
        for (step, gradient) in case["gradients"].as_array().unwrap().iter().enumerate() {
            let g = values(gradient);
            let g_weight = Tensor::from_slice(&g[..12], (3, 4), &Device::Cpu).unwrap();
            let g_bias = Tensor::from_slice(&g[12..], 3, &Device::Cpu).unwrap();
            let mut gradients = Gradients::new();
            let loss = ((weight.as_tensor() * g_weight).unwrap().sum_all().unwrap()
                + (bias.as_tensor() * g_bias).unwrap().sum_all().unwrap())
            .unwrap();
            gradients.add(&loss, optimizer.parameters()).unwrap();
            optimizer.step(&gradients, config.lr, 1.0).unwrap();
            if step == 1 && !composed {
                // State survives being saved and loaded.
                let state = optimizer.state().unwrap();
                let mut again = Optimizer::new(config, optimizer.parameters.clone()).unwrap();
                again.load_state(&state).unwrap();
                optimizer = again;
            }
        }
        [
            weight.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            bias.to_vec1().unwrap(),
        ]
        .concat()
    }

    #[test]
    fn five_steps_of_every_rule_are_pytorchs() {
        let fixture: serde_json::Value = serde_json::from_str(FIXTURE).unwrap();
        for case in fixture["cases"].as_array().unwrap() {
            let config: OptimizerConfig = serde_json::from_value(case["config"].clone()).unwrap();
            for composed in [false, true] {
                let got = run(&config, &fixture, composed);
                for (got, expected) in got.iter().zip(case["result"].as_array().unwrap()) {
                    let expected = expected.as_f64().unwrap();
                    let error = (f64::from(*got) - expected).abs();
                    assert!(
                        error < 1e-6 * expected.abs().max(1.0),
                        "{config:?} composed: {composed}: {got} is not {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_parameters_own_rate_multiplies_the_steps_of_every_rule() {
        for config in [
            OptimizerConfig::sgd(0.1, 1e-2),
            OptimizerConfig::adam(0.1),
            OptimizerConfig::adamw(0.1, 1e-2),
            OptimizerConfig::lars(0.1, 1e-2),
        ] {
            let moved = |rate: f64, lr: f64| {
                let var = Var::new(&[1f32, -2.0], &Device::Cpu).unwrap();
                let parameter = Trainable::new("w", &var, true).with_rate(rate);
                let mut optimizer = Optimizer::new(&config, vec![parameter]).unwrap();
                let mut gradients = Gradients::new();
                let loss = var.sqr().unwrap().sum_all().unwrap();
                gradients.add(&loss, optimizer.parameters()).unwrap();
                optimizer.step(&gradients, lr, 1.0).unwrap();
                var.to_vec1::<f32>().unwrap()
            };
            assert_eq!(moved(4.0, 0.125), moved(1.0, 0.5));
            assert_ne!(moved(4.0, 0.125), moved(1.0, 0.125));
        }
    }

    #[test]
    fn foreign_state_is_refused() {
        let var = Var::new(&[1f32], &Device::Cpu).unwrap();
        let mut sgd = Optimizer::new(
            &OptimizerConfig::sgd(0.1, 0.0),
            vec![Trainable::new("w", &var, true)],
        )
        .unwrap();
        let adam = Optimizer::new(
            &OptimizerConfig::adam(0.1),
            vec![Trainable::new("w", &var, true)],
        )
        .unwrap();
        let error = sgd
            .load_state(&adam.state().unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains("momentum.w"), "{error}");
    }
}
