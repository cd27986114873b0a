//! Matrix products over gathered rows: a convolution's output, and its input gradient.
//!
//! ```text
//! target[pixel, j] = bias[j] + Σ_taps Σ_k source[pixel + tap, k] · weight[tap, k, j]
//! ```
//!
//! The weights are packed once per call into panels of `NR` columns; each task copies the rows it needs, chunk by
//! chunk, next to each other and multiplies them tile by tile. No im2col matrix is ever formed, and taps that lie in
//! the padding are never multiplied (see [`super::plan`]).

use rayon::prelude::*;

use super::buffer::{Shared, Workspace, with_panels, with_workspace, written};
use super::plan::{self, Class, Segment};
use super::tile::{A_PITCH, KC, Kernel, MAX_MR, MAX_NR, Onto, Run, Side};
use super::transpose::transpose;
use crate::geometry::ConvShape;

/// Most rows that one task packs at a time; a multiple of nothing in particular, ten tiles of AVX-512.
const BLOCK_ROWS: usize = 140;
/// Tasks to aim for: enough for a big machine, few enough to keep packing cheap. Never the number of threads: the
/// partition must not depend on it.
const TASKS: usize = 16;

/// `y = conv(x, w) + bias`; `x: [N, H, W, C]`, `w: [O, kh, kw, C/g]`, `y: [N, H', W', O]`.
pub fn conv_forward(s: &ConvShape, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let groups = s.cfg.groups;
    let (ck, og) = (s.c / groups, s.o / groups);
    let job = Job {
        classes: plan::forward(s),
        images: s.n,
        source: x,
        source_image: s.h * s.w * s.c,
        target_image: s.ho * s.wo * s.o,
        groups,
        depth: ck,
        columns: og,
        taps: s.kh * s.kw,
        bias,
    };
    job.compute(|group, panel, tap, width, to| {
        // w[o, tap, c] to panel[c, o]
        let first = panel * width;
        let rows = width.min(og - first);
        let pitch = s.kh * s.kw * ck;
        let from = &w[(group * og + first) * pitch + tap * ck..];
        transpose(from, pitch, rows, ck, width, to);
    })
}

/// `dx` from `dy`: `dx[q, c] = Σ_taps Σ_o dy[q − tap, o] · w[o, tap, c]`.
pub fn conv_backward_input(s: &ConvShape, dy: &[f32], w: &[f32]) -> Vec<f32> {
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
        bias: None,
    };
    job.compute(|group, panel, tap, width, to| {
        // w[o, tap, c] to panel[o, c]
        let first = panel * width;
        let columns = width.min(ck - first);
        for (o, to) in to.chunks_exact_mut(width).enumerate() {
            let from = ((group * og + o) * s.kh * s.kw + tap) * ck + first;
            if columns == MAX_NR {
                to.copy_from_slice(&w[from..from + MAX_NR]); // a constant length: two vectors
            } else {
                to[..columns].copy_from_slice(&w[from..from + columns]);
                to[columns..].fill(0.0);
            }
        }
    })
}

/// One product: sizes of both tensors, and what to gather.
struct Job<'a> {
    classes: Vec<Class>,
    images: usize,
    source: &'a [f32],
    source_image: usize,
    target_image: usize,
    groups: usize,
    /// Source channels of a group: k-steps of a tap.
    depth: usize,
    /// Target channels of a group.
    columns: usize,
    taps: usize,
    bias: Option<&'a [f32]>,
}

/// Rows `from..to` of a class, panels `first..last` of a group.
struct Task<'a> {
    class: &'a Class,
    group: usize,
    from: usize,
    to: usize,
    first: usize,
    last: usize,
}

/// Part of one chunk: `run.len` source values from `offset` (relative to the pixel).
struct Piece {
    offset: isize,
    run: Run,
}

impl Job<'_> {
    /// `pack(group, panel, tap, width, to)` writes one tap of one panel: `depth` rows of `width` columns.
    fn compute(&self, pack: impl Fn(usize, usize, usize, usize, &mut [f32]) + Sync) -> Vec<f32> {
        let kernel = Kernel::get();
        let panels = self.columns.div_ceil(kernel.nr);
        let panel_len = self.taps * self.depth * kernel.nr;
        let used: Vec<usize> = (0..self.taps)
            .filter(|tap| {
                let sees = |c: &Class| c.segments.iter().any(|s| s.tap == *tap);
                self.classes.iter().any(sees)
            })
            .collect();
        let tasks = self.tasks(panels);
        let len = self.images * self.target_image;

        with_panels(self.groups * panels * panel_len, |packed| {
            packed
                .par_chunks_mut(panel_len.max(1))
                .enumerate()
                .for_each(|(i, to)| {
                    for &tap in &used {
                        let step = self.depth * kernel.nr;
                        let to = &mut to[tap * step..(tap + 1) * step];
                        pack(i / panels, i % panels, tap, kernel.nr, to);
                    }
                });
            let packed = &*packed;
            let fill = |out: Shared<'_>| {
                tasks.par_iter().with_max_len(1).for_each(|task| {
                    with_workspace(|space| {
                        // SAFETY: tasks differ in rows or panels, so no two touch the same values.
                        unsafe { self.run(kernel, task, packed, space, out) }
                    });
                });
            };
            // SAFETY: the classes hold every pixel once and the panels every channel, and the first chunk of a task
            // overwrites.
            unsafe { written(len, fill) }
        })
    }

    /// The fixed partition.
    fn tasks(&self, panels: usize) -> Vec<Task<'_>> {
        let rows = |class: &Class| class.spots.len() * self.images;
        let blocks = |class: &Class| rows(class).div_ceil(BLOCK_ROWS);
        let total: usize = self.classes.iter().map(blocks).sum::<usize>() * self.groups;
        let parts = TASKS
            .div_ceil(total.max(1))
            .clamp(1, panels.div_ceil(2).max(1));
        let mut tasks = Vec::with_capacity(total * parts);
        for group in 0..self.groups {
            for class in &self.classes {
                let (rows, blocks) = (rows(class), blocks(class));
                for part in 0..parts {
                    for block in 0..blocks {
                        tasks.push(Task {
                            class,
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
    /// No other task touches this one's rows and panels.
    unsafe fn run(
        &self,
        kernel: &Kernel,
        task: &Task<'_>,
        packed: &[f32],
        space: &mut Workspace,
        out: Shared<'_>,
    ) {
        let count = task.to - task.from;
        let mut sources = [0isize; BLOCK_ROWS];
        let mut targets = [0usize; BLOCK_ROWS];
        let spots = &task.class.spots;
        for (i, row) in (task.from..task.to).enumerate() {
            let (image, spot) = (row / spots.len(), spots[row % spots.len()]);
            sources[i] =
                (image * self.source_image + task.group * self.depth) as isize + spot.source;
            targets[i] = image * self.target_image + task.group * self.columns + spot.target;
        }
        let (sources, targets) = (&sources[..count], &targets[..count]);
        let panels = self.columns.div_ceil(kernel.nr);
        let panel_len = self.taps * self.depth * kernel.nr;
        let a = space.a.get(BLOCK_ROWS * A_PITCH);
        let tiles = count.div_ceil(kernel.mr);

        // A class without taps still runs one empty chunk, which writes the bias or zeros.
        let chunks = chunks(&task.class.segments, self.depth);
        for (c, pieces) in chunks.iter().enumerate() {
            for (i, source) in sources.iter().enumerate() {
                let to = &mut a[i * A_PITCH..][..A_PITCH];
                for piece in pieces {
                    let from = (source + piece.offset) as usize;
                    to[piece.run.a..][..piece.run.len]
                        .copy_from_slice(&self.source[from..from + piece.run.len]);
                }
            }
            let runs: Vec<Run> = pieces_to_runs(pieces);
            for panel in task.first..task.last {
                let b = &packed[(task.group * panels + panel) * panel_len..][..panel_len];
                let column = panel * kernel.nr;
                let width = kernel.nr.min(self.columns - column);
                let mut bias = [0f32; MAX_NR];
                let onto = match self.bias {
                    _ if c > 0 => Onto::Sum,
                    None => Onto::Nothing,
                    Some(all) => {
                        bias[..width]
                            .copy_from_slice(&all[task.group * self.columns + column..][..width]);
                        Onto::Bias(&bias)
                    }
                };
                for t in 0..tiles {
                    let (from, to) = (count * t / tiles, count * (t + 1) / tiles);
                    debug_assert!(to - from <= MAX_MR);
                    let a = &a[from * A_PITCH..];
                    let rows = &targets[from..to];
                    // SAFETY: the caller's; the first chunk does not read the output.
                    unsafe { kernel.run(Side::Rows, &runs, a, b, out, rows, column, width, onto) };
                }
            }
        }
    }
}

/// Cuts the segments into chunks of at most [`KC`] k-steps.
fn chunks(segments: &[Segment], depth: usize) -> Vec<Vec<Piece>> {
    let mut chunks = vec![Vec::new()];
    let mut fill = 0;
    for segment in segments {
        let mut done = 0;
        while done < depth {
            if fill == KC {
                chunks.push(Vec::new());
                fill = 0;
            }
            // A tap that fits into a chunk is not torn apart.
            if fill > 0 && depth <= KC && fill + depth > KC {
                chunks.push(Vec::new());
                fill = 0;
            }
            let len = (depth - done).min(KC - fill);
            let piece = Piece {
                offset: segment.offset + done as isize,
                run: Run {
                    a: fill,
                    b: segment.tap * depth + done,
                    len,
                },
            };
            let pieces = chunks.last_mut().expect("starts with one chunk");
            match pieces.last_mut() {
                Some(last) if joins(last, &piece) => last.run.len += len,
                _ => pieces.push(piece),
            }
            fill += len;
            done += len;
        }
    }
    chunks
}

/// Whether `next` continues `last` in the source and in the panel.
fn joins(last: &Piece, next: &Piece) -> bool {
    last.offset + last.run.len as isize == next.offset && last.run.b + last.run.len == next.run.b
}

/// The runs of a chunk, joined where the panel continues though the source does not.
fn pieces_to_runs(pieces: &[Piece]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match runs.last_mut() {
            Some(last) if last.b + last.len == piece.run.b => last.len += piece.run.len,
            _ => runs.push(piece.run),
        }
    }
    runs
}
