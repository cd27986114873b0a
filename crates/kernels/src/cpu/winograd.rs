//! Winograd's minimal filtering F(2×2, 3×3): sixteen multiplications where a 3×3 window over four pixels takes thirty-six; and nine on a
//! map of four pixels, where it takes sixteen.
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
//!
//! On a map of 2×2 pixels in padding of one, the tile is the map. Along an axis
//!
//! ```text
//! y₀ = w₁ x₀ + w₂ x₁ = w₁ (x₀ + x₁) + (w₂ − w₁) x₁
//! y₁ = w₀ x₀ + w₁ x₁ = w₁ (x₀ + x₁) + (w₀ − w₁) x₀
//! ```
//!
//! three multiplications in place of four: the equations above, with smaller matrices.

use super::isa::vectorised;
use super::tile::Kernel;
use super::value::{Rounding, Value, lanes, lanes_mut};
use crate::geometry::ConvShape;

/// How four output pixels are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// F(2×2, 3×3), on any map.
    Tile,
    /// The whole map is 2×2 pixels, in padding of one.
    Map,
}

impl Scheme {
    /// The one for an output of this size.
    pub fn of(height: usize, width: usize) -> Self {
        match (height, width) {
            (2, 2) => Self::Map,
            _ => Self::Tile,
        }
    }

    /// Products of a tile.
    pub fn points(self) -> usize {
        match self {
            Self::Tile => 16,
            Self::Map => 9,
        }
    }
}

/// Most input pixels that a tile sees, and most of its products.
pub const MOST: usize = 16;
/// Fewest channels on either side: below, transforming costs more than it saves.
const FEWEST_CHANNELS: usize = 32;

/// Whether this way is the faster one. The number of images does not enter: it would change the bits of each.
pub fn applies<T: Value>(s: &ConvShape) -> bool {
    let cfg = s.cfg;
    let sides = [s.h, s.w, s.ho, s.wo];
    !Kernel::of::<T>().tiled
        && (s.kh, s.kw) == (3, 3)
        && (cfg.stride, cfg.dilation, cfg.groups) == (1, 1, 1)
        && cfg.padding <= 2
        && (sides == [2; 4] || sides.iter().all(|side| side % 2 == 0 && *side >= 4))
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

impl Transform<2, 3> for OfInput {
    #[inline(always)]
    fn axis([a, b]: [f32; 2]) -> [f32; 3] {
        [a + b, b, a]
    }
}

impl Transform<3, 4> for OfWeight {
    #[inline(always)]
    fn axis([a, b, c]: [f32; 3]) -> [f32; 4] {
        [a, 0.5 * (a + c + b), 0.5 * (a + c - b), c]
    }
}

impl Transform<3, 3> for OfWeight {
    #[inline(always)]
    fn axis([a, b, c]: [f32; 3]) -> [f32; 3] {
        [b, c - b, a - b]
    }
}

impl Transform<2, 4> for OfGradient {
    #[inline(always)]
    fn axis([a, b]: [f32; 2]) -> [f32; 4] {
        [a, a + b, a - b, -b]
    }
}

impl Transform<2, 3> for OfGradient {
    #[inline(always)]
    fn axis([a, b]: [f32; 2]) -> [f32; 3] {
        [a + b, a, b]
    }
}

impl Transform<4, 2> for ToOutput {
    #[inline(always)]
    fn axis([a, b, c, d]: [f32; 4]) -> [f32; 2] {
        [a + b + c, b - c - d]
    }
}

impl Transform<3, 2> for ToOutput {
    #[inline(always)]
    fn axis([a, b, c]: [f32; 3]) -> [f32; 2] {
        [a + b, a + c]
    }
}

impl Transform<4, 3> for ToWeight {
    #[inline(always)]
    fn axis([a, b, c, d]: [f32; 4]) -> [f32; 3] {
        [a + 0.5 * (b + c), 0.5 * (b - c), 0.5 * (b + c) + d]
    }
}

impl Transform<3, 3> for ToWeight {
    #[inline(always)]
    fn axis([a, b, c]: [f32; 3]) -> [f32; 3] {
        [c, a - b - c, b]
    }
}

/// A distance of at least `len` units between points such that they do not fight for the same cache sets.
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
    const BF16: bool,
>(
    rounding: Rounding<BF16>,
    rows: &[&[S]],
    at: usize,
    pitch: usize,
    start: usize,
    to: &mut [D],
) {
    let mut from = [[S::ZERO; N]; MOST];
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
        *lanes_mut(to, i * pitch + start) = D::round(rounding, *values);
    }
}

/// `to[point · pitch + strip.to + k] = F(rows)[point][strip.from + k]`
#[inline(always)]
fn spread<
    F: Transform<I, O>,
    S: Value,
    D: Value,
    const I: usize,
    const O: usize,
    const BF16: bool,
>(
    rounding: Rounding<BF16>,
    rows: &[&[S]],
    strips: &[Strip],
    pitch: usize,
    to: &mut [D],
) {
    for strip in strips {
        let (from, start) = (strip.from, strip.to);
        if from + LANES <= rows[0].len() {
            columns::<F, S, D, I, O, LANES, BF16>(rounding, rows, from, pitch, start, to);
        } else {
            for k in 0..strip.len {
                columns::<F, S, D, I, O, 1, BF16>(rounding, rows, from + k, pitch, start + k, to);
            }
        }
    }
}

vectorised! {
    /// `Bᵀ x B` of one tile: the rows of channels that it sees ([`Tiles::sight`]) to points.
    pub fn transform_input<T: Value>[rounding](scheme: Scheme, x: &[&[T]; MOST], strips: &[Strip], pitch: usize, to: &mut [T]) {
        match scheme {
            Scheme::Tile => spread::<OfInput, T, T, 4, 4, _>(rounding, x, strips, pitch, to),
            Scheme::Map => spread::<OfInput, T, T, 2, 3, _>(rounding, &x[..4], strips, pitch, to),
        }
    }
}

vectorised! {
    /// `A dy Aᵀ` of one tile: four rows of channels to points.
    pub fn transform_gradient<T: Value>(scheme: Scheme, dy: &[&[T]; 4], strips: &[Strip], pitch: usize, to: &mut [T]) {
        match scheme {
            Scheme::Tile => spread::<OfGradient, T, T, 2, 4, _>(Rounding::BY_CODE, dy, strips, pitch, to),
            Scheme::Map => spread::<OfGradient, T, T, 2, 3, _>(Rounding::BY_CODE, dy, strips, pitch, to),
        }
    }
}

vectorised! {
    /// `G w Gᵀ`: nine rows of channels to points.
    pub fn transform_weight<T: Value>[rounding](scheme: Scheme, w: &[&[f32]; 9], strips: &[Strip], pitch: usize, to: &mut [T]) {
        match scheme {
            Scheme::Tile => spread::<OfWeight, f32, T, 3, 4, _>(rounding, w, strips, pitch, to),
            Scheme::Map => spread::<OfWeight, f32, T, 3, 3, _>(rounding, w, strips, pitch, to),
        }
    }
}

vectorised! {
    /// `Gᵀ m G`: a row of channels of every point to nine taps.
    pub fn transform_weight_gradient(scheme: Scheme, m: &[&[f32]], strips: &[Strip], pitch: usize, to: &mut [f32]) {
        match scheme {
            Scheme::Tile => spread::<ToWeight, f32, f32, 4, 3, _>(Rounding::BY_CODE, m, strips, pitch, to),
            Scheme::Map => spread::<ToWeight, f32, f32, 3, 3, _>(Rounding::BY_CODE, m, strips, pitch, to),
        }
    }
}

vectorised! {
    /// `Aᵀ m A` of `tiles` tiles: `m[point · pitch + tile · width + column]` to `y[tile][pixel][column]`; `width`, a multiple of the
    /// lanes.
    pub fn transform_output(scheme: Scheme, m: &[f32], pitch: usize, tiles: usize, width: usize, y: &mut [f32]) {
        for tile in 0..tiles {
            let mut rows = [&m[..0]; MOST];
            let rows = &mut rows[..scheme.points()];
            for (point, row) in rows.iter_mut().enumerate() {
                *row = &m[point * pitch + tile * width..][..width];
            }
            let y = &mut y[4 * tile * width..][..4 * width];
            for at in (0..width).step_by(LANES) {
                match scheme {
                    Scheme::Tile => columns::<ToOutput, f32, f32, 4, 2, LANES, _>(Rounding::BY_CODE, rows, at, width, at, y),
                    Scheme::Map => columns::<ToOutput, f32, f32, 3, 2, LANES, _>(Rounding::BY_CODE, rows, at, width, at, y),
                }
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

    /// How they are computed.
    pub fn scheme(&self) -> Scheme {
        Scheme::of(self.height, self.width)
    }

    /// The input pixels that a tile sees, row after row, of an input of `height × width × channels`; `zeros` in the padding. Where the map
    /// is the tile, its own four come first, and nothing else counts.
    pub fn sight<'a, T>(
        &self,
        tile: usize,
        x: &'a [T],
        (height, width, channels): (usize, usize, usize),
        zeros: &'a [T],
    ) -> [&'a [T]; MOST] {
        let (image, row, column) = self.place(tile);
        let scheme = self.scheme();
        std::array::from_fn(|p| {
            let (i, j) = match scheme {
                Scheme::Tile => (
                    (row + p / 4).wrapping_sub(self.padding),
                    (column + p % 4).wrapping_sub(self.padding),
                ),
                Scheme::Map => (p / 2, p % 2),
            };
            match i < height && j < width {
                true => &x[((image * height + i) * width + j) * channels..][..channels],
                false => &zeros[..channels],
            }
        })
    }
}
