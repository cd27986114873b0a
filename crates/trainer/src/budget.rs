//! What the arms' training costs, counted before it begins, and made equal where the recipe asks for it.
//!
//! A training step costs three forward passes (forward, and two products of the same size backward), four where a batch goes
//! through in chunks (`pretrain.chunk` embeds every image twice); a frozen feature costs one. Multiply-adds are those of
//! convolutions and matrix products; one is two floating-point operations.

use crate::environment::RunRecord;
use crate::model::{Contrastive, Encoder, Head};
use crate::recipe::{BudgetBy, CheckedRecipe, HeadKind, Recipe, TransferMode};
use crate::speed::{Speeds, estimate, set_epochs};
use crate::splits::Splits;
use crate::{Arm, Result, StageId, StageKind, plan};
use candle_core::Device;
use eval::{ArmBudget, BudgetRecord};
use std::collections::BTreeMap;

/// Multiply-adds of one image forward, network by network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Costs {
    pub encoder: u64,
    /// Encoder and projection head.
    pub contrastive: u64,
    pub linear: u64,
    pub mlp: u64,
}

impl Costs {
    /// Of the recipe's networks, on images of the training split's size.
    pub fn of(recipe: &Recipe, splits: &Splits, classes: usize) -> Result<Self> {
        let device = Device::Cpu;
        let encoder = Encoder::new(&recipe.model, recipe.seed, &device)?;
        let (height, width) = (splits.images.height, splits.images.width);
        let forward = encoder.net.flops(height, width);
        let dim = encoder.net.feature_dim();
        let head = |kind| -> Result<u64> {
            let init = recipe.model.linear_init();
            let head = Head::new(kind, 0.0, dim, classes, init, recipe.seed, &device)?;
            Ok(head.net.flops())
        };
        let (linear, mlp) = (head(HeadKind::Linear)?, head(HeadKind::Mlp)?);
        let contrastive = Contrastive::new(recipe, encoder, classes, &device)?;
        Ok(Self {
            encoder: forward,
            contrastive: contrastive.flops(height, width),
            linear,
            mlp,
        })
    }

    fn head(&self, kind: HeadKind) -> u64 {
        match kind {
            HeadKind::Linear => self.linear,
            HeadKind::Mlp => self.mlp,
        }
    }

    /// Multiply-adds of one row of a training step.
    fn step(&self, recipe: &Recipe, stage: StageId) -> u64 {
        let passes = passes(recipe, stage.kind);
        match stage.kind {
            StageKind::Supervised => passes * (self.encoder + self.head(recipe.supervised.head)),
            StageKind::Finetune => passes * (self.encoder + self.head(recipe.headline)),
            StageKind::Pretrain => passes * self.contrastive,
            StageKind::Probe | StageKind::Head => {
                let encoder = if recipe.augments(stage.kind) {
                    self.encoder
                } else {
                    0
                };
                passes * self.head(Recipe::head_kind(stage.kind)) + encoder
            }
            StageKind::Evaluate => 0,
        }
    }
}

/// Forward passes that a training step of this kind is worth.
pub(crate) fn passes(recipe: &Recipe, kind: StageKind) -> u64 {
    let chunked = (recipe.pretrain.chunk).is_some_and(|chunk| chunk < recipe.pretrain.batch_size);
    if kind == StageKind::Pretrain && chunked {
        4
    } else {
        3
    }
}

/// Rows that go through the networks in an epoch of a stage, every view counted.
fn rows_per_epoch(recipe: &Recipe, stage: StageId, train: u64) -> u64 {
    let Some(training) = recipe.training(stage.kind) else {
        return 0;
    };
    let augments = recipe.augments(stage.kind);
    let batch = training.batch_size as u64;
    let images = if recipe.data.drop_last || !augments {
        train / batch * batch
    } else {
        train
    };
    let views = match (augments, stage.kind) {
        (false, _) => 1,
        (true, StageKind::Pretrain) => recipe.augment.views,
        (true, _) => recipe.augment.supervised_views,
    };
    images * views as u64
}

/// Images whose features are computed once, without a graph, for the heads of an arm: the training images where a head is
/// trained or standardised on them, and those of the validation split.
pub(crate) fn frozen_images(recipe: &Recipe, arm: Arm, train: u64, validation: u64) -> u64 {
    let stages = plan::rests_on(recipe, arm);
    let is_head = |stage: &&StageId| matches!(stage.kind, StageKind::Probe | StageKind::Head);
    let mut heads = stages.iter().filter(is_head).peekable();
    if heads.peek().is_none() {
        return 0;
    }
    let table = heads.any(|stage| stage.kind == StageKind::Probe || !recipe.augments(stage.kind));
    validation + if table { train } else { 0 }
}

/// What an arm costs, over every stage that it rests on.
fn arm_budget(recipe: &Recipe, costs: &Costs, record: &RunRecord, arm: Arm) -> ArmBudget {
    let (train, validation) = (record.train_images as u64, record.validation_images as u64);
    let mut budget = ArmBudget {
        multiply_adds: frozen_images(recipe, arm, train, validation).saturating_mul(costs.encoder),
        ..ArmBudget::default()
    };
    for stage in plan::rests_on(recipe, arm) {
        let epochs = recipe.training(stage.kind).map_or(0, |t| t.epochs) as u64;
        let rows = epochs.saturating_mul(rows_per_epoch(recipe, stage, train));
        budget.multiply_adds =
            (budget.multiply_adds).saturating_add(rows.saturating_mul(costs.step(recipe, stage)));
        if recipe.augments(stage.kind) {
            budget.encoder_epochs += epochs;
            budget.images_seen = budget.images_seen.saturating_add(rows);
        } else {
            budget.head_epochs += epochs;
        }
    }
    budget
}

fn arms(recipe: &Recipe) -> Vec<Arm> {
    let evaluated = plan::stages(recipe).into_iter();
    evaluated
        .filter(|stage| stage.kind == StageKind::Evaluate)
        .map(|stage| stage.arm)
        .collect()
}

/// What every arm is going to cost.
pub(crate) fn planned(recipe: &Recipe, costs: &Costs, record: &RunRecord) -> BudgetRecord {
    let budgets: BTreeMap<String, ArmBudget> = arms(recipe)
        .into_iter()
        .map(|arm| {
            (
                arm.name().to_owned(),
                arm_budget(recipe, costs, record, arm),
            )
        })
        .collect();
    BudgetRecord {
        equalised_by: recipe.budget.map(|by| by.name().to_owned()),
        arms: budgets,
    }
}

/// Chooses the epochs of contrastive pretraining so that its arm costs as much as the baseline, and those of fine-tuning where
/// the transfer arm alone reads them. An arm that builds on another (`control`, `finetuned`) costs more than that one whatever its epochs,
/// and is left as the recipe has it.
pub(crate) fn equalise(
    recipe: &CheckedRecipe,
    by: BudgetBy,
    costs: &Costs,
    speeds: Option<&Speeds>,
    record: &RunRecord,
) -> Result<CheckedRecipe> {
    let cost = |recipe: &Recipe, arm: Arm| -> f64 {
        let counted = arm_budget(recipe, costs, record, arm);
        match (by, speeds) {
            (BudgetBy::Epochs, _) => counted.encoder_epochs as f64,
            (BudgetBy::Time, Some(speeds)) => {
                let rests_on = plan::rests_on(recipe, arm);
                let stages = estimate(recipe, speeds, record).stages.into_iter();
                stages
                    .filter(|(stage, _)| rests_on.contains(stage))
                    .map(|(_, seconds)| seconds)
                    .sum()
            }
            (BudgetBy::Flops | BudgetBy::Time, _) => counted.multiply_adds as f64,
        }
    };
    let mut recipe = recipe.clone().into_inner();
    let target = cost(&recipe, Arm::Baseline);
    let all = arms(&recipe);
    let contrastive = all.iter().copied().find(|&arm| {
        arm == Arm::Contrastive
            || plan::transfer_mode(&recipe, arm) == Some(TransferMode::Contrastive)
    });
    if let Some(arm) = contrastive {
        let with = |epochs: usize| {
            let mut other = recipe.clone();
            set_epochs(
                &mut other.pretrain.epochs,
                &mut other.pretrain.schedule,
                epochs,
            );
            other
        };
        let epochs = nearest(|epochs| cost(&with(epochs), arm), target);
        recipe = with(epochs);
    }
    let finetuned = all.iter().copied().find(|&arm| {
        plan::transfer_mode(&recipe, arm) == Some(TransferMode::Finetune) && !recipe.arms.finetuned
    });
    if let Some(arm) = finetuned {
        let with = |epochs: usize| {
            let mut other = recipe.clone();
            set_epochs(
                &mut other.finetune.epochs,
                &mut other.finetune.schedule,
                epochs,
            );
            other
        };
        let epochs = nearest(|epochs| cost(&with(epochs), arm), target);
        recipe = with(epochs);
    }
    recipe.check()
}

/// The epochs, 1 to 100,000, whose cost comes nearest to `target`; costs grow by the same amount with every epoch.
fn nearest(cost: impl Fn(usize) -> f64, target: f64) -> usize {
    let (first, second) = (cost(1), cost(2));
    let epochs = 1.0 + ((target - first) / (second - first)).round();
    if epochs.is_finite() {
        epochs.clamp(1.0, 100_000.0) as usize
    } else {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cifar_data::{DatasetName, SourceOptions};

    const COSTS: Costs = Costs {
        encoder: 1000,
        contrastive: 1010,
        linear: 5,
        mlp: 20,
    };

    fn fixture(change: impl Fn(&mut Recipe)) -> (CheckedRecipe, RunRecord) {
        let mut recipe = Recipe::default();
        recipe.data.dataset = DatasetName::Synthetic;
        recipe.data.validation = 200;
        change(&mut recipe);
        let recipe = recipe.check().unwrap();
        let options = SourceOptions {
            dataset: DatasetName::Synthetic,
            ..SourceOptions::default()
        };
        let dataset = cifar_data::open(&options, &mut ()).unwrap();
        let splits = Splits::open(&dataset, &recipe).unwrap();
        let record = RunRecord::new(&recipe, dataset.info(), &splits, &Device::Cpu, "");
        (recipe, record)
    }

    #[test]
    fn both_stages_of_an_arm_are_counted() {
        let (recipe, record) = fixture(|recipe| {
            recipe.augment.views = 2;
            recipe.pretrain.epochs = 3;
            recipe.pretrain.batch_size = 100;
            recipe.probe.epochs = 4;
            recipe.probe.batch_size = 100;
            recipe.head.epochs = 0;
        });
        let train = record.train_images as u64;
        let whole = train / 100 * 100;
        let found = arm_budget(&recipe, &COSTS, &record, Arm::Contrastive);
        assert_eq!((found.encoder_epochs, found.head_epochs), (3, 4));
        assert_eq!(found.images_seen, 3 * 2 * whole);
        let expected = 3 * 2 * whole * 3 * 1010 + (train + 200) * 1000 + 4 * whole * 3 * 5;
        assert_eq!(found.multiply_adds, expected);
        let mut chunked = (*recipe).clone();
        chunked.pretrain.chunk = Some(10);
        let more = arm_budget(&chunked, &COSTS, &record, Arm::Contrastive);
        assert_eq!(
            more.multiply_adds - found.multiply_adds,
            3 * 2 * whole * 1010
        );
    }

    #[test]
    fn two_views_halve_the_epochs_of_equal_flops_and_not_those_of_equal_epochs() {
        let (recipe, record) = fixture(|recipe| {
            recipe.augment.views = 2;
            recipe.supervised.epochs = 40;
            recipe.pretrain.epochs = 7;
            recipe.pretrain.schedule.warmup_epochs = 0.7;
            recipe.arms.finetuned = true;
        });
        let equal = |by| equalise(&recipe, by, &COSTS, None, &record).unwrap();
        let by_epochs = equal(BudgetBy::Epochs);
        assert_eq!(by_epochs.pretrain.epochs, 40);
        assert!((by_epochs.pretrain.schedule.warmup_epochs - 4.0).abs() < 1e-12);
        let by_flops = equal(BudgetBy::Flops);
        let cost =
            |recipe: &Recipe, arm| arm_budget(recipe, &COSTS, &record, arm).multiply_adds as f64;
        let (target, found) = (
            cost(&by_flops, Arm::Baseline),
            cost(&by_flops, Arm::Contrastive),
        );
        // Within half an epoch of pretraining.
        let epoch = 2.0 * record.train_images as f64 * 3.0 * 1010.0;
        assert!((found - target).abs() <= epoch / 2.0, "{found} {target}");
        assert!(
            (17..=20).contains(&by_flops.pretrain.epochs),
            "{}",
            by_flops.pretrain.epochs
        );
        assert_eq!(by_flops.supervised.epochs, 40, "the baseline stays");
        assert_eq!(by_flops.finetune.epochs, recipe.finetune.epochs);
        let again = equalise(&by_flops, BudgetBy::Flops, &COSTS, None, &record).unwrap();
        assert_eq!(again, by_flops, "frozen epochs are their own answer");
    }

    #[test]
    fn nothing_is_equal_to_a_baseline_that_is_not_there() {
        let mut recipe = Recipe::default();
        recipe.arms.baseline = false;
        recipe.budget = Some(BudgetBy::Flops);
        let text = recipe.check().unwrap_err().to_string();
        assert!(
            text.contains("`budget` = `flops`") && text.contains("arms.baseline"),
            "{text}"
        );
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for by in [BudgetBy::Epochs, BudgetBy::Flops, BudgetBy::Time] {
            assert_eq!(by.name().parse::<BudgetBy>().unwrap(), by);
        }
        assert!("money".parse::<BudgetBy>().unwrap_err().contains("flops"));
    }
}
