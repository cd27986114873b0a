//! `embed`: the features of a folder of photographs, as a file for other programs.

use anyhow::Result;
use serde_json::json;
use trainer::Embeddings;

use super::arm::{Opened, check_place};
use crate::{
    cli::EmbedArgs,
    exit::{from_data, from_trainer},
    text::out,
};

/// Writes the features of every photograph below the folder, and says how many are unlike the training data.
pub fn run(args: &EmbedArgs) -> Result<()> {
    Embeddings::check_format(&args.out).map_err(from_trainer)?;
    check_place("--out", &args.out)?;
    let opened = Opened::new(&args.arm)?;
    let paths = cifar_data::find_photographs(&args.folder).map_err(from_data)?;
    let images = opened.read(&paths)?;
    let features = opened.arm.embed(&images).map_err(from_trainer)?;
    let distances = opened.distances(&features)?;
    let names: Vec<String> = paths
        .iter()
        .map(|path| {
            let name = path.strip_prefix(&args.folder).unwrap_or(path);
            name.to_string_lossy().into_owned()
        })
        .collect();
    let strange: Vec<&String> = names
        .iter()
        .zip(&distances)
        .filter(|(_, distance)| opened.familiar.is_strange(**distance))
        .map(|(name, _)| name)
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
        object["images"] = names
            .iter()
            .zip(&distances)
            .map(|(name, distance)| json!({"image": name, "distance": distance, "unlike_training_data": opened.familiar.is_strange(*distance)}))
            .collect();
        object["dim"] = dim.into();
        return Ok(out(format!("{object:#}"))?);
    }
    opened.say_if_synthetic();
    for path in &written {
        out(format!("wrote {}", path.display()))?;
    }
    out(format!(
        "{} photographs, {dim} numbers each; {} unlike the training data{}",
        names.len(),
        strange.len(),
        if strange.is_empty() { "" } else { ":" }
    ))?;
    for name in strange {
        out(format!("  {name}"))?;
    }
    Ok(())
}
