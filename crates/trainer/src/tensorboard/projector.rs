//! The embedding projector's files: a table of features, classes, and small pictures of the images, for every arm.
//!
//! ```text
//! projector_config.pbtxt                       which tables there are; read from the folder that TensorBoard is given
//! projector/<arm>/tensors.tsv                  one row of numbers an image
//! projector/<arm>/metadata.tsv                 index and class of each
//! projector/<arm>/sprite.png                   the images, in rows, from the upper left
//! ```
//!
//! The images are those of the validation split: nothing opens the test split for a picture.

use crate::{Arm, Result, files};
use cifar_data::Images;
use eval::Features;
use std::fmt::Write;
use std::path::Path;

/// The file that TensorBoard looks for.
pub(crate) const CONFIG: &str = "projector_config.pbtxt";
/// The folder of the tables.
const FOLDER: &str = "projector";
/// A table has at most this many numbers: a browser reads it as text.
const MAX_NUMBERS: usize = 1 << 20;
/// And at most this many images.
const MAX_IMAGES: usize = 2000;

/// Writes an arm's table: of `features`, which are those of `images` at `indices`, as many as fit, spread evenly.
pub(crate) fn write(
    run_dir: &Path,
    arm: Arm,
    features: &Features,
    images: &Images,
    indices: &[usize],
    classes: &[String],
) -> Result<()> {
    let most = (MAX_NUMBERS / features.dim.max(1)).clamp(1, MAX_IMAGES);
    let count = features.len().min(most);
    let rows: Vec<usize> = (0..count).map(|i| i * features.len() / count).collect();
    let mut tensors = String::new();
    let mut metadata = "index\tclass\n".to_owned();
    for &row in &rows {
        let numbers: Vec<String> = features
            .row(row)
            .iter()
            .map(|x| format!("{x:.4}"))
            .collect();
        tensors.push_str(&numbers.join("\t"));
        tensors.push('\n');
        let label = features.labels[row] as usize;
        let class = classes.get(label).map_or("?", String::as_str);
        // Writing to a string does not fail.
        let _ = writeln!(
            metadata,
            "{}\t{}",
            indices[row],
            class.replace(['\t', '\n'], " ")
        );
    }
    let photos: Vec<&[u8]> = rows.iter().map(|&row| images.image(indices[row])).collect();
    // The projector counts a square of pictures.
    let columns = (1..).find(|side| side * side >= count).unwrap_or(1);
    let sprite = eval::sheet(&photos, columns, images.height, images.width)?;
    let folder = run_dir.join(FOLDER).join(arm.name());
    fs_err::create_dir_all(&folder)?;
    files::write(&folder.join("tensors.tsv"), tensors.as_bytes())?;
    files::write(&folder.join("metadata.tsv"), metadata.as_bytes())?;
    files::write(&folder.join("sprite.png"), &sprite)?;
    files::write(&run_dir.join(CONFIG), config(run_dir, images).as_bytes())
}

/// One entry for every table that is there.
fn config(run_dir: &Path, images: &Images) -> String {
    let mut text = String::new();
    for arm in Arm::ALL {
        let folder = format!("{FOLDER}/{arm}");
        if run_dir.join(&folder).join("tensors.tsv").is_file() {
            let _ = write!(
                text,
                "embeddings {{\n  tensor_name: \"{arm}: features of validation images\"\n  tensor_path: \"{folder}/tensors.tsv\"\n  \
                 metadata_path: \"{folder}/metadata.tsv\"\n  sprite {{\n    image_path: \"{folder}/sprite.png\"\n    \
                 single_image_dim: {}\n    single_image_dim: {}\n  }}\n}}\n",
                images.width, images.height
            );
        }
    }
    text
}
