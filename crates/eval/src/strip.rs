//! A strip of photographs side by side, as a PNG file: a query and what was found for it.

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
        let photo = RgbImage::from_raw(w, h, photo.to_vec()).ok_or_else(|| {
            Error::Invalid(format!(
                "photograph {index} of the strip has {} bytes, {height}×{width}×3 were expected",
                photo.len()
            ))
        })?;
        let photo = imageops::resize(&photo, w * factor, h * factor, FilterType::Nearest);
        let left = i64::from(place(index as u32));
        imageops::replace(&mut canvas, &photo, left, i64::from(GAP));
    }
    let mut png = std::io::Cursor::new(Vec::new());
    canvas
        .write_to(&mut png, image::ImageFormat::Png)
        .map_err(|error| Error::Invalid(format!("the strip cannot be written as PNG: {error}")))?;
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
}
