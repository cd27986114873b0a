//! `search`: the training photographs that an arm's encoder finds nearest to one of the user's.

use std::path::Path;

use anyhow::Result;
use cifar_data::Images;
use serde_json::json;

use super::arm::Opened;
use crate::{
    cli::{Common, SearchArgs},
    exit::{bad_input, from_trainer},
    plan::open_data,
    progress::Screen,
    text::out,
};

/// Names the nearest training photographs: their number in the data set, their class, and the cosine of the features.
pub fn run(args: &SearchArgs) -> Result<()> {
    let opened = Opened::new(&args.arm)?;
    let query = opened.read(std::slice::from_ref(&args.image))?;
    let (images, rows) = training_images(&opened, args)?;
    let features = opened.arm.embed(&query).map_err(from_trainer)?;
    let distance = opened.distances(&features)?[0];
    let found = opened
        .arm
        .nearest(&opened.train, &query, args.count as usize)
        .map_err(from_trainer)?
        .remove(0);
    if let Some(path) = &args.strip {
        let nearest = found.iter().map(|near| images.image(rows[near.index]));
        let photos: Vec<&[u8]> = [query.image(0)].into_iter().chain(nearest).collect();
        write_strip(path, &photos, &query)?;
    }
    if args.json {
        let mut object = opened.head(&args.arm);
        object["image"] = args.image.display().to_string().into();
        object["distance"] = distance.into();
        object["is_unlike_training_data"] = opened.familiar.is_strange(distance).into();
        object["nearest"] = found
            .iter()
            .map(|near| {
                let class = opened.class(near.label as usize);
                json!({"index": rows[near.index], "class": class, "label": near.label, "similarity": near.similarity})
            })
            .collect();
        return Ok(out(format!("{object:#}"))?);
    }
    out(args.image.display().to_string())?;
    if let Some(warning) = opened.warning(distance) {
        out(warning)?;
    }
    out("  similarity    index  class")?;
    for near in &found {
        out(format!(
            "  {:>10.4} {:>8}  {}",
            near.similarity,
            rows[near.index],
            opened.class(near.label as usize)
        ))?;
    }
    if let Some(path) = &args.strip {
        out(format!("picture  {}", path.display()))?;
    }
    Ok(())
}

/// The run's training images and which of them each row of the training features is.
fn training_images(
    opened: &Opened,
    args: &SearchArgs,
) -> Result<(std::sync::Arc<Images>, std::sync::Arc<Vec<usize>>)> {
    let recorded = opened.arm.dataset();
    let there = Path::new(&recorded.source);
    let flags = Common {
        // Where the run found its data, if that is a place on this machine and they are still there.
        data_dir: args
            .data_dir
            .clone()
            .or_else(|| there.exists().then(|| there.to_owned())),
        ..Common::default()
    };
    let data = &opened.arm.recipe().data;
    let dataset = open_data(&flags, data, &Screen::stderr())?;
    opened
        .arm
        .training_images(&dataset)
        .map_err(|error| match error {
            trainer::Error::ResumeMismatch {
                field, before, now, ..
            } => bad_input(format!(
                "these are not the data that {} was trained on ({field} was `{before}` and is `{now}`); name them with --data-dir",
                args.arm.run_dir.display()
            )),
            other => from_trainer(other),
        })
}

fn write_strip(path: &Path, photos: &[&[u8]], size: &Images) -> Result<()> {
    let png = eval::strip(photos, size.height, size.width);
    png.and_then(|png| eval::write_atomically(path, &png))
        .map_err(|error| from_trainer(error.into()))
}
