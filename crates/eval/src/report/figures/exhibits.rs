//! Rows of photographs: retrieval, the most confused pairs, the mistakes that an arm was surest of.

use super::{most_confused, slug};
use crate::error::Result;
use crate::report::format::{arm_title, count, percent, shorten};
use crate::report::input::{Gallery, GalleryArm, Pictures};
use crate::report::sprite::picture_address;
use crate::report::svg::{Anchor, Canvas, Figure, number};

const WIDTH: f64 = 460.0;
/// Neighbours in a row.
const FOUND: usize = 10;
/// Queries, one a class.
const QUERIES: usize = 10;
const PAIRS: usize = 5;
const PER_PAIR: usize = 6;
const HARDEST: usize = 12;

/// For the first test image of each class (nothing is chosen), its ten nearest others in the arm's feature space.
pub(crate) fn retrieval(
    arm: &GalleryArm,
    gallery: &Gallery,
    classes: &[String],
    data: &str,
) -> Result<Option<Figure>> {
    let Some(pictures) = gallery
        .pictures
        .as_ref()
        .filter(|_| !arm.neighbours.is_empty())
    else {
        return Ok(None);
    };
    let queries: Vec<usize> = (0..classes.len().min(QUERIES))
        .filter_map(|class| {
            gallery
                .labels
                .iter()
                .position(|label| *label as usize == class)
        })
        .collect();
    let (photo, row, left) = (33.0, 54.0, 66.0);
    let step = (WIDTH - left) / FOUND as f64;
    let mut canvas = Canvas::new(WIDTH, 18.0 + row * queries.len() as f64);
    canvas.text((0.0, 11.0), Anchor::Start, "s mute", "query");
    canvas.text(
        (left, 11.0),
        Anchor::Start,
        "s mute",
        "nearest test images, nearest first",
    );
    let (mut right, mut all) = (0usize, 0usize);
    for (position, query) in queries.iter().enumerate() {
        let top = 18.0 + row * position as f64;
        draw(&mut canvas, pictures, *query, (0.0, top), photo)?;
        let class = gallery.labels[*query];
        let name = classes.get(class as usize).map_or("", String::as_str);
        canvas.text(
            (0.0, top + photo + 13.0),
            Anchor::Start,
            "s",
            &shorten(name, 9),
        );
        for (place, found) in arm.neighbours[*query].iter().take(FOUND).enumerate() {
            let at = (left + step * place as f64, top);
            let found = *found as usize;
            draw(&mut canvas, pictures, found, at, photo)?;
            let same = gallery.labels[found] == class;
            mark(&mut canvas, (at.0 + 0.5 * photo, top + photo + 12.0), same);
            right += usize::from(same);
            all += 1;
        }
    }
    Ok(Some(Figure {
        name: format!("retrieval-{}", slug(&arm.arm)),
        title: format!("{} · nearest images", arm_title(&arm.arm)),
        caption: format!("{right} of these {all} neighbours are of the query's class (✓)."),
        spoken: String::new(),
        data: data.to_owned(),
        canvas,
    }))
}

/// The most frequent errors of an arm with photographs, those that it was surest of first.
pub(crate) fn confused_pairs(
    arm: &GalleryArm,
    gallery: &Gallery,
    confusion: &[Vec<u64>],
    classes: &[String],
    data: &str,
) -> Result<Option<Figure>> {
    let Some(pictures) = &gallery.pictures else {
        return Ok(None);
    };
    let pairs = most_confused(confusion, PAIRS);
    if pairs.is_empty() {
        return Ok(None);
    }
    let (photo, row) = (64.0, 96.0);
    let step = (WIDTH - photo) / (PER_PAIR - 1) as f64;
    let mut canvas = Canvas::new(WIDTH, row * pairs.len() as f64);
    let class = |class: usize| classes.get(class).map_or("?", String::as_str);
    for (position, (truth, predicted, images)) in pairs.iter().enumerate() {
        let top = row * position as f64;
        let title = format!(
            "{} taken for {}",
            shorten(class(*truth), 20),
            shorten(class(*predicted), 20)
        );
        canvas.text((0.0, top + 13.0), Anchor::Start, "b", &title);
        canvas.text(
            (WIDTH, top + 13.0),
            Anchor::End,
            "s n mute",
            &format!("{} images", count(*images)),
        );
        let pair = (*truth as u32, *predicted as u32);
        let of_pair = |image: &usize| (gallery.labels[*image], arm.predicted[*image]) == pair;
        for (place, image) in surest(arm, of_pair).into_iter().take(PER_PAIR).enumerate() {
            draw(
                &mut canvas,
                pictures,
                image,
                (step * place as f64, top + 20.0),
                photo,
            )?;
        }
    }
    Ok(Some(Figure {
        name: format!("confused-{}", slug(&arm.arm)),
        title: format!("{} · most confused", arm_title(&arm.arm)),
        caption: "The most frequent errors; of each, the photographs that the arm was surest of."
            .to_owned(),
        spoken: String::new(),
        data: data.to_owned(),
        canvas,
    }))
}

/// The wrong answers with the highest confidence.
pub(crate) fn hardest(
    arm: &GalleryArm,
    gallery: &Gallery,
    classes: &[String],
    data: &str,
) -> Result<Option<Figure>> {
    let Some(pictures) = &gallery.pictures else {
        return Ok(None);
    };
    let wrong = surest(arm, |image| gallery.labels[*image] != arm.predicted[*image]);
    if wrong.is_empty() {
        return Ok(None);
    }
    let shown = wrong.len().min(HARDEST);
    let (photo, row) = (80.0, 132.0);
    let step = WIDTH / 4.0;
    let mut canvas = Canvas::new(WIDTH, row * shown.div_ceil(4) as f64);
    let class = |class: u32| classes.get(class as usize).map_or("?", String::as_str);
    for (position, image) in wrong.iter().take(shown).enumerate() {
        let (left, top) = (step * (position % 4) as f64, row * (position / 4) as f64);
        draw(&mut canvas, pictures, *image, (left, top), photo)?;
        canvas.text(
            (left, top + photo + 14.0),
            Anchor::Start,
            "s b",
            &shorten(class(gallery.labels[*image]), 16),
        );
        let answer = format!("✗ {}", shorten(class(arm.predicted[*image]), 14));
        canvas.text((left, top + photo + 28.0), Anchor::Start, "s bad", &answer);
        canvas.text(
            (left, top + photo + 42.0),
            Anchor::Start,
            "s n mute",
            &percent(f64::from(arm.confidence[*image])),
        );
    }
    Ok(Some(Figure {
        name: format!("hardest-{}", slug(&arm.arm)),
        title: format!("{} · hardest mistakes", arm_title(&arm.arm)),
        caption: format!(
            "Of {} wrong answers, those with the highest confidence: true class, answer (✗), confidence.",
            count(wrong.len() as u64)
        ),
        spoken: String::new(),
        data: data.to_owned(),
        canvas,
    }))
}

/// The images that pass, by falling confidence; of equally sure ones the lower index first.
fn surest(arm: &GalleryArm, pass: impl Fn(&usize) -> bool) -> Vec<usize> {
    let mut images: Vec<usize> = (0..arm.predicted.len()).filter(pass).collect();
    images.sort_by(|a, b| arm.confidence[*b].total_cmp(&arm.confidence[*a]));
    images
}

fn draw(
    canvas: &mut Canvas,
    pictures: &Pictures,
    image: usize,
    at: (f64, f64),
    side: f64,
) -> Result<()> {
    let pixelated = if pictures.width.max(pictures.height) <= 64 {
        " style=\"image-rendering:pixelated\""
    } else {
        ""
    };
    canvas.raw(&format!(
        "<image x=\"{}\" y=\"{}\" width=\"{side}\" height=\"{side}\"{pixelated} href=\"{}\"/>",
        number(at.0),
        number(at.1),
        picture_address(pictures, image)?,
        side = number(side),
    ));
    Ok(())
}

fn mark(canvas: &mut Canvas, at: (f64, f64), right: bool) {
    let (text, class) = if right {
        ("✓", "s b good")
    } else {
        ("✗", "s b bad")
    };
    canvas.text(at, Anchor::Middle, class, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surest_come_first_and_ties_keep_their_order() {
        let arm = GalleryArm {
            arm: "a".to_owned(),
            predicted: vec![1, 0, 1, 1, 1],
            confidence: vec![0.5, 0.9, 0.7, 0.7, 0.9],
            neighbours: Vec::new(),
        };
        assert_eq!(
            surest(&arm, |image| arm.predicted[*image] == 1),
            [4, 2, 3, 0]
        );
    }
}
