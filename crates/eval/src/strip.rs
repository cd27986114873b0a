//! Photographs in one PNG file: a query and what was found for it, or a sheet of many.

use image::RgbImage;
use image::imageops::{self, FilterType};

use crate::error::{Error, Result};

/// Pixels between photographs, and around them.
const GAP: u32 = 4;
/// Pixels between the first photograph and the others.
const WIDE_GAP: u32 = 16;
/// Shorter photographs are enlarged by a whole factor up to about this height, each pixel a square.
const HEIGHT: u32 = 128;

/// PNG bytes of `photos`, each `[height, width, 3]` RGB, in a row on white; the first stands apart from the others.
///
/// # Errors
/// If there are none, or one has another length.
pub fn strip(photos: &[&[u8]], height: usize, width: usize) -> Result<Vec<u8>> {
    let (h, w) = (height as u32, width as u32);
    let factor = (HEIGHT / h.max(1)).max(1);
    let count = photos.len() as u32;
    if count == 0 || h == 0 || w == 0 {
        return Err(Error::Invalid(
            "a strip needs at least one photograph with at least one pixel".to_owned(),
        ));
    }
    let place =
        |index: u32| GAP + index * (w * factor + GAP) + if index > 0 { WIDE_GAP - GAP } else { 0 };
    let mut canvas = RgbImage::from_pixel(
        place(count) - if count > 1 { 0 } else { WIDE_GAP - GAP },
        h * factor + 2 * GAP,
        image::Rgb([255; 3]),
    );
    for (index, photo) in photos.iter().enumerate() {
        let expected = height * width * 3;
        let image = (photo.len() == expected).then(|| RgbImage::from_raw(w, h, photo.to_vec()));
        let photo = image.flatten().ok_or_else(|| {
            Error::Invalid(format!(
                "photograph {index} of the strip has {} bytes, {height}×{width}×3 were expected",
                photo.len()
            ))
        })?;
        let photo = imageops::resize(&photo, w * factor, h * factor, FilterType::Nearest);
        let left = i64::from(place(index as u32));
        imageops::replace(&mut canvas, &photo, left, i64::from(GAP));
    }
    png_of(&canvas)
}

/// PNG bytes of `photos`, each `[height, width, 3]` RGB, pixel for pixel in rows of `columns` without gaps; what is left of the last row
/// is white.
///
/// # Errors
/// If there are none, or one has another length.
pub fn sheet(photos: &[&[u8]], columns: usize, height: usize, width: usize) -> Result<Vec<u8>> {
    let columns = columns.clamp(1, photos.len().max(1));
    let rows = photos.len().div_ceil(columns);
    let mut pixels = vec![255u8; rows * height * columns * width * 3];
    for (index, photo) in photos.iter().enumerate() {
        if photo.len() != height * width * 3 {
            return Err(Error::Invalid(format!(
                "photograph {index} of the sheet has {} bytes, {height}×{width}×3 were expected",
                photo.len()
            )));
        }
        let corner = (index / columns * height * columns + index % columns) * width * 3;
        for (y, row) in photo.chunks_exact(width * 3).enumerate() {
            pixels[corner + y * columns * width * 3..][..width * 3].copy_from_slice(row);
        }
    }
    RgbImage::from_raw((columns * width) as u32, (rows * height) as u32, pixels)
        .filter(|image| image.width() > 0 && image.height() > 0)
        .ok_or_else(|| {
            Error::Invalid(
                "a sheet needs at least one photograph with at least one pixel".to_owned(),
            )
        })
        .and_then(|image| png_of(&image))
}

fn png_of(image: &RgbImage) -> Result<Vec<u8>> {
    let mut png = std::io::Cursor::new(Vec::new());
    image
        .write_to(&mut png, image::ImageFormat::Png)
        .map_err(|error| {
            Error::Invalid(format!("the picture cannot be written as PNG: {error}"))
        })?;
    Ok(png.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photographs_stand_side_by_side_enlarged() {
        let colours = [[200u8, 0, 0], [0, 200, 0], [0, 0, 200]];
        let photos: Vec<Vec<u8>> = colours.iter().map(|c| c.repeat(32 * 32)).collect();
        let photos: Vec<&[u8]> = photos.iter().map(Vec::as_slice).collect();
        let png = strip(&photos, 32, 32).unwrap();
        let image = image::load_from_memory(&png).unwrap().to_rgb8();
        assert_eq!(image.dimensions(), (3 * 128 + 3 * 4 + 16, 128 + 8));
        assert_eq!(image.get_pixel(4, 4).0, colours[0]);
        assert_eq!(image.get_pixel(4 + 128 + 3, 70).0, [255; 3]);
        assert_eq!(image.get_pixel(4 + 128 + 16, 131).0, colours[1]);
        assert_eq!(image.get_pixel(4 + 128 + 16 + 128 + 4, 4).0, colours[2]);
        assert!(strip(&photos, 32, 31).is_err());
        assert!(strip(&[], 32, 32).is_err());
        strip(&photos[..1], 32, 32).unwrap();
    }

    #[test]
    fn a_sheet_has_rows_without_gaps() {
        let photos: Vec<Vec<u8>> = (1..6u8).map(|i| vec![i * 40; 2 * 3 * 3]).collect();
        let photos: Vec<&[u8]> = photos.iter().map(Vec::as_slice).collect();
        let image = image::load_from_memory(&sheet(&photos, 3, 2, 3).unwrap())
            .unwrap()
            .to_rgb8();
        assert_eq!(image.dimensions(), (9, 4));
        let at = |x, y| image.get_pixel(x, y).0[0];
        assert_eq!((at(2, 1), at(3, 0), at(8, 1)), (40, 80, 120));
        assert_eq!((at(0, 2), at(5, 3), at(6, 2)), (160, 200, 255));
        assert!(sheet(&[], 3, 2, 3).is_err() && sheet(&photos, 3, 3, 3).is_err());
    }
}
