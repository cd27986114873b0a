//! This project's side of a comparison, as a process of its own: the lines of `assets/bench/torch_peer.py`, answered here.
//!
//! The first line says what; then every `{"steps": n}` is measured, and `{"memory": true}` asks for the peak so far.

use std::{io::BufRead, sync::Arc, time::Instant};

use anyhow::{Context, Result, anyhow};
use candle_core::Device;
use cifar_data::{DatasetName, Loader, LoaderConfig, Normalization, Policy, SourceOptions};
use serde::{Deserialize, Serialize};
use serde_json::json;
use trainer::{BenchNetwork, FeatureStep, TrainingStep};

use super::contender::{forget_peak, hold_to, memory};
use crate::{cli::PrecisionChoice, text::out};

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Forward, backward, SGD update.
    Train,
    /// Features in evaluation mode.
    Features,
    /// Augmented views from a loader of one thread.
    Data,
    /// Multiply-adds in registers alone.
    Fma,
}

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub task: Task,
    /// A name of [`BenchNetwork`].
    pub network: String,
    pub batch: usize,
    pub precision: PrecisionChoice,
    pub threads: usize,
}

/// The answer to the first line.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Ready {
    pub threads: usize,
    /// PyTorch's side only.
    #[serde(default)]
    pub torch: Option<String>,
    /// PyTorch's side only.
    #[serde(default)]
    pub torchvision: Option<String>,
    /// Instructions in use.
    #[serde(default)]
    pub capability: Option<String>,
}

/// The following lines.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// Measure so many steps.
    Steps(usize),
    /// Tell the peak.
    Memory(bool),
}

/// What measured steps took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Timed {
    pub seconds: f64,
    /// The last step's loss, or the mean of what it computed; null where that is no number.
    pub loss: Option<f64>,
}

/// The most memory held, above what was held before there was a network.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Peak {
    pub peak_bytes: Option<u64>,
}

/// Answers until the end of input.
pub fn run() -> Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let first = lines.next().context("the worker was asked nothing")??;
    let request: Request = serde_json::from_str(&first)?;
    if !matches!(request.task, Task::Data) {
        hold_to(request.threads);
    }
    forget_peak();
    let before = memory("VmRSS:");
    let mut work = Work::new(&request)?;
    work.steps(1)?;
    let features = kernels::cpu_features();
    out(
        json!({ "ready": true, "threads": features.threads, "capability": features.to_string() })
            .to_string(),
    )?;
    for line in lines {
        let answer = match serde_json::from_str(&line?)? {
            Question::Steps(steps) => {
                let begun = Instant::now();
                let loss = work.steps(steps)?;
                let seconds = begun.elapsed().as_secs_f64();
                json!(Timed {
                    seconds,
                    loss: Some(loss)
                })
            }
            Question::Memory(_) => {
                let peak = memory("VmHWM:").zip(before);
                json!(Peak {
                    peak_bytes: peak.map(|(peak, before)| peak.saturating_sub(before)),
                })
            }
        };
        out(answer.to_string())?;
    }
    Ok(())
}

enum Work {
    Train(Box<TrainingStep>),
    Features(Box<FeatureStep>),
    Data { loader: Loader, epoch: usize },
    Fma,
}

impl Work {
    fn new(request: &Request) -> Result<Self> {
        let network = || -> Result<BenchNetwork> { Ok(request.network.parse()?) };
        let (precision, batch) = (request.precision.into(), request.batch);
        Ok(match request.task {
            Task::Train => Self::Train(Box::new(trainer::training_step(
                network()?,
                precision,
                batch,
                &Device::Cpu,
            )?)),
            Task::Features => Self::Features(Box::new(trainer::feature_step(
                network()?,
                precision,
                batch,
                &Device::Cpu,
            )?)),
            Task::Data => Self::Data {
                loader: loader(batch)?,
                epoch: 0,
            },
            Task::Fma => Self::Fma,
        })
    }

    /// Runs them; a number that depends on the last one's result.
    fn steps(&mut self, count: usize) -> Result<f64> {
        let mut last = 0.0;
        match self {
            Self::Train(step) => last = f64::from(step.run(count)?),
            Self::Features(step) => last = f64::from(step.run(count)?),
            Self::Data { loader, epoch } => {
                let mut left = count;
                while left > 0 {
                    // Each epoch begins with nothing made ahead.
                    for batch in loader.epoch(*epoch, 0).take(left) {
                        last = f64::from(*batch?.pixels.last().context("an empty batch")?);
                        left -= 1;
                    }
                    *epoch += 1;
                }
            }
            Self::Fma => {
                for _ in 0..count {
                    last = f64::from(kernels::bench::fma_pass());
                }
            }
        }
        Ok(last)
    }
}

/// Batches of `views` views under the `supcon` policy, two views of each image, made by one thread.
fn loader(views: usize) -> Result<Loader> {
    let options = SourceOptions {
        dataset: DatasetName::Synthetic,
        ..SourceOptions::default()
    };
    let images = Arc::new(cifar_data::open(&options, &mut ())?.train()?);
    let indices = Arc::new((0..images.len()).collect::<Vec<_>>());
    let normalization = Normalization::fit(&images, &indices)?;
    let config = LoaderConfig {
        batch_size: views / 2,
        views: 2,
        policy: Policy::SupCon,
        normalization,
        threads: 1,
        ..LoaderConfig::default()
    };
    Loader::new(images, indices, config).map_err(|error| anyhow!(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_those_of_the_python_side() {
        let request = Request {
            task: Task::Train,
            network: "r50".into(),
            batch: 128,
            precision: PrecisionChoice::Bf16,
            threads: 2,
        };
        assert_eq!(
            serde_json::to_value(&request).unwrap(),
            json!({"network": "r50", "batch": 128, "precision": "bf16", "task": "train", "threads": 2})
        );
        let steps = serde_json::to_string(&Question::Steps(3)).unwrap();
        assert_eq!(steps, r#"{"steps":3}"#);
        let peak = serde_json::to_string(&Question::Memory(true)).unwrap();
        assert_eq!(peak, r#"{"memory":true}"#);
        let nan = serde_json::to_value(Timed {
            seconds: 1.0,
            loss: Some(f64::NAN),
        });
        assert_eq!(nan.unwrap(), json!({"seconds": 1.0, "loss": null}));
    }

    #[test]
    fn views_come_from_the_loader_without_end() {
        let mut work = Work::Data {
            loader: loader(2048).unwrap(),
            epoch: 0,
        };
        // Four thousand images make three batches of 1,024.
        assert!(work.steps(4).unwrap().is_finite());
        let Work::Data { epoch, .. } = work else {
            unreachable!()
        };
        assert_eq!(epoch, 2);
    }
}
