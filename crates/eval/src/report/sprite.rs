//! All pictures of a gallery in one JPEG: rows of tiles. Tiles are whole blocks of the JPEG grid, so that no picture
//! bleeds into its neighbour.

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use super::input::Pictures;
use super::png::base64;
use crate::error::{Error, Result};

/// JPEG works on blocks of 8 pixels, 16 where colour is halved.
const BLOCK: usize = 16;
/// Tried in this order until the file is small enough.
const QUALITIES: [u8; 4] = [88, 78, 64, 45];
/// With base 64 on top (4/3), a page stays below 25 MB.
const MOST_BYTES: usize = 15_500_000;

/// The sprite as an address, and where its tiles are.
pub(crate) struct Sprite {
    pub(crate) address: String,
    /// Pixels of a picture.
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// From one tile to the next.
    pub(crate) step: (usize, usize),
    pub(crate) columns: usize,
}

impl Sprite {
    pub(crate) fn new(pictures: &Pictures, count: usize) -> Result<Self> {
        let Pictures { width, height, .. } = *pictures;
        let step = (
            width.div_ceil(BLOCK) * BLOCK,
            height.div_ceil(BLOCK) * BLOCK,
        );
        let columns = ((count as f64).sqrt().ceil() as usize).max(1);
        let rows = count.div_ceil(columns);
        let (whole_width, whole_height) = (columns * step.0, rows * step.1);
        let mut pixels = vec![0u8; whole_width * whole_height * 3];
        for tile in 0..count {
            let (left, top) = (tile % columns * step.0, tile / columns * step.1);
            for y in 0..step.1 {
                // The edge goes on into the padding: a hard step there would cost bytes and show.
                let from = ((tile * height + y.min(height - 1)) * width) * 3;
                let row = &pictures.rgb[from..from + width * 3];
                let to = ((top + y) * whole_width + left) * 3;
                pixels[to..to + width * 3].copy_from_slice(row);
                let last = [row[width * 3 - 3], row[width * 3 - 2], row[width * 3 - 1]];
                for x in width..step.0 {
                    pixels[to + x * 3..to + x * 3 + 3].copy_from_slice(&last);
                }
            }
        }
        let mut bytes = Vec::new();
        for quality in QUALITIES {
            bytes = jpeg(&pixels, whole_width, whole_height, quality)?;
            if bytes.len() <= MOST_BYTES {
                break;
            }
        }
        if bytes.len() > MOST_BYTES {
            return Err(Error::Invalid(format!(
                "{count} pictures of {width}×{height} pixels are {} MB as JPEG, more than a page takes ({} MB); hand in \
                 smaller ones",
                bytes.len() / 1_000_000,
                MOST_BYTES / 1_000_000
            )));
        }
        Ok(Sprite {
            address: format!("data:image/jpeg;base64,{}", base64(&bytes)),
            width,
            height,
            step,
            columns,
        })
    }
}

fn jpeg(rgb: &[u8], width: usize, height: usize, quality: u8) -> Result<Vec<u8>> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::Invalid(format!(
            "a picture of {width}×{height} pixels cannot be written as JPEG: {error}"
        ))
    };
    let mut bytes = Vec::new();
    let (w, h) = (
        u16::try_from(width).map_err(|error| failed(&error))?,
        u16::try_from(height).map_err(|error| failed(&error))?,
    );
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(rgb, u32::from(w), u32::from(h), ExtendedColorType::Rgb8)
        .map_err(|error| failed(&error))?;
    Ok(bytes)
}

/// One picture of a gallery as an address.
pub(crate) fn picture_address(pictures: &Pictures, image: usize) -> Result<String> {
    let size = pictures.width * pictures.height * 3;
    let rgb = &pictures.rgb[image * size..(image + 1) * size];
    let bytes = jpeg(rgb, pictures.width, pictures.height, 90)?;
    Ok(format!("data:image/jpeg;base64,{}", base64(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(address: &str) -> image::RgbImage {
        let text = address.strip_prefix("data:image/jpeg;base64,").unwrap();
        let digit = |c: u8| match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let bytes: Vec<u8> = text
            .trim_end_matches('=')
            .as_bytes()
            .chunks(4)
            .flat_map(|group| {
                let bits = group
                    .iter()
                    .fold(0u32, |bits, &c| bits << 6 | u32::from(digit(c)));
                let bits = bits << (6 * (4 - group.len()));
                bits.to_be_bytes()[1..group.len()].to_vec()
            })
            .collect();
        image::load_from_memory(&bytes).unwrap().to_rgb8()
    }

    #[test]
    fn every_tile_is_its_picture_and_none_bleeds() {
        // 5 plain pictures of 20×12 pixels, each of a colour of its own.
        let colours = [
            [250u8, 10, 10],
            [10, 250, 10],
            [10, 10, 250],
            [240, 240, 20],
            [0, 0, 0],
        ];
        let rgb = colours
            .iter()
            .flat_map(|colour| colour.repeat(240))
            .collect();
        let pictures = Pictures {
            height: 12,
            width: 20,
            rgb,
        };
        let sprite = Sprite::new(&pictures, 5).unwrap();
        assert_eq!((sprite.step, sprite.columns), ((32, 16), 3));
        let whole = decoded(&sprite.address);
        assert_eq!(whole.dimensions(), (96, 32));
        for (tile, colour) in colours.iter().enumerate() {
            let (left, top) = ((tile % 3 * 32) as u32, (tile / 3 * 16) as u32);
            for (x, y) in [(0, 0), (19, 11), (0, 11), (19, 0)] {
                let pixel = whole.get_pixel(left + x, top + y);
                for channel in 0..3 {
                    let difference = pixel[channel].abs_diff(colour[channel]);
                    assert!(difference <= 6, "tile {tile} at {x},{y}: {pixel:?}");
                }
            }
        }
        let one = decoded(&picture_address(&pictures, 3).unwrap());
        assert_eq!(one.dimensions(), (20, 12));
    }

    #[test]
    fn ten_thousand_noisy_photographs_leave_room_in_a_page() {
        // Noise is the worst that a photograph can be.
        let mut state = 1u32;
        let mut rgb = vec![0u8; 10_000 * 32 * 32 * 3];
        for value in &mut rgb {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *value = 96 + (state >> 26) as u8;
        }
        let pictures = Pictures {
            height: 32,
            width: 32,
            rgb,
        };
        let sprite = Sprite::new(&pictures, 10_000).unwrap();
        assert!(
            sprite.address.len() < 21_000_000,
            "{}",
            sprite.address.len()
        );
    }
}
