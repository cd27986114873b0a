//! What a network's first layer makes of its images.

use rayon::prelude::*;

use crate::cpu::team::OnTeam;
use crate::cpu::value::Value;
use crate::geometry::{ConvConfig, ConvShape};

/// The first layer's view of its input: padded with pixels and channels of zeros, so that a window's rows are
/// contiguous, all pixels see all taps, and channels make whole units.
#[derive(Clone, Copy)]
pub struct Entry {
    /// As the caller has it.
    pub outer: ConvShape,
    /// As it is computed.
    pub inner: ConvShape,
}

impl Entry {
    /// Of a first layer.
    pub fn new<T: Value>(outer: ConvShape) -> Self {
        let c = match outer.cfg.groups {
            1 => outer.c.next_multiple_of(T::PER_UNIT),
            _ => outer.c,
        };
        let inner = ConvShape {
            h: outer.h + 2 * outer.cfg.padding,
            w: outer.w + 2 * outer.cfg.padding,
            c,
            cfg: ConvConfig {
                padding: 0,
                ..outer.cfg
            },
            ..outer
        };
        Self { outer, inner }
    }

    /// Index pairs (outer, inner) of the first value of every row of an image.
    fn rows(&self) -> impl Iterator<Item = (usize, usize)> {
        let (o, i, p) = (self.outer, self.inner, self.outer.cfg.padding);
        (0..o.h).map(move |y| (y * o.w * o.c, ((y + p) * i.w + p) * i.c))
    }

    /// The images as the layer reads them.
    pub fn input<T: Value>(&self, x: &[f32]) -> Vec<T> {
        let (o, i) = (self.outer, self.inner);
        let (from, to) = (o.h * o.w * o.c, i.h * i.w * i.c);
        let mut values = vec![T::ZERO; i.n * to];
        let images = values
            .par_chunks_mut(to.max(1))
            .zip(x.par_chunks(from.max(1)));
        images.on_team(|(values, x)| {
            for (from, to) in self.rows() {
                let pixels = values[to..].chunks_exact_mut(i.c);
                for (to, x) in pixels.zip(x[from..][..o.w * o.c].chunks_exact(o.c)) {
                    for (to, x) in to.iter_mut().zip(x) {
                        *to = T::of(*x);
                    }
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
        images.on_team(|(values, dx)| {
            for (to, from) in self.rows() {
                let pixels = values[to..][..o.w * o.c].chunks_exact_mut(o.c);
                for (to, x) in pixels.zip(dx[from..].chunks_exact(i.c)) {
                    for (to, x) in to.iter_mut().zip(x) {
                        *to = x.get();
                    }
                }
            }
        });
        values
    }

    /// `[O, kh, kw, C]` with as many channels as are computed.
    pub fn weight(&self, w: &[f32]) -> Vec<f32> {
        let (from, to) = (self.outer.c, self.inner.c);
        let mut padded = vec![0f32; w.len() / from * to];
        for (to, from) in padded.chunks_exact_mut(to).zip(w.chunks_exact(from)) {
            to[..from.len()].copy_from_slice(from);
        }
        padded
    }

    /// The gradient without the channels that only pad.
    pub fn weight_gradient(&self, dw: Vec<f32>) -> Vec<f32> {
        match self.outer.c == self.inner.c {
            true => dw,
            false => (dw.chunks_exact(self.inner.c))
                .flat_map(|dw| &dw[..self.outer.c])
                .copied()
                .collect(),
        }
    }
}
