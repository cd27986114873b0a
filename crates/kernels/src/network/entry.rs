//! What a network's first layer makes of its images.

use rayon::prelude::*;

use crate::cpu::value::Value;
use crate::geometry::{ConvConfig, ConvShape};

/// The first layer's view of its input: padded with pixels of zeros, so that a window's rows are contiguous and all pixels see all taps.
#[derive(Clone, Copy)]
pub struct Entry {
    /// As the caller has it.
    pub outer: ConvShape,
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

    /// Where the rows of an image begin, (outer, inner), and how long they are.
    fn rows(&self) -> (impl Iterator<Item = (usize, usize)> + use<>, usize) {
        let Self { outer, inner } = *self;
        let p = outer.cfg.padding;
        let row = move |y| (y * outer.w * outer.c, ((y + p) * inner.w + p) * inner.c);
        ((0..outer.h).map(row), outer.w * outer.c)
    }

    /// The images as the layer reads them.
    pub fn input<T: Value>(&self, x: &[f32]) -> Vec<T> {
        let (o, i) = (self.outer, self.inner);
        let (from, to) = (o.h * o.w * o.c, i.h * i.w * i.c);
        let mut values = vec![T::ZERO; i.n * to];
        let images = values
            .par_chunks_mut(to.max(1))
            .zip(x.par_chunks(from.max(1)));
        images.for_each(|(values, x)| {
            let (rows, len) = self.rows();
            for (from, to) in rows {
                for (to, x) in values[to..to + len].iter_mut().zip(&x[from..from + len]) {
                    *to = T::of(*x);
                }
            }
        });
        values
    }

    /// The gradient of the images from that of [`Self::input`].
    pub fn input_gradient<T: Value>(&self, dx: &[T]) -> Vec<f32> {
        let (o, i) = (self.outer, self.inner);
        let (to, from) = (o.h * o.w * o.c, i.h * i.w * i.c);
        let mut values = vec![0f32; o.n * to];
        let images = values
            .par_chunks_mut(to.max(1))
            .zip(dx.par_chunks(from.max(1)));
        images.for_each(|(values, dx)| {
            let (rows, len) = self.rows();
            for (to, from) in rows {
                for (to, x) in values[to..to + len].iter_mut().zip(&dx[from..]) {
                    *to = x.get();
                }
            }
        });
        values
    }
}
