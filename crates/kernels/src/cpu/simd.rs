//! The register tile, compiled for every instruction set.
//!
//! One generic body ([`tile`]) over a few vector operations; each set adds the operations, the heights that fit its registers,
//! and the features that the compiler may use. bf16 pairs are multiplied as they are (AVX-512 BF16) or widened first. Tiles of
//! AMX have a file of their own ([`super::amx`]).

use super::tile::{A_PITCH, K_PITCH, Kernel, Run, Start, TileFn};

/// A vector register of sums, and what is multiplied into it.
trait Simd {
    type V: Copy;
    /// Units as they are multiplied: as loaded, or both halves widened.
    type U: Copy;
    const LANES: usize;
    unsafe fn zero() -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn units(from: *const u32) -> Self::U;
    unsafe fn splat(unit: u32) -> Self::U;
    /// c + a · b
    unsafe fn dot(a: Self::U, b: Self::U, c: Self::V) -> Self::V;
}

/// The tile, written once for all instruction sets.
///
/// # Safety
/// Reads and writes as the module's equation says; the processor has the instructions of `S`.
#[inline(always)]
unsafe fn tile<S: Simd, const M: usize, const ROW: usize, const STEP: usize>(
    runs: &[Run],
    a: *const u32,
    b: *const u32,
    c: *mut f32,
    rows: &[usize],
    start: Start,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [[S::zero(); 2]; M];
        for run in runs {
            let mut a = a.add(run.a * STEP);
            let mut b = b.add(run.b * 2 * S::LANES);
            for _ in 0..run.len {
                let b0 = S::units(b);
                let b1 = S::units(b.add(S::LANES));
                for (i, acc) in acc.iter_mut().enumerate() {
                    let x = S::splat(*a.add(i * ROW));
                    acc[0] = S::dot(x, b0, acc[0]);
                    acc[1] = S::dot(x, b1, acc[1]);
                }
                a = a.add(STEP);
                b = b.add(2 * S::LANES);
            }
        }
        for (i, acc) in acc.iter().enumerate() {
            let c0 = c.add(*rows.get_unchecked(i));
            let c1 = c0.add(S::LANES);
            let (v0, v1) = match start {
                Start::Zero => (acc[0], acc[1]),
                Start::Bias(bias) => (
                    S::add(S::load(bias), acc[0]),
                    S::add(S::load(bias.add(S::LANES)), acc[1]),
                ),
                Start::Sum => (S::add(S::load(c0), acc[0]), S::add(S::load(c1), acc[1])),
            };
            S::store(c0, v0);
            S::store(c1, v1);
        }
    }
}

/// Eight lanes of plain Rust.
struct Plain;
/// The same for bf16 pairs.
struct PlainWidened;

#[inline(always)]
fn plain_fma(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
    if cfg!(target_arch = "aarch64") {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    } else {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
}

macro_rules! plain {
    ($name:ident, $u:ty, $units:expr, $splat:expr, $dot:expr) => {
        impl Simd for $name {
            type V = [f32; 8];
            type U = $u;
            const LANES: usize = 8;
            #[inline(always)]
            unsafe fn zero() -> Self::V {
                [0.0; 8]
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self::V {
                // SAFETY: the caller's.
                unsafe { from.cast::<[f32; 8]>().read_unaligned() }
            }
            #[inline(always)]
            unsafe fn store(to: *mut f32, v: Self::V) {
                // SAFETY: the caller's.
                unsafe { to.cast::<[f32; 8]>().write_unaligned(v) }
            }
            #[inline(always)]
            unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
                std::array::from_fn(|i| a[i] + b[i])
            }
            #[inline(always)]
            unsafe fn units(from: *const u32) -> Self::U {
                // SAFETY: the caller's.
                $units(unsafe { from.cast::<[u32; 8]>().read_unaligned() })
            }
            #[inline(always)]
            unsafe fn splat(unit: u32) -> Self::U {
                $splat(unit)
            }
            #[inline(always)]
            unsafe fn dot(a: Self::U, b: Self::U, c: Self::V) -> Self::V {
                $dot(a, b, c)
            }
        }
    };
}

#[inline(always)]
fn halves(units: [u32; 8]) -> [[f32; 8]; 2] {
    [
        units.map(|u| f32::from_bits(u << 16)),
        units.map(|u| f32::from_bits(u & 0xffff_0000)),
    ]
}

plain!(
    Plain,
    [f32; 8],
    |units: [u32; 8]| units.map(f32::from_bits),
    |unit| [f32::from_bits(unit); 8],
    plain_fma
);
plain!(
    PlainWidened,
    [[f32; 8]; 2],
    halves,
    |unit| halves([unit; 8]),
    |a: [[f32; 8]; 2], b: [[f32; 8]; 2], c| plain_fma(a[1], b[1], plain_fma(a[0], b[0], c))
);

macro_rules! compiled {
    ($name:ident, $simd:ident $(, $features:literal)?) => {
        /// # Safety
        /// As [`tile`].
        $(#[target_feature(enable = $features)])?
        unsafe fn $name<const M: usize, const ROW: usize, const STEP: usize>(
            runs: &[Run],
            a: *const u32,
            b: *const u32,
            c: *mut f32,
            rows: &[usize],
            start: Start,
        ) {
            // SAFETY: the caller's.
            unsafe { tile::<$simd, M, ROW, STEP>(runs, a, b, c, rows, start) }
        }
    };
}

macro_rules! kernel {
    ($name:ident, $f:ident, $nr:literal; $($m:literal)*) => {
        pub static $name: Kernel = Kernel {
            mr: [$($m),*].len(),
            nr: $nr,
            tiled: false,
            rows: &[$($f::<$m, A_PITCH, 1> as TileFn),*],
            steps: &[$($f::<$m, 1, K_PITCH> as TileFn),*],
        };
    };
}

compiled!(plain, Plain);
compiled!(plain_widened, PlainWidened);
kernel!(PORTABLE, plain, 16; 1 2 3 4);
kernel!(PORTABLE_WIDENED, plain_widened, 16; 1 2 3 4);

#[cfg(target_arch = "x86_64")]
pub mod x86 {
    use std::arch::x86_64::*;

    use super::{A_PITCH, K_PITCH, Kernel, Run, Simd, Start, TileFn, tile};

    macro_rules! simd {
        (
            $name:ident, $v:ty, $lanes:literal, $zero:ident, $load:ident, $store:ident, $add:ident;
            $u:ty, $units:expr, $splat:expr, $dot:expr
        ) => {
            struct $name;
            // SAFETY of every call below: the caller of `tile` has the instructions and keeps the pointers in bounds.
            impl Simd for $name {
                type V = $v;
                type U = $u;
                const LANES: usize = $lanes;
                #[inline(always)]
                unsafe fn zero() -> $v {
                    // SAFETY: see above.
                    unsafe { $zero() }
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> $v {
                    // SAFETY: see above.
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn store(to: *mut f32, v: $v) {
                    // SAFETY: see above.
                    unsafe { $store(to, v) }
                }
                #[inline(always)]
                unsafe fn add(a: $v, b: $v) -> $v {
                    // SAFETY: see above.
                    unsafe { $add(a, b) }
                }
                #[inline(always)]
                unsafe fn units(from: *const u32) -> $u {
                    // SAFETY: see above.
                    unsafe { $units(from) }
                }
                #[inline(always)]
                unsafe fn splat(unit: u32) -> $u {
                    // SAFETY: see above.
                    unsafe { $splat(unit) }
                }
                #[inline(always)]
                unsafe fn dot(a: $u, b: $u, c: $v) -> $v {
                    // SAFETY: see above.
                    unsafe { $dot(a, b, c) }
                }
            }
        };
    }

    simd!(
        Zmm, __m512, 16, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps;
        __m512,
        |from: *const u32| _mm512_loadu_ps(from.cast()),
        |unit| _mm512_set1_ps(f32::from_bits(unit)),
        |a, b, c| _mm512_fmadd_ps(a, b, c)
    );
    simd!(
        Ymm, __m256, 8, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps;
        __m256,
        |from: *const u32| _mm256_loadu_ps(from.cast()),
        |unit| _mm256_set1_ps(f32::from_bits(unit)),
        |a, b, c| _mm256_fmadd_ps(a, b, c)
    );
    simd!(
        ZmmPairs, __m512, 16, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps;
        __m512i,
        |from: *const u32| _mm512_loadu_si512(from.cast()),
        |unit: u32| _mm512_set1_epi32(unit as i32),
        |a: __m512i, b: __m512i, c| {
            _mm512_dpbf16_ps(c, std::mem::transmute::<__m512i, __m512bh>(a), std::mem::transmute::<__m512i, __m512bh>(b))
        }
    );
    simd!(
        ZmmWidened, __m512, 16, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps;
        [__m512; 2],
        |from: *const u32| zmm_halves(_mm512_loadu_si512(from.cast())),
        |unit: u32| zmm_halves(_mm512_set1_epi32(unit as i32)),
        |a: [__m512; 2], b: [__m512; 2], c| {
            _mm512_fmadd_ps(a[1], b[1], _mm512_fmadd_ps(a[0], b[0], c))
        }
    );
    simd!(
        YmmWidened, __m256, 8, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps;
        [__m256; 2],
        |from: *const u32| ymm_halves(_mm256_loadu_si256(from.cast())),
        |unit: u32| ymm_halves(_mm256_set1_epi32(unit as i32)),
        |a: [__m256; 2], b: [__m256; 2], c| {
            _mm256_fmadd_ps(a[1], b[1], _mm256_fmadd_ps(a[0], b[0], c))
        }
    );

    /// # Safety
    /// The processor has AVX-512F.
    #[inline(always)]
    unsafe fn zmm_halves(units: __m512i) -> [__m512; 2] {
        // SAFETY: the caller's.
        unsafe {
            let high = _mm512_and_si512(units, _mm512_set1_epi32(0xffff_0000u32 as i32));
            [
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(units)),
                _mm512_castsi512_ps(high),
            ]
        }
    }

    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn ymm_halves(units: __m256i) -> [__m256; 2] {
        // SAFETY: the caller's.
        unsafe {
            let high = _mm256_and_si256(units, _mm256_set1_epi32(0xffff_0000u32 as i32));
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(units)),
                _mm256_castsi256_ps(high),
            ]
        }
    }

    compiled!(avx512, Zmm, "avx512f,avx512vl,avx512bw,avx512dq,fma");
    compiled!(
        avx512_bf16,
        ZmmPairs,
        "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,fma"
    );
    compiled!(
        avx512_widened,
        ZmmWidened,
        "avx512f,avx512vl,avx512bw,avx512dq,fma"
    );
    compiled!(avx2, Ymm, "avx2,fma");
    compiled!(avx2_widened, YmmWidened, "avx2,fma");

    kernel!(AVX512, avx512, 32; 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    kernel!(AVX512_BF16, avx512_bf16, 32; 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    kernel!(AVX512_WIDENED, avx512_widened, 32; 1 2 3 4 5 6 7 8 9 10 11 12);
    kernel!(AVX2, avx2, 16; 1 2 3 4 5 6);
    kernel!(AVX2_WIDENED, avx2_widened, 16; 1 2 3 4);
}
