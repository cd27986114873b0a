//! One image through all steps, without allocating.

use rand_chacha::ChaCha8Rng;

use super::colour::Planes;
use super::config::{Augmentation, Flip};
use super::geometry::{Tap, affine, resize_crop, shift};
use crate::error::Result;
use crate::normalization::Normalization;
use crate::random::{below, mix, uniform, unit};

/// Which image is being augmented, for the alternating flip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The image's index in its data set.
    pub index: usize,
    /// The epoch.
    pub epoch: usize,
    /// The view, from 0.
    pub view: usize,
}

/// Scratch memory for one thread.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    planes: [Vec<f32>; 2],
    rows: Vec<f32>,
    taps: Vec<Tap>,
}

/// An augmentation prepared for images of one size.
#[derive(Clone, Debug)]
pub struct Augmenter {
    what: Augmentation,
    height: usize,
    width: usize,
    /// `y = x·scale + offset` for x in 0..1.
    scale: [f32; 3],
    offset: [f32; 3],
    /// The same for u8, where nothing else is done.
    table: [[f32; 256]; 3],
    flip_seed: u64,
}

impl Augmenter {
    /// Prepares `what` for images of `height`×`width`. `flip_seed` tosses the coins of the alternating flip.
    ///
    /// # Errors
    /// If a setting is out of range; the message names it.
    pub fn new(
        what: Augmentation,
        height: usize,
        width: usize,
        normalization: &Normalization,
        flip_seed: u64,
    ) -> Result<Self> {
        what.check(height, width)?;
        normalization.check()?;
        let scale = normalization.std.map(|std| 1.0 / std);
        let offset = [0, 1, 2].map(|channel| -normalization.mean[channel] * scale[channel]);
        let table = [0, 1, 2].map(|channel: usize| {
            std::array::from_fn(|value| value as f32 / 255.0 * scale[channel] + offset[channel])
        });
        Ok(Self {
            what,
            height,
            width,
            scale,
            offset,
            table,
            flip_seed,
        })
    }

    /// Augments `image` (`[H, W, 3]`, u8) into `out` (`[H, W, 3]`, normalised), drawing from `rng`.
    ///
    /// # Panics
    /// If a slice does not have `H·W·3` elements.
    pub fn apply(
        &self,
        image: &[u8],
        out: &mut [f32],
        sample: Sample,
        rng: &mut ChaCha8Rng,
        work: &mut Workspace,
    ) {
        let size = self.height * self.width * 3;
        assert_eq!(
            (image.len(), out.len()),
            (size, size),
            "image and out must hold H·W·3 elements"
        );
        let what = &self.what;
        let flip = match what.flip {
            Flip::None => false,
            Flip::Random => unit(rng) < 0.5,
            Flip::Alternating => {
                (mix(self.flip_seed, sample.index as u64) as usize)
                    .wrapping_add(sample.epoch + sample.view)
                    & 1
                    == 1
            }
        };
        let affine = what.rotation > 0.0 || what.scaling.is_some();
        let resample = affine || what.pad_crop.is_some() || what.random_resized_crop.is_some();
        if resample || what.jitter.is_some() || what.grey > 0.0 {
            work.resize(self.height, self.width);
            load(image, &mut work.planes[0], self.width, flip);
            self.transform(rng, work);
            self.store(&work.planes[0], out);
        } else {
            self.look_up(image, out, flip);
        }
        if what.cutout > 0 {
            self.cut_out(out, rng);
        }
    }

    /// Geometry and colour; the result is in `work.planes[0]`.
    fn transform(&self, rng: &mut ChaCha8Rng, work: &mut Workspace) {
        let size = (self.height, self.width);
        let what = &self.what;
        let Workspace {
            planes: [now, next],
            rows,
            taps,
        } = work;
        if what.rotation > 0.0 || what.scaling.is_some() {
            let turns = uniform(rng, -what.rotation, what.rotation);
            let zoom = what.scaling.map_or((1.0, 1.0), |scaling| {
                (
                    uniform(rng, 1.0 - scaling.width, 1.0 + scaling.width),
                    uniform(rng, 1.0 - scaling.height, 1.0 + scaling.height),
                )
            });
            affine(now, next, size, turns, zoom);
            std::mem::swap(now, next);
        }
        if let Some(pad_crop) = &what.pad_crop {
            shift(now, next, size, pad_crop.draw(rng), pad_crop.mode);
            std::mem::swap(now, next);
        }
        if let Some(crop) = &what.random_resized_crop {
            let crop = crop.draw(self.height, self.width, rng);
            resize_crop(now, next, size, crop, rows, taps);
            std::mem::swap(now, next);
        }
        let mut planes = Planes::new(now);
        if let Some(jitter) = &what.jitter
            && unit(rng) < jitter.probability
        {
            planes.jitter(jitter, rng);
        }
        if what.grey > 0.0 && unit(rng) < what.grey {
            planes.grey();
        }
    }

    /// Planes → interleaved and normalised.
    fn store(&self, planes: &[f32], out: &mut [f32]) {
        let plane = self.height * self.width;
        let (r, rest) = planes.split_at(plane);
        let (g, b) = rest.split_at(plane);
        let ([sr, sg, sb], [or, og, ob]) = (self.scale, self.offset);
        for (((out, r), g), b) in out.as_chunks_mut::<3>().0.iter_mut().zip(r).zip(g).zip(b) {
            *out = [r * sr + or, g * sg + og, b * sb + ob];
        }
    }

    /// The short way where no pixel moves or mixes.
    fn look_up(&self, image: &[u8], out: &mut [f32], flip: bool) {
        let [red, green, blue] = &self.table;
        let map = |[r, g, b]: [u8; 3]| [red[r as usize], green[g as usize], blue[b as usize]];
        let (image, out) = (image.as_chunks::<3>().0, out.as_chunks_mut::<3>().0);
        for (row, out) in image
            .chunks_exact(self.width)
            .zip(out.chunks_exact_mut(self.width))
        {
            if flip {
                row.iter()
                    .rev()
                    .zip(out)
                    .for_each(|(pixel, out)| *out = map(*pixel));
            } else {
                row.iter()
                    .zip(out)
                    .for_each(|(pixel, out)| *out = map(*pixel));
            }
        }
    }

    /// Sets a square to 0, the mean colour after normalisation; it may hang over the edge.
    fn cut_out(&self, out: &mut [f32], rng: &mut ChaCha8Rng) {
        let side = self.what.cutout;
        let mut span = |length: usize| {
            let centre = below(rng, length);
            centre.saturating_sub(side / 2)..(centre + side.div_ceil(2)).min(length)
        };
        let (rows, columns) = (span(self.height), span(self.width));
        for y in rows {
            out[(y * self.width + columns.start) * 3..(y * self.width + columns.end) * 3].fill(0.0);
        }
    }
}

impl Workspace {
    fn resize(&mut self, height: usize, width: usize) {
        for planes in &mut self.planes {
            planes.resize(3 * height * width, 0.0);
        }
        self.rows.resize(height * width, 0.0);
        self.taps.resize(height + width, Tap::default());
    }
}

/// u8 interleaved → planes in 0..1, mirrored if `flip`.
fn load(image: &[u8], planes: &mut [f32], width: usize, flip: bool) {
    let plane = planes.len() / 3;
    let (r, rest) = planes.split_at_mut(plane);
    let (g, b) = rest.split_at_mut(plane);
    let rows = image.as_chunks::<3>().0.chunks_exact(width);
    for (((row, r), g), b) in rows
        .zip(r.chunks_exact_mut(width))
        .zip(g.chunks_exact_mut(width))
        .zip(b.chunks_exact_mut(width))
    {
        for (((pixel, r), g), b) in row.iter().zip(&mut *r).zip(&mut *g).zip(&mut *b) {
            [*r, *g, *b] = pixel.map(|value| f32::from(value) * (1.0 / 255.0));
        }
        if flip {
            r.reverse();
            g.reverse();
            b.reverse();
        }
    }
}
