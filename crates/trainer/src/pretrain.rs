//! Contrastive pretraining: encoder, projection head, contrastive loss. The projection head (with the loss' own parameters, such as
//! proxies) is kept beside the encoder, but nothing reads it afterwards.

use crate::experiment::{Experiment, Outcome};
use crate::feed::ImageFeed;
use crate::model::Contrastive;
use crate::snapshots::Watch;
use crate::wheel::Wheel;
use crate::{Result, StageId, budget, plan};
use cifar_data::Sampler;

/// Pretrains from the recipe's initial weights (the transfer arm: from its own).
pub(crate) fn train(lab: &mut Experiment, stage: StageId) -> Result<Outcome> {
    let recipe = lab.recipe().clone();
    let init = if plan::transfer_mode(&recipe, stage.arm).is_some() {
        &recipe.transfer.init
    } else {
        &recipe.model.init
    };
    let device = lab.device().clone();
    let classes = lab.dataset().classes.len();
    let model = Contrastive::new(&recipe, lab.initial_encoder(init)?, classes, &device)?;
    let splits = lab.splits()?;
    let training = recipe.pretrain.training();
    let sampler = match recipe.pretrain.per_class {
        Some(per_class) => Sampler::ClassBalanced { per_class },
        None => Sampler::Shuffle,
    };
    let (views, policy) = (recipe.augment.views, recipe.policy(stage.kind));
    let loader = splits.training_loader(stage, training.batch_size, views, policy, sampler)?;
    let flops = model.flops(splits.images.height, splits.images.width);

    let watch = Watch::new(lab, &splits, stage, training.epochs)?;
    let mut wheel = Wheel::start(
        lab,
        stage,
        training.clone(),
        &model.groups(),
        loader.steps_per_epoch(),
    )?
    .keeping(&model)?
    .watched_by(|epochs| watch.look(epochs, |images| model.spaces(images)));
    let outcome = wheel.run(
        &ImageFeed { loader, device },
        |batch, place| model.forward(batch, place),
        || Ok(None), // no classifier, nothing to choose
    )?;
    let position = wheel.position().clone();
    drop(wheel); // it holds the experiment
    if outcome == Outcome::Finished {
        lab.save_encoder(stage.arm, &model.encoder)?;
        lab.save(&lab.folder.projection(stage.arm), &model.parameters)?;
        let passes = budget::passes(&recipe, stage.kind);
        lab.finish(stage, &position, training.epochs, passes * flops)?;
    }
    Ok(outcome)
}
