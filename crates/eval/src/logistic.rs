//! The linear probe at the optimum of its loss: multinomial logistic regression on features.
//!
//! `F(W, b) = 1/N · Σᵢ −ln softmax(W·f̃ᵢ + b)_{yᵢ} + λ/2 · ‖W‖²`, with f̃ = (f − μ)/σ dimension by dimension (over the training
//! features; a dimension that never changes is 0) and the bias free. F is convex: its minimum is a property of the features,
//! with no learning rate or number of epochs in it. scikit-learn's `LogisticRegression(C=1/(λN))` on scaled features has the
//! same minimum.
//!
//! L-BFGS is given the curvature of the loss (`curvature.rs`), so that tens of iterations a λ do where hundreds would be needed.
//!
//! Products and sums are f64, over blocks of a fixed number of rows that are added in their order: the bits do not depend on
//! the number of threads.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::classification::classification;
use crate::curvature::Curvature;
use crate::error::{Error, Result};
use crate::features::Features;
use crate::findings::ProbeRecord;
use crate::lbfgs::{Inverse, minimize};
use crate::predictions::Predictions;

/// Rows that are worked on at a time.
const BLOCK: usize = 512;

/// Rows, per dimension, that the guess of the curvature is made from at most.
const CURVATURE_ROWS: usize = 4;

/// Options of [`fit_logistic`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogisticConfig {
    /// λ, 0 or more.
    pub lambda: f64,
    /// The largest component of the gradient that counts as none.
    pub tolerance: f64,
    /// Iterations of L-BFGS at most.
    pub max_iterations: usize,
}

impl Default for LogisticConfig {
    fn default() -> Self {
        Self {
            lambda: 1e-4,
            tolerance: 1e-6,
            max_iterations: 1000,
        }
    }
}

/// A fitted linear classifier of features.
#[derive(Clone, Debug, PartialEq)]
pub struct Logistic {
    /// Number of classes, C.
    pub classes: usize,
    /// Numbers per feature, D.
    pub dim: usize,
    /// W then b: `[C, D]` row by row, then `[C]`, for standardised features.
    pub parameters: Vec<f64>,
    /// λ.
    pub lambda: f64,
    /// F at these parameters.
    pub loss: f64,
    /// Largest absolute component of ∇F there.
    pub gradient: f64,
    /// Iterations of L-BFGS.
    pub iterations: usize,
    /// Whether `gradient` fell to the tolerance.
    pub converged: bool,
    standard: Standard,
}

/// μ and 1/σ, dimension by dimension.
#[derive(Clone, Debug, PartialEq)]
struct Standard {
    mean: Vec<f64>,
    factor: Vec<f64>,
}

impl Standard {
    fn of(features: &Features) -> Self {
        let rows = features.len() as f64;
        let mut mean = vec![0.0; features.dim];
        for row in features.values.chunks(features.dim) {
            mean.iter_mut()
                .zip(row)
                .for_each(|(m, &x)| *m += f64::from(x));
        }
        mean.iter_mut().for_each(|m| *m /= rows);
        let mut square = vec![0.0; features.dim];
        for row in features.values.chunks(features.dim) {
            for ((square, mean), &x) in square.iter_mut().zip(&mean).zip(row) {
                *square += (f64::from(x) - mean) * (f64::from(x) - mean);
            }
        }
        let factor = square.iter().zip(&mean).map(|(square, mean)| {
            let deviation = (square / rows).sqrt();
            // Below this, what differs is the rounding of f32.
            if deviation <= 1e-7 * mean.abs() {
                0.0
            } else {
                1.0 / deviation
            }
        });
        let factor = factor
            .map(|f: f64| if f.is_finite() { f } else { 0.0 })
            .collect();
        Self { mean, factor }
    }

    /// `(W', b')` with `W'·f + b' = W·f̃ + b`: the features themselves need no pass.
    fn fold(&self, parameters: &[f64], classes: usize) -> (Vec<f64>, Vec<f64>) {
        let dim = self.mean.len();
        let (weights, bias) = parameters.split_at(classes * dim);
        let mut folded = weights.to_vec();
        let mut shifted = bias.to_vec();
        for (row, bias) in folded.chunks_mut(dim).zip(&mut shifted) {
            for ((w, factor), mean) in row.iter_mut().zip(&self.factor).zip(&self.mean) {
                *w *= factor;
                *bias -= *w * mean;
            }
        }
        (folded, shifted)
    }

    /// `Σᵢ δᵢ·f̃ᵢᵀ` of one class from `Σᵢ δᵢ·fᵢᵀ`, in place, and `Σᵢ δᵢ`.
    fn unfold(&self, sums: &mut [f64], weight: f64) {
        for ((sum, mean), factor) in sums.iter_mut().zip(&self.mean).zip(&self.factor) {
            *sum = (*sum - weight * mean) * factor;
        }
    }
}

/// Rows `[B, D]` of features as f64.
fn widened(values: &[f32], dim: usize) -> Result<Tensor> {
    let wide: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
    Ok(Tensor::from_vec(
        wide,
        (values.len() / dim, dim),
        &Device::Cpu,
    )?)
}

/// Fits the probe by L-BFGS from `start` (or zeros).
///
/// # Errors
/// If features are empty or not finite, a label is not below `classes`, λ or the tolerance is negative or not finite, or `start`
/// has another shape.
pub fn fit_logistic(
    train: &Features,
    classes: usize,
    config: &LogisticConfig,
    start: Option<&Logistic>,
) -> Result<Logistic> {
    train.check()?;
    if let Some(label) = train
        .labels
        .iter()
        .find(|&&label| label as usize >= classes)
    {
        return Err(Error::Invalid(format!(
            "a probe of {classes} classes met the label {label}; labels must be below the number of classes"
        )));
    }
    for (name, value) in [("lambda", config.lambda), ("tolerance", config.tolerance)] {
        if !(value.is_finite() && value >= 0.0) {
            return Err(Error::Invalid(format!(
                "{name} of a probe is {value}; use 0 or more"
            )));
        }
    }
    let dim = train.dim;
    let from = match start {
        Some(start) if (start.classes, start.dim) != (classes, dim) => {
            return Err(Error::Invalid(format!(
                "a probe of {classes} classes and {dim} columns cannot start from one of {} and {}",
                start.classes, start.dim
            )));
        }
        Some(start) => start.parameters.clone(),
        None => vec![0.0; classes * (dim + 1)],
    };
    let standard = Standard::of(train);
    // Fewer rows than dimensions are fitted sooner than their curvature is decomposed.
    let curvature = (train.len() >= dim)
        .then(|| curvature(train, &standard, classes, config.lambda, &from))
        .transpose()?;
    let guess = curvature
        .as_ref()
        .map(|curvature| |gradient: &[f64]| curvature.solve(gradient));
    let found = minimize(
        from,
        config.tolerance,
        config.max_iterations,
        guess.as_ref().map(|guess| guess as Inverse),
        |parameters, gradient| {
            objective(
                train,
                &standard,
                classes,
                config.lambda,
                parameters,
                gradient,
            )
        },
    )?;
    Ok(Logistic {
        classes,
        dim,
        parameters: found.x,
        lambda: config.lambda,
        loss: found.value,
        gradient: found.gradient,
        iterations: found.iterations,
        converged: found.converged,
        standard,
    })
}

/// F's curvature about `parameters`.
fn curvature(
    train: &Features,
    standard: &Standard,
    classes: usize,
    lambda: f64,
    parameters: &[f64],
) -> Result<Curvature> {
    let dim = train.dim;
    let (folded, bias) = standard.fold(parameters, classes);
    let columns = Tensor::from_vec(folded, (classes, dim), &Device::Cpu)?.t()?;
    let every = train.len().div_ceil(CURVATURE_ROWS * dim);
    let mut rows = Vec::with_capacity(train.len().div_ceil(every) * dim);
    for row in train.values.chunks(dim).step_by(every) {
        rows.extend_from_slice(row);
    }
    let mut total = 0.0;
    for block in rows.chunks_mut(BLOCK * dim) {
        let mut logits = widened(block, dim)?.matmul(&columns)?.to_vec2::<f64>()?;
        for (row, logits) in block.chunks_mut(dim).zip(&mut logits) {
            add(logits, &bias);
            softmax(logits);
            let weight = (1.0 - logits.iter().map(|p| p * p).sum::<f64>()) / classes as f64;
            total += weight;
            for ((x, mean), factor) in row.iter_mut().zip(&standard.mean).zip(&standard.factor) {
                *x = ((f64::from(*x) - mean) * factor * weight.max(0.0).sqrt()) as f32;
            }
        }
    }
    Curvature::new(rows, dim, total, lambda)
}

/// In place; returns `ln Σ eᶻ`.
fn softmax(logits: &mut [f64]) -> f64 {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|z| (z - highest).exp()).sum();
    logits
        .iter_mut()
        .for_each(|z| *z = (*z - highest).exp() / sum);
    sum.ln() + highest
}

fn add(sum: &mut [f64], part: &[f64]) {
    sum.iter_mut()
        .zip(part)
        .for_each(|(sum, part)| *sum += part);
}

/// F and its gradient.
fn objective(
    train: &Features,
    standard: &Standard,
    classes: usize,
    lambda: f64,
    parameters: &[f64],
    gradient: &mut [f64],
) -> Result<f64> {
    let weights = &parameters[..classes * train.dim];
    let (folded, bias) = standard.fold(parameters, classes);
    let columns = Tensor::from_vec(folded, (classes, train.dim), &Device::Cpu)?.t()?; // [D, C]
    let blocks: Vec<(f64, Vec<f64>)> = train
        .values
        .par_chunks(BLOCK * train.dim)
        .zip(train.labels.par_chunks(BLOCK))
        .map(|(values, labels)| {
            let rows = widened(values, train.dim)?; // [B, D]
            let mut wrong = rows.matmul(&columns)?.flatten_all()?.to_vec1::<f64>()?; // [B, C]
            let mut loss = 0.0;
            let mut sums = vec![0.0; classes];
            for (logits, &label) in wrong.chunks_mut(classes).zip(labels) {
                add(logits, &bias);
                let right = logits[label as usize];
                loss += softmax(logits) - right;
                // ∂/∂z = softmax(z) − 1_y
                logits[label as usize] -= 1.0;
                add(&mut sums, logits);
            }
            let wrong = Tensor::from_vec(wrong, (labels.len(), classes), &Device::Cpu)?;
            let mut part = wrong.t()?.matmul(&rows)?.flatten_all()?.to_vec1::<f64>()?; // [C, D]
            part.extend(sums);
            Ok((loss, part))
        })
        .collect::<Result<_>>()?;
    let rows = train.len() as f64;
    gradient.fill(0.0);
    let mut loss = 0.0;
    for (part_loss, part) in &blocks {
        loss += part_loss;
        add(gradient, part);
    }
    let (by_weights, by_bias) = gradient.split_at_mut(classes * train.dim);
    for (sums, weight) in by_weights.chunks_mut(train.dim).zip(&*by_bias) {
        standard.unfold(sums, *weight);
    }
    gradient.iter_mut().for_each(|g| *g /= rows);
    let mut penalty = 0.0;
    for (g, w) in gradient.iter_mut().zip(weights) {
        penalty += w * w;
        *g += lambda * w;
    }
    Ok(loss / rows + 0.5 * lambda * penalty)
}

impl Logistic {
    /// Logits of features from the same encoder.
    ///
    /// # Errors
    /// If the features are not sound or have another width.
    pub fn predict(&self, features: &Features) -> Result<Predictions> {
        features.check()?;
        if features.dim != self.dim {
            return Err(Error::Invalid(format!(
                "a probe of {} columns was shown features of {}; both must come from one encoder",
                self.dim, features.dim
            )));
        }
        let (folded, bias) = self.standard.fold(&self.parameters, self.classes);
        let columns = Tensor::from_vec(folded, (self.classes, self.dim), &Device::Cpu)?.t()?;
        let mut logits = Vec::with_capacity(features.len() * self.classes);
        for values in features.values.chunks(BLOCK * self.dim) {
            let rows = widened(values, self.dim)?.matmul(&columns)?;
            for row in rows.to_vec2::<f64>()? {
                logits.extend(row.iter().zip(&bias).map(|(z, b)| (z + b) as f32));
            }
        }
        Predictions::new(self.classes, logits, features.labels.clone())
    }
}

/// A probe whose λ was chosen on a validation split.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedProbe {
    /// The probe at the chosen λ.
    pub probe: Logistic,
    /// Its top-1 on the validation split, 0 to 1.
    pub validation_top1: f64,
    /// Training features that it was fitted on.
    pub training_images: usize,
}

/// The largest component of the gradient at which fits are compared; only the best is brought to its optimum.
const COARSE: f64 = 1e-4;

/// Fits the probe for every λ of `grid` until the gradient's components are below 1e-4, keeps the one with the best
/// validation top-1 (of equals the lower negative log-likelihood), and fits that to the tolerance. From the largest λ down, each
/// fit starts where the one before ended. `stop` is asked before every fit; `None` if it says yes.
///
/// # Errors
/// As [`fit_logistic`], and if the grid is empty or the validation features are not sound.
pub fn validated_probe(
    train: &Features,
    validation: &Features,
    classes: usize,
    grid: &[f64],
    config: &LogisticConfig,
    stop: impl Fn() -> bool,
) -> Result<Option<ValidatedProbe>> {
    let mut lambdas = grid.to_vec();
    lambdas.sort_by(|a, b| b.total_cmp(a));
    let mut best: Option<(f64, f64, Logistic)> = None;
    let mut last: Option<Logistic> = None;
    for lambda in lambdas {
        if stop() {
            return Ok(None);
        }
        let probe = fit_logistic(
            train,
            classes,
            &LogisticConfig {
                lambda,
                tolerance: config.tolerance.max(COARSE),
                ..*config
            },
            last.as_ref(),
        )?;
        let found = classification(&probe.predict(validation)?)?;
        let better = best.as_ref().is_none_or(|(top1, nll, _)| {
            found.top1 > *top1 || (found.top1 == *top1 && found.nll < *nll)
        });
        if better {
            best = Some((found.top1, found.nll, probe.clone()));
        }
        last = Some(probe);
    }
    let Some((_, _, best)) = best else {
        return Err(Error::Invalid(
            "the grid of λ is empty; give at least one value, such as 1e-4".to_owned(),
        ));
    };
    if stop() {
        return Ok(None);
    }
    let lambda = best.lambda;
    let mut probe = fit_logistic(
        train,
        classes,
        &LogisticConfig { lambda, ..*config },
        Some(&best),
    )?;
    probe.iterations += best.iterations;
    Ok(Some(ValidatedProbe {
        validation_top1: classification(&probe.predict(validation)?)?.top1,
        probe,
        training_images: train.len(),
    }))
}

impl ValidatedProbe {
    /// What stands in the results, given the probe's predictions on the test split.
    ///
    /// # Errors
    /// If the predictions are not sound.
    pub fn record(
        &self,
        test: &Predictions,
        label_share: f64,
        label_noise: f64,
    ) -> Result<ProbeRecord> {
        let found = classification(test)?;
        Ok(ProbeRecord {
            training_images: self.training_images as u64,
            label_share,
            label_noise,
            lambda: self.probe.lambda,
            validation_top1: self.validation_top1,
            top1: found.top1,
            ece: found.ece,
            nll: found.nll,
            loss: self.probe.loss,
            gradient: self.probe.gradient,
            iterations: self.probe.iterations as u64,
            converged: self.probe.converged,
        })
    }
}

#[cfg(test)]
mod tests;
