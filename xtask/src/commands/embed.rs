//! `embed`: the features of a folder of photographs, as a file for other programs.

use anyhow::Result;
use cifar_data::Photograph;
use serde_json::json;
use trainer::Embeddings;

use super::arm::{Opened, check_place, extend};
use crate::{
    cli::EmbedArgs,
    exit::{bad_input, from_data, from_trainer},
    text::out,
};

/// Writes the features of every photograph below the folder, and says how many are unlike the training data.
pub fn run(args: &EmbedArgs) -> Result<()> {
    Embeddings::check_format(&args.out).map_err(from_trainer)?;
    check_place("--out", &args.out)?;
    let opened = Opened::new(&args.arm, None)?;
    let paths = cifar_data::find_photographs(&args.folder).map_err(from_data)?;
    let photographs = all_of(opened.read(&paths))?;
    let images = opened.images(&photographs);
    let features = opened.arm.embed(&images).map_err(from_trainer)?;
    let likeness = opened.likeness(&images, &features)?;
    let names: Vec<String> = paths
        .iter()
        .map(|path| {
            let name = path.strip_prefix(&args.folder).unwrap_or(path);
            name.to_string_lossy().into_owned()
        })
        .collect();
    let dim = features.dim;
    let embeddings = Embeddings {
        names: names.clone(),
        features,
    };
    let written = embeddings.save(&args.out).map_err(from_trainer)?;
    if args.json {
        let mut object = opened.head(&args.arm);
        object["files"] = written
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        object["images"] = (names.iter().zip(&photographs).zip(&likeness))
            .map(|((name, photograph), likeness)| {
                let mut entry = json!({"image": name});
                extend(&mut entry, opened.described(photograph, likeness));
                entry
            })
            .collect();
        object["dim"] = dim.into();
        return Ok(out(format!("{object:#}"))?);
    }
    opened.say_if_synthetic();
    for path in &written {
        out(format!("wrote {}", path.display()))?;
    }
    let enlarged = photographs.iter().filter(|photo| photo.enlarged).count();
    let strange: Vec<_> = (names.iter().zip(&likeness))
        .filter(|(_, likeness)| likeness.is_strange())
        .collect();
    out(format!("{} photographs, {dim} numbers each", names.len()))?;
    if enlarged > 0 {
        let data = opened.arm.dataset();
        out(format!(
            "{enlarged} enlarged, being smaller than the training images' {}×{} pixels",
            data.width, data.height
        ))?;
    }
    out(format!(
        "{} unlike the training data{}",
        strange.len(),
        if strange.is_empty() { "" } else { ":" }
    ))?;
    for (name, likeness) in strange {
        out(format!("  {name} ({})", likeness.reasons().join(", ")))?;
    }
    Ok(())
}

/// All photographs, or one error that names each that cannot be read: a table of features with silent gaps would be of no use.
fn all_of(read: Vec<cifar_data::Result<Photograph>>) -> Result<Vec<Photograph>> {
    let count = read.len();
    let (mut photographs, mut errors) = (Vec::new(), Vec::new());
    for photograph in read {
        match photograph {
            Ok(photograph) => photographs.push(photograph),
            Err(error) => errors.push(error),
        }
    }
    match errors.len() {
        0 => Ok(photographs),
        1 => Err(from_data(errors.remove(0))),
        failed => {
            let reasons: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Err(bad_input(format!(
                "{failed} of {count} photographs cannot be read, and nothing was written; mend or remove them: {}",
                reasons.join(" | ")
            )))
        }
    }
}
