//! The weight gradient: a reduction over pixels.
//!
//! ```text
//! dw[o, tap, c] = Σ_pixels dy[pixel, o] · x[pixel + tap, c]
//! ```
//!
//! Taps with many channels are reduced one at a time, over exactly the pixels that see them; taps with few channels (a
//! network's first layer) share panels, side by side, with zeros where a tap lies in the padding; windows on large maps
//! are reduced row by row ([`super::weight_grad_rows`]). Long reductions over small results are cut into slices, summed
//! afterwards in order.

use rayon::prelude::*;

use super::buffer::{Shared, Workspace, with_panels, with_workspace, written};
use super::isa::vectorised;
use super::plan::pairs;
use super::team::OnTeam;
use super::tile::{A_PITCH, K_PITCH, KC, Kernel, MAX_MR, Onto, Run, Side};
use super::transpose::transpose;
use super::value::Value;
use super::{weight_grad_rows, winograd_weight_grad};
use crate::geometry::ConvShape;

/// Most output channels of one task.
const BLOCK_OUT: usize = 256;
/// Most panels of one task.
const BLOCK_PANELS: usize = 8;
/// Tasks to aim for, as in [`super::gather`].
pub const TASKS: usize = 16;
/// Fewest pixels worth a slice of their own.
pub const SLICE: usize = 512;

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
pub fn conv_backward_weight<T: Value>(s: &ConvShape, x: &[T], dy: &[T]) -> Vec<f32> {
    if winograd_weight_grad::applies::<T>(s) {
        return winograd_weight_grad::conv_backward_weight(s, x, dy);
    }
    let kernel = Kernel::of::<T>();
    if weight_grad_rows::applies::<T>(kernel, s) {
        return weight_grad_rows::conv_backward_weight(kernel, s, x, dy);
    }
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
    sliced(len, slices, |all| {
        tasks.par_iter().on_team(|task| {
            with_workspace(|space| {
                let _entered = kernel.enter();
                // SAFETY: tasks differ in slice, group, taps, outputs or panels: no value belongs to two. Bundles hold
                // every tap, and a task overwrites its block even where it has no pixels.
                unsafe { task.run(kernel, s, x, dy, slices, space, all) }
            });
        });
    })
}

/// The sum over slices, in order, of results of `len` values; `run` writes all of them, slice after slice.
pub fn sliced(len: usize, slices: usize, run: impl Fn(Shared<'_, f32>)) -> Vec<f32> {
    let fill = |out: Shared<'_, f32>| {
        if slices == 1 {
            run(out);
            return;
        }
        with_panels(slices * len, |partial| {
            run(Shared::new(partial));
            let step = 4096;
            (0..len.div_ceil(step)).into_par_iter().on_team(|i| {
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
    // SAFETY: with one slice `run` writes everything, with several the sum does.
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

/// The rows of one k-step (f32) or of the two of a pair (bf16; no second one at the end of an odd number).
pub type Step<'a, T> = (&'a [T], Option<&'a [T]>);

impl Task<'_> {
    /// # Safety
    /// No other task touches this one's block of `out`.
    #[allow(clippy::too_many_arguments)]
    unsafe fn run<T: Value>(
        &self,
        kernel: &Kernel,
        s: &ConvShape,
        x: &[T],
        dy: &[T],
        slices: usize,
        space: &mut Workspace,
        out: Shared<'_, f32>,
    ) {
        let groups = s.cfg.groups;
        let (ck, og) = (s.c / groups, s.o / groups);
        let pitch = s.kh * s.kw * ck;
        let together = self.bundle.taps.len();
        let width = together * ck; // columns of the whole bundle
        let (o0, o1) = self.outs;
        let tiles = (o1 - o0).div_ceil(kernel.mr);
        let tile_rows = |t: usize| ((o1 - o0) * t / tiles, (o1 - o0) * (t + 1) / tiles);
        let panels = self.panels.1 - self.panels.0;
        let first_column = self.panels.0 * kernel.nr;
        let last_column = width.min(self.panels.1 * kernel.nr);

        let Bundle {
            targets, sources, ..
        } = self.bundle;
        let pixels = targets.len() * s.n;
        let (from, to) = (
            pixels * self.slice / slices,
            pixels * (self.slice + 1) / slices,
        );
        let base =
            self.slice * s.o * pitch + (self.group * og + o0) * pitch + self.bundle.taps.start * ck;
        let (side, a_len) = match kernel.tiled {
            true => (Side::Rows, (o1 - o0).next_multiple_of(MAX_MR) + MAX_MR),
            false => (Side::Steps, 0),
        };
        let a = space.a.get::<u32>(match side {
            Side::Rows => a_len * A_PITCH,
            Side::Steps => tiles * KC * K_PITCH,
        });
        let b = space.b.get::<u32>(panels * KC * kernel.nr);

        let most = KC * T::PER_UNIT;
        let chunks = (to - from).div_ceil(most).max(1); // an empty reduction still writes zeros
        for chunk in 0..chunks {
            let (from, to) = (from + chunk * most, to.min(from + (chunk + 1) * most));
            let count = to.saturating_sub(from);
            let steps = count.div_ceil(T::PER_UNIT);
            let place = |pixel: usize| (pixel / targets.len(), pixel % targets.len());

            let rows: Vec<&[T]> = (from..from + count)
                .map(|pixel| {
                    let (image, spot) = place(pixel);
                    let at = image * s.ho * s.wo * s.o + targets[spot] + self.group * og + o0;
                    // Beyond the task's channels where it can, so that tiles are packed as whole vectors.
                    &dy[at..dy.len().min(at + o1 - o0 + K_PITCH)]
                })
                .collect();
            let outs = in_steps(&rows);
            match side {
                Side::Steps => pack_tiles(&outs, o1 - o0, tiles, a),
                Side::Rows => {
                    let wide = o1 - o0;
                    let flat = space.c.get::<u32>(steps * wide);
                    pack_steps(&outs, wide, flat);
                    transpose(flat, wide, steps, wide, A_PITCH, a);
                }
            }

            let columns: Vec<&[T]> = if together == 1 {
                (from..from + count)
                    .map(|pixel| {
                        let (image, spot) = place(pixel);
                        let at = sources[spot].unwrap_or(0); // a lone tap sees every pixel of its bundle
                        &x[image * s.h * s.w * s.c + self.group * ck + at..][..ck]
                    })
                    .collect()
            } else {
                let flat = space.c.get::<T>(count * width);
                for (row, pixel) in flat.chunks_exact_mut(width).zip(from..) {
                    let (image, spot) = place(pixel);
                    let x = &x[image * s.h * s.w * s.c + self.group * ck..];
                    gather_taps(x, &sources[spot * together..][..together], ck, row);
                }
                flat.chunks_exact(width).collect()
            };
            let columns = in_steps(&columns);
            pack_panels(&columns, first_column, last_column, kernel.nr, KC, b);
            if kernel.tiled {
                for b in b.chunks_exact_mut(KC * kernel.nr) {
                    b[steps * kernel.nr..steps.next_multiple_of(16) * kernel.nr].fill(0);
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
                    let a = match side {
                        Side::Rows => &a[i0 * A_PITCH..],
                        Side::Steps => &a[t * KC * K_PITCH..][..KC * K_PITCH],
                    };
                    // SAFETY: the caller's; the first chunk does not read the output.
                    unsafe {
                        kernel.run(
                            side,
                            runs,
                            a,
                            b,
                            out,
                            &rows[..i1 - i0],
                            column,
                            columns,
                            onto,
                        )
                    };
                }
            }
        }
    }
}

fn in_steps<'a, T: Value>(rows: &[&'a [T]]) -> Vec<Step<'a, T>> {
    rows.chunks(T::PER_UNIT)
        .map(|step| (step[0], step.get(1).copied()))
        .collect()
}

/// The taps of one pixel side by side, zeros where they lie in the padding.
fn gather_taps<T: Value>(x: &[T], sources: &[Option<usize>], ck: usize, to: &mut [T]) {
    let mut tap = 0;
    while tap < sources.len() {
        let first = tap;
        tap += 1;
        match sources[first] {
            None => to[first * ck..tap * ck].fill(T::ZERO),
            Some(from) => {
                while tap < sources.len() && sources[tap] == Some(from + (tap - first) * ck) {
                    tap += 1;
                }
                let len = (tap - first) * ck;
                to[first * ck..tap * ck].copy_from_slice(&x[from..from + len]);
            }
        }
    }
}

vectorised! {
    /// The rows of register tiles, `K_PITCH` units apart: `to[(t · KC + k) · K_PITCH + i]` is step k at row i of tile t.
    pub fn pack_tiles<T: Value>(steps: &[Step<'_, T>], wide: usize, tiles: usize, to: &mut [u32]) {
        let zeros = [T::ZERO; K_PITCH];
        let ranges: Vec<(usize, usize)> = (0..tiles)
            .map(|t| (wide * t / tiles, wide * (t + 1) / tiles))
            .collect();
        for (k, (first, second)) in steps.iter().enumerate() {
            for (t, &(from, end)) in ranges.iter().enumerate() {
                let to = &mut to[(t * KC + k) * K_PITCH..][..K_PITCH];
                let second_vector = second.map_or(Some(&zeros), |s| s[from..].first_chunk());
                match first[from..].first_chunk().zip(second_vector) {
                    // One vector; what it holds beyond the tile's rows is never read.
                    Some((first, second)) => to.copy_from_slice(&T::interleave_array(first, second)),
                    None => T::interleave(&first[from..end], second.map(|s| &s[from..end]), &mut to[..end - from]),
                }
            }
        }
    }
}

vectorised! {
    /// `to[k · wide + i]`: the unit of step k at row i.
    pub fn pack_steps<T: Value>(steps: &[Step<'_, T>], wide: usize, to: &mut [u32]) {
        for ((first, second), to) in steps.iter().zip(to.chunks_exact_mut(wide)) {
            T::interleave(&first[..wide], second.map(|s| &s[..wide]), to);
        }
    }
}

/// Columns of the panels of most instruction sets: packed as whole vectors.
const WIDE: usize = 32;

vectorised! {
    /// Columns `from..end` of the steps as panels of `nr` columns and room for `most` steps, zeros beyond the last column.
    pub fn pack_panels<T: Value>(steps: &[Step<'_, T>], from: usize, end: usize, nr: usize, most: usize, to: &mut [u32]) {
        let zeros = [T::ZERO; WIDE];
        // Step by step, so that rows are read once and to their ends.
        for (k, (first, second)) in steps.iter().enumerate() {
            for (panel, column) in (from..end).step_by(nr).enumerate() {
                let to = &mut to[(panel * most + k) * nr..][..nr];
                let len = nr.min(end - column);
                let second_vector = second.map_or(Some(&zeros), |s| s[column..].first_chunk());
                match first[column..].first_chunk().zip(second_vector) {
                    Some((first, second)) if len == WIDE => to.copy_from_slice(&T::interleave_array(first, second)),
                    _ => {
                        let second = second.map(|s| &s[column..column + len]);
                        T::interleave(&first[column..column + len], second, &mut to[..len]);
                        to[len..].fill(0);
                    }
                }
            }
        }
    }
}
