//! Random streams: every random number of a run is a pure function of (seed, purpose, indices).
//!
//! `key = SHA-256("cifar-data stream 1" ‖ seed ‖ |purpose| ‖ purpose ‖ |indices| ‖ indices)`, all numbers 64-bit
//! little-endian; the key seeds a ChaCha8 generator. Nothing is drawn from a shared generator, so a resumed run needs to
//! know only where it was, and adding a consumer never moves another's numbers.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

/// The generator for one purpose at one place of a run.
///
/// The mapping is fixed: the same arguments give the same numbers in every version of this crate.
///
/// ```
/// use rand_chacha::rand_core::RngCore;
/// let mut a = cifar_data::stream(42, "dropout", &[3, 120]);
/// let mut b = cifar_data::stream(42, "dropout", &[3, 121]);
/// assert_ne!(a.next_u64(), b.next_u64());
/// ```
pub fn stream(seed: u64, purpose: &str, indices: &[u64]) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(key(seed, purpose, indices))
}

fn key(seed: u64, purpose: &str, indices: &[u64]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"cifar-data stream 1");
    hash.update(seed.to_le_bytes());
    hash.update((purpose.len() as u64).to_le_bytes());
    hash.update(purpose.as_bytes());
    hash.update((indices.len() as u64).to_le_bytes());
    for index in indices {
        hash.update(index.to_le_bytes());
    }
    hash.finalize().into()
}

/// A number in `[0, 1)` with 24 random bits.
pub(crate) fn unit(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// A number in `[low, high)`.
pub(crate) fn uniform(rng: &mut ChaCha8Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * unit(rng)
}

/// An integer in `[0, bound)` (multiply-shift; the bias is below 2⁻³² for the bounds of this crate).
pub(crate) fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize
}

/// Fisher–Yates.
pub(crate) fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(rng, i + 1));
    }
}

/// A 64-bit mix of (seed, index) without a generator (SplitMix64's finaliser): one coin per image.
pub(crate) fn mix(seed: u64, index: u64) -> u64 {
    let mut z = seed
        .wrapping_add(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(index.wrapping_mul(0xd1b5_4a32_d192_ed03));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_in_every_argument() {
        let mut seen = std::collections::BTreeSet::new();
        for (seed, purpose, indices) in [
            (0, "a", &[][..]),
            (1, "a", &[]),
            (0, "b", &[]),
            (0, "a", &[0]),
            (0, "a", &[0, 0]),
            (0, "a", &[1]),
            (0, "", &[97]),
        ] {
            assert!(seen.insert(stream(seed, purpose, indices).next_u64()));
        }
    }

    /// SHA-256 and ChaCha8 as a short Python program computes them: these numbers must never change.
    #[test]
    fn streams_are_fixed_for_ever() {
        let mut rng = stream(0, "", &[]);
        assert_eq!(
            [rng.next_u64(), rng.next_u64()],
            [0x6d0b_7ebc_360b_1374, 0xd96d_aa81_568e_26a0]
        );
        let mut rng = stream(42, "golden", &[1, 2]);
        assert_eq!(
            [rng.next_u64(), rng.next_u64()],
            [0x0312_e217_b46a_4dd7, 0x2a78_1ae5_e472_931e]
        );
    }

    #[test]
    fn helpers_stay_in_range_and_spread() {
        let mut rng = stream(7, "test", &[]);
        let mut counts = [0usize; 10];
        let mut sum = 0.0;
        for _ in 0..10_000 {
            counts[below(&mut rng, 10)] += 1;
            let u = uniform(&mut rng, -1.0, 3.0);
            assert!((-1.0..3.0).contains(&u));
            sum += f64::from(u);
        }
        assert!(
            counts.iter().all(|&c| (850..1150).contains(&c)),
            "{counts:?}"
        );
        assert!((sum / 10_000.0 - 1.0).abs() < 0.05);
        let mut items: Vec<usize> = (0..100).collect();
        shuffle(&mut items, &mut rng);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
        let ones: u32 = (0..10_000).map(|i| (mix(5, i) & 1) as u32).sum();
        assert!((4_700..5_300).contains(&ones));
    }
}
