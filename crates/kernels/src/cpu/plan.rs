//! Which pixels and taps a convolution multiplies: pixels grouped by the taps they can see.
//!
//! Along an axis, every output position reads its inputs at `base + offset(tap)`; near the border some taps fall
//! outside. Positions with the same taps and offsets form a class, and the product of two axes' classes gives groups of
//! pixels that share one list of taps exactly: no multiplication with padding is left. A 3×3 window on a 1×1 map keeps
//! one tap of nine, on a 2×2 map four. The input gradient is the same thing with the roles exchanged, and its stride
//! shows up as classes too.

use crate::geometry::ConvShape;

/// A tap and where it reads, relative to the pixel's own source offset (both in values of the source tensor).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub tap: usize,
    pub offset: isize,
}

/// A pixel: its source offset (possibly outside; adding a segment's brings it in) and its destination offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    pub source: isize,
    pub target: usize,
}

/// Pixels of one image that see the same taps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    pub segments: Vec<Segment>,
    pub spots: Vec<Spot>,
}

/// Positions along one axis that see the same taps.
struct AxisClass {
    taps: Vec<(usize, isize)>,
    positions: Vec<(usize, isize)>,
}

/// What output pixels read from the input.
pub fn forward(s: &ConvShape) -> Vec<Class> {
    let cfg = s.cfg;
    let axis = |out: usize, len: usize, k: usize| {
        axis_classes(out, |i| {
            let base = (i * cfg.stride) as isize - cfg.padding as isize;
            let taps = (0..k)
                .map(|r| (r, (r * cfg.dilation) as isize))
                .filter(|(_, offset)| (0..len as isize).contains(&(base + offset)))
                .collect();
            (base, taps)
        })
    };
    let (rows, columns) = (axis(s.ho, s.h, s.kh), axis(s.wo, s.w, s.kw));
    product(&rows, &columns, s.kw, (s.w, s.c), (s.wo, s.o))
}

/// What input pixels' gradients read from the output's gradient.
pub fn backward(s: &ConvShape) -> Vec<Class> {
    let cfg = s.cfg;
    let axis = |out: usize, len: usize, k: usize| {
        axis_classes(out, |i| {
            let shifted = i + cfg.padding;
            let (base, phase) = ((shifted / cfg.stride) as isize, shifted % cfg.stride);
            let taps = (0..k)
                .filter(|r| (r * cfg.dilation) % cfg.stride == phase)
                .map(|r| {
                    let steps =
                        (phase as isize - (r * cfg.dilation) as isize) / cfg.stride as isize;
                    (r, steps)
                })
                .filter(|(_, offset)| (0..len as isize).contains(&(base + offset)))
                .collect();
            (base, taps)
        })
    };
    let (rows, columns) = (axis(s.h, s.ho, s.kh), axis(s.w, s.wo, s.kw));
    product(&rows, &columns, s.kw, (s.wo, s.o), (s.w, s.c))
}

/// Pairs of positions `(output, input)` along one axis that tap `r` connects.
pub fn pairs(out: usize, len: usize, r: usize, s: &ConvShape) -> Vec<(usize, usize)> {
    (0..out)
        .filter_map(|i| {
            let at = (i * s.cfg.stride + r * s.cfg.dilation).checked_sub(s.cfg.padding)?;
            (at < len).then_some((i, at))
        })
        .collect()
}

fn axis_classes(len: usize, of: impl Fn(usize) -> (isize, Vec<(usize, isize)>)) -> Vec<AxisClass> {
    let mut classes: Vec<AxisClass> = Vec::new();
    for i in 0..len {
        let (base, taps) = of(i);
        match classes.iter_mut().find(|c| c.taps == taps) {
            Some(class) => class.positions.push((i, base)),
            None => classes.push(AxisClass {
                taps,
                positions: vec![(i, base)],
            }),
        }
    }
    classes
}

/// `source` and `target` are (width, channels) of the two tensors.
fn product(
    rows: &[AxisClass],
    columns: &[AxisClass],
    kw: usize,
    source: (usize, usize),
    target: (usize, usize),
) -> Vec<Class> {
    let at = |i: isize, j: isize| (i * source.0 as isize + j) * source.1 as isize;
    let mut classes: Vec<Class> = Vec::new();
    for row in rows {
        for column in columns {
            let mut segments = Vec::with_capacity(row.taps.len() * column.taps.len());
            for &(r, i) in &row.taps {
                for &(q, j) in &column.taps {
                    segments.push(Segment {
                        tap: r * kw + q,
                        offset: at(i, j),
                    });
                }
            }
            let mut spots = Vec::with_capacity(row.positions.len() * column.positions.len());
            for &(i, base_i) in &row.positions {
                for &(j, base_j) in &column.positions {
                    spots.push(Spot {
                        source: at(base_i, base_j),
                        target: (i * target.0 + j) * target.1,
                    });
                }
            }
            // Pixels without any tap are all alike: one class of zeros.
            match classes.iter_mut().find(|c| c.segments == segments) {
                Some(class) => class.spots.extend(spots),
                None => classes.push(Class { segments, spots }),
            }
        }
    }
    classes
}
