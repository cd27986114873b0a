//! The register tile under every matrix product: up to `MR` rows × `NR` columns, kept in registers.
//!
//! ```text
//! c[i][j] (+)= Σ_runs Σ_k a[i, run.a + k] · b[run.b + k][j]        0 ≤ i < rows ≤ MR, 0 ≤ j < NR
//! ```
//!
//! Both operands are made of 32-bit units, one f32 or two bf16 ([`super::value`]); a product of units is one
//! multiplication or two, summed in f32. `b` is a panel of `NR` columns, row after row; `a` is broadcast unit by unit.
//! Its rows lie some pitch apart with k contiguous ([`Side::Rows`]: rows of pixels, or copies of gathered ones, `A_PITCH` apart), or its
//! k-steps lie `K_PITCH` apart with rows contiguous ([`Side::Steps`]: a reduction over pixels). `A_PITCH` is no power of two, so that rows
//! do not fight for the same cache sets.
//!
//! Sums end in memory, to be added to ([`Kernel::run`]), or are complete: then they are finished as [`super::finish`] says and rounded before they
//! leave the registers ([`Kernel::finish`]).

use super::buffer::Shared;
use super::finish::{Finish, fetch_rows};
use super::isa::{Isa, isa};
use super::simd;
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
pub enum Onto {
    /// Overwritten.
    Nothing,
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
    /// Of [`Side::Rows`], finished in registers; none where sums must pass through memory anyway.
    pub(super) finished: &'static [FinishFn],
}

pub(super) type TileFn = unsafe fn(&[Run], *const u32, *const u32, *mut f32, &[usize], Onto);
pub(super) type FinishFn = unsafe fn(&[Run], *const u32, usize, *const u32, &End, &[usize]);

/// Where finished sums go, for one panel: addresses of its first column, whose values are of the kernel's type.
pub(super) struct End {
    pub to: *mut (),
    pub scale: *const f32,
    pub bias: *const f32,
    /// Null where nothing is added.
    pub residual: *const (),
    pub relu: bool,
}

impl Kernel {
    /// The kernel of the instruction set in use for values of type `T`.
    pub fn of<T: Value>() -> &'static Self {
        match (T::PER_UNIT, isa()) {
            #[cfg(target_arch = "x86_64")]
            (1, Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx) => &simd::x86::AVX512,
            #[cfg(target_arch = "x86_64")]
            (1, Isa::Avx2) => &simd::x86::AVX2,
            (1, _) => &simd::PORTABLE,
            #[cfg(target_arch = "x86_64")]
            (_, Isa::Amx) => &super::amx::AMX,
            #[cfg(target_arch = "x86_64")]
            (_, Isa::Avx512Bf16) => &simd::x86::AVX512_BF16,
            #[cfg(target_arch = "x86_64")]
            (_, Isa::Avx512) => &simd::x86::AVX512_WIDENED,
            #[cfg(target_arch = "x86_64")]
            (_, Isa::Avx2) => &simd::x86::AVX2_WIDENED,
            (_, _) => &simd::PORTABLE_WIDENED,
        }
    }

    /// The kernel for products that cannot be padded to tiles: the same panels, any length of a run.
    pub fn untiled(&'static self) -> &'static Self {
        match self.tiled {
            #[cfg(target_arch = "x86_64")]
            true => &simd::x86::AVX512_BF16,
            _ => self,
        }
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
    /// No other task touches those values meanwhile; with [`Onto::Sum`] they have been written before. The thread has
    /// [entered](Self::enter).
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
        onto: Onto,
    ) {
        let (row, step) = match side {
            Side::Rows => (A_PITCH, 1),
            Side::Steps => (1, K_PITCH),
        };
        self.check(runs, (a, row, step), b, rows.len());
        for row in rows {
            assert!(row + column + columns <= out.len());
        }
        let function = match side {
            Side::Rows => self.rows[rows.len() - 1],
            Side::Steps => self.steps[rows.len() - 1],
        };
        if columns == self.nr {
            // SAFETY: the checks above keep every read inside a and b and every write inside `out`; the instruction set was
            // detected; exclusiveness is the caller's promise.
            unsafe {
                let c = out.as_ptr().add(column);
                function(runs, a.as_ptr(), b.as_ptr(), c, rows, onto);
            }
        } else {
            let mut tile = [0f32; MAX_MR * MAX_NR];
            let offsets = self.offsets();
            // SAFETY: as above, and the tile has room for `mr · nr` values.
            unsafe {
                let (a, b, offsets) = (a.as_ptr(), b.as_ptr(), &offsets[..rows.len()]);
                function(runs, a, b, tile.as_mut_ptr(), offsets, Onto::Nothing);
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
                }
            }
        }
    }

    /// Computes one tile of [`Side::Rows`], finishes its sums and stores them as values: row i at `rows[i] + column`, `columns` wide.
    /// Rows of a lie the given pitch apart; `A_PITCH` where sums pass through memory, with columns fewer than a panel's or a kernel that
    /// has no other way. `affine` is [`Finish::affine`] of these columns. With `onto`, they are added to what is there, and nothing else
    /// may be asked for.
    ///
    /// # Safety
    /// The kernel is that of `T`, and the thread has [entered](Self::enter) it. No other task touches those values meanwhile, and rows do
    /// not overlap; where the sums are added to what is there, it has been written before.
    #[allow(clippy::too_many_arguments)]
    #[inline]
    pub unsafe fn finish<T: Value>(
        &self,
        runs: &[Run],
        (a, pitch): (&[u32], usize),
        b: &[u32],
        finish: &Finish<'_, T>,
        affine: &[[f32; MAX_NR]; 2],
        out: Shared<'_, T>,
        rows: &[usize],
        column: usize,
        columns: usize,
        onto: bool,
    ) {
        debug_assert!(!onto || finish.is_nothing());
        fetch_rows(out.as_ptr(), rows, column, columns);
        if let Some(residual) = finish.residual {
            fetch_rows(residual.as_ptr(), rows, column, columns);
        }
        if columns == self.nr && !self.finished.is_empty() {
            self.check(runs, (a, pitch, 1), b, rows.len());
            let least = (finish.residual).map_or(out.len(), |all| all.len().min(out.len()));
            for row in rows {
                assert!(row + column + columns <= least);
            }
            // SAFETY: the checks above keep every read inside a, b and the residual and every write inside `out`; the rest is the
            // caller's promise.
            unsafe {
                let to = out.as_ptr().add(column);
                let end = End {
                    to: to.cast(),
                    scale: affine[0].as_ptr(),
                    bias: affine[1].as_ptr(),
                    residual: match finish.residual {
                        _ if onto => to.cast_const().cast(),
                        Some(all) => all.as_ptr().add(column).cast(),
                        None => std::ptr::null(),
                    },
                    relu: finish.relu,
                };
                self.finished[rows.len() - 1](runs, a.as_ptr(), pitch, b.as_ptr(), &end, rows);
            }
            return;
        }
        assert_eq!(pitch, A_PITCH);
        let mut tile = [0f32; MAX_MR * MAX_NR];
        let offsets = self.offsets();
        let mut before = Onto::Nothing;
        for runs in parts(runs) {
            let (out, offsets) = (Shared::new(&mut tile), &offsets[..rows.len()]);
            // SAFETY: the tile is this call's, and the first part does not read it.
            unsafe { self.run(Side::Rows, runs, a, b, out, offsets, 0, self.nr, before) };
            before = Onto::Sum;
        }
        // SAFETY: the caller's.
        unsafe { finish.store(&tile, self.nr, affine, rows, column, columns, onto, out) };
    }

    /// Rows of a tile that lie one after the other.
    fn offsets(&self) -> [usize; MAX_MR] {
        std::array::from_fn(|i| i * self.nr)
    }

    /// Panics unless the product reads inside a and b.
    #[inline(always)]
    fn check(
        &self,
        runs: &[Run],
        (a, row, step): (&[u32], usize, usize),
        b: &[u32],
        height: usize,
    ) {
        // A tiled kernel reads whole tiles: sixteen rows, or two times sixteen, and sixteen units.
        let (last_row, multiple) = match self.tiled {
            true => (height.next_multiple_of(16) - 1, 16),
            false => (height - 1, 1),
        };
        for run in runs {
            let len = run.len.next_multiple_of(multiple);
            assert!(
                len > 0
                    && (run.a + len - 1) * step + last_row * row < a.len()
                    && (run.b + len) * self.nr <= b.len()
            );
        }
    }
}

/// Runs that a tiled kernel takes at a time: each but a lone one is at least a tile long.
pub(super) const MOST_RUNS: usize = KC / 16;

/// At least one part: without any run, the product is 0.
fn parts(runs: &[Run]) -> impl Iterator<Item = &[Run]> {
    let (first, rest) = runs.split_at(runs.len().min(MOST_RUNS));
    std::iter::once(first).chain(rest.chunks(MOST_RUNS))
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

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::cpu::value::unit;

    /// Small whole numbers: every sum of products is exact, so both ways must give the same bits.
    fn numbers(seed: usize) -> impl Iterator<Item = f32> {
        (0..).map(move |i| ((i * 7 + i / 5 + seed * 3) % 9) as f32 - 4.0)
    }

    fn finished_in_registers_as_in_memory<T: Value>() {
        let kernel = Kernel::of::<T>().untiled(); // tiles of AMX have nothing to finish in
        let in_memory = Kernel {
            finished: &[],
            ..*kernel
        };
        // More runs than are taken at a time, far apart in the panel, and no run at all.
        let many: Vec<Run> = (0..2 * MOST_RUNS + 3)
            .map(|i| Run {
                a: 2 * i,
                b: 3 * i,
                len: 2,
            })
            .collect();
        let units = |seed, count| -> Vec<u32> {
            let mut numbers = numbers(seed);
            let mut next = move || numbers.next().unwrap_or(0.0);
            (0..count).map(|_| unit::<T>(next(), next())).collect()
        };
        let a = units(1, kernel.mr * A_PITCH);
        let b = units(2, 3 * many.len() * kernel.nr);
        let pitch = kernel.nr + 5;
        let values: Vec<T> = (numbers(3).take(kernel.mr * pitch))
            .map(|x| T::of(0.25 * x))
            .collect();
        let (scale, bias): (Vec<f32>, Vec<f32>) = (
            numbers(4).take(kernel.nr).map(|x| 0.5 * x).collect(),
            numbers(5).take(kernel.nr).collect(),
        );
        for height in 1..=kernel.mr {
            let rows: Vec<usize> = (0..height).rev().map(|i| i * pitch).collect();
            for case in 0..12 {
                let (runs, onto) = (if case < 8 { &many[..] } else { &[] }, case % 4 == 3);
                let finish = Finish {
                    scale: Some(&scale[..]).filter(|_| !onto),
                    bias: Some(&bias[..]).filter(|_| !onto),
                    residual: Some(&values[..]).filter(|_| case % 4 == 2),
                    relu: case % 4 == 1 || case % 8 == 2,
                };
                let affine = finish.affine(0, kernel.nr);
                let [registers, memory] = [kernel, &in_memory].map(|kernel| {
                    let mut out = values.clone();
                    let shared = Shared::new(&mut out);
                    let columns = kernel.nr;
                    // SAFETY: the kernel is that of `T`, the output this call's own and written, the rows apart.
                    unsafe {
                        kernel.finish(
                            runs,
                            (&a, A_PITCH),
                            &b,
                            &finish,
                            &affine,
                            shared,
                            &rows,
                            0,
                            columns,
                            onto,
                        );
                    }
                    out.iter().map(|x| x.get().to_bits()).collect::<Vec<u32>>()
                });
                assert!(registers == memory, "height {height}, case {case}");
                let before: Vec<u32> = values.iter().map(|x| x.get().to_bits()).collect();
                let nothing_added = runs.is_empty() && onto;
                assert!(
                    (registers == before) == nothing_added,
                    "height {height}, case {case}"
                );
            }
        }
    }

    #[test]
    fn sums_are_finished_in_registers_as_in_memory() {
        finished_in_registers_as_in_memory::<f32>();
        finished_in_registers_as_in_memory::<bf16>();
    }
}
