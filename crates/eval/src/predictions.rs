//! A classifier's logits on a split: written once, read by every metric.

use std::path::Path;

use crate::atomic::write_once;
use crate::error::{Error, Result};
use crate::tensors;

/// Logits of N images over some classes, with the true classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    /// Number of classes.
    pub classes: usize,
    /// `[N, classes]`, row by row.
    pub logits: Vec<f32>,
    /// `[N]`, each below `classes`.
    pub labels: Vec<u32>,
}

impl Predictions {
    /// Checked predictions.
    ///
    /// # Errors
    /// If there are no rows or classes, the lengths do not fit, a logit is not finite, or a label is not below `classes`.
    pub fn new(classes: usize, logits: Vec<f32>, labels: Vec<u32>) -> Result<Self> {
        let predictions = Self {
            classes,
            logits,
            labels,
        };
        predictions.check()?;
        Ok(predictions)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The logits of one image.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn row(&self, index: usize) -> &[f32] {
        &self.logits[index * self.classes..][..self.classes]
    }

    /// Writes a safetensors file (`logits` `[N, classes]`, `labels` `[N]`), whole or not at all, **once**.
    ///
    /// # Errors
    /// If the predictions are not sound, the file exists already, or it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.check()?;
        write_once(
            path,
            &tensors::to_bytes("logits", self.classes, &self.logits, &self.labels)?,
        )
    }

    /// Reads and checks what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// If the file cannot be read or does not hold sound predictions.
    pub fn load(path: &Path) -> Result<Self> {
        let (classes, logits, labels) = tensors::read(path, "logits")?;
        Self::new(classes, logits, labels)
            .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let (rows, classes) = (self.labels.len(), self.classes);
        if rows == 0 || classes == 0 {
            return Err(Error::Invalid(format!(
                "predictions need at least one image and one class, got {rows} images and {classes} classes"
            )));
        }
        if rows.checked_mul(classes) != Some(self.logits.len()) {
            return Err(Error::Invalid(format!(
                "{rows} images over {classes} classes need {rows} × {classes} logits, got {}",
                self.logits.len()
            )));
        }
        if let Some(at) = self.logits.iter().position(|logit| !logit.is_finite()) {
            return Err(Error::Invalid(format!(
                "the logit of image {} for class {} is {}; the network diverged or its file is damaged",
                at / classes,
                at % classes,
                self.logits[at]
            )));
        }
        if let Some(at) = self
            .labels
            .iter()
            .position(|&label| label as usize >= classes)
        {
            return Err(Error::Invalid(format!(
                "image {at} has label {}, but there are only {classes} classes",
                self.labels[at]
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Predictions {
        Predictions::new(3, vec![0.0, 1.0, 2.0, -1.5, 0.25, 1e-30], vec![2, 0]).unwrap()
    }

    #[test]
    fn reads_back_what_it_wrote_and_refuses_to_overwrite() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("predictions.safetensors");
        two().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(Predictions::load(&path).unwrap(), two());
        assert!(matches!(
            two().save(&path),
            Err(Error::AlreadyWritten { .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let again = folder.path().join("again.safetensors");
        two().save(&again).unwrap();
        assert_eq!(std::fs::read(&again).unwrap(), bytes);
    }

    #[test]
    fn unsound_predictions_are_named() {
        let message = |classes, logits: &[f32], labels: &[u32]| {
            Predictions::new(classes, logits.to_vec(), labels.to_vec())
                .unwrap_err()
                .to_string()
        };
        assert!(message(3, &[], &[]).contains("0 images"));
        assert!(message(2, &[0.0; 3], &[0, 1]).contains("2 × 2 logits, got 3"));
        assert!(
            message(2, &[0.0, 1.0, f32::NAN, 0.0], &[0, 1]).contains("image 1 for class 0 is NaN")
        );
        assert!(message(2, &[0.0; 4], &[0, 2]).contains("image 1 has label 2"));
    }

    #[test]
    fn damaged_files_are_errors_that_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("predictions.safetensors");
        two().save(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let bad = folder.path().join("bad.safetensors");
        for cut in 0..whole.len() {
            std::fs::write(&bad, &whole[..cut]).unwrap();
            assert!(
                Predictions::load(&bad)
                    .unwrap_err()
                    .to_string()
                    .contains("bad.safetensors")
            );
        }
        std::fs::write(
            &bad,
            tensors::to_bytes("features", 1, &[0.0], &[0]).unwrap(),
        )
        .unwrap();
        assert!(
            Predictions::load(&bad)
                .unwrap_err()
                .to_string()
                .contains("logits")
        );
        assert!(
            Predictions::load(&folder.path().join("absent"))
                .unwrap_err()
                .to_string()
                .contains("absent")
        );
    }
}
