//! Photographs inside a page: RGB bytes → PNG → `data:` address.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use super::input::SamplePhoto;
use crate::error::{Error, Result};

/// The photograph as `data:image/png;base64,…`, pixel for pixel.
pub(crate) fn data_address(photo: &SamplePhoto) -> Result<String> {
    png_address(&photo.rgb, photo.width, photo.height)
}

/// RGB bytes as `data:image/png;base64,…`.
pub(crate) fn png_address(rgb: &[u8], width: usize, height: usize) -> Result<String> {
    let png = png_bytes(rgb, (width, height), CompressionType::Best)?;
    Ok(format!("data:image/png;base64,{}", base64(&png)))
}

/// RGB bytes as a PNG file.
pub(crate) fn png_bytes(
    rgb: &[u8],
    (width, height): (usize, usize),
    compression: CompressionType,
) -> Result<Vec<u8>> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::Invalid(format!(
            "a picture of {width}×{height} pixels cannot be written as PNG: {error}"
        ))
    };
    let across = u32::try_from(width).map_err(|error| failed(&error))?;
    let down = u32::try_from(height).map_err(|error| failed(&error))?;
    let mut png = Vec::new();
    PngEncoder::new_with_quality(&mut png, compression, FilterType::Adaptive)
        .write_image(rgb, across, down, ExtendedColorType::Rgb8)
        .map_err(|error| failed(&error))?;
    Ok(png)
}

/// Base 64 (RFC 4648, section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |position: usize| u32::from(group.get(position).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for position in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * position) & 63) as usize];
            text.push(if position <= group.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn base64_has_the_vectors_of_rfc_4648() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (plain, coded) in vectors {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn pixels_survive() {
        let rgb: Vec<u8> = (0..4 * 5 * 3).map(|value| value as u8 * 4).collect();
        let photo = SamplePhoto {
            index: 0,
            height: 4,
            width: 5,
            rgb: rgb.clone(),
            label: 0,
            predictions: BTreeMap::new(),
        };
        let address = data_address(&photo).unwrap();
        let coded = address.strip_prefix("data:image/png;base64,").unwrap();
        // Decode by hand: four digits to three bytes.
        let value = |digit: u8| {
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
                .iter()
                .position(|d| *d == digit)
        };
        let mut png = Vec::new();
        for group in coded.as_bytes().chunks(4) {
            let bits = group.iter().fold(0u32, |bits, digit| {
                bits << 6 | value(*digit).unwrap_or(0) as u32
            });
            png.extend_from_slice(&bits.to_be_bytes()[1..]);
        }
        assert_eq!(
            image::load_from_memory(&png).unwrap().to_rgb8().into_raw(),
            rgb
        );
    }
}
