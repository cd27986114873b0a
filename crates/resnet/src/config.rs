//! Which network: depth, stem, width, input size.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The architecture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// torchvision's ResNet-18 (basic blocks 2-2-2-2, 512 features).
    ResNet18,
    /// torchvision's ResNet-34 (basic blocks 3-4-6-3, 512 features).
    ResNet34,
    /// torchvision's ResNet-50 (bottlenecks 3-4-6-3, stride in the 3×3, 2048 features).
    #[default]
    ResNet50,
    /// torchvision's ResNet-101 (bottlenecks 3-4-23-3, 2048 features).
    ResNet101,
    /// torchvision's ResNet-152 (bottlenecks 3-8-36-3, 2048 features).
    ResNet152,
    /// Keras' ResNet50V2 (pre-activation bottlenecks 3-4-6-3, 2048 features).
    ResNet50V2,
}

impl Arch {
    /// Every architecture.
    pub const ALL: [Arch; 6] = [
        Self::ResNet18,
        Self::ResNet34,
        Self::ResNet50,
        Self::ResNet101,
        Self::ResNet152,
        Self::ResNet50V2,
    ];

    /// The name in configurations: `resnet50`, `resnet50v2`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::ResNet18 => "resnet18",
            Self::ResNet34 => "resnet34",
            Self::ResNet50 => "resnet50",
            Self::ResNet101 => "resnet101",
            Self::ResNet152 => "resnet152",
            Self::ResNet50V2 => "resnet50v2",
        }
    }

    /// Blocks per stage.
    pub(crate) fn depths(self) -> [usize; 4] {
        match self {
            Self::ResNet18 => [2, 2, 2, 2],
            Self::ResNet34 | Self::ResNet50 | Self::ResNet50V2 => [3, 4, 6, 3],
            Self::ResNet101 => [3, 4, 23, 3],
            Self::ResNet152 => [3, 8, 36, 3],
        }
    }

    /// Channels out of a block over its inner width.
    pub(crate) fn expansion(self) -> usize {
        match self {
            Self::ResNet18 | Self::ResNet34 => 1,
            _ => 4,
        }
    }
}

/// The first layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// 7×7 convolution with stride 2, then 3×3 max-pool with stride 2: a 32×32 image enters the stages at 8×8.
    #[default]
    ImageNet,
    /// 3×3 convolution with stride 1, no pooling: a 32×32 image enters the stages at 32×32 (about 15 times the work).
    Cifar,
}

impl Stem {
    /// The name in configurations: `imagenet` or `cifar`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ImageNet => "imagenet",
            Self::Cifar => "cifar",
        }
    }
}

macro_rules! named {
    ($type:ident, $field:literal, $names:literal, $all:expr) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $type {
            type Err = Error;

            fn from_str(s: &str) -> Result<Self> {
                $all.into_iter().find(|v| v.name() == s).ok_or_else(|| {
                    Error::config(
                        $field,
                        format!("{s:?}"),
                        concat!("expected one of ", $names),
                    )
                })
            }
        }
    };
}

named!(
    Arch,
    "arch",
    "resnet18, resnet34, resnet50, resnet101, resnet152, resnet50v2",
    Arch::ALL
);
named!(
    Stem,
    "stem",
    "imagenet, cifar",
    [Stem::ImageNet, Stem::Cifar]
);

/// An encoder, described.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResNetConfig {
    /// The architecture.
    pub arch: Arch,
    /// The first layers.
    pub stem: Stem,
    /// Multiplies every channel count (rounded to the nearest multiple of 8, at least 8); 1 is the published network.
    pub width: f64,
    /// Resize the input bilinearly to this many pixels a side before the stem.
    pub upsample: Option<usize>,
    /// Start the last batch norm's scale of every residual block at 0, so that each block begins as the identity
    /// (<https://arxiv.org/abs/1706.02677>). torchvision family only.
    pub zero_init_residual: bool,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self {
            arch: Arch::default(),
            stem: Stem::default(),
            width: 1.0,
            upsample: None,
            zero_init_residual: false,
        }
    }
}

impl ResNetConfig {
    /// The published network of this architecture with this stem.
    pub fn new(arch: Arch, stem: Stem) -> Self {
        Self {
            arch,
            stem,
            ..Self::default()
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the field: `width` outside (0, 8], `upsample` outside 8..=1024, `zero_init_residual` with ResNet50V2.
    pub fn check(&self) -> Result<()> {
        if !(self.width > 0.0 && self.width <= 8.0) {
            return Err(Error::config(
                "width",
                self.width,
                "expected a number above 0, at most 8",
            ));
        }
        if let Some(side) = self.upsample
            && !(8..=1024).contains(&side)
        {
            return Err(Error::config(
                "upsample",
                side,
                "expected 8 to 1024 pixels a side",
            ));
        }
        if self.zero_init_residual && self.arch == Arch::ResNet50V2 {
            return Err(Error::config(
                "zero_init_residual",
                true,
                "resnet50v2 has no batch norm at the end of a block (a zero scale inside it would never learn); \
                 set it to false or choose resnet50",
            ));
        }
        Ok(())
    }

    /// A channel count under the width multiplier.
    pub(crate) fn channels(&self, base: usize) -> usize {
        if self.width == 1.0 {
            return base;
        }
        ((base as f64 * self.width / 8.0).round() as usize).max(1) * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for arch in Arch::ALL {
            assert_eq!(arch.to_string().parse::<Arch>().unwrap(), arch);
        }
        for stem in [Stem::ImageNet, Stem::Cifar] {
            assert_eq!(stem.to_string().parse::<Stem>().unwrap(), stem);
        }
        let message = "resnet51".parse::<Arch>().unwrap_err().to_string();
        assert!(
            message.contains("resnet51") && message.contains("resnet50v2"),
            "{message}"
        );
    }

    #[test]
    fn ranges_are_checked_by_name() {
        let base = ResNetConfig::default();
        for width in [0.0, -1.0, f64::NAN, 9.0] {
            let error = ResNetConfig {
                width,
                ..base.clone()
            }
            .check()
            .unwrap_err();
            assert!(error.to_string().starts_with("width = "), "{error}");
        }
        let error = ResNetConfig {
            upsample: Some(4),
            ..base.clone()
        }
        .check()
        .unwrap_err();
        assert!(error.to_string().starts_with("upsample = 4"), "{error}");
        let v2 = ResNetConfig {
            arch: Arch::ResNet50V2,
            zero_init_residual: true,
            ..base
        };
        assert!(
            v2.check()
                .unwrap_err()
                .to_string()
                .contains("zero_init_residual")
        );
    }

    #[test]
    fn width_rounds_to_eights() {
        let narrow = ResNetConfig {
            width: 0.1,
            ..ResNetConfig::default()
        };
        assert_eq!([64, 128, 512].map(|c| narrow.channels(c)), [8, 16, 48]);
        assert_eq!(ResNetConfig::default().channels(63), 63);
    }
}
