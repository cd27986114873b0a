//! Draws the corruptions: a row for each, the clean image and severities 1 to 5.
//!
//! ```text
//! cargo run --release -p cifar-data --example corruptions -- sheet.png [DATA]
//! ```

use cifar_data::{Corruption, DatasetName, SourceOptions, corrupt};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let to = words.next().ok_or("name the PNG file to write")?;
    let mut options = SourceOptions::from_env(DatasetName::Auto);
    options.data_dir = words.next().map(Into::into);
    let dataset = cifar_data::open(&options, &mut ())?;
    let images = dataset.train()?.subset(&[7, 12]);
    let (height, width, gap) = (images.height, images.width, 2);
    let columns = 6 * images.len();
    let rows = Corruption::ALL.len();
    let mut sheet = image::RgbImage::from_pixel(
        (columns * (width + gap)) as u32,
        (rows * (height + gap)) as u32,
        image::Rgb([255; 3]),
    );
    for (row, corruption) in Corruption::ALL.into_iter().enumerate() {
        for severity in 0..=5 {
            let shown = match severity {
                0 => images.clone(),
                _ => corrupt(&images, corruption, severity, 0)?,
            };
            for (index, pixels) in shown.pixels.chunks(shown.image_len()).enumerate() {
                let (top, left) = (row * (height + gap), (index * 6 + severity) * (width + gap));
                for (at, rgb) in pixels.chunks(3).enumerate() {
                    let (x, y) = (left + at % width, top + at / width);
                    sheet.put_pixel(x as u32, y as u32, image::Rgb([rgb[0], rgb[1], rgb[2]]));
                }
            }
        }
    }
    sheet.save(&to)?;
    println!(
        "{to}: rows {}",
        Corruption::ALL.map(Corruption::name).join(", ")
    );
    Ok(())
}
