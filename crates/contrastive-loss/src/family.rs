//! The families of losses that [`Loss`](crate::Loss) holds beside npairs and SupCon, each as one value.

use candle_core::{Device, Tensor};

use crate::{
    ArcFace, BarlowTwins, Bounds, Circle, CosFace, GeneralizedLifted, InfoNce, LiftedStructure,
    MaxMargin, MultiSimilarity, Nca, NormalizedSoftmax, PairLoss, PairSet, PerAnchor, ProxyAnchor,
    ProxyNca, Result, Sigmoid, SubCenterArcFace, Triplet, VicReg, arcface, barlow_twins, cosface,
    info_nce, normalize, normalized_softmax, proxy_anchor, proxy_nca, sigmoid, subcenter_arcface,
    tiled, vicreg,
};

/// What a loss sees of the task beside a batch's labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Width of an embedding.
    pub dim: usize,
    /// How many classes there are.
    pub classes: usize,
}

/// A trainable parameter that a loss needs.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// Its name: `proxies`, `log_scale`, `bias`.
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values before training.
    pub start: Start,
}

/// Values before training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// Independent normal numbers of this standard deviation.
    Normal(f64),
    /// One number.
    Constant(f64),
}

/// Declares a family: an enum of losses with names and checks.
macro_rules! family {
    ($(#[$doc:meta])* $family:ident { $($loss:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $family {
            $(#[doc = concat!("[`", stringify!($loss), "`](crate::", stringify!($loss), "), `", $name, "`.")] $loss($loss),)*
        }

        impl $family {
            /// The names of its losses.
            pub(crate) const NAMES: &'static [&'static str] = &[$($name),*];

            /// The name in recipes.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$loss(_) => $name,)* }
            }

            /// The loss of that name with its source's options.
            pub(crate) fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$loss($loss::default())),)*
                    _ => None,
                }
            }

            /// Checks the options.
            pub(crate) fn check(&self) -> Result<()> {
                match self { $(Self::$loss(loss) => loss.check(),)* }
            }
        }

        $(impl From<$loss> for crate::Loss {
            fn from(loss: $loss) -> Self {
                Self::$family($family::$loss(loss))
            }
        })*
    };
}

family! {
    /// A loss over pairs of one batch, by label.
    Pairwise {
        MaxMargin = "max_margin",
        Triplet = "triplet",
        LiftedStructure = "lifted_structure",
        GeneralizedLifted = "generalized_lifted",
        MultiSimilarity = "multi_similarity",
        Circle = "circle",
        Nca = "nca",
    }
}

family! {
    /// A loss over exactly two views of the same samples; labels are not used.
    TwoViews {
        InfoNce = "info_nce",
        Sigmoid = "sigmoid",
        BarlowTwins = "barlow_twins",
        VicReg = "vicreg",
    }
}

family! {
    /// A loss against trainable proxies, by label.
    Proxied {
        ProxyNca = "proxy_nca",
        ProxyAnchor = "proxy_anchor",
        NormalizedSoftmax = "normalized_softmax",
        CosFace = "cosface",
        ArcFace = "arcface",
        SubCenterArcFace = "subcenter_arcface",
    }
}

impl Pairwise {
    /// The loss itself, over any set of pairs.
    pub fn as_loss(&self) -> &dyn PairLoss {
        match self {
            Self::MaxMargin(loss) => loss,
            Self::Triplet(loss) => loss,
            Self::LiftedStructure(loss) => loss,
            Self::GeneralizedLifted(loss) => loss,
            Self::MultiSimilarity(loss) => loss,
            Self::Circle(loss) => loss,
            Self::Nca(loss) => loss,
        }
    }

    /// z `[N, D]`, not normalised, and a label for every row.
    pub(crate) fn forward(&self, z: &Tensor, labels: &[i64]) -> Result<PerAnchor> {
        let pairs = PairSet::of(labels, labels, Some);
        self.as_loss().forward_mined(&normalize(z)?, &pairs)
    }

    pub(crate) fn bounds(&self, labels: &[i64]) -> Bounds {
        self.as_loss().bounds(&PairSet::of(labels, labels, Some))
    }
}

impl TwoViews {
    pub(crate) fn parameters(&self) -> Vec<ParameterSpec> {
        let Self::Sigmoid(loss) = self else {
            return Vec::new();
        };
        [("log_scale", loss.log_scale), ("bias", loss.bias)]
            .map(|(name, start)| ParameterSpec {
                name,
                shape: vec![1],
                start: Start::Constant(start),
            })
            .into()
    }

    /// Both views, not normalised; on tiles, where there are any. Without parameters, those of the sigmoid are constants.
    pub(crate) fn forward(
        &self,
        a: &Tensor,
        b: &Tensor,
        parameters: &[Tensor],
        tiled: bool,
    ) -> Result<PerAnchor> {
        match self {
            Self::InfoNce(loss) => {
                let (a, b) = (normalize(a)?, normalize(b)?);
                match tiled {
                    true => tiled::info_nce(&a, &b, None, loss),
                    false => info_nce(&a, &b, None, loss),
                }
            }
            Self::Sigmoid(loss) => {
                let (a, b) = (normalize(a)?, normalize(b)?);
                let [log_scale, bias] = loss.scalars(&a, parameters)?;
                match tiled {
                    true => tiled::sigmoid(&a, &b, &log_scale, &bias),
                    false => sigmoid(&a, &b, &log_scale, &bias),
                }
            }
            Self::BarlowTwins(loss) => barlow_twins(a, b, loss),
            Self::VicReg(loss) => vicreg(a, b, loss),
        }
    }

    pub(crate) fn bounds(
        &self,
        samples: usize,
        dim: usize,
        parameters: &[Tensor],
    ) -> Result<Bounds> {
        Ok(match self {
            Self::InfoNce(loss) => loss.bounds(samples, 0),
            Self::Sigmoid(loss) => {
                let mut now = loss.clone();
                if let [log_scale, bias] = parameters {
                    (now.log_scale, now.bias) = (number(log_scale)?, number(bias)?);
                }
                now.bounds(samples)
            }
            Self::BarlowTwins(loss) => loss.bounds(dim),
            Self::VicReg(loss) => loss.bounds(),
        })
    }
}

/// A scalar parameter's value.
fn number(parameter: &Tensor) -> Result<f64> {
    let parameter = parameter.to_device(&Device::Cpu)?;
    let values: Vec<f64> = parameter
        .flatten_all()?
        .to_dtype(candle_core::DType::F64)?
        .to_vec1()?;
    Ok(values.first().copied().unwrap_or_default())
}

impl Proxied {
    /// Proxies `[C·K, D]`, about 1 long: only their directions matter, and their length sets how fast these turn.
    pub(crate) fn parameters(&self, task: Task) -> Vec<ParameterSpec> {
        let per_class = match self {
            Self::SubCenterArcFace(loss) => loss.sub_centers,
            _ => 1,
        };
        vec![ParameterSpec {
            name: "proxies",
            shape: vec![task.classes * per_class, task.dim],
            start: Start::Normal(1.0 / (task.dim.max(1) as f64).sqrt()),
        }]
    }

    /// z `[N, D]` and a label for every row.
    pub(crate) fn forward(
        &self,
        z: &Tensor,
        labels: &Tensor,
        proxies: &Tensor,
    ) -> Result<PerAnchor> {
        match self {
            Self::ProxyNca(loss) => proxy_nca(z, labels, proxies, loss),
            Self::ProxyAnchor(loss) => proxy_anchor(z, labels, proxies, loss),
            Self::NormalizedSoftmax(loss) => normalized_softmax(z, labels, proxies, loss),
            Self::CosFace(loss) => cosface(z, labels, proxies, loss),
            Self::ArcFace(loss) => arcface(z, labels, proxies, loss),
            Self::SubCenterArcFace(loss) => subcenter_arcface(z, labels, proxies, loss),
        }
    }

    pub(crate) fn bounds(&self, labels: &[u32], classes: usize) -> Bounds {
        match self {
            Self::ProxyNca(loss) => loss.bounds(classes),
            Self::ProxyAnchor(loss) => loss.bounds(labels, classes),
            Self::NormalizedSoftmax(loss) => loss.bounds(classes),
            Self::CosFace(loss) => loss.bounds(classes),
            Self::ArcFace(loss) => loss.bounds(classes),
            Self::SubCenterArcFace(loss) => loss.bounds(classes),
        }
    }
}
