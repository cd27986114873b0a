//! Named parameters and buffers, kept apart and ordered by name.
//!
//! A *parameter* is trained; a *buffer* (batch-norm running statistics) is only carried along. Optimisers walk
//! [`Parameters::trainable`], files hold both. The order is that of the names, so that everything computed over
//! all parameters (a clipped norm, a file, an optimiser's state) is reproducible.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};

use crate::{Error, Result};

/// What a tensor is in the network; decides its layout in files, and which decay group it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Convolution weight: `[O, kh, kw, I]` in memory, `[O, I, kh, kw]` in files.
    ConvWeight,
    /// Weight of a fully connected layer, `[out, in]`.
    LinearWeight,
    /// Bias of a convolution or of a fully connected layer.
    Bias,
    /// Batch norm's scale γ.
    NormScale,
    /// Batch norm's shift β.
    NormShift,
    /// Not trained: running mean, running variance, number of batches seen.
    Buffer,
}

impl Role {
    /// Whether weight decay usually applies: weights yes; biases and batch norm no.
    pub fn is_weight(self) -> bool {
        matches!(self, Self::ConvWeight | Self::LinearWeight)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) var: Var,
    pub(crate) role: Role,
}

/// An ordered collection of named parameters and buffers on one device.
///
/// Layers keep handles ([`Var`]) to the tensors they add; changing a value here (by loading a file, by an optimiser's
/// step) changes the model.
#[derive(Debug)]
pub struct Parameters {
    device: Device,
    dtype: DType,
    pub(crate) entries: BTreeMap<String, Entry>,
}

impl Parameters {
    /// An empty collection of f32 values; everything added is moved to `device`.
    pub fn new(device: &Device) -> Self {
        Self::with_dtype(device, DType::F32)
    }

    /// An empty collection whose values are computed with in `dtype`: f32, or f64 for reference computations.
    pub fn with_dtype(device: &Device, dtype: DType) -> Self {
        Self {
            device: device.clone(),
            dtype,
            entries: BTreeMap::new(),
        }
    }

    /// Where the tensors live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Adds a tensor under a name and returns the handle that a layer keeps.
    ///
    /// Convolution weights are given in memory layout, `[O, kh, kw, I]`. Integer buffers (the count of batches seen)
    /// stay on the CPU: they are bookkeeping, and not every device counts in 64 bits.
    pub fn add(&mut self, name: &str, value: &Tensor, role: Role) -> Result<Var> {
        if self.entries.contains_key(name) {
            return Err(Error::Parameter {
                name: name.into(),
                problem: "added twice; give each model and each head its own Parameters".into(),
            });
        }
        if role == Role::ConvWeight && value.rank() != 4 {
            return Err(Error::Parameter {
                name: name.into(),
                problem: format!(
                    "a convolution weight has shape [O, kh, kw, I], got {:?}",
                    value.dims()
                ),
            });
        }
        let value = match value.dtype().is_float() {
            true => value.to_dtype(self.dtype)?.to_device(&self.device)?,
            false => value.to_device(&Device::Cpu)?,
        };
        let var = Var::from_tensor(&value.detach().contiguous()?)?;
        self.entries.insert(
            name.into(),
            Entry {
                var: var.clone(),
                role,
            },
        );
        Ok(var)
    }

    /// Every trainable parameter with its role, ordered by name.
    pub fn trainable(&self) -> impl Iterator<Item = (&str, &Var, Role)> {
        self.all().filter(|(_, _, role)| *role != Role::Buffer)
    }

    /// Every buffer, ordered by name.
    pub fn buffers(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.all()
            .filter(|(_, _, role)| *role == Role::Buffer)
            .map(|(name, var, _)| (name, var))
    }

    /// Parameters and buffers together, ordered by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Var, Role)> {
        self.entries
            .iter()
            .map(|(name, entry)| (name.as_str(), &entry.var, entry.role))
    }

    /// The parameter or buffer of that name.
    pub fn get(&self, name: &str) -> Option<&Var> {
        self.entries.get(name).map(|entry| &entry.var)
    }

    /// Number of trainable values.
    pub fn count(&self) -> usize {
        self.trainable().map(|(_, var, _)| var.elem_count()).sum()
    }

    /// Number of values in floating-point buffers: running means and variances.
    pub fn buffer_count(&self) -> usize {
        self.buffers()
            .filter(|(_, v)| v.dtype().is_float())
            .map(|(_, v)| v.elem_count())
            .sum()
    }

    /// Number of tensors, buffers included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sets every value to that of the same name in `other`, which must hold the same names and shapes.
    ///
    /// # Errors
    /// If a name is missing on either side or a shape differs; then nothing is changed.
    pub fn copy_from(&self, other: &Parameters) -> Result<()> {
        let wrong = |name: &str, problem: String| Error::Parameter {
            name: name.into(),
            problem,
        };
        let unknown = |name: &&String| !self.entries.contains_key(*name);
        if let Some(name) = other.entries.keys().find(unknown) {
            return Err(wrong(
                name,
                "not in the collection that is copied to".into(),
            ));
        }
        for (name, var, _) in self.all() {
            let source = other
                .get(name)
                .ok_or_else(|| wrong(name, "not in the copied collection".into()))?;
            if source.shape() != var.shape() {
                let problem = format!(
                    "copied shape {:?}, expected {:?}",
                    source.dims(),
                    var.dims()
                );
                return Err(wrong(name, problem));
            }
        }
        for (name, entry) in &self.entries {
            let source = &other.entries[name].var;
            if source.as_tensor().id() != entry.var.as_tensor().id() {
                let value = source.as_detached_tensor().to_device(entry.var.device())?;
                entry.var.set(&value.to_dtype(entry.var.dtype())?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Parameters, Parameters) {
        let make = |fill: f32| {
            let mut p = Parameters::new(&Device::Cpu);
            p.add(
                "b.weight",
                &Tensor::full(fill, (2, 3), &Device::Cpu).unwrap(),
                Role::LinearWeight,
            )
            .unwrap();
            p.add(
                "a.running_mean",
                &Tensor::full(fill, 3, &Device::Cpu).unwrap(),
                Role::Buffer,
            )
            .unwrap();
            p
        };
        (make(1.0), make(2.0))
    }

    #[test]
    fn parameters_and_buffers_are_apart_and_ordered() {
        let (p, _) = pair();
        assert_eq!(
            p.trainable().map(|(n, ..)| n).collect::<Vec<_>>(),
            ["b.weight"]
        );
        assert_eq!(
            p.buffers().map(|(n, _)| n).collect::<Vec<_>>(),
            ["a.running_mean"]
        );
        assert_eq!(
            p.all().map(|(n, ..)| n).collect::<Vec<_>>(),
            ["a.running_mean", "b.weight"]
        );
        assert_eq!((p.count(), p.buffer_count(), p.len()), (6, 3, 2));
    }

    #[test]
    fn a_name_is_taken_once() {
        let (mut p, _) = pair();
        let again = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        let message = p
            .add("b.weight", &again, Role::Bias)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("b.weight") && message.contains("twice"),
            "{message}"
        );
    }

    #[test]
    fn copying_sets_values_and_keeps_handles() {
        let (p, q) = pair();
        let handle = p.get("b.weight").unwrap().clone();
        p.copy_from(&q).unwrap();
        assert_eq!(handle.to_vec2::<f32>().unwrap(), vec![vec![2.0; 3]; 2]);
        p.copy_from(&p).unwrap();
        let empty = Parameters::new(&Device::Cpu);
        assert!(
            empty
                .copy_from(&p)
                .unwrap_err()
                .to_string()
                .contains("a.running_mean")
        );
        assert!(
            p.copy_from(&empty)
                .unwrap_err()
                .to_string()
                .contains("a.running_mean")
        );
    }
}
