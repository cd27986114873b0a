//! Sampling: each step reads one set of planes `[3, H, W]` and writes another.

use rand_chacha::ChaCha8Rng;

use super::config::{Pad, PadCrop, RandomResizedCrop};
use crate::random::{below, uniform};

/// A rectangle within an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crop {
    pub top: usize,
    pub left: usize,
    pub height: usize,
    pub width: usize,
}

impl RandomResizedCrop {
    /// Draws a crop of an image of `height`×`width` as torchvision does.
    pub(crate) fn draw(&self, height: usize, width: usize, rng: &mut ChaCha8Rng) -> Crop {
        let area = (height * width) as f64;
        let log_ratio = self.ratio.map(|ratio| ratio.ln());
        for _ in 0..10 {
            let target = area * f64::from(uniform(rng, self.scale[0], self.scale[1]));
            let aspect = f64::from(uniform(rng, log_ratio[0], log_ratio[1])).exp();
            let w = (target * aspect).sqrt().round_ties_even() as usize;
            let h = (target / aspect).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let top = below(rng, height - h + 1);
                let left = below(rng, width - w + 1);
                return Crop {
                    top,
                    left,
                    height: h,
                    width: w,
                };
            }
        }
        // The centre, within the ratio.
        let have = width as f64 / height as f64;
        let [low, high] = self.ratio.map(f64::from);
        let (h, w) = if have < low {
            ((width as f64 / low).round_ties_even() as usize, width)
        } else if have > high {
            (height, (height as f64 * high).round_ties_even() as usize)
        } else {
            (height, width)
        };
        let (h, w) = (h.clamp(1, height), w.clamp(1, width));
        Crop {
            top: (height - h) / 2,
            left: (width - w) / 2,
            height: h,
            width: w,
        }
    }
}

/// Two taps and the weight of the second, for one output coordinate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tap {
    near: usize,
    far: usize,
    weight: f32,
}

/// Bilinear taps that stretch `start..start + length` over the table: `source = (i + ½)·length/n − ½`, clamped to the crop.
fn fill_taps(taps: &mut [Tap], start: usize, length: usize) {
    let step = length as f32 / taps.len() as f32;
    let last = (length - 1) as f32;
    for (i, tap) in taps.iter_mut().enumerate() {
        let source = ((i as f32 + 0.5) * step - 0.5).clamp(0.0, last);
        let near = source as usize;
        *tap = Tap {
            near: start + near,
            far: start + (near + 1).min(length - 1),
            weight: source - near as f32,
        };
    }
}

/// Resizes `crop` of `input` to the whole of `output`, rows first along x, then along y. `rows` is scratch of `[H, W]`, `taps`
/// of `H + W`.
pub(crate) fn resize_crop(
    input: &[f32],
    output: &mut [f32],
    (height, width): (usize, usize),
    crop: Crop,
    rows: &mut [f32],
    taps: &mut [Tap],
) {
    let (across, down) = taps.split_at_mut(width);
    fill_taps(across, crop.left, crop.width);
    fill_taps(down, 0, crop.height);
    let plane = height * width;
    for (input, output) in input
        .chunks_exact(plane)
        .zip(output.chunks_exact_mut(plane))
    {
        let cut = &input[crop.top * width..(crop.top + crop.height) * width];
        for (row, out) in cut.chunks_exact(width).zip(rows.chunks_exact_mut(width)) {
            for (out, tap) in out.iter_mut().zip(across.iter()) {
                let (near, far) = (row[tap.near], row[tap.far]);
                *out = near + (far - near) * tap.weight;
            }
        }
        for (out, tap) in output.chunks_exact_mut(width).zip(down.iter()) {
            let near = &rows[tap.near * width..][..width];
            let far = &rows[tap.far * width..][..width];
            for ((out, near), far) in out.iter_mut().zip(near).zip(far) {
                *out = near + (far - near) * tap.weight;
            }
        }
    }
}

impl PadCrop {
    /// Draws a shift in `−pad..=pad` for each axis, (down, right).
    pub(crate) fn draw(&self, rng: &mut ChaCha8Rng) -> (isize, isize) {
        let mut shift = || below(rng, 2 * self.pad + 1) as isize - self.pad as isize;
        (shift(), shift())
    }
}

/// `output[y, x] = input[y + down, x + right]`, padded beyond the edge.
pub(crate) fn shift(
    input: &[f32],
    output: &mut [f32],
    (height, width): (usize, usize),
    (down, right): (isize, isize),
    mode: Pad,
) {
    // Without repeating the edge: −1 → 1, n → n − 2.
    let mirror = |at: isize, n: usize| {
        let last = n as isize - 1;
        if at < 0 {
            -at
        } else if at > last {
            2 * last - at
        } else {
            at
        }
    };
    let inside = |at: isize, n: usize| (0..n as isize).contains(&at);
    let plane = height * width;
    for (input, output) in input
        .chunks_exact(plane)
        .zip(output.chunks_exact_mut(plane))
    {
        for (y, out) in output.chunks_exact_mut(width).enumerate() {
            let from = y as isize + down;
            if mode == Pad::Zero && !inside(from, height) {
                out.fill(0.0);
                continue;
            }
            let row = &input[mirror(from, height) as usize * width..][..width];
            for (x, out) in out.iter_mut().enumerate() {
                let from = x as isize + right;
                *out = if mode == Pad::Zero && !inside(from, width) {
                    0.0
                } else {
                    row[mirror(from, width) as usize]
                };
            }
        }
    }
}

/// Rotation by `turns` after stretching by `zoom` = (x, y), about the centre: the inverse map is sampled bilinearly, and the
/// image continues beyond its edge mirrored with the edge repeated (`b a | a b c d | d c`).
pub(crate) fn affine(
    input: &[f32],
    output: &mut [f32],
    (height, width): (usize, usize),
    turns: f32,
    zoom: (f32, f32),
) {
    let (sin, cos) = (turns * std::f32::consts::TAU).sin_cos();
    let (cx, cy) = ((width as f32 - 1.0) / 2.0, (height as f32 - 1.0) / 2.0);
    let mirror = |at: i32, n: usize| {
        let n = n as i32;
        let at = at.rem_euclid(2 * n);
        (if at < n { at } else { 2 * n - 1 - at }) as usize
    };
    let plane = height * width;
    for y in 0..height {
        let dy = (y as f32 - cy) / zoom.1;
        for x in 0..width {
            let dx = (x as f32 - cx) / zoom.0;
            let sx = cos * dx - sin * dy + cx;
            let sy = sin * dx + cos * dy + cy;
            // Floor without a library call: the offset makes both positive.
            const OFFSET: i32 = 1 << 14;
            let (ix, iy) = (
                (sx + OFFSET as f32) as i32 - OFFSET,
                (sy + OFFSET as f32) as i32 - OFFSET,
            );
            let (fx, fy) = (sx - ix as f32, sy - iy as f32);
            let (x0, x1) = (mirror(ix, width), mirror(ix + 1, width));
            let (y0, y1) = (mirror(iy, height) * width, mirror(iy + 1, height) * width);
            for channel in 0..3 {
                let input = &input[channel * plane..(channel + 1) * plane];
                let above = input[y0 + x0] + (input[y0 + x1] - input[y0 + x0]) * fx;
                let below = input[y1 + x0] + (input[y1 + x1] - input[y1 + x0]) * fx;
                output[channel * plane + y * width + x] = above + (below - above) * fy;
            }
        }
    }
}
