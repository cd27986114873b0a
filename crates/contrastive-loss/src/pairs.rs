//! Which pairs of rows attract and which repel: P(i), the other rows of i's label, and the negatives, rows of other labels.

use std::collections::HashMap;
use std::hash::Hash;

use candle_core::{Device, Tensor};

use crate::Result;

/// The partition of a batch into groups that share a label; a row's positives are the other rows of its group.
#[derive(Clone, Debug)]
pub(crate) struct Pairs {
    /// The group of each row, numbered by first appearance.
    group: Vec<usize>,
    /// Rows per group.
    sizes: Vec<usize>,
}

impl Pairs {
    /// Groups rows by label.
    pub(crate) fn from_labels<L: Eq + Hash>(labels: impl IntoIterator<Item = L>) -> Self {
        let mut numbers = HashMap::new();
        let mut sizes = Vec::new();
        let mut group = Vec::new();
        for label in labels {
            let number = *numbers.entry(label).or_insert(sizes.len());
            if number == sizes.len() {
                sizes.push(0);
            }
            sizes[number] += 1;
            group.push(number);
        }
        Self { group, sizes }
    }

    /// Groups the views of one sample, in view-major order: row v·B + i is view v of sample i.
    pub(crate) fn from_views(rows: usize, views: usize) -> Self {
        let samples = rows / views;
        Self::from_labels((0..samples * views).map(|row| row % samples))
    }

    /// The group of each row.
    pub(crate) fn groups_of_rows(&self) -> Vec<u32> {
        self.group.iter().map(|&group| group as u32).collect()
    }

    /// N.
    pub(crate) fn rows(&self) -> usize {
        self.group.len()
    }

    /// How many different labels there are.
    pub(crate) fn groups(&self) -> usize {
        self.sizes.len()
    }

    /// n_i: how many rows carry row i's label, itself counted.
    pub(crate) fn group_size(&self, row: usize) -> usize {
        self.sizes[self.group[row]]
    }

    /// |P(i)|.
    pub(crate) fn positives(&self, row: usize) -> usize {
        self.group_size(row) - 1
    }

    /// How many rows carry another label than row i.
    pub(crate) fn negatives(&self, row: usize) -> usize {
        self.rows() - self.group_size(row)
    }

    /// (|P(i)|, how many negatives) of every row.
    pub(crate) fn counts(&self) -> Vec<(usize, usize)> {
        let rows = 0..self.rows();
        rows.map(|row| (self.positives(row), self.negatives(row)))
            .collect()
    }

    /// Rows without a positive, rows without a negative.
    pub(crate) fn lonely(&self) -> (usize, usize) {
        lonely(&self.counts())
    }

    /// Mask `[N, N]` of P(i).
    pub(crate) fn positive_mask(&self, device: &Device) -> Result<Tensor> {
        self.mask(device, |i, j| i != j && self.group[i] == self.group[j])
    }

    /// Mask `[N, N]` of the rows with i's label, i included.
    pub(crate) fn same_mask(&self, device: &Device) -> Result<Tensor> {
        self.mask(device, |i, j| self.group[i] == self.group[j])
    }

    /// Mask `[N, N]` of the rows with another label.
    pub(crate) fn negative_mask(&self, device: &Device) -> Result<Tensor> {
        self.mask(device, |i, j| self.group[i] != self.group[j])
    }

    /// Mask `[N, N]` of S_i, all rows but i.
    pub(crate) fn other_mask(&self, device: &Device) -> Result<Tensor> {
        self.mask(device, |i, j| i != j)
    }

    fn mask(&self, device: &Device, holds: impl Fn(usize, usize) -> bool) -> Result<Tensor> {
        let rows = self.rows();
        let mut mask = Vec::with_capacity(rows * rows);
        for i in 0..rows {
            mask.extend((0..rows).map(|j| u8::from(holds(i, j))));
        }
        Ok(Tensor::from_vec(mask, (rows, rows), device)?)
    }
}

/// Of rows with so many positives and negatives: how many lack the first, how many the second.
pub(crate) fn lonely(counts: &[(usize, usize)]) -> (usize, usize) {
    (
        counts.iter().filter(|count| count.0 == 0).count(),
        counts.iter().filter(|count| count.1 == 0).count(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_masks_of_a_small_batch() {
        let pairs = Pairs::from_labels([7i64, 7, -1, 7]);
        assert_eq!(
            (pairs.rows(), pairs.groups(), pairs.lonely()),
            (4, 2, (1, 0))
        );
        assert_eq!(
            (pairs.positives(0), pairs.negatives(0), pairs.positives(2)),
            (2, 1, 0)
        );
        let mask = |t: Result<Tensor>| t.unwrap().to_vec2::<u8>().unwrap();
        let positives = mask(pairs.positive_mask(&Device::Cpu));
        assert_eq!(
            positives,
            [[0, 1, 0, 1], [1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]]
        );
        let negatives = mask(pairs.negative_mask(&Device::Cpu));
        assert_eq!(
            negatives,
            [[0, 0, 1, 0], [0, 0, 1, 0], [1, 1, 0, 1], [0, 0, 1, 0]]
        );
    }

    #[test]
    fn views_are_view_major() {
        let pairs = Pairs::from_views(6, 2);
        assert_eq!(pairs.group, [0, 1, 2, 0, 1, 2]);
    }
}
