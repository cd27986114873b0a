//! `download`: fetches and checks what a recipe needs, so that a later run needs no network.

use anyhow::Result;
use cifar_data::DatasetName;
use trainer::CheckedRecipe;

use crate::{
    cli::Common,
    exit::{from_data, from_trainer},
    plan::open_data,
    progress::Screen,
    recipes,
    text::{out, wrap},
};

/// Opens the data set and decodes every image once, finds the first weights, and says what was found.
pub fn run(flags: &Common) -> Result<()> {
    let screen = Screen::stderr();
    let mut recipe = match &flags.recipe {
        Some(wanted) => recipes::load(wanted)?,
        None => recipes::load("quick")?,
    };
    recipes::apply(&mut recipe, flags)?;
    let recipe = recipes::check(&recipe)?;
    // There is nothing to download for `auto`'s fallback: ask for what it falls back from.
    let mut data = recipe.data.clone();
    if data.dataset == DatasetName::Auto && flags.data_dir.is_none() {
        data.dataset = DatasetName::Cifar10;
    }
    let dataset = open_data(flags, &data, &screen)?;
    let info = dataset.info();
    out(format!("{}: {}", info.name, info.source))?;
    for (file, sum) in &info.checksums {
        out(format!("  {file}  {sum}"))?;
    }
    let (train, test) = (
        dataset.train().map_err(from_data)?,
        dataset.test().map_err(from_data)?,
    );
    out(format!(
        "  {} training and {} test images of {}×{}, {} classes; every one decodes",
        train.len(),
        test.len(),
        info.height,
        info.width,
        info.classes.len()
    ))?;
    for note in &info.notes {
        for line in wrap(note, 78) {
            out(format!("  {line}"))?;
        }
    }
    fetch_weights(&recipe, &screen)
}

/// The weights that the recipe's arms begin with, where these are not random.
fn fetch_weights(recipe: &CheckedRecipe, screen: &Screen) -> Result<()> {
    let found = trainer::initial_weights(recipe, false, &mut |event| screen.event(event));
    screen.clear();
    for weights in found.map_err(from_trainer)? {
        out(format!("{}: {}", weights.name, weights.path.display()))?;
        out(format!(
            "  {}; fit the network of recipe `{}`",
            weights.checksum, recipe.name
        ))?;
    }
    Ok(())
}
