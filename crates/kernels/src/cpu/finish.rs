//! The end of a matrix product: complete sums are scaled, shifted, added to and rectified, rounded once, and stored.

use std::mem::MaybeUninit;

use super::buffer::Shared;
use super::isa::vectorised;
use super::norm::rectify;
use super::tile::{MAX_MR, MAX_NR};
use super::value::{Rounding, Value, lanes};

/// What happens to a complete sum before it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Finish<'a, T> {
    /// Multiplied, one value per output channel.
    pub scale: Option<&'a [f32]>,
    /// Added, one value per output channel.
    pub bias: Option<&'a [f32]>,
    /// Added, one value per output value.
    pub residual: Option<&'a [T]>,
    /// Whether negative sums become 0.
    pub relu: bool,
}

impl<T> Finish<'_, T> {
    /// Nothing happens.
    pub const NONE: Self = Self {
        scale: None,
        bias: None,
        residual: None,
        relu: false,
    };

    /// Whether sums stay as they are.
    pub fn is_nothing(&self) -> bool {
        self.scale.is_none() && self.bias.is_none() && self.residual.is_none() && !self.relu
    }

    /// Scale and bias of `width` channels from `first` on; 1 and 0 where there are none.
    pub fn affine(&self, first: usize, width: usize) -> [[f32; MAX_NR]; 2] {
        [(self.scale, 1.0), (self.bias, 0.0)].map(|(all, otherwise)| {
            let mut values = [otherwise; MAX_NR];
            if let Some(all) = all {
                values[..width].copy_from_slice(&all[first..first + width]);
            }
            values
        })
    }
}

impl<T: Value> Finish<'_, T> {
    /// Stores the complete sums of one panel, `sums[i · nr + j]`, as `width` values of `out` at `targets[i] + column`; with `onto`,
    /// adds them to what is there, and nothing else may be asked for.
    ///
    /// # Safety
    /// No other task touches these values, and targets are distinct; with `onto`, the values have been written.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn store(
        &self,
        sums: &[f32],
        nr: usize,
        affine: &[[f32; MAX_NR]; 2],
        targets: &[usize],
        column: usize,
        width: usize,
        onto: bool,
        out: Shared<'_, T>,
    ) {
        debug_assert!(!onto || self.is_nothing());
        // SAFETY: the caller's; targets are distinct, so the parts do not overlap.
        let row = |target: usize| unsafe { out.part(target + column, target + column + width) };
        let affine = (&affine[0][..width], &affine[1][..width]);
        for (targets, sums) in targets.chunks(MAX_MR).zip(sums.chunks(MAX_MR * nr)) {
            if onto {
                let mut rows: [&mut [T]; MAX_MR] = std::array::from_fn(|_| Default::default());
                for (to, target) in rows.iter_mut().zip(targets) {
                    // SAFETY: written before, by the caller's promise.
                    *to = unsafe { row(*target).assume_init_mut() };
                }
                add_panel(sums, nr, &mut rows[..targets.len()]);
            } else {
                let mut rows: [&mut [MaybeUninit<T>]; MAX_MR] =
                    std::array::from_fn(|_| Default::default());
                let mut residual = [const { &[] as &[T] }; MAX_MR];
                for (i, target) in targets.iter().enumerate() {
                    rows[i] = row(*target);
                    if let Some(all) = self.residual {
                        residual[i] = &all[target + column..][..width];
                    }
                }
                let residual = self.residual.map(|_| &residual[..]);
                store_panel(
                    sums,
                    nr,
                    affine,
                    residual,
                    self.relu,
                    &mut rows[..targets.len()],
                );
            }
        }
    }
}

/// Asks for the cache lines of what will be read or written when the product is done: rows lie so far apart that the
/// processor cannot guess them.
#[inline(always)]
pub fn fetch_rows<T>(start: *const T, rows: &[usize], column: usize, width: usize) {
    #[cfg(target_arch = "x86_64")]
    for row in rows {
        for line in (0..width).step_by(64 / size_of::<T>()) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a hint, which no address can make fail.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(row + column + line).cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, rows, column, width);
}

/// Values that are finished together: one vector of the widest instruction set.
const LANES: usize = 16;

vectorised! {
    /// `rows = act(sums · scale + bias + residual)`
    pub fn store_panel<T: Value>[rounding](sums: &[f32], nr: usize, affine: (&[f32], &[f32]), residual: Option<&[&[T]]>, relu: bool, rows: &mut [&mut [MaybeUninit<T>]]) {
        for (i, row) in rows.iter_mut().enumerate() {
            let sums = &sums[i * nr..][..row.len()];
            let residual = residual.map(|rows| rows[i]);
            let (lanes, rest) = row.as_chunks_mut::<LANES>();
            let whole = lanes.len() * LANES;
            for (k, to) in lanes.iter_mut().enumerate() {
                finish(rounding, k * LANES, sums, affine, residual, relu, to);
            }
            for (k, to) in rest.iter_mut().enumerate() {
                finish(rounding, whole + k, sums, affine, residual, relu, std::array::from_mut(to));
            }
        }
    }
}

/// `N` values of a row, from column `at`.
#[inline(always)]
fn finish<T: Value, const N: usize, const BF16: bool>(
    rounding: Rounding<BF16>,
    at: usize,
    sums: &[f32],
    (scale, bias): (&[f32], &[f32]),
    residual: Option<&[T]>,
    relu: bool,
    to: &mut [MaybeUninit<T>; N],
) {
    let [sums, scale, bias]: [&[f32; N]; 3] = [sums, scale, bias].map(|all| lanes(all, at));
    let mut values = [0f32; N];
    for k in 0..N {
        values[k] = sums[k] * scale[k] + bias[k];
    }
    if let Some(residual) = residual {
        let residual: &[T; N] = lanes(residual, at);
        for k in 0..N {
            values[k] += residual[k].get();
        }
    }
    if relu {
        values.iter_mut().for_each(|x| *x = rectify(*x));
    }
    to.write_copy_of_slice(&T::round(rounding, values));
}

vectorised! {
    /// `rows += sums`
    pub fn add_panel<T: Value>[rounding](sums: &[f32], nr: usize, rows: &mut [&mut [T]]) {
        for (i, row) in rows.iter_mut().enumerate() {
            let sums = &sums[i * nr..][..row.len()];
            let (lanes, rest) = row.as_chunks_mut::<LANES>();
            let whole = lanes.len() * LANES;
            for (k, to) in lanes.iter_mut().enumerate() {
                add(rounding, k * LANES, sums, to);
            }
            for (k, to) in rest.iter_mut().enumerate() {
                add(rounding, whole + k, sums, std::array::from_mut(to));
            }
        }
    }
}

/// As [`finish`], for a sum.
#[inline(always)]
fn add<T: Value, const N: usize, const BF16: bool>(
    rounding: Rounding<BF16>,
    at: usize,
    sums: &[f32],
    to: &mut [T; N],
) {
    let mut values: [f32; N] = *lanes(sums, at);
    for (value, before) in values.iter_mut().zip(&*to) {
        *value += before.get();
    }
    *to = T::round(rounding, values);
}
