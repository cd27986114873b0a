//! The one decode path: PNG or JPEG bytes → `[H, W, 3]` u8 RGB.
//!
//! Grey images are spread over the channels, alpha is dropped, 16 bits are cut to 8; an EXIF orientation is not applied
//! (as Pillow and torchvision do not by default).

use std::io::Cursor;

use image::{ImageFormat, ImageReader, Limits};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::images::Images;

/// Larger images are refused before anything is allocated for them.
const MAX_SIDE: u32 = 4096;

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
    let format = format_of(bytes)?;
    // JPEG decoders fill what is missing with grey; the end marker tells whether something is.
    if format == ImageFormat::Jpeg && !ends_with_eoi(bytes) {
        return Err("a JPEG cut short (no end-of-image marker)".to_owned());
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    reader.limits(limits);
    let image = reader
        .decode()
        .map_err(|error| format!("undecodable {format:?} bytes ({error})"))?
        .into_rgb8();
    Ok((
        image.height() as usize,
        image.width() as usize,
        image.into_raw(),
    ))
}

fn ends_with_eoi(bytes: &[u8]) -> bool {
    let end = bytes
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |last| last + 1);
    bytes[..end].ends_with(&[0xff, 0xd9])
}

/// Decodes `count` encoded images of one size in parallel; `bytes(i)` hands out the i-th, `refuse(i, found)` makes the
/// error for it.
pub(crate) fn decode_all<B: AsRef<[u8]>>(
    count: usize,
    labels: Vec<u32>,
    bytes: impl Fn(usize) -> Result<B> + Sync,
    refuse: impl Fn(usize, String) -> Error + Sync,
) -> Result<Images> {
    if count == 0 {
        return Err(refuse(0, "no image at all".to_owned()));
    }
    let (height, width, _) = decode(bytes(0)?.as_ref()).map_err(|found| refuse(0, found))?;
    let size = height * width * 3;
    let mut pixels = vec![0; count * size];
    pixels.par_chunks_exact_mut(size).enumerate().try_for_each(|(row, out)| {
        let (h, w, rgb) = decode(bytes(row)?.as_ref()).map_err(|found| refuse(row, found))?;
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
