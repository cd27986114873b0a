//! The register tile under every matrix product: up to `MR` rows × `NR` columns, kept in registers.
//!
//! ```text
//! c[i][j] (+)= Σ_runs Σ_k a[i, run.a + k] · b[run.b + k][j]        0 ≤ i < rows ≤ MR, 0 ≤ j < NR
//! ```
//!
//! Both operands are made of 32-bit units, one f32 or two bf16 ([`super::value`]); a product of units is one
//! multiplication or two, summed in f32. `b` is a panel of `NR` columns, row after row; `a` is broadcast unit by unit.
//! Its rows lie either `A_PITCH` apart with k contiguous ([`Side::Rows`]: copies of gathered rows) or its k-steps lie
//! `K_PITCH` apart with rows contiguous ([`Side::Steps`]: a reduction over pixels). The pitches are constants so that
//! every address is one register plus a displacement, and no power of two so that rows do not fight for the same cache
//! sets.

use super::buffer::Shared;
use super::isa::{Isa, isa};
use super::value::Value;

/// Most k-steps (in units) of one chunk.
pub const KC: usize = 256;
/// Distance between packed rows of [`Side::Rows`].
pub const A_PITCH: usize = KC + 16;
/// Distance between packed steps of [`Side::Steps`].
pub const K_PITCH: usize = 16;
/// Widest panel of any instruction set.
pub const MAX_NR: usize = 32;
/// Tallest tile of any instruction set.
pub const MAX_MR: usize = 32;
/// Most rows that a task packs at a time: a multiple of most tiles' heights, or nearly.
pub const MAX_ROWS: usize = 140;

/// Consecutive k-steps: `len` units, from column `a` of the packed rows and row `b` of the panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub a: usize,
    pub b: usize,
    pub len: usize,
}

/// How the broadcast operand is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `a[i · A_PITCH + k]`
    Rows,
    /// `a[k · K_PITCH + i]`
    Steps,
}

/// What happens to the value that stands in c.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Onto<'a> {
    /// Overwritten.
    Nothing,
    /// Overwritten, starting from this bias, one value per column of the panel.
    Bias(&'a [f32]),
    /// Added to.
    Sum,
}

/// Sizes and functions of one instruction set.
pub struct Kernel {
    /// Tallest tile.
    pub mr: usize,
    /// Width of a panel.
    pub nr: usize,
    /// Whether it multiplies tiles of 16 units, which both operands must pad with zeros.
    pub tiled: bool,
    pub(super) rows: &'static [TileFn],
    pub(super) steps: &'static [TileFn],
}

pub(super) type TileFn = unsafe fn(&[Run], *const u32, *const u32, *mut f32, &[usize], Start);

/// What an accumulator starts from.
#[derive(Clone, Copy)]
pub(super) enum Start {
    Zero,
    Bias(*const f32),
    Sum,
}

impl Kernel {
    /// The kernel of the instruction set in use for values of type `T`.
    pub fn of<T: Value>() -> &'static Self {
        match (T::PER_UNIT, isa()) {
            #[cfg(target_arch = "x86_64")]
            (1, Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx) => &x86::AVX512,
            #[cfg(target_arch = "x86_64")]
            (1, Isa::Avx2) => &x86::AVX2,
            (1, _) => &PORTABLE,
            #[cfg(target_arch = "x86_64")]
            (_, Isa::Amx) => &super::amx::AMX,
            #[cfg(target_arch = "x86_64")]
            (_, Isa::Avx512Bf16) => &x86::AVX512_BF16,
            #[cfg(target_arch = "x86_64")]
            (_, Isa::Avx512) => &x86::AVX512_WIDENED,
            #[cfg(target_arch = "x86_64")]
            (_, Isa::Avx2) => &x86::AVX2_WIDENED,
            (_, _) => &PORTABLE_WIDENED,
        }
    }

    /// The kernel for products that cannot be padded to tiles: the same panels, any length of a run.
    pub fn untiled(&'static self) -> &'static Self {
        match self.tiled {
            #[cfg(target_arch = "x86_64")]
            true => &x86::AVX512_BF16,
            _ => self,
        }
    }

    /// Rows that a task packs at a time: some tiles.
    pub fn block_rows(&self) -> usize {
        MAX_ROWS / self.mr * self.mr
    }

    /// What a thread needs before it calls [`run`](Self::run), for as long as it lives.
    pub fn enter(&self) -> Entered {
        #[cfg(target_arch = "x86_64")]
        if self.tiled {
            super::amx::configure();
        }
        Entered(self.tiled)
    }

    /// Computes one tile into `out`: row i at `rows[i] + column`, `columns` values wide.
    ///
    /// # Safety
    /// No other task touches those values meanwhile; with [`Onto::Sum`] they have been written before.
    #[allow(clippy::too_many_arguments)]
    #[inline]
    pub unsafe fn run(
        &self,
        side: Side,
        runs: &[Run],
        a: &[u32],
        b: &[u32],
        out: Shared<'_, f32>,
        rows: &[usize],
        column: usize,
        columns: usize,
        onto: Onto<'_>,
    ) {
        let height = rows.len();
        // A tiled kernel reads whole tiles: sixteen rows, or two times sixteen, and sixteen units.
        let (last_row, multiple) = match self.tiled {
            true => (height.next_multiple_of(16) - 1, 16),
            false => (height - 1, 1),
        };
        let (row_pitch, step_pitch) = match side {
            Side::Rows => (A_PITCH, 1),
            Side::Steps => (1, K_PITCH),
        };
        for run in runs {
            let len = run.len.next_multiple_of(multiple);
            assert!(
                len > 0
                    && (run.a + len - 1) * step_pitch + last_row * row_pitch < a.len()
                    && (run.b + len) * self.nr <= b.len()
            );
        }
        for row in rows {
            assert!(row + column + columns <= out.len());
        }
        let functions = match side {
            Side::Rows => self.rows,
            Side::Steps => self.steps,
        };
        let function = functions[height - 1];
        if columns == self.nr {
            let start = match onto {
                Onto::Nothing => Start::Zero,
                Onto::Sum => Start::Sum,
                Onto::Bias(bias) => {
                    assert!(bias.len() >= self.nr);
                    Start::Bias(bias.as_ptr())
                }
            };
            // SAFETY: the asserts above keep every read inside a, b and bias and every write inside `out`; the
            // instruction set was detected; exclusiveness is the caller's promise.
            unsafe {
                let c = out.as_ptr().add(column);
                function(runs, a.as_ptr(), b.as_ptr(), c, rows, start);
            }
        } else {
            let mut tile = [0f32; MAX_MR * MAX_NR];
            let mut offsets = [0usize; MAX_MR];
            for (i, offset) in offsets.iter_mut().enumerate() {
                *offset = i * self.nr;
            }
            // SAFETY: as above, and the tile has room for `mr · nr` values.
            unsafe {
                let (a, b) = (a.as_ptr(), b.as_ptr());
                function(
                    runs,
                    a,
                    b,
                    tile.as_mut_ptr(),
                    &offsets[..height],
                    Start::Zero,
                );
            }
            for (i, row) in rows.iter().enumerate() {
                let from = &tile[i * self.nr..][..columns];
                // SAFETY: inside `out` by the asserts; exclusive by the caller's promise.
                let to = unsafe { out.part(row + column, row + column + columns) };
                match onto {
                    Onto::Nothing => {
                        to.write_copy_of_slice(from);
                    }
                    Onto::Sum => {
                        // SAFETY: written before, by the caller's promise.
                        let to = unsafe { to.assume_init_mut() };
                        to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
                    }
                    Onto::Bias(bias) => {
                        for ((t, f), b) in to.iter_mut().zip(from).zip(&bias[..columns]) {
                            t.write(f + b);
                        }
                    }
                }
            }
        }
    }
}

/// What [`Kernel::enter`] set up; undone when dropped.
#[must_use]
pub struct Entered(bool);

impl Drop for Entered {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        if self.0 {
            super::amx::release();
        }
    }
}

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
        pub(super) static $name: Kernel = Kernel {
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
mod x86 {
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
