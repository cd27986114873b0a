//! Names of the stages: an arm and what is done to it, written `contrastive/pretrain`.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A run that is compared with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// Cross-entropy from the start.
    Baseline,
    /// Contrastive pretraining, then heads on the frozen encoder.
    Contrastive,
    /// The baseline's encoder, frozen and probed.
    Control,
    /// The contrastive encoder and its head, trained on together.
    Finetuned,
    /// From weights trained elsewhere, as `transfer.mode` says.
    Transfer,
    /// The same weights, frozen, with heads on top.
    TransferFrozen,
    /// The same weights, contrastive pretraining on top, then heads on the frozen encoder.
    TransferContrastive,
}

impl Arm {
    /// All arms, in the order of the report's table.
    pub const ALL: [Self; 7] = [
        Self::Baseline,
        Self::Contrastive,
        Self::Control,
        Self::Finetuned,
        Self::Transfer,
        Self::TransferFrozen,
        Self::TransferContrastive,
    ];

    /// The name used in files and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Contrastive => "contrastive",
            Self::Control => "control",
            Self::Finetuned => "finetuned",
            Self::Transfer => "transfer",
            Self::TransferFrozen => "transfer-frozen",
            Self::TransferContrastive => "transfer-contrastive",
        }
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Arm {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|arm| arm.name() == text)
            .ok_or_else(|| format!("expected one of {}", known()))
    }
}

/// What a stage does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    /// Encoder and classifier, trained as one with cross-entropy.
    Supervised,
    /// Contrastive pretraining behind a projection head.
    Pretrain,
    /// The linear head on a frozen encoder.
    Probe,
    /// The 512-unit head on a frozen encoder.
    Head,
    /// Everything trained, from a pretrained encoder and its head.
    Finetune,
    /// The arm's measurements: the only stage that opens the test split.
    Evaluate,
}

impl StageKind {
    /// The name used in files and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Supervised => "supervised",
            Self::Pretrain => "pretrain",
            Self::Probe => "probe",
            Self::Head => "head",
            Self::Finetune => "finetune",
            Self::Evaluate => "evaluate",
        }
    }

    /// Whether the stage changes the encoder's weights.
    pub fn trains_encoder(self) -> bool {
        matches!(self, Self::Supervised | Self::Pretrain | Self::Finetune)
    }
}

impl fmt::Display for StageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One stage of one arm; written and parsed as `arm/stage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId {
    /// Whose stage.
    pub arm: Arm,
    /// Which stage.
    pub kind: StageKind,
}

impl StageId {
    /// The stage `kind` of `arm`.
    pub fn new(arm: Arm, kind: StageKind) -> Self {
        Self { arm, kind }
    }
}

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.arm, self.kind)
    }
}

impl FromStr for StageId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        use StageKind::{Evaluate, Finetune, Head, Pretrain, Probe, Supervised};
        let kinds = [Supervised, Pretrain, Probe, Head, Finetune, Evaluate];
        text.split_once('/')
            .and_then(|(arm, kind)| {
                let arm = Arm::ALL.into_iter().find(|a| a.name() == arm)?;
                let kind = kinds.into_iter().find(|k| k.name() == kind)?;
                Some(Self { arm, kind })
            })
            .ok_or_else(|| Error::UnknownStage {
                name: text.to_owned(),
                known: "write ARM/STAGE, for example contrastive/pretrain".to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for arm in Arm::ALL {
            let id = StageId::new(arm, StageKind::Evaluate);
            assert_eq!(id.to_string().parse::<StageId>().unwrap(), id);
        }
        assert!(
            "contrastive/sleep"
                .parse::<StageId>()
                .unwrap_err()
                .to_string()
                .contains("contrastive/sleep")
        );
    }
}
