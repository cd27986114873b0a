//! Tiles of AMX: 16 rows × 16 units against 16 units × 16 columns, sums of bf16 products in f32.
//!
//! Rust has no stable intrinsics for it yet, so the instructions are written out. Every thread configures its tile
//! registers before a task and releases them after it ([`super::tile::Kernel::enter`]); the whole product of one tile
//! happens inside one block of assembly, so nothing relies on registers that the compiler does not know.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, _xgetbv};
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use super::tile::{A_PITCH, Kernel, MOST_RUNS, Onto, Run, TileFn};

const NR: usize = 32;
/// Bytes from a packed row to the next.
const A_STRIDE: usize = A_PITCH * 4;
/// Bytes from a panel's row to the next.
const B_STRIDE: usize = NR * 4;

pub static AMX: Kernel = Kernel {
    mr: 32,
    nr: NR,
    tiled: true,
    rows: &[product as TileFn; 32],
    steps: &[],
    finished: &[],
};

/// Whether the processor multiplies bf16 tiles and the system lets this process use them. Asked once.
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| supported() && permitted())
}

fn supported() -> bool {
    const TILE_AND_BF16: u32 = 1 << 24 | 1 << 22;
    if !is_x86_feature_detected!("xsave") {
        return false;
    }
    let leaf = __cpuid_count(7, 0);
    // SAFETY: XSAVE was detected above.
    let state = unsafe { enabled_state() };
    leaf.edx & TILE_AND_BF16 == TILE_AND_BF16 && state & (0b11 << 17) == 0b11 << 17
}

/// Which register states the system saves.
///
/// # Safety
/// The processor has XSAVE.
#[target_feature(enable = "xsave")]
unsafe fn enabled_state() -> u64 {
    // SAFETY: the caller's.
    unsafe { _xgetbv(0) }
}

/// Asks Linux for the tile registers, which it gives on demand only.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: u64 = 158;
    const REQUEST_PERMISSION: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let result: i64;
    // SAFETY: a system call that takes two numbers and changes nothing but this process's permission.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// Shapes of the eight tile registers: 16 rows of 64 bytes each.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Gives this thread its tile registers.
pub fn configure() {
    assert!(available());
    // SAFETY: the processor has the instruction and the process the permission, by the line above; the operand is a
    // valid configuration of 64 bytes.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack, readonly));
    }
}

/// Gives them up, so that a switch of threads need not save them.
pub fn release() {
    assert!(available());
    // SAFETY: the processor has the instruction.
    unsafe { asm!("tilerelease", options(nostack, nomem)) }
}

/// Consecutive tiles of both operands.
#[repr(C)]
#[derive(Clone, Copy)]
struct Part {
    a: *const u32,
    b: *const u32,
    tiles: usize,
}

/// Sums of a product, before they are stored.
#[repr(C, align(64))]
struct Sums([[f32; NR]; 32]);

/// # Safety
/// As [`super::tile`]: whole tiles can be read for every run, the rows written; [`configure`] was called on this thread.
unsafe fn product(
    runs: &[Run],
    a: *const u32,
    b: *const u32,
    c: *mut f32,
    rows: &[usize],
    onto: Onto,
) {
    assert!(runs.len() <= MOST_RUNS);
    let mut parts = [const { MaybeUninit::uninit() }; MOST_RUNS];
    for (part, run) in parts.iter_mut().zip(runs) {
        part.write(Part {
            a: a.wrapping_add(run.a),
            b: b.wrapping_add(run.b * NR),
            tiles: run.len.div_ceil(16),
        });
    }
    let parts = parts.as_ptr().cast::<Part>();
    let mut sums = MaybeUninit::<Sums>::uninit();
    let to = sums.as_mut_ptr().cast::<f32>();
    // SAFETY: as many parts as runs were written, and their tiles can be read by the caller's promise; `to` has room for
    // four tiles, and those that hold `rows.len()` rows are written and then read.
    unsafe {
        match (runs.is_empty(), rows.len() > 16) {
            (true, _) => to.write_bytes(0, 32 * NR),
            (_, true) => four_tiles(parts, runs.len(), to),
            (_, false) => two_tiles(parts, runs.len(), to),
        }
        for (i, row) in rows.iter().enumerate() {
            let sums = std::slice::from_raw_parts(to.add(i * NR), NR);
            let c = c.add(*row);
            match onto {
                Onto::Nothing => c.copy_from_nonoverlapping(sums.as_ptr(), NR),
                Onto::Sum => {
                    for (j, sum) in sums.iter().enumerate() {
                        *c.add(j) += sum;
                    }
                }
            }
        }
    }
}

/// 32 rows × 32 columns.
///
/// # Safety
/// `count ≥ 1` parts of at least one tile each, with 32 rows of `a`; room for 32 × 32 sums in `to`.
unsafe fn four_tiles(parts: *const Part, count: usize, to: *mut f32) {
    // SAFETY: the caller's; the registers named are clobbered and nothing else is.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "mov {a}, [{parts}]",
            "mov {b}, [{parts} + 8]",
            "mov {tiles}, [{parts} + 16]",
            "lea {lower}, [{a} + 16 * {A_STRIDE}]",
            "3:",
            "tileloadd tmm4, [{a} + {a_stride}]",
            "tileloadd tmm6, [{b} + {b_stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {b_stride} + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower} + {a_stride}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 64",
            "add {lower}, 64",
            "add {b}, 16 * {B_STRIDE}",
            "dec {tiles}",
            "jnz 3b",
            "add {parts}, 24",
            "dec {count}",
            "jnz 2b",
            "tilestored [{to} + {b_stride}], tmm0",
            "tilestored [{to} + {b_stride} + 64], tmm1",
            "tilestored [{to} + {b_stride} + 16 * {B_STRIDE}], tmm2",
            "tilestored [{to} + {b_stride} + 16 * {B_STRIDE} + 64], tmm3",
            parts = inout(reg) parts => _,
            count = inout(reg) count => _,
            to = in(reg) to,
            a_stride = in(reg) A_STRIDE,
            b_stride = in(reg) B_STRIDE,
            a = out(reg) _,
            b = out(reg) _,
            lower = out(reg) _,
            tiles = out(reg) _,
            A_STRIDE = const A_STRIDE,
            B_STRIDE = const B_STRIDE,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// 16 rows × 32 columns.
///
/// # Safety
/// As [`four_tiles`], with 16 rows of `a`.
unsafe fn two_tiles(parts: *const Part, count: usize, to: *mut f32) {
    // SAFETY: the caller's; the registers named are clobbered and nothing else is.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "2:",
            "mov {a}, [{parts}]",
            "mov {b}, [{parts} + 8]",
            "mov {tiles}, [{parts} + 16]",
            "3:",
            "tileloadd tmm4, [{a} + {a_stride}]",
            "tileloadd tmm6, [{b} + {b_stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {b_stride} + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, 64",
            "add {b}, 16 * {B_STRIDE}",
            "dec {tiles}",
            "jnz 3b",
            "add {parts}, 24",
            "dec {count}",
            "jnz 2b",
            "tilestored [{to} + {b_stride}], tmm0",
            "tilestored [{to} + {b_stride} + 64], tmm1",
            parts = inout(reg) parts => _,
            count = inout(reg) count => _,
            to = in(reg) to,
            a_stride = in(reg) A_STRIDE,
            b_stride = in(reg) B_STRIDE,
            a = out(reg) _,
            b = out(reg) _,
            tiles = out(reg) _,
            B_STRIDE = const B_STRIDE,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
