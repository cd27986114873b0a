//! Matrix products over gathered rows: a convolution's output, and its input gradient.
//!
//! ```text
//! target[pixel, j] = act(scale[j] · Σ_taps Σ_k source[pixel + tap, k] · weight[tap, k, j] + bias[j] + residual[pixel, j])
//! ```
//!
//! The weights are packed into panels of `NR` columns, once per call or once for many; each task copies the rows it needs next to each
//! other, unless they lie at an even pace already, and multiplies them tile by tile. Sums are complete before they leave the registers
//! (but in AMX and in narrow panels): finished, rounded once and stored. No im2col matrix is ever formed, and taps that lie in the
//! padding are never multiplied (see [`super::plan`]).

use rayon::prelude::*;

use super::buffer::{Scratch, Shared, Workspace, units, with_panels, with_workspace, written};
use super::chunk::{Chunk, Plan};
use super::finish::Finish;
use super::plan::{self, Class, Spot};
use super::team::OnTeam;
use super::tile::{A_PITCH, Kernel, MAX_ROWS};
use super::transpose::transpose;
use super::value::Value;
use super::weights::{Packed, Weights, unit_columns, unit_rows};
use super::{winograd, winograd_product};
use crate::geometry::ConvShape;

/// Tasks to aim for: enough for a big machine, few enough to keep packing cheap. Never the number of threads: the
/// partition must not depend on it.
const TASKS: usize = 16;
/// Units between rows that are multiplied where they lie. Farther apart, those of a tile fight for the same cache sets.
const FARTHEST: usize = 512;
/// Units that a tiled kernel may read beyond a panel.
const SPARE_STEPS: usize = 16;

/// `y = act(conv(x, w) · scale + bias + residual)`; `x: [N, H, W, C]`, `y: [N, H', W', O]`.
pub fn conv_forward<T: Value>(
    s: &ConvShape,
    x: &[T],
    w: Weights<'_>,
    finish: Finish<'_, T>,
) -> Vec<T> {
    if winograd::applies::<T>(s) {
        return winograd_product::conv_forward(s, x, w, finish);
    }
    let job = forward(s, x, finish);
    match w {
        Weights::Plain(w) => job.compute(None, pack_columns::<T>(s, w)),
        Weights::Packed(packed) => job.multiply(&job.layout(), packed.units(s), None),
    }
}

/// What [`conv_forward`] multiplies by.
pub fn pack_forward<T: Value>(s: &ConvShape, w: &[f32]) -> Packed {
    if winograd::applies::<T>(s) {
        return winograd_product::pack_forward::<T>(s, w);
    }
    let job = forward::<T>(s, &[], Finish::NONE);
    let layout = job.layout();
    Packed::new(s, job.units(&layout), |to| {
        job.pack(&layout, &pack_columns::<T>(s, w), to)
    })
}

fn forward<'a, T: Value>(s: &ConvShape, x: &'a [T], finish: Finish<'a, T>) -> Job<'a, T> {
    let groups = s.cfg.groups;
    Job {
        classes: plan::forward(s),
        images: s.n,
        source: x,
        source_image: s.h * s.w * s.c,
        target_image: s.ho * s.wo * s.o,
        groups,
        depth: s.c / groups,
        columns: s.o / groups,
        taps: s.kh * s.kw,
        finish,
        onto: false,
    }
}

/// `w[o, tap, c]` to `panel[c, o]`: units first, then rows become columns.
fn pack_columns<'a, T: Value>(s: &ConvShape, w: &'a [f32]) -> impl Pack + use<'a, T> {
    let (ck, og) = (s.c / s.cfg.groups, s.o / s.cfg.groups);
    let pitch = s.kh * s.kw * ck;
    move |strip: &mut Scratch, at: Place, width: usize, to: &mut [u32]| {
        let first = at.panel * width;
        let rows = width.min(og - first);
        let steps = ck.div_ceil(T::PER_UNIT);
        let strip = strip.get(rows * steps);
        let from = &w[(at.group * og + first) * pitch + at.tap * ck..];
        unit_rows::<T>(from, pitch, ck, strip);
        transpose(strip, steps, rows, steps, width, to);
    }
}

/// `dx` from `dy`: `dx[q, c] = Σ_taps Σ_o dy[q − tap, o] · w[o, tap, c]`, added to what `onto` holds.
pub fn conv_backward_input<T: Value>(
    s: &ConvShape,
    dy: &[T],
    w: &[f32],
    onto: Option<Vec<T>>,
) -> Vec<T> {
    if winograd::applies::<T>(s) {
        return winograd_product::conv_backward_input(s, dy, w, onto);
    }
    let groups = s.cfg.groups;
    let (ck, og) = (s.c / groups, s.o / groups);
    let job = Job {
        classes: plan::backward(s),
        images: s.n,
        source: dy,
        source_image: s.ho * s.wo * s.o,
        target_image: s.h * s.w * s.c,
        groups,
        depth: og,
        columns: ck,
        taps: s.kh * s.kw,
        finish: Finish::NONE,
        onto: onto.is_some(),
    };
    let pitch = s.kh * s.kw * ck;
    job.compute(
        onto,
        |_: &mut Scratch, at: Place, width: usize, to: &mut [u32]| {
            // w[o, tap, c] to panel[o, c]
            let first = at.panel * width;
            let columns = width.min(ck - first);
            let from = &w[at.group * og * pitch + at.tap * ck + first..];
            unit_columns::<T>(from, pitch, columns, og, width, to);
        },
    )
}

/// One product: sizes of both tensors, and what to gather.
struct Job<'a, T> {
    classes: Vec<Class>,
    images: usize,
    source: &'a [T],
    source_image: usize,
    target_image: usize,
    groups: usize,
    /// Source channels of a group: k-steps of a tap.
    depth: usize,
    /// Target channels of a group.
    columns: usize,
    taps: usize,
    finish: Finish<'a, T>,
    /// Whether the sums are added to what is there.
    onto: bool,
}

/// Rows `from..to` of a class, panels `first..last` of a group.
struct Task<'a> {
    plan: &'a Plan<'a>,
    group: usize,
    from: usize,
    to: usize,
    first: usize,
    last: usize,
}

/// One tap of one panel.
#[derive(Clone, Copy)]
struct Place {
    group: usize,
    panel: usize,
    tap: usize,
}

/// Writes a [`Place`], `depth` rows of so many columns, with scratch space.
trait Pack: Fn(&mut Scratch, Place, usize, &mut [u32]) + Sync {}
impl<F: Fn(&mut Scratch, Place, usize, &mut [u32]) + Sync> Pack for F {}

/// How weights are packed, and what with.
struct Layout<'a> {
    kernel: &'static Kernel,
    plans: Vec<Plan<'a>>,
    /// Panels of a group.
    count: usize,
    /// Units of one.
    len: usize,
}

impl<T: Value> Job<'_, T> {
    fn layout(&self) -> Layout<'_> {
        let plans = |kernel: &Kernel| -> Vec<Plan<'_>> {
            let plan = |class| Plan::new::<T>(class, self.depth, kernel);
            self.classes.iter().map(plan).collect()
        };
        let fits =
            |chunk: &Chunk| chunk.runs.len() == 1 || chunk.runs.iter().all(|r| r.len % 16 == 0);
        let mut kernel = Kernel::of::<T>();
        let mut planned = plans(kernel);
        if kernel.tiled && !planned.iter().all(|plan| plan.chunks.iter().all(fits)) {
            kernel = kernel.untiled();
            planned = plans(kernel);
        }
        let steps = self.depth.div_ceil(T::PER_UNIT);
        Layout {
            kernel,
            plans: planned,
            count: self.columns.div_ceil(kernel.nr),
            len: (self.taps * steps + SPARE_STEPS) * kernel.nr,
        }
    }

    /// Units of all panels.
    fn units(&self, layout: &Layout<'_>) -> usize {
        self.groups * layout.count * layout.len
    }

    /// Writes every panel.
    fn pack(&self, layout: &Layout<'_>, pack: &impl Pack, to: &mut [u32]) {
        let (kernel, count) = (layout.kernel, layout.count);
        let steps = self.depth.div_ceil(T::PER_UNIT);
        let used: Vec<bool> = (0..self.taps)
            .map(|tap| {
                let sees = |c: &Class| c.segments.iter().any(|s| s.tap == tap);
                self.classes.iter().any(sees)
            })
            .collect();
        let panels = to.par_chunks_mut(layout.len).enumerate();
        panels.on_team(|(i, to)| {
            with_workspace(|space| {
                let taps = to.chunks_exact_mut(steps * kernel.nr).take(self.taps);
                for (tap, to) in taps.enumerate() {
                    let at = Place {
                        group: i / count,
                        panel: i % count,
                        tap,
                    };
                    if used[tap] {
                        pack(&mut space.a, at, kernel.nr, to);
                    } else if kernel.tiled && steps % 16 != 0 {
                        to.fill(0); // the last tile of the tap before reaches into it
                    }
                }
            });
            to[self.taps * steps * kernel.nr..].fill(0);
        });
    }

    /// Packs the weights and multiplies.
    fn compute(&self, onto: Option<Vec<T>>, pack: impl Pack) -> Vec<T> {
        let layout = self.layout();
        with_panels(self.units(&layout), |packed: &mut [u32]| {
            self.pack(&layout, &pack, packed);
            self.multiply(&layout, packed, onto)
        })
    }

    /// The product with packed weights.
    fn multiply(&self, layout: &Layout<'_>, packed: &[u32], onto: Option<Vec<T>>) -> Vec<T> {
        assert_eq!(packed.len(), self.units(layout));
        let tasks = self.tasks(layout);
        let fill = |out: Shared<'_, T>| {
            tasks.par_iter().on_team(|task| {
                with_workspace(|space| {
                    let _entered = layout.kernel.enter();
                    // SAFETY: tasks differ in rows or panels, so no two touch the same values; what they are added to
                    // has been written before.
                    unsafe { self.run(layout, task, packed, space, out) }
                });
            });
        };
        match onto {
            Some(mut values) => {
                assert_eq!(values.len(), self.images * self.target_image);
                fill(Shared::new(&mut values));
                values
            }
            // SAFETY: the classes hold every pixel once and the panels every channel.
            None => unsafe { written(self.images * self.target_image, fill) },
        }
    }

    /// The fixed partition.
    fn tasks<'p>(&self, layout: &'p Layout<'p>) -> Vec<Task<'p>> {
        let (plans, panels) = (&layout.plans, layout.count);
        let rows = |plan: &Plan<'_>| plan.class.spots.len() * self.images;
        let blocks = |plan: &Plan<'_>| rows(plan).div_ceil(plan.rows);
        let total: usize = plans.iter().map(blocks).sum::<usize>() * self.groups;
        let parts = TASKS
            .div_ceil(total.max(1))
            .clamp(1, panels.div_ceil(2).max(1));
        let mut tasks = Vec::with_capacity(total * parts);
        for group in 0..self.groups {
            for plan in plans {
                if self.onto && plan.class.segments.is_empty() {
                    continue; // nothing to add
                }
                let (rows, blocks) = (rows(plan), blocks(plan));
                for part in 0..parts {
                    for block in 0..blocks {
                        tasks.push(Task {
                            plan,
                            group,
                            from: rows * block / blocks,
                            to: rows * (block + 1) / blocks,
                            first: panels * part / parts,
                            last: panels * (part + 1) / parts,
                        });
                    }
                }
            }
        }
        tasks
    }

    /// # Safety
    /// No other task touches this one's rows and panels; where sums are added, all values have been written.
    unsafe fn run(
        &self,
        layout: &Layout<'_>,
        task: &Task<'_>,
        packed: &[u32],
        space: &mut Workspace,
        out: Shared<'_, T>,
    ) {
        let kernel = layout.kernel;
        let count = task.to - task.from;
        let mut sources = [0isize; MAX_ROWS];
        let mut targets = [0usize; MAX_ROWS];
        let spots = &task.plan.class.spots;
        let (mut image, mut spot) = (task.from / spots.len(), task.from % spots.len());
        for (source, target) in sources.iter_mut().zip(&mut targets).take(count) {
            let Spot {
                source: from,
                target: to,
            } = spots[spot];
            *source = (image * self.source_image + task.group * self.depth) as isize + from;
            *target = image * self.target_image + task.group * self.columns + to;
            spot += 1;
            if spot == spots.len() {
                (image, spot) = (image + 1, 0);
            }
        }
        let (sources, targets) = (&sources[..count], &targets[..count]);
        let (runs, a, pitch) = match self.in_place(layout, task, sources) {
            Some((a, pitch)) => (&task.plan.runs_in_place[..], a, pitch),
            None => {
                let a = task.plan.copy(self.source, sources, kernel, &mut space.a);
                (&task.plan.runs[..], a, A_PITCH)
            }
        };
        let tiles = count.div_ceil(kernel.mr);
        for panel in task.first..task.last {
            let b = &packed[(task.group * layout.count + panel) * layout.len..][..layout.len];
            let column = panel * kernel.nr;
            let width = kernel.nr.min(self.columns - column);
            let finish = &self.finish;
            let affine = finish.affine(task.group * self.columns + column, width);
            for t in 0..tiles {
                let (from, to) = (count * t / tiles, count * (t + 1) / tiles);
                let (a, rows) = ((&a[from * pitch..], pitch), &targets[from..to]);
                // SAFETY: the caller's; the kernel is that of `T`, and the classes hold every pixel once.
                unsafe {
                    kernel.finish(
                        runs, a, b, finish, &affine, out, rows, column, width, self.onto,
                    );
                }
            }
        }
    }

    /// The source from the first row on, and how far apart rows are, where they can be multiplied as they lie: one tap, at an even pace, and
    /// not so far apart that they fight for the same cache sets.
    fn in_place(
        &self,
        layout: &Layout<'_>,
        task: &Task<'_>,
        sources: &[isize],
    ) -> Option<(&[u32], usize)> {
        let [segment] = task.plan.class.segments.as_slice() else {
            return None;
        };
        let &[first, second, ..] = sources else {
            return None;
        };
        let pace = usize::try_from(second - first).ok()?;
        let pitch = pace / T::PER_UNIT;
        let whole = self.columns.is_multiple_of(layout.kernel.nr)
            && self.depth.is_multiple_of(T::PER_UNIT)
            && pace.is_multiple_of(T::PER_UNIT);
        let even = sources
            .windows(2)
            .all(|pair| pair[1] - pair[0] == second - first);
        let source = &self.source[(first + segment.offset) as usize..];
        let aligned = source.as_ptr().cast::<u32>().is_aligned();
        (!layout.kernel.tiled && whole && even && aligned && pitch <= FARTHEST)
            .then(|| (units(source), pitch))
    }
}
