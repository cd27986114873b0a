//! What the commands of single stages share: which stages a command means, and running those that
//! can run now.

use anyhow::Result;
use trainer::{Recipe, StageId, StageKind};

use crate::{
    cli::StageArgs,
    exit::{bad_input, code, from_trainer},
    plan::Existing,
    session::Session,
};

/// Runs every stage of these kinds whose encoder is there; it is an error if none can run.
pub fn run(command: &str, kinds: &[StageKind], args: &StageArgs) -> Result<Session> {
    let mut session = Session::open_if(command, args, Existing::Welcome, |recipe| {
        can_begin(command, kinds, recipe)
    })?;
    let wanted = of_kinds(session.stages(), kinds);
    if wanted.is_empty() {
        return Err(no_such_stage(command, kinds, &session.recipe_name()));
    }
    session.expect_only(&wanted);
    let mut ran = 0;
    let mut not_ready = None;
    for stage in wanted {
        match session.run(stage) {
            Ok(()) => ran += 1,
            Err(error) if is_order(&error) => not_ready = Some(error),
            Err(error) => return Err(error),
        }
    }
    match not_ready {
        Some(error) if ran == 0 => Err(error),
        Some(error) => {
            session.note(&format!("left out: {error}"));
            Ok(session)
        }
        None => Ok(session),
    }
}

fn of_kinds(mut stages: Vec<StageId>, kinds: &[StageKind]) -> Vec<StageId> {
    stages.retain(|stage| kinds.contains(&stage.kind));
    stages
}

/// Whether a run of this recipe can begin with stages of these kinds.
fn can_begin(command: &str, kinds: &[StageKind], recipe: &Recipe) -> Result<()> {
    let mut needs = Vec::new();
    for stage in of_kinds(recipe.stages(), kinds) {
        match recipe.needs(stage).first() {
            Some(first) => needs.push((stage, *first)),
            None => return Ok(()),
        }
    }
    // What comes first in running order is what to do first.
    let stages = recipe.stages();
    let place = |need: &(StageId, StageId)| stages.iter().position(|stage| *stage == need.1);
    match needs.into_iter().min_by_key(place) {
        Some((stage, needs)) => Err(from_trainer(trainer::Error::StageOrder { stage, needs })),
        None => Err(no_such_stage(command, kinds, &recipe.name)),
    }
}

fn no_such_stage(command: &str, kinds: &[StageKind], recipe: &str) -> anyhow::Error {
    bad_input(format!(
        "{command}: recipe `{recipe}` has no such stage; switch one on in [arms] when the run is made (for instance --set arms.{}=true)",
        switch(kinds),
    ))
}

/// The arm that brings stages of these kinds.
fn switch(kinds: &[StageKind]) -> &'static str {
    match kinds.first() {
        Some(StageKind::Supervised) => "baseline",
        Some(StageKind::Finetune) => "finetuned",
        _ => "contrastive",
    }
}

/// Whether a stage was refused because an earlier one is missing.
fn is_order(error: &anyhow::Error) -> bool {
    code(error) == 2 && error.to_string().contains("builds on")
}
