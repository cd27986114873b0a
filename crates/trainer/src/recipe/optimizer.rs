//! The update rule, as a recipe spells it.

use super::check::{positive, refuse_foreign, require};
use crate::Result;
use serde::{Deserialize, Serialize};

/// An update rule and its numbers. Fields of another rule are refused by [`Recipe::check`](super::Recipe::check).
///
/// Biases and batch-norm parameters are exempt from `weight_decay` and from LARS' adaptation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// `sgd`, `adam`, `adamw` or `lars`.
    pub kind: OptimizerKind,
    /// The learning rate that the schedule scales.
    pub lr: f64,
    /// L2 penalty added to the gradient (`sgd`, `adam`, `lars`) or decoupled decay (`adamw`).
    pub weight_decay: f64,
    /// Momentum (`sgd`, `lars`; default 0.9).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Look ahead along the momentum (`sgd`; default off).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    /// Decay of the first and second moment (`adam`, `adamw`; default 0.9, 0.999).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f64; 2]>,
    /// Added to the denominator (`adam`, `adamw`, `lars`; default 1e-8).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// Trust coefficient (`lars`; default 1e-3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<f64>,
}

/// An update rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam, weight decay as an L2 penalty.
    Adam,
    /// Adam with decoupled weight decay.
    Adamw,
    /// SGD with a layer-wise adapted rate, for large batches.
    Lars,
}

impl OptimizerKind {
    /// The name as written in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::Adam => "adam",
            Self::Adamw => "adamw",
            Self::Lars => "lars",
        }
    }
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::sgd(0.1, 0.0)
    }
}

impl OptimizerConfig {
    fn plain(kind: OptimizerKind, lr: f64, weight_decay: f64) -> Self {
        Self {
            kind,
            lr,
            weight_decay,
            momentum: None,
            nesterov: None,
            betas: None,
            eps: None,
            trust: None,
        }
    }

    /// SGD with momentum 0.9.
    pub fn sgd(lr: f64, weight_decay: f64) -> Self {
        Self::plain(OptimizerKind::Sgd, lr, weight_decay)
    }

    /// Adam without weight decay.
    pub fn adam(lr: f64) -> Self {
        Self::plain(OptimizerKind::Adam, lr, 0.0)
    }

    /// AdamW.
    pub fn adamw(lr: f64, weight_decay: f64) -> Self {
        Self::plain(OptimizerKind::Adamw, lr, weight_decay)
    }

    /// LARS with momentum 0.9.
    pub fn lars(lr: f64, weight_decay: f64) -> Self {
        Self::plain(OptimizerKind::Lars, lr, weight_decay)
    }

    /// Names of the fields that this rule does not read, but that are given.
    fn foreign_fields(&self) -> Vec<&'static str> {
        use OptimizerKind::{Adam, Adamw, Lars, Sgd};
        let momentum = matches!(self.kind, Sgd | Lars);
        let adam = matches!(self.kind, Adam | Adamw);
        [
            ("momentum", self.momentum.is_some() && !momentum),
            ("nesterov", self.nesterov.is_some() && self.kind != Sgd),
            ("betas", self.betas.is_some() && !adam),
            ("eps", self.eps.is_some() && self.kind == Sgd),
            ("trust", self.trust.is_some() && self.kind != Lars),
        ]
        .into_iter()
        .filter_map(|(name, foreign)| foreign.then_some(name))
        .collect()
    }

    pub(crate) fn momentum(&self) -> f64 {
        self.momentum.unwrap_or(0.9)
    }

    pub(crate) fn betas(&self) -> [f64; 2] {
        self.betas.unwrap_or([0.9, 0.999])
    }

    pub(crate) fn eps(&self) -> f64 {
        self.eps.unwrap_or(1e-8)
    }

    pub(crate) fn trust(&self) -> f64 {
        self.trust.unwrap_or(1e-3)
    }

    /// Looks at every field's range; `section` is where they stand in the recipe.
    pub(super) fn check(&self, section: &str) -> Result<()> {
        let field = |name: &str| format!("{section}.{name}");
        refuse_foreign(section, self.kind.name(), &self.foreign_fields())?;
        require(
            &field("lr"),
            self.lr,
            positive(self.lr),
            "use a number above 0",
        )?;
        let decay = self.weight_decay;
        require(
            &field("weight_decay"),
            decay,
            decay.is_finite() && decay >= 0.0,
            "use 0 or more",
        )?;
        require(
            &field("momentum"),
            self.momentum(),
            (0.0..1.0).contains(&self.momentum()),
            "use 0 or more, below 1",
        )?;
        let nesterov = self.nesterov.unwrap_or(false);
        require(
            &field("nesterov"),
            nesterov,
            !nesterov || self.momentum() > 0.0,
            "Nesterov needs a momentum above 0",
        )?;
        for beta in self.betas() {
            require(
                &field("betas"),
                beta,
                (0.0..1.0).contains(&beta),
                "use two numbers of 0 or more, below 1",
            )?;
        }
        require(
            &field("eps"),
            self.eps(),
            positive(self.eps()),
            "use a number above 0",
        )?;
        require(
            &field("trust"),
            self.trust(),
            positive(self.trust()),
            "use a number above 0",
        )
    }
}
