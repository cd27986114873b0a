//! The register tile under every matrix product: up to `MR` rows × two vectors of columns, kept in registers.
//!
//! ```text
//! c[i][j] (+)= Σ_runs Σ_k a[i, run.a + k] · b[run.b + k][j]        0 ≤ i < rows ≤ MR, 0 ≤ j < NR
//! ```
//!
//! `b` is a panel of `NR` columns, row after row; `a` is broadcast value by value. Its rows lie either `A_PITCH` apart
//! with k contiguous ([`Side::Rows`]: copies of gathered rows) or its k-steps lie `K_PITCH` apart with rows contiguous
//! ([`Side::Steps`]: a reduction over pixels). The pitches are constants so that every address is one register plus a
//! displacement, and no power of two so that rows do not fight for the same cache sets.

use super::buffer::Shared;
use super::isa::{Isa, isa};

/// Most k-steps of one chunk.
pub const KC: usize = 256;
/// Distance between packed rows of [`Side::Rows`].
pub const A_PITCH: usize = KC + 16;
/// Distance between packed steps of [`Side::Steps`].
pub const K_PITCH: usize = 16;
/// Widest panel of any instruction set.
pub const MAX_NR: usize = 32;
/// Tallest tile of any instruction set.
pub const MAX_MR: usize = 14;

/// Consecutive k-steps: `len` of them, from column `a` of the packed rows and row `b` of the panel.
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
    rows: &'static [TileFn],
    steps: &'static [TileFn],
}

type TileFn = unsafe fn(&[Run], *const f32, *const f32, *mut f32, &[usize], Start);

#[derive(Clone, Copy)]
enum Start {
    Zero,
    Bias(*const f32),
    Sum,
}

impl Kernel {
    /// The kernel of the instruction set in use.
    pub fn get() -> &'static Self {
        match isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &x86::AVX512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &x86::AVX2,
            _ => &PORTABLE,
        }
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
        a: &[f32],
        b: &[f32],
        out: Shared<'_>,
        rows: &[usize],
        column: usize,
        columns: usize,
        onto: Onto<'_>,
    ) {
        let height = rows.len();
        let (last_row, row_pitch, step_pitch) = match side {
            Side::Rows => (height - 1, A_PITCH, 1),
            Side::Steps => (height - 1, 1, K_PITCH),
        };
        for run in runs {
            assert!(
                run.len > 0
                    && (run.a + run.len - 1) * step_pitch + last_row * row_pitch < a.len()
                    && (run.b + run.len) * self.nr <= b.len()
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

/// A vector register.
trait Simd {
    type V: Copy;
    const LANES: usize;
    unsafe fn zero() -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
}

/// The tile, written once for all instruction sets.
///
/// # Safety
/// Reads and writes as the module's equation says; the processor has the instructions of `S`.
#[inline(always)]
unsafe fn tile<S: Simd, const M: usize, const ROW: usize, const STEP: usize>(
    runs: &[Run],
    a: *const f32,
    b: *const f32,
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
                let b0 = S::load(b);
                let b1 = S::load(b.add(S::LANES));
                for (i, acc) in acc.iter_mut().enumerate() {
                    let x = S::splat(*a.add(i * ROW));
                    acc[0] = S::fma(x, b0, acc[0]);
                    acc[1] = S::fma(x, b1, acc[1]);
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

impl Simd for Plain {
    type V = [f32; 8];
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
    unsafe fn splat(x: f32) -> Self::V {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        if cfg!(target_arch = "aarch64") {
            std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
        } else {
            std::array::from_fn(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }
}

/// # Safety
/// As [`tile`].
unsafe fn plain<const M: usize, const ROW: usize, const STEP: usize>(
    runs: &[Run],
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    rows: &[usize],
    start: Start,
) {
    // SAFETY: the caller's.
    unsafe { tile::<Plain, M, ROW, STEP>(runs, a, b, c, rows, start) }
}

macro_rules! table {
    ($f:ident, $row:expr, $step:expr; $($m:literal)*) => {
        &[$($f::<$m, { $row }, { $step }> as TileFn),*]
    };
}

static PORTABLE: Kernel = Kernel {
    mr: 4,
    nr: 16,
    rows: table!(plain, A_PITCH, 1; 1 2 3 4),
    steps: table!(plain, 1, K_PITCH; 1 2 3 4),
};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{A_PITCH, K_PITCH, Kernel, Run, Simd, Start, TileFn, tile};

    macro_rules! simd {
        ($name:ident, $v:ty, $lanes:literal, $zero:ident, $load:ident, $store:ident, $splat:ident, $fma:ident, $add:ident) => {
            struct $name;
            // SAFETY of every call below: the caller of `tile` has the instructions and keeps the pointers in bounds.
            impl Simd for $name {
                type V = $v;
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
                unsafe fn splat(x: f32) -> $v {
                    // SAFETY: see above.
                    unsafe { $splat(x) }
                }
                #[inline(always)]
                unsafe fn fma(a: $v, b: $v, c: $v) -> $v {
                    // SAFETY: see above.
                    unsafe { $fma(a, b, c) }
                }
                #[inline(always)]
                unsafe fn add(a: $v, b: $v) -> $v {
                    // SAFETY: see above.
                    unsafe { $add(a, b) }
                }
            }
        };
    }

    simd!(
        Zmm,
        __m512,
        16,
        _mm512_setzero_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps
    );
    simd!(
        Ymm,
        __m256,
        8,
        _mm256_setzero_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps
    );

    macro_rules! compiled {
        ($name:ident, $simd:ident, $features:literal) => {
            /// # Safety
            /// As [`tile`].
            #[target_feature(enable = $features)]
            unsafe fn $name<const M: usize, const ROW: usize, const STEP: usize>(
                runs: &[Run],
                a: *const f32,
                b: *const f32,
                c: *mut f32,
                rows: &[usize],
                start: Start,
            ) {
                // SAFETY: the caller's.
                unsafe { tile::<$simd, M, ROW, STEP>(runs, a, b, c, rows, start) }
            }
        };
    }
    compiled!(avx512, Zmm, "avx512f,avx512vl,avx512bw,avx512dq,fma");
    compiled!(avx2, Ymm, "avx2,fma");

    pub static AVX512: Kernel = Kernel {
        mr: 14,
        nr: 32,
        rows: table!(avx512, A_PITCH, 1; 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        steps: table!(avx512, 1, K_PITCH; 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    };
    pub static AVX2: Kernel = Kernel {
        mr: 6,
        nr: 16,
        rows: table!(avx2, A_PITCH, 1; 1 2 3 4 5 6),
        steps: table!(avx2, 1, K_PITCH; 1 2 3 4 5 6),
    };
}
