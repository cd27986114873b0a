//! Losses of embeddings against one trainable proxy (or several) for each class.

mod anchor;
mod angular;
mod nca;
mod softmax;

use candle_core::{DType, Tensor};

pub use anchor::{ProxyAnchor, proxy_anchor};
pub use angular::{ArcFace, SubCenterArcFace, arcface, subcenter_arcface};
pub use nca::{ProxyNca, proxy_nca};
pub use softmax::{CosFace, NormalizedSoftmax, cosface, normalized_softmax};

use crate::similarity::{embeddings, in_one_type, same_width};
use crate::{Bounds, Error, PerAnchor, Result, labels, logits, normalize};

/// Declares the options of a loss, with their defaults.
macro_rules! options {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty = $value:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        #[cfg_attr(
            feature = "serde",
            derive(serde::Serialize, serde::Deserialize),
            serde(default, deny_unknown_fields)
        )]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $ty,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $value,)* }
            }
        }
    };
}
use options;

/// Normalised embeddings and proxies of one type, and the labels, each below `classes`.
struct Inputs {
    /// `[N, D]`
    z: Tensor,
    /// `[C·K, D]`
    proxies: Tensor,
    labels: Vec<usize>,
    classes: usize,
}

impl Inputs {
    fn read(z: &Tensor, labels: &Tensor, proxies: &Tensor, per_class: usize) -> Result<Self> {
        let (z, proxies) = (
            embeddings(z, "embeddings")?,
            embeddings(proxies, "proxies")?,
        );
        same_width(("embeddings", &z), ("proxies", &proxies))?;
        if per_class == 0 || !proxies.dim(0)?.is_multiple_of(per_class) {
            return Err(Error::Setting {
                option: "sub_centers",
                expected: format!("above 0 and a divisor of the {} proxies", proxies.dim(0)?),
                got: per_class as f64,
            });
        }
        let classes = proxies.dim(0)? / per_class;
        let labels = labels::read(labels, z.dim(0)?)?
            .into_iter()
            .enumerate()
            .map(|(row, got)| match usize::try_from(got) {
                Ok(label) if label < classes => Ok(label),
                _ => Err(Error::Class { got, row, classes }),
            })
            .collect::<Result<_>>()?;
        let (z, proxies) = in_one_type(&z, &proxies)?;
        Ok(Self {
            z: normalize(&z)?,
            proxies: normalize(&proxies)?,
            labels,
            classes,
        })
    }

    /// cos(z_i, w_c): `[N, C·K]`.
    fn cosines(&self) -> Result<Tensor> {
        Ok(self.z.matmul(&self.proxies.t()?)?)
    }

    /// Mask `[N, C]` of each row's own class.
    fn own(&self) -> Result<Tensor> {
        let (rows, classes) = (self.labels.len(), self.classes);
        let mut mask = vec![0u8; rows * classes];
        for (row, label) in self.labels.iter().enumerate() {
            mask[row * classes + label] = 1;
        }
        Ok(Tensor::from_vec(mask, (rows, classes), self.z.device())?)
    }

    /// −ln softmax of the own class: logits `[N, C]` → one value per row.
    fn cross_entropy(&self, x: &Tensor) -> Result<PerAnchor> {
        let all = Tensor::ones(x.shape(), DType::U8, x.device())?;
        let x = logits::centre(x, &all)?;
        let own = crate::terms::masked(&x, &self.own()?)?.sum(1)?; // [N]
        let values = (logits::log_sum_exp(&x, &all)?.squeeze(1)? - own)?;
        let rows = self.labels.len();
        Ok(PerAnchor {
            values,
            defined: vec![true; rows],
            without_positives: 0,
            without_negatives: if self.classes == 1 { rows } else { 0 },
            divisor: rows,
        })
    }
}

/// ln(1 + (C − 1) eˣ) at two gaps between the other classes' logits and the own one's.
fn bounds(classes: usize, collapse: f64, floor: f64) -> Bounds {
    let at = |gap: f64| match classes {
        0 | 1 => 0.0,
        classes => crate::terms::softplus_of(((classes - 1) as f64).ln() + gap),
    };
    Bounds {
        collapse: at(collapse),
        floor: at(floor),
    }
}
