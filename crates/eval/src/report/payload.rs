//! What the page's script draws from: one JSON object, with long lists as base 64 of little-endian numbers.

use serde::Serialize;

use super::figures::stage_title;
use super::format::arm_title;
use super::input::{CurvePoint, EmbeddingMaps, Gallery, ReportInput, Snapshots};
use super::palette::{CIVIDIS, arm_colour};
use super::png::base64;
use super::sprite::Sprite;
use crate::error::Result;
use crate::similarity::follow;

/// What stands for a coordinate that is not finite.
const NOWHERE: u16 = u16::MAX;

#[derive(Serialize)]
struct Payload {
    classes: Vec<String>,
    /// Colours of similarities, from −1 to 1.
    ramp: [[u8; 3]; 10],
    curves: Vec<Curve>,
    maps: Vec<Map>,
    gallery: Option<Photographs>,
    films: Vec<Film>,
}

/// Numbers of one type: `u8`, `u16` or `u32`.
#[derive(Serialize)]
struct Packed {
    kind: &'static str,
    data: String,
}

#[derive(Serialize)]
struct Curve {
    title: String,
    colour: usize,
    loss_name: String,
    epoch: Vec<Option<f64>>,
    images: Vec<Option<f64>>,
    flops: Vec<Option<f64>>,
    seconds: Vec<Option<f64>>,
    top1: Vec<Option<f64>>,
    loss: Vec<Option<f64>>,
}

#[derive(Serialize)]
struct Map {
    method: String,
    images: Packed,
    labels: Packed,
    arms: Vec<Points>,
}

#[derive(Serialize)]
struct Points {
    arm: String,
    title: String,
    points: Packed,
}

#[derive(Serialize)]
struct Photographs {
    labels: Packed,
    tile: Option<Tile>,
    arms: Vec<Answers>,
}

/// Where the pictures lie in the sprite.
#[derive(Serialize)]
struct Tile {
    width: usize,
    height: usize,
    step_x: usize,
    step_y: usize,
    columns: usize,
}

#[derive(Serialize)]
struct Answers {
    arm: String,
    title: String,
    predicted: Packed,
    /// In 65,535ths.
    confidence: Packed,
    /// How many neighbours each image has.
    each: usize,
    neighbours: Packed,
}

#[derive(Serialize)]
struct Film {
    arm: String,
    title: String,
    space: String,
    labels: Packed,
    epochs: Vec<u64>,
    /// Coordinates, frame by frame.
    points: Packed,
    /// Cosines from −1 to 1 in 255ths, frame by frame.
    similarity: Packed,
}

/// The object as JSON that may stand inside a `script` element. Empty where the script would have nothing to draw.
pub(crate) fn payload(input: &ReportInput, sprite: Option<&Sprite>) -> Result<String> {
    let payload = Payload {
        classes: input.results.dataset.classes.clone(),
        ramp: CIVIDIS,
        curves: curves(input),
        maps: input.maps.iter().map(map).collect(),
        gallery: input
            .gallery
            .as_ref()
            .map(|gallery| photographs(gallery, sprite)),
        films: input.snapshots.iter().map(film).collect::<Result<_>>()?,
    };
    if payload.curves.is_empty() && payload.maps.is_empty() && payload.films.is_empty() {
        return Ok(String::new());
    }
    let text = serde_json::to_string(&payload).map_err(|error| {
        crate::Error::Invalid(format!(
            "the report's data cannot be written as JSON: {error}"
        ))
    })?;
    // Inside a script element only `<` can do harm; in JSON it can stand only in strings, where it may be escaped.
    Ok(text.replace('<', "\\u003c"))
}

fn curves(input: &ReportInput) -> Vec<Curve> {
    let mut curves = Vec::new();
    for (position, curve) in input.curves.iter().enumerate() {
        if curve.points.is_empty() {
            continue;
        }
        let list = |value: &dyn Fn(&CurvePoint) -> Option<f64>| {
            curve
                .points
                .iter()
                .map(|point| value(point).filter(|value| value.is_finite()))
                .collect()
        };
        curves.push(Curve {
            title: stage_title(curve),
            colour: arm_colour(&curve.arm, position),
            loss_name: curve.loss.clone(),
            epoch: list(&|point| Some(point.epoch)),
            images: list(&|point| point.images.map(|images| images as f64)),
            flops: list(&|point| point.multiply_adds.map(|spent| spent as f64)),
            seconds: list(&|point| point.seconds),
            top1: list(&|point| point.validation_top1),
            loss: list(&|point| Some(point.train_loss)),
        });
    }
    curves
}

fn map(maps: &EmbeddingMaps) -> Map {
    Map {
        method: maps.method.clone(),
        images: indices(&maps.images),
        labels: indices(&maps.labels),
        arms: maps
            .maps
            .iter()
            .map(|map| Points {
                arm: map.arm.clone(),
                title: arm_title(&map.arm),
                points: u16s(&placed(&map.points)),
            })
            .collect(),
    }
}

fn photographs(gallery: &Gallery, sprite: Option<&Sprite>) -> Photographs {
    Photographs {
        labels: indices(&gallery.labels),
        tile: sprite.map(|sprite| Tile {
            width: sprite.width,
            height: sprite.height,
            step_x: sprite.step.0,
            step_y: sprite.step.1,
            columns: sprite.columns,
        }),
        arms: gallery
            .arms
            .iter()
            .map(|arm| Answers {
                arm: arm.arm.clone(),
                title: arm_title(&arm.arm),
                predicted: indices(&arm.predicted),
                confidence: u16s(
                    &(arm.confidence.iter())
                        // What is not a number becomes 0.
                        .map(|&share| (share * 65_535.0).round().clamp(0.0, 65_535.0) as u16)
                        .collect::<Vec<_>>(),
                ),
                each: arm.neighbours.first().map_or(0, Vec::len),
                neighbours: indices(&arm.neighbours.concat()),
            })
            .collect(),
    }
}

fn film(snapshots: &Snapshots) -> Result<Film> {
    let matrices: Vec<&[f32]> = snapshots
        .frames
        .iter()
        .map(|frame| frame.similarity.as_slice())
        .collect();
    let maps = follow(snapshots.labels.len(), &matrices)?;
    let similarities = matrices.iter().copied().flatten();
    Ok(Film {
        arm: snapshots.arm.clone(),
        title: arm_title(&snapshots.arm),
        space: snapshots.space.clone(),
        labels: indices(&snapshots.labels),
        epochs: snapshots.frames.iter().map(|frame| frame.epoch).collect(),
        // All frames on one scale, so that growth is seen.
        points: u16s(&placed(&maps.concat())),
        similarity: u8s(similarities.map(|&cosine| in_255ths(cosine, -1.0, 1.0))),
    })
}

/// Coordinates on a grid of 16 bits, one scale for both axes, centred.
fn placed(points: &[[f32; 2]]) -> Vec<u16> {
    let finite = |point: &&[f32; 2]| point[0].is_finite() && point[1].is_finite();
    let range = |axis: usize| {
        points.iter().filter(finite).fold(
            (f64::INFINITY, f64::NEG_INFINITY),
            |(low, high), point| {
                (
                    low.min(f64::from(point[axis])),
                    high.max(f64::from(point[axis])),
                )
            },
        )
    };
    let ranges = [range(0), range(1)];
    let span = ranges
        .iter()
        .map(|(low, high)| high - low)
        .fold(1e-30, f64::max);
    points
        .iter()
        .flat_map(|point| {
            let here = finite(&point);
            [0, 1].map(|axis| {
                if !here {
                    return NOWHERE;
                }
                let (low, high) = ranges[axis];
                let share = 0.5 + (f64::from(point[axis]) - 0.5 * (low + high)) / span;
                (share * f64::from(NOWHERE - 1)).round() as u16
            })
        })
        .collect()
}

fn in_255ths(value: f32, low: f32, high: f32) -> u8 {
    // What is not a number becomes 0.
    ((value - low) / (high - low) * 255.0)
        .round()
        .clamp(0.0, 255.0) as u8
}

/// Numbers in the smallest type that holds them all.
fn indices(values: &[u32]) -> Packed {
    match values.iter().max() {
        Some(most) if *most > u32::from(u16::MAX) => Packed {
            kind: "u32",
            data: base64(
                &values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect::<Vec<u8>>(),
            ),
        },
        Some(most) if *most > u32::from(u8::MAX) => u16s(
            &values
                .iter()
                .map(|value| *value as u16)
                .collect::<Vec<u16>>(),
        ),
        _ => u8s(values.iter().map(|value| *value as u8)),
    }
}

fn u16s(values: &[u16]) -> Packed {
    Packed {
        kind: "u16",
        data: base64(
            &values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect::<Vec<u8>>(),
        ),
    }
}

fn u8s(values: impl Iterator<Item = u8>) -> Packed {
    Packed {
        kind: "u8",
        data: base64(&values.collect::<Vec<u8>>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_take_the_smallest_type() {
        assert_eq!(indices(&[]).kind, "u8");
        assert_eq!(
            (indices(&[255]).kind, indices(&[255]).data.as_str()),
            ("u8", "/w==")
        );
        assert_eq!(
            (indices(&[256]).kind, indices(&[256]).data.as_str()),
            ("u16", "AAE=")
        );
        assert_eq!(indices(&[65_536, 1]).kind, "u32");
    }

    #[test]
    fn coordinates_keep_their_proportions() {
        let points = [[0.0, 0.0], [4.0, 1.0], [f32::NAN, 1.0], [2.0, 0.5]];
        let placed = placed(&points);
        // 65,534 is the far end; 0.375 and 0.625 of it for the flatter axis.
        assert_eq!(placed[..4], [0, 24_575, 65_534, 40_959]);
        assert_eq!(placed[4..], [NOWHERE, NOWHERE, 32_767, 32_767]);
    }

    #[test]
    fn shares_are_clamped() {
        let shares = [-0.1, 0.0, 0.5, 1.0, 2.0, f32::NAN].map(|share| in_255ths(share, 0.0, 1.0));
        assert_eq!(shares, [0, 0, 128, 255, 255, 0]);
        assert_eq!(in_255ths(-1.0, -1.0, 1.0), 0);
    }
}
