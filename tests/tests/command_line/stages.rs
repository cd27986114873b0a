//! The stages one by one give what `run-all` gives.

use crate::support::{World, assert_same};

#[test]
fn stage_by_stage_equals_run_all() {
    let world = World::new();
    world.tiny("run-all", "whole", &[]).ok();

    world.tiny("pretrain", "parts", &[]).ok();
    // From here on the folder knows its recipe.
    for command in ["train", "probe", "finetune", "probe", "eval", "report"] {
        world.run(&[command, "--run-dir=parts"]).ok();
    }
    assert_same(&world.path("whole"), &world.path("parts"));
}

#[test]
fn a_stage_before_its_time_says_what_is_missing() {
    let world = World::new();
    world.tiny("probe", "run", &[]).refused(&["supervised"]);
    world.tiny("eval", "run", &[]).refused(&["builds on"]);
    world.run(&["report", "--run-dir=run"]).refused(&["run"]);
}

#[test]
fn a_stage_that_the_recipe_lacks_names_the_switch() {
    let world = World::new();
    let off = ["--set=arms.finetuned=false", "--set=arms.control=false"];
    world
        .tiny("finetune", "run", &off)
        .refused(&["finetune", "arms.finetuned=true"]);
}
