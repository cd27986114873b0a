//! [`Loss`] as a catalogue: its names, and the losses of the families behind the one interface.

use candle_core::Tensor;

use crate::family::{Pairwise, ParameterSpec, Proxied, Task, TwoViews};
use crate::pairs::Pairs;
use crate::{Bounds, Error, Loss, PerAnchor, Result, normalize, supcon_weighted};

impl Loss {
    /// The names of all losses.
    pub fn names() -> Vec<&'static str> {
        let mut names = vec![
            "npairs",
            "supcon_out",
            "supcon_in",
            "nt_xent",
            "supcon_weighted",
        ];
        for family in [Pairwise::NAMES, TwoViews::NAMES, Proxied::NAMES] {
            names.extend(family);
        }
        names
    }

    /// The trainable parameters that [`forward_with`](Self::forward_with) needs, in its order; empty for most losses.
    ///
    /// ```
    /// use contrastive_loss::{Loss, Task};
    /// let loss: Loss = "arcface".parse()?;
    /// let parameters = loss.parameters(Task { dim: 128, classes: 10 });
    /// assert_eq!((parameters[0].name, parameters[0].shape.as_slice()), ("proxies", &[10, 128][..]));
    /// assert!(Loss::supcon_out().parameters(Task { dim: 128, classes: 10 }).is_empty());
    /// # Ok::<_, contrastive_loss::Error>(())
    /// ```
    pub fn parameters(&self, task: Task) -> Vec<ParameterSpec> {
        match self {
            Self::TwoViews(loss) => loss.parameters(),
            Self::Proxied(loss) => loss.parameters(task),
            _ => Vec::new(),
        }
    }

    /// The losses of the families, and none of the others.
    pub(crate) fn of_family(
        &self,
        z: &Tensor,
        labels: &[u32],
        views: usize,
        parameters: &[Tensor],
        tiled: bool,
    ) -> Option<Result<PerAnchor>> {
        let device = z.device();
        match self {
            Self::SupConWeighted(loss) => Some(
                Tensor::from_slice(labels, labels.len(), device)
                    .map_err(Error::from)
                    .and_then(|labels| supcon_weighted(&normalize(z)?, &labels, views, loss)),
            ),
            Self::Pairwise(loss) => Some(loss.forward(z, &repeated(labels, views))),
            Self::TwoViews(loss) => Some(
                both_views(z, views).and_then(|[a, b]| loss.forward(&a, &b, parameters, tiled)),
            ),
            Self::Proxied(loss) => Some(match parameters {
                [proxies] => {
                    let labels = repeated(labels, views);
                    let rows = labels.len();
                    Tensor::from_vec(labels, rows, device)
                        .map_err(Error::from)
                        .and_then(|labels| loss.forward(z, &labels, proxies))
                }
                others => Err(Error::Parameters {
                    loss: self.name(),
                    expected: "`proxies`".to_owned(),
                    got: format!("{} tensors", others.len()),
                }),
            }),
            _ => None,
        }
    }

    /// Collapse value and floor of the mean of [`forward_with`](Self::forward_with) at these parameters.
    ///
    /// # Errors
    /// Only Candle's own, from reading a parameter.
    ///
    /// ```
    /// use contrastive_loss::{Loss, Task};
    /// let task = Task { dim: 64, classes: 10 };
    /// let bounds = "barlow_twins".parse::<Loss>()?.bounds(&[0, 1, 2], 2, task, &[])?;
    /// assert_eq!((bounds.collapse, bounds.floor), (64.0, 0.0));
    /// # Ok::<_, contrastive_loss::Error>(())
    /// ```
    pub fn bounds(
        &self,
        labels: &[u32],
        views: usize,
        task: Task,
        parameters: &[Tensor],
    ) -> Result<Bounds> {
        Ok(match self {
            Self::SupConWeighted(loss) => loss.bounds(&repeated(labels, views), views),
            Self::Pairwise(loss) => loss.bounds(&repeated(labels, views)),
            Self::TwoViews(loss) => loss.bounds(labels.len(), task.dim, parameters)?,
            Self::Proxied(loss) => {
                let rows: Vec<u32> = (0..views).flat_map(|_| labels.iter().copied()).collect();
                loss.bounds(&rows, task.classes)
            }
            _ => Bounds {
                collapse: self.collapse_value(labels, views),
                floor: self.floor(labels, views),
            },
        })
    }

    /// [`bounds`](Self::bounds) of the losses of the families for what a batch alone tells: as many classes as it has
    /// labels, one dimension, parameters as they start.
    pub(crate) fn family_bounds(&self, labels: &[u32], views: usize) -> Option<Bounds> {
        matches!(
            self,
            Self::SupConWeighted(_) | Self::Pairwise(_) | Self::TwoViews(_) | Self::Proxied(_)
        )
        .then(|| {
            let classes = Pairs::from_labels(labels.iter().copied()).groups();
            let highest = labels.iter().max().map_or(0, |label| *label as usize + 1);
            let task = Task {
                dim: 1,
                classes: classes.max(highest),
            };
            self.bounds(labels, views, task, &[]).ok()
        })
        .flatten()
    }
}

/// The two views of z `[2·B, D]`.
pub(crate) fn both_views(z: &Tensor, views: usize) -> Result<[Tensor; 2]> {
    let rows = z.dim(0)?;
    if views != 2 || rows % 2 != 0 {
        return Err(Error::Views {
            rows,
            views,
            need: "this loss compares exactly two views",
        });
    }
    Ok([z.narrow(0, 0, rows / 2)?, z.narrow(0, rows / 2, rows / 2)?])
}

/// A label for every row, view-major.
pub(crate) fn repeated(labels: &[u32], views: usize) -> Vec<i64> {
    (0..views)
        .flat_map(|_| labels.iter().map(|&label| i64::from(label)))
        .collect()
}
