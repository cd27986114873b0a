//! A two-dimensional map of features: one dot per test image, coloured by true class, named at each class's middle.

use std::collections::BTreeMap;

use super::{slug, text_width};
use crate::report::format::{arm_title, count, shorten};
use crate::report::input::{EmbeddingMap, EmbeddingMaps};
use crate::report::palette::LIGHT;
use crate::report::svg::{Anchor, Canvas, Figure, number};
use crate::subset::scattered;

const SIDE: f64 = 460.0;
const MARGIN: f64 = 14.0;
/// Beyond this many classes, names would hide the dots.
const NAMED: usize = 12;
/// More dots than these cover one another, and make a page slow: of more images, some are drawn.
const DOTS: usize = 2000;
/// Dots of one class are one path (of points with round ends: thousands of elements make a page slow), but not all of
/// them, or the last class would cover the others.
const LAYERS: usize = 8;

/// The map of one arm.
pub(crate) fn embedding_map(
    maps: &EmbeddingMaps,
    map: &EmbeddingMap,
    classes: &[String],
    data: &str,
) -> Figure {
    let mut canvas = Canvas::new(SIDE, SIDE + 24.0);
    canvas.rect((0.5, 0.5), (SIDE - 1.0, SIDE - 1.0), "frame");
    let place = placement(&map.points);
    let mut shown = 0usize;
    let drawn = scattered(map.points.len(), DOTS);
    for layer in drawn.chunks(drawn.len().div_ceil(LAYERS).max(1)) {
        let mut paths: BTreeMap<u32, String> = BTreeMap::new();
        for image in layer.iter().map(|image| *image as usize) {
            let Some((x, y)) = place(&map.points[image]) else {
                continue;
            };
            shown += 1;
            let path = paths.entry(maps.labels[image]).or_default();
            path.push_str(&format!("M{} {}h0", number(x), number(y)));
        }
        for (label, path) in paths {
            let colour = label as usize % LIGHT.len();
            canvas.path(&path, &format!("dot s{colour} c{label}"));
        }
    }
    if classes.len() <= NAMED {
        draw_names(&mut canvas, maps, map, classes, &place);
    }
    let axis = |number: usize| {
        let share = map
            .explained
            .map(|shares| shares[number])
            .filter(|share| share.is_finite());
        let share = share.map_or_else(String::new, |share| {
            format!(" ({:.0} % of the variance)", 100.0 * share)
        });
        format!("axis {}{share}", number + 1)
    };
    // The axes of other maps than principal components mean nothing.
    if map.explained.is_some() {
        canvas.text(
            (0.0, SIDE + 18.0),
            Anchor::Start,
            "s mute",
            &format!("→ {}", axis(0)),
        );
        canvas.text(
            (SIDE, SIDE + 18.0),
            Anchor::End,
            "s mute",
            &format!("↑ {}", axis(1)),
        );
    }
    let left_out = drawn.len() - shown;
    let missing = match left_out {
        0 => String::new(),
        1 => " One image has no finite position and is left out.".to_owned(),
        _ => format!(" {left_out} images have no finite position and are left out."),
    };
    let of_all = if drawn.len() < map.points.len() {
        format!(" of {}", count(map.points.len() as u64))
    } else {
        String::new()
    };
    Figure {
        name: format!("map-{}-{}", slug(&maps.method), slug(&map.arm)),
        title: format!("{} · {}", arm_title(&map.arm), maps.method),
        caption: format!(
            "{}{of_all} test images, the same in every map; colour is the true class.{missing}",
            count(shown as u64)
        ),
        spoken: String::new(),
        data: data.to_owned(),
        canvas,
    }
}

/// From map coordinates to pixels: one scale for both axes, the second axis upwards.
fn placement(points: &[[f32; 2]]) -> impl Fn(&[f32; 2]) -> Option<(f64, f64)> {
    let finite = |point: &&[f32; 2]| point[0].is_finite() && point[1].is_finite();
    let range = |axis: usize| {
        let values = points
            .iter()
            .filter(finite)
            .map(move |point| f64::from(point[axis]));
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        })
    };
    let ((left, right), (low, high)) = (range(0), range(1));
    let span = (right - left).max(high - low).max(1e-30);
    let scale = (SIDE - 2.0 * MARGIN) / span;
    let (middle_x, middle_y) = (0.5 * (left + right), 0.5 * (low + high));
    move |point| {
        let at = (
            0.5 * SIDE + (f64::from(point[0]) - middle_x) * scale,
            0.5 * SIDE - (f64::from(point[1]) - middle_y) * scale,
        );
        (at.0.is_finite() && at.1.is_finite()).then_some(at)
    }
}

/// Each class's name at the median of its dots, moved apart where names would overlap.
fn draw_names(
    canvas: &mut Canvas,
    maps: &EmbeddingMaps,
    map: &EmbeddingMap,
    classes: &[String],
    place: &impl Fn(&[f32; 2]) -> Option<(f64, f64)>,
) {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    let mut names: Vec<(usize, String, f64, f64)> = Vec::new();
    for (class, name) in classes.iter().enumerate() {
        let dots = map
            .points
            .iter()
            .zip(&maps.labels)
            .filter(|(_, label)| **label as usize == class);
        let (x, y): (Vec<f64>, Vec<f64>) = dots.filter_map(|(point, _)| place(point)).unzip();
        if let (Some(x), Some(y)) = (median(x), median(y)) {
            names.push((class, shorten(name, 14), x, y));
        }
    }
    for _ in 0..200 {
        let mut moved = false;
        for first in 0..names.len() {
            for second in first + 1..names.len() {
                let room = 0.5 * (text_width(&names[first].1) + text_width(&names[second].1)) + 8.0;
                let (dx, dy) = (
                    names[second].2 - names[first].2,
                    names[second].3 - names[first].3,
                );
                if dx.abs() < room && dy.abs() < 16.0 {
                    let push = 0.5 * (16.5 - dy.abs()).min(3.0) * if dy < 0.0 { -1.0 } else { 1.0 };
                    names[first].3 -= push;
                    names[second].3 += push;
                    moved = true;
                }
            }
        }
        for name in &mut names {
            let half = 0.5 * text_width(&name.1) + 4.0;
            name.2 = name.2.clamp(half, SIDE - half);
            name.3 = name.3.clamp(12.0, SIDE - 12.0);
        }
        if !moved {
            break;
        }
    }
    for (class, name, x, y) in names {
        let colour = class % LIGHT.len();
        canvas.text(
            (x, y + 4.0),
            Anchor::Middle,
            &format!("b l halo f{colour} c{class}"),
            &name,
        );
    }
}
