//! Some of many images, spread evenly whatever their order.

/// At most `most` of the numbers below `count`, in rising order; all of them if there are not more.
///
/// Those are taken whose product with 2⁶⁴/φ (Knuth's multiplicative hash) is smallest: spread over the whole, without the
/// period of every k-th, which meets a data set sorted by turns with only some of its classes. Deterministic.
///
/// ```
/// assert_eq!(eval::scattered(3, 5), [0, 1, 2]);
/// let some = eval::scattered(10_000, 1_000);
/// assert_eq!(some.len(), 1_000);
/// // Of labels that take turns, every one is met about equally often.
/// for label in 0..10 {
///     let of_label = some.iter().filter(|image| **image % 10 == label).count();
///     assert!((95..=105).contains(&of_label), "{of_label}");
/// }
/// ```
pub fn scattered(count: usize, most: usize) -> Vec<u32> {
    let mut all: Vec<u32> = (0..count as u32).collect();
    if count > most {
        all.sort_by_key(|image| u64::from(*image).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        all.truncate(most);
        all.sort_unstable();
    }
    all
}
