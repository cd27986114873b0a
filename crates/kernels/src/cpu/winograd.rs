//! Winograd's minimal filtering F(2×2, 3×3): sixteen multiplications where a 3×3 window over four pixels takes thirty-six.
//!
//! Four output pixels are a tile, which sees 4×4 input pixels. With the matrices of Lavin & Gray 2016
//!
//! ```text
//! y  = Aᵀ [ (G w Gᵀ) ⊙ (Bᵀ x B) ] A          a tile of the output, summed over channels inside the brackets
//! dw = Gᵀ [ (Bᵀ x B) ⊙ (A dy Aᵀ) ] G         summed over tiles inside the brackets
//! ```
//!
//! so that the sums over channels, or over tiles, become sixteen matrix products ([`super::winograd_product`],
//! [`super::winograd_weight_grad`]). The second line is the derivative of the first; the input gradient is the first with the window
//! turned round. All factors are 0, ±1 and ½. bf16 rounds transformed pixels and weights, where the plain sum rounds weights alone; its
//! weight gradient stays with [`super::weight_grad`].

use super::isa::vectorised;
use super::tile::Kernel;
use super::value::{Value, lanes, lanes_mut};
use crate::geometry::ConvShape;

/// Products of a tile: 4×4.
pub const POINTS: usize = 16;
/// Narrowest map: on 2×2 pixels four taps of nine are in the map, and the direct product takes sixteen multiplications too.
const NARROWEST: usize = 4;
/// Fewest channels on either side: below, transforming costs more than it saves.
const FEWEST_CHANNELS: usize = 32;

/// Whether this way is the faster one. The number of images does not enter: it would change the bits of each.
pub fn applies<T: Value>(s: &ConvShape) -> bool {
    let cfg = s.cfg;
    !Kernel::of::<T>().tiled
        && (s.kh, s.kw) == (3, 3)
        && (cfg.stride, cfg.dilation, cfg.groups) == (1, 1, 1)
        && cfg.padding <= 2
        && [s.h, s.w, s.ho, s.wo]
            .iter()
            .all(|len| len % 2 == 0 && *len >= NARROWEST)
        && [s.c, s.o]
            .iter()
            .all(|channels| *channels >= FEWEST_CHANNELS && channels % T::PER_UNIT == 0)
}

/// A pair of transforms, along columns and along rows, of `I × I` to `O × O` numbers.
trait Transform<const I: usize, const O: usize> {
    /// Along one axis.
    fn axis(x: [f32; I]) -> [f32; O];

    /// Along both.
    #[inline(always)]
    fn apply(x: [[f32; I]; I]) -> [[f32; O]; O] {
        let mut rows = [[0.0; I]; O];
        for j in 0..I {
            let mut column = [0.0; I];
            for i in 0..I {
                column[i] = x[i][j];
            }
            let column = Self::axis(column);
            for i in 0..O {
                rows[i][j] = column[i];
            }
        }
        let mut y = [[0.0; O]; O];
        for i in 0..O {
            y[i] = Self::axis(rows[i]);
        }
        y
    }
}

/// `Bᵀ x B`
struct OfInput;
/// `G w Gᵀ`
struct OfWeight;
/// `A dy Aᵀ`
struct OfGradient;
/// `Aᵀ m A`
struct ToOutput;
/// `Gᵀ m G`
struct ToWeight;

impl Transform<4, 4> for OfInput {
    #[inline(always)]
    fn axis([a, b, c, d]: [f32; 4]) -> [f32; 4] {
        [a - c, b + c, c - b, b - d]
    }
}

impl Transform<3, 4> for OfWeight {
    #[inline(always)]
    fn axis([a, b, c]: [f32; 3]) -> [f32; 4] {
        [a, 0.5 * (a + c + b), 0.5 * (a + c - b), c]
    }
}

impl Transform<2, 4> for OfGradient {
    #[inline(always)]
    fn axis([a, b]: [f32; 2]) -> [f32; 4] {
        [a, a + b, a - b, -b]
    }
}

impl Transform<4, 2> for ToOutput {
    #[inline(always)]
    fn axis([a, b, c, d]: [f32; 4]) -> [f32; 2] {
        [a + b + c, b - c - d]
    }
}

impl Transform<4, 3> for ToWeight {
    #[inline(always)]
    fn axis([a, b, c, d]: [f32; 4]) -> [f32; 3] {
        [a + 0.5 * (b + c), 0.5 * (b - c), 0.5 * (b + c) + d]
    }
}

/// A distance of at least `len` units between points such that sixteen of them do not fight for the same cache sets.
pub fn apart(len: usize) -> usize {
    const PAGE: usize = 4096 / 4;
    len.next_multiple_of(PAGE) + 5 * LANES
}

/// Channels that are transformed at once: one vector of the widest instruction set.
const LANES: usize = 16;

/// At most [`LANES`] neighbouring channels: where they are read in every row, and where they are written for every point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strip {
    pub from: usize,
    pub len: usize,
    /// Room for `LANES` values, of which those from `len` on mean nothing.
    pub to: usize,
}

/// Strips of the channels `from..end`, written in blocks of `block` channels that begin `pitch` apart.
pub fn strips(from: usize, end: usize, block: usize, pitch: usize) -> Vec<Strip> {
    let firsts = (from..end).step_by(block);
    let blocks = firsts
        .enumerate()
        .map(|(i, first)| (i, first, end.min(first + block)));
    blocks
        .flat_map(|(i, first, end)| {
            (first..end).step_by(LANES).map(move |at| Strip {
                from: at,
                len: LANES.min(end - at),
                to: i * pitch + at - first,
            })
        })
        .collect()
}

/// `N` columns from `at` on: `to[point · pitch + start + k] = F(rows)[point][at + k]`.
#[inline(always)]
fn columns<
    F: Transform<I, O>,
    S: Value,
    D: Value,
    const I: usize,
    const O: usize,
    const N: usize,
>(
    rows: &[&[S]],
    at: usize,
    pitch: usize,
    start: usize,
    to: &mut [D],
) {
    let mut from = [[S::ZERO; N]; 16];
    let from = &mut from[..I * I];
    for (from, row) in from.iter_mut().zip(rows) {
        *from = *lanes(row, at);
    }
    // Columns outermost: a loop that the compiler turns into one pass over vectors.
    let mut points = [[[0.0; N]; O]; O];
    for k in 0..N {
        let mut x = [[0.0; I]; I];
        for i in 0..I {
            for j in 0..I {
                x[i][j] = from[I * i + j][k].get();
            }
        }
        let y = F::apply(x);
        for i in 0..O {
            for j in 0..O {
                points[i][j][k] = y[i][j];
            }
        }
    }
    for (i, values) in points.as_flattened().iter().enumerate() {
        *lanes_mut(to, i * pitch + start) = D::of_array(*values);
    }
}

/// `to[point · pitch + strip.to + k] = F(rows)[point][strip.from + k]`
#[inline(always)]
fn spread<F: Transform<I, O>, S: Value, D: Value, const I: usize, const O: usize>(
    rows: &[&[S]],
    strips: &[Strip],
    pitch: usize,
    to: &mut [D],
) {
    for strip in strips {
        if strip.from + LANES <= rows[0].len() {
            columns::<F, S, D, I, O, LANES>(rows, strip.from, pitch, strip.to, to);
        } else {
            for k in 0..strip.len {
                columns::<F, S, D, I, O, 1>(rows, strip.from + k, pitch, strip.to + k, to);
            }
        }
    }
}

vectorised! {
    /// `Bᵀ x B` of one tile: sixteen rows of channels to sixteen points.
    pub fn transform_input<T: Value>(x: &[&[T]; 16], strips: &[Strip], pitch: usize, to: &mut [T]) {
        spread::<OfInput, T, T, 4, 4>(x, strips, pitch, to);
    }
}

vectorised! {
    /// `A dy Aᵀ` of one tile: four rows of channels to sixteen points.
    pub fn transform_gradient<T: Value>(dy: &[&[T]; 4], strips: &[Strip], pitch: usize, to: &mut [T]) {
        spread::<OfGradient, T, T, 2, 4>(dy, strips, pitch, to);
    }
}

vectorised! {
    /// `G w Gᵀ`: nine rows of channels to sixteen points.
    pub fn transform_weight<T: Value>(w: &[&[f32]; 9], strips: &[Strip], pitch: usize, to: &mut [T]) {
        spread::<OfWeight, f32, T, 3, 4>(w, strips, pitch, to);
    }
}

vectorised! {
    /// `Gᵀ m G`: sixteen rows of channels to nine taps.
    pub fn transform_weight_gradient(m: &[&[f32]; 16], strips: &[Strip], pitch: usize, to: &mut [f32]) {
        spread::<ToWeight, f32, f32, 4, 3>(m, strips, pitch, to);
    }
}

vectorised! {
    /// `Aᵀ m A` of `tiles` tiles: `m[point · pitch + tile · width + column]` to `y[tile][pixel][column]`; `width`, a multiple of the
    /// lanes.
    pub fn transform_output(m: &[f32], pitch: usize, tiles: usize, width: usize, y: &mut [f32]) {
        for tile in 0..tiles {
            let mut rows = [&m[..0]; POINTS];
            for (point, row) in rows.iter_mut().enumerate() {
                *row = &m[point * pitch + tile * width..][..width];
            }
            let y = &mut y[4 * tile * width..][..4 * width];
            for at in (0..width).step_by(LANES) {
                columns::<ToOutput, f32, f32, 4, 2, LANES>(&rows, at, width, at, y);
            }
        }
    }
}

/// The tiles of a map: where their pixels and what they see lie in a tensor `[N, H, W, C]`.
#[derive(Debug, Clone, Copy)]
pub struct Tiles {
    /// Of the output.
    height: usize,
    width: usize,
    padding: usize,
}

impl Tiles {
    /// Of an output of `height × width` pixels whose input is padded by `padding`.
    pub fn new(height: usize, width: usize, padding: usize) -> Self {
        Self {
            height,
            width,
            padding,
        }
    }

    /// Tiles of one image.
    pub fn per_image(&self) -> usize {
        self.height * self.width / 4
    }

    /// Image, first row and first column of a tile.
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (image, tile) = (tile / self.per_image(), tile % self.per_image());
        let across = self.width / 2;
        (image, 2 * (tile / across), 2 * (tile % across))
    }

    /// Offsets of a tile's four pixels in an output of `channels`.
    pub fn pixels(&self, tile: usize, channels: usize) -> [usize; 4] {
        let (image, row, column) = self.place(tile);
        std::array::from_fn(|p| {
            ((image * self.height + row + p / 2) * self.width + column + p % 2) * channels
        })
    }

    /// The sixteen input pixels that a tile sees, of an input of `height × width × channels`; `zeros` in the padding.
    pub fn sight<'a, T>(
        &self,
        tile: usize,
        x: &'a [T],
        (height, width, channels): (usize, usize, usize),
        zeros: &'a [T],
    ) -> [&'a [T]; 16] {
        let (image, row, column) = self.place(tile);
        std::array::from_fn(|p| {
            let (i, j) = (
                (row + p / 4).wrapping_sub(self.padding),
                (column + p % 4).wrapping_sub(self.padding),
            );
            match i < height && j < width {
                true => &x[((image * height + i) * width + j) * channels..][..channels],
                false => &zeros[..channels],
            }
        })
    }
}
