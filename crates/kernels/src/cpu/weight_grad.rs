//! The weight gradient: a reduction over pixels.
//!
//! ```text
//! dw[o, tap, c] = Σ_pixels dy[pixel, o] · x[pixel + tap, c]
//! ```
//!
//! Taps with many channels are reduced one at a time, over exactly the pixels that see them; taps with few channels (a
//! network's first layer) share panels, side by side, with zeros where a tap lies in the padding. Long reductions over
//! small results are cut into slices, summed afterwards in order.

use rayon::prelude::*;

use super::buffer::{Shared, Workspace, with_panels, with_workspace, written};
use super::plan::pairs;
use super::tile::{K_PITCH, KC, Kernel, MAX_MR, MAX_NR, Onto, Run, Side};
use crate::geometry::ConvShape;

/// Most output channels of one task.
const BLOCK_OUT: usize = 140;
/// Most panels of one task.
const BLOCK_PANELS: usize = 4;
/// Tasks to aim for, as in [`super::gather`].
const TASKS: usize = 16;
/// Fewest pixels worth a slice of their own.
const SLICE: usize = 512;

/// Taps reduced together, and the pixels of one image that any of them sees.
struct Bundle {
    taps: std::ops::Range<usize>,
    /// Offset of each pixel in `dy`.
    targets: Vec<usize>,
    /// For each pixel the offset in `x` of every tap; `None` in the padding.
    sources: Vec<Option<usize>>,
}

/// A block of the result, over a slice of the pixels.
struct Task<'a> {
    bundle: &'a Bundle,
    group: usize,
    outs: (usize, usize),
    panels: (usize, usize),
    slice: usize,
}

/// `dw: [O, kh, kw, C/g]` from `x: [N, H, W, C]` and `dy: [N, H', W', O]`.
pub fn conv_backward_weight(s: &ConvShape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let kernel = Kernel::get();
    let groups = s.cfg.groups;
    let (ck, og) = (s.c / groups, s.o / groups);
    let bundles = bundles(s, ck, kernel.nr);
    let out_blocks = og.div_ceil(BLOCK_OUT);
    let blocks = |bundle: &Bundle| {
        let panels = (bundle.taps.len() * ck).div_ceil(kernel.nr);
        (panels, panels.div_ceil(BLOCK_PANELS))
    };
    let base: usize = bundles.iter().map(|b| blocks(b).1).sum::<usize>() * out_blocks * groups;
    let longest = bundles.iter().map(|b| b.targets.len()).max().unwrap_or(0) * s.n;
    let slices = TASKS
        .div_ceil(base.max(1))
        .clamp(1, longest.div_ceil(SLICE).max(1));

    let mut tasks = Vec::with_capacity(base * slices);
    for slice in 0..slices {
        for group in 0..groups {
            for bundle in &bundles {
                let (panels, panel_blocks) = blocks(bundle);
                for o in 0..out_blocks {
                    for p in 0..panel_blocks {
                        tasks.push(Task {
                            bundle,
                            group,
                            outs: (og * o / out_blocks, og * (o + 1) / out_blocks),
                            panels: (panels * p / panel_blocks, panels * (p + 1) / panel_blocks),
                            slice,
                        });
                    }
                }
            }
        }
    }
    let len = s.o * s.kh * s.kw * ck;
    let fill = |out: Shared<'_>| {
        let run = |all: Shared<'_>| {
            tasks.par_iter().with_max_len(1).for_each(|task| {
                with_workspace(|space| {
                    // SAFETY: tasks differ in slice, group, taps, outputs or panels: no value belongs to two.
                    unsafe { task.run(kernel, s, x, dy, slices, space, all) }
                });
            });
        };
        if slices == 1 {
            run(out);
            return;
        }
        with_panels(slices * len, |partial| {
            run(Shared::new(partial));
            let step = 4096;
            (0..len.div_ceil(step)).into_par_iter().for_each(|i| {
                let (from, to) = (i * step, len.min((i + 1) * step));
                // SAFETY: steps do not overlap.
                let sum = unsafe { out.part(from, to) }.write_copy_of_slice(&partial[from..to]);
                for slice in 1..slices {
                    let add = &partial[slice * len + from..slice * len + to];
                    sum.iter_mut().zip(add).for_each(|(s, a)| *s += a);
                }
            });
        });
    };
    // SAFETY: bundles hold every tap, and a task overwrites its block even where it has no pixels; with slices, the sum
    // writes everything.
    unsafe { written(len, fill) }
}

fn bundles(s: &ConvShape, ck: usize, nr: usize) -> Vec<Bundle> {
    let taps = s.kh * s.kw;
    let together = if ck >= nr || taps == 1 { 1 } else { taps };
    (0..taps)
        .step_by(together)
        .map(|first| {
            let range = first..first + together;
            let mut at = vec![None; s.ho * s.wo * together];
            for tap in range.clone() {
                let columns = pairs(s.wo, s.w, tap % s.kw, s);
                for (i, input_i) in pairs(s.ho, s.h, tap / s.kw, s) {
                    for &(j, input_j) in &columns {
                        at[(i * s.wo + j) * together + tap - first] =
                            Some((input_i * s.w + input_j) * s.c);
                    }
                }
            }
            let (mut targets, mut sources) = (Vec::new(), Vec::new());
            for (pixel, taps) in at.chunks_exact(together).enumerate() {
                if taps.iter().any(Option::is_some) {
                    targets.push(pixel * s.o);
                    sources.extend_from_slice(taps);
                }
            }
            Bundle {
                taps: range,
                targets,
                sources,
            }
        })
        .collect()
}

impl Task<'_> {
    /// # Safety
    /// No other task touches this one's block of `out`.
    #[allow(clippy::too_many_arguments)]
    unsafe fn run(
        &self,
        kernel: &Kernel,
        s: &ConvShape,
        x: &[f32],
        dy_all: &[f32],
        slices: usize,
        space: &mut Workspace,
        out: Shared<'_>,
    ) {
        let groups = s.cfg.groups;
        let (ck, og) = (s.c / groups, s.o / groups);
        let pitch = s.kh * s.kw * ck;
        let width = self.bundle.taps.len() * ck; // columns of the whole bundle
        let (o0, o1) = self.outs;
        let tiles = (o1 - o0).div_ceil(kernel.mr);
        let tile_rows = |t: usize| ((o1 - o0) * t / tiles, (o1 - o0) * (t + 1) / tiles);
        let panels = self.panels.1 - self.panels.0;
        let first_column = self.panels.0 * kernel.nr;
        let last_column = width.min(self.panels.1 * kernel.nr);

        let Bundle {
            taps: bundled,
            targets,
            sources,
        } = self.bundle;
        let (pixels, together) = (targets.len() * s.n, bundled.len());
        let (from, to) = (
            pixels * self.slice / slices,
            pixels * (self.slice + 1) / slices,
        );
        let base =
            self.slice * s.o * pitch + (self.group * og + o0) * pitch + self.bundle.taps.start * ck;
        let a = space.a.get(tiles * KC * K_PITCH);
        let b = space.b.get(panels * KC * kernel.nr);

        let chunks = (to - from).div_ceil(KC).max(1); // an empty reduction still writes zeros
        for chunk in 0..chunks {
            let (from, to) = (from + chunk * KC, to.min(from + (chunk + 1) * KC));
            let steps = to.saturating_sub(from);
            let (mut image, mut spot) = match targets.len() {
                0 => (0, 0),
                spots => (from / spots, from % spots),
            };
            for k in 0..steps {
                let dy = image * s.ho * s.wo * s.o + targets[spot] + self.group * og + o0;
                let dy = &dy_all[dy..][..o1 - o0];
                let x_image = image * s.h * s.w * s.c + self.group * ck;
                let taps = &sources[spot * together..][..together];
                spot += 1;
                if spot == targets.len() {
                    (image, spot) = (image + 1, 0);
                }
                for t in 0..tiles {
                    let (i0, i1) = tile_rows(t);
                    let to = &mut a[(t * KC + k) * K_PITCH..][..K_PITCH];
                    match dy[i0..].first_chunk::<K_PITCH>() {
                        // One vector; what it holds beyond the tile's rows is never read.
                        Some(from) => to.copy_from_slice(from),
                        None => to[..i1 - i0].copy_from_slice(&dy[i0..i1]),
                    }
                }
                if let [Some(source)] = taps {
                    // One tap: whole vectors, except in the last panel.
                    let x = &x[x_image + source..][..ck];
                    let mut column = first_column;
                    for panel in 0..panels {
                        let len = kernel.nr.min(last_column - column);
                        let to = &mut b[(panel * KC + k) * kernel.nr..][..kernel.nr];
                        if len == MAX_NR {
                            to.copy_from_slice(&x[column..column + MAX_NR]);
                        } else {
                            to[..len].copy_from_slice(&x[column..column + len]);
                            to[len..].fill(0.0);
                        }
                        column += len;
                    }
                } else {
                    for column in first_column..self.panels.1 * kernel.nr {
                        let value = match taps.get(column / ck) {
                            Some(Some(source)) => x[x_image + source + column % ck],
                            _ => 0.0,
                        };
                        let (panel, j) = (column / kernel.nr - self.panels.0, column % kernel.nr);
                        b[(panel * KC + k) * kernel.nr + j] = value;
                    }
                }
            }
            let run = [Run {
                a: 0,
                b: 0,
                len: steps,
            }];
            let runs = if steps == 0 { &run[..0] } else { &run[..] };
            let onto = if chunk == 0 { Onto::Nothing } else { Onto::Sum };
            for panel in 0..panels {
                let b = &b[panel * KC * kernel.nr..][..KC * kernel.nr];
                let column = first_column + panel * kernel.nr;
                let columns = kernel.nr.min(last_column - column);
                for t in 0..tiles {
                    let (i0, i1) = tile_rows(t);
                    let mut rows = [0; MAX_MR];
                    for (i, row) in rows[..i1 - i0].iter_mut().enumerate() {
                        *row = base + (i0 + i) * pitch;
                    }
                    let (rows, a) = (&rows[..i1 - i0], &a[t * KC * K_PITCH..][..KC * K_PITCH]);
                    // SAFETY: the caller's; the first chunk does not read the output.
                    unsafe {
                        kernel.run(Side::Steps, runs, a, b, out, rows, column, columns, onto)
                    };
                }
            }
        }
    }
}
