//! What is done to an image: one struct with named fields, and the policies that fill it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How images are mirrored left to right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flip {
    /// Never.
    #[default]
    None,
    /// Each view of each image with probability ½.
    Random,
    /// A coin per image decides for epoch 0; every epoch and every view turns it over (airbench), so that two epochs show
    /// each image both ways.
    Alternating,
}

/// What stands beyond the edge when an image is padded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pad {
    /// The mirror image without the edge itself (`d c b | a b c d | c b a`, torch's `reflect`).
    #[default]
    Reflect,
    /// Black.
    Zero,
}

/// Pads by `pad` pixels on each side and cuts the original size out at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PadCrop {
    /// Pixels on each side.
    pub pad: usize,
    /// What they are.
    #[serde(default)]
    pub mode: Pad,
}

/// Width and height multiplied independently by a factor uniform in `1 ± range`, about the centre, on a canvas of the
/// original size; what is missing is reflected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// Range for the width, 0.2 for ±20 %.
    pub width: f32,
    /// Range for the height.
    pub height: f32,
}

/// torchvision's `RandomResizedCrop`: area uniform in `scale`, log of the aspect ratio uniform in `ratio`, ten tries, then
/// the centre crop within the ratio; bilinear sampling (the crop is never larger than the result, so antialiasing has
/// nothing to do and Pillow and tensors agree up to rounding).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomResizedCrop {
    /// Least and greatest share of the image's area.
    pub scale: [f32; 2],
    /// Least and greatest width / height.
    #[serde(default = "default_ratio")]
    pub ratio: [f32; 2],
}

fn default_ratio() -> [f32; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

/// torchvision's `ColorJitter` under `RandomApply`: brightness, contrast and saturation by factors uniform in
/// `max(0, 1 − x)..1 + x`, hue by a share of the circle uniform in `±hue`, in random order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColorJitter {
    /// Range of the brightness factor.
    pub brightness: f32,
    /// Range of the contrast factor.
    pub contrast: f32,
    /// Range of the saturation factor.
    pub saturation: f32,
    /// Range of the hue shift, at most 0.5.
    pub hue: f32,
    /// Share of the views it is applied to.
    pub probability: f32,
}

/// Everything that can be done to an image. [`Default`] does nothing but normalise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Mirror left to right.
    pub flip: Flip,
    /// Rotate by an angle uniform in ± this many turns (0.02 is 7.2°); bilinear, missing pixels reflected with the edge
    /// (Keras's `reflect`).
    pub rotation: f32,
    /// Stretch or shrink.
    pub scaling: Option<Scaling>,
    /// Pad and crop.
    pub pad_crop: Option<PadCrop>,
    /// Crop and resize.
    pub random_resized_crop: Option<RandomResizedCrop>,
    /// Change colours.
    pub jitter: Option<ColorJitter>,
    /// Share of the views turned grey.
    pub grey: f32,
    /// Side of a square that is set to the mean colour, its centre anywhere in the image; 0 is off.
    pub cutout: usize,
}

impl Augmentation {
    /// Checks every range, for images of `height`×`width`.
    ///
    /// # Errors
    /// Names the first field out of range.
    pub fn check(&self, height: usize, width: usize) -> Result<()> {
        let within = |field, value: f32, low: f32, high: f32| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Error::setting(
                    field,
                    value,
                    format!("a number from {low} to {high} is accepted"),
                ))
            }
        };
        within("augment.rotation", self.rotation, 0.0, 0.5)?;
        within("augment.grey", self.grey, 0.0, 1.0)?;
        if let Some(scaling) = self.scaling {
            within("augment.scaling.width", scaling.width, 0.0, 0.9)?;
            within("augment.scaling.height", scaling.height, 0.0, 0.9)?;
        }
        if let Some(PadCrop { pad, mode }) = self.pad_crop {
            let limit = match mode {
                Pad::Reflect => height.min(width).saturating_sub(1),
                Pad::Zero => height.min(width),
            };
            if pad > limit {
                return Err(Error::setting(
                    "augment.pad_crop.pad",
                    pad,
                    format!("at most {limit} pixels fit images of {height}×{width}"),
                ));
            }
        }
        if let Some(RandomResizedCrop { scale, ratio }) = self.random_resized_crop {
            within("augment.random_resized_crop.scale[0]", scale[0], 1e-3, 1.0)?;
            within(
                "augment.random_resized_crop.scale[1]",
                scale[1],
                scale[0],
                1.0,
            )?;
            within("augment.random_resized_crop.ratio[0]", ratio[0], 0.05, 20.0)?;
            within(
                "augment.random_resized_crop.ratio[1]",
                ratio[1],
                ratio[0],
                20.0,
            )?;
        }
        if let Some(jitter) = self.jitter {
            within("augment.jitter.brightness", jitter.brightness, 0.0, 10.0)?;
            within("augment.jitter.contrast", jitter.contrast, 0.0, 10.0)?;
            within("augment.jitter.saturation", jitter.saturation, 0.0, 10.0)?;
            within("augment.jitter.hue", jitter.hue, 0.0, 0.5)?;
            within("augment.jitter.probability", jitter.probability, 0.0, 1.0)?;
        }
        if self.cutout > height.max(width) {
            return Err(Error::setting(
                "augment.cutout",
                self.cutout,
                format!("at most {} is accepted", height.max(width)),
            ));
        }
        Ok(())
    }
}

/// A named augmentation.
///
/// | policy | flip | geometry | colour | source |
/// |---|---|---|---|---|
/// | `none` | – | – | – | |
/// | `keras` | random | rotation ±0.02 turn | – | Keras's supervised contrastive example |
/// | `light` | alternating | reflect-pad 2, crop | – | airbench94 |
/// | `standard` | alternating | reflect-pad 4, crop | – | airbench96 |
/// | `supcon` | random | resized crop (0.2, 1) | jitter (.4,.4,.4,.1) p .8, grey .2 | SupContrast |
/// | `simclr` | random | resized crop (0.08, 1) | jitter (.4,.4,.4,.1) p .8 (strength 0.5), grey .2 | SimCLR on CIFAR-10 |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Normalise only.
    #[default]
    None,
    /// Keras's example.
    Keras,
    /// SimCLR's, for CIFAR-10.
    SimClr,
    /// SupContrast's.
    SupCon,
    /// Flip and a small translation, for trainings of few epochs.
    Light,
    /// Flip and translation.
    Standard,
}

impl Policy {
    /// All policies.
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::Keras,
        Self::SimClr,
        Self::SupCon,
        Self::Light,
        Self::Standard,
    ];

    /// The name as typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Keras => "keras",
            Self::SimClr => "simclr",
            Self::SupCon => "supcon",
            Self::Light => "light",
            Self::Standard => "standard",
        }
    }

    /// What the policy does.
    pub fn augmentation(self) -> Augmentation {
        let off = Augmentation::default();
        let contrastive = |least_area| Augmentation {
            flip: Flip::Random,
            random_resized_crop: Some(RandomResizedCrop {
                scale: [least_area, 1.0],
                ratio: default_ratio(),
            }),
            jitter: Some(ColorJitter {
                brightness: 0.4,
                contrast: 0.4,
                saturation: 0.4,
                hue: 0.1,
                probability: 0.8,
            }),
            grey: 0.2,
            ..off
        };
        let shifted = |pad| Augmentation {
            flip: Flip::Alternating,
            pad_crop: Some(PadCrop {
                pad,
                mode: Pad::Reflect,
            }),
            ..off
        };
        match self {
            Self::None => off,
            Self::Keras => Augmentation {
                flip: Flip::Random,
                rotation: 0.02,
                ..off
            },
            Self::SimClr => contrastive(0.08),
            Self::SupCon => contrastive(0.2),
            Self::Light => shifted(2),
            Self::Standard => shifted(4),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| {
                Error::setting(
                    "policy",
                    text,
                    "one of none, keras, simclr, supcon, light, standard is accepted",
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_round_trip_and_pass_their_own_checks() {
        for policy in Policy::ALL {
            assert_eq!(policy.to_string().parse::<Policy>().unwrap(), policy);
            assert_eq!(
                serde_json::to_string(&policy).unwrap(),
                format!("\"{policy}\"")
            );
            policy.augmentation().check(32, 32).unwrap();
            let json = serde_json::to_string(&policy.augmentation()).unwrap();
            assert_eq!(
                serde_json::from_str::<Augmentation>(&json).unwrap(),
                policy.augmentation()
            );
        }
        assert!(
            "SupCon2"
                .parse::<Policy>()
                .unwrap_err()
                .to_string()
                .contains("supcon")
        );
    }

    #[test]
    fn ranges_are_checked_by_name() {
        let mut wrong = Policy::SupCon.augmentation();
        wrong.grey = 1.5;
        assert_eq!(
            wrong.check(32, 32).unwrap_err().to_string(),
            "augment.grey = 1.5: a number from 0 to 1 is accepted"
        );
        wrong.grey = f32::NAN;
        assert!(wrong.check(32, 32).is_err());
        let standard = Policy::Standard.augmentation();
        assert!(
            standard
                .check(4, 32)
                .unwrap_err()
                .to_string()
                .contains("pad_crop.pad = 4")
        );
        assert!(serde_json::from_str::<Augmentation>(r#"{"flop": "random"}"#).is_err());
    }
}
