//! A fixed, stratified validation split carved from the training set.
//!
//! Class `c` with `n_c` of `N` images gives `v·n_c/N` of the `v` validation images, rounded by largest remainder (ties to
//! the smaller class number), drawn without replacement from the stream (seed, "validation split", c).

use crate::error::{Error, Result};
use crate::random::{shuffle, stream};

/// Indices of the two halves, each ascending; together they are all images, and they share none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// What is trained on.
    pub train: Vec<usize>,
    /// What selects: early stopping, the best checkpoint, a threshold.
    pub validation: Vec<usize>,
}

/// Sets `validation` of the images aside, the classes in proportion; the same seed gives the same split for ever.
///
/// ```
/// let labels: Vec<u32> = (0..100).map(|i| i % 10).collect();
/// let split = cifar_data::validation_split(&labels, 20, 42)?;
/// assert_eq!((split.train.len(), split.validation.len()), (80, 20));
/// # Ok::<(), cifar_data::Error>(())
/// ```
///
/// # Errors
/// If `validation` is not below the number of images.
pub fn validation_split(labels: &[u32], validation: usize, seed: u64) -> Result<Split> {
    stratified(labels, validation, seed, "validation split")
}

/// As [`validation_split`], from the stream of another purpose.
pub(crate) fn stratified(
    labels: &[u32],
    validation: usize,
    seed: u64,
    purpose: &str,
) -> Result<Split> {
    let total = labels.len();
    if validation >= total {
        return Err(Error::setting(
            "validation",
            validation,
            format!("at least one of the {total} images must be left to train on"),
        ));
    }
    let classes = labels.iter().max().map_or(0, |&label| label as usize + 1);
    let mut members = vec![Vec::new(); classes];
    for (index, &label) in labels.iter().enumerate() {
        members[label as usize].push(index);
    }
    let mut quota: Vec<usize> = members
        .iter()
        .map(|m| validation * m.len() / total)
        .collect();
    let mut by_remainder: Vec<usize> = (0..classes).collect();
    by_remainder.sort_by_key(|&c| (std::cmp::Reverse(validation * members[c].len() % total), c));
    let missing = validation - quota.iter().sum::<usize>();
    for &class in by_remainder.iter().take(missing) {
        quota[class] += 1;
    }

    let mut split = Split {
        train: Vec::with_capacity(total - validation),
        validation: Vec::with_capacity(validation),
    };
    for (class, (mut indices, quota)) in members.into_iter().zip(quota).enumerate() {
        shuffle(&mut indices, &mut stream(seed, purpose, &[class as u64]));
        split.validation.extend_from_slice(&indices[..quota]);
        split.train.extend_from_slice(&indices[quota..]);
    }
    split.train.sort_unstable();
    split.validation.sort_unstable();
    Ok(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_stratified_disjoint_complete_and_fixed() {
        let labels: Vec<u32> = (0..997u32)
            .map(|i| if i % 7 == 0 { 3 } else { i % 3 })
            .collect();
        let split = validation_split(&labels, 101, 9).unwrap();
        assert_eq!(split.validation.len(), 101);
        let mut all = [split.train.clone(), split.validation.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..997).collect::<Vec<_>>());
        for class in 0..4 {
            let whole = labels.iter().filter(|&&l| l == class).count() as f64;
            let part = split
                .validation
                .iter()
                .filter(|&&i| labels[i] == class)
                .count() as f64;
            assert!((part - whole * 101.0 / 997.0).abs() < 1.0);
        }
        assert_eq!(split, validation_split(&labels, 101, 9).unwrap());
        assert_ne!(split, validation_split(&labels, 101, 10).unwrap());
    }

    #[test]
    fn refuses_to_take_everything() {
        assert!(validation_split(&[0, 1], 2, 0).is_err());
        assert!(validation_split(&[], 0, 0).is_err());
        assert_eq!(validation_split(&[0, 1], 0, 0).unwrap().train, [0, 1]);
    }
}
