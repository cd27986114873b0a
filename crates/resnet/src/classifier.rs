//! Classifier heads: features to logits.
//!
//! Names are those of torchvision's `fc`, or of a `torch.nn.Sequential` in its place.

use candle_core::{Result as TensorResult, Tensor};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::initial::LinearInit;
use crate::layers::{Linear, Mode};
use crate::{Error, Parameters, Result};

/// Which classifier head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClassifierConfig {
    /// One linear layer, the linear probe: `fc.weight`, `fc.bias`.
    Linear {
        /// Number of classes.
        classes: usize,
    },
    /// Dropout, linear with ReLU, dropout, linear: the Keras example's head. `fc.1.*`, `fc.4.*`.
    Mlp512 {
        /// Width of the hidden layer.
        #[serde(default = "default_hidden")]
        hidden: usize,
        /// Probability that dropout zeroes a value.
        #[serde(default = "default_dropout")]
        dropout: f64,
        /// Number of classes.
        classes: usize,
    },
}

fn default_hidden() -> usize {
    512
}

fn default_dropout() -> f64 {
    0.5
}

impl ClassifierConfig {
    /// The Keras example's head: 512 hidden units, dropout 0.5.
    pub fn mlp512(classes: usize) -> Self {
        Self::Mlp512 {
            hidden: default_hidden(),
            dropout: default_dropout(),
            classes,
        }
    }
}

/// A classifier head, `[N, in_dim] → [N, classes]` logits.
#[derive(Debug)]
pub struct Classifier {
    hidden: Option<Linear>,
    last: Linear,
    dropout: f64,
    classes: usize,
}

impl Classifier {
    /// Builds the head with torch's default initial values ([`LinearInit::Torch`]).
    ///
    /// # Errors
    /// If a dimension is 0 or the dropout is outside [0, 1), or `params` already holds one of the names.
    pub fn new(
        config: &ClassifierConfig,
        in_dim: usize,
        params: &mut Parameters,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        Self::with_init(config, LinearInit::Torch, in_dim, params, rng)
    }

    /// Builds the head with the chosen initial values.
    ///
    /// # Errors
    /// As [`Classifier::new`].
    pub fn with_init(
        config: &ClassifierConfig,
        init: LinearInit,
        in_dim: usize,
        params: &mut Parameters,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        let (hidden, dropout, classes) = match *config {
            ClassifierConfig::Linear { classes } => (None, 0.0, classes),
            ClassifierConfig::Mlp512 {
                hidden,
                dropout,
                classes,
            } => (Some(hidden), dropout, classes),
        };
        for (field, value) in [
            ("classes", classes),
            ("hidden", hidden.unwrap_or(1)),
            ("in_dim", in_dim),
        ] {
            if value == 0 {
                return Err(Error::config(
                    field,
                    value,
                    "a classifier head needs at least 1",
                ));
            }
        }
        if !(0.0..1.0).contains(&dropout) {
            return Err(Error::config(
                "dropout",
                dropout,
                "expected a probability in [0, 1)",
            ));
        }
        let (hidden, last) = match hidden {
            None => (
                None,
                Linear::new(params, rng, "fc", (in_dim, classes), init)?,
            ),
            Some(width) => (
                Some(Linear::new(params, rng, "fc.1", (in_dim, width), init)?),
                Linear::new(params, rng, "fc.4", (width, classes), init)?,
            ),
        };
        Ok(Self {
            hidden,
            last,
            dropout,
            classes,
        })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Features `[N, in_dim]` to logits `[N, classes]`. `rng` feeds dropout, in [`Mode::Train`] and [`Mode::Rehearse`] only.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(&self, x: &Tensor, mode: Mode, rng: &mut ChaCha8Rng) -> TensorResult<Tensor> {
        let Some(hidden) = &self.hidden else {
            return self.last.forward(x, mode);
        };
        let mut drop = |x: Tensor| match mode {
            Mode::Train | Mode::Rehearse if self.dropout > 0.0 => {
                kernels::dropout(&x, self.dropout, rng)
            }
            _ => Ok(x),
        };
        let h = hidden.forward(&drop(x.clone())?, mode)?;
        self.last.forward(&drop(kernels::relu(&h)?)?, mode)
    }

    /// Multiply-adds of the forward pass of one image.
    pub fn flops(&self) -> u64 {
        self.last.macs() + self.hidden.as_ref().map_or(0, Linear::macs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use rand::SeedableRng;

    fn head(config: &ClassifierConfig) -> (Classifier, Parameters, ChaCha8Rng) {
        let mut params = Parameters::new(&Device::Cpu);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        (
            Classifier::new(config, 6, &mut params, &mut rng).unwrap(),
            params,
            rng,
        )
    }

    #[test]
    fn names_counts_and_flops() {
        let (linear, params, _) = head(&ClassifierConfig::Linear { classes: 10 });
        assert_eq!(
            params.trainable().map(|(n, ..)| n).collect::<Vec<_>>(),
            ["fc.bias", "fc.weight"]
        );
        assert_eq!(
            (params.count(), linear.flops(), linear.classes()),
            (70, 60, 10)
        );
        let (mlp, params, _) = head(&ClassifierConfig::mlp512(10));
        let names: Vec<_> = params.trainable().map(|(n, ..)| n).collect();
        assert_eq!(
            names,
            ["fc.1.bias", "fc.1.weight", "fc.4.bias", "fc.4.weight"]
        );
        assert_eq!(params.count(), 6 * 512 + 512 + 512 * 10 + 10);
        assert_eq!(mlp.flops(), 6 * 512 + 5120);
    }

    #[test]
    fn dropout_acts_in_training_only_and_from_the_given_generator() {
        let (mlp, _, mut rng) = head(&ClassifierConfig::mlp512(10));
        let x = crate::initial::normal(&[3, 6], 1.0, &mut rng).unwrap();
        let run = |mode, seed| {
            let y = mlp
                .forward(&x, mode, &mut ChaCha8Rng::seed_from_u64(seed))
                .unwrap();
            y.to_vec2::<f32>().unwrap()
        };
        assert_eq!(run(Mode::Eval, 1), run(Mode::Frozen, 2));
        assert_eq!(run(Mode::Train, 1), run(Mode::Train, 1));
        assert_ne!(run(Mode::Train, 1), run(Mode::Train, 2));
        assert_ne!(run(Mode::Train, 1), run(Mode::Eval, 1));
    }

    #[test]
    fn out_of_range_is_refused_by_name() {
        let mut params = Parameters::new(&Device::Cpu);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let config = ClassifierConfig::Mlp512 {
            hidden: 4,
            dropout: 1.0,
            classes: 3,
        };
        let error = Classifier::new(&config, 6, &mut params, &mut rng).unwrap_err();
        assert!(error.to_string().starts_with("dropout = 1"), "{error}");
        let config = ClassifierConfig::Linear { classes: 0 };
        let error = Classifier::new(&config, 6, &mut params, &mut rng).unwrap_err();
        assert!(error.to_string().starts_with("classes = 0"), "{error}");
    }
}
