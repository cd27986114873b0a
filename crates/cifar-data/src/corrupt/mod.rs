//! Common corruptions: what a camera, the weather and a codec do to a photograph, at five severities.
//!
//! The families of Hendrycks & Dietterich 2019 (arXiv 1903.12261), with the constants that its authors used for 32×32 images
//! (CIFAR-10-C) where a higher severity always harms more by them. Glass blur, snow, frost and the elastic field have constants of
//! their own; snow, frost and fog are drawn here, not taken from photographs. Figures from these corruptions compare arms of one
//! run; they are not comparable with tables measured on the published CIFAR-10-C files.
//!
//! An image's corruption is a function of (seed, corruption, image index) and the severity: every severity draws the same random
//! numbers, so that a higher one is the same accident, only worse.

mod blur;
mod digital;
mod field;
mod noise;
mod weather;

use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::images::Images;
use crate::random::stream;

/// What is done to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Corruption {
    /// Normal noise of a standard deviation, each channel of each pixel.
    GaussianNoise,
    /// Poisson noise: few photons.
    ShotNoise,
    /// Salt and pepper: channels at full or at zero.
    ImpulseNoise,
    /// A disk as point spread: out of focus.
    DefocusBlur,
    /// Pixels swapped with near ones, between two blurs: frosted glass.
    GlassBlur,
    /// Smeared along a line: the camera moved.
    MotionBlur,
    /// A mean of enlargements: the camera moved towards the object.
    ZoomBlur,
    /// Flakes along a direction, and a whitened image.
    Snow,
    /// Crystals over the image.
    Frost,
    /// A plasma fractal of haze.
    Fog,
    /// More light.
    Brightness,
    /// Less contrast around the mean.
    Contrast,
    /// Stretched and compressed in small regions.
    ElasticTransform,
    /// Made small by averaging, and large by repeating.
    Pixelate,
    /// Written as JPEG of low quality, and read.
    JpegCompression,
}

/// The four families, over which errors are averaged too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CorruptionFamily {
    /// The sensor.
    Noise,
    /// The optics.
    Blur,
    /// The weather.
    Weather,
    /// The processing.
    Digital,
}

impl Corruption {
    /// All fifteen, in the order of the paper.
    pub const ALL: [Self; 15] = [
        Self::GaussianNoise,
        Self::ShotNoise,
        Self::ImpulseNoise,
        Self::DefocusBlur,
        Self::GlassBlur,
        Self::MotionBlur,
        Self::ZoomBlur,
        Self::Snow,
        Self::Frost,
        Self::Fog,
        Self::Brightness,
        Self::Contrast,
        Self::ElasticTransform,
        Self::Pixelate,
        Self::JpegCompression,
    ];

    /// The name, as the published files have it: `gaussian_noise`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::GaussianNoise => "gaussian_noise",
            Self::ShotNoise => "shot_noise",
            Self::ImpulseNoise => "impulse_noise",
            Self::DefocusBlur => "defocus_blur",
            Self::GlassBlur => "glass_blur",
            Self::MotionBlur => "motion_blur",
            Self::ZoomBlur => "zoom_blur",
            Self::Snow => "snow",
            Self::Frost => "frost",
            Self::Fog => "fog",
            Self::Brightness => "brightness",
            Self::Contrast => "contrast",
            Self::ElasticTransform => "elastic_transform",
            Self::Pixelate => "pixelate",
            Self::JpegCompression => "jpeg_compression",
        }
    }

    /// The family.
    pub fn family(self) -> CorruptionFamily {
        match self {
            Self::GaussianNoise | Self::ShotNoise | Self::ImpulseNoise => CorruptionFamily::Noise,
            Self::DefocusBlur | Self::GlassBlur | Self::MotionBlur | Self::ZoomBlur => {
                CorruptionFamily::Blur
            }
            Self::Snow | Self::Frost | Self::Fog | Self::Brightness => CorruptionFamily::Weather,
            Self::Contrast | Self::ElasticTransform | Self::Pixelate | Self::JpegCompression => {
                CorruptionFamily::Digital
            }
        }
    }
}

impl CorruptionFamily {
    /// `noise`, `blur`, `weather` or `digital`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Blur => "blur",
            Self::Weather => "weather",
            Self::Digital => "digital",
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Corruption {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL
            .into_iter()
            .find(|corruption| corruption.name() == text);
        found.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL
                .iter()
                .map(|corruption| corruption.name())
                .collect();
            Error::setting(
                "corruption",
                text,
                format!("use one of {}", names.join(", ")),
            )
        })
    }
}

/// A picture of values in 0..1, `[H, W, 3]`.
#[derive(Clone)]
struct Picture {
    height: usize,
    width: usize,
    values: Vec<f32>,
}

impl Picture {
    fn of(pixels: &[u8], height: usize, width: usize) -> Self {
        let values = pixels.iter().map(|&x| f32::from(x) / 255.0).collect();
        Self {
            height,
            width,
            values,
        }
    }

    /// Rounded to the nearest level, after clamping to 0..1.
    fn pixels(&self) -> Vec<u8> {
        self.values
            .iter()
            .map(|x| (x.clamp(0.0, 1.0) * 255.0).round() as u8)
            .collect()
    }

    /// A channel at a real place, bilinear, clamped to the picture.
    fn sample(&self, y: f32, x: f32, channel: usize) -> f32 {
        let (y, x) = (
            y.clamp(0.0, (self.height - 1) as f32),
            x.clamp(0.0, (self.width - 1) as f32),
        );
        let (top, left) = (y as usize, x as usize);
        let (bottom, right) = (
            (top + 1).min(self.height - 1),
            (left + 1).min(self.width - 1),
        );
        let (down, across) = (y - top as f32, x - left as f32);
        let at = |y: usize, x: usize| self.values[(y * self.width + x) * 3 + channel];
        let upper = at(top, left) + (at(top, right) - at(top, left)) * across;
        let lower = at(bottom, left) + (at(bottom, right) - at(bottom, left)) * across;
        upper + (lower - upper) * down
    }

    /// The picture whose pixel (y, x) is this one's at `from(y, x)`.
    fn warped(&self, from: impl Fn(usize, usize) -> (f32, f32)) -> Self {
        let mut values = Vec::with_capacity(self.values.len());
        for y in 0..self.height {
            for x in 0..self.width {
                let (there_y, there_x) = from(y, x);
                values.extend((0..3).map(|channel| self.sample(there_y, there_x, channel)));
            }
        }
        Self { values, ..*self }
    }
}

/// The images under a corruption, with their labels. Image `i` is corrupted as image `i`, whatever stands beside it.
///
/// # Errors
/// If `severity` is not 1 to 5, or the images do not fit together.
///
/// ```
/// use cifar_data::{Corruption, Images, corrupt};
/// let grey = Images { height: 8, width: 8, pixels: vec![128; 192], labels: vec![0] };
/// let dark = corrupt(&grey, Corruption::GaussianNoise, 5, 42)?;
/// assert_ne!(dark.pixels, grey.pixels);
/// assert_eq!(dark, corrupt(&grey, Corruption::GaussianNoise, 5, 42)?);
/// # Ok::<(), cifar_data::Error>(())
/// ```
pub fn corrupt(
    images: &Images,
    corruption: Corruption,
    severity: usize,
    seed: u64,
) -> Result<Images> {
    images.check()?;
    if !(1..=5).contains(&severity) {
        return Err(Error::setting("severity", severity, "use 1 to 5"));
    }
    let purpose = format!("corrupt: {corruption}");
    let parts: Vec<Vec<u8>> = images
        .pixels
        .par_chunks(images.image_len())
        .enumerate()
        .map(|(index, pixels)| {
            let mut rng = stream(seed, &purpose, &[index as u64]);
            let picture = Picture::of(pixels, images.height, images.width);
            apply(picture, corruption, severity - 1, &mut rng)
        })
        .collect::<Result<_>>()?;
    Ok(Images {
        pixels: parts.concat(),
        labels: images.labels.clone(),
        ..*images
    })
}

/// One picture; `level` is the severity from 0.
fn apply(
    picture: Picture,
    corruption: Corruption,
    level: usize,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<u8>> {
    let corrupted = match corruption {
        Corruption::GaussianNoise => noise::gaussian(picture, level, rng),
        Corruption::ShotNoise => noise::shot(picture, level, rng),
        Corruption::ImpulseNoise => noise::impulse(picture, level, rng),
        Corruption::DefocusBlur => blur::defocus(picture, level),
        Corruption::GlassBlur => blur::glass(picture, level, rng),
        Corruption::MotionBlur => blur::motion(picture, level, rng),
        Corruption::ZoomBlur => blur::zoom(picture, level),
        Corruption::Snow => weather::snow(picture, level, rng),
        Corruption::Frost => weather::frost(picture, level, rng),
        Corruption::Fog => weather::fog(picture, level, rng),
        Corruption::Brightness => weather::brightness(picture, level),
        Corruption::Contrast => digital::contrast(picture, level),
        Corruption::ElasticTransform => digital::elastic(picture, level, rng),
        Corruption::Pixelate => digital::pixelate(picture, level),
        Corruption::JpegCompression => return digital::jpeg(&picture, level),
    };
    Ok(corrupted.pixels())
}
