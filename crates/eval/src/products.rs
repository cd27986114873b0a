//! Inner products of many features with many others, a block of rows at a time.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::error::Result;
use crate::features::Features;

/// Rows per matrix product: fixed, so that the bits do not depend on the number of threads.
const BLOCK: usize = 512;

/// Calls `f(i, ⟨q_i, b_j⟩ for all j)` for each query and returns the answers in order.
pub(crate) fn map_rows<R: Send>(
    queries: &Features,
    bank: &Features,
    f: impl Fn(usize, &[f32]) -> R + Sync,
) -> Result<Vec<R>> {
    let columns = Tensor::from_slice(&bank.values, (bank.len(), bank.dim), &Device::Cpu)?.t()?; // [D, M]
    let mut answers = Vec::with_capacity(queries.len());
    for (block, values) in queries.values.chunks(BLOCK * queries.dim).enumerate() {
        let rows = values.len() / queries.dim;
        let products =
            Tensor::from_slice(values, (rows, queries.dim), &Device::Cpu)?.matmul(&columns)?; // [rows, M]
        let products = products.flatten_all()?.to_vec1::<f32>()?;
        answers.par_extend(
            products
                .par_chunks(bank.len())
                .enumerate()
                .map(|(row, products)| f(block * BLOCK + row, products)),
        );
    }
    Ok(answers)
}

/// The indices of the `count` largest values but `without`, largest first, of equal values the lower index first.
pub(crate) fn largest(values: &[f32], count: usize, without: Option<usize>) -> Vec<u32> {
    let mut order: Vec<u32> = (0..values.len() as u32)
        .filter(|&i| Some(i as usize) != without)
        .collect();
    let compare = |&a: &u32, &b: &u32| {
        values[b as usize]
            .total_cmp(&values[a as usize])
            .then(a.cmp(&b))
    };
    if count == 0 {
        return Vec::new();
    }
    if count < order.len() {
        order.select_nth_unstable_by(count - 1, compare);
        order.truncate(count);
    }
    order.sort_unstable_by(compare);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_orders_by_value_then_index() {
        let values = [1.0, 3.0, 3.0, -1.0, 2.0];
        assert_eq!(largest(&values, 3, None), [1, 2, 4]);
        assert_eq!(largest(&values, 3, Some(1)), [2, 4, 0]);
        assert_eq!(largest(&values, 9, Some(2)), [1, 4, 0, 3]);
        assert!(largest(&values, 0, None).is_empty());
    }

    #[test]
    fn rows_come_in_order_across_blocks() {
        let count = 2 * BLOCK + 3;
        let queries =
            Features::new(1, (0..count).map(|i| i as f32).collect(), vec![0; count]).unwrap();
        let bank = Features::new(1, vec![1.0, 2.0], vec![0; 2]).unwrap();
        let rows = map_rows(&queries, &bank, |index, products| {
            (index, products.to_vec())
        })
        .unwrap();
        for (i, (index, products)) in rows.into_iter().enumerate() {
            assert_eq!((index, products), (i, vec![i as f32, 2.0 * i as f32]));
        }
    }
}
