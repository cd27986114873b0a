//! Which pairs a loss looks at, as a miner, a memory or the labels chose them.

use candle_core::{Device, Tensor};

use crate::pairs::lonely;
use crate::{Error, Result, labels};

/// A set of attracting and repelling pairs between N anchors and M references (the anchors themselves, or a memory).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairSet {
    rows: usize,
    columns: usize,
    /// `[N, M]`, row-major.
    positive: Vec<u8>,
    /// `[N, M]`, row-major.
    negative: Vec<u8>,
}

impl PairSet {
    /// All pairs within a batch: labels `[N]` (an integer type). A row is no pair with itself.
    ///
    /// # Errors
    /// If the labels are not a vector of integers.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// let pairs = contrastive_loss::PairSet::from_labels(&Tensor::new(&[0u32, 0, 1], &Device::Cpu)?)?;
    /// assert_eq!(pairs.positives(), [(0, 1), (1, 0)]);
    /// assert_eq!(pairs.negatives().len(), 4);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_labels(labels: &Tensor) -> Result<Self> {
        let labels = labels::read(labels, labels.elem_count())?;
        Ok(Self::of(&labels, &labels, Some))
    }

    /// All pairs of anchors, labels `[N]`, with references, labels `[M]`.
    ///
    /// # Errors
    /// If either is not a vector of integers.
    pub fn against(labels: &Tensor, references: &Tensor) -> Result<Self> {
        let labels = labels::read(labels, labels.elem_count())?;
        let references = labels::read(references, references.elem_count())?;
        Ok(Self::of(&labels, &references, |_| None))
    }

    /// Pairs by number: (anchor, reference).
    ///
    /// # Errors
    /// If a number is out of range, or a pair is in both lists.
    pub fn from_pairs(
        rows: usize,
        columns: usize,
        positives: &[(usize, usize)],
        negatives: &[(usize, usize)],
    ) -> Result<Self> {
        let mut set = Self::empty(rows, columns);
        for (pairs, into_positive) in [(positives, true), (negatives, false)] {
            for &(i, j) in pairs {
                if i >= rows || j >= columns {
                    return Err(Error::Pair {
                        pair: (i, j),
                        rows,
                        columns,
                        need: "both numbers must lie within the matrix",
                    });
                }
                let at = i * columns + j;
                if into_positive {
                    set.positive[at] = 1;
                } else if set.positive[at] == 0 {
                    set.negative[at] = 1;
                } else {
                    return Err(Error::Pair {
                        pair: (i, j),
                        rows,
                        columns,
                        need: "a pair attracts or repels, not both",
                    });
                }
            }
        }
        Ok(set)
    }

    /// Groups by label; `own(i)` is the reference that is anchor i itself.
    pub(crate) fn of(
        labels: &[i64],
        references: &[i64],
        own: impl Fn(usize) -> Option<usize>,
    ) -> Self {
        let mut set = Self::empty(labels.len(), references.len());
        for (i, label) in labels.iter().enumerate() {
            let own = own(i);
            for (j, reference) in references.iter().enumerate() {
                let at = i * set.columns + j;
                if Some(j) != own {
                    set.positive[at] = (label == reference).into();
                    set.negative[at] = (label != reference).into();
                }
            }
        }
        set
    }

    fn empty(rows: usize, columns: usize) -> Self {
        Self {
            rows,
            columns,
            positive: vec![0; rows * columns],
            negative: vec![0; rows * columns],
        }
    }

    /// N.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// M.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The attracting pairs, ordered by anchor.
    pub fn positives(&self) -> Vec<(usize, usize)> {
        self.list(&self.positive)
    }

    /// The repelling pairs, ordered by anchor.
    pub fn negatives(&self) -> Vec<(usize, usize)> {
        self.list(&self.negative)
    }

    fn list(&self, mask: &[u8]) -> Vec<(usize, usize)> {
        (0..mask.len())
            .filter(|&at| mask[at] == 1)
            .map(|at| (at / self.columns, at % self.columns))
            .collect()
    }

    /// The references that attract anchor `row`.
    pub(crate) fn positives_of(&self, row: usize) -> impl Iterator<Item = usize> {
        Self::ones(&self.positive[row * self.columns..(row + 1) * self.columns])
    }

    /// The references that repel anchor `row`.
    pub(crate) fn negatives_of(&self, row: usize) -> impl Iterator<Item = usize> {
        Self::ones(&self.negative[row * self.columns..(row + 1) * self.columns])
    }

    fn ones(mask: &[u8]) -> impl Iterator<Item = usize> {
        mask.iter()
            .enumerate()
            .filter(|&(_, &one)| one == 1)
            .map(|(j, _)| j)
    }

    /// (|P(i)|, |N(i)|) of every anchor.
    pub(crate) fn counts(&self) -> Vec<(usize, usize)> {
        (0..self.rows)
            .map(|row| {
                (
                    self.positives_of(row).count(),
                    self.negatives_of(row).count(),
                )
            })
            .collect()
    }

    /// Anchors without a positive, anchors without a negative.
    pub(crate) fn lonely(&self) -> (usize, usize) {
        lonely(&self.counts())
    }

    /// The least mean cosine of the repelling pairs: −1/(C − 1) if the pairs are those of C labels with as many rows each
    /// (Σ_ij z_i·z_j ≥ 0, attained by a regular simplex, Graf et al. 2021), −1 otherwise.
    pub(crate) fn simplex_cosine(&self) -> f64 {
        let counts = self.counts();
        let Some(&(positives, negatives)) = counts.first() else {
            return -1.0;
        };
        let size = positives + 1;
        let balanced = self.rows == self.columns
            && size + negatives == self.rows
            && negatives > 0
            && self.rows.is_multiple_of(size)
            && counts.iter().all(|&count| count == (positives, negatives))
            && (0..self.rows).all(|i| {
                let at = i * (self.columns + 1);
                self.positive[at] == 0 && self.negative[at] == 0
            });
        if balanced {
            -(size as f64) / negatives as f64
        } else {
            -1.0
        }
    }

    /// Mask `[N, M]` of the attracting pairs.
    pub(crate) fn positive_mask(&self, device: &Device) -> Result<Tensor> {
        Ok(Tensor::from_slice(
            &self.positive,
            (self.rows, self.columns),
            device,
        )?)
    }

    /// Mask `[N, M]` of the repelling pairs.
    pub(crate) fn negative_mask(&self, device: &Device) -> Result<Tensor> {
        Ok(Tensor::from_slice(
            &self.negative,
            (self.rows, self.columns),
            device,
        )?)
    }

    /// Mask `[N, M]` of both.
    pub(crate) fn any_mask(&self, device: &Device) -> Result<Tensor> {
        let any: Vec<u8> = self
            .positive
            .iter()
            .zip(&self.negative)
            .map(|(p, n)| p | n)
            .collect();
        Ok(Tensor::from_vec(any, (self.rows, self.columns), device)?)
    }

    /// Refuses a matrix of another shape.
    pub(crate) fn check_matrix(&self, matrix: &Tensor) -> Result<()> {
        if matrix.dims() != [self.rows, self.columns] {
            return Err(Error::Mismatch {
                left: "the matrix",
                left_shape: matrix.dims().to_vec(),
                right: "the set of pairs",
                right_shape: vec![self.rows, self.columns],
                need: "both need a row for each anchor and a column for each reference",
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_by_number_are_checked() {
        assert!(PairSet::from_pairs(2, 2, &[(0, 2)], &[]).is_err());
        let both = PairSet::from_pairs(2, 2, &[(0, 1)], &[(0, 1)]).unwrap_err();
        assert!(both.to_string().contains("not both"), "{both}");
        let set = PairSet::from_pairs(2, 3, &[(0, 2)], &[(1, 0), (1, 1)]).unwrap();
        assert_eq!((set.counts(), set.lonely()), (vec![(1, 0), (0, 2)], (1, 1)));
    }

    #[test]
    fn references_pair_with_every_anchor() {
        let labels = Tensor::new(&[1u32, 2], &Device::Cpu).unwrap();
        let references = Tensor::new(&[2u32, 1, 1], &Device::Cpu).unwrap();
        let set = PairSet::against(&labels, &references).unwrap();
        assert_eq!(set.positives(), [(0, 1), (0, 2), (1, 0)]);
        assert_eq!(set.negatives(), [(0, 0), (1, 1), (1, 2)]);
    }
}
