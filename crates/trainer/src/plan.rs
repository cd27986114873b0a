//! Which stages a recipe asks for, what they build on, and where their encoder comes from.

use crate::recipe::{HeadKind, Recipe, TransferMode};
use crate::{Arm, StageId, StageKind};

/// All stages in running order.
pub(crate) fn stages(recipe: &Recipe) -> Vec<StageId> {
    Arm::ALL
        .into_iter()
        .filter(|&arm| is_on(recipe, arm))
        .flat_map(|arm| arm_stages(recipe, arm))
        .collect()
}

fn is_on(recipe: &Recipe, arm: Arm) -> bool {
    let arms = &recipe.arms;
    match arm {
        Arm::Baseline => arms.baseline,
        Arm::Contrastive => arms.contrastive,
        Arm::Control => arms.control,
        Arm::Finetuned => arms.finetuned,
        Arm::Transfer => arms.transfer,
        Arm::TransferFrozen => arms.transfer_frozen,
        Arm::TransferContrastive => arms.transfer_contrastive,
    }
}

/// What happens to the weights that an arm starts from; none if they are not those of `[transfer]`.
pub(crate) fn transfer_mode(recipe: &Recipe, arm: Arm) -> Option<TransferMode> {
    match arm {
        Arm::Transfer => Some(recipe.transfer.mode),
        Arm::TransferFrozen => Some(TransferMode::Frozen),
        Arm::TransferContrastive => Some(TransferMode::Contrastive),
        Arm::Baseline | Arm::Contrastive | Arm::Control | Arm::Finetuned => None,
    }
}

fn arm_stages(recipe: &Recipe, arm: Arm) -> Vec<StageId> {
    use StageKind::{Evaluate, Finetune, Pretrain, Supervised};
    let contrastive = || [vec![Pretrain], head_stages(recipe)].concat();
    let mut kinds = match (transfer_mode(recipe, arm), arm) {
        (Some(TransferMode::Contrastive), _) => contrastive(),
        (Some(TransferMode::Frozen), _) => head_stages(recipe),
        (Some(TransferMode::Finetune), _) => vec![headline_stage(recipe), Finetune],
        (None, Arm::Baseline) => vec![Supervised],
        (None, Arm::Control) => head_stages(recipe),
        (None, Arm::Finetuned) => vec![Finetune],
        (None, _) => contrastive(),
    };
    kinds.push(Evaluate);
    kinds
        .into_iter()
        .map(|kind| StageId::new(arm, kind))
        .collect()
}

fn head_stages(recipe: &Recipe) -> Vec<StageKind> {
    let mut kinds = Vec::new();
    if recipe.probe.epochs > 0 {
        kinds.push(StageKind::Probe);
    }
    if recipe.head.epochs > 0 {
        kinds.push(StageKind::Head);
    }
    kinds
}

/// The stage that trains the headline head.
pub(crate) fn headline_stage(recipe: &Recipe) -> StageKind {
    match recipe.headline {
        HeadKind::Linear => StageKind::Probe,
        HeadKind::Mlp => StageKind::Head,
    }
}

/// What must be done before `stage`, in running order.
pub(crate) fn needs(recipe: &Recipe, stage: StageId) -> Vec<StageId> {
    let mut needs = match stage.arm {
        Arm::Control => vec![StageId::new(Arm::Baseline, StageKind::Supervised)],
        Arm::Finetuned => vec![
            StageId::new(Arm::Contrastive, StageKind::Pretrain),
            StageId::new(Arm::Contrastive, headline_stage(recipe)),
        ],
        _ => Vec::new(),
    };
    let own = arm_stages(recipe, stage.arm);
    let before = own.into_iter().take_while(|s| *s != stage);
    // The two heads do not need each other.
    needs.extend(before.filter(|s| !(stage.kind == StageKind::Head && s.kind == StageKind::Probe)));
    needs
}

/// All training stages that an arm's result rests on, those of other arms included, in running order.
pub(crate) fn rests_on(recipe: &Recipe, arm: Arm) -> Vec<StageId> {
    let mut all = needs(recipe, StageId::new(arm, StageKind::Evaluate));
    all.dedup();
    all
}

/// The heads that an arm is evaluated with, its headline first.
pub(crate) fn heads(recipe: &Recipe, arm: Arm) -> Vec<HeadKind> {
    match (arm, transfer_mode(recipe, arm)) {
        (Arm::Baseline, _) => vec![recipe.supervised.head],
        (Arm::Finetuned, _) | (_, Some(TransferMode::Finetune)) => vec![recipe.headline],
        _ => {
            let mut heads: Vec<HeadKind> = head_stages(recipe)
                .into_iter()
                .map(Recipe::head_kind)
                .collect();
            heads.sort_by_key(|head| *head != recipe.headline);
            heads
        }
    }
}

/// Steps of an epoch of a training stage on so many images.
pub(crate) fn steps_per_epoch(recipe: &Recipe, kind: StageKind, images: usize) -> usize {
    let size = recipe
        .training(kind)
        .map_or(1, |training| training.batch_size);
    match recipe.data.drop_last || !recipe.augments(kind) {
        true => images / size,
        false => images.div_ceil(size),
    }
}

/// An encoder that is read, not trained: whose it is, and whether it is the one that the arm started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frozen {
    pub owner: Arm,
    pub start: bool,
}

/// The encoder under a head stage or an evaluation.
pub(crate) fn frozen(recipe: &Recipe, stage: StageId) -> Frozen {
    let owner = if stage.arm == Arm::Control {
        Arm::Baseline
    } else {
        stage.arm
    };
    let finetunes = transfer_mode(recipe, stage.arm) == Some(TransferMode::Finetune);
    Frozen {
        owner,
        start: finetunes && stage.kind != StageKind::Evaluate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(stages: &[StageId]) -> Vec<String> {
        stages.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_plan_follows_the_switches() {
        let mut recipe = Recipe::default();
        let expected = [
            "baseline/supervised",
            "baseline/evaluate",
            "contrastive/pretrain",
            "contrastive/probe",
            "contrastive/head",
            "contrastive/evaluate",
        ];
        assert_eq!(names(&stages(&recipe)), expected);
        recipe.arms.finetuned = true;
        recipe.arms.transfer = true;
        recipe.head.epochs = 0;
        assert_eq!(
            names(&stages(&recipe))[5..],
            [
                "finetuned/finetune",
                "finetuned/evaluate",
                "transfer/probe",
                "transfer/finetune",
                "transfer/evaluate"
            ]
        );
        let all = rests_on(&recipe, Arm::Finetuned);
        assert_eq!(
            names(&all),
            [
                "contrastive/pretrain",
                "contrastive/probe",
                "finetuned/finetune"
            ]
        );
    }

    #[test]
    fn every_use_of_foreign_weights_is_an_arm_of_its_own() {
        let mut recipe = Recipe::default();
        recipe.arms.baseline = false;
        recipe.arms.contrastive = false;
        recipe.arms.transfer = true;
        recipe.arms.transfer_frozen = true;
        recipe.arms.transfer_contrastive = true;
        assert_eq!(
            names(&stages(&recipe)),
            [
                "transfer/probe",
                "transfer/finetune",
                "transfer/evaluate",
                "transfer-frozen/probe",
                "transfer-frozen/head",
                "transfer-frozen/evaluate",
                "transfer-contrastive/pretrain",
                "transfer-contrastive/probe",
                "transfer-contrastive/head",
                "transfer-contrastive/evaluate",
            ]
        );
        recipe.check().unwrap();
        recipe.transfer.mode = TransferMode::Frozen;
        let text = recipe.check().unwrap_err().to_string();
        assert!(
            text.contains("arms.transfer_frozen") && text.contains("transfer.mode"),
            "{text}"
        );
    }

    #[test]
    fn control_reads_the_baselines_encoder() {
        let recipe = Recipe::default();
        let probe = StageId::new(Arm::Control, StageKind::Head);
        assert_eq!(names(&needs(&recipe, probe)), ["baseline/supervised"]);
        assert_eq!(
            frozen(&recipe, probe),
            Frozen {
                owner: Arm::Baseline,
                start: false
            }
        );
    }
}
