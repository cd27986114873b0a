//! By what the arms' training is made equal.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What an arm may spend as much of as the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetBy {
    /// Epochs in which images go through the encoder in training steps; heads on features computed once are free.
    Epochs,
    /// Multiply-adds of every stage that the arm rests on, heads and frozen features included.
    Flops,
    /// Seconds of every stage that the arm rests on, at the speed measured before step 0.
    Time,
}

impl BudgetBy {
    /// As typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Epochs => "epochs",
            Self::Flops => "flops",
            Self::Time => "time",
        }
    }
}

impl fmt::Display for BudgetBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for BudgetBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Epochs, Self::Flops, Self::Time]
            .into_iter()
            .find(|by| by.name() == text)
            .ok_or_else(|| "use epochs, flops or time".to_owned())
    }
}
