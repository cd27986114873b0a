//! Weights as the products take them: plain, or packed before.

use super::buffer::Scratch;
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
