#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod augment;
mod classes;
mod corrupt;
mod dataset;
mod error;
mod images;
mod loader;
mod normalization;
mod photograph;
mod progress;
mod random;
mod sampler;
mod source;
mod split;

pub use augment::{
    Augmentation, Augmenter, ColorJitter, Flip, Pad, PadCrop, Policy, RandomResizedCrop, Sample,
    Scaling, Workspace,
};
pub use classes::{CIFAR10_CLASSES, CIFAR100_CLASSES};
pub use corrupt::{Corruption, CorruptionFamily, corrupt};
pub use dataset::{Dataset, DatasetInfo, DatasetName};
pub use error::{Error, Result};
pub use images::Images;
pub use loader::{Batch, EpochIter, Loader, LoaderConfig};
pub use normalization::Normalization;
pub use photograph::{Photograph, find_photographs, read_each_photograph, read_photographs};
pub use progress::{Progress, ProgressEvent};
pub use random::stream;
pub use sampler::Sampler;
pub use source::{Archive, Hub, HubFile, HubPin, SourceOptions, SyntheticOptions, open};
pub use split::{Split, validation_split};
