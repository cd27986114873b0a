//! Per-channel normalisation fitted on the training set: `y = (x/255 − mean) / std`.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::images::Images;

/// Mean and standard deviation of each channel, of values in 0..1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// R, G, B.
    pub mean: [f32; 3],
    /// R, G, B; above zero.
    pub std: [f32; 3],
}

impl Normalization {
    /// Leaves values in 0..1.
    pub const IDENTITY: Self = Self {
        mean: [0.0; 3],
        std: [1.0; 3],
    };

    /// Normalised values, RGB after RGB, as the bytes they came from: `255·(y·std + mean)`, rounded and cut to 0…255.
    pub fn to_bytes(&self, values: &[f32]) -> Vec<u8> {
        let byte = |(at, y): (usize, &f32)| {
            let x = y * self.std[at % 3] + self.mean[at % 3];
            (255.0 * x).round().clamp(0.0, 255.0) as u8
        };
        values.iter().enumerate().map(byte).collect()
    }

    /// Channel means and (biased) standard deviations over `indices`, from exact integer sums.
    /// A channel that never varies gets the standard deviation 1.
    ///
    /// # Errors
    /// If `indices` is empty or names an image that is not there.
    pub fn fit(images: &Images, indices: &[usize]) -> Result<Self> {
        images.check()?;
        images.check_indices(indices)?;
        if indices.is_empty() {
            return Err(Error::setting(
                "indices",
                "[]",
                "normalisation needs at least one image",
            ));
        }
        let mut sum = [0u64; 3];
        let mut squares = [0u64; 3];
        for &index in indices {
            for pixel in images.image(index).as_chunks::<3>().0 {
                for channel in 0..3 {
                    let value = u64::from(pixel[channel]);
                    sum[channel] += value;
                    squares[channel] += value * value;
                }
            }
        }
        let count = (indices.len() * images.height * images.width) as f64;
        let mut fitted = Self::IDENTITY;
        for channel in 0..3 {
            let mean = sum[channel] as f64 / count;
            let variance = (squares[channel] as f64 / count - mean * mean).max(0.0);
            fitted.mean[channel] = (mean / 255.0) as f32;
            if variance > 1e-9 {
                fitted.std[channel] = (variance.sqrt() / 255.0) as f32;
            }
        }
        Ok(fitted)
    }

    pub(crate) fn check(&self) -> Result<()> {
        let good = self.mean.iter().all(|m| m.is_finite())
            && self.std.iter().all(|s| s.is_finite() && *s > 0.0);
        if good {
            Ok(())
        } else {
            Err(Error::setting(
                "normalization",
                format!("{self:?}"),
                "means must be finite and deviations above zero",
            ))
        }
    }
}

impl Default for Normalization {
    fn default() -> Self {
        Self::IDENTITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_channels_apart() {
        let images = Images {
            height: 1,
            width: 2,
            pixels: vec![0, 10, 255, 255, 10, 255, 99, 99, 99, 99, 99, 99],
            labels: vec![0, 0],
        };
        let fitted = Normalization::fit(&images, &[0]).unwrap();
        assert_eq!(fitted.mean, [0.5, 10.0 / 255.0, 1.0]);
        assert_eq!(fitted.std, [0.5, 1.0, 1.0]);
        assert!(Normalization::fit(&images, &[]).is_err());
        assert!(Normalization::fit(&images, &[2]).is_err());
    }
}
