//! A convolution's taps cut into chunks: what of the source lies side by side in one packed row.

use super::plan::Segment;
use super::tile::{A_PITCH, KC, Run};
use super::value::Value;

/// At most [`KC`] units of a packed row.
#[derive(Default)]
pub struct Chunk {
    pieces: Vec<Piece>,
    pub runs: Vec<Run>,
    /// Units in use.
    fill: usize,
}

/// Part of one chunk: `len` source values from `offset` (relative to the pixel).
pub struct Piece {
    offset: isize,
    len: usize,
    run: Run,
}

impl Chunk {
    /// Copies the rows side by side; where tiles are multiplied, zeros follow up to a whole tile.
    pub fn pack<T: Value>(&self, source: &[T], sources: &[isize], tiled: bool, a: &mut [T]) {
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
                if let [half] = rest {
                    *half = T::ZERO; // of the tap's last unit
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
pub fn chunks<T: Value>(segments: &[Segment], depth: usize) -> Vec<Chunk> {
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
