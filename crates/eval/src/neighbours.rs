//! The nearest other images of each image in a feature space.

use crate::error::Result;
use crate::features::Features;
use crate::products::{largest, map_rows};

/// For each feature the `count` others of largest cosine, nearest first; of equally near ones the lower index first.
/// Fewer where there are not so many others.
///
/// # Errors
/// If features are empty or not finite.
///
/// ```
/// use eval::{Features, nearest_others};
/// let features = Features::new(2, vec![1.0, 0.0, 1.0, 0.1, 0.0, 1.0], vec![0, 0, 1])?;
/// assert_eq!(nearest_others(&features, 1)?, [[1], [0], [1]]);
/// # Ok::<_, eval::Error>(())
/// ```
pub fn nearest_others(features: &Features, count: usize) -> Result<Vec<Vec<u32>>> {
    features.check()?;
    let unit = features.unit();
    map_rows(&unit, &unit, |query, cosines| {
        largest(cosines, count, Some(query))
    })
}
