//! A histogram of many numbers of any size: four buckets for every power of two, and one around zero.

use crate::{Result, cells};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;

/// How a bucket's number comes from an f32's bits: sign, exponent and the mantissa's first two bits stay.
const SHIFT: u32 = 21;
/// Smaller numbers, 2⁻⁴⁰ or about 10⁻¹², count as zero.
const SMALLEST: u32 = (127 - 40) << (23 - SHIFT);

/// Counts of numbers by size, with their least, largest, sum and sum of squares. Numbers that are not finite are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// The least number.
    pub min: f64,
    /// The largest number.
    pub max: f64,
    /// How many there are.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub sum_of_squares: f64,
    /// Signed bucket (0 around zero, ±k for the k-th size) → count.
    counts: BTreeMap<i32, u64>,
}

impl Histogram {
    /// Counts `values`, each multiplied by `factor`.
    pub fn of(values: &[f32], factor: f64) -> Self {
        let mut counts = vec![0u64; 2 << (31 - SHIFT)];
        let zero = counts.len() / 2;
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        let (mut sum, mut sum_of_squares, mut count) = (0.0, 0.0, 0);
        for &value in values {
            let value = f64::from(value) * factor;
            let single = value as f32;
            if !single.is_finite() {
                continue;
            }
            min = min.min(value);
            max = max.max(value);
            sum += value;
            sum_of_squares += value * value;
            count += 1;
            let size = (single.abs().to_bits() >> SHIFT).saturating_sub(SMALLEST - 1) as usize;
            counts[if single < 0.0 {
                zero - size
            } else {
                zero + size
            }] += 1;
        }
        let counts = counts
            .into_iter()
            .enumerate()
            .filter(|(_, count)| *count > 0)
            .map(|(at, count)| (at as i32 - zero as i32, count))
            .collect();
        Self {
            min: if count > 0 { min } else { 0.0 },
            max: if count > 0 { max } else { 0.0 },
            count,
            sum,
            sum_of_squares,
            counts,
        }
    }

    /// Counts a tensor's cells.
    pub(crate) fn of_tensor(tensor: &Tensor, factor: f64) -> Result<Self> {
        let host = tensor
            .detach()
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F32)?;
        cells::read(&host, |values| Self::of(values, factor))
    }

    /// (upper limit, count) of every bucket from the first that holds something to the last, in order; limits grow.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let (Some(first), Some(last)) = (self.counts.keys().next(), self.counts.keys().last())
        else {
            return Vec::new();
        };
        (*first..=*last)
            .map(|bucket| {
                (
                    upper_limit(bucket),
                    self.counts.get(&bucket).copied().unwrap_or(0),
                )
            })
            .collect()
    }
}

/// The upper limit of a bucket: of the sizes from k on, that size's; of negative ones, the lower limit of the same size.
fn upper_limit(bucket: i32) -> f64 {
    let limit = |size: u32| f64::from(f32::from_bits((size + SMALLEST - 1) << SHIFT));
    match bucket {
        0.. => limit(bucket as u32 + 1),
        _ => -limit(bucket.unsigned_abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_lies_below_its_limit_and_above_the_one_before() {
        let values = [
            -3e5, -1.0, -0.9, -1e-3, -1e-20, 0.0, 1e-30, 2e-12, 0.7, 1.0, 1.24, 1.26, 5e8,
        ];
        for value in values {
            let histogram = Histogram::of(&[value], 1.0);
            let [(limit, 1)] = histogram.buckets()[..] else {
                panic!("{value}: {histogram:?}")
            };
            let bucket = *histogram.counts.keys().next().unwrap();
            let below = upper_limit(bucket - 1);
            let value = f64::from(value);
            assert!(below <= value && value <= limit, "{below} {value} {limit}");
            // A quarter of an octave, but around zero.
            assert!(
                bucket == 0 || (limit - below).abs() <= 0.25001 * value.abs(),
                "{value}"
            );
        }
    }

    #[test]
    fn sums_are_those_of_the_scaled_numbers_and_gaps_are_empty_buckets() {
        let histogram = Histogram::of(&[1.0, 8.0, f32::NAN, -2.0, f32::INFINITY], 0.5);
        assert_eq!(
            (histogram.min, histogram.max, histogram.count),
            (-1.0, 4.0, 3)
        );
        assert_eq!(
            (histogram.sum, histogram.sum_of_squares),
            (3.5, 0.25 + 16.0 + 1.0)
        );
        let buckets = histogram.buckets();
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 3);
        assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(Histogram::of(&[f32::NAN], 1.0).buckets().is_empty());
    }
}
