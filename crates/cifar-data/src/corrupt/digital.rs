//! What processing does.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use rand_chacha::ChaCha8Rng;

use super::Picture;
use super::field::{normal, smooth};
use crate::error::{Error, Result};
use crate::source::decode;

/// `(x − mean)·c + mean`, channel by channel.
pub(super) fn contrast(mut picture: Picture, level: usize) -> Picture {
    let kept = [0.75, 0.5, 0.4, 0.3, 0.15][level];
    let pixels = (picture.height * picture.width) as f32;
    for channel in 0..3 {
        let mean = picture.values[channel..].iter().step_by(3).sum::<f32>() / pixels;
        let values = picture.values[channel..].iter_mut().step_by(3);
        values.for_each(|x| *x = (*x - mean) * kept + mean);
    }
    picture
}

/// Moved along a smooth random field (Simard et al. 2003): noise blurred over 2 pixels, scaled to a root mean square of a
/// share of the picture's side.
pub(super) fn elastic(picture: Picture, level: usize, rng: &mut ChaCha8Rng) -> Picture {
    let size = (picture.height, picture.width);
    let side = size.0.min(size.1) as f32;
    let amplitude = [0.012, 0.02, 0.028, 0.038, 0.05][level] * side;
    let mut field = || {
        let noise: Vec<f32> = (0..size.0 * size.1).map(|_| normal(rng)).collect();
        let soft = smooth(&noise, size, 1, 2.0 * side / 32.0);
        let power: f32 = soft.iter().map(|x| x * x).sum::<f32>() / soft.len() as f32;
        let scale = amplitude / power.sqrt().max(f32::MIN_POSITIVE);
        soft.into_iter().map(|x| x * scale).collect::<Vec<f32>>()
    };
    let (down, across) = (field(), field());
    picture.warped(|y, x| {
        let at = y * size.1 + x;
        (y as f32 + down[at], x as f32 + across[at])
    })
}

/// Averaged over a coarser grid, which is then repeated.
pub(super) fn pixelate(picture: Picture, level: usize) -> Picture {
    let share = [0.95, 0.9, 0.85, 0.75, 0.65][level];
    let (height, width) = (picture.height, picture.width);
    let coarse = |side: usize| ((side as f64 * share) as usize).max(1);
    let (rows, columns) = (coarse(height), coarse(width));
    // Box filter: each coarse cell is the mean of what it covers, edges in part.
    let covered = |cell: usize, cells: usize, side: usize| -> Vec<(usize, f32)> {
        let scale = side as f32 / cells as f32;
        let (from, to) = (cell as f32 * scale, (cell + 1) as f32 * scale);
        (from as usize..(to.ceil() as usize).min(side))
            .map(|at| (at, ((at + 1) as f32).min(to) - (at as f32).max(from)))
            .filter(|(_, weight)| *weight > 1e-6)
            .collect()
    };
    let mut small = vec![0f32; rows * columns * 3];
    for row in 0..rows {
        for column in 0..columns {
            let mut area = 0.0;
            for &(y, tall) in &covered(row, rows, height) {
                for &(x, wide) in &covered(column, columns, width) {
                    area += tall * wide;
                    for channel in 0..3 {
                        small[(row * columns + column) * 3 + channel] +=
                            tall * wide * picture.values[(y * width + x) * 3 + channel];
                    }
                }
            }
            let cell = &mut small[(row * columns + column) * 3..][..3];
            cell.iter_mut().for_each(|x| *x /= area);
        }
    }
    let mut values = Vec::with_capacity(picture.values.len());
    for y in 0..height {
        for x in 0..width {
            let cell =
                (2 * y + 1) * rows / (2 * height) * columns + (2 * x + 1) * columns / (2 * width);
            values.extend_from_slice(&small[cell * 3..][..3]);
        }
    }
    Picture { values, ..picture }
}

/// Through a JPEG file in memory.
pub(super) fn jpeg(picture: &Picture, level: usize) -> Result<Vec<u8>> {
    let quality = [80, 65, 58, 50, 40][level];
    let refused = |reason: String| Error::setting("jpeg_compression", quality, reason);
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .write_image(
            &picture.pixels(),
            picture.width as u32,
            picture.height as u32,
            ExtendedColorType::Rgb8,
        )
        .map_err(|error| refused(format!("the image could not be written ({error})")))?;
    let (_, _, pixels) = decode::decode(&bytes)
        .map_err(|error| refused(format!("the image could not be read back: {error}")))?;
    Ok(pixels)
}
