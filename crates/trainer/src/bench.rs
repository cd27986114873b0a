//! Training and feature steps of the benchmark networks: the code that a run executes, on batches that its loader makes ahead.

use crate::feed::{Batch, Feed, ImageFeed};
use crate::model::{Encoder, Head, Supervised};
use crate::recipe::{HeadKind, Model, Recipe};
use crate::step::{Place, Stepper};
use crate::{
    Arm, Error, OptimizerConfig, Precision, Result, ScheduleConfig, StageId, StageKind, Training,
    training_thread,
};
use candle_core::Device;
use cifar_data::{DatasetName, Loader, LoaderConfig, Normalization, Policy, SourceOptions};
use resnet::{Arch, Stem};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A network that is benchmarked by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BenchNetwork {
    /// `r50`: torchvision's ResNet-50, ImageNet stem.
    R50,
    /// `r50-cifar`: ResNet-50 with the CIFAR stem.
    R50Cifar,
    /// `r18-cifar`: ResNet-18 with the CIFAR stem.
    R18Cifar,
}

impl BenchNetwork {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::R50, Self::R50Cifar, Self::R18Cifar];

    /// The name as typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::R50 => "r50",
            Self::R50Cifar => "r50-cifar",
            Self::R18Cifar => "r18-cifar",
        }
    }

    fn model(self, precision: Precision) -> Model {
        let (arch, stem) = match self {
            Self::R50 => (Arch::ResNet50, Stem::ImageNet),
            Self::R50Cifar => (Arch::ResNet50, Stem::Cifar),
            Self::R18Cifar => (Arch::ResNet18, Stem::Cifar),
        };
        Model {
            arch,
            stem,
            precision,
            ..Model::default()
        }
    }
}

impl fmt::Display for BenchNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for BenchNetwork {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|n| n.name() == text)
            .ok_or_else(|| Error::RecipeField {
                field: "network".to_owned(),
                value: text.to_owned(),
                remedy: format!("use one of {}", Self::ALL.map(Self::name).join(", ")),
            })
    }
}

/// Side of the images.
const SIDE: usize = 32;

/// Forward, backward and SGD update of a benchmark network.
pub struct TrainingStep {
    model: Supervised,
    stepper: Stepper,
    feed: ImageFeed,
    batch_size: usize,
    epoch: usize,
    steps: usize,
}

/// A training step of `network` on augmented images of the embedded data set.
pub fn training_step(
    network: BenchNetwork,
    precision: Precision,
    batch_size: usize,
    device: &Device,
) -> Result<TrainingStep> {
    training_step_of(&network.model(precision), batch_size, device)
}

fn training_step_of(model: &Model, batch_size: usize, device: &Device) -> Result<TrainingStep> {
    let encoder = Encoder::new(model, 0, device)?;
    let head = Head::new(
        HeadKind::Linear,
        0.0,
        encoder.net.feature_dim(),
        10,
        model.linear_init(),
        0,
        device,
    )?;
    let model = Supervised {
        encoder,
        head,
        smoothing: 0.0,
    };
    let training = Training {
        optimizer: OptimizerConfig::sgd(0.01, 5e-4),
        schedule: ScheduleConfig::constant(),
        ..Recipe::default().supervised.training()
    };
    let stepper = Stepper::new(&training, &model.groups(), 1)?;
    Ok(TrainingStep {
        model,
        stepper,
        feed: images(batch_size, device)?,
        batch_size,
        epoch: 0,
        steps: 0,
    })
}

impl TrainingStep {
    /// Some steps, each on a new batch; the last one's loss.
    pub fn run(&mut self, steps: usize) -> Result<f32> {
        let Self {
            model,
            stepper,
            feed,
            ..
        } = self;
        training_thread(|| {
            let stage = StageId::new(Arm::Baseline, StageKind::Supervised);
            let mut forward = |batch: &Batch, place: &Place| model.forward(batch, place);
            let (mut loss, mut left) = (f32::NAN, steps);
            while left > 0 {
                for batch in feed.epoch(self.epoch, 0).take(left) {
                    let place = Place {
                        seed: 0,
                        stage,
                        epoch: self.epoch,
                        step: self.steps,
                        part: 0,
                    };
                    let stepped = stepper.step(batch?, place, self.steps, &mut forward)?;
                    loss = stepped.loss as f32;
                    self.steps += 1;
                    left -= 1;
                }
                self.epoch += 1;
            }
            feed.device.synchronize()?;
            Ok(loss)
        })
    }

    /// Images of a step.
    pub fn images(&self) -> usize {
        self.batch_size
    }

    /// Multiply-adds of a step: forward, and twice as many backward.
    pub fn multiply_adds(&self) -> u64 {
        3 * self.batch_size as u64
            * (self.model.encoder.net.flops(SIDE, SIDE) + self.model.head.net.flops())
    }
}

/// Feature extraction by a benchmark network, in evaluation mode and without a graph.
pub struct FeatureStep {
    encoder: Encoder,
    batch: Batch,
}

/// A feature step of `network` on images of the embedded data set.
pub fn feature_step(
    network: BenchNetwork,
    precision: Precision,
    batch_size: usize,
    device: &Device,
) -> Result<FeatureStep> {
    let feed = images(batch_size, device)?;
    let first = feed.epoch(0, 0).next();
    Ok(FeatureStep {
        encoder: Encoder::new(&network.model(precision), 0, device)?,
        batch: first.ok_or_else(|| Error::Unfit {
            message: "a batch needs at least one image".to_owned(),
        })??,
    })
}

impl FeatureStep {
    /// Passes over the batch, by weights that are packed once for all of them, as in a run; the mean of all features.
    pub fn run(&mut self, passes: usize) -> Result<f32> {
        let extractor = self.encoder.net.extractor();
        let mut mean = f32::NAN;
        for _ in 0..passes {
            mean = extractor
                .forward(&self.batch.input)?
                .mean_all()?
                .to_scalar()?;
        }
        Ok(mean)
    }

    /// Images of a pass.
    pub fn images(&self) -> usize {
        self.batch.rows()
    }

    /// Multiply-adds of a pass.
    pub fn multiply_adds(&self) -> u64 {
        self.batch.rows() as u64 * self.encoder.net.flops(SIDE, SIDE)
    }
}

/// Batches of the embedded data set under the `light` policy, made ahead by as many threads as in a run.
fn images(batch_size: usize, device: &Device) -> Result<ImageFeed> {
    let options = SourceOptions {
        dataset: DatasetName::Synthetic,
        ..SourceOptions::default()
    };
    let images = Arc::new(cifar_data::open(&options, &mut ())?.train()?);
    // A batch larger than the set sees images again.
    let indices = (0..images.len().max(batch_size)).map(|i| i % images.len());
    let indices = Arc::new(indices.collect::<Vec<_>>());
    let config = LoaderConfig {
        batch_size,
        policy: Policy::Light,
        normalization: Normalization::fit(&images, &indices)?,
        ..LoaderConfig::default()
    };
    Ok(ImageFeed {
        loader: Loader::new(images, indices, config)?,
        device: device.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_network_learns() {
        let model = Model {
            arch: Arch::ResNet18,
            width: 0.125,
            ..Model::default()
        };
        let mut step = training_step_of(&model, 64, &Device::Cpu).unwrap();
        let first = step.run(1).unwrap();
        let last = step.run(200).unwrap(); // three epochs
        assert!(last < first - 0.2, "{first} {last}");
        assert_eq!(step.images(), 64);
        assert!(step.multiply_adds() > 0);
        assert!(
            "r51"
                .parse::<BenchNetwork>()
                .unwrap_err()
                .to_string()
                .contains("r18-cifar")
        );
    }
}
