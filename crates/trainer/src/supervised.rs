//! Encoder and classifier trained as one with cross-entropy: the baseline, and fine-tuning of everything afterwards.

use crate::experiment::{Experiment, Outcome};
use crate::feed::ImageFeed;
use crate::model::{Encoder, Head, Supervised};
use crate::snapshots::{FEATURES, Watch};
use crate::wheel::Wheel;
use crate::{Arm, Result, StageId, StageKind, Training, plan};
use cifar_data::Sampler;
use resnet::Mode;

/// The baseline, from the recipe's initial weights.
pub(crate) fn train(lab: &mut Experiment, stage: StageId) -> Result<Outcome> {
    let recipe = lab.recipe().clone();
    let s = &recipe.supervised;
    let encoder = lab.initial_encoder(&recipe.model.init)?;
    let head = lab.head(s.head, s.dropout, encoder.net.feature_dim())?;
    run(lab, stage, &s.training(), encoder, head)
}

/// Everything trained on, from a pretrained encoder and the headline head on top of it.
pub(crate) fn finetune(lab: &mut Experiment, stage: StageId) -> Result<Outcome> {
    let recipe = lab.recipe().clone();
    let source = if stage.arm == Arm::Finetuned {
        Arm::Contrastive
    } else {
        stage.arm
    };
    let from = StageId::new(source, plan::headline_stage(&recipe));
    let frozen = plan::frozen(&recipe, from);
    let encoder = lab.new_encoder()?;
    encoder.load(&lab.folder.frozen_encoder(frozen))?;
    let head = lab.head(
        recipe.headline,
        recipe.head.dropout,
        encoder.net.feature_dim(),
    )?;
    head.load(&lab.folder.frozen_head(source, frozen, recipe.headline))?;
    run(lab, stage, &recipe.finetune.training(), encoder, head)
}

fn run(
    lab: &mut Experiment,
    stage: StageId,
    training: &Training,
    encoder: Encoder,
    head: Head,
) -> Result<Outcome> {
    let splits = lab.splits()?;
    let device = lab.device().clone();
    let views = lab.recipe().augment.supervised_views;
    let policy = lab.recipe().policy(stage.kind);
    let loader =
        splits.training_loader(stage, training.batch_size, views, policy, Sampler::Shuffle)?;
    let (height, width) = (splits.images.height, splits.images.width);
    let flops = encoder.net.flops(height, width) + head.net.flops();
    let model = Supervised {
        encoder,
        head,
        smoothing: training.label_smoothing,
    };
    let validation = lab.validation_loader(&splits)?;

    let watch = Watch::new(lab, &splits, stage, training.epochs)?;
    let mut wheel = Wheel::start(
        lab,
        stage,
        training.clone(),
        &model.groups(),
        loader.steps_per_epoch(),
    )?
    .watched_by(|epochs| match stage.kind {
        StageKind::Supervised => watch.look(epochs, |images| {
            Ok(vec![(
                FEATURES,
                model.encoder.forward(images, Mode::Frozen)?,
            )])
        }),
        _ => Ok(()),
    });
    let outcome = wheel.run(
        &ImageFeed {
            loader,
            device: device.clone(),
        },
        |batch, place| model.forward(batch, place),
        || validation.measure(&device, |images| model.logits(images)),
    )?;
    let position = wheel.position().clone();
    drop(wheel); // it holds the experiment
    if outcome == Outcome::Finished {
        lab.save_encoder(stage.arm, &model.encoder)?;
        let path = lab.folder.head(stage.arm, model.head.kind);
        lab.save(&path, &model.head.parameters)?;
        lab.finish(stage, &position, training.epochs, 3 * flops)?;
    }
    Ok(outcome)
}
