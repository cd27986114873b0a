//! What a network's first layer makes of its images.

use std::ops::Range;

use rayon::prelude::*;

use crate::cpu::value::Value;
use crate::geometry::{ConvConfig, ConvShape};

/// The first layer's view of its input: padded with pixels of zeros, so that a window's rows are contiguous and all pixels see all taps.
#[derive(Clone, Copy)]
pub struct Entry {
    /// As the caller has it.
    outer: ConvShape,
    /// As it is computed.
    pub inner: ConvShape,
}

impl Entry {
    /// Of a first layer.
    pub fn new(outer: ConvShape) -> Self {
        let inner = ConvShape {
            h: outer.h + 2 * outer.cfg.padding,
            w: outer.w + 2 * outer.cfg.padding,
            cfg: ConvConfig {
                padding: 0,
                ..outer.cfg
            },
            ..outer
        };
        Self { outer, inner }
    }

    /// The rows of an image: where they lie in it, and where in the padded one.
    fn rows(self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let Self { outer, inner } = self;
        let (len, p) = (outer.w * outer.c, outer.cfg.padding);
        (0..outer.h).map(move |y| {
            let (from, to) = (y * len, ((y + p) * inner.w + p) * inner.c);
            (from..from + len, to..to + len)
        })
    }

    /// The images as the layer reads them.
    pub fn input<T: Value>(self, x: &[f32]) -> Vec<T> {
        let (from, to) = self.sizes();
        let mut values = vec![T::ZERO; self.inner.n * to];
        let images = (values.par_chunks_mut(to.max(1))).zip(x.par_chunks(from.max(1)));
        images.for_each(|(values, x)| {
            for (from, to) in self.rows() {
                for (to, x) in values[to].iter_mut().zip(&x[from]) {
                    *to = T::of(*x);
                }
            }
        });
        values
    }

    /// The gradient of the images from that of [`Self::input`].
    pub fn input_gradient<T: Value>(self, dx: &[T]) -> Vec<f32> {
        let (to, from) = self.sizes();
        let mut values = vec![0f32; self.outer.n * to];
        let images = (values.par_chunks_mut(to.max(1))).zip(dx.par_chunks(from.max(1)));
        images.for_each(|(values, dx)| {
            for (to, from) in self.rows() {
                for (to, x) in values[to].iter_mut().zip(&dx[from]) {
                    *to = x.get();
                }
            }
        });
        values
    }

    /// Values of an image, and of the padded one.
    fn sizes(self) -> (usize, usize) {
        let values = |s: ConvShape| s.h * s.w * s.c;
        (values(self.outer), values(self.inner))
    }
}
