//! The weight gradient of a window that moves by one pixel over a large map, row by row.
//!
//! ```text
//! dw[o, r, q, c] = Σ_images Σ_y Σ_x dy[y, x, o] · x[y + r·d − p, x + q·d − p, c]
//! ```
//!
//! Reducing one tap at a time packs both operands anew for every tap. Here an output row is a fixed number of units, and
//! the input is packed once per column `q` of the window, shifted by `q·d − p` pixels with zeros beyond the edges: all
//! taps of that column read the same panels, some rows apart, and the same packed `dy`. Rows in the padding are never
//! multiplied; the zeros at the sides are, so maps that are narrow stay with [`super::weight_grad`].

use rayon::prelude::*;

use super::buffer::{Shared, Workspace, with_workspace};
use super::team::OnTeam;
use super::tile::{K_PITCH, KC, Kernel, MAX_MR, Onto, Run, Side};
use super::value::Value;
use super::weight_grad::{SLICE, Step, TASKS, pack_panels, pack_tiles, sliced};
use crate::geometry::ConvShape;

/// Narrowest output whose zeros at the sides cost less than packing every tap for itself.
const NARROWEST: usize = 8;
/// Most output channels of one task.
const BLOCK_OUT: usize = 256;
/// Most panels of one task.
const BLOCK_PANELS: usize = 4;
/// Most weights whose tasks take all columns of the window: both operands are then read once, and the many slices that
/// keep all threads busy are still small.
const FEW_WEIGHTS: usize = 1 << 16;

/// Whether this way is the faster one.
pub fn applies<T: Value>(kernel: &Kernel, s: &ConvShape) -> bool {
    // A kernel of whole tiles would need every row to be a multiple of its tiles.
    !kernel.tiled
        && s.cfg.stride == 1
        && s.kh > 1
        && s.c / s.cfg.groups >= kernel.nr
        && s.wo >= NARROWEST
        && s.wo.div_ceil(T::PER_UNIT) <= KC
}

/// A block of the result, for some columns of the window, over a slice of the output rows.
struct Task {
    group: usize,
    /// Columns of the window.
    window: (usize, usize),
    outs: (usize, usize),
    panels: (usize, usize),
    slice: usize,
}

/// Consecutive output rows of one image inside a chunk, and the input rows that they see.
struct Stretch {
    image: usize,
    rows: (usize, usize),
    inputs: (usize, usize),
    /// First unit of `rows` among the chunk's outputs.
    a: usize,
    /// First unit of `inputs` in the panels.
    b: usize,
}

/// `dw: [O, kh, kw, C/g]` from `x: [N, H, W, C]` and `dy: [N, H', W', O]`.
pub fn conv_backward_weight<T: Value>(
    kernel: &Kernel,
    s: &ConvShape,
    x: &[T],
    dy: &[T],
) -> Vec<f32> {
    let groups = s.cfg.groups;
    let (ck, og) = (s.c / groups, s.o / groups);
    let panels = ck.div_ceil(kernel.nr);
    let (out_blocks, panel_blocks) = (og.div_ceil(BLOCK_OUT), panels.div_ceil(BLOCK_PANELS));
    let weights = s.o * s.kh * s.kw * ck;
    let together = if weights <= FEW_WEIGHTS { s.kw } else { 1 };
    let base = groups * s.kw / together * out_blocks * panel_blocks;
    let most = (s.n * s.ho * s.wo).div_ceil(SLICE);
    let slices = TASKS.div_ceil(base.max(1)).clamp(1, most.max(1));
    let mut tasks = Vec::with_capacity(base * slices);
    for slice in 0..slices {
        for group in 0..groups {
            for q in (0..s.kw).step_by(together) {
                for o in 0..out_blocks {
                    for p in 0..panel_blocks {
                        tasks.push(Task {
                            group,
                            window: (q, q + together),
                            outs: (og * o / out_blocks, og * (o + 1) / out_blocks),
                            panels: (panels * p / panel_blocks, panels * (p + 1) / panel_blocks),
                            slice,
                        });
                    }
                }
            }
        }
    }
    let zeros = vec![T::ZERO; ck];
    sliced(weights, slices, |all| {
        tasks.par_iter().on_team(|task| {
            with_workspace(|space| {
                let _entered = kernel.enter();
                // SAFETY: tasks differ in slice, group, columns of the window, outputs or panels: no value belongs to two,
                // and a task overwrites its block even where it has no rows. The thread has entered the kernel.
                unsafe { task.run(kernel, s, x, dy, &zeros, slices, space, all) }
            });
        });
    })
}

impl Task {
    /// # Safety
    /// No other task touches this one's block of `out`; the thread has entered the kernel.
    #[allow(clippy::too_many_arguments)]
    unsafe fn run<T: Value>(
        &self,
        kernel: &Kernel,
        s: &ConvShape,
        x: &[T],
        dy: &[T],
        zeros: &[T],
        slices: usize,
        space: &mut Workspace,
        out: Shared<'_, f32>,
    ) {
        let (ck, og) = (s.c / s.cfg.groups, s.o / s.cfg.groups);
        let pitch = s.kh * s.kw * ck;
        let units = s.wo.div_ceil(T::PER_UNIT); // of a row
        let rows_at_once = KC / units;
        let (o0, o1) = self.outs;
        let tiles = (o1 - o0).div_ceil(kernel.mr);
        let tile_rows = |t: usize| ((o1 - o0) * t / tiles, (o1 - o0) * (t + 1) / tiles);
        let panels = self.panels.1 - self.panels.0;
        let first_column = self.panels.0 * kernel.nr;
        let last_column = ck.min(self.panels.1 * kernel.nr);
        let base = self.slice * s.o * pitch + (self.group * og + o0) * pitch;

        let all = s.n * s.ho;
        let (mut from, to) = (all * self.slice / slices, all * (self.slice + 1) / slices);
        let mut onto = Onto::Nothing;
        loop {
            let stretches = stretches(s, units, from, to.min(from + rows_at_once));
            let most = stretches.last().map_or(1, |stretch| {
                stretch.b + (stretch.inputs.1 - stretch.inputs.0) * units
            });

            let a = space.a.get::<u32>(tiles * KC * K_PITCH);
            let outs = self.outputs(s, dy, &stretches, og);
            pack_tiles(&outs, o1 - o0, tiles, a);
            let b = space.b.get::<u32>(panels * most * kernel.nr);
            for q in self.window.0..self.window.1 {
                let inputs = self.inputs(s, x, zeros, &stretches, ck, q);
                pack_panels(&inputs, first_column, last_column, kernel.nr, most, b);
                for r in 0..s.kh {
                    let runs: Vec<Run> = (stretches.iter())
                        .filter_map(|stretch| stretch.run(s, units, r))
                        .collect();
                    for panel in 0..panels {
                        let b = &b[panel * most * kernel.nr..][..most * kernel.nr];
                        let column = first_column + panel * kernel.nr;
                        let columns = kernel.nr.min(last_column - column);
                        for t in 0..tiles {
                            let (i0, i1) = tile_rows(t);
                            let mut rows = [0; MAX_MR];
                            for (i, row) in rows[..i1 - i0].iter_mut().enumerate() {
                                *row = base + (i0 + i) * pitch + (r * s.kw + q) * ck;
                            }
                            let a = &a[t * KC * K_PITCH..][..KC * K_PITCH];
                            let rows = &rows[..i1 - i0];
                            // SAFETY: the caller's; the first chunk does not read the output.
                            unsafe {
                                kernel.run(
                                    Side::Steps,
                                    &runs,
                                    a,
                                    b,
                                    out,
                                    rows,
                                    column,
                                    columns,
                                    onto,
                                );
                            }
                        }
                    }
                }
            }
            onto = Onto::Sum;
            from += rows_at_once;
            if from >= to {
                return;
            }
        }
    }

    /// The units of `dy`'s rows; they reach beyond the task's channels where they can, so that tiles are packed as whole
    /// vectors.
    fn outputs<'a, T: Value>(
        &self,
        s: &ConvShape,
        dy: &'a [T],
        stretches: &[Stretch],
        og: usize,
    ) -> Vec<Step<'a, T>> {
        let first = self.group * og + self.outs.0;
        let len = self.outs.1 - self.outs.0 + K_PITCH;
        let mut steps = Vec::with_capacity(KC);
        for stretch in stretches {
            for y in stretch.rows.0..stretch.rows.1 {
                let row = (stretch.image * s.ho + y) * s.wo;
                let at = |x: usize| {
                    let from = (row + x) * s.o + first;
                    &dy[from..dy.len().min(from + len)]
                };
                for x in (0..s.wo).step_by(T::PER_UNIT) {
                    let second = T::PER_UNIT > 1 && x + 1 < s.wo;
                    steps.push((at(x), second.then(|| at(x + 1))));
                }
            }
        }
        steps
    }

    /// The units of the input's rows as column `q` of the window sees them.
    fn inputs<'a, T: Value>(
        &self,
        s: &ConvShape,
        input: &'a [T],
        zeros: &'a [T],
        stretches: &[Stretch],
        ck: usize,
        q: usize,
    ) -> Vec<Step<'a, T>> {
        let mut steps = Vec::with_capacity(2 * KC);
        for stretch in stretches {
            for y in stretch.inputs.0..stretch.inputs.1 {
                let row = (stretch.image * s.h + y) * s.w;
                let at = |x: usize| match (x + q * s.cfg.dilation).checked_sub(s.cfg.padding) {
                    Some(x) if x < s.w => &input[(row + x) * s.c + self.group * ck..][..ck],
                    _ => zeros,
                };
                for x in (0..s.wo).step_by(T::PER_UNIT) {
                    let second = T::PER_UNIT > 1 && x + 1 < s.wo;
                    steps.push((at(x), second.then(|| at(x + 1))));
                }
            }
        }
        steps
    }
}

/// Output rows `from..to`, counted through all images, cut where an image ends.
fn stretches(s: &ConvShape, units: usize, from: usize, to: usize) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    let (mut row, mut a, mut b) = (from, 0, 0);
    while row < to {
        let (image, first) = (row / s.ho, row % s.ho);
        let end = s.ho.min(first + to - row);
        let reach = (s.kh - 1) * s.cfg.dilation;
        let input = |y: usize| y.saturating_sub(s.cfg.padding).min(s.h);
        let inputs = (input(first), input(end + reach));
        stretches.push(Stretch {
            image,
            rows: (first, end),
            inputs,
            a,
            b,
        });
        a += (end - first) * units;
        b += (inputs.1 - inputs.0) * units;
        row += end - first;
    }
    stretches
}

impl Stretch {
    /// The steps whose input row for tap row `r` is not padding.
    fn run(&self, s: &ConvShape, units: usize, r: usize) -> Option<Run> {
        let (offset, padding) = (r * s.cfg.dilation, s.cfg.padding);
        let from = self.rows.0.max(padding.saturating_sub(offset));
        let to = self.rows.1.min((s.h + padding).saturating_sub(offset));
        (from < to).then(|| Run {
            a: self.a + (from - self.rows.0) * units,
            b: self.b + (from + offset - padding - self.inputs.0) * units,
            len: (to - from) * units,
        })
    }
}
