//! `predict`: classes of ordinary photographs, by an arm of a finished run.

use anyhow::Result;
use serde_json::json;

use super::arm::{Opened, extend};
use crate::{
    cli::PredictArgs,
    exit::{bad_input, from_data, from_trainer},
    text::{note, out},
};

/// Names the most probable classes of each photograph, and says where one is unlike the training data. One that cannot be read is
/// named with its reason, and the others are answered.
pub fn run(args: &PredictArgs) -> Result<()> {
    let opened = Opened::new(&args.arm, None)?;
    let mut read = opened.read(&args.images);
    if let (1, false, true) = (read.len(), args.json, read[0].is_err()) {
        return read.remove(0).map(drop).map_err(from_data);
    }
    let mut entries = Vec::new();
    let mut photographs = Vec::new();
    for (path, photograph) in args.images.iter().zip(read) {
        let mut entry = json!({"image": path.display().to_string()});
        match photograph {
            Ok(photograph) => photographs.push(photograph),
            Err(error) if args.json => entry["error"] = error.to_string().into(),
            Err(error) => {
                note(error.to_string());
                continue;
            }
        }
        entries.push(entry);
    }
    if !args.json {
        opened.say_if_synthetic();
    }
    if !photographs.is_empty() {
        let images = opened.images(&photographs);
        let features = opened.arm.embed(&images).map_err(from_trainer)?;
        let predictions = opened.arm.predict(&images).map_err(from_trainer)?;
        let likeness = opened.likeness(&images, &features)?;
        let answered = entries.iter_mut().filter(|entry| entry["error"].is_null());
        for (row, entry) in answered.enumerate() {
            let (photograph, likeness) = (&photographs[row], &likeness[row]);
            let ranked = predictions[row].ranked();
            let ranked = ranked.into_iter().take(args.top as usize);
            if args.json {
                let classes = ranked.map(
                    |(label, p)| json!({"class": opened.class(label), "label": label, "probability": p}),
                );
                entry["classes"] = classes.collect();
                extend(entry, opened.described(photograph, likeness));
                continue;
            }
            out(entry["image"].as_str().unwrap_or_default())?;
            for (label, p) in ranked {
                out(format!("  {:>6.2} %  {}", 100.0 * p, opened.class(label)))?;
            }
            for line in opened.remarks(photograph, likeness) {
                out(line)?;
            }
        }
    }
    if args.json {
        let mut object = opened.head(&args.arm);
        object["images"] = entries.into();
        out(format!("{object:#}"))?;
    }
    match args.images.len() - photographs.len() {
        0 => Ok(()),
        failed => Err(bad_input(format!(
            "{failed} of {} images could not be read, each named with its reason; mend or leave out",
            args.images.len()
        ))),
    }
}
