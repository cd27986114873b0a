//! `search`: the training photographs that an arm's encoder finds nearest to one of the user's.

use std::path::Path;

use anyhow::Result;
use cifar_data::Images;
use serde_json::json;

use super::arm::{Opened, check_place};
use crate::{
    cli::{Common, SearchArgs},
    exit::{bad_input, from_trainer},
    plan::{at_recorded_data, open_data},
    progress::Screen,
    text::out,
};

/// Names the nearest training photographs: their number in the data set, their class, and the cosine of the features.
pub fn run(args: &SearchArgs) -> Result<()> {
    if let Some(path) = &args.strip {
        let ending = path.extension().unwrap_or_default();
        if !ending.eq_ignore_ascii_case("png") {
            return Err(bad_input(format!(
                "--strip {}: the picture is a PNG file; give it a name that ends in .png",
                path.display()
            )));
        }
        check_place("--strip", path)?;
    }
    let opened = Opened::new(&args.arm)?;
    if let (Some(folder), true) = (&args.data_dir, opened.arm.dataset().synthetic) {
        return Err(bad_input(format!(
            "--data-dir {} has no meaning: {} was trained on the embedded data set; leave it out",
            folder.display(),
            args.arm.run_dir.display()
        )));
    }
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
    let flags = Common {
        data_dir: args.data_dir.clone(),
        ..Common::default()
    };
    let flags = at_recorded_data(&flags, &args.arm.run_dir)?;
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
