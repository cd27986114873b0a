//! Rows from elsewhere: a local batch among the rows of all ranks, or against a memory.

use std::ops::Range;

use candle_core::Tensor;

use super::losses::{npairs_over, supcon_over};
use super::op::Sums;
use super::sides::Sides;
use super::two_views::{TwoSides, info_nce_over, sigmoid_over};
use crate::catalogue::both_views;
use crate::pairs::Pairs;
use crate::similarity::{embeddings, normalize, same_width};
use crate::{Error, Loss, NpairsConfig, PerAnchor, Result, TwoViews};

/// The rows of all ranks, gathered, and which of them are the local ones.
#[derive(Clone, Debug)]
pub struct Gathered<'a> {
    /// `[M, D]`, **not yet normalised**: the embeddings of all ranks, one after the other. The local rows' place may hold anything.
    /// For a loss over two views `[2·M, D]`, view-major: view 0 of all ranks, then view 1.
    pub rows: &'a Tensor,
    /// A label for each of the M rows (or samples, for a loss over two views, which does not look at them); for NT-Xent, the
    /// number of its sample, unique over all ranks.
    pub labels: &'a [u32],
    /// Where the local rows (or samples) stand.
    pub own: Range<usize>,
    /// `[M, K]`: what [`Loss::row_sums`] gave on every rank, one after the other. Without it every rank computes all M² similarities
    /// itself.
    pub sums: Option<&'a Tensor>,
}

impl Loss {
    /// The loss of all M gathered rows, with the exact gradient of its reduction for the local ones.
    ///
    /// Every rank computes the same M values; `mean()` is the loss of the whole batch, on every rank. Gradients reach `local`
    /// `[N, D]` (not yet normalised; `[2·N, D]` for a loss over two views) in both of its roles, as anchors and as candidates of the
    /// other ranks' anchors, and no other row: with one gather of embeddings and labels forward, and parameter gradients **summed**
    /// (not averaged) over ranks, data-parallel training has the gradient of one process. (A gather that cuts gradients, with local
    /// anchors alone, has not.)
    ///
    /// With [`Gathered::sums`] a rank computes N·M similarities forward and N·M backward, its share of the work: gather embeddings,
    /// call [`row_sums`](Self::row_sums), gather those (K numbers a row), and come here. Without, M² forward.
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
    /// // The second of two ranks holds the last two rows, the first one the others.
    /// let (first, local) = (all.narrow(0, 0, 2)?, Var::from_tensor(&all.narrow(0, 2, 2)?)?);
    /// let of = |own, sums| Gathered { rows: &all, labels: &labels, own, sums };
    /// let sums = [loss.row_sums(&first, &of(0..2, None))?, loss.row_sums(&local, &of(2..4, None))?];
    /// let sums = Tensor::cat(&sums, 0)?; // the second gather
    /// let got = loss.forward_gathered(&local, &of(2..4, Some(&sums)))?.mean()?.backward()?;
    /// let (got, expected) = (got.get(&local).unwrap(), expected.get(&whole).unwrap().narrow(0, 2, 2)?);
    /// assert!((got - expected)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn forward_gathered(&self, local: &Tensor, gathered: &Gathered) -> Result<PerAnchor> {
        self.forward_gathered_with(local, gathered, &[])
    }

    /// [`forward_gathered`](Self::forward_gathered) with the loss' own parameters (the sigmoid loss' scale and bias), which receive
    /// the gradient of the local anchors: summed over ranks, that of the whole batch.
    ///
    /// # Errors
    /// As [`forward_gathered`](Self::forward_gathered).
    pub fn forward_gathered_with(
        &self,
        local: &Tensor,
        gathered: &Gathered,
        parameters: &[Tensor],
    ) -> Result<PerAnchor> {
        let mut sums = Sums::given(gathered.sums);
        let own = gathered.own.clone();
        if let Self::TwoViews(loss) = self {
            let [a, b] = self.spliced_views(local, gathered)?;
            let samples = a.dim(0)?;
            let views = TwoSides {
                a: &a,
                b: &b,
                candidates: [&a, &b],
                own: 0..samples,
                live: own,
            };
            return loss.tiled(&views, parameters, &mut sums);
        }
        let z = normalize(&self.splice(local, gathered)?)?; // [M, D]
        let groups = Pairs::from_labels(gathered.labels).groups_of_rows();
        self.tiled(&z, None, Sides::itself(groups).alive(own), &mut sums)
    }

    /// The local rows' sums over all gathered rows, `[N, K]` without a graph: what the ranks exchange so that each computes its own
    /// N·M similarities alone, see [`forward_gathered`](Self::forward_gathered). K is 1 to 3; [`Gathered::sums`] is not looked at.
    ///
    /// # Errors
    /// As [`forward_gathered`](Self::forward_gathered).
    pub fn row_sums(&self, local: &Tensor, gathered: &Gathered) -> Result<Tensor> {
        self.row_sums_with(local, gathered, &[])
    }

    /// [`row_sums`](Self::row_sums) with the loss' own parameters.
    ///
    /// # Errors
    /// As [`forward_gathered`](Self::forward_gathered).
    pub fn row_sums_with(
        &self,
        local: &Tensor,
        gathered: &Gathered,
        parameters: &[Tensor],
    ) -> Result<Tensor> {
        let mut sums = Sums::default();
        let (local, own) = (local.detach(), gathered.own.clone());
        if let Self::TwoViews(loss) = self {
            let [all_a, all_b] = self.spliced_views(&local, gathered)?;
            let part = |all: &Tensor| all.narrow(0, own.start, own.len());
            let (a, b) = (part(&all_a)?, part(&all_b)?);
            let views = TwoSides {
                a: &a,
                b: &b,
                candidates: [&all_a, &all_b],
                own: own.clone(),
                live: own,
            };
            loss.tiled(&views, parameters, &mut sums)?;
        } else {
            let z = normalize(&self.splice(&local, gathered)?)?; // [M, D]
            let groups = Pairs::from_labels(gathered.labels).groups_of_rows();
            let sides = Sides::pair(groups[own.clone()].to_vec(), groups, Some(own.start));
            let anchors = z.narrow(0, own.start, own.len())?;
            self.tiled(&anchors, Some(&z), sides, &mut sums)?;
        }
        sums.computed()
    }

    /// The loss of a batch whose candidates are the batch and a memory: z `[N, D]` with N labels, memory `[M, D]` with M labels, neither
    /// normalised yet → N values. The memory's rows are positives of their label and negatives of others, and receive no gradient.
    ///
    /// With no positive in the batch, a row may have one in the memory. For NT-Xent, labels are samples' numbers. For InfoNCE, z is
    /// `[2·N, D]`, view-major, and the memory a queue of keys, whose labels are not looked at.
    ///
    /// # Errors
    /// As [`forward_gathered`](Self::forward_gathered).
    ///
    /// Source: Wang et al. 2020, "Cross-Batch Memory for Embedding Learning" (arXiv 1912.06798); He et al. 2020 (arXiv 1911.05722).
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
        same_width(("embeddings", &z), ("the memory", &memory))?;
        let views = if self.needs_two_views() { 2 } else { 1 };
        count_labels(labels, z.dim(0)?, views)?;
        count_labels(memory_labels, memory.dim(0)?, 1)?;
        let z = normalize(&z)?;
        let memory = normalize(&memory.detach())?;
        if let Self::TwoViews(TwoViews::InfoNce(loss)) = self {
            let [queries, keys] = both_views(&z, 2)?;
            return super::info_nce(&queries, &keys, Some(&memory), loss);
        }
        let candidates = Tensor::cat(&[&z, &memory], 0)?; // [N + M, D]
        let groups = Pairs::from_labels(labels.iter().chain(memory_labels)).groups_of_rows();
        let sides = Sides::pair(groups[..labels.len()].to_vec(), groups, Some(0));
        self.tiled(&z, Some(&candidates), sides, &mut Sums::default())
    }

    /// This loss over rows that are normalised, tile by tile.
    pub(crate) fn tiled(
        &self,
        z: &Tensor,
        candidates: Option<&Tensor>,
        sides: Sides,
        sums: &mut Sums,
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
                npairs_over(z, candidates, sides, *temperature, &config, sums)
            }
            (_, Some(config)) => supcon_over(z, candidates, sides, &config, sums),
            (_, None) => Err(Error::Untiled { what: self.name() }),
        }
    }

    /// Whether the loss has a tiled form.
    pub(crate) fn has_tiles(&self) -> bool {
        match self {
            Self::Npairs { .. } => true,
            Self::TwoViews(loss) => matches!(loss, TwoViews::InfoNce(_) | TwoViews::Sigmoid(_)),
            _ => self.as_supcon().is_some(),
        }
    }

    /// The gathered rows without a graph, and the local ones in their place: `[M, D]`.
    fn splice(&self, local: &Tensor, gathered: &Gathered) -> Result<Tensor> {
        let (local, rows) = self.fitting(local, gathered, 1)?;
        Ok(with_local(&rows, &local, &gathered.own)?)
    }

    /// The same for both views, normalised: `[M, D]` each.
    fn spliced_views(&self, local: &Tensor, gathered: &Gathered) -> Result<[Tensor; 2]> {
        let (local, rows) = self.fitting(local, gathered, 2)?;
        let (local, rows) = (both_views(&local, 2)?, both_views(&rows, 2)?);
        let view = |v: usize| normalize(&with_local(&rows[v], &local[v], &gathered.own)?);
        Ok([view(0)?, view(1)?])
    }

    /// Local and gathered rows in one type; refuses what does not fit.
    fn fitting(
        &self,
        local: &Tensor,
        gathered: &Gathered,
        views: usize,
    ) -> Result<(Tensor, Tensor)> {
        self.check()?;
        if !self.has_tiles() {
            return Err(Error::Untiled { what: self.name() });
        }
        let local = embeddings(local, "the local rows")?;
        let rows = embeddings(gathered.rows, "the gathered rows")?.to_dtype(local.dtype())?;
        let own = gathered.own.clone();
        let fits = own.start < own.end
            && own.end * views <= rows.dim(0)?
            && own.len() * views == local.dim(0)?;
        if !fits || rows.dim(1)? != local.dim(1)? {
            return Err(Error::Mismatch {
                left: "the local rows",
                left_shape: local.dims().to_vec(),
                right: "the gathered rows",
                right_shape: rows.dims().to_vec(),
                need: "`own` must be the range of the gathered rows where the local ones stand, and the widths must agree",
            });
        }
        count_labels(gathered.labels, rows.dim(0)?, views)?;
        Ok((local, rows.detach()))
    }
}

impl TwoViews {
    /// This loss over views that are normalised, tile by tile.
    fn tiled(&self, views: &TwoSides, parameters: &[Tensor], sums: &mut Sums) -> Result<PerAnchor> {
        match self {
            Self::InfoNce(loss) => info_nce_over(views, None, loss, sums),
            Self::Sigmoid(loss) => {
                let [log_scale, bias] = loss.scalars(views.a, parameters)?;
                sigmoid_over(views, &log_scale, &bias, sums)
            }
            Self::BarlowTwins(_) | Self::VicReg(_) => Err(Error::Untiled { what: self.name() }),
        }
    }
}

/// `rows` with `local` in the place `own`.
fn with_local(rows: &Tensor, local: &Tensor, own: &Range<usize>) -> candle_core::Result<Tensor> {
    let all = rows.dim(0)?;
    let mut parts = Vec::new();
    if own.start > 0 {
        parts.push(rows.narrow(0, 0, own.start)?);
    }
    parts.push(local.clone());
    if own.end < all {
        parts.push(rows.narrow(0, own.end, all - own.end)?);
    }
    Tensor::cat(&parts, 0)
}

fn count_labels(labels: &[u32], rows: usize, views: usize) -> Result<()> {
    if labels.len() * views == rows {
        return Ok(());
    }
    Err(Error::LabelCount {
        expected: rows / views,
        rows,
        views,
        got: labels.len(),
    })
}
