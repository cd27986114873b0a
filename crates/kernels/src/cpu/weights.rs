//! Weights as the products take them: plain, or packed before.

use super::buffer::Scratch;

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
    space: Scratch,
    len: usize,
}

impl Packed {
    /// `len` units, which `fill` writes completely.
    pub fn new(len: usize, fill: impl FnOnce(&mut [u32])) -> Self {
        let mut space = Scratch::default();
        fill(space.get(len));
        Self { space, len }
    }

    /// The units.
    pub fn units(&self) -> &[u32] {
        self.space.units(self.len)
    }
}
