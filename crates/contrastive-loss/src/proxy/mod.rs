//! Losses of embeddings against one trainable proxy (or several) for each class.

mod anchor;
mod nca;
mod softmax;

use candle_core::{DType, Tensor};

pub use anchor::{ProxyAnchor, proxy_anchor};
pub use nca::{ProxyNca, proxy_nca};
pub use softmax::{
    ArcFace, CosFace, NormalizedSoftmax, SubCenterArcFace, arcface, cosface, normalized_softmax,
    subcenter_arcface,
};

use crate::similarity::embeddings;
use crate::{Error, PerAnchor, Result, labels, logits, normalize};

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
        if z.dim(1)? != proxies.dim(1)? {
            return Err(Error::Mismatch {
                left: "embeddings",
                left_shape: z.dims().to_vec(),
                right: "proxies",
                right_shape: proxies.dims().to_vec(),
                need: "both need the same number of columns",
            });
        }
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
        let wide = z.dtype() == DType::F64 || proxies.dtype() == DType::F64;
        let dtype = if wide { DType::F64 } else { DType::F32 };
        Ok(Self {
            z: normalize(&z.to_dtype(dtype)?)?,
            proxies: normalize(&proxies.to_dtype(dtype)?)?,
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
