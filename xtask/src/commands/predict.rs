//! `predict`: classes of ordinary photographs, by an arm of a finished run.

use anyhow::Result;
use serde_json::json;

use super::arm::Opened;
use crate::{cli::PredictArgs, exit::from_trainer, text::out};

/// Names the most probable classes of each photograph, and says where one is unlike the training data.
pub fn run(args: &PredictArgs) -> Result<()> {
    let opened = Opened::new(&args.arm)?;
    let images = opened.read(&args.images)?;
    let features = opened.arm.embed(&images).map_err(from_trainer)?;
    let predictions = opened.arm.predict(&images).map_err(from_trainer)?;
    let distances = opened.distances(&features)?;
    if !args.json {
        opened.say_if_synthetic();
    }
    let mut found = Vec::new();
    for ((path, prediction), distance) in args.images.iter().zip(&predictions).zip(distances) {
        let ranked = prediction.ranked().into_iter().take(args.top as usize);
        if args.json {
            let classes: Vec<_> = ranked
                .map(|(label, p)| json!({"class": opened.class(label), "label": label, "probability": p}))
                .collect();
            found.push(json!({
                "image": path.display().to_string(),
                "classes": classes,
                "distance": distance,
                "unlike_training_data": opened.familiar.is_strange(distance),
            }));
            continue;
        }
        out(path.display().to_string())?;
        for (label, p) in ranked {
            out(format!("  {:>6.2} %  {}", 100.0 * p, opened.class(label)))?;
        }
        if let Some(warning) = opened.warning(distance) {
            out(warning)?;
        }
    }
    if args.json {
        let mut object = opened.head(&args.arm);
        object["images"] = found.into();
        out(format!("{object:#}"))?;
    }
    Ok(())
}
