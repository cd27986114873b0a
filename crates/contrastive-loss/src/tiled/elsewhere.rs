//! Rows from elsewhere: a local batch among the rows of all ranks, or against a memory.

use std::ops::Range;

use candle_core::Tensor;

use super::losses::{npairs_over, supcon_over};
use super::sides::Sides;
use crate::pairs::Pairs;
use crate::similarity::{embeddings, normalize};
use crate::{Error, Loss, NpairsConfig, PerAnchor, Result};

/// The rows of all ranks, gathered, and which of them are the local ones.
#[derive(Clone, Debug)]
pub struct Gathered<'a> {
    /// `[M, D]`, **not yet normalised**: the embeddings of all ranks, one after the other. The local rows' place may hold anything.
    pub rows: &'a Tensor,
    /// A label for each of the M rows; for NT-Xent, the number of its sample, unique over all ranks.
    pub labels: &'a [u32],
    /// Where the local rows stand.
    pub own: Range<usize>,
}

impl Loss {
    /// The loss of all M gathered rows, with the exact gradient of its reduction for the local ones.
    ///
    /// Every rank computes the same M values; `mean()` is the loss of the whole batch, on every rank. Gradients reach `local`
    /// `[N, D]` (not yet normalised) in both of its roles, as anchors and as candidates of the other ranks' anchors, and no other
    /// row: with one gather of embeddings and labels forward, and parameter gradients **summed** (not averaged) over ranks, data-parallel
    /// training has the gradient of one process. (A gather that cuts gradients, with local anchors alone, has not.)
    ///
    /// Values are computed for all rows, M² similarities; gradients for the N local ones.
    ///
    /// # Errors
    /// If the shapes, labels and range do not fit together, as [`forward`](Loss::forward), or if the loss has no tiled form.
    ///
    /// ```
    /// use candle_core::{Device, Tensor, Var};
    /// use contrastive_loss::{Loss, tiled::Gathered};
    /// let all = Tensor::new(&[[1f32, 0.2], [0.9, -0.1], [-0.7, 0.3], [-1.0, 0.5]], &Device::Cpu)?;
    /// let labels = [0, 0, 1, 1];
    /// let whole = Var::from_tensor(&all)?;
    /// let loss = Loss::supcon_out();
    /// let expected = loss.forward(&whole, &labels, 1)?.mean()?.backward()?;
    /// // The second of two ranks holds the last two rows.
    /// let local = Var::from_tensor(&all.narrow(0, 2, 2)?)?;
    /// let gathered = Gathered { rows: &all, labels: &labels, own: 2..4 };
    /// let got = loss.forward_gathered(&local, &gathered)?.mean()?.backward()?;
    /// let (got, expected) = (got.get(&local).unwrap(), expected.get(&whole).unwrap().narrow(0, 2, 2)?);
    /// assert!((got - expected)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn forward_gathered(&self, local: &Tensor, gathered: &Gathered) -> Result<PerAnchor> {
        self.check()?;
        let local = embeddings(local, "the local rows")?;
        let rows = embeddings(gathered.rows, "the gathered rows")?.to_dtype(local.dtype())?;
        let (m, own) = (rows.dim(0)?, gathered.own.clone());
        let fits = own.start <= own.end && own.end <= m && own.len() == local.dim(0)?;
        if !fits || rows.dim(1)? != local.dim(1)? {
            return Err(Error::Mismatch {
                left: "the local rows",
                left_shape: local.dims().to_vec(),
                right: "the gathered rows",
                right_shape: rows.dims().to_vec(),
                need: "`own` must be the range of the gathered rows where the local ones stand, and the widths must agree",
            });
        }
        self.count_labels(gathered.labels, m)?;
        let rows = rows.detach();
        let mut parts = Vec::new();
        if own.start > 0 {
            parts.push(rows.narrow(0, 0, own.start)?);
        }
        parts.push(local);
        if own.end < m {
            parts.push(rows.narrow(0, own.end, m - own.end)?);
        }
        let z = normalize(&Tensor::cat(&parts, 0)?)?; // [M, D]
        let groups = Pairs::from_labels(gathered.labels).groups_of_rows();
        let mut sides = Sides::itself(groups);
        sides.live = own;
        self.tiled(&z, None, sides)
    }

    /// The loss of a batch whose candidates are the batch and a memory: z `[N, D]` with N labels, memory `[M, D]` with M labels, neither
    /// normalised yet → N values. The memory's rows are positives of their label and negatives of others, and receive no gradient.
    ///
    /// With no positive in the batch, a row may have one in the memory. For NT-Xent, labels are samples' numbers.
    ///
    /// # Errors
    /// As [`forward_gathered`](Self::forward_gathered).
    ///
    /// Source: Wang et al. 2020, "Cross-Batch Memory for Embedding Learning" (arXiv 1912.06798).
    pub fn forward_with_memory(
        &self,
        z: &Tensor,
        labels: &[u32],
        memory: &Tensor,
        memory_labels: &[u32],
    ) -> Result<PerAnchor> {
        self.check()?;
        let z = embeddings(z, "embeddings")?;
        let memory = embeddings(memory, "the memory")?.to_dtype(z.dtype())?;
        if memory.dim(1)? != z.dim(1)? {
            return Err(Error::Mismatch {
                left: "embeddings",
                left_shape: z.dims().to_vec(),
                right: "the memory",
                right_shape: memory.dims().to_vec(),
                need: "both need the same number of columns",
            });
        }
        self.count_labels(labels, z.dim(0)?)?;
        self.count_labels(memory_labels, memory.dim(0)?)?;
        let z = normalize(&z)?;
        let candidates = Tensor::cat(&[&z, &normalize(&memory.detach())?], 0)?; // [N + M, D]
        let groups = Pairs::from_labels(labels.iter().chain(memory_labels)).groups_of_rows();
        let sides = Sides::pair(groups[..labels.len()].to_vec(), groups, Some(0));
        self.tiled(&z, Some(&candidates), sides)
    }

    /// This loss over rows that are normalised, tile by tile.
    pub(crate) fn tiled(
        &self,
        z: &Tensor,
        candidates: Option<&Tensor>,
        sides: Sides,
    ) -> Result<PerAnchor> {
        match (self, self.as_supcon()) {
            (
                Self::Npairs {
                    temperature,
                    targets,
                },
                _,
            ) => {
                let config = NpairsConfig {
                    targets: *targets,
                    ..Default::default()
                };
                npairs_over(z, candidates, sides, *temperature, &config)
            }
            (_, Some(config)) => supcon_over(z, candidates, sides, &config),
            (_, None) => Err(Error::Untiled { what: self.name() }),
        }
    }

    /// Whether [`tiled`](Self::tiled) takes this loss.
    pub(crate) fn has_tiles(&self) -> bool {
        match self.as_supcon() {
            Some(config) => config.denominator != crate::Denominator::OnePositive,
            None => matches!(self, Self::Npairs { .. }),
        }
    }

    fn count_labels(&self, labels: &[u32], rows: usize) -> Result<()> {
        if labels.len() == rows {
            return Ok(());
        }
        Err(Error::LabelCount {
            expected: rows,
            rows,
            views: 1,
            got: labels.len(),
        })
    }
}
