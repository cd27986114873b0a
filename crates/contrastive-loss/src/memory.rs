//! A cross-batch memory, Wang et al. 2020 (arXiv 1912.06798): embeddings of former batches as further references.

use candle_core::Tensor;

use crate::similarity::{embeddings, same_width};
use crate::{Error, PairLoss, PairSet, PerAnchor, Result, labels};

/// The last embeddings and labels that were pushed, up to a capacity; the oldest go first. They carry no gradient.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{CrossBatchMemory, MaxMargin};
/// let mut memory = CrossBatchMemory::new(3)?;
/// let loss = MaxMargin::default();
/// for batch in [[[0f32, 1.0], [1.0, 0.0]], [[0.1, 1.0], [1.0, 0.2]]] {
///     let z = Tensor::new(&batch, &Device::Cpu)?;
///     let labels = Tensor::new(&[0u32, 1], &Device::Cpu)?;
///     let values = memory.forward(&loss, &z, &labels)?;
///     assert_eq!(values.values.dims(), [2]);
/// }
/// assert_eq!((memory.len(), memory.labels()), (3, vec![1, 0, 1]));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct CrossBatchMemory {
    capacity: usize,
    /// `[len, D]`, oldest first.
    embeddings: Option<Tensor>,
    labels: Vec<i64>,
}

impl CrossBatchMemory {
    /// A memory of at most `capacity` rows.
    ///
    /// # Errors
    /// If the capacity is 0.
    pub fn new(capacity: usize) -> Result<Self> {
        if capacity == 0 {
            return Err(Error::Empty {
                what: "the memory",
                shape: vec![0],
            });
        }
        Ok(Self {
            capacity,
            embeddings: None,
            labels: Vec::new(),
        })
    }

    /// How many rows it holds.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The rows, oldest first: `[len, D]`.
    pub fn embeddings(&self) -> Option<&Tensor> {
        self.embeddings.as_ref()
    }

    /// The rows' labels.
    pub fn labels(&self) -> Vec<i64> {
        self.labels.clone()
    }

    /// Appends a batch, z `[N, D]` as it is, labels `[N]`; of more than `capacity` rows the last stay.
    ///
    /// # Errors
    /// If `z` is not a non-empty `[N, D]` float tensor as wide as the memory's rows, or the labels do not fit it.
    pub fn push(&mut self, z: &Tensor, labels: &Tensor) -> Result<()> {
        let z = embeddings(z, "embeddings")?.detach();
        let labels = labels::read(labels, z.dim(0)?)?;
        let all = match &self.embeddings {
            Some(old) => {
                same_width(("the memory", old), ("embeddings", &z))?;
                Tensor::cat(&[&old.to_dtype(z.dtype())?.to_device(z.device())?, &z], 0)?
            }
            None => z,
        };
        self.labels.extend(labels);
        let drop = self.labels.len().saturating_sub(self.capacity);
        self.labels.drain(..drop);
        self.embeddings = Some(all.narrow(0, drop, self.labels.len())?.contiguous()?);
        Ok(())
    }

    /// Pushes a batch and gives its pairs with the memory: `[N, len]`. A row is no pair with its own copy.
    ///
    /// # Errors
    /// As [`push`](Self::push), and if the batch has more rows than the memory.
    pub fn push_and_pair(&mut self, z: &Tensor, labels: &Tensor) -> Result<PairSet> {
        self.push(z, labels)?;
        let anchors = labels::read(labels, labels.elem_count())?;
        let Some(start) = self.len().checked_sub(anchors.len()) else {
            return Err(Error::Mismatch {
                left: "the memory",
                left_shape: vec![self.capacity],
                right: "embeddings",
                right_shape: z.dims().to_vec(),
                need: "the memory must hold at least one batch",
            });
        };
        Ok(PairSet::of(&anchors, &self.labels, |i| Some(start + i)))
    }

    /// A loss of a batch against the memory, which the batch enters first: z `[N, D]` as it is, labels `[N]` → one value per
    /// row. Gradient flows to the batch as anchors only.
    ///
    /// # Errors
    /// As [`push_and_pair`](Self::push_and_pair), and the loss' own.
    pub fn forward(
        &mut self,
        loss: &(impl PairLoss + ?Sized),
        z: &Tensor,
        labels: &Tensor,
    ) -> Result<PerAnchor> {
        let pairs = self.push_and_pair(z, labels)?;
        let references = self.embeddings.as_ref().unwrap_or(z);
        loss.forward_against(z, references, &pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MultiSimilarity;
    use candle_core::{DType, Device, Var};

    #[test]
    fn full_memory_forgets_the_oldest_and_refuses_large_batches() {
        let rows = |n: usize| Tensor::ones((n, 2), DType::F32, &Device::Cpu).unwrap();
        let labels = |n: usize| Tensor::arange(0, n as u32, &Device::Cpu).unwrap();
        let mut memory = CrossBatchMemory::new(4).unwrap();
        assert!(memory.is_empty() && memory.embeddings().is_none());
        memory.push(&rows(3), &labels(3)).unwrap();
        memory.push(&rows(3), &labels(3)).unwrap();
        assert_eq!(memory.labels(), [2, 0, 1, 2]);
        assert_eq!(memory.embeddings().unwrap().dims(), [4, 2]);
        let error = memory.push_and_pair(&rows(5), &labels(5)).unwrap_err();
        assert!(error.to_string().contains("at least one batch"), "{error}");
        let wide = Tensor::ones((1, 3), DType::F32, &Device::Cpu).unwrap();
        assert!(matches!(
            memory.push(&wide, &labels(1)),
            Err(Error::Mismatch { .. })
        ));
        assert!(CrossBatchMemory::new(0).is_err());
    }

    #[test]
    fn the_first_batch_has_the_value_of_the_loss_without_memory() {
        // Against its own detached copy a batch has the value of the plain loss.
        let z = Var::new(&[[1f64, 0.2], [0.9, -0.4], [-0.3, 1.0]], &Device::Cpu).unwrap();
        let labels = Tensor::new(&[0u32, 0, 1], &Device::Cpu).unwrap();
        let loss = MultiSimilarity::default();
        let plain = loss.forward(&z, &labels).unwrap().mean().unwrap();
        let mut memory = CrossBatchMemory::new(8).unwrap();
        let remembered = memory.forward(&loss, &z, &labels).unwrap().mean().unwrap();
        let value = |t: &Tensor| t.to_scalar::<f64>().unwrap();
        assert!((value(&plain) - value(&remembered)).abs() < 1e-14);
        let store = remembered.backward().unwrap();
        assert!(store.get(&z).is_some());
    }
}
