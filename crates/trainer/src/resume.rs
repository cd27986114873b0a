//! What is looked at before a run goes on: that it is the same run, and how far its files are to be trusted.

use crate::checkpoint::Checkpoint;
use crate::environment::device_name;
use crate::folder::{Done, RunFolder};
use crate::journal::JournalPosition;
use crate::recipe::Recipe;
use crate::weights::InitialWeights;
use crate::{Error, Result, files, plan};
use candle_core::Device;
use cifar_data::DatasetInfo;
use std::collections::BTreeMap;
use std::path::Path;
use toml::{Table, Value};

/// Refuses a recipe that differs from the one that the run began with; names the first field that does.
pub(crate) fn same_recipe(run_dir: &Path, before: &Recipe, now: &Recipe) -> Result<()> {
    if before == now {
        return Ok(());
    }
    let table = |recipe: &Recipe| {
        Table::try_from(recipe).map_err(|e| Error::RecipeSyntax {
            message: e.to_string(),
        })
    };
    let difference = first_difference(
        "",
        &Value::Table(table(before)?),
        &Value::Table(table(now)?),
    );
    let (field, before, now) = difference.unwrap_or_default();
    Err(Error::ResumeMismatch {
        path: run_dir.to_owned(),
        field,
        before,
        now,
    })
}

/// Refuses other data than the run began with. A moved folder is the same data; other bytes are not.
pub(crate) fn same_data(run_dir: &Path, before: &DatasetInfo, now: &DatasetInfo) -> Result<()> {
    let differs = |field: &str, before: String, now: String| {
        Err(Error::ResumeMismatch {
            path: run_dir.to_owned(),
            field: field.to_owned(),
            before,
            now,
        })
    };
    // Images of the user's own are named after their folder, which may be called otherwise now; their checksums are told below.
    let own = before.user_images && now.user_images;
    if before.name != now.name && !own {
        return differs("dataset.name", before.name.clone(), now.name.clone());
    }
    let size = |d: &DatasetInfo| {
        format!(
            "{} + {} images of {}×{}, {} classes",
            d.train_len,
            d.test_len,
            d.height,
            d.width,
            d.classes.len()
        )
    };
    if size(before) != size(now) {
        return differs("dataset", size(before), size(now));
    }
    let sums = |d: &DatasetInfo| {
        let mut sums: Vec<String> = d.checksums.values().cloned().collect();
        sums.sort();
        sums.join(", ")
    };
    if sums(before) != sums(now) {
        return differs("dataset.checksums", sums(before), sums(now));
    }
    Ok(())
}

/// Refuses to train on with another kind of device than the run began on: its numbers would be others.
pub(crate) fn same_device(run_dir: &Path, before: &str, now: &Device) -> Result<()> {
    let now = device_name(now);
    let kind = |name: &str| name.split(':').next().unwrap_or_default().to_owned();
    if kind(before) == kind(&now) {
        return Ok(());
    }
    Err(Error::ResumeMismatch {
        path: run_dir.to_owned(),
        field: "--device".to_owned(),
        before: before.to_owned(),
        now,
    })
}

/// Refuses other initial weights than the run began with.
pub(crate) fn same_weights(
    run_dir: &Path,
    before: &BTreeMap<String, String>,
    now: &InitialWeights,
) -> Result<()> {
    match before.get(&now.name) {
        Some(before) if *before != now.checksum => Err(Error::ResumeMismatch {
            path: run_dir.to_owned(),
            field: now.name.clone(),
            before: before.clone(),
            now: now.checksum.clone(),
        }),
        _ => Ok(()),
    }
}

/// Removes checkpoints of stages that are done, and tells how long the journal was at the last moment that counts.
pub(crate) fn settle(folder: &RunFolder, recipe: &Recipe) -> Result<JournalPosition> {
    let mut last = JournalPosition::default();
    for stage in plan::stages(recipe) {
        let checkpoint = folder.checkpoint(stage);
        if folder.is_done(stage) {
            last = last.max(files::read_json::<Done>(&folder.done_record(stage))?.journal);
            if checkpoint.exists() {
                fs_err::remove_file(checkpoint)?;
            }
        } else if let Some(checkpoint) = Checkpoint::load(&checkpoint)? {
            last = last.max(checkpoint.position.journal);
        }
    }
    Ok(last)
}

/// The dotted name of the first field that differs, with both values.
fn first_difference(path: &str, before: &Value, now: &Value) -> Option<(String, String, String)> {
    match (before, now) {
        (Value::Table(a), Value::Table(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            keys.into_iter().find_map(|key| {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                match (a.get(key), b.get(key)) {
                    (Some(x), Some(y)) => first_difference(&path, x, y),
                    (x, y) => {
                        let show = |v: Option<&Value>| {
                            v.map_or_else(|| "not given".to_owned(), ToString::to_string)
                        };
                        Some((path, show(x), show(y)))
                    }
                }
            })
        }
        _ if before == now => None,
        _ => Some((path.to_owned(), before.to_string(), now.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_differing_field_is_named_with_both_values() {
        let before = Recipe::default();
        let mut now = before.clone();
        same_recipe(Path::new("run"), &before, &now).unwrap();
        now.pretrain.optimizer.lr = 0.25;
        let error = same_recipe(Path::new("run"), &before, &now)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("pretrain.optimizer.lr") && error.contains("0.25"),
            "{error}"
        );
        now = Recipe {
            budget_minutes: Some(3.0),
            ..before.clone()
        };
        let error = same_recipe(Path::new("run"), &before, &now)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("budget_minutes") && error.contains("not given"),
            "{error}"
        );
        now = Recipe {
            seed: 4,
            ..before.clone()
        };
        assert!(
            same_recipe(Path::new("run"), &before, &now)
                .unwrap_err()
                .to_string()
                .contains("`seed`")
        );
    }
}
