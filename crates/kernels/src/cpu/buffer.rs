//! Memory: outputs that are written exactly once, and scratch space that is used again.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};

use super::value::Value;

static POISON: AtomicBool = AtomicBool::new(false);

/// Fills outputs and scratch space with NaN before they are written, so that a test sees what a kernel forgot.
#[doc(hidden)]
pub fn poison_buffers(on: bool) {
    POISON.store(on, Ordering::Relaxed);
}

fn poisoned() -> bool {
    POISON.load(Ordering::Relaxed)
}

/// An output of `len` values that `fill` must write completely.
///
/// # Safety
/// When `fill` returns, every value has been written.
pub unsafe fn written<T: Value>(len: usize, fill: impl FnOnce(Shared<'_, T>)) -> Vec<T> {
    let mut values: Vec<T> = Vec::with_capacity(len);
    if poisoned() {
        values.resize(len, T::NAN);
    }
    fill(Shared {
        start: values.as_mut_ptr(),
        len,
        life: PhantomData,
    });
    // SAFETY: the capacity is at least `len`, and the caller's `fill` has written that many values.
    unsafe { values.set_len(len) };
    values
}

/// A buffer that several tasks write at the same time, each its own part.
///
/// Its memory may hold nothing yet, so parts are [`MaybeUninit`]: no reference to a value exists before the value does.
#[derive(Clone, Copy)]
pub struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: a plain pointer to memory that outlives 'a; who derives references from it promises that they are disjoint.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// Shares a slice.
    pub fn new(values: &'a mut [T]) -> Self {
        Self {
            start: values.as_mut_ptr(),
            len: values.len(),
            life: PhantomData,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The address of the first value.
    pub fn as_ptr(&self) -> *mut T {
        self.start
    }

    /// The values from `from` to `to`, to be written.
    ///
    /// # Safety
    /// Nothing else touches this part while the slice lives, and only values are stored in it, never
    /// [`MaybeUninit::uninit`]: what has been written stays written.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, from: usize, to: usize) -> &'a mut [MaybeUninit<T>] {
        assert!(from <= to && to <= self.len);
        // SAFETY: `start` points to `len` allocated values, written or not, which `MaybeUninit` allows; the part lies inside
        // by the line above, and is exclusive for as long as it lives by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from).cast(), to - from) }
    }
}

/// The same values, all of them written now.
#[inline(always)]
pub fn filled<T: Copy>(part: &mut [MaybeUninit<T>], value: T) -> &mut [T] {
    part.fill(MaybeUninit::new(value));
    // SAFETY: the line above wrote every value.
    unsafe { part.assume_init_mut() }
}

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Aligned scratch space whose contents are unspecified.
#[derive(Default)]
pub struct Scratch(Vec<Line>);

impl Scratch {
    /// The first `len` values; grows as needed and never shrinks.
    pub fn get<T: Plain>(&mut self, len: usize) -> &mut [T] {
        let lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        if self.0.len() < lines {
            self.0.clear(); // nothing of the old contents needs copying
            self.0.resize(lines, Line([0.0; 16]));
        }
        if poisoned() {
            self.0.fill(Line([f32::from_bits(u32::MAX); 16])); // NaN as bf16 too
        }
        // SAFETY: the lines hold at least that many bytes, aligned to 64 and initialised, and any bytes are a `T`.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast::<T>(), len) }
    }

    /// The first `len` units, as they were left.
    pub fn units(&self, len: usize) -> &[u32] {
        assert!(len * size_of::<u32>() <= self.0.len() * size_of::<Line>());
        // SAFETY: the lines hold at least that many bytes, aligned and initialised, and any bytes are a number.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), len) }
    }
}

/// Types for which any bytes are a value, and which a cache line aligns.
///
/// # Safety
/// Both hold.
pub unsafe trait Plain: Copy {}
// SAFETY: numbers of 2 and 4 bytes.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: a u16 by another name.
unsafe impl Plain for half::bf16 {}

/// Values as units of 32 bits: one f32, or two bf16.
pub fn units<T: Value>(values: &[T]) -> &[u32] {
    assert!(values.as_ptr().cast::<u32>().is_aligned());
    // SAFETY: `Value` is f32 or bf16, whose bytes are numbers; the address is aligned and the length rounded down.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len() / T::PER_UNIT) }
}

/// The scratch buffers of one thread, by purpose.
#[derive(Default)]
pub struct Workspace {
    /// Rows of the broadcast operand of a register tile.
    pub a: Scratch,
    /// Panels of the vector operand.
    pub b: Scratch,
    /// Sums that are not yet stored.
    pub c: Scratch,
}

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
    static PANELS: RefCell<Scratch> = RefCell::default();
}

/// Calls `f` with this thread's workspace. Not to be nested.
pub fn with_workspace<T>(f: impl FnOnce(&mut Workspace) -> T) -> T {
    WORKSPACE.with(|w| f(&mut w.borrow_mut()))
}

/// Calls `f` with `len` values of scratch space that its parallel tasks may share.
pub fn with_panels<V: Plain, T>(len: usize, f: impl FnOnce(&mut [V]) -> T) -> T {
    // Taken out rather than borrowed: while `f` waits for its tasks, this thread may pick up another operator's.
    let mut scratch = PANELS.with(RefCell::take);
    let result = f(scratch.get(len));
    PANELS.with(|p| *p.borrow_mut() = scratch);
    result
}
