//! A class's taps cut into chunks: what of the source lies side by side in one copied row.

use super::buffer::{Scratch, units};
use super::plan::{Class, Segment};
use super::tile::{A_PITCH, KC, Kernel, MAX_ROWS, Run};
use super::value::Value;

/// Bytes of copied rows that a task aims for, so that they and a panel stay in most cores' second cache; but two register tiles of rows at
/// least, which are more where windows are wide and channels many.
const CACHE: usize = 384 << 10;
/// Rows that a tiled kernel may read beyond the last.
const SPARE_ROWS: usize = 32;

/// A class with its taps cut into chunks.
pub struct Plan<'a> {
    pub class: &'a Class,
    /// Most rows of a task.
    pub rows: usize,
    pub chunks: Vec<Chunk>,
    /// Those of all chunks, which are copied one after the other.
    pub runs: Vec<Run>,
    /// The same where the rows of a single tap are not copied.
    pub runs_in_place: Vec<Run>,
}

impl<'a> Plan<'a> {
    pub fn new<T: Value>(class: &'a Class, depth: usize, kernel: &Kernel) -> Self {
        let chunks = chunks::<T>(&class.segments, depth);
        let row = chunks.len() * A_PITCH * size_of::<u32>();
        let rows = (CACHE / row).min(MAX_ROWS) / kernel.mr * kernel.mr;
        let mut plan = Self {
            class,
            rows: rows.max(2 * kernel.mr),
            chunks,
            runs: Vec::new(),
            runs_in_place: Vec::new(),
        };
        let mut done = 0;
        for (i, chunk) in plan.chunks.iter().enumerate() {
            let first = i * plan.chunk_len();
            let moved = |run: &Run| Run {
                a: first + run.a,
                ..*run
            };
            plan.runs.extend(chunk.runs.iter().map(moved));
            for run in &chunk.runs {
                plan.runs_in_place.push(Run { a: done, ..*run });
                done += run.len;
            }
        }
        plan
    }

    /// Copies the rows that begin at `sources`, chunk after chunk.
    pub fn copy<'s, T: Value>(
        &self,
        source: &[T],
        sources: &[isize],
        kernel: &Kernel,
        space: &'s mut Scratch,
    ) -> &'s [u32] {
        let chunk_len = self.chunk_len() * T::PER_UNIT;
        let spare = match kernel.tiled {
            true => SPARE_ROWS * A_PITCH * T::PER_UNIT, // behind the last chunk
            false => 0,
        };
        let a = space.get::<T>(self.chunks.len() * chunk_len + spare);
        for (chunk, a) in self.chunks.iter().zip(a.chunks_exact_mut(chunk_len)) {
            chunk.pack(source, sources, kernel.tiled, a);
        }
        units(a)
    }

    /// Units of one copied chunk.
    fn chunk_len(&self) -> usize {
        self.rows * A_PITCH
    }
}

/// At most [`KC`] units of a packed row.
#[derive(Default)]
pub struct Chunk {
    pieces: Vec<Piece>,
    pub runs: Vec<Run>,
    /// Units in use.
    fill: usize,
}

/// Part of one chunk: `len` source values from `offset` (relative to the pixel).
struct Piece {
    offset: isize,
    len: usize,
    run: Run,
}

impl Chunk {
    /// Copies the rows side by side; where tiles are multiplied, zeros follow up to a whole tile.
    fn pack<T: Value>(&self, source: &[T], sources: &[isize], tiled: bool, a: &mut [T]) {
        for (i, row) in sources.iter().enumerate() {
            let to = &mut a[i * A_PITCH * T::PER_UNIT..][..A_PITCH * T::PER_UNIT];
            for piece in &self.pieces {
                let from = (row + piece.offset) as usize;
                let (start, end) = (
                    piece.run.a * T::PER_UNIT,
                    (piece.run.a + piece.run.len) * T::PER_UNIT,
                );
                let (to, rest) = to[start..end].split_at_mut(piece.len);
                to.copy_from_slice(&source[from..from + piece.len]);
                debug_assert!(rest.len() < T::PER_UNIT);
                if let [half] = rest {
                    *half = T::ZERO; // of the unit that odd channels leave
                }
            }
            if tiled {
                let end = self.fill.next_multiple_of(16);
                to[self.fill * T::PER_UNIT..end * T::PER_UNIT].fill(T::ZERO);
            }
        }
    }
}

/// Cuts the segments into chunks of at most [`KC`] units.
fn chunks<T: Value>(segments: &[Segment], depth: usize) -> Vec<Chunk> {
    let steps = depth.div_ceil(T::PER_UNIT);
    let mut chunks = vec![Chunk::default()];
    for segment in segments {
        let mut done = 0; // units of this tap
        while done < steps {
            let fill = chunks[chunks.len() - 1].fill;
            // A tap that fits into a chunk is not torn apart.
            if fill == KC || (fill > 0 && steps <= KC && fill + steps > KC) {
                chunks.push(Chunk::default());
                continue;
            }
            let len = (steps - done).min(KC - fill);
            let piece = Piece {
                offset: segment.offset + (done * T::PER_UNIT) as isize,
                len: (len * T::PER_UNIT).min(depth - done * T::PER_UNIT),
                run: Run {
                    a: fill,
                    b: segment.tap * steps + done,
                    len,
                },
            };
            let last = chunks.len() - 1;
            let chunk = &mut chunks[last];
            match chunk.runs.last_mut() {
                Some(run) if run.b + run.len == piece.run.b => run.len += len,
                _ => chunk.runs.push(piece.run),
            }
            match chunk.pieces.last_mut() {
                Some(last) if last.joins::<T>(&piece) => {
                    last.run.len += len;
                    last.len += piece.len;
                }
                _ => chunk.pieces.push(piece),
            }
            chunk.fill += len;
            done += len;
        }
    }
    chunks
}

impl Piece {
    /// Whether `next` continues this piece in the source and in the panel.
    fn joins<T: Value>(&self, next: &Piece) -> bool {
        self.len == self.run.len * T::PER_UNIT
            && self.offset + self.len as isize == next.offset
            && self.run.b + self.run.len == next.run.b
    }
}
