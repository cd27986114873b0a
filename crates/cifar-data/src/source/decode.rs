//! The one decode path: PNG or JPEG bytes → `[H, W, 3]` u8 RGB.
//!
//! Grey images are spread over the channels, alpha is dropped, 16 bits are cut to 8; an EXIF orientation is applied, so that a
//! photograph stands as its camera was held (data sets of research have none).

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use rayon::prelude::*;

use crate::error::{Error, Result, panic_message};
use crate::images::Images;

/// Images that take more bytes than this once decoded are refused before anything is allocated for them: 178 million pixels of three
/// bytes, whatever the sides.
const MAX_BYTES: u64 = 512 << 20;

/// What the first bytes say, or a phrase for a message.
pub(crate) fn format_of(bytes: &[u8]) -> std::result::Result<ImageFormat, String> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Ok(ImageFormat::Png)
    } else if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        Ok(ImageFormat::Jpeg)
    } else {
        let head: Vec<String> = bytes
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Err(format!(
            "{} bytes beginning with [{}]",
            bytes.len(),
            head.join(" ")
        ))
    }
}

/// One image's height, width and pixels, or a phrase for a message.
pub(crate) fn decode(bytes: &[u8]) -> std::result::Result<(usize, usize, Vec<u8>), String> {
    guarded(|| pixels(bytes))
}

/// The decoders are other people's; on hostile bytes a panic of theirs is a message of ours.
fn guarded<T>(
    read: impl FnOnce() -> std::result::Result<T, String>,
) -> std::result::Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let message = panic_message(panic);
        Err(format!("bytes a decoder panicked on ({message})"))
    })
}

fn pixels(bytes: &[u8]) -> std::result::Result<(usize, usize, Vec<u8>), String> {
    let (format, mut decoder) = decoder(bytes)?;
    if let Some(found) = beyond_limit(&decoder) {
        return Err(found);
    }
    let broken = |error| format!("undecodable {format:?} bytes ({error})");
    // A damaged orientation is no reason to refuse good pixels.
    let orientation = decoder.orientation().ok();
    let mut image = DynamicImage::from_decoder(decoder).map_err(broken)?;
    if let Some(orientation) = orientation {
        image.apply_orientation(orientation);
    }
    let image = image.into_rgb8();
    Ok((
        image.height() as usize,
        image.width() as usize,
        image.into_raw(),
    ))
}

/// Why an image is too large to be read, by its header; none where it is not, or where there is no header.
pub(crate) fn too_large(bytes: &[u8]) -> Option<String> {
    let check = || Ok(beyond_limit(&decoder(bytes)?.1));
    guarded(check).ok().flatten()
}

fn beyond_limit(decoder: &impl ImageDecoder) -> Option<String> {
    let ((width, height), size) = (decoder.dimensions(), decoder.total_bytes());
    (size > MAX_BYTES).then(|| {
        format!(
            "{width}×{height} pixels, {} MiB once decoded, where at most {} MiB are read",
            size >> 20,
            MAX_BYTES >> 20
        )
    })
}

/// Height and width from the header alone, as [`decode`] would give them.
pub(crate) fn size(bytes: &[u8]) -> std::result::Result<(usize, usize), String> {
    guarded(|| header_size(bytes))
}

fn header_size(bytes: &[u8]) -> std::result::Result<(usize, usize), String> {
    use image::metadata::Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let (_, mut decoder) = decoder(bytes)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    Ok(match decoder.orientation() {
        Ok(Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH) => (width, height),
        _ => (height, width),
    })
}

/// A decoder that has read the header, with its limits set.
fn decoder(
    bytes: &[u8],
) -> std::result::Result<(ImageFormat, impl ImageDecoder + use<'_>), String> {
    let format = format_of(bytes)?;
    // JPEG decoders fill what is missing with grey; the end marker tells whether something is.
    if format == ImageFormat::Jpeg && !has_end_of_image(bytes) {
        return Err("a JPEG cut short (no end-of-image marker)".to_owned());
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits(); // of sides; `beyond_limit` looks at the whole
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let decoder = reader
        .into_decoder()
        .map_err(|error| format!("undecodable {format:?} bytes ({error})"))?;
    Ok((format, decoder))
}

/// Whether the image itself has its end marker: markers are walked, so that neither that of a thumbnail in the header counts nor
/// what cameras append (a film, a second picture) hides it.
fn has_end_of_image(bytes: &[u8]) -> bool {
    let mut at = 2; // after start-of-image
    loop {
        // Between segments, and inside entropy-coded data: FF 00 is a byte of data, FF D0…D7 a restart.
        let Some(found) = bytes[at.min(bytes.len())..]
            .windows(2)
            .position(|pair| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xff | 0xd0..=0xd7))
        else {
            return false;
        };
        at += found + 2;
        match bytes[at - 1] {
            0xd9 => return true,
            0x01 | 0xd8 => {}
            _ => match bytes.get(at..at + 2) {
                Some(length) => at += usize::from(u16::from_be_bytes([length[0], length[1]])),
                None => return false,
            },
        }
    }
}

/// Brings pixels `[h, w, 3]` to `height`×`width`: the largest centred part of that shape, resized by a triangle filter that widens
/// as it shrinks (bilinear with antialiasing, as torchvision's `Resize` and `CenterCrop`). Pixels of that size stay as they are.
pub(crate) fn fit(
    (h, w, pixels): (usize, usize, Vec<u8>),
    (height, width): (usize, usize),
) -> Vec<u8> {
    if (h, w) == (height, width) {
        return pixels;
    }
    let round = |a: usize, b: usize, c: usize| ((2 * a * b + c) / (2 * c)).max(1); // a·b/c
    let crop = (
        h.min(round(w, height, width)),
        w.min(round(h, width, height)),
    );
    let Some(image) = RgbImage::from_raw(w as u32, h as u32, pixels) else {
        return vec![0; height * width * 3]; // `decode` gives h·w·3 bytes
    };
    let (top, left) = ((h - crop.0) / 2, (w - crop.1) / 2);
    let part = imageops::crop_imm(
        &image,
        left as u32,
        top as u32,
        crop.1 as u32,
        crop.0 as u32,
    );
    imageops::resize(&*part, width as u32, height as u32, FilterType::Triangle).into_raw()
}

/// Decodes `count` encoded images in parallel, each brought to the size `to`, or all of one size; `bytes(i)` hands out the i-th,
/// `refuse(i, found)` makes the error for it.
pub(crate) fn decode_all<B: AsRef<[u8]>>(
    count: usize,
    labels: Vec<u32>,
    to: Option<(usize, usize)>,
    bytes: impl Fn(usize) -> Result<B> + Sync,
    refuse: impl Fn(usize, String) -> Error + Sync,
) -> Result<Images> {
    if count == 0 {
        return Err(refuse(0, "no image at all".to_owned()));
    }
    let (height, width) = match to {
        Some(size) => size,
        None => size(bytes(0)?.as_ref()).map_err(|found| refuse(0, found))?,
    };
    let size = height * width * 3;
    let mut pixels = vec![0; count * size];
    pixels.par_chunks_exact_mut(size).enumerate().try_for_each(|(row, out)| {
        let image = decode(bytes(row)?.as_ref()).map_err(|found| refuse(row, found))?;
        if to.is_some() {
            out.copy_from_slice(&fit(image, (height, width)));
            return Ok(());
        }
        let (h, w, rgb) = image;
        if (h, w) != (height, width) {
            return Err(refuse(
                row,
                format!("{h}×{w} pixels where the first image has {height}×{width} (nothing is resized silently)"),
            ));
        }
        out.copy_from_slice(&rgb);
        Ok(())
    })?;
    Ok(Images {
        height,
        width,
        pixels,
        labels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// A JPEG with an EXIF orientation, as cameras write it.
    fn oriented(image: &RgbImage, orientation: u8) -> Vec<u8> {
        let jpeg = encoded(image, ImageFormat::Jpeg);
        let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend_from_slice(&[orientation, 0, 0, 0, 0, 0, 0]);
        let mut bytes = vec![0xff, 0xd8, 0xff, 0xe1];
        bytes.extend_from_slice(&(exif.len() as u16 + 2).to_be_bytes());
        bytes.extend_from_slice(&exif);
        bytes.extend_from_slice(&jpeg[2..]);
        bytes
    }

    #[test]
    fn a_photograph_stands_as_the_camera_was_held() {
        // Red above blue, 16 wide and 32 high.
        let image = RgbImage::from_fn(16, 32, |_, y| {
            image::Rgb(if y < 16 { [250, 0, 0] } else { [0, 0, 250] })
        });
        let (height, width, plain) = decode(&oriented(&image, 1)).unwrap();
        assert_eq!((height, width), (32, 16));
        assert!(plain[0] > 200 && plain[2] < 60);
        // Orientation 6: turned clockwise by a quarter, so that red comes to stand on the right.
        let bytes = oriented(&image, 6);
        let (height, width, turned) = decode(&bytes).unwrap();
        assert_eq!((height, width), (16, 32));
        assert_eq!(size(&bytes).unwrap(), (16, 32));
        assert!(turned[2] > 200, "blue on the left: {:?}", &turned[..3]);
        assert!(turned[31 * 3] > 200, "red on the right");
    }

    #[test]
    fn the_end_of_a_jpeg_is_found_behind_appended_bytes_and_not_in_its_header() {
        let image = RgbImage::from_fn(40, 40, |x, y| image::Rgb([x as u8 * 6, y as u8 * 6, 9]));
        let mut jpeg = encoded(&image, ImageFormat::Jpeg);
        assert!(has_end_of_image(&jpeg));
        assert!(!has_end_of_image(&jpeg[..jpeg.len() - 1]));
        // A thumbnail's end marker inside a segment does not count.
        let mut thumbnail = vec![0xff, 0xd8, 0xff, 0xe1, 0, 6, 1, 2, 0xff, 0xd9];
        thumbnail.extend_from_slice(&jpeg[2..jpeg.len() - 2]);
        assert!(!has_end_of_image(&thumbnail));
        jpeg.extend_from_slice(b"ftypmp42 a film");
        assert!(has_end_of_image(&jpeg) && decode(&jpeg).is_ok());
        for cut in 0..jpeg.len().min(700) {
            let _ = has_end_of_image(&jpeg[..cut]);
        }
    }

    #[test]
    fn fitting_takes_the_centre_and_averages() {
        // Columns 0..8: black | white | black in a 4×8 image; the centre 4×4 is white.
        let pixels: Vec<u8> = (0..4 * 8)
            .flat_map(|at| [if (2..6).contains(&(at % 8)) { 255 } else { 0 }; 3])
            .collect();
        assert_eq!(fit((4, 8, pixels.clone()), (2, 2)), vec![255; 12]);
        assert_eq!(fit((4, 8, pixels.clone()), (4, 8)), pixels);
        // A fine checkerboard becomes grey: nothing is picked out, everything is averaged.
        let board: Vec<u8> = (0..64 * 64)
            .flat_map(|at| [if (at / 64 + at % 64) % 2 == 0 { 255 } else { 0 }; 3])
            .collect();
        let small = fit((64, 64, board), (8, 8));
        assert!(
            small.iter().all(|value| (120..=136).contains(value)),
            "{small:?}"
        );
        // Thin images keep at least a row.
        assert_eq!(fit((1, 300, vec![7; 900]), (5, 4)), vec![7; 60]);
    }
}
