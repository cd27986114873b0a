//! A figure as PNG, for what does not read SVG: slides, word processors, `\includegraphics`.
//!
//! Drawn by resvg with the two faces in `fonts/`, and no others: the same bytes on every machine. Without the crate's feature `png`
//! nothing is drawn.

use super::svg::Figure;
use crate::error::Result;

/// Pixels of the PNG for one of the SVG: 192 dots to the inch.
#[cfg(feature = "png")]
const SCALE: f32 = 2.0;

/// The standalone figure on white. `None` without the feature `png`.
#[cfg(not(feature = "png"))]
pub(crate) fn png(_: &Figure) -> Result<Option<Vec<u8>>> {
    Ok(None)
}

/// The standalone figure on white. `None` without the feature `png`.
#[cfg(feature = "png")]
pub(crate) fn png(figure: &Figure) -> Result<Option<Vec<u8>>> {
    use crate::error::Error;
    use crate::report::png::png_bytes;
    use image::codecs::png::CompressionType;
    use resvg::{tiny_skia, usvg};

    let failed = |reason: &dyn std::fmt::Display| {
        Error::Invalid(format!(
            "the figure {} cannot be drawn as PNG: {reason}",
            figure.name
        ))
    };
    let options = usvg::Options {
        fontdb: drawing::fonts(),
        image_href_resolver: drawing::carried(),
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(&figure.on_white(), &options).map_err(|e| failed(&e))?;
    let size = tree.size();
    let side = |length: f32| (length * SCALE).ceil() as u32;
    let mut pixels = tiny_skia::Pixmap::new(side(size.width()), side(size.height()))
        .ok_or_else(|| failed(&"it has no area"))?;
    pixels.fill(tiny_skia::Color::WHITE);
    let zoom = tiny_skia::Transform::from_scale(SCALE, SCALE);
    resvg::render(&tree, zoom, &mut pixels.as_mut());
    // Everything lies on white: alpha says nothing.
    let rgb: Vec<u8> = (pixels.pixels().iter())
        .flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()])
        .collect();
    let (width, height) = (pixels.width() as usize, pixels.height() as usize);
    png_bytes(&rgb, (width, height), CompressionType::Default).map(Some)
}

#[cfg(feature = "png")]
mod drawing {
    use std::sync::{Arc, LazyLock};

    use resvg::usvg::{ImageHrefResolver, fontdb::Database};

    static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
        let mut fonts = Database::new();
        for face in [
            &include_bytes!("../../fonts/DejaVuSansCondensed.ttf")[..],
            include_bytes!("../../fonts/DejaVuSansCondensed-Bold.ttf"),
        ] {
            fonts.load_font_data(face.to_vec());
        }
        // The last word of the figures' `font-family`.
        fonts.set_sans_serif_family("DejaVu Sans Condensed");
        Arc::new(fonts)
    });

    pub(super) fn fonts() -> Arc<Database> {
        Arc::clone(&FONTS)
    }

    /// Pictures that the figure carries, and none from elsewhere.
    pub(super) fn carried() -> ImageHrefResolver<'static> {
        ImageHrefResolver {
            resolve_string: Box::new(|_, _| None),
            ..ImageHrefResolver::default()
        }
    }
}

#[cfg(all(test, feature = "png"))]
mod tests {
    use super::*;
    use crate::report::png::png_address;
    use crate::report::svg::{Anchor, Canvas};

    /// A square, an image of four pixels, and words.
    fn figure(words: &str) -> Figure {
        let mut canvas = Canvas::new(100.0, 60.0);
        canvas.rect((10.0, 10.0), (20.0, 20.0), "f1");
        let pixels = [255, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0];
        canvas.raw(&format!(
            "<image x=\"50\" y=\"10\" width=\"20\" height=\"20\" style=\"image-rendering:pixelated\" href=\"{}\"/>",
            png_address(&pixels, 2, 2).unwrap()
        ));
        canvas.text((5.0, 50.0), Anchor::Start, "b", words);
        Figure {
            name: "try".to_owned(),
            title: String::new(),
            caption: String::new(),
            spoken: String::new(),
            data: String::new(),
            canvas,
        }
    }

    fn drawn(words: &str) -> image::RgbImage {
        let bytes = png(&figure(words)).unwrap().unwrap();
        image::load_from_memory(&bytes).unwrap().to_rgb8()
    }

    #[test]
    fn shapes_pictures_and_words_are_where_the_svg_has_them() {
        let picture = drawn("");
        // 8 pixels beside the drawing, 30 above it, all twice as large.
        assert_eq!(picture.dimensions(), (232, 232));
        let at = |x: u32, y: u32| picture.get_pixel(2 * (x + 8), 2 * (y + 30)).0;
        assert_eq!(
            at(20, 20),
            [0xc9, 0x4f, 0x00],
            "the second colour of the light ground"
        );
        assert_eq!((at(55, 15), at(65, 15)), ([255, 0, 0], [0, 255, 0]));
        assert_eq!((at(55, 25), at(65, 25)), ([0, 0, 255], [0, 0, 0]));
        assert_eq!(at(90, 55), [255, 255, 255]);
        // Words darken the place where they stand, each in its own way: a missing letter would be the same box.
        let dark = |words: &str| {
            let picture = drawn(words);
            let place = (70..112).flat_map(|y| (10..230).map(move |x| (x, 60 + y)));
            place
                .filter(|&(x, y)| picture.get_pixel(x, y).0[0] < 128)
                .collect::<Vec<_>>()
        };
        for (one, other) in [("✓", "✗"), ("−", "+"), ("ü", "u"), ("10⁹", "10⁸")] {
            assert!(
                !dark(one).is_empty() && dark(one) != dark(other),
                "{one} {other}"
            );
        }
    }
}
