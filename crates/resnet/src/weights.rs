//! Between [`Parameters`] and weight files: names, layouts, and what does not fit.
//!
//! Files hold convolution weights as `[O, I, kh, kw]` (PyTorch), memory holds `[O, kh, kw, I]`; only this file knows
//! both. A load is all or nothing: every name and shape is checked before the first value changes.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Tensor, Var};

use crate::weight_file::{WeightFile, read_safetensors, write_safetensors};
use crate::{Error, Parameters, Result, Role};

/// The suffix of the one buffer that files may lack: old and converted files have no count of batches.
const BATCHES: &str = "num_batches_tracked";

/// How names of a file meet names of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Take only the file's tensors under this prefix (`"encoder."`, `"module."`), and take it off.
    pub strip_prefix: Option<String>,
    /// The model's tensors whose names start with one of these keep their values, whatever the file holds.
    pub keep: Vec<String>,
    /// The file's tensors whose names start with one of these are left aside, if the model has no such name.
    pub ignore: Vec<String>,
    /// Leave aside every tensor that the model has no name for.
    pub ignore_unknown: bool,
}

impl LoadOptions {
    /// For an encoder from a file of a whole classifier: `fc.*` (torchvision, timm) is left aside.
    pub fn encoder() -> Self {
        Self {
            ignore: vec!["fc.".into()],
            ..Self::default()
        }
    }

    /// The same, but the stem convolution keeps its values: ImageNet weights into a CIFAR stem.
    pub fn keeping_stem(mut self) -> Self {
        self.keep.extend(["conv1.".into(), "conv1_conv.".into()]);
        self
    }

    /// For a head from a file of a whole classifier: everything else is left aside.
    pub fn head() -> Self {
        Self {
            ignore_unknown: true,
            ..Self::default()
        }
    }
}

/// What a load did. Names are the file's for `ignored`, the model's otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// How many tensors were set.
    pub loaded: usize,
    /// Tensors of the file that were left aside.
    pub ignored: Vec<String>,
    /// Tensors of the model that kept their values: asked for by [`LoadOptions::keep`], or a
    /// `num_batches_tracked` that the file lacks.
    pub kept: Vec<String>,
}

impl Parameters {
    /// Copies of every parameter and buffer in file layout (convolutions `[O, I, kh, kw]`), on the CPU.
    ///
    /// # Errors
    /// If the device fails.
    pub fn to_tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        self.all()
            .map(|(name, var, role)| {
                let value = match role {
                    Role::ConvWeight => var.as_detached_tensor().permute((0, 3, 1, 2))?,
                    _ => var.as_detached_tensor(),
                };
                // A fresh copy: the variable changes in place later.
                let value = value
                    .force_contiguous()?
                    .to_device(&candle_core::Device::Cpu)?;
                Ok((name.to_owned(), value))
            })
            .collect()
    }

    /// Sets every parameter and buffer from tensors in file layout.
    ///
    /// Element types are converted; `num_batches_tracked` may be absent.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the first few missing, unexpected and mis-shaped tensors and what to do; nothing is
    /// changed then.
    pub fn load_tensors(
        &self,
        tensors: &BTreeMap<String, Tensor>,
        options: &LoadOptions,
    ) -> Result<LoadReport> {
        self.load_from(tensors, options, "the given tensors")
    }

    /// Writes every parameter and buffer to a `.safetensors` file that PyTorch loads strictly.
    ///
    /// Atomic and byte-reproducible; see [`write_safetensors`].
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path, metadata: &BTreeMap<String, String>) -> Result<()> {
        write_safetensors(path, &self.to_tensors()?, metadata)
    }

    /// Sets every parameter and buffer from a `.safetensors` file.
    ///
    /// # Errors
    /// As [`read_safetensors`] and [`Parameters::load_tensors`].
    pub fn load(&self, path: &Path, options: &LoadOptions) -> Result<LoadReport> {
        let WeightFile { tensors, .. } = read_safetensors(path)?;
        self.load_from(&tensors, options, &path.display().to_string())
    }

    fn load_from(
        &self,
        tensors: &BTreeMap<String, Tensor>,
        options: &LoadOptions,
        origin: &str,
    ) -> Result<LoadReport> {
        let starts = |name: &str, prefixes: &[String]| prefixes.iter().any(|p| name.starts_with(p));
        let mut report = LoadReport::default();
        let mut found: BTreeMap<&str, &Tensor> = BTreeMap::new();
        let mut trouble = Trouble::default();
        for (full, tensor) in tensors {
            let name = match &options.strip_prefix {
                Some(prefix) => full.strip_prefix(prefix.as_str()),
                None => Some(full.as_str()),
            };
            match name {
                Some(name) if self.get(name).is_some() => {
                    found.insert(name, tensor);
                }
                Some(name) if !options.ignore_unknown && !starts(name, &options.ignore) => {
                    trouble.unexpected.push(name.to_owned());
                }
                _ => report.ignored.push(full.clone()),
            }
        }

        let mut plan: Vec<(&Var, Tensor)> = Vec::with_capacity(self.len());
        for (name, var, role) in self.all() {
            if starts(name, &options.keep) {
                report.kept.push(name.to_owned());
                continue;
            }
            let Some(tensor) = found.get(name) else {
                match name.ends_with(BATCHES) {
                    true => report.kept.push(name.to_owned()),
                    false => trouble.missing.push(name.to_owned()),
                }
                continue;
            };
            let expected = file_shape(var, role);
            if tensor.dims() != expected {
                trouble
                    .misshaped
                    .push((name.to_owned(), tensor.dims().to_vec(), expected));
                continue;
            }
            let value = match role {
                Role::ConvWeight => tensor.permute((0, 2, 3, 1))?,
                _ => (*tensor).clone(),
            };
            plan.push((var, value));
        }
        if !trouble.is_empty() {
            let problem = trouble.explain(tensors);
            return Err(Error::Mismatch {
                origin: origin.into(),
                problem,
            });
        }
        report.loaded = plan.len();
        for (var, value) in plan {
            let value = value
                .detach()
                .to_dtype(var.dtype())?
                .to_device(var.device())?;
            var.set(&value.force_contiguous()?)?;
        }
        Ok(report)
    }
}

fn file_shape(var: &Var, role: Role) -> Vec<usize> {
    match (role, var.dims()) {
        (Role::ConvWeight, &[o, kh, kw, i]) => vec![o, i, kh, kw],
        (_, dims) => dims.to_vec(),
    }
}

/// Everything that does not fit, collected before it is reported.
#[derive(Default)]
struct Trouble {
    missing: Vec<String>,
    unexpected: Vec<String>,
    /// Name, shape in the file, shape expected.
    misshaped: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Trouble {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshaped.is_empty()
    }

    fn explain(&self, tensors: &BTreeMap<String, Tensor>) -> String {
        let mut parts = Vec::new();
        let shapes: Vec<String> = self
            .misshaped
            .iter()
            .map(|(name, file, model)| format!("{name}: file {file:?}, model {model:?}"))
            .collect();
        for (what, names) in [
            ("missing", &self.missing),
            ("unexpected", &self.unexpected),
            ("mis-shaped", &shapes),
        ] {
            if !names.is_empty() {
                parts.push(format!("{} {what} ({})", names.len(), first_few(names)));
            }
        }
        format!("{}. {}", parts.join(", "), self.remedy(tensors))
    }

    fn remedy(&self, tensors: &BTreeMap<String, Tensor>) -> String {
        if let [(name, file, model)] = self.misshaped.as_slice()
            && self.missing.is_empty()
            && name.starts_with("conv1")
            && file.last() != model.last()
        {
            let side = |shape: &[usize]| shape.last().copied().unwrap_or_default();
            return format!(
                "The file's stem is {0}×{0} and this model's {1}×{1}: choose the other stem (imagenet has 7×7, cifar \
                 3×3), or load all but the stem (LoadOptions::keeping_stem)",
                side(file),
                side(model)
            );
        }
        if let Some(prefix) = self.common_prefix(tensors) {
            return format!("The names stand under {prefix:?}: set LoadOptions::strip_prefix");
        }
        if !self.missing.is_empty() {
            return "Check that the architecture is the file's (resnet50v2 has names of its own; heads are in files of \
                    their own)"
                .into();
        }
        if !self.misshaped.is_empty() {
            return "Check architecture, stem, width and number of classes against the file".into();
        }
        "The file holds more than this model: check the architecture, or set LoadOptions::ignore"
            .into()
    }

    /// The prefix under which the file holds the first missing tensor.
    fn common_prefix(&self, tensors: &BTreeMap<String, Tensor>) -> Option<String> {
        let missing = self.missing.first()?;
        tensors.keys().find_map(|name| {
            let prefix = name.strip_suffix(missing.as_str())?;
            prefix.ends_with('.').then(|| prefix.to_owned())
        })
    }
}

fn first_few(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut text = names
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(", …");
    }
    text
}
