//! The learning rate over time, as a recipe spells it.

use super::check::{positive, refuse_foreign, require};
use crate::Result;
use serde::{Deserialize, Serialize};

/// A schedule: a factor on the optimiser's `lr` for every step. The formulas stand in [`crate::Schedule`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    /// `constant`, `cosine`, `linear`, `step` or `one_cycle`.
    pub kind: ScheduleKind,
    /// Linear warm-up over this many epochs (fractions allowed); no warm-up for `one_cycle`, which rises by itself.
    pub warmup_epochs: f64,
    /// Linear warm-up over this many steps, in place of `warmup_epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<usize>,
    /// The factor that warm-up starts from.
    pub warmup_from: f64,
    /// The factor at the very end (`cosine`, `linear`; default 0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_factor: Option<f64>,
    /// Where the rate drops, as shares of the stage (`step`; default 0.6, 0.75, 0.9).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milestones: Option<Vec<f64>>,
    /// What the rate is multiplied by at each milestone (`step`; default 0.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// Share of the stage in which the rate rises (`one_cycle`; default 0.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rise: Option<f64>,
    /// The rise starts from `lr / div` (`one_cycle`; default 25).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub div: Option<f64>,
    /// The fall ends at `lr / (div · final_div)` (`one_cycle`; default 1e4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_div: Option<f64>,
}

/// The shape of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// The same rate throughout.
    Constant,
    /// Half a cosine from `lr` down to `lr · final_factor`.
    Cosine,
    /// A line from `lr` down to `lr · final_factor`.
    Linear,
    /// Drops by `gamma` at each milestone.
    Step,
    /// PyTorch's one-cycle: up along half a cosine, then down along another.
    OneCycle,
}

impl ScheduleKind {
    /// The name as written in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Cosine => "cosine",
            Self::Linear => "linear",
            Self::Step => "step",
            Self::OneCycle => "one_cycle",
        }
    }
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self::constant()
    }
}

impl ScheduleConfig {
    fn plain(kind: ScheduleKind) -> Self {
        Self {
            kind,
            warmup_epochs: 0.0,
            warmup_steps: None,
            warmup_from: 0.0,
            final_factor: None,
            milestones: None,
            gamma: None,
            rise: None,
            div: None,
            final_div: None,
        }
    }

    /// The same rate throughout.
    pub fn constant() -> Self {
        Self::plain(ScheduleKind::Constant)
    }

    /// Half a cosine down to zero.
    pub fn cosine() -> Self {
        Self::plain(ScheduleKind::Cosine)
    }

    /// A line down to zero.
    pub fn linear() -> Self {
        Self::plain(ScheduleKind::Linear)
    }

    /// Drops by 0.2 at 60, 75 and 90 % of the stage.
    pub fn step() -> Self {
        Self::plain(ScheduleKind::Step)
    }

    /// PyTorch's one-cycle.
    pub fn one_cycle() -> Self {
        Self::plain(ScheduleKind::OneCycle)
    }

    /// Names of the fields that this shape does not read, but that are given.
    fn foreign_fields(&self) -> Vec<&'static str> {
        use ScheduleKind::{Cosine, Linear, OneCycle, Step};
        let cycle = self.kind == OneCycle;
        [
            ("warmup_epochs", self.warmup_epochs != 0.0 && cycle),
            ("warmup_steps", self.warmup_steps.is_some() && cycle),
            ("warmup_from", self.warmup_from != 0.0 && cycle),
            (
                "final_factor",
                self.final_factor.is_some() && !matches!(self.kind, Cosine | Linear),
            ),
            ("milestones", self.milestones.is_some() && self.kind != Step),
            ("gamma", self.gamma.is_some() && self.kind != Step),
            ("rise", self.rise.is_some() && !cycle),
            ("div", self.div.is_some() && !cycle),
            ("final_div", self.final_div.is_some() && !cycle),
        ]
        .into_iter()
        .filter_map(|(name, foreign)| foreign.then_some(name))
        .collect()
    }

    /// Looks at every field's range; `section` is where they stand in the recipe.
    pub(super) fn check(&self, section: &str) -> Result<()> {
        let field = |name: &str| format!("{section}.{name}");
        refuse_foreign(section, self.kind.name(), &self.foreign_fields())?;
        let warm = self.warmup_epochs;
        require(
            &field("warmup_epochs"),
            warm,
            warm.is_finite() && warm >= 0.0,
            "use 0 or more epochs",
        )?;
        if let Some(steps) = self.warmup_steps {
            require(
                &field("warmup_steps"),
                steps,
                warm == 0.0,
                "give warmup_epochs or warmup_steps, not both",
            )?;
        }
        let from = self.warmup_from;
        require(
            &field("warmup_from"),
            from,
            (0.0..=1.0).contains(&from),
            "use a factor of 0 to 1",
        )?;
        if let Some(end) = self.final_factor {
            require(
                &field("final_factor"),
                end,
                (0.0..=1.0).contains(&end),
                "use a factor of 0 to 1",
            )?;
        }
        if let Some(milestones) = &self.milestones {
            let ok = milestones.iter().all(|m| (0.0..=1.0).contains(m)) && milestones.is_sorted();
            require(
                &field("milestones"),
                format!("{milestones:?}"),
                ok,
                "use rising shares of the stage, 0 to 1, such as [0.6, 0.75, 0.9]",
            )?;
        }
        if let Some(gamma) = self.gamma {
            require(
                &field("gamma"),
                gamma,
                positive(gamma) && gamma <= 1.0,
                "use a factor above 0 and up to 1",
            )?;
        }
        if let Some(rise) = self.rise {
            require(
                &field("rise"),
                rise,
                rise > 0.0 && rise < 1.0,
                "use a share above 0 and below 1",
            )?;
        }
        for (name, div) in [("div", self.div), ("final_div", self.final_div)] {
            if let Some(div) = div {
                require(
                    &field(name),
                    div,
                    div.is_finite() && div >= 1.0,
                    "use 1 or more",
                )?;
            }
        }
        Ok(())
    }
}
