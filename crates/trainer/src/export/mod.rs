//! A finished arm as a folder that others can load and publish: weights, ONNX, configuration and a model card.
//!
//! | file | what |
//! |---|---|
//! | `model.safetensors` | encoder and headline head under torchvision's names (`conv1.weight`, `layer1.0.conv1.weight`, …, `fc.weight`) |
//! | `model.onnx` | the encoder: `images` `[batch, 3, H, W]` → `features` `[batch, D]`; with the head also `logits` `[batch, classes]` |
//! | `config.json` | architecture, classes and preprocessing, in timm's terms |
//! | `README.md` | a model card made from the run's results, with the metadata that the Hugging Face Hub reads |

mod card;
mod config;

use crate::recipe::HeadKind;
use crate::trained::TrainedArm;
use crate::{Arm, Error, Result, files, plan};
use eval::ArmResult;
use resnet::{Arch, OnnxOptions, Stem};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const ONNX: &str = "model.onnx";
pub(crate) const CONFIGURATION: &str = "config.json";
pub(crate) const CARD: &str = "README.md";

/// What an export is told.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// The ONNX model has the head too.
    pub with_head: bool,
    /// The licence of the weights, by the Hub's identifier (`mit`, `apache-2.0`, `cc-by-4.0`, …); left open if there is none.
    pub license: Option<String>,
}

impl TrainedArm {
    /// Writes the four files into `folder`, which is made if it is not there, and tells where they are.
    ///
    /// # Errors
    /// If the folder holds anything else than a former export, a file of the run is damaged, or one cannot be written.
    pub fn export(&self, folder: &Path, options: &ExportOptions) -> Result<Vec<PathBuf>> {
        if let Some(found) = stranger(folder)? {
            return Err(Error::Unfit {
                message: format!(
                    "{} already holds {found}; name an empty folder or one that an export made",
                    folder.display()
                ),
            });
        }
        let mut results = BTreeMap::new();
        for arm in Arm::ALL {
            let path = self.folder.result(arm);
            if path.is_file() {
                results.insert(arm, files::read_json::<ArmResult>(&path)?);
            }
        }
        let card = card::card(self, &results, options)?;
        fs_err::create_dir_all(folder)?;
        let mut tensors = self.encoder.parameters.to_tensors()?;
        tensors.extend(self.head.parameters.to_tensors()?);
        // What tells transformers and timm that layouts are PyTorch's.
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        resnet::write_safetensors(&folder.join(WEIGHTS), &tensors, &metadata)?;
        files::write(&folder.join(ONNX), &self.onnx(options.with_head)?)?;
        files::write_json(&folder.join(CONFIGURATION), &config::config(self))?;
        files::write(&folder.join(CARD), card.as_bytes())?;
        let names = [WEIGHTS, ONNX, CONFIGURATION, CARD];
        Ok(names.map(|name| folder.join(name)).to_vec())
    }

    fn onnx(&self, with_head: bool) -> Result<Vec<u8>> {
        let data = self.dataset();
        let normalization = self.record.normalization;
        let list = |values: [f32; 3]| values.map(|v| v.to_string()).join(",");
        let metadata = [
            ("classes", data.classes.join(",")),
            ("data", data.name.clone()),
            ("mean", list(normalization.mean)),
            ("std", list(normalization.std)),
        ];
        let options = OnnxOptions {
            size: (data.height, data.width),
            head: with_head.then_some(&self.head.parameters),
            metadata: metadata
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        };
        let config = self.encoder.net.config();
        Ok(resnet::to_onnx(config, &self.encoder.parameters, &options)?)
    }

    /// Whether timm and torchvision build this very network under its name.
    fn is_standard(&self) -> bool {
        let config = self.encoder.net.config();
        config.arch != Arch::ResNet50V2
            && config.stem == Stem::ImageNet
            && config.width == 1.0
            && config.upsample.is_none()
    }

    /// Which head the figures are of.
    fn head_kind(&self) -> HeadKind {
        let heads = plan::heads(&self.recipe, self.arm);
        heads.first().copied().unwrap_or(HeadKind::Linear)
    }
}

/// Something in the folder that no export made. A clone of a repository may be exported into.
fn stranger(folder: &Path) -> Result<Option<String>> {
    if folder.is_file() {
        return Ok(Some("a file of this name".to_owned()));
    }
    if !folder.exists() {
        return Ok(None);
    }
    let mut names = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let exported = names.iter().any(|name| name == WEIGHTS);
    let ours = |name: &String| match name.as_str() {
        WEIGHTS | ONNX | CONFIGURATION | ".git" | ".gitattributes" => true,
        // A README alone is somebody's; beside weights it is a former card.
        CARD => exported,
        _ => false,
    };
    Ok(names.into_iter().find(|name| !ours(name)))
}
