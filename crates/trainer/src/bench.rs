//! Training and feature steps of the benchmark networks: the code that a run executes, on a batch of one's choice.

use crate::feed::Batch;
use crate::model::{Encoder, Head, Supervised};
use crate::recipe::{HeadKind, Model, Recipe};
use crate::step::{Place, Stepper};
use crate::{
    Arm, Error, OptimizerConfig, Precision, Result, ScheduleConfig, StageId, StageKind, Training,
    training_thread,
};
use candle_core::Device;
use cifar_data::stream;
use rand_chacha::rand_core::RngCore;
use resnet::{Arch, Stem};
use std::fmt;
use std::str::FromStr;

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

/// Forward, backward and SGD update of a benchmark network.
pub struct TrainingStep {
    model: Supervised,
    stepper: Stepper,
    batch: Batch,
    steps: usize,
}

/// A training step of `network` on a batch of random pixels.
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
        batch: random_batch(batch_size, device)?,
        steps: 0,
    })
}

impl TrainingStep {
    /// Takes the following steps on this batch of real images.
    pub fn set_batch(&mut self, batch: cifar_data::Batch) -> Result<()> {
        self.batch = Batch::new(batch, self.model.encoder.parameters.device())?;
        Ok(())
    }

    /// One step; the batch's loss.
    pub fn run(&mut self) -> Result<f32> {
        training_thread(|| {
            let stage = StageId::new(Arm::Baseline, StageKind::Supervised);
            let place = Place {
                seed: 0,
                stage,
                epoch: 0,
                step: self.steps,
                part: 0,
            };
            let model = &self.model;
            let mut forward = |batch: &Batch, place: &Place| model.forward(batch, place);
            let stepped = self
                .stepper
                .step(self.batch.clone(), place, self.steps, &mut forward)?;
            self.model.encoder.parameters.device().synchronize()?;
            self.steps += 1;
            Ok(stepped.loss as f32)
        })
    }

    /// Images of a step.
    pub fn images(&self) -> usize {
        self.batch.rows()
    }

    /// Multiply-adds of a step: forward, and twice as many backward.
    pub fn multiply_adds(&self) -> u64 {
        let (height, width) = size(&self.batch);
        3 * self.batch.rows() as u64
            * (self.model.encoder.net.flops(height, width) + self.model.head.net.flops())
    }
}

/// Feature extraction by a benchmark network, in evaluation mode and without a graph.
pub struct FeatureStep {
    encoder: Encoder,
    batch: Batch,
}

/// A feature step of `network` on a batch of random pixels.
pub fn feature_step(
    network: BenchNetwork,
    precision: Precision,
    batch_size: usize,
    device: &Device,
) -> Result<FeatureStep> {
    Ok(FeatureStep {
        encoder: Encoder::new(&network.model(precision), 0, device)?,
        batch: random_batch(batch_size, device)?,
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
        let (height, width) = size(&self.batch);
        self.batch.rows() as u64 * self.encoder.net.flops(height, width)
    }
}

fn size(batch: &Batch) -> (usize, usize) {
    match *batch.input.dims() {
        [_, height, width, _] => (height, width),
        _ => (0, 0),
    }
}

/// 32×32 images of even noise with unit variance.
fn random_batch(images: usize, device: &Device) -> Result<Batch> {
    let mut rng = stream(0, "bench", &[]);
    let pixels = (0..images * 32 * 32 * 3)
        .map(|_| (rng.next_u32() as f32 / u32::MAX as f32 - 0.5) * 3.4641)
        .collect();
    let labels = (0..images as u32).map(|i| i % 10).collect();
    let indices = (0..images as u32).collect();
    Batch::new(
        cifar_data::Batch {
            pixels,
            labels,
            indices,
            views: 1,
            height: 32,
            width: 32,
        },
        device,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_network_learns_its_batch() {
        let model = Model {
            arch: Arch::ResNet18,
            width: 0.125,
            ..Model::default()
        };
        let mut step = training_step_of(&model, 16, &Device::Cpu).unwrap();
        let first = step.run().unwrap();
        for _ in 0..8 {
            step.run().unwrap();
        }
        assert!(step.run().unwrap() < first);
        assert_eq!(step.images(), 16);
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
