//! What the commands of single stages share: which stages a command means, and running those that
//! can run now.

use anyhow::Result;
use trainer::StageKind;

use crate::{
    cli::StageArgs,
    exit::{bad_input, code},
    plan::Existing,
    session::Session,
};

/// Runs every stage of these kinds whose encoder is there; it is an error if none can run.
pub fn run(command: &str, kinds: &[StageKind], args: &StageArgs) -> Result<Session> {
    let mut session = Session::open(command, args, Existing::Welcome)?;
    let wanted: Vec<_> = session
        .stages()
        .into_iter()
        .filter(|stage| kinds.contains(&stage.kind))
        .collect();
    if wanted.is_empty() {
        return Err(bad_input(format!(
            "{command}: recipe `{}` has no such stage; switch one on in [arms] when the run is made (for instance --set arms.{}=true)",
            session.recipe_name(),
            switch(kinds),
        )));
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
