//! The gradients of one optimiser step, in the order of the trainable parameters.

use crate::Result;
use crate::cells::{map, sum_of_squares};
use crate::optimizer::Trainable;
use candle_core::Tensor;
use candle_core::backprop::GradStore;

/// One gradient per trainable parameter; summed over the parts of a batch where it is accumulated.
#[derive(Debug, Default)]
pub struct Gradients {
    sums: Vec<Option<Tensor>>,
    parts: usize,
}

impl Gradients {
    /// No gradient yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Back-propagates `loss` and adds what reaches the parameters.
    pub fn add(&mut self, loss: &Tensor, parameters: &[Trainable]) -> Result<()> {
        self.take(&mut kernels::backward(loss)?, parameters)?;
        self.parts += 1;
        Ok(())
    }

    /// Adds what a store holds for the parameters.
    pub(crate) fn take(&mut self, store: &mut GradStore, parameters: &[Trainable]) -> Result<()> {
        self.sums.resize(parameters.len(), None);
        for (sum, parameter) in self.sums.iter_mut().zip(parameters) {
            if let Some(gradient) = store.remove(&parameter.var) {
                *sum = Some(match sum.take() {
                    Some(sum) => (sum + gradient)?,
                    None => gradient,
                });
            }
        }
        Ok(())
    }

    /// Takes what was added so far as the terms of one part: sums, not means.
    pub(crate) fn count_as_one(&mut self) {
        self.parts = 1;
    }

    /// Adds the parts of another.
    pub(crate) fn join(&mut self, other: Self) -> Result<()> {
        self.sums.resize(other.sums.len(), None);
        for (sum, more) in self.sums.iter_mut().zip(other.sums) {
            *sum = match (sum.take(), more) {
                (Some(sum), Some(more)) => Some((sum + more)?),
                (sum, more) => sum.or(more),
            };
        }
        self.parts += other.parts;
        Ok(())
    }

    /// The sums, in the order of the parameters; none where no gradient arrived.
    pub fn sums(&self) -> &[Option<Tensor>] {
        &self.sums
    }

    /// What the sums are to be multiplied by to be the mean over the parts.
    pub fn mean_factor(&self) -> f64 {
        1.0 / self.parts.max(1) as f64
    }

    /// Global norm of the mean gradient: √(Σ over all parameters of Σ g²).
    pub fn norm(&self) -> Result<f64> {
        let Some(first) = self.sums.iter().flatten().next() else {
            return Ok(0.0);
        };
        let squares = map(self.sums.iter().flatten(), first.device(), sum_of_squares)?;
        Ok(squares.iter().sum::<f64>().sqrt() * self.mean_factor())
    }

    /// The factor that brings a gradient of this norm down to `clip`, as `torch.nn.utils.clip_grad_norm_`.
    pub fn clip_factor(norm: f64, clip: f64) -> f64 {
        (clip / (norm + 1e-6)).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn parts_are_averaged_and_the_norm_is_global() {
        let a = Var::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let b = Var::new(&[3f32], &Device::Cpu).unwrap();
        let parameters = [Trainable::new("a", &a, true), Trainable::new("b", &b, true)];
        let mut gradients = Gradients::new();
        for factor in [2.0, 4.0] {
            // d/da = factor · (1, 1), d/db = 2 · b = 6
            let loss = (a.sum_all().unwrap().affine(factor, 0.0).unwrap()
                + b.sqr().unwrap().sum_all().unwrap())
            .unwrap();
            gradients.add(&loss, &parameters).unwrap();
        }
        let norm = gradients.norm().unwrap();
        assert!((norm - (9.0f64 + 9.0 + 36.0).sqrt()).abs() < 1e-6);
        assert!((Gradients::clip_factor(norm, 1.0) * norm - 1.0).abs() < 1e-6);
        assert_eq!(Gradients::clip_factor(norm, 100.0), 1.0);
    }
}
