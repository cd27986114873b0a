//! NT-Xent, the loss of SimCLR, Chen et al. 2020 (arXiv 2002.05709), equation 1.

use candle_core::Tensor;

use crate::pairs::Pairs;
use crate::similarity::embeddings;
use crate::supcon::supcon_over;
use crate::{Error, PerAnchor, Result, SupConConfig};

/// Options of [`nt_xent`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct NtXentConfig {
    /// τ; 0.5 for CIFAR-10 in the paper.
    pub temperature: f64,
}

impl Default for NtXentConfig {
    fn default() -> Self {
        Self { temperature: 0.5 }
    }
}

/// NT-Xent over embeddings as they are: z `[V·B, D]`, view-major (all of view 0, then view 1, …;
/// [`normalize`](crate::normalize) first for cosines) → one value per row.
///
/// L_i = LSE_{S_i}(s_i) − s_ip, where S_i is all rows but i and p the other view of the same sample (with more than two
/// views, the mean over the others): [`supcon`](crate::supcon)'s L_out with the sample's number as its label. Every row has
/// a positive, so that no policy is needed.
///
/// Over normalised rows: collapse value ln(V·B − 1); floor ln(V − 1 + V (B − 1) e^{c/τ}), c = −1 − 1/(B − 1).
///
/// # Errors
/// If `z` is not a non-empty `[V·B, D]` float tensor, there are fewer than two views, or τ is not a positive finite number.
///
/// Source: Chen et al. 2020 (arXiv 2002.05709), equation 1, averaged over all rows.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{NtXentConfig, normalize, nt_xent};
/// // Three samples, two views that coincide.
/// let z = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], &Device::Cpu)?;
/// let loss = nt_xent(&normalize(&z)?, 2, &NtXentConfig { temperature: 0.05 })?.mean()?;
/// assert!(loss.to_scalar::<f32>()? < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn nt_xent(z: &Tensor, views: usize, config: &NtXentConfig) -> Result<PerAnchor> {
    let z = embeddings(z, "embeddings")?;
    let rows = z.dim(0)?;
    check_views(rows, views)?;
    supcon_over(&z, &Pairs::from_views(rows, views), &config.as_supcon())
}

/// Whether `rows` rows can be at least two views.
pub(crate) fn check_views(rows: usize, views: usize) -> Result<()> {
    if views < 2 {
        return Err(Error::Views {
            rows,
            views,
            need: "NT-Xent needs at least two views, since the positives are the other views",
        });
    }
    if !rows.is_multiple_of(views) {
        return Err(Error::Views {
            rows,
            views,
            need: "the rows must be a multiple of the views",
        });
    }
    Ok(())
}

impl NtXentConfig {
    /// The SupCon whose labels are the samples' numbers.
    pub(crate) fn as_supcon(&self) -> SupConConfig {
        SupConConfig {
            temperature: self.temperature,
            ..SupConConfig::default()
        }
    }
}
