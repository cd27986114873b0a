//! In which order tiles are taken: rounds of tiles that share neither rows nor columns.
//!
//! Within a round every tile owns what its rows and its columns accumulate, so that tiles run in parallel without locks; over the
//! rounds each accumulator receives its terms in one order. The order depends on sizes alone, so the bits do not depend on
//! the number of threads.

use std::mem::take;
use std::ops::Range;

use rayon::prelude::*;

use crate::Result;

/// Rows of a block. Large blocks make fast matrix products, many blocks keep many threads busy.
pub(crate) fn blocks(rows: usize) -> Vec<Range<usize>> {
    let size = match rows {
        0..=4096 => 256,
        _ => 512,
    };
    (0..rows.div_ceil(size))
        .map(|block| block * size..((block + 1) * size).min(rows))
        .collect()
}

/// Rounds that meet every pair (i, j), i < j < n, and every (i, i) once: the circle method of tournaments.
fn tournament(n: usize) -> Vec<Vec<(usize, usize)>> {
    let mut rounds = vec![(0..n).map(|i| (i, i)).collect()];
    let seats = n + n % 2; // with an odd number, one sits out
    for round in 0..seats.saturating_sub(1) {
        let turning = seats - 1;
        let mut pairs = vec![(round, turning)];
        pairs.extend(
            (1..seats / 2).map(|k| ((round + k) % turning, (round + turning - k) % turning)),
        );
        pairs.retain(|&(i, j)| i.max(j) < n);
        for (i, j) in &mut pairs {
            (*i, *j) = ((*i).min(*j), (*i).max(*j));
        }
        rounds.push(pairs);
    }
    rounds
}

/// Rounds that meet every pair (i, j), i < rows, j < columns, once.
fn grid(rows: usize, columns: usize) -> Vec<Vec<(usize, usize)>> {
    let n = rows.max(columns);
    (0..n)
        .map(|round| {
            let met = (0..rows).map(|i| (i, (i + round) % n));
            met.filter(|&(_, j)| j < columns).collect()
        })
        .collect()
}

/// Calls `visit(i, j, rows[i], columns[j])` for every tile of a grid.
pub(crate) fn sweep_grid<T: Default + Send, U: Default + Send>(
    rows: &mut [T],
    columns: &mut [U],
    visit: impl Fn(usize, usize, &mut T, &mut U) -> Result<()> + Sync,
) -> Result<()> {
    for round in grid(rows.len(), columns.len()) {
        let mut tiles: Vec<_> = round
            .into_iter()
            .map(|(i, j)| (i, j, take(&mut rows[i]), take(&mut columns[j])))
            .collect();
        let outcome = tiles
            .par_iter_mut()
            .with_max_len(1)
            .try_for_each(|(i, j, row, column)| visit(*i, *j, row, column));
        for (i, j, row, column) in tiles {
            (rows[i], columns[j]) = (row, column);
        }
        outcome?;
    }
    Ok(())
}

/// Calls `visit(i, j, blocks[i], blocks[j])` for every tile on or above the diagonal of a symmetric matrix that `wanted`
/// keeps; on the diagonal the last argument is none.
pub(crate) fn sweep_symmetric<T: Default + Send>(
    blocks: &mut [T],
    wanted: impl Fn(usize, usize) -> bool,
    visit: impl Fn(usize, usize, &mut T, Option<&mut T>) -> Result<()> + Sync,
) -> Result<()> {
    for mut round in tournament(blocks.len()) {
        round.retain(|&(i, j)| wanted(i, j));
        let mut tiles: Vec<_> = round
            .into_iter()
            .map(|(i, j)| {
                let other = (i != j).then(|| take(&mut blocks[j]));
                (i, j, take(&mut blocks[i]), other)
            })
            .collect();
        let outcome = tiles
            .par_iter_mut()
            .with_max_len(1)
            .try_for_each(|(i, j, row, column)| visit(*i, *j, row, column.as_mut()));
        for (i, j, row, column) in tiles {
            blocks[i] = row;
            if let Some(column) = column {
                blocks[j] = column;
            }
        }
        outcome?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_tournament_meets_every_pair_once_and_no_block_twice_a_round() {
        for n in 0..12 {
            let mut met = BTreeSet::new();
            for round in tournament(n) {
                let mut busy = BTreeSet::new();
                for (i, j) in round {
                    assert!(met.insert((i, j)) && i <= j && j < n, "{n}: {i} {j}");
                    assert!(busy.insert(i) && (i == j || busy.insert(j)), "{n}: {i} {j}");
                }
            }
            assert_eq!(met.len(), n * (n + 1) / 2);
        }
    }

    #[test]
    fn a_grid_meets_every_pair_once_and_no_side_twice_a_round() {
        for (rows, columns) in [(1, 1), (1, 5), (5, 1), (3, 4), (4, 3)] {
            let mut met = BTreeSet::new();
            for round in grid(rows, columns) {
                let (mut left, mut right) = (BTreeSet::new(), BTreeSet::new());
                for (i, j) in round {
                    assert!(met.insert((i, j)) && left.insert(i) && right.insert(j));
                }
            }
            assert_eq!(met.len(), rows * columns);
        }
    }

    #[test]
    fn blocks_cover_all_rows_in_order() {
        for rows in [0, 1, 128, 129, 1025, 70_000] {
            let blocks = blocks(rows);
            assert_eq!(blocks.iter().map(Range::len).sum::<usize>(), rows);
            assert!(blocks.windows(2).all(|two| two[0].end == two[1].start));
        }
    }
}
