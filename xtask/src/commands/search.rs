//! `search`: the training photographs that an arm's encoder finds nearest to one of the user's.

use std::path::Path;

use anyhow::Result;
use cifar_data::Images;
use serde_json::json;

use super::arm::{Opened, check_place, extend, open_training_data};
use crate::{
    cli::SearchArgs,
    exit::{bad_input, from_data, from_trainer},
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
    let data_dir = args.data_dir.as_deref();
    let opened = Opened::new(&args.arm, data_dir)?;
    if let (Some(folder), true) = (data_dir, opened.arm.dataset().synthetic) {
        return Err(bad_input(format!(
            "--data-dir {} has no meaning: {} was trained on the embedded data set; leave it out",
            folder.display(),
            args.arm.run_dir.display()
        )));
    }
    let photograph = opened.read(std::slice::from_ref(&args.image)).remove(0);
    let photograph = photograph.map_err(from_data)?;
    let query = opened.images(std::slice::from_ref(&photograph));
    let (images, rows) = training_images(&opened, args)?;
    let features = opened.arm.embed(&query).map_err(from_trainer)?;
    let likeness = opened.likeness(&query, &features)?.remove(0);
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
        extend(&mut object, opened.described(&photograph, &likeness));
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
    for line in opened.remarks(&photograph, &likeness) {
        out(line)?;
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
    let dataset = open_training_data(&opened.arm, &args.arm, args.data_dir.as_deref())?;
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
