//! The losses of this crate as one value, which a recipe can hold.

use std::fmt;
use std::str::FromStr;

use candle_core::Tensor;

use crate::family::{Pairwise, Proxied, TwoViews};
use crate::npairs::npairs_over;
use crate::nt_xent::check_views;
use crate::pairs::Pairs;
use crate::similarity::{check_temperature, embeddings, normalize, similarity_matrix};
use crate::supcon::supcon_over;
use crate::tiled::{Execution, Sides, Sums};
use crate::{
    Denominator, Error, InfoNce, NormalizedSoftmax, NpairsTargets, NtXentConfig, PerAnchor, Result,
    Scale, Summation, SupConConfig, SupConWeighted, UndefinedRows, labels, nt_xent,
};

/// A loss with its options, applied to embeddings that are not yet normalised.
///
/// `FromStr` takes a name ([`Loss::names`]) and gives the loss with its source's options; `Display` gives the name back. With the feature
/// `serde` it is a name, or a table `{ name = "…", temperature = … }`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Loss {
    /// [`npairs`](crate::npairs()) over cosines; τ = 0.05 as in the Keras example.
    Npairs {
        /// τ.
        temperature: f64,
        /// Whether the target rows are divided by their sums.
        targets: NpairsTargets,
    },
    /// [`supcon`](crate::supcon()), L_out; τ = 0.1 as in the paper.
    SupConOut {
        /// τ.
        temperature: f64,
        /// Which rows the denominator sums over.
        denominator: Denominator,
        /// A factor on every value.
        scale: Scale,
        /// What becomes of rows without a positive.
        undefined_rows: UndefinedRows,
    },
    /// [`supcon`](crate::supcon()), L_in; τ = 0.1 as in the paper.
    SupConIn {
        /// τ.
        temperature: f64,
        /// Which rows the denominator sums over.
        denominator: Denominator,
        /// A factor on every value.
        scale: Scale,
        /// What becomes of rows without a positive.
        undefined_rows: UndefinedRows,
    },
    /// [`nt_xent`](crate::nt_xent()); τ = 0.5 as in the paper for CIFAR-10. Labels are not used.
    NtXent {
        /// τ.
        temperature: f64,
    },
    /// [`supcon_weighted`](crate::supcon_weighted()).
    SupConWeighted(SupConWeighted),
    /// A loss over pairs: triplet, multi-similarity, ….
    Pairwise(Pairwise),
    /// A loss over exactly two views: InfoNCE, Barlow Twins, …. Labels are not used.
    TwoViews(TwoViews),
    /// A loss with trainable proxies: [`parameters`](Self::parameters) says which, [`forward_with`](Self::forward_with) takes them.
    Proxied(Proxied),
}

impl From<SupConWeighted> for Loss {
    fn from(loss: SupConWeighted) -> Self {
        Self::SupConWeighted(loss)
    }
}

impl Loss {
    /// npairs with the Keras example's temperature, 0.05.
    pub fn npairs() -> Self {
        Self::Npairs {
            temperature: 0.05,
            targets: NpairsTargets::default(),
        }
    }

    /// SupCon L_out with the paper's temperature, 0.1.
    pub fn supcon_out() -> Self {
        Self::SupConOut {
            temperature: 0.1,
            denominator: Denominator::default(),
            scale: Scale::default(),
            undefined_rows: UndefinedRows::default(),
        }
    }

    /// SupCon L_in with the paper's temperature, 0.1.
    pub fn supcon_in() -> Self {
        Self::SupConIn {
            temperature: 0.1,
            denominator: Denominator::default(),
            scale: Scale::default(),
            undefined_rows: UndefinedRows::default(),
        }
    }

    /// NT-Xent with the paper's temperature for CIFAR-10, 0.5.
    pub fn nt_xent() -> Self {
        Self::NtXent { temperature: 0.5 }
    }

    /// The name that `FromStr` takes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Npairs { .. } => "npairs",
            Self::SupConOut { .. } => "supcon_out",
            Self::SupConIn { .. } => "supcon_in",
            Self::NtXent { .. } => "nt_xent",
            Self::SupConWeighted(_) => "supcon_weighted",
            Self::Pairwise(loss) => loss.name(),
            Self::TwoViews(loss) => loss.name(),
            Self::Proxied(loss) => loss.name(),
        }
    }

    /// τ; 1 for losses that divide by none.
    pub fn temperature(&self) -> f64 {
        let mut copy = self.clone();
        copy.temperature_mut()
            .map_or(1.0, |temperature| *temperature)
    }

    /// Whether the loss divides similarities by a temperature.
    pub fn has_temperature(&self) -> bool {
        self.clone().temperature_mut().is_some()
    }

    /// The same loss at another temperature; unchanged, if it has none.
    #[must_use]
    pub fn with_temperature(mut self, value: f64) -> Self {
        if let Some(temperature) = self.temperature_mut() {
            *temperature = value;
        }
        self
    }

    fn temperature_mut(&mut self) -> Option<&mut f64> {
        match self {
            Self::Npairs { temperature, .. }
            | Self::SupConOut { temperature, .. }
            | Self::SupConIn { temperature, .. }
            | Self::NtXent { temperature }
            | Self::SupConWeighted(SupConWeighted { temperature, .. })
            | Self::TwoViews(TwoViews::InfoNce(InfoNce { temperature, .. }))
            | Self::Proxied(Proxied::NormalizedSoftmax(NormalizedSoftmax { temperature })) => {
                Some(temperature)
            }
            Self::Pairwise(_) | Self::TwoViews(_) | Self::Proxied(_) => None,
        }
    }

    /// Whether every sample needs at least two views.
    pub fn needs_views(&self) -> bool {
        matches!(self, Self::NtXent { .. } | Self::TwoViews(_))
    }

    /// Whether every sample needs exactly two views.
    pub fn needs_two_views(&self) -> bool {
        matches!(self, Self::TwoViews(_))
    }

    /// Checks the options, so that a recipe fails before the first step.
    ///
    /// # Errors
    /// If a temperature or another option is out of its range.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::SupConWeighted(loss) => loss.check(),
            Self::Pairwise(loss) => loss.check(),
            Self::TwoViews(loss) => loss.check(),
            Self::Proxied(loss) => loss.check(),
            _ => match self.as_supcon() {
                Some(config) => config.check(),
                None => check_temperature(self.temperature()),
            },
        }
    }

    /// The loss of every row of z `[V·B, D]`, view-major and **not yet normalised**; `labels` are the B samples' labels.
    ///
    /// # Errors
    /// If `z` is not a non-empty float tensor of `views` × `labels.len()` rows, or an option is out of its range.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// let loss: contrastive_loss::Loss = "npairs".parse()?;
    /// let z = Tensor::new(&[[1f32, 0.1], [1.0, -0.1], [-1.0, 0.2], [-1.0, 0.0]], &Device::Cpu)?;
    /// let labels = [0, 0, 1, 1];
    /// let value = loss.forward(&z, &labels, 1)?.mean()?.to_scalar::<f32>()? as f64;
    /// assert!(value < loss.collapse_value(&labels, 1));
    /// assert!(value >= loss.floor(&labels, 1));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn forward(&self, z: &Tensor, labels: &[u32], views: usize) -> Result<PerAnchor> {
        self.forward_with(z, labels, views, &[])
    }

    /// [`forward`](Self::forward) with the loss' own parameters, in the order of [`parameters`](Self::parameters).
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and if a parameter is missing or of another shape. The sigmoid loss without
    /// parameters takes their starting values as constants.
    pub fn forward_with(
        &self,
        z: &Tensor,
        labels: &[u32],
        views: usize,
        parameters: &[Tensor],
    ) -> Result<PerAnchor> {
        self.run(Execution::Auto, z, labels, views, parameters)
    }

    /// [`forward`](Self::forward) with a say in whether the similarity matrix is formed.
    ///
    /// # Errors
    /// As [`forward`](Self::forward); and if tiles are asked for and the loss has none.
    pub fn forward_by(
        &self,
        execution: Execution,
        z: &Tensor,
        labels: &[u32],
        views: usize,
    ) -> Result<PerAnchor> {
        self.run(execution, z, labels, views, &[])
    }

    fn run(
        &self,
        execution: Execution,
        z: &Tensor,
        labels: &[u32],
        views: usize,
        parameters: &[Tensor],
    ) -> Result<PerAnchor> {
        self.check()?;
        let rows = embeddings(z, "embeddings")?.dim(0)?;
        let samples = labels::samples(rows, views)?;
        if labels.len() != samples {
            return Err(Error::LabelCount {
                expected: samples,
                rows,
                views,
                got: labels.len(),
            });
        }
        let height = if self.needs_two_views() {
            labels.len()
        } else {
            rows
        };
        let tiled = execution.tiles(height, self.has_tiles());
        if tiled && !self.has_tiles() {
            return Err(Error::Untiled { what: self.name() });
        }
        if let Some(values) = self.of_family(z, labels, views, parameters, tiled) {
            return values;
        }
        let z = normalize(z)?; // [V·B, D]
        if self.needs_views() {
            check_views(rows, views)?;
        }
        if tiled {
            let groups = self.pairs(labels, views).groups_of_rows();
            return self.tiled(&z, None, Sides::itself(groups), &mut Sums::default());
        }
        match self {
            Self::Npairs {
                temperature,
                targets,
            } => {
                let config = crate::NpairsConfig {
                    targets: *targets,
                    ..Default::default()
                };
                npairs_over(
                    &similarity_matrix(&z, *temperature)?,
                    &self.pairs(labels, views),
                    &config,
                )
            }
            Self::NtXent { temperature } => nt_xent(
                &z,
                views,
                &NtXentConfig {
                    temperature: *temperature,
                },
            ),
            _ => {
                let config = self.as_supcon().unwrap_or_default();
                supcon_over(&z, &self.pairs(labels, views), &config)
            }
        }
    }

    /// The groups that this loss sees: samples for NT-Xent, labels otherwise.
    pub(crate) fn pairs(&self, labels: &[u32], views: usize) -> Pairs {
        match self {
            Self::NtXent { .. } => Pairs::from_views(labels.len() * views, views.max(1)),
            _ => Pairs::from_labels((0..views).flat_map(|_| labels.iter().copied())),
        }
    }

    /// This loss as a SupCon, if it is one.
    pub(crate) fn as_supcon(&self) -> Option<SupConConfig> {
        let summation = if matches!(self, Self::SupConIn { .. }) {
            Summation::In
        } else {
            Summation::Out
        };
        match *self {
            Self::Npairs { .. }
            | Self::SupConWeighted(_)
            | Self::Pairwise(_)
            | Self::TwoViews(_)
            | Self::Proxied(_) => None,
            Self::SupConOut {
                temperature,
                denominator,
                scale,
                undefined_rows,
            }
            | Self::SupConIn {
                temperature,
                denominator,
                scale,
                undefined_rows,
            } => Some(SupConConfig {
                temperature,
                summation,
                denominator,
                scale,
                undefined_rows,
            }),
            Self::NtXent { temperature } => Some(NtXentConfig { temperature }.as_supcon()),
        }
    }
}

impl Default for Loss {
    /// npairs, the loss of the slides.
    fn default() -> Self {
        Self::npairs()
    }
}

impl FromStr for Loss {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "npairs" => Ok(Self::npairs()),
            "supcon_out" => Ok(Self::supcon_out()),
            "supcon_in" => Ok(Self::supcon_in()),
            "nt_xent" => Ok(Self::nt_xent()),
            "supcon_weighted" => Ok(SupConWeighted::default().into()),
            got => (Pairwise::named(got).map(Self::Pairwise))
                .or_else(|| TwoViews::named(got).map(Self::TwoViews))
                .or_else(|| Proxied::named(got).map(Self::Proxied))
                .ok_or_else(|| Error::Name {
                    what: "loss",
                    got: got.to_owned(),
                    expected: Self::names().join(", "),
                }),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
