//! A convolution's output, and its input gradient, in transformed tiles ([`super::winograd`]).
//!
//! ```text
//! m[point, tile, j] = Σ_k v[point, tile, k] · u[point, k, j]        v = Bᵀ x B, u = G w Gᵀ
//! ```
//!
//! A task transforms the pixels of some tiles into its core's cache, multiplies them by one panel of weights after the other,
//! one product for every point, and turns the sums back into pixels. Of what is transformed, only weights are ever in memory, some panels at a time.

use std::ops::Range;

use rayon::prelude::*;

use super::buffer::{Scratch, Shared, Workspace, units, with_panels, with_workspace, written};
use super::finish::{Finish, fetch_rows};
use super::team::OnTeam;
use super::tile::{A_PITCH, KC, Kernel, Onto, Run, Side};
use super::transpose::transpose;
use super::value::Value;
use super::weight_grad::TASKS;
use super::weights::{Packed, Weights};
use super::winograd::{
    Scheme, Tiles, apart, strips, transform_input, transform_output, transform_weight,
};
use crate::geometry::ConvShape;

/// Bytes of transformed weights at a time: about as many as the widest plain convolution's. More would show in the peak of a training step.
const MEMORY: usize = 8 << 20;
/// Bytes of transformed pixels that a task aims for. Most cores' second cache holds them and the sums; with 512 channels and more, two
/// register tiles of rows are more than that, and the task reads some of them from the third.
const CACHE: usize = 256 << 10;

/// As [`super::gather::conv_forward`].
pub fn conv_forward<T: Value>(
    s: &ConvShape,
    x: &[T],
    w: Weights<'_>,
    finish: Finish<'_, T>,
) -> Vec<T> {
    let product = forward(s, x, finish);
    match w {
        Weights::Plain(w) => product.compute(None, pack_columns::<T>(s, w)),
        Weights::Packed(packed) => product.store(None, |out| {
            product.multiply(packed.units(s), 0..product.panels(), out);
        }),
    }
}

/// As [`super::gather::pack_forward`].
pub fn pack_forward<T: Value>(s: &ConvShape, w: &[f32]) -> Packed {
    let product = forward::<T>(s, &[], Finish::NONE);
    Packed::new(s, product.panels() * product.panel(), |to| {
        product.pack(&pack_columns::<T>(s, w), 0, to)
    })
}

fn forward<'a, T: Value>(s: &ConvShape, x: &'a [T], finish: Finish<'a, T>) -> Product<'a, T> {
    Product {
        images: s.n,
        source: x,
        map: (s.h, s.w, s.c),
        target: (s.ho, s.wo, s.o),
        padding: s.cfg.padding,
        finish,
        onto: false,
    }
}

/// `w[o, tap, c]` to `panel[c, o]`, point after point: rows become columns.
fn pack_columns<'a, T: Value>(s: &'a ConvShape, w: &'a [f32]) -> impl Pack + use<'a, T> {
    let steps = s.c / T::PER_UNIT;
    let scheme = Scheme::of(s.ho, s.wo);
    move |scratch: &mut Scratch, first: usize, width: usize, to: &mut [u32]| {
        let rows = width.min(s.o - first);
        let pitch = rows * s.c;
        let strip = scratch.get::<T>(scheme.points() * pitch);
        let all = strips(0, s.c, s.c, 0);
        for row in 0..rows {
            let w = window(s, w, first + row, |tap| tap);
            transform_weight(scheme, &w, &all, pitch, &mut strip[row * s.c..]);
        }
        for (point, to) in to.chunks_exact_mut(steps * width).enumerate() {
            let strip = units(&strip[point * pitch..][..pitch]);
            transpose(strip, steps, rows, steps, width, to);
        }
    }
}

/// As [`super::gather::conv_backward_input`]: the convolution of `dy` with the window turned round.
pub fn conv_backward_input<T: Value>(
    s: &ConvShape,
    dy: &[T],
    w: &[f32],
    onto: Option<Vec<T>>,
) -> Vec<T> {
    let product = Product {
        images: s.n,
        source: dy,
        map: (s.ho, s.wo, s.o),
        target: (s.h, s.w, s.c),
        padding: 2 - s.cfg.padding,
        finish: Finish::NONE,
        onto: onto.is_some(),
    };
    let steps = s.o / T::PER_UNIT;
    let (scheme, points) = (product.scheme(), product.scheme().points());
    product.compute(
        onto,
        |scratch: &mut Scratch, first: usize, width: usize, to: &mut [u32]| {
            // w[o, tap, c] to panel[o, c]
            let columns = width.min(s.c - first);
            let panel = strips(first, first + columns, columns, 0);
            let strip = scratch.get::<T>(T::PER_UNIT * points * width);
            for step in 0..steps {
                for (i, strip) in strip.chunks_exact_mut(points * width).enumerate() {
                    let w = window(s, w, step * T::PER_UNIT + i, |tap| 8 - tap);
                    transform_weight(scheme, &w, &panel, width, strip);
                }
                for point in 0..points {
                    let mut rows = strip
                        .chunks_exact(points * width)
                        .map(|s| &s[point * width..][..columns]);
                    let (low, high) = (rows.next().expect("a unit has a step"), rows.next());
                    let to = &mut to[(point * steps + step) * width..][..width];
                    T::interleave(low, high, &mut to[..columns]);
                    to[columns..].fill(0);
                }
            }
        },
    )
}

/// The nine taps of one output channel.
fn window<'a>(
    s: &ConvShape,
    w: &'a [f32],
    o: usize,
    tap: impl Fn(usize) -> usize,
) -> [&'a [f32]; 9] {
    std::array::from_fn(|i| &w[(o * 9 + tap(i)) * s.c..][..s.c])
}

/// One product: both tensors, and what becomes of the sums.
struct Product<'a, T> {
    images: usize,
    source: &'a [T],
    /// Height, width and channels of the source.
    map: (usize, usize, usize),
    /// Height, width and channels of the target.
    target: (usize, usize, usize),
    padding: usize,
    finish: Finish<'a, T>,
    /// Whether the sums are added to what is there.
    onto: bool,
}

/// What all tasks read.
struct Operands<'a, T> {
    tiles: &'a Tiles,
    /// As many as channels of a pixel.
    zeros: &'a [T],
    packed: &'a [u32],
    /// Which panel is packed first.
    first: usize,
}

/// Tiles `from..to`, panels `first..last` of those that are packed.
struct Task {
    from: usize,
    to: usize,
    first: usize,
    last: usize,
}

/// Writes the panel of so many columns from the given one on, point after point, with scratch space.
trait Pack: Fn(&mut Scratch, usize, usize, &mut [u32]) + Sync {}
impl<F: Fn(&mut Scratch, usize, usize, &mut [u32]) + Sync> Pack for F {}

impl<T: Value> Product<'_, T> {
    fn scheme(&self) -> Scheme {
        Scheme::of(self.target.0, self.target.1)
    }

    /// Units of a panel.
    fn panel(&self) -> usize {
        self.scheme().points() * self.map.2 / T::PER_UNIT * Kernel::of::<T>().nr
    }

    fn panels(&self) -> usize {
        self.target.2.div_ceil(Kernel::of::<T>().nr)
    }

    /// Writes panels from `first` on.
    fn pack(&self, pack: &impl Pack, first: usize, to: &mut [u32]) {
        let nr = Kernel::of::<T>().nr;
        let panels = to.par_chunks_mut(self.panel()).enumerate();
        panels.on_team(|(i, to)| {
            with_workspace(|space| pack(&mut space.a, (first + i) * nr, nr, to))
        });
    }

    /// Packs the weights and multiplies, some panels at a time.
    fn compute(&self, onto: Option<Vec<T>>, pack: impl Pack) -> Vec<T> {
        let panels = self.panels();
        let bytes = panels * self.panel() * size_of::<u32>();
        let groups = bytes.div_ceil(MEMORY).min(panels); // of very many channels a panel alone is more
        self.store(onto, |out| {
            for group in 0..groups {
                let range = panels * group / groups..panels * (group + 1) / groups;
                with_panels(range.len() * self.panel(), |packed: &mut [u32]| {
                    self.pack(&pack, range.start, packed);
                    self.multiply(packed, range, out);
                });
            }
        })
    }

    /// The result, which `fill` writes or adds to: every panel once.
    fn store(&self, onto: Option<Vec<T>>, fill: impl Fn(Shared<'_, T>)) -> Vec<T> {
        let (height, width, columns) = self.target;
        let all = self.images * height * width * columns;
        match onto {
            Some(mut values) => {
                assert_eq!(values.len(), all);
                fill(Shared::new(&mut values));
                values
            }
            // SAFETY: the tiles hold every pixel once and the panels every channel.
            None => unsafe { written(all, fill) },
        }
    }

    /// The columns of these panels, packed one after the other.
    fn multiply(&self, packed: &[u32], panels: Range<usize>, out: Shared<'_, T>) {
        assert_eq!(packed.len(), panels.len() * self.panel());
        let kernel = Kernel::of::<T>();
        let (height, width, _) = self.target;
        let tiles = Tiles::new(height, width, self.padding);
        let tasks = self.tasks(kernel, tiles.per_image() * self.images, panels.len());
        let zeros = vec![T::ZERO; self.map.2];
        tasks.par_iter().on_team(|task| {
            with_workspace(|space| {
                let _entered = kernel.enter();
                let operands = Operands {
                    tiles: &tiles,
                    zeros: &zeros,
                    packed,
                    first: panels.start,
                };
                // SAFETY: tasks differ in tiles or panels, so no two touch the same values; what they are added to has been
                // written before.
                unsafe { self.run(kernel, task, &operands, space, out) }
            });
        });
    }

    /// The fixed partition.
    fn tasks(&self, kernel: &Kernel, tiles: usize, panels: usize) -> Vec<Task> {
        let row = self.scheme().points() * self.map.2 * size_of::<T>();
        let rows = (CACHE / row / kernel.mr).max(2) * kernel.mr; // whole register tiles
        let blocks = tiles.div_ceil(rows);
        let parts = TASKS.div_ceil(blocks.max(1)).clamp(1, panels.div_ceil(2));
        let mut tasks = Vec::with_capacity(blocks * parts);
        for part in 0..parts {
            for block in 0..blocks {
                tasks.push(Task {
                    from: tiles * block / blocks,
                    to: tiles * (block + 1) / blocks,
                    first: panels * part / parts,
                    last: panels * (part + 1) / parts,
                });
            }
        }
        tasks
    }

    /// # Safety
    /// No other task touches this one's tiles and panels; where sums are added, all values have been written.
    unsafe fn run(
        &self,
        kernel: &Kernel,
        task: &Task,
        operands: &Operands<'_, T>,
        space: &mut Workspace,
        out: Shared<'_, T>,
    ) {
        let Operands {
            tiles,
            zeros,
            packed,
            first,
        } = *operands;
        let (nr, columns) = (kernel.nr, self.target.2);
        let (scheme, points) = (tiles.scheme(), tiles.scheme().points());
        let count = task.to - task.from;
        let steps = self.map.2 / T::PER_UNIT;
        let chunks = steps.div_ceil(KC);

        // v[point, chunk, tile, k], rows as the register tile wants them.
        let chunk_len = count * A_PITCH;
        let point_len = apart(chunks * chunk_len);
        let a = space.a.get::<T>(points * point_len * T::PER_UNIT);
        let all = strips(0, self.map.2, KC * T::PER_UNIT, chunk_len * T::PER_UNIT);
        let mut targets = Vec::with_capacity(4 * count);
        for tile in task.from..task.to {
            let x = tiles.sight(tile, self.source, self.map, zeros);
            let row = (tile - task.from) * A_PITCH * T::PER_UNIT;
            transform_input(scheme, &x, &all, point_len * T::PER_UNIT, &mut a[row..]);
            targets.extend(tiles.pixels(tile, columns));
        }
        let a = units(a);

        let sums_len = apart(count * nr);
        let (sums, pixels) = (space.c.get::<f32>(points * sums_len + 4 * count * nr))
            .split_at_mut(points * sums_len);
        let rows: Vec<usize> = (0..count).map(|i| i * nr).collect();
        let blocks = count.div_ceil(kernel.mr);
        for panel in task.first..task.last {
            let column = (first + panel) * nr;
            let width = nr.min(columns - column);
            for (point, sums) in sums.chunks_exact_mut(sums_len).enumerate() {
                let sums = Shared::new(sums);
                let b = &packed[(panel * points + point) * steps * nr..][..steps * nr];
                for chunk in 0..chunks {
                    let a = &a[point * point_len + chunk * chunk_len..][..chunk_len];
                    let run = Run {
                        a: 0,
                        b: chunk * KC,
                        len: KC.min(steps - chunk * KC),
                    };
                    let onto = if chunk == 0 { Onto::Nothing } else { Onto::Sum };
                    for t in 0..blocks {
                        let (from, to) = (count * t / blocks, count * (t + 1) / blocks);
                        let (a, rows) = (&a[from * A_PITCH..], &rows[from..to]);
                        // SAFETY: the sums are this task's; the first chunk does not read them.
                        unsafe { kernel.run(Side::Rows, &[run], a, b, sums, rows, 0, nr, onto) };
                    }
                }
            }
            fetch_rows(out.as_ptr(), &targets, column, width);
            if let Some(residual) = self.finish.residual {
                fetch_rows(residual.as_ptr(), &targets, column, width);
            }
            transform_output(scheme, sums, sums_len, count, nr, pixels);
            let affine = self.finish.affine(column, width);
            let finish = &self.finish;
            // SAFETY: the caller's; the tiles hold every pixel once.
            unsafe { finish.store(pixels, nr, &affine, &targets, column, width, self.onto, out) };
        }
    }
}
