//! The story of a run: `report.html` (one file, no network), `report.md` and its figures.

mod axis;
mod figures;
mod format;
mod input;
mod markdown;
mod measures;
mod page;
mod palette;
mod payload;
mod pictures;
mod png;
mod raster;
mod script;
mod sprite;
mod story;
mod svg;
mod table;
mod tables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::atomic::write_atomically;
use crate::error::{Error, Result};
pub use input::CurvePoint;
pub use input::EmbeddingMap;
pub use input::EmbeddingMaps;
pub use input::Gallery;
pub use input::GalleryArm;
pub use input::Pictures;
pub use input::ReportInput;
pub use input::SamplePhoto;
pub use input::SamplePrediction;
pub use input::SnapshotFrame;
pub use input::Snapshots;
pub use input::StageCurve;
pub use measures::seeds_table;
pub use pictures::PicturesPaths;
pub use pictures::write_pictures;
pub use table::summary_table;

/// Where [`write_report`] put what it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportPaths {
    /// The page: self-contained.
    pub html: PathBuf,
    /// The text, with links to the figures.
    pub markdown: PathBuf,
    /// The figures as standalone SVG files.
    pub figures: Vec<PathBuf>,
    /// The same as PNG, on white; none without the feature `png`.
    pub pictures: Vec<PathBuf>,
}

/// Writes `report.html`, `report.md`, `figures/*.svg` and `figures/*.png` into `folder`, each file atomically, the figures
/// before the texts that name them. Figures of an earlier report that this one does not have are removed.
///
/// The bytes depend on `input` alone.
///
/// # Errors
/// If the parts of `input` do not fit together, or a file cannot be written.
pub fn write_report(folder: &Path, input: &ReportInput) -> Result<ReportPaths> {
    input.check()?;
    let page = page::Page::new(input)?;
    let (html, markdown) = (page.html()?, page.markdown()?);
    let beside = folder.join("figures");
    std::fs::create_dir_all(&beside).map_err(|source| io("create", &beside, source))?;
    let all: Vec<_> = page.figures().collect();
    let drawn: Vec<_> = all.par_iter().map(|figure| raster::png(figure)).collect();
    let (mut figures, mut pictures) = (Vec::new(), Vec::new());
    for (figure, drawn) in all.into_iter().zip(drawn) {
        let path = beside.join(format!("{}.svg", figure.name));
        write_atomically(&path, figure.standalone().as_bytes())?;
        if let Some(png) = drawn? {
            let path = path.with_extension("png");
            write_atomically(&path, &png)?;
            pictures.push(path);
        }
        figures.push(path);
    }
    let paths = ReportPaths {
        html: folder.join("report.html"),
        markdown: folder.join("report.md"),
        figures,
        pictures,
    };
    write_atomically(&paths.markdown, markdown.as_bytes())?;
    write_atomically(&paths.html, html.as_bytes())?;
    let kept = paths.figures.iter().chain(&paths.pictures);
    remove_other_figures(&beside, &kept.map(PathBuf::as_path).collect())?;
    Ok(paths)
}

/// A picture of an earlier report beside the text of this one would tell a story that did not happen.
fn remove_other_figures(folder: &Path, kept: &BTreeSet<&Path>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(|source| io("read", folder, source))? {
        let path = entry.map_err(|source| io("read", folder, source))?.path();
        let figure = path
            .extension()
            .is_some_and(|ending| ending == "svg" || ending == "png");
        if figure && !kept.contains(path.as_path()) {
            std::fs::remove_file(&path).map_err(|source| io("remove", &path, source))?;
        }
    }
    Ok(())
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
