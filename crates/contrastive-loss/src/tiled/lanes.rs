//! Exponentials and logarithms without branches, which the compiler turns into vector instructions.
//!
//! `pulp` compiles a closure once for each instruction set and picks one at run time, so that plain Rust loops use AVX2 or
//! AVX-512 where the processor has them.

/// Runs `work` with the widest instruction set of this machine. What `work` calls must be `#[inline(always)]`.
#[inline(always)]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// eˣ within 2 units in the last place for −87.3 ≤ x ≤ 88; 0 below, down to −∞; NaN for NaN.
///
/// eˣ = 2ⁿ eʳ with n = round(x / ln 2) and Cephes' polynomial of degree 7 for eʳ, |r| ≤ ln 2 / 2.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it leaves an integer in the low bits
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4f32;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    let value = (p * (r * r) + r + 1.0) * power;
    if x < -87.3 { 0.0 } else { value }
}

/// ln(1 + u) for 0 ≤ u ≤ 1, to rounding relative to the value: 2 artanh(w) with w = u / (2 + u) ≤ 1/3.
#[inline(always)]
pub(crate) fn ln_1p(u: f32) -> f32 {
    let w = u / (2.0 + u);
    let q = w * w;
    let mut p = 1.0f32 / 15.0;
    p = p * q + 1.0 / 13.0;
    p = p * q + 1.0 / 11.0;
    p = p * q + 1.0 / 9.0;
    p = p * q + 1.0 / 7.0;
    p = p * q + 1.0 / 5.0;
    p = p * q + 1.0 / 3.0;
    2.0 * (w + w * q * p)
}

/// softplus(x) = ln(1 + eˣ) and its derivative σ(x).
#[inline(always)]
pub(crate) fn softplus(x: f32) -> (f32, f32) {
    let u = exp(-x.abs());
    let larger = 1.0 / (1.0 + u); // σ(|x|)
    let value = (if x > 0.0 { x } else { 0.0 }) + ln_1p(u);
    (value, if x > 0.0 { larger } else { u * larger })
}

/// Values that are folded side by side.
const LANES: usize = 16;

/// The largest value, −∞ for none.
#[inline(always)]
pub(crate) fn largest(row: &[f32]) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |largest, &value| {
            if value > largest { value } else { largest }
        })
}

/// Σ f(row_k, other_k), `LANES` partial sums wide.
#[inline(always)]
pub(crate) fn sum_of(row: &[f32], other: &[u32], f: impl Fn(f32, u32) -> f32) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let (others, others_rest) = other.as_chunks::<LANES>();
    let mut lanes = [0f32; LANES];
    for (chunk, others) in chunks.iter().zip(others) {
        for ((lane, &value), &other) in lanes.iter_mut().zip(chunk).zip(others) {
            *lane += f(value, other);
        }
    }
    let mut sum = 0.0;
    for (&value, &other) in rest.iter().zip(others_rest) {
        sum += f(value, other);
    }
    lanes.iter().fold(sum, |sum, lane| sum + lane)
}

/// Σ f(row_k), `LANES` partial sums wide.
#[inline(always)]
pub(crate) fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0f32; LANES];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += f(value);
        }
    }
    let sum = rest.iter().fold(0.0, |sum, &value| sum + f(value));
    lanes.iter().fold(sum, |sum, lane| sum + lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_exact_to_two_units_in_the_last_place() {
        for step in -8730..8800 {
            let x = step as f32 * 0.01;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.4e-7, "exp({x}) is off by {error:e}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!((exp(-200.0), exp(0.0)), (0.0, 1.0));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn softplus_and_sigmoid_keep_their_relative_accuracy() {
        for step in -800..800 {
            let x = step as f32 * 0.1;
            let (value, slope) = softplus(x);
            let exact = f64::from(x).exp().ln_1p();
            let exact_slope = 1.0 / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(value) - exact).abs() < 5e-7 * exact, "{x}");
            assert!(
                (f64::from(slope) - exact_slope).abs() < 5e-7 * exact_slope,
                "{x}"
            );
        }
    }

    #[test]
    fn folds_of_any_length() {
        for length in [0, 1, 15, 16, 17, 40] {
            let row: Vec<f32> = (0..length).map(|k| (k * 7 % 11) as f32).collect();
            let expected = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(largest(&row), expected);
            assert_eq!(sum(&row, |v| 2.0 * v), 2.0 * row.iter().sum::<f32>());
            let other = vec![3u32; length];
            let total = sum_of(&row, &other, |v, k| v + k as f32);
            assert_eq!(total, row.iter().sum::<f32>() + 3.0 * length as f32);
        }
    }
}
