//! Exponential moving average of the weights: a ← d a + (1 − d) p after every step,
//! d = min(decay, (1 + t) / (10 + t)) so that the first steps do not weigh for ever.

use crate::cells::{map, on_host, update0};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor, Var};
use resnet::Parameters;
use std::collections::BTreeMap;

/// A shadow of all weights and running statistics.
#[derive(Debug)]
pub struct Average {
    decay: f64,
    steps: u64,
    shadows: Vec<(String, Var, Var)>,
}

impl Average {
    /// An average that begins at the current values.
    pub fn new(decay: f64, groups: &[(&str, &Parameters)]) -> Result<Self> {
        let mut shadows = Vec::new();
        for (prefix, parameters) in groups {
            for (name, var, _) in parameters
                .all()
                .filter(|(_, var, _)| var.dtype().is_float())
            {
                let shadow = Var::from_tensor(&var.as_detached_tensor().copy()?)?;
                shadows.push((format!("{prefix}.{name}"), var.clone(), shadow));
            }
        }
        Ok(Self {
            decay,
            steps: 0,
            shadows,
        })
    }

    /// Takes in the values after an optimiser step.
    pub fn update(&mut self) -> Result<()> {
        self.steps += 1;
        let t = self.steps as f64;
        let decay = self.decay.min((1.0 + t) / (10.0 + t));
        let Some((_, first, _)) = self.shadows.first() else {
            return Ok(());
        };
        map(&self.shadows, first.device(), |(_, var, shadow)| {
            if on_host(var) {
                let d = decay as f32;
                return update0(shadow, var, |a, p| *a += (1.0 - d) * (p - *a));
            }
            let p = var.as_detached_tensor();
            let a = shadow.as_detached_tensor();
            Ok(shadow.set(&(a.affine(decay, 0.0)? + p.affine(1.0 - decay, 0.0)?)?)?)
        })?;
        Ok(())
    }

    /// Exchanges weights and average; a second call undoes the first.
    pub fn swap(&self) -> Result<()> {
        for (_, var, shadow) in &self.shadows {
            let value = var.as_detached_tensor().copy()?;
            var.set(&shadow.as_detached_tensor())?;
            shadow.set(&value)?;
        }
        Ok(())
    }

    /// The average as named tensors on the CPU.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for (name, _, shadow) in &self.shadows {
            tensors.insert(
                name.clone(),
                shadow
                    .as_detached_tensor()
                    .to_device(&Device::Cpu)?
                    .copy()?,
            );
        }
        let steps = i64::try_from(self.steps).unwrap_or(i64::MAX);
        tensors.insert("steps".to_owned(), Tensor::new(&[steps], &Device::Cpu)?);
        Ok(tensors)
    }

    /// Takes over what [`state`](Self::state) gave.
    pub fn load_state(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let find = |name: &str| {
            tensors
                .get(name)
                .ok_or_else(|| Error::OptimizerState(format!("the average of `{name}` is missing")))
        };
        for (name, _, shadow) in &self.shadows {
            shadow.set(
                &find(name)?
                    .to_device(shadow.device())?
                    .to_dtype(shadow.dtype())?,
            )?;
        }
        let steps = find("steps")?.to_dtype(DType::I64)?.to_vec1::<i64>()?;
        self.steps = steps
            .first()
            .copied()
            .and_then(|s| u64::try_from(s).ok())
            .unwrap_or(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use resnet::Role;

    #[test]
    fn follows_its_formula_and_swaps_back() {
        let mut parameters = Parameters::new(&Device::Cpu);
        let var = parameters
            .add(
                "w",
                &Tensor::new(&[1f32], &Device::Cpu).unwrap(),
                Role::Bias,
            )
            .unwrap();
        let mut average = Average::new(0.5, &[("m", &parameters)]).unwrap();
        let mut expected = 1.0f32;
        for (t, value) in [2.0f32, 3.0, 4.0, 8.0].into_iter().enumerate() {
            var.set(&Tensor::new(&[value], &Device::Cpu).unwrap())
                .unwrap();
            average.update().unwrap();
            let d = ((t as f32 + 2.0) / (t as f32 + 11.0)).min(0.5);
            expected = d * expected + (1.0 - d) * value;
        }
        let mut again = Average::new(0.5, &[("m", &parameters)]).unwrap();
        again.load_state(&average.state().unwrap()).unwrap();
        again.swap().unwrap();
        assert!((var.to_vec1::<f32>().unwrap()[0] - expected).abs() < 1e-6);
        again.swap().unwrap();
        assert_eq!(var.to_vec1::<f32>().unwrap(), [8.0]);
    }
}
