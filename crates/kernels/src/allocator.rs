//! An allocator that keeps large blocks: training asks for the same sizes at every step.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Smallest block that is kept: below it the system's allocator does well.
const SMALLEST: usize = 32 * 1024;
/// Strictest alignment that is kept; every block has it.
const ALIGN: usize = 64;
/// Size classes per doubling: a block is at most an eighth larger than asked for.
const STEPS: usize = 8;
const CLASSES: usize = STEPS * 32;

/// A global allocator for training programs: freed blocks of 32 KiB and more are kept and handed out again.
///
/// An operator's result is a fresh allocation, and for large blocks the system maps and unmaps pages each time: on two
/// cores a third of a training step's time. Kept and used memory together stay within a quarter above the largest use
/// so far (beyond it, kept blocks go back to the system). Opt in, in the binary:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: kernels::CachingAllocator = kernels::CachingAllocator::new();
///
/// let first = vec![1f32; 100_000];
/// drop(first);
/// let second = vec![0f32; 100_000]; // the same block, cleared
/// assert!(second.iter().all(|v| *v == 0.0));
/// ```
pub struct CachingAllocator {
    state: Mutex<State>,
}

struct State {
    /// Heads of the lists of free blocks; each block's first word points to the next.
    free: [*mut u8; CLASSES],
    used: usize,
    kept: usize,
    most: usize,
}

// SAFETY: the pointers are to memory that nobody else owns, and the mutex guards them.
unsafe impl Send for State {}

impl Default for CachingAllocator {
    fn default() -> Self {
        Self::new()
    }
}

impl CachingAllocator {
    /// An allocator that keeps nothing yet.
    pub const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                free: [std::ptr::null_mut(); CLASSES],
                used: 0,
                kept: 0,
                most: 0,
            }),
        }
    }

    /// A kept block of the class.
    fn take(&self, class: usize) -> Option<*mut u8> {
        let mut state = self.state();
        let head = state.free[class];
        if head.is_null() {
            return None;
        }
        // SAFETY: `head` came from `give`, which wrote the next block's address there.
        state.free[class] = unsafe { head.cast::<*mut u8>().read() };
        state.kept -= class_size(class);
        state.book(class);
        Some(head)
    }

    /// Books what the system answered when asked for a block of the class: nothing where it had none.
    fn book_new(&self, block: *mut u8, class: usize) -> *mut u8 {
        if !block.is_null() {
            self.state().book(class);
        }
        block
    }

    /// # Safety
    /// `block` is a block of the class that nobody uses any more.
    unsafe fn give(&self, block: *mut u8, class: usize) {
        let mut state = self.state();
        state.used -= class_size(class);
        state.kept += class_size(class);
        // SAFETY: a block is larger than a pointer, aligned to 64, and nobody else's.
        unsafe { block.cast::<*mut u8>().write(state.free[class]) };
        state.free[class] = block;
        state.trim();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A block of the class is in use from now on.
    fn book(&mut self, class: usize) {
        self.used += class_size(class);
        self.most = self.most.max(self.used);
        self.trim();
    }

    /// Returns kept blocks, the largest first, until used and kept memory fit the bound.
    fn trim(&mut self) {
        let bound = self.most + self.most / 4;
        let mut class = CLASSES;
        while self.used + self.kept > bound && self.kept > 0 && class > 0 {
            class -= 1;
            while !self.free[class].is_null() && self.used + self.kept > bound {
                let block = self.free[class];
                // SAFETY: kept blocks are linked by `give` and were allocated with their class's layout.
                unsafe {
                    self.free[class] = block.cast::<*mut u8>().read();
                    System.dealloc(block, class_layout(class));
                }
                self.kept -= class_size(class);
            }
        }
    }
}

/// The class of a layout, or `None` where the system's allocator serves it.
fn class_of(layout: Layout) -> Option<usize> {
    let size = layout.size();
    if size < SMALLEST || layout.align() > ALIGN {
        return None;
    }
    // size − 1 = (8 + step) · 2^e + rest: the class holds up to (8 + step + 1) · 2^e.
    let exponent = (size - 1).ilog2() as usize - 3;
    let step = ((size - 1) >> exponent) - STEPS;
    let class = (exponent - 11) * STEPS + step; // 2^(11+3) ≤ SMALLEST − 1
    (class < CLASSES).then_some(class)
}

fn class_size(class: usize) -> usize {
    (STEPS + class % STEPS + 1) << (class / STEPS + 11)
}

fn class_layout(class: usize) -> Layout {
    // SAFETY: 64 is a power of two, and sizes stay far below isize::MAX.
    unsafe { Layout::from_size_align_unchecked(class_size(class), ALIGN) }
}

// SAFETY: blocks come from the system's allocator with at least the size and alignment asked for, are handed to one
// owner at a time, and go back with the layout they came with.
unsafe impl GlobalAlloc for CachingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else {
            // SAFETY: the caller's.
            return unsafe { System.alloc(layout) };
        };
        match self.take(class) {
            Some(block) => block,
            // SAFETY: a class's layout is never empty.
            None => self.book_new(unsafe { System.alloc(class_layout(class)) }, class),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else {
            // SAFETY: the caller's.
            return unsafe { System.alloc_zeroed(layout) };
        };
        match self.take(class) {
            Some(block) => {
                // SAFETY: the block has at least the layout's size.
                unsafe { block.write_bytes(0, layout.size()) };
                block
            }
            // SAFETY: a class's layout is never empty.
            None => self.book_new(unsafe { System.alloc_zeroed(class_layout(class)) }, class),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class_of(layout) {
            // SAFETY: the caller gives the block up, and it was allocated for this class.
            Some(class) => unsafe { self.give(block, class) },
            // SAFETY: the caller's.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `size` is a valid size for this alignment.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class_of(layout), class_of(new)) {
            // SAFETY: the caller's; both layouts are the system's business.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            (Some(old), Some(new)) if old == new => block,
            _ => {
                // SAFETY: the new block does not overlap the old one, and both hold the smaller size.
                unsafe {
                    let to = self.alloc(new);
                    if !to.is_null() {
                        to.copy_from_nonoverlapping(block, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    to
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 4).expect("a layout")
    }

    #[test]
    fn classes_hold_their_sizes_tightly() {
        assert_eq!(class_of(layout(SMALLEST - 1)), None);
        let mut last = 0;
        for size in (SMALLEST..4_000_000)
            .step_by(997)
            .chain([1 << 30, (1 << 30) + 1])
        {
            let class = class_of(layout(size)).expect("a class");
            assert!(class_size(class) >= size && class_size(class) <= size + size / 8 + 1);
            assert!(class >= last);
            last = class;
        }
        assert_eq!(
            class_of(Layout::from_size_align(SMALLEST, 128).expect("a layout")),
            None
        );
    }

    #[test]
    fn blocks_come_back_cleared_and_within_bounds() {
        let allocator = CachingAllocator::new();
        // SAFETY: every block is used within its layout and freed once with it.
        unsafe {
            let one = allocator.alloc(layout(100_000));
            one.write_bytes(7, 100_000);
            allocator.dealloc(one, layout(100_000));
            let two = allocator.alloc_zeroed(layout(99_000));
            assert_eq!(two, one);
            assert!((0..99_000).all(|i| *two.add(i) == 0));
            let grown = allocator.realloc(two, layout(99_000), 500_000);
            assert!((0..99_000).all(|i| *grown.add(i) == 0));
            allocator.dealloc(grown, layout(500_000));
            // Many sizes in turn: what is kept stays below a quarter above the most ever used.
            for size in (SMALLEST..3_000_000).step_by(50_001) {
                let block = allocator.alloc(layout(size));
                block.write_bytes(1, size);
                allocator.dealloc(block, layout(size));
                let state = allocator.state.lock().expect("the state");
                assert_eq!(state.used, 0);
                assert!(state.kept <= state.most + state.most / 4);
            }
        }
    }

    #[test]
    fn a_refusal_leaves_the_books_alone() {
        let allocator = CachingAllocator::new();
        let too_much = layout(1 << 45);
        assert!(class_of(too_much).is_some());
        // SAFETY: the block is never used, and freed once with its layout.
        unsafe {
            let block = allocator.alloc(too_much);
            if !block.is_null() {
                allocator.dealloc(block, too_much); // a system that promises anything
            }
        }
        assert_eq!(allocator.state().used, 0);
    }
}
