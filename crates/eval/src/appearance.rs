//! What an image looks like in three numbers, without a network, and whether photographs of the training data look like that.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::photographs::Photographs;

/// Contrast and roughness of an image, of its luminance L = 0.299 R + 0.587 G + 0.114 B, 0 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Appearance {
    /// RMS contrast: the standard deviation σ of L over the image.
    pub contrast: f64,
    /// Mean |difference of neighbours| ÷ σ, along rows or columns, whichever is smaller; 0 in an image of one colour. Independent
    /// pixels have about 1.1, photographs some tenths.
    pub least_variation: f64,
    /// The same, whichever is larger.
    pub most_variation: f64,
}

impl Appearance {
    /// Of each photograph, in order.
    ///
    /// # Errors
    /// If the bytes are no whole number of photographs, at least one.
    pub fn of(photographs: &Photographs<'_>) -> Result<Vec<Self>> {
        let all: Vec<usize> = (0..photographs.count()?).collect();
        Self::of_rows(photographs, &all)
    }

    fn of_rows(photographs: &Photographs<'_>, rows: &[usize]) -> Result<Vec<Self>> {
        let count = photographs.count()?;
        if let Some(row) = rows.iter().find(|row| **row >= count) {
            return Err(Error::Invalid(format!(
                "row {row} of {count} photographs: rows must be below their number"
            )));
        }
        let of = |row: &usize| Self::of_one(photographs.image(*row), photographs.width);
        Ok(rows.par_iter().map(of).collect())
    }

    fn of_one(pixels: &[u8], width: usize) -> Self {
        // In thousandths, as whole numbers: exact, so that an image of one colour has no contrast at all.
        let luminance: Vec<i64> = pixels
            .chunks_exact(3)
            .map(|rgb| 299 * i64::from(rgb[0]) + 587 * i64::from(rgb[1]) + 114 * i64::from(rgb[2]))
            .collect();
        let n = luminance.len() as f64;
        let mean = luminance.iter().sum::<i64>() as f64 / n;
        let squares = luminance.iter().map(|&l| (l as f64 - mean).powi(2));
        let deviation = (squares.sum::<f64>() / n).sqrt();
        let ratio = |(sum, count): (u64, usize)| {
            let difference = sum as f64 / count.max(1) as f64;
            if sum > 0 { difference / deviation } else { 0.0 }
        };
        let rows = luminance.chunks_exact(width);
        let across = rows
            .flat_map(|row| row.windows(2))
            .fold((0, 0), |(sum, count), pair| {
                (sum + pair[0].abs_diff(pair[1]), count + 1)
            });
        let down = luminance.iter().zip(luminance.iter().skip(width));
        let down = down.fold((0, 0), |(sum, count), (a, b)| {
            (sum + a.abs_diff(*b), count + 1)
        });
        let (across, down) = (ratio(across), ratio(down));
        Self {
            contrast: deviation / 1000.0,
            least_variation: across.min(down),
            most_variation: across.max(down),
        }
    }

    fn named(&self) -> [(&'static str, f64); 3] {
        [
            ("contrast", self.contrast),
            ("least variation", self.least_variation),
            ("most variation", self.most_variation),
        ]
    }
}

/// The ranges that training photographs span in each number of [`Appearance`]: an image outside of one of them is unlike the training
/// data, whatever an encoder makes of it. It needs no network, so that a young encoder that maps everything among its photographs
/// cannot hide what is none.
///
/// It catches what has no contrast or too much of it (black, white, one colour, black and white patterns), what is rougher than a
/// photograph (noise, fine patterns) and what changes along one direction only (stripes). It cannot catch what has the contrast and the
/// roughness of a photograph and shows something else: writing, coarse patterns of moderate contrast, photographs of other things. These
/// are left to [`Familiarity`](crate::Familiarity).
///
/// A range goes from the 0.05 % quantile to the 99.95 % quantile, so that a few odd training images do not widen it, and at both ends
/// by 1/√n of that value further, as n images span less than all that are like them. At most about 0.3 % of like images lie outside of
/// any of the three, of many images; more of few.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PixelRanges {
    /// Smallest and largest contrast.
    pub contrast: [f64; 2],
    /// Smallest and largest least variation.
    pub least_variation: [f64; 2],
    /// Smallest and largest most variation.
    pub most_variation: [f64; 2],
    /// How many images they were taken from.
    pub images: usize,
}

impl PixelRanges {
    /// The share of the training images beyond each end of a range.
    const TAIL: f64 = 0.0005;

    /// Takes the ranges from the training photographs, `rows` of `photographs`.
    ///
    /// # Errors
    /// If there is no row or one beyond the photographs, or the bytes are no whole number of photographs.
    pub fn fit(photographs: &Photographs<'_>, rows: &[usize]) -> Result<Self> {
        let looks = Appearance::of_rows(photographs, rows)?;
        if looks.is_empty() {
            return Err(Error::Invalid(
                "ranges of pixels need at least one training photograph".to_owned(),
            ));
        }
        let n = looks.len();
        let skipped = (Self::TAIL * n as f64) as usize;
        let wider = 1.0 + 1.0 / (n as f64).sqrt();
        let range = |number: fn(&Appearance) -> f64| {
            let mut values: Vec<f64> = looks.iter().map(number).collect();
            values.sort_by(f64::total_cmp);
            [values[skipped] / wider, values[n - 1 - skipped] * wider]
        };
        Ok(Self {
            contrast: range(|a| a.contrast),
            least_variation: range(|a| a.least_variation),
            most_variation: range(|a| a.most_variation),
            images: n,
        })
    }

    /// What of an image lies outside: the number's name, its value, and the range. Nothing where the image is like the training data.
    pub fn outside(&self, image: &Appearance) -> Vec<(&'static str, f64, [f64; 2])> {
        let ranges = [self.contrast, self.least_variation, self.most_variation];
        image
            .named()
            .into_iter()
            .zip(ranges)
            .filter(|((_, value), [low, high])| !(low..=high).contains(&value))
            .map(|((name, value), range)| (name, value, range))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 16;

    fn image(grey: impl Fn(usize, usize) -> u8) -> Vec<u8> {
        let at = |at: usize| [grey(at / SIDE, at % SIDE); 3];
        (0..SIDE * SIDE).flat_map(at).collect()
    }

    fn many(images: &[Vec<u8>]) -> Vec<u8> {
        images.concat()
    }

    fn photographs(pixels: &[u8]) -> Photographs<'_> {
        Photographs {
            height: SIDE,
            width: SIDE,
            pixels,
        }
    }

    /// Bytes that look independent.
    fn random(y: usize, x: usize) -> u8 {
        // The finaliser of SplitMix64.
        let mut z = ((y * 1000 + x + 1) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z >> 40) as u8
    }

    /// Soft blobs of several sizes, places and strengths.
    fn soft(seed: usize) -> Vec<u8> {
        let (cy, cx) = ((seed * 7 % 11) as f64 + 2.0, (seed * 5 % 13) as f64 + 1.0);
        let (radius, strength) = (
            2.0 + (seed % 5) as f64,
            60.0 + 10.0 * (seed * 3 % 13) as f64,
        );
        image(|y, x| {
            let d = (y as f64 - cy).powi(2) + (x as f64 - cx).powi(2);
            let grain = f64::from(random(y + seed, x)) / 16.0;
            (30.0 + grain + strength * (-d / (2.0 * radius * radius)).exp()) as u8
        })
    }

    #[test]
    fn numbers_against_patterns_whose_values_are_known() {
        let flat = image(|_, _| 90);
        let fine = image(|y, x| ((y + x) % 2) as u8 * 200);
        let rows = image(|y, _| (y % 2) as u8 * 200);
        let all = Appearance::of(&photographs(&many(&[flat, fine, rows]))).unwrap();
        let numbers = |a: &Appearance| [a.contrast, a.least_variation, a.most_variation];
        for (got, expected) in
            all.iter()
                .zip([[0.0, 0.0, 0.0], [100.0, 2.0, 2.0], [100.0, 0.0, 2.0]])
        {
            let close = numbers(got)
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-9);
            assert!(close, "{got:?} {expected:?}");
        }
        let noise = image(random);
        let noise = Appearance::of(&photographs(&noise)).unwrap()[0];
        // E|a − b| of independent uniform values is a third of their width, and σ is that width over √12: 1.155.
        assert!(
            noise.least_variation > 1.0 && noise.most_variation < 1.3,
            "{noise:?}"
        );
        assert!(Appearance::of(&photographs(&[1, 2])).is_err());
    }

    #[test]
    fn what_is_no_photograph_is_outside_and_what_is_one_is_not() {
        let train: Vec<Vec<u8>> = (0..200).map(soft).collect();
        let pixels = many(&train);
        let photos = photographs(&pixels);
        let rows: Vec<usize> = (0..200).collect();
        let ranges = PixelRanges::fit(&photos, &rows).unwrap();
        assert_eq!(ranges.images, 200);
        let outside = |image: &[u8]| {
            let looks = Appearance::of(&photographs(image)).unwrap();
            let found = ranges.outside(&looks[0]).into_iter();
            found.map(|(name, ..)| name).collect::<Vec<_>>()
        };
        for seed in 200..300 {
            assert!(outside(&soft(seed)).is_empty(), "{seed}");
        }
        assert!(outside(&image(|_, _| 0)).contains(&"contrast"));
        assert!(outside(&image(|_, _| 128)).contains(&"contrast"));
        assert!(outside(&image(random)).contains(&"least variation"));
        assert!(outside(&image(|y, _| 90 + (y / 2 % 2) as u8 * 40)).contains(&"least variation"));
        assert!(outside(&image(|y, x| ((y / 2 + x / 2) % 2) as u8 * 255)).contains(&"contrast"));
        // A training image of one colour among many widens nothing: it is beyond the quantile.
        let blank = [pixels.repeat(12), vec![7; SIDE * SIDE * 3]].concat();
        let rows: Vec<usize> = (0..2401).collect();
        let robust = PixelRanges::fit(&photographs(&blank), &rows).unwrap();
        assert!(robust.contrast[0] > 1.0, "{robust:?}");
        assert!(PixelRanges::fit(&photos, &[]).is_err());
        assert!(PixelRanges::fit(&photos, &[200]).is_err());
    }
}
