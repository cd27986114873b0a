#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod block;
mod classifier;
mod config;
mod error;
mod hub;
mod init;
mod initial;
mod layers;
mod onnx;
mod parameters;
mod projection;
mod resnet;
mod weight_file;
mod weights;

pub use classifier::{Classifier, ClassifierConfig};
pub use config::{Arch, ResNetConfig, Stem};
pub use error::{Error, Result};
pub use hub::{HubConfig, sha256};
pub use init::Init;
pub use initial::{LinearInit, normal};
pub use layers::Mode;
pub use onnx::{OnnxOptions, to_onnx};
pub use parameters::{Parameters, Role};
pub use projection::{Projection, ProjectionConfig};
pub use resnet::{Extractor, ResNet};
pub use weight_file::{WeightFile, read_safetensors, write_safetensors};
pub use weights::{LoadOptions, LoadReport};
