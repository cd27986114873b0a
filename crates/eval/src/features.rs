//! Features of images: what an encoder makes of them, before any head.

use std::collections::BTreeMap;
use std::path::Path;

use crate::atomic::write_atomically;
use crate::error::{Error, Result};
use crate::tensors;

/// N features of `dim` numbers, with the images' classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Numbers per feature.
    pub dim: usize,
    /// `[N, dim]`, row by row.
    pub values: Vec<f32>,
    /// `[N]`.
    pub labels: Vec<u32>,
}

impl Features {
    /// Checked features.
    ///
    /// # Errors
    /// If there are no rows or columns, the lengths do not fit, or a value is not finite.
    pub fn new(dim: usize, values: Vec<f32>, labels: Vec<u32>) -> Result<Self> {
        let features = Self {
            dim,
            values,
            labels,
        };
        features.check()?;
        Ok(features)
    }

    /// Number of features.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no features.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// One feature.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..][..self.dim]
    }

    /// At most `rows` of the features, as many of each class as of any other while they last, in their order.
    ///
    /// Of a class the chosen are spread evenly over its features: no chance is involved.
    pub fn balanced_subset(&self, rows: usize) -> Self {
        if self.len() <= rows {
            return self.clone();
        }
        let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (index, &label) in self.labels.iter().enumerate() {
            classes.entry(label).or_default().push(index);
        }
        // Smallest classes first: what they do not use is shared among the others.
        let mut members: Vec<Vec<usize>> = classes.into_values().collect();
        members.sort_by_key(Vec::len);
        let (mut left, mut chosen) = (rows, Vec::with_capacity(rows));
        let classes = members.len();
        for (place, class) in members.iter().enumerate() {
            let take = class.len().min(left / (classes - place));
            chosen.extend((0..take).map(|i| class[i * class.len() / take]));
            left -= take;
        }
        chosen.sort_unstable();
        Self {
            dim: self.dim,
            values: chosen
                .iter()
                .flat_map(|&index| self.row(index))
                .copied()
                .collect(),
            labels: chosen.iter().map(|&index| self.labels[index]).collect(),
        }
    }

    /// Writes a safetensors file (`features` `[N, dim]`, `labels` `[N]`), whole or not at all.
    ///
    /// # Errors
    /// If the features are not sound or the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.check()?;
        write_atomically(
            path,
            &tensors::to_bytes("features", self.dim, &self.values, &self.labels)?,
        )
    }

    /// Reads and checks what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// If the file cannot be read or does not hold sound features.
    pub fn load(path: &Path) -> Result<Self> {
        let (dim, values, labels) = tensors::read(path, "features")?;
        Self::new(dim, values, labels)
            .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let (rows, dim) = (self.labels.len(), self.dim);
        if rows == 0 || dim == 0 {
            return Err(Error::Invalid(format!(
                "features need at least one row and one column, got {rows} rows of {dim}"
            )));
        }
        if rows.checked_mul(dim) != Some(self.values.len()) {
            return Err(Error::Invalid(format!(
                "{rows} features of {dim} need {rows} × {dim} values, got {}",
                self.values.len()
            )));
        }
        match self.values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(Error::Invalid(format!(
                "value {} of feature {} is {}; the encoder diverged or its file is damaged",
                at % dim,
                at / dim,
                self.values[at]
            ))),
            None => Ok(()),
        }
    }

    /// The features scaled to unit length; a feature of zeros stays so.
    pub(crate) fn unit(&self) -> Self {
        let mut unit = self.clone();
        for row in unit.values.chunks_mut(self.dim) {
            let length = row
                .iter()
                .map(|&x| f64::from(x) * f64::from(x))
                .sum::<f64>()
                .sqrt();
            if length > 0.0 {
                row.iter_mut()
                    .for_each(|x| *x = (f64::from(*x) / length) as f32);
            }
        }
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balanced_subset_shares_evenly_and_spreads() {
        let labels = [vec![0; 10], vec![1; 2], vec![2; 6]].concat();
        let features = Features::new(1, (0..18).map(|i| i as f32).collect(), labels).unwrap();
        let subset = features.balanced_subset(9);
        // Class 1 has only two; the other seven are shared by classes 2 (three) and 0 (four).
        assert_eq!(subset.labels, [0, 0, 0, 0, 1, 1, 2, 2, 2]);
        assert_eq!(
            subset.values,
            [0.0, 2.0, 5.0, 7.0, 10.0, 11.0, 12.0, 14.0, 16.0]
        );
        assert_eq!(features.balanced_subset(18), features);
        assert_eq!(features.balanced_subset(2).labels, [0, 2]);
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("features.safetensors");
        let features = Features::new(2, vec![1.0, -2.0, 0.5, 1e-40], vec![9, 0]).unwrap();
        features.save(&path).unwrap();
        features.save(&path).unwrap();
        assert_eq!(Features::load(&path).unwrap(), features);
        std::fs::write(&path, b"nonsense").unwrap();
        assert!(Features::load(&path).is_err());
    }

    #[test]
    fn unsound_features_are_named() {
        let message = |dim, values: &[f32], labels: &[u32]| {
            Features::new(dim, values.to_vec(), labels.to_vec())
                .unwrap_err()
                .to_string()
        };
        assert!(message(2, &[], &[]).contains("0 rows"));
        assert!(message(0, &[], &[1]).contains("rows of 0"));
        assert!(message(2, &[0.0; 3], &[0, 1]).contains("got 3"));
        assert!(message(2, &[0.0, f32::INFINITY], &[0]).contains("value 1 of feature 0 is inf"));
    }

    #[test]
    fn unit_features_have_length_one_or_zero() {
        let features = Features::new(2, vec![3e20, 4e20, 0.0, 0.0], vec![0, 0]).unwrap();
        assert_eq!(features.unit().values, [0.6, 0.8, 0.0, 0.0]);
    }
}
