//! Whether the similarity matrix is formed.

/// From this many rows on, `Auto` works on tiles.
const ENOUGH_ROWS: usize = 256;

/// How a loss is computed. Values and gradients are the same up to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Execution {
    /// By size: tiles from 256 rows on, where the loss has them; the whole matrix below.
    #[default]
    Auto,
    /// The whole similarity matrix by plain Candle operators: O(N²) memory. The oracle of the tiled path.
    Dense,
    /// Tiles of the matrix: O(N·D) memory.
    Tiled,
}

impl Execution {
    /// Whether `rows` rows go tile by tile, where `possible`.
    pub(crate) fn tiles(self, rows: usize, possible: bool) -> bool {
        match self {
            Self::Auto => possible && rows >= ENOUGH_ROWS,
            Self::Dense => false,
            Self::Tiled => true,
        }
    }
}
