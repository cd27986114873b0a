//! Weights as the products take them: plain, or packed before; and how rows of them become units.

use super::buffer::Scratch;
use super::isa::vectorised;
use super::value::{Value, unit};
use crate::geometry::ConvShape;

/// Weights of a convolution, `[O, kh, kw, C/g]`.
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    /// As they are, packed for one call.
    Plain(&'a [f32]),
    /// By [`super::gather::pack_forward`], for a shape that differs in the number of images at most.
    Packed(&'a Packed),
}

/// Packed weights: what does not change from call to call is packed once.
pub struct Packed {
    /// Without images.
    shape: ConvShape,
    space: Scratch,
    len: usize,
}

impl Packed {
    /// `len` units for a convolution, which `fill` writes completely.
    pub fn new(shape: &ConvShape, len: usize, fill: impl FnOnce(&mut [u32])) -> Self {
        let mut space = Scratch::default();
        fill(space.get(len));
        Self {
            shape: ConvShape { n: 0, ..*shape },
            space,
            len,
        }
    }

    /// The units, for a convolution of the same shape.
    pub fn units(&self, shape: &ConvShape) -> &[u32] {
        assert_eq!(
            self.shape,
            ConvShape { n: 0, ..*shape },
            "packed for another shape"
        );
        self.space.units(self.len)
    }
}

vectorised! {
    /// Rows of units, side by side, from rows of `depth` values that lie `pitch` apart.
    pub fn unit_rows<T: Value>(from: &[f32], pitch: usize, depth: usize, to: &mut [u32]) {
        let steps = depth.div_ceil(T::PER_UNIT);
        for (i, to) in to.chunks_exact_mut(steps).enumerate() {
            let from = &from[i * pitch..][..depth];
            if T::PER_UNIT == 1 {
                f32::interleave(from, None, to);
            } else {
                let pairs = from.chunks_exact(2);
                if let [last] = pairs.remainder() {
                    to[steps - 1] = unit::<T>(*last, 0.0);
                }
                for (to, pair) in to.iter_mut().zip(pairs) {
                    *to = unit::<T>(pair[0], pair[1]);
                }
            }
        }
    }
}

vectorised! {
    /// `to[k · width + j]`: the unit of rows `PER_UNIT · k …` at column j; columns from `columns` to `width` become 0.
    pub fn unit_columns<T: Value>(from: &[f32], pitch: usize, columns: usize, depth: usize, width: usize, to: &mut [u32]) {
        let steps = depth.div_ceil(T::PER_UNIT);
        for (k, to) in to.chunks_exact_mut(width).take(steps).enumerate() {
            let low = &from[T::PER_UNIT * k * pitch..][..columns];
            if T::PER_UNIT == 1 {
                f32::interleave(low, None, to);
            } else if 2 * k + 1 < depth {
                let high = &from[(2 * k + 1) * pitch..][..columns];
                for ((to, low), high) in to.iter_mut().zip(low).zip(high) {
                    *to = unit::<T>(*low, *high);
                }
            } else {
                for (to, low) in to.iter_mut().zip(low) {
                    *to = unit::<T>(*low, 0.0);
                }
            }
            to[columns..].fill(0);
        }
    }
}
