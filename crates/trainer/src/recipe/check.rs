//! All ranges of a recipe, looked at once.

use super::{HeadKind, ProjectionKind, Recipe, TransferMode};
use crate::{Error, Result};
use resnet::Init;
use std::fmt::Display;
use std::ops::Deref;

/// A recipe whose every field has been looked at. Only [`Recipe::check`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedRecipe(Recipe);

impl Deref for CheckedRecipe {
    type Target = Recipe;
    fn deref(&self) -> &Recipe {
        &self.0
    }
}

impl CheckedRecipe {
    /// The recipe itself, to be changed and checked again.
    pub fn into_inner(self) -> Recipe {
        self.0
    }
}

impl Recipe {
    /// Looks at every field's range, and at fields that contradict each other.
    pub fn check(&self) -> Result<CheckedRecipe> {
        require(
            "seed",
            self.seed,
            i64::try_from(self.seed).is_ok(),
            "use a number below 2^63",
        )?;
        require(
            "name",
            &self.name,
            !self.name.trim().is_empty(),
            "give the recipe a name",
        )?;
        if let Some(minutes) = self.budget_minutes {
            require(
                "budget_minutes",
                minutes,
                positive(minutes),
                "use a number of minutes above 0",
            )?;
        }
        if let Some(limit) = self.data.train_limit {
            require(
                "data.train_limit",
                limit,
                limit > 0,
                "use at least 1, or leave it out to train on all images",
            )?;
        }
        if let Some(limit) = self.data.test_limit {
            require(
                "data.test_limit",
                limit,
                limit > 0,
                "use at least 1, or leave it out to test on all images",
            )?;
        }
        if let Some(side) = self.data.image_size {
            require(
                "data.image_size",
                side,
                (8..=1024).contains(&side),
                "use 8 to 1024 pixels, or leave it out",
            )?;
        }
        require(
            "data.prefetch",
            self.data.prefetch,
            (1..=64).contains(&self.data.prefetch),
            "use 1 to 64 batches",
        )?;
        let width = self.model.width;
        require(
            "model.width",
            width,
            positive(width) && width <= 8.0,
            "use a factor above 0 and up to 8",
        )?;
        if let Some(side) = self.model.upsample {
            require(
                "model.upsample",
                side,
                (8..=1024).contains(&side),
                "use 8 to 1024 pixels, or leave it out",
            )?;
        }
        if self.arms.any_transfer() {
            let random = self.transfer.init == Init::Random;
            require(
                "transfer.init",
                &self.transfer.init,
                !random,
                "name weights to transfer from: a file or hub:OWNER/NAME",
            )?;
        }
        let views = self.augment.views;
        require(
            "augment.views",
            views,
            (1..=16).contains(&views),
            "use 1 to 16 views",
        )?;
        let views = self.augment.supervised_views;
        require(
            "augment.supervised_views",
            views,
            (1..=16).contains(&views),
            "use 1 to 16 views",
        )?;
        self.check_arms()?;
        self.check_pretrain()?;
        for (section, dropout) in [
            ("supervised", self.supervised.dropout),
            ("head", self.head.dropout),
        ] {
            let ok = (0.0..1.0).contains(&dropout);
            require(
                &format!("{section}.dropout"),
                dropout,
                ok,
                "use 0 or more, below 1",
            )?;
        }
        for (field, best) in [
            ("supervised.select_best", self.supervised.select_best),
            ("probe.select_best", self.probe.select_best),
            ("head.select_best", self.head.select_best),
            ("finetune.select_best", self.finetune.select_best),
        ] {
            let ok = !best || self.data.validation > 0;
            require(
                field,
                best,
                ok,
                "choosing needs a validation split: set data.validation above 0",
            )?;
        }
        self.supervised.training().check("supervised", 1)?;
        self.pretrain.training().check("pretrain", 1)?;
        self.probe.training().check("probe", 0)?;
        self.head.training().check("head", 0)?;
        self.finetune.training().check("finetune", 1)?;
        self.check_evaluate()?;
        Ok(CheckedRecipe(self.clone()))
    }

    fn check_arms(&self) -> Result<()> {
        let arms = &self.arms;
        let any = arms.baseline || arms.contrastive || arms.any_transfer();
        require(
            "arms",
            "all off",
            any,
            "switch on at least one of baseline, contrastive, transfer",
        )?;
        require(
            "arms.control",
            arms.control,
            !arms.control || arms.baseline,
            "it probes the baseline's encoder: switch on arms.baseline too",
        )?;
        require(
            "arms.finetuned",
            arms.finetuned,
            !arms.finetuned || arms.contrastive,
            "it continues the contrastive arm: switch on arms.contrastive too",
        )?;
        for (field, on, mode) in [
            (
                "arms.transfer_frozen",
                arms.transfer_frozen,
                TransferMode::Frozen,
            ),
            (
                "arms.transfer_contrastive",
                arms.transfer_contrastive,
                TransferMode::Contrastive,
            ),
        ] {
            let twice = on && arms.transfer && self.transfer.mode == mode;
            require(
                field,
                on,
                !twice,
                "transfer.mode makes the transfer arm the same: switch one of the two off",
            )?;
        }
        if let Some(by) = self.budget {
            require(
                "budget",
                by,
                arms.baseline,
                "the arms are made equal to the baseline: switch on arms.baseline, or leave it out",
            )?;
        }
        let (field, epochs) = match self.headline {
            HeadKind::Linear => ("probe.epochs", self.probe.epochs),
            HeadKind::Mlp => ("head.epochs", self.head.epochs),
        };
        require(
            field,
            epochs,
            epochs > 0,
            &format!(
                "the headline head (`{}`) needs at least 1 epoch",
                self.headline.name()
            ),
        )
    }

    fn check_pretrain(&self) -> Result<()> {
        let p = &self.pretrain;
        if let Some(t) = p.temperature {
            require(
                "pretrain.temperature",
                t,
                positive(t),
                "use a number above 0, such as 0.1",
            )?;
            let remedy = format!(
                "the loss \"{}\" divides by no temperature: leave it out",
                p.loss
            );
            require("pretrain.temperature", t, p.loss.has_temperature(), &remedy)?;
        }
        if let Err(e) = p.loss().check() {
            require("pretrain.loss", &p.loss, false, &e.to_string())?;
        }
        let dim = p.projection.dim;
        require(
            "pretrain.projection.dim",
            dim,
            (1..=65_536).contains(&dim),
            "use 1 to 65536, such as 128",
        )?;
        if let Some(hidden) = p.projection.hidden {
            let ok = p.projection.kind == ProjectionKind::Mlp && (1..=65_536).contains(&hidden);
            require(
                "pretrain.projection.hidden",
                hidden,
                ok,
                "use 1 to 65536, and only with kind = \"mlp\"",
            )?;
        }
        let kind = p.projection.kind;
        require(
            "pretrain.projection.batch_norm",
            p.projection.batch_norm,
            !p.projection.batch_norm || kind == ProjectionKind::Mlp,
            "only kind = \"mlp\" has batch norm inside",
        )?;
        require(
            "pretrain.projection.output_norm",
            p.projection.output_norm,
            !p.projection.output_norm || kind != ProjectionKind::LinearRelu,
            "kind = \"linear_relu\" ends in its ReLU; use \"linear\" or \"mlp\"",
        )?;
        if let Some(m) = p.per_class {
            let ok = m > 0 && p.batch_size.is_multiple_of(m);
            require(
                "pretrain.per_class",
                m,
                ok,
                &format!("use a divisor of pretrain.batch_size ({})", p.batch_size),
            )?;
        }
        if let Some(chunk) = p.chunk {
            require(
                "pretrain.chunk",
                chunk,
                chunk >= 2,
                "use at least 2 images (batch norm needs them), such as 256, or leave it out",
            )?;
        }
        self.check_pairs()?;
        if p.loss.needs_views() && (self.arms.contrastive || self.arms.any_transfer()) {
            let (views, exactly) = (self.augment.views, p.loss.needs_two_views());
            let how_many = if exactly { "exactly" } else { "at least" };
            require(
                "augment.views",
                views,
                views == 2 || (views > 2 && !exactly),
                &format!(
                    "pretrain.loss = \"{}\" needs {how_many} 2 views of each image",
                    p.loss
                ),
            )?;
        }
        require(
            "pretrain.label_smoothing",
            p.label_smoothing,
            p.label_smoothing == 0.0,
            "contrastive losses have no label smoothing: leave it out",
        )?;
        require(
            "pretrain.select_best",
            p.select_best,
            !p.select_best,
            "contrastive pretraining hands on its last epoch: leave it out",
        )
    }
}

impl Recipe {
    /// What a loss sees beside its batch.
    fn check_pairs(&self) -> Result<()> {
        let p = &self.pretrain;
        let loss = p.loss();
        if let Some(miner) = &p.miner {
            let field = "pretrain.miner";
            let remedy = format!(
                "the loss \"{loss}\" is not over pairs: leave it out, or take a loss such as \"triplet\" or \"multi_similarity\""
            );
            require(field, miner, loss.takes_miner(), &remedy)?;
            if let Err(e) = miner.check() {
                require(field, miner, false, &e.to_string())?;
            }
        }
        match p.memory {
            Some(rows) => {
                let field = "pretrain.memory";
                require(
                    field,
                    rows,
                    (1..=16_777_216).contains(&rows),
                    "use 1 to 16777216 rows, such as 4096, or leave it out",
                )?;
                let remedy = format!(
                    "the loss \"{loss}\" compares with no former batches: leave it out, or take a loss such as \"supcon_out\""
                );
                require(field, rows, loss.takes_memory(), &remedy)?;
            }
            None => require(
                "pretrain.memory",
                "not given",
                !loss.needs_memory(),
                "with in_batch = false nothing repels but the queue: give its length, such as 4096",
            )?,
        }
        if let Some(lr) = p.loss_lr {
            let field = "pretrain.loss_lr";
            require(field, lr, positive(lr), "use a number above 0")?;
            let task = contrastive_loss::Task {
                dim: p.projection.dim,
                classes: 1,
            };
            let remedy = format!("the loss \"{loss}\" has no parameters of its own: leave it out");
            require(field, lr, !loss.parameters(task).is_empty(), &remedy)?;
        }
        Ok(())
    }
}

pub(super) fn positive(x: f64) -> bool {
    x.is_finite() && x > 0.0
}

/// Refuses fields of a section that its `kind` does not read.
pub(super) fn refuse_foreign(section: &str, kind: &str, fields: &[&str]) -> Result<()> {
    for name in fields {
        let remedy = format!("kind = \"{kind}\" does not read it: leave it out");
        require(&format!("{section}.{name}"), "given", false, &remedy)?;
    }
    Ok(())
}

pub(super) fn require(field: &str, value: impl Display, ok: bool, remedy: &str) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::RecipeField {
        field: field.to_owned(),
        value: value.to_string(),
        remedy: remedy.to_owned(),
    })
}

#[cfg(test)]
mod tests;
