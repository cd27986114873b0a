//! The register tile, compiled for every instruction set.
//!
//! Two generic bodies ([`tile`], [`finished`]) over a dozen vector operations; each set adds the operations, the heights that fit its registers,
//! and the features that the compiler may use. bf16 pairs are multiplied as they are (AVX-512 BF16) or widened first. Tiles of
//! AMX have a file of their own ([`super::amx`]).

use half::bf16;

use super::norm::rectify;
use super::tile::{A_PITCH, End, FinishFn, K_PITCH, KC, Kernel, Onto, Run, TileFn};
use super::value::Value;

/// A vector register of sums, and what is multiplied into it.
trait Simd {
    type V: Copy;
    /// Units as they are multiplied: as loaded, or both halves widened.
    type U: Copy;
    /// Values as they are kept.
    type Kept: Copy;
    const LANES: usize;
    unsafe fn zero() -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// As [`rectify`].
    unsafe fn rectify(v: Self::V) -> Self::V;
    /// Kept values as f32.
    unsafe fn get(from: *const Self::Kept) -> Self::V;
    /// Rounds and keeps two registers of values.
    unsafe fn put(to: *mut Self::Kept, low: Self::V, high: Self::V);
    unsafe fn units(from: *const u32) -> Self::U;
    unsafe fn splat(unit: u32) -> Self::U;
    /// c + a · b
    unsafe fn dot(a: Self::U, b: Self::U, c: Self::V) -> Self::V;
}

/// Adds one run's products to the sums of a tile; written once for all instruction sets. Rows lie `row` units apart, k-steps `STEP`.
///
/// # Safety
/// Reads as the equation of [`super::tile`] says; the processor has the instructions of `S`.
#[inline(always)]
unsafe fn multiply<S: Simd, const M: usize, const STEP: usize>(
    acc: &mut [[S::V; 2]; M],
    run: &Run,
    a: *const u32,
    row: usize,
    b: *const u32,
) {
    // SAFETY: the caller's.
    unsafe {
        // A pointer for every four rows: more would not stay in registers.
        let first = a.add(run.a * STEP);
        let mut a: [*const u32; M] = std::array::from_fn(|q| first.wrapping_add(4 * q * row));
        let mut b = b.add(run.b * 2 * S::LANES);
        for _ in 0..run.len {
            let b0 = S::units(b);
            let b1 = S::units(b.add(S::LANES));
            for (i, acc) in acc.iter_mut().enumerate() {
                let x = S::splat(*a[i / 4].add(i % 4 * row));
                acc[0] = S::dot(x, b0, acc[0]);
                acc[1] = S::dot(x, b1, acc[1]);
            }
            for a in &mut a[..M.div_ceil(4)] {
                *a = a.wrapping_add(STEP);
            }
            b = b.add(2 * S::LANES);
        }
    }
}

/// A tile whose sums go to memory.
///
/// # Safety
/// As [`multiply`]; `M` rows of a panel's width can be written from `c`, and read where the sums are added.
#[inline(always)]
unsafe fn tile<S: Simd, const M: usize, const ROW: usize, const STEP: usize>(
    runs: &[Run],
    a: *const u32,
    b: *const u32,
    c: *mut f32,
    rows: &[usize],
    onto: Onto,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [[S::zero(); 2]; M];
        for run in runs {
            multiply::<S, M, STEP>(&mut acc, run, a, ROW, b);
        }
        for (i, acc) in acc.iter().enumerate() {
            let c0 = c.add(*rows.get_unchecked(i));
            let c1 = c0.add(S::LANES);
            let (v0, v1) = match onto {
                Onto::Nothing => (acc[0], acc[1]),
                Onto::Sum => (S::add(S::load(c0), acc[0]), S::add(S::load(c1), acc[1])),
            };
            S::store(c0, v0);
            S::store(c1, v1);
        }
    }
}

/// A tile whose sums are finished as [`super::finish`] says, rounded and kept. Runs are summed by themselves up to [`KC`] steps: a sum of
/// sums rounds less than one long chain.
///
/// # Safety
/// As [`multiply`], with rows `pitch` apart; the addresses of `end` hold a panel's columns, and `M` rows of them can be written from
/// `end.to` and read from a residual.
#[inline(always)]
unsafe fn finished<S: Simd, const M: usize>(
    runs: &[Run],
    a: *const u32,
    pitch: usize,
    b: *const u32,
    end: &End,
    rows: &[usize],
) {
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [[S::zero(); 2]; M];
        let (mut before, mut steps) = (None, 0);
        for run in runs {
            if steps > 0 && steps + run.len > KC {
                before = Some(plus::<S, M>(before, acc));
                (acc, steps) = ([[S::zero(); 2]; M], 0);
            }
            multiply::<S, M, 1>(&mut acc, run, a, pitch, b);
            steps += run.len;
        }
        acc = plus::<S, M>(before, acc);
        // Loop after loop, each so short that the compiler unrolls it: sums then stay in registers.
        let (s0, s1) = (S::load(end.scale), S::load(end.scale.add(S::LANES)));
        for acc in &mut acc {
            *acc = [S::mul(acc[0], s0), S::mul(acc[1], s1)];
        }
        let (b0, b1) = (S::load(end.bias), S::load(end.bias.add(S::LANES)));
        for acc in &mut acc {
            *acc = [S::add(acc[0], b0), S::add(acc[1], b1)];
        }
        if !end.residual.is_null() {
            for (i, acc) in acc.iter_mut().enumerate() {
                let from = (end.residual.cast::<S::Kept>()).add(*rows.get_unchecked(i));
                let (r0, r1) = (S::get(from), S::get(from.add(S::LANES)));
                *acc = [S::add(acc[0], r0), S::add(acc[1], r1)];
            }
        }
        if end.relu {
            for acc in &mut acc {
                *acc = [S::rectify(acc[0]), S::rectify(acc[1])];
            }
        }
        for (i, [v0, v1]) in acc.into_iter().enumerate() {
            S::put(end.to.cast::<S::Kept>().add(*rows.get_unchecked(i)), v0, v1);
        }
    }
}

/// The sum of both tiles, or the second.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
unsafe fn plus<S: Simd, const M: usize>(
    before: Option<[[S::V; 2]; M]>,
    mut acc: [[S::V; 2]; M],
) -> [[S::V; 2]; M] {
    if let Some(before) = before {
        for (acc, before) in acc.iter_mut().zip(before) {
            for (sum, before) in acc.iter_mut().zip(before) {
                // SAFETY: the caller's.
                *sum = unsafe { S::add(before, *sum) };
            }
        }
    }
    acc
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
    ($name:ident, $u:ty, $kept:ty, $units:expr, $splat:expr, $dot:expr) => {
        impl Simd for $name {
            type V = [f32; 8];
            type U = $u;
            type Kept = $kept;
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
            unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
                std::array::from_fn(|i| a[i] * b[i])
            }
            #[inline(always)]
            unsafe fn rectify(v: Self::V) -> Self::V {
                v.map(rectify)
            }
            #[inline(always)]
            unsafe fn get(from: *const $kept) -> Self::V {
                // SAFETY: the caller's.
                unsafe { from.cast::<[$kept; 8]>().read_unaligned() }.map(Value::get)
            }
            #[inline(always)]
            unsafe fn put(to: *mut $kept, low: Self::V, high: Self::V) {
                let kept = [low, high].map(<$kept>::of_array);
                // SAFETY: the caller's.
                unsafe { to.cast::<[[$kept; 8]; 2]>().write_unaligned(kept) }
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
    f32,
    |units: [u32; 8]| units.map(f32::from_bits),
    |unit| [f32::from_bits(unit); 8],
    plain_fma
);
plain!(
    PlainWidened,
    [[f32; 8]; 2],
    bf16,
    halves,
    |unit| halves([unit; 8]),
    |a: [[f32; 8]; 2], b: [[f32; 8]; 2], c| plain_fma(a[1], b[1], plain_fma(a[0], b[0], c))
);

macro_rules! compiled {
    ($name:ident, $finished:ident, $simd:ident $(, $features:literal)?) => {
        /// # Safety
        /// As [`finished`].
        $(#[target_feature(enable = $features)])?
        unsafe fn $finished<const M: usize>(
            runs: &[Run],
            a: *const u32,
            pitch: usize,
            b: *const u32,
            end: &End,
            rows: &[usize],
        ) {
            // SAFETY: the caller's.
            unsafe { finished::<$simd, M>(runs, a, pitch, b, end, rows) }
        }

        /// # Safety
        /// As [`tile`].
        $(#[target_feature(enable = $features)])?
        unsafe fn $name<const M: usize, const ROW: usize, const STEP: usize>(
            runs: &[Run],
            a: *const u32,
            b: *const u32,
            c: *mut f32,
            rows: &[usize],
            onto: Onto,
        ) {
            // SAFETY: the caller's.
            unsafe { tile::<$simd, M, ROW, STEP>(runs, a, b, c, rows, onto) }
        }
    };
}

macro_rules! kernel {
    ($name:ident, $f:ident, $finished:ident, $nr:literal; $($m:literal)*) => {
        pub static $name: Kernel = Kernel {
            mr: [$($m),*].len(),
            nr: $nr,
            tiled: false,
            rows: &[$($f::<$m, A_PITCH, 1> as TileFn),*],
            steps: &[$($f::<$m, 1, K_PITCH> as TileFn),*],
            finished: &[$($finished::<$m> as FinishFn),*],
        };
    };
}

compiled!(plain, plain_finished, Plain);
compiled!(plain_widened, plain_widened_finished, PlainWidened);
kernel!(PORTABLE, plain, plain_finished, 16; 1 2 3 4);
kernel!(PORTABLE_WIDENED, plain_widened, plain_widened_finished, 16; 1 2 3 4);

#[cfg(target_arch = "x86_64")]
pub mod x86 {
    use std::arch::x86_64::*;

    use half::bf16;

    use super::{A_PITCH, End, FinishFn, K_PITCH, Kernel, Onto, Run, Simd, TileFn, finished, tile};

    macro_rules! simd {
        (
            $name:ident, $v:ty, $lanes:literal, $zero:ident, $load:ident, $store:ident, $add:ident, $mul:ident, $max:ident;
            $u:ty, $units:expr, $splat:expr, $dot:expr; $kept:ty, $get:expr, $put:expr
        ) => {
            struct $name;
            // SAFETY of every call below: the caller of `tile` has the instructions and keeps the pointers in bounds.
            impl Simd for $name {
                type V = $v;
                type U = $u;
                type Kept = $kept;
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
                unsafe fn mul(a: $v, b: $v) -> $v {
                    // SAFETY: see above.
                    unsafe { $mul(a, b) }
                }
                #[inline(always)]
                unsafe fn rectify(v: $v) -> $v {
                    // SAFETY: see above. Of a NaN and a number, or of two zeros, the instruction gives the second.
                    unsafe { $max($zero(), v) }
                }
                #[inline(always)]
                unsafe fn get(from: *const $kept) -> $v {
                    // SAFETY: see above.
                    unsafe { $get(from) }
                }
                #[inline(always)]
                unsafe fn put(to: *mut $kept, low: $v, high: $v) {
                    // SAFETY: see above.
                    unsafe { $put(to, low, high) }
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
        Zmm, __m512, 16, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_mul_ps, _mm512_max_ps;
        __m512,
        |from: *const u32| _mm512_loadu_ps(from.cast()),
        |unit| _mm512_set1_ps(f32::from_bits(unit)),
        |a, b, c| _mm512_fmadd_ps(a, b, c);
        f32,
        |from| _mm512_loadu_ps(from),
        |to: *mut f32, low, high| {
            _mm512_storeu_ps(to, low);
            _mm512_storeu_ps(to.add(16), high);
        }
    );
    simd!(
        Ymm, __m256, 8, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_mul_ps, _mm256_max_ps;
        __m256,
        |from: *const u32| _mm256_loadu_ps(from.cast()),
        |unit| _mm256_set1_ps(f32::from_bits(unit)),
        |a, b, c| _mm256_fmadd_ps(a, b, c);
        f32,
        |from| _mm256_loadu_ps(from),
        |to: *mut f32, low, high| {
            _mm256_storeu_ps(to, low);
            _mm256_storeu_ps(to.add(8), high);
        }
    );
    simd!(
        ZmmPairs, __m512, 16, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_mul_ps, _mm512_max_ps;
        __m512i,
        |from: *const u32| _mm512_loadu_si512(from.cast()),
        |unit: u32| _mm512_set1_epi32(unit as i32),
        |a: __m512i, b: __m512i, c| {
            _mm512_dpbf16_ps(c, std::mem::transmute::<__m512i, __m512bh>(a), std::mem::transmute::<__m512i, __m512bh>(b))
        };
        bf16,
        |from| zmm_widened(from),
        |to: *mut bf16, low, high| {
            // To the nearest, ties to even; what is below f32's normal numbers becomes 0, as in the product.
            let kept = _mm512_cvtne2ps_pbh(high, low);
            _mm512_storeu_si512(to.cast(), std::mem::transmute::<__m512bh, __m512i>(kept));
        }
    );
    simd!(
        ZmmWidened, __m512, 16, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_mul_ps, _mm512_max_ps;
        [__m512; 2],
        |from: *const u32| zmm_halves(_mm512_loadu_si512(from.cast())),
        |unit: u32| zmm_halves(_mm512_set1_epi32(unit as i32)),
        |a: [__m512; 2], b: [__m512; 2], c| {
            _mm512_fmadd_ps(a[1], b[1], _mm512_fmadd_ps(a[0], b[0], c))
        };
        bf16,
        |from| zmm_widened(from),
        |to: *mut bf16, low, high| {
            let kept = [low, high].map(|v| _mm512_cvtepi32_epi16(zmm_rounded(v)));
            to.cast::<[__m256i; 2]>().write_unaligned(kept);
        }
    );
    simd!(
        YmmWidened, __m256, 8, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_mul_ps, _mm256_max_ps;
        [__m256; 2],
        |from: *const u32| ymm_halves(_mm256_loadu_si256(from.cast())),
        |unit: u32| ymm_halves(_mm256_set1_epi32(unit as i32)),
        |a: [__m256; 2], b: [__m256; 2], c| {
            _mm256_fmadd_ps(a[1], b[1], _mm256_fmadd_ps(a[0], b[0], c))
        };
        bf16,
        |from: *const bf16| {
            let values = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(values))
        },
        |to: *mut bf16, low, high| {
            // Packed within the halves of a register, and put in order.
            let kept = _mm256_packus_epi32(ymm_rounded(low), ymm_rounded(high));
            _mm256_storeu_si256(to.cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(kept));
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

    /// bf16 values as f32.
    ///
    /// # Safety
    /// The processor has AVX-512F, and sixteen values can be read.
    #[inline(always)]
    unsafe fn zmm_widened(from: *const bf16) -> __m512 {
        // SAFETY: the caller's.
        unsafe {
            let values = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(values))
        }
    }

    /// The nearest bf16 (ties to even); what is below f32's normal numbers becomes 0.
    ///
    /// # Safety
    /// The processor has AVX-512F and AVX512-BF16.
    #[inline(always)]
    pub unsafe fn rounded(x: &[f32; 16]) -> [bf16; 16] {
        // SAFETY: the caller's; both types are sixteen times sixteen bits.
        unsafe {
            let kept = _mm512_cvtneps_pbh(_mm512_loadu_ps(x.as_ptr()));
            std::mem::transmute::<__m256bh, [bf16; 16]>(kept)
        }
    }

    /// The bits of the nearest bf16 in the lower half of each number, as [`super::super::value`] rounds.
    ///
    /// # Safety
    /// The processor has AVX-512F.
    #[inline(always)]
    unsafe fn zmm_rounded(v: __m512) -> __m512i {
        // SAFETY: the caller's.
        unsafe {
            let bits = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
            let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, half));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc0))
        }
    }

    /// # Safety
    /// As [`zmm_rounded`], with AVX2.
    #[inline(always)]
    unsafe fn ymm_rounded(v: __m256) -> __m256i {
        // SAFETY: the caller's.
        unsafe {
            let bits = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let rounded = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, half));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), nan)
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

    compiled!(
        avx512,
        avx512_finished,
        Zmm,
        "avx512f,avx512vl,avx512bw,avx512dq,fma"
    );
    compiled!(
        avx512_bf16,
        avx512_bf16_finished,
        ZmmPairs,
        "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,fma"
    );
    compiled!(
        avx512_widened,
        avx512_widened_finished,
        ZmmWidened,
        "avx512f,avx512vl,avx512bw,avx512dq,fma"
    );
    compiled!(avx2, avx2_finished, Ymm, "avx2,fma");
    compiled!(avx2_widened, avx2_widened_finished, YmmWidened, "avx2,fma");

    kernel!(AVX512, avx512, avx512_finished, 32; 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    kernel!(AVX512_BF16, avx512_bf16, avx512_bf16_finished, 32; 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    kernel!(AVX512_WIDENED, avx512_widened, avx512_widened_finished, 32; 1 2 3 4 5 6 7 8 9 10 11 12);
    kernel!(AVX2, avx2, avx2_finished, 16; 1 2 3 4 5 6);
    kernel!(AVX2_WIDENED, avx2_widened, avx2_widened_finished, 16; 1 2 3 4);
}
