//! The weight gradient in transformed tiles ([`super::winograd`]).
//!
//! ```text
//! m[point, o, c] = Σ_tiles z[point, tile, o] · v[point, tile, c]        z = A dy Aᵀ, v = Bᵀ x B
//! dw[o, tap, c]  = (Gᵀ m G)[tap]
//! ```
//!
//! A task keeps every point's sums of a block of the result, and goes through its slice of the tiles some at a time.

use rayon::prelude::*;

use super::buffer::{Shared, Workspace, units, with_workspace};
use super::team::OnTeam;
use super::tile::{K_PITCH, Kernel, MAX_MR, Onto, Run, Side};
use super::value::Value;
use super::weight_grad::{TASKS, sliced};
use super::winograd::{
    self, MOST, Strip, Tiles, apart, strips, transform_gradient, transform_input,
    transform_weight_gradient,
};
use crate::geometry::ConvShape;

/// Most output channels, and most input channels, of one task.
const BLOCK: usize = 128;
/// Tiles that are packed at a time.
const STEPS: usize = 64;
/// Fewest tiles worth a slice of their own.
const SLICE: usize = 128;

/// A block of the result, over a slice of the tiles.
struct Task {
    outs: (usize, usize),
    ins: (usize, usize),
    slice: usize,
}

/// Whether this way is the faster one. Tiles are summed one by one, so a unit must not hold two.
pub fn applies<T: Value>(s: &ConvShape) -> bool {
    T::PER_UNIT == 1 && winograd::applies::<T>(s)
}

/// As [`super::weight_grad::conv_backward_weight`].
pub fn conv_backward_weight<T: Value>(s: &ConvShape, x: &[T], dy: &[T]) -> Vec<f32> {
    let kernel = Kernel::of::<T>();
    let tiles = Tiles::new(s.ho, s.wo, s.cfg.padding);
    let count = tiles.per_image() * s.n;
    if count == 0 {
        return vec![0.0; s.o * 9 * s.c];
    }
    let (out_blocks, in_blocks) = (s.o.div_ceil(BLOCK), s.c.div_ceil(BLOCK));
    let slices = TASKS
        .div_ceil(out_blocks * in_blocks)
        .clamp(1, count.div_ceil(SLICE));
    let mut tasks = Vec::with_capacity(slices * out_blocks * in_blocks);
    for slice in 0..slices {
        for o in 0..out_blocks {
            for c in 0..in_blocks {
                tasks.push(Task {
                    outs: (s.o * o / out_blocks, s.o * (o + 1) / out_blocks),
                    ins: (c * BLOCK, s.c.min((c + 1) * BLOCK)),
                    slice,
                });
            }
        }
    }
    let zeros = vec![T::ZERO; s.c];
    sliced(s.o * 9 * s.c, slices, |all| {
        tasks.par_iter().on_team(|task| {
            let part = (
                count * task.slice / slices,
                count * (task.slice + 1) / slices,
            );
            with_workspace(|space| {
                let _entered = kernel.enter();
                // SAFETY: tasks differ in slice, outputs or inputs: no value belongs to two, and every task writes its block.
                unsafe { task.run(kernel, s, &tiles, part, (x, dy, &zeros), space, all) }
            });
        });
    })
}

impl Task {
    /// # Safety
    /// No other task touches this one's block of `out`.
    #[allow(clippy::too_many_arguments)]
    unsafe fn run<T: Value>(
        &self,
        kernel: &Kernel,
        s: &ConvShape,
        tiles: &Tiles,
        (from, to): (usize, usize),
        (x, dy, zeros): (&[T], &[T], &[T]),
        space: &mut Workspace,
        out: Shared<'_, f32>,
    ) {
        let nr = kernel.nr;
        let (scheme, points) = (tiles.scheme(), tiles.scheme().points());
        let (outs, ins) = (self.outs.1 - self.outs.0, self.ins.1 - self.ins.0);
        let (blocks, panels) = (outs.div_ceil(kernel.mr), ins.div_ceil(nr));
        let block = |t: usize| (outs * t / blocks, outs * (t + 1) / blocks);
        let wide = panels * nr;

        let a_len = apart(blocks * STEPS * K_PITCH);
        let b_len = apart(panels * STEPS * nr);
        let sums_len = apart(outs * wide);
        let a = space.a.get::<T>(points * a_len);
        let b = space.b.get::<T>(points * b_len);
        let sums = space.c.get::<f32>(points * sums_len);

        let rows: Vec<Strip> = (0..blocks)
            .map(|t| Strip {
                from: self.outs.0 + block(t).0,
                len: block(t).1 - block(t).0,
                to: t * STEPS * K_PITCH,
            })
            .collect();
        let columns = strips(self.ins.0, self.ins.1, nr, STEPS * nr);
        for first in (from..to).step_by(STEPS) {
            let count = STEPS.min(to - first);
            for (step, tile) in (first..first + count).enumerate() {
                let dy = (tiles.pixels(tile, s.o)).map(|at| &dy[at..at + s.o]);
                transform_gradient(scheme, &dy, &rows, a_len, &mut a[step * K_PITCH..]);
                let x = tiles.sight(tile, x, (s.h, s.w, s.c), zeros);
                transform_input(scheme, &x, &columns, b_len, &mut b[step * nr..]);
            }
            let (a, b) = (units(a), units(b));
            let run = Run {
                a: 0,
                b: 0,
                len: count,
            };
            let onto = if first == from {
                Onto::Nothing
            } else {
                Onto::Sum
            };
            for point in 0..points {
                let sums = Shared::new(&mut sums[point * sums_len..][..sums_len]);
                for panel in 0..panels {
                    let b = &b[point * b_len + panel * STEPS * nr..][..STEPS * nr];
                    for t in 0..blocks {
                        let a = &a[point * a_len + t * STEPS * K_PITCH..][..STEPS * K_PITCH];
                        let (i0, i1) = block(t);
                        let mut rows = [0; MAX_MR];
                        for (row, i) in rows.iter_mut().zip(i0..i1) {
                            *row = i * wide;
                        }
                        let (rows, column) = (&rows[..i1 - i0], panel * nr);
                        // SAFETY: the sums are this task's; the first steps do not read them.
                        unsafe {
                            kernel.run(Side::Steps, &[run], a, b, sums, rows, column, nr, onto)
                        };
                    }
                }
            }
        }

        let taps = space.b.get::<f32>(9 * wide);
        let all = strips(0, wide, wide, 0);
        for i in 0..outs {
            let mut m = [&sums[..0]; MOST];
            for (point, m) in m[..points].iter_mut().enumerate() {
                *m = &sums[point * sums_len + i * wide..][..wide];
            }
            transform_weight_gradient(scheme, &m[..points], &all, wide, taps);
            for (tap, row) in taps.chunks_exact(wide).enumerate() {
                let at = ((self.slice * s.o + self.outs.0 + i) * 9 + tap) * s.c;
                // SAFETY: the caller's.
                let to = unsafe { out.part(at + self.ins.0, at + self.ins.1) };
                to.write_copy_of_slice(&row[..ins]);
            }
        }
    }
}
