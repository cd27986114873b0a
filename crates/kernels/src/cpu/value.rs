//! What activations are stored as: f32, or bf16 (a f32 whose lower half was rounded away).
//!
//! Products are made of 32-bit *units*: one f32, or two bf16 that belong to neighbouring k-steps. So rows, panels and
//! tiles have one layout for both, and only the innermost multiplication differs.

use half::bf16;

use super::buffer::Plain;

/// A stored value.
pub trait Value: Plain + Send + Sync + std::fmt::Debug + 'static {
    /// Values of one unit.
    const PER_UNIT: usize;
    /// What poisoned buffers hold.
    const NAN: Self;
    /// Nothing.
    const ZERO: Self;

    /// The nearest stored value (ties to even).
    fn of(x: f32) -> Self;

    /// The same for a number of values that the compiler knows: whole vectors.
    fn of_array<const N: usize>(x: [f32; N]) -> [Self; N];

    /// The same, whole vectors by the processor itself where it can. It takes what is below f32's normal numbers for 0, as its products do;
    /// numbers beyond whole vectors keep that.
    #[inline(always)]
    fn round<const N: usize, const BF16: bool>(_by: Rounding<BF16>, x: [f32; N]) -> [Self; N] {
        Self::of_array(x)
    }

    /// The value.
    fn get(self) -> f32;

    /// Units of one k-step (f32) or two (bf16): `to[j] = (first[j], second[j])`; without a second row, zeros.
    fn interleave(first: &[Self], second: Option<&[Self]>, to: &mut [u32]);

    /// The same for a number of columns that the compiler knows: whole vectors. Of f32 the second row is not read.
    fn interleave_array<const N: usize>(first: &[Self; N], second: &[Self; N]) -> [u32; N];
}

impl Value for f32 {
    const PER_UNIT: usize = 1;
    const NAN: Self = f32::NAN;
    const ZERO: Self = 0.0;

    #[inline(always)]
    fn of(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn of_array<const N: usize>(x: [f32; N]) -> [Self; N] {
        x
    }

    #[inline(always)]
    fn get(self) -> f32 {
        self
    }

    #[inline(always)]
    fn interleave(first: &[Self], _second: Option<&[Self]>, to: &mut [u32]) {
        for (to, x) in to.iter_mut().zip(first) {
            *to = x.to_bits();
        }
    }

    #[inline(always)]
    fn interleave_array<const N: usize>(first: &[Self; N], _second: &[Self; N]) -> [u32; N] {
        first.map(f32::to_bits)
    }
}

impl Value for bf16 {
    const PER_UNIT: usize = 2;
    const NAN: Self = bf16::NAN;
    const ZERO: Self = bf16::ZERO;

    #[inline(always)]
    fn of(x: f32) -> Self {
        bf16::from_bits((rounded_bits(x) >> 16) as u16)
    }

    #[inline(always)]
    fn of_array<const N: usize>(x: [f32; N]) -> [Self; N] {
        // One loop over 32 bits and one that narrows them: in a single loop the compiler takes value after value.
        let mut bits = [0u32; N];
        for (bits, x) in bits.iter_mut().zip(x) {
            *bits = rounded_bits(x);
        }
        let mut values = [Self::ZERO; N];
        for (value, bits) in values.iter_mut().zip(bits) {
            *value = bf16::from_bits((bits >> 16) as u16);
        }
        values
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn round<const N: usize, const BF16: bool>(_by: Rounding<BF16>, x: [f32; N]) -> [Self; N] {
        if !BF16 || !N.is_multiple_of(16) {
            return Self::of_array(x);
        }
        let mut values = [Self::ZERO; N];
        let (vectors, _) = values.as_chunks_mut();
        for (to, x) in vectors.iter_mut().zip(x.as_chunks().0) {
            // SAFETY: whoever made the `Rounding` promised that the processor has the instruction.
            *to = unsafe { super::simd::x86::rounded(x) };
        }
        values
    }

    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn interleave(first: &[Self], second: Option<&[Self]>, to: &mut [u32]) {
        match second {
            Some(second) => {
                for ((to, low), high) in to.iter_mut().zip(first).zip(second) {
                    *to = u32::from(low.to_bits()) | u32::from(high.to_bits()) << 16;
                }
            }
            None => {
                for (to, low) in to.iter_mut().zip(first) {
                    *to = u32::from(low.to_bits());
                }
            }
        }
    }

    #[inline(always)]
    fn interleave_array<const N: usize>(first: &[Self; N], second: &[Self; N]) -> [u32; N] {
        // Both rows by value: what is read cannot alias what is written.
        let (low, high) = (*first, *second);
        std::array::from_fn(|j| u32::from(low[j].to_bits()) | u32::from(high[j].to_bits()) << 16)
    }
}

/// Who rounds to bf16: with `BF16` the processor, which has AVX512-BF16, else the code of [`Value::of_array`].
#[derive(Clone, Copy)]
pub struct Rounding<const BF16: bool>(());

impl Rounding<false> {
    /// Everywhere.
    pub const BY_CODE: Self = Self(());
}

impl Rounding<true> {
    /// # Safety
    /// The processor has AVX-512F and AVX512-BF16.
    #[cfg(target_arch = "x86_64")]
    pub unsafe fn by_processor() -> Self {
        Self(())
    }
}

/// The `N` values from `at`.
#[inline(always)]
pub fn lanes<V, const N: usize>(values: &[V], at: usize) -> &[V; N] {
    let lanes = values[at..].first_chunk();
    lanes.unwrap_or_else(|| panic!("{N} values from {at} of {}", values.len()))
}

/// The same, to be written.
#[inline(always)]
pub fn lanes_mut<V, const N: usize>(values: &mut [V], at: usize) -> &mut [V; N] {
    let len = values.len();
    let lanes = values[at..].first_chunk_mut();
    lanes.unwrap_or_else(|| panic!("{N} values from {at} of {len}"))
}

/// A f32 whose upper half is the nearest bf16. Written out, because loops over it then become vector instructions.
#[inline(always)]
fn rounded_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    if x.is_nan() { 0x7fc0_0000 } else { rounded }
}

/// A unit of two k-steps of f32 weights, or of one.
#[inline(always)]
pub fn unit<T: Value>(low: f32, high: f32) -> u32 {
    match T::PER_UNIT {
        1 => low.to_bits(),
        _ => u32::from(bf16::of(low).to_bits()) | u32::from(bf16::of(high).to_bits()) << 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_as_half_does() {
        let mut bits = 1u32;
        for _ in 0..100_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let x = f32::from_bits(bits);
            let (ours, half) = (<bf16 as Value>::of(x), bf16::from_f32(x));
            assert_eq!([ours.to_bits()], bf16::of_array([x]).map(bf16::to_bits));
            assert!(ours == half || (ours.is_nan() && half.is_nan()), "{x}");
            assert!(ours.is_nan() || ours.get() == half.to_f32());
        }
        for x in [
            0.0,
            -0.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN_POSITIVE,
        ] {
            assert_eq!(
                <bf16 as Value>::of(x).to_bits(),
                bf16::from_f32(x).to_bits()
            );
        }
        assert!(<bf16 as Value>::of(f32::from_bits(0x7fff_ffff)).is_nan());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_processor_rounds_as_the_code_does() {
        if crate::cpu::isa::isa() < crate::cpu::isa::Isa::Avx512Bf16 {
            return; // nothing to compare
        }
        // SAFETY: the processor has what is asked of it.
        let by = unsafe { Rounding::by_processor() };
        let mut bits = 1u32;
        for _ in 0..10_000 {
            let x: [f32; 16] = std::array::from_fn(|_| {
                bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                f32::from_bits(bits)
            });
            for (x, rounded) in x.into_iter().zip(bf16::round(by, x)) {
                let expected = match x.is_subnormal() {
                    true => bf16::from_f32(0f32.copysign(x)),
                    false => bf16::from_f32(x),
                };
                let alike = rounded.to_bits() == expected.to_bits();
                assert!(alike || (x.is_nan() && rounded.is_nan()), "{x:e}");
                let alone = bf16::round(by, [x]).map(bf16::to_bits);
                assert_eq!(alone, bf16::of_array([x]).map(bf16::to_bits));
            }
        }
    }

    #[test]
    fn units_hold_the_earlier_step_below() {
        let mut to = [0; 2];
        let (a, b) = (
            [1.0, 2.0].map(bf16::from_f32),
            [3.0, 4.0].map(bf16::from_f32),
        );
        bf16::interleave(&a, Some(&b), &mut to);
        assert_eq!(to, [unit::<bf16>(1.0, 3.0), unit::<bf16>(2.0, 4.0)]);
        bf16::interleave(&a, None, &mut to);
        assert_eq!(to, [unit::<bf16>(1.0, 0.0), unit::<bf16>(2.0, 0.0)]);
        f32::interleave(&[1.0, 2.0], None, &mut to);
        assert_eq!(to, [1f32.to_bits(), 2f32.to_bits()]);
    }
}
