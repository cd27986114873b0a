//! A loss in its surroundings: its own parameters, rows of former batches, pairs that a miner picked.

use candle_core::Tensor;

use crate::bounds::Crowd;
use crate::catalogue::{both_views, repeated};
use crate::family::{Pairwise, Task, TwoViews};
use crate::pairs::Pairs;
use crate::similarity::{embeddings, normalize};
use crate::tiled::{self, Sides, Sums};
use crate::{
    Bounds, CrossBatchMemory, Error, InfoNce, Loss, Mined, Miner, PairLoss, PairSet, PerAnchor,
    Result,
};

/// What a loss sees beside a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The loss' own parameters, in the order of [`Loss::parameters`].
    pub parameters: &'a [Tensor],
    /// Rows of former batches ([`Loss::remember`] puts them there): further references; for InfoNCE, the queue.
    pub memory: Option<&'a CrossBatchMemory>,
    /// What a miner picked for this batch ([`Loss::mine`]).
    pub mined: Option<&'a Mined>,
}

/// The label of remembered rows where nothing of a former batch attracts: that of no row of a batch.
const NOBODY: i64 = -1;

impl Loss {
    /// Whether a miner can choose the pairs: the losses over pairs.
    pub fn takes_miner(&self) -> bool {
        matches!(self, Self::Pairwise(_))
    }

    /// Whether rows of former batches can be references: npairs, SupCon, NT-Xent and the losses over pairs but lifted
    /// structure; for InfoNCE, a queue of negatives.
    pub fn takes_memory(&self) -> bool {
        match self {
            Self::Npairs { .. } => true,
            // This one looks at the negatives of a positive too, of which a former row has none.
            Self::Pairwise(loss) => !matches!(loss, Pairwise::LiftedStructure(_)),
            Self::TwoViews(loss) => matches!(loss, TwoViews::InfoNce(loss) if !loss.symmetric),
            _ => self.as_supcon().is_some(),
        }
    }

    /// Whether there is nothing to compute without a memory: InfoNCE whose queue alone repels.
    pub fn needs_memory(&self) -> bool {
        matches!(self, Self::TwoViews(TwoViews::InfoNce(loss)) if !loss.in_batch)
    }

    /// [`forward_with`](Self::forward_with) in a context: z `[V·B, D]`, view-major and **not yet normalised**, a label for each of the B
    /// samples → one value per row. Former rows receive no gradient. While a queue is empty, the batch's own keys repel.
    ///
    /// # Errors
    /// As [`forward_with`](Self::forward_with); if the loss takes no miner or no memory and one is given; or if what was mined does
    /// not fit the batch and the memory.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use contrastive_loss::{Context, CrossBatchMemory, Loss, Miner};
    /// let (loss, miner): (Loss, Miner) = ("triplet".parse()?, "hard".parse()?);
    /// let mut memory = CrossBatchMemory::new(64)?;
    /// for step in 0..3 {
    ///     let z = Tensor::new(&[[1f32, step as f32], [0.4, 1.0], [-1.0, 0.1]], &Device::Cpu)?;
    ///     let labels = [0, 0, 1];
    ///     let context = Context { memory: Some(&memory), ..Context::default() };
    ///     let mined = loss.mine(&miner, &z, &labels, 1, context.memory, &mut || 0.5)?;
    ///     let values = loss.forward_in(&z, &labels, 1, &Context { mined: Some(&mined), ..context })?;
    ///     assert_eq!(values.values.dims(), [3]);
    ///     loss.remember(&mut memory, &z, &labels, 1)?;
    /// }
    /// assert_eq!(memory.len(), 9);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn forward_in(
        &self,
        z: &Tensor,
        labels: &[u32],
        views: usize,
        context: &Context,
    ) -> Result<PerAnchor> {
        let Some(memory) = self.memory_of(context)? else {
            return match (self, context.mined) {
                (Self::Pairwise(loss), Some(mined)) => {
                    let z = self.checked_rows(z, labels, views)?;
                    loss.over_mined(&z, &z, mined)
                }
                (_, Some(_)) => Err(self.without("miner")),
                (Self::TwoViews(TwoViews::InfoNce(loss)), None) if context.memory.is_some() => {
                    Self::from(without_queue(loss)).forward(z, labels, views)
                }
                (_, None) => self.forward_with(z, labels, views, context.parameters),
            };
        };
        let z = self.checked_rows(z, labels, views)?; // [V·B, D]
        let (former, former_labels) = memory;
        let former = former.to_dtype(z.dtype())?.to_device(z.device())?;
        match self {
            Self::TwoViews(TwoViews::InfoNce(loss)) => {
                let [queries, keys] = both_views(&z, views)?;
                tiled::info_nce(&queries, &keys, Some(&former), loss)
            }
            Self::Pairwise(loss) => {
                let references = Tensor::cat(&[&z, &former], 0)?; // [V·B + M, D]
                match context.mined {
                    Some(mined) => loss.over_mined(&z, &references, mined),
                    None => {
                        let pairs = all_pairs(labels, views, &former_labels);
                        loss.as_loss().forward_against(&z, &references, &pairs)
                    }
                }
            }
            _ => {
                let references = Tensor::cat(&[&z, &former], 0)?;
                let sides = self.sides(labels, views, &former_labels);
                self.tiled(&z, Some(&references), sides, &mut Sums::default())
            }
        }
    }

    /// What `miner` picks out of a batch, z `[V·B, D]` not yet normalised, and a memory.
    ///
    /// # Errors
    /// As [`Miner::mine`], and if the loss takes no miner.
    pub fn mine(
        &self,
        miner: &Miner,
        z: &Tensor,
        labels: &[u32],
        views: usize,
        memory: Option<&CrossBatchMemory>,
        uniform: &mut dyn FnMut() -> f64,
    ) -> Result<Mined> {
        if !self.takes_miner() {
            return Err(self.without("miner"));
        }
        let z = self.checked_rows(z, labels, views)?.detach();
        let context = Context {
            memory,
            ..Context::default()
        };
        let (references, former_labels) = match self.memory_of(&context)? {
            Some((former, labels)) => {
                let former = former.to_dtype(z.dtype())?.to_device(z.device())?;
                (Tensor::cat(&[&z, &former], 0)?, labels)
            }
            None => (z.clone(), Vec::new()),
        };
        let pairs = all_pairs(labels, views, &former_labels);
        miner.mine(&z, &references, &pairs, uniform)
    }

    /// Puts into a memory what later batches are compared with: all rows of z `[V·B, D]`, normalised, with their labels; for InfoNCE
    /// the keys (view 1). For NT-Xent and InfoNCE nothing of a former batch attracts.
    ///
    /// # Errors
    /// If `z` does not fit the labels or the memory, or the loss takes no memory.
    pub fn remember(
        &self,
        memory: &mut CrossBatchMemory,
        z: &Tensor,
        labels: &[u32],
        views: usize,
    ) -> Result<()> {
        if !self.takes_memory() {
            return Err(self.without("memory"));
        }
        let z = self.checked_rows(z, labels, views)?.detach();
        let (rows, labels) = match self {
            Self::TwoViews(_) => {
                let [_, keys] = both_views(&z, views)?;
                (keys, vec![NOBODY; labels.len()])
            }
            Self::NtXent { .. } => (z, vec![NOBODY; labels.len() * views]),
            _ => (z, repeated(labels, views)),
        };
        let count = labels.len();
        memory.push(&rows, &Tensor::from_vec(labels, count, rows.device())?)
    }

    /// Collapse value and floor of the mean of [`forward_in`](Self::forward_in).
    ///
    /// # Errors
    /// Only Candle's own, from reading a parameter, and those of what was mined.
    pub fn bounds_in(
        &self,
        labels: &[u32],
        views: usize,
        task: Task,
        context: &Context,
    ) -> Result<Bounds> {
        let former = context
            .memory
            .map_or_else(Vec::new, CrossBatchMemory::labels);
        match self {
            Self::Pairwise(loss) => {
                let pairs = match context.mined {
                    Some(mined) => mined.pairs()?,
                    None => all_pairs(labels, views, &former),
                };
                Ok(loss.as_loss().bounds(&pairs))
            }
            Self::TwoViews(TwoViews::InfoNce(loss)) if context.memory.is_some() => {
                match former.len() {
                    0 => Ok(without_queue(loss).bounds(labels.len(), 0)),
                    queued => Ok(loss.bounds(labels.len(), queued)),
                }
            }
            _ if former.is_empty() || !self.takes_memory() => {
                self.bounds(labels, views, task, context.parameters)
            }
            _ => Ok(self.bounds_of(&Crowd::of(&self.sides(labels, views, &former)))),
        }
    }

    /// The rows of a memory and their labels, if there are any.
    fn memory_of(&self, context: &Context) -> Result<Option<(Tensor, Vec<i64>)>> {
        let Some(memory) = context.memory else {
            return Ok(None);
        };
        if !self.takes_memory() {
            return Err(self.without("memory"));
        }
        Ok(memory
            .embeddings()
            .map(|rows| (rows.clone(), memory.labels())))
    }

    /// A batch's rows before those of a memory, in their groups.
    fn sides(&self, labels: &[u32], views: usize, former: &[i64]) -> Sides {
        let own: Vec<i64> = match self {
            Self::NtXent { .. } => {
                let samples: Vec<u32> = (0..labels.len() as u32).collect();
                repeated(&samples, views)
            }
            _ => repeated(labels, views),
        };
        let groups = Pairs::from_labels(own.iter().chain(former)).groups_of_rows();
        Sides::pair(groups[..own.len()].to_vec(), groups, Some(0))
    }

    /// z in unit rows, if it fits the labels.
    fn checked_rows(&self, z: &Tensor, labels: &[u32], views: usize) -> Result<Tensor> {
        self.check()?;
        let rows = embeddings(z, "embeddings")?.dim(0)?;
        if labels.len() * views != rows {
            return Err(Error::LabelCount {
                expected: rows / views.max(1),
                rows,
                views,
                got: labels.len(),
            });
        }
        normalize(z)
    }

    fn without(&self, what: &'static str) -> Error {
        Error::Unsupported {
            loss: self.name(),
            what,
        }
    }
}

/// InfoNCE while its queue is still empty: the batch repels.
fn without_queue(loss: &InfoNce) -> InfoNce {
    InfoNce {
        in_batch: true,
        ..loss.clone()
    }
}

impl Pairwise {
    /// The loss of unit rows against unit references over what was mined; triplets stay triplets for the triplet loss.
    fn over_mined(&self, z: &Tensor, references: &Tensor, mined: &Mined) -> Result<PerAnchor> {
        match (self, mined) {
            (Self::Triplet(loss), Mined::Triplets { triplets, .. }) => {
                let distances = loss.measure().matrix(z, references)?;
                loss.over_triplets(&distances, triplets)
            }
            _ => self
                .as_loss()
                .forward_against(z, references, &mined.pairs()?),
        }
    }
}

/// All pairs of a batch with itself and with former rows.
fn all_pairs(labels: &[u32], views: usize, former: &[i64]) -> PairSet {
    let anchors = repeated(labels, views);
    let references: Vec<i64> = anchors.iter().chain(former).copied().collect();
    PairSet::of(&anchors, &references, Some)
}
