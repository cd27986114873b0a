//! Ordinary photographs, one by one: of any size, from a camera or the web.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::images::Images;
use crate::source::decode;

/// A photograph that was brought to the size of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Photograph {
    /// Rows that it had.
    pub height: usize,
    /// Columns that it had.
    pub width: usize,
    /// Whether it had fewer rows or columns than it has now, so that its detail is made up.
    pub enlarged: bool,
    /// `[height, width, 3]` of the wanted size, row-major, RGB.
    pub pixels: Vec<u8>,
}

/// Reads photographs (PNG or JPEG, of any size) and brings each to `height`×`width`, as image folders are: EXIF orientation applied,
/// the largest centred part of that shape cut out, resized with antialiasing. A photograph of that size keeps its pixels. Labels are 0.
///
/// # Errors
/// If there is no photograph, or one cannot be read or decoded; the message names the file.
pub fn read_photographs(paths: &[PathBuf], height: usize, width: usize) -> Result<Images> {
    let read = read_each_photograph(paths, height, width);
    let pixels = read
        .into_iter()
        .map(|photograph| Ok(photograph?.pixels))
        .collect::<Result<Vec<_>>>()?;
    let images = Images {
        height,
        width,
        pixels: pixels.concat(),
        labels: vec![0; paths.len()],
    };
    images.check()?;
    if images.is_empty() {
        return Err(Error::setting("photographs", 0, "name at least one"));
    }
    Ok(images)
}

/// As [`read_photographs`], where one that cannot be read is no reason to lose the others: in the order of `paths`, each photograph or
/// the error that names its file.
pub fn read_each_photograph(
    paths: &[PathBuf],
    height: usize,
    width: usize,
) -> Vec<Result<Photograph>> {
    let read = |path: &PathBuf| read_photograph(path, (height, width));
    paths.par_iter().map(read).collect()
}

fn read_photograph(path: &Path, size: (usize, usize)) -> Result<Photograph> {
    if path.is_dir() {
        return Err(Error::file(
            path,
            "a PNG or JPEG image",
            "a folder",
            "name the files in it",
        ));
    }
    if !path.exists() {
        return Err(Error::file(
            path,
            "a PNG or JPEG image",
            "no file",
            "name one that is there",
        ));
    }
    let bytes = fs_err::read(path)?;
    if let Some(found) = decode::too_large(&bytes) {
        let expected = "a PNG or JPEG image that fits in memory";
        return Err(Error::file(path, expected, found, "shrink it"));
    }
    let decoded = decode::decode(&bytes).map_err(|found| not_an_image(path, found))?;
    let (height, width, _) = decoded;
    Ok(Photograph {
        height,
        width,
        enlarged: height < size.0 || width < size.1,
        pixels: decode::fit(decoded, size),
    })
}

/// The photographs below `folder`, by their endings (`.png`, `.jpg`, `.jpeg`), in name order; hidden files and folders are passed over.
///
/// # Errors
/// If a folder cannot be listed, or there is no photograph in it.
pub fn find_photographs(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        let instead = match folder.exists() {
            true => "a file",
            false => "nothing",
        };
        return Err(Error::file(
            folder,
            "a folder with photographs",
            instead,
            "name one that is there",
        ));
    }
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
            // Links to folders are not followed: they may go round in circles.
            if !hidden && entry.file_type()?.is_dir() {
                folders.push(path);
            } else if !hidden && path.is_file() && ENDINGS.iter().any(|known| ending == *known) {
                found.push(path);
            }
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(Error::file(
            folder,
            "photographs (.png, .jpg, .jpeg)",
            "none",
            "name a folder that holds some",
        ));
    }
    Ok(found)
}

/// File name endings of photographs, in lower case.
pub(crate) const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];

fn not_an_image(path: &Path, found: String) -> Error {
    Error::file(
        path,
        "a PNG or JPEG image",
        found,
        "convert it, or get the file again",
    )
}
