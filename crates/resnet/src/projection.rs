//! Projection heads: features to the space where a contrastive loss compares.
//!
//! The output is *not* normalised: the loss does that. Names are those of `torch.nn.Sequential` under `head`.

use candle_core::{Result as TensorResult, Tensor};
use kernels::Activation::{Identity, Relu};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::initial::LinearInit;
use crate::layers::{Builder, Dialect, Linear, Mode, Norm};
use crate::{Error, Parameters, Result};

/// Which projection head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ProjectionConfig {
    /// One linear layer: `head.weight`, `head.bias`; `head.0.*` and `head.1.*` with the output's norm.
    Linear {
        /// Output dimension.
        dim: usize,
        /// Batch norm of the output, as for the `Mlp`.
        #[serde(default)]
        output_norm: bool,
    },
    /// One linear layer and ReLU, the Keras example's head: `head.0.*`.
    LinearRelu {
        /// Output dimension.
        dim: usize,
    },
    /// Linear, optional batch norm, ReLU, linear, optional batch norm: SimCLR's and SupContrast's head.
    /// `head.0.*`, `head.2.*` without batch norm; `head.0.*`, `head.1.*`, `head.3.*` with it; then the output's norm.
    Mlp {
        /// Width of the hidden layer.
        hidden: usize,
        /// Output dimension.
        dim: usize,
        /// Batch norm after the hidden layer.
        #[serde(default)]
        batch_norm: bool,
        /// Batch norm of the output, as in SimCLR's own code: embeddings cannot all point one way, so that training
        /// does not begin near collapse.
        #[serde(default)]
        output_norm: bool,
    },
}

/// A projection head, `[N, in_dim] → [N, dim]`.
#[derive(Debug)]
pub struct Projection {
    first: Linear,
    norm: Option<Norm>,
    relu: bool,
    second: Option<Linear>,
    output_norm: Option<Norm>,
    dim: usize,
}

impl Projection {
    /// Builds the head with torch's default initial values ([`LinearInit::Torch`]).
    ///
    /// # Errors
    /// If a dimension is 0, or `params` already holds one of the names.
    pub fn new(
        config: &ProjectionConfig,
        in_dim: usize,
        params: &mut Parameters,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        Self::with_init(config, LinearInit::Torch, in_dim, params, rng)
    }

    /// Builds the head with the chosen initial values.
    ///
    /// # Errors
    /// As [`Projection::new`].
    pub fn with_init(
        config: &ProjectionConfig,
        init: LinearInit,
        in_dim: usize,
        params: &mut Parameters,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        let (hidden, dim, batch_norm, output_norm, relu) = match *config {
            ProjectionConfig::Linear { dim, output_norm } => (None, dim, false, output_norm, false),
            ProjectionConfig::LinearRelu { dim } => (None, dim, false, false, true),
            ProjectionConfig::Mlp {
                hidden,
                dim,
                batch_norm,
                output_norm,
            } => (Some(hidden), dim, batch_norm, output_norm, true),
        };
        for (field, value) in [
            ("dim", dim),
            ("hidden", hidden.unwrap_or(1)),
            ("in_dim", in_dim),
        ] {
            if value == 0 {
                return Err(Error::config(
                    field,
                    value,
                    "a projection head needs at least 1",
                ));
            }
        }
        let alone = !relu && !output_norm;
        let name = if alone { "head" } else { "head.0" };
        let first = Linear::new(params, rng, name, (in_dim, hidden.unwrap_or(dim)), init)?;
        let norm = match hidden.filter(|_| batch_norm) {
            Some(hidden) => Some(norm(params, rng, "head.1", hidden)?),
            None => None,
        };
        let second = match hidden {
            Some(hidden) => {
                let name = if batch_norm { "head.3" } else { "head.2" };
                Some(Linear::new(params, rng, name, (hidden, dim), init)?)
            }
            None => None,
        };
        let output_norm = if output_norm {
            let name = match (hidden, batch_norm) {
                (None, _) => "head.1",
                (Some(_), false) => "head.3",
                (Some(_), true) => "head.4",
            };
            Some(self::norm(params, rng, name, dim)?)
        } else {
            None
        };
        Ok(Self {
            first,
            norm,
            relu,
            second,
            output_norm,
            dim,
        })
    }

    /// Length of an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Features `[N, in_dim]` to embeddings `[N, dim]`, not normalised.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        let mut h = self.first.forward(x, mode)?;
        h = match &self.norm {
            Some(norm) => norm.forward(&h, None, Relu, mode)?,
            None if self.relu => kernels::relu(&h)?,
            None => h,
        };
        if let Some(second) = &self.second {
            h = second.forward(&h, mode)?;
        }
        match &self.output_norm {
            Some(norm) => norm.forward(&h, None, Identity, mode),
            None => Ok(h),
        }
    }

    /// Multiply-adds of the forward pass of one image.
    pub fn flops(&self) -> u64 {
        self.first.macs() + self.second.as_ref().map_or(0, Linear::macs)
    }
}

fn norm(
    params: &mut Parameters,
    rng: &mut ChaCha8Rng,
    name: &str,
    channels: usize,
) -> Result<Norm> {
    let dialect = Dialect::Torch;
    Norm::new(
        &mut Builder {
            params,
            rng,
            dialect,
        },
        name,
        channels,
        false,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};
    use rand::SeedableRng;

    #[test]
    fn every_kind_has_its_names_and_shapes() {
        let cases: [(ProjectionConfig, &[&str], usize); 5] = [
            (
                ProjectionConfig::Linear {
                    dim: 4,
                    output_norm: false,
                },
                &["head.bias", "head.weight"],
                6 * 4 + 4,
            ),
            (
                ProjectionConfig::Linear {
                    dim: 4,
                    output_norm: true,
                },
                &[
                    "head.0.bias",
                    "head.0.weight",
                    "head.1.bias",
                    "head.1.weight",
                ],
                28 + 8,
            ),
            (
                ProjectionConfig::LinearRelu { dim: 4 },
                &["head.0.bias", "head.0.weight"],
                28,
            ),
            (
                ProjectionConfig::Mlp {
                    hidden: 5,
                    dim: 4,
                    batch_norm: false,
                    output_norm: false,
                },
                &[
                    "head.0.bias",
                    "head.0.weight",
                    "head.2.bias",
                    "head.2.weight",
                ],
                35 + 24,
            ),
            (
                ProjectionConfig::Mlp {
                    hidden: 5,
                    dim: 4,
                    batch_norm: true,
                    output_norm: true,
                },
                &[
                    "head.0.bias",
                    "head.0.weight",
                    "head.1.bias",
                    "head.1.weight",
                    "head.3.bias",
                    "head.3.weight",
                    "head.4.bias",
                    "head.4.weight",
                ],
                35 + 10 + 24 + 8,
            ),
        ];
        for (config, names, count) in cases {
            let mut params = Parameters::new(&Device::Cpu);
            let mut rng = ChaCha8Rng::seed_from_u64(0);
            let head = Projection::new(&config, 6, &mut params, &mut rng).unwrap();
            assert_eq!(
                params.trainable().map(|(n, ..)| n).collect::<Vec<_>>(),
                names
            );
            assert_eq!(params.count(), count);
            let x = crate::initial::normal(&[3, 6], 1.0, &mut rng).unwrap();
            for mode in [Mode::Train, Mode::Eval, Mode::Rehearse, Mode::Frozen] {
                let y = head.forward(&x, mode).unwrap();
                assert_eq!(y.dims(), [3, 4]);
                let graph = matches!(mode, Mode::Train | Mode::Eval);
                assert_eq!(y.track_op(), graph, "{config:?} {mode:?}");
                let negative = y.min_all().unwrap().to_scalar::<f32>().unwrap() < 0.0;
                assert!(!negative || !matches!(config, ProjectionConfig::LinearRelu { .. }));
            }
        }
    }

    #[test]
    fn a_normed_output_has_mean_0_and_variance_1() {
        let mut params = Parameters::new(&Device::Cpu);
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let config = ProjectionConfig::Linear {
            dim: 4,
            output_norm: true,
        };
        let head = Projection::new(&config, 6, &mut params, &mut rng).unwrap();
        let x = crate::initial::normal(&[50, 6], 3.0, &mut rng).unwrap();
        let y = head.forward(&x, Mode::Train).unwrap();
        let means = y.mean(0).unwrap().to_vec1::<f32>().unwrap();
        let variances = y.var(0).unwrap().to_vec1::<f32>().unwrap(); // over n − 1
        for (mean, variance) in means.into_iter().zip(variances) {
            assert!(mean.abs() < 1e-5, "{mean}");
            assert!((variance * 49.0 / 50.0 - 1.0).abs() < 1e-3, "{variance}");
        }
    }

    #[test]
    fn glorot_starts_biases_at_zero() {
        let mut params = Parameters::new(&Device::Cpu);
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let config = ProjectionConfig::LinearRelu { dim: 30 };
        Projection::with_init(&config, LinearInit::Glorot, 20, &mut params, &mut rng).unwrap();
        let max = |name: &str| -> f32 {
            let v: &Tensor = params.get(name).unwrap();
            v.abs().unwrap().max_all().unwrap().to_scalar().unwrap()
        };
        assert_eq!(max("head.0.bias"), 0.0);
        let bound = (6.0f32 / 50.0).sqrt();
        assert!(max("head.0.weight") <= bound && max("head.0.weight") > 0.9 * bound);
    }

    #[test]
    fn zero_dimensions_are_refused() {
        let mut params = Parameters::new(&Device::Cpu);
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let config = ProjectionConfig::Mlp {
            hidden: 0,
            dim: 4,
            batch_norm: false,
            output_norm: false,
        };
        let error = Projection::new(&config, 6, &mut params, &mut rng).unwrap_err();
        assert!(error.to_string().starts_with("hidden = 0"), "{error}");
    }
}
