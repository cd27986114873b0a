//! Decoded images in memory: `pixels` is `[N, H, W, 3]` u8, RGB; `labels` is `[N]`.

use crate::error::{Error, Result};

/// A set of equally sized RGB images with their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// `[N, H, W, 3]`, row-major, RGB.
    pub pixels: Vec<u8>,
    /// `[N]`, class numbers from 0.
    pub labels: Vec<u32>,
}

impl Images {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one image, `H·W·3`.
    pub fn image_len(&self) -> usize {
        self.height * self.width * 3
    }

    /// The pixels of image `index`, `[H, W, 3]`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn image(&self, index: usize) -> &[u8] {
        let size = self.image_len();
        &self.pixels[index * size..(index + 1) * size]
    }

    /// The images at `indices`, in that order.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    pub fn subset(&self, indices: &[usize]) -> Self {
        let mut pixels = Vec::with_capacity(indices.len() * self.image_len());
        for &index in indices {
            pixels.extend_from_slice(self.image(index));
        }
        Self {
            height: self.height,
            width: self.width,
            pixels,
            labels: indices.iter().map(|&index| self.labels[index]).collect(),
        }
    }

    /// One more than the largest label.
    pub fn class_bound(&self) -> usize {
        self.labels
            .iter()
            .max()
            .map_or(0, |&label| label as usize + 1)
    }

    /// Checks that the vectors fit each other.
    pub(crate) fn check(&self) -> Result<()> {
        if self.image_len() == 0 || self.pixels.len() != self.len() * self.image_len() {
            return Err(Error::setting(
                "images.pixels.len()",
                self.pixels.len(),
                format!(
                    "{} images of {}×{}×3 need {} bytes and at least one pixel each",
                    self.len(),
                    self.height,
                    self.width,
                    self.len() * self.image_len()
                ),
            ));
        }
        Ok(())
    }

    /// Checks that every index names an image.
    pub(crate) fn check_indices(&self, indices: &[usize]) -> Result<()> {
        match indices.iter().find(|&&index| index >= self.len()) {
            Some(index) => Err(Error::setting(
                "indices",
                index,
                format!("there are {} images; every index must be below", self.len()),
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subset_keeps_pixels_beside_labels() {
        let images = Images {
            height: 1,
            width: 1,
            pixels: vec![0, 1, 2, 10, 11, 12, 20, 21, 22],
            labels: vec![5, 6, 7],
        };
        let picked = images.subset(&[2, 0]);
        assert_eq!(picked.pixels, [20, 21, 22, 0, 1, 2]);
        assert_eq!(picked.labels, [7, 5]);
        assert_eq!(
            (picked.len(), picked.class_bound(), images.image(1)),
            (2, 8, &[10u8, 11, 12][..])
        );
        assert!(images.check().is_ok());
        assert!(images.check_indices(&[3]).is_err());
    }
}
