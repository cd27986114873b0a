//! What benchmarks need and nothing else should call: one convolution's three products, alone and without Candle's graph, the
//! register tile's own speed, a loop that touches no memory, and a pass over memory alone. Hidden from the documentation; no promise to anyone.

use std::hint::black_box;
use std::time::{Duration, Instant};

use half::bf16;
use rayon::prelude::*;

use crate::cpu::buffer::{Shared, with_workspace};
use crate::cpu::finish::Finish;
use crate::cpu::gather::{conv_backward_input, conv_forward};
use crate::cpu::isa::{Isa, isa};
use crate::cpu::tile::{A_PITCH, KC, Kernel, MAX_MR, MAX_NR, Onto, Run, Side};
use crate::cpu::value::{Value, unit};
use crate::cpu::weight_grad::conv_backward_weight;
use crate::cpu::weights::Weights;
use crate::geometry::{ConvConfig, ConvShape};
use crate::network::Precision;

/// One of the three matrix products behind a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// y from x and w.
    Forward,
    /// dx from dy and w.
    InputGradient,
    /// dw from x and dy.
    WeightGradient,
}

/// A square convolution, padded by half its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Images.
    pub batch: usize,
    /// Height and width of the input.
    pub side: usize,
    /// Channels in.
    pub channels: usize,
    /// Channels out.
    pub outputs: usize,
    /// Height and width of the window.
    pub window: usize,
    /// Distance between windows.
    pub stride: usize,
    /// Whether it reads the images: [`crate::Network`] then pads pixels and channels beforehand, and nobody wants dx.
    pub first: bool,
}

impl Convolution {
    fn out(&self) -> usize {
        (self.side + 2 * (self.window / 2) - self.window) / self.stride + 1
    }

    /// Two per multiply-add of any of the three products; taps that lie in the padding are none.
    pub fn operations(&self) -> f64 {
        let pad = self.window / 2;
        let seen = |i: usize| {
            let inside = |r: &usize| (pad..pad + self.side).contains(&(i * self.stride + r));
            (0..self.window).filter(inside).count()
        };
        let axis: usize = (0..self.out()).map(seen).sum();
        2.0 * (self.batch * axis * axis * self.channels * self.outputs) as f64
    }

    /// Bytes that any of the three products must move at least: both activations at the precision's width and the f32
    /// weights, each once.
    pub fn bytes(&self, precision: Precision) -> f64 {
        let width = match precision {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        };
        let activations = self.batch
            * (self.side * self.side * self.channels + self.out() * self.out() * self.outputs);
        let weights = self.outputs * self.window * self.window * self.channels;
        (width * activations + 4 * weights) as f64
    }

    fn shape<T: Value>(&self) -> ConvShape {
        let padding = self.window / 2;
        // As `Network` lays its images out.
        let (side, c, padding) = match self.first {
            true => (
                self.side + 2 * padding,
                self.channels.next_multiple_of(T::PER_UNIT),
                0,
            ),
            false => (self.side, self.channels, padding),
        };
        let (out, k) = (self.out(), self.window);
        ConvShape {
            n: self.batch,
            h: side,
            w: side,
            c,
            o: self.outputs,
            kh: k,
            kw: k,
            ho: out,
            wo: out,
            cfg: ConvConfig {
                stride: self.stride,
                padding,
                ..ConvConfig::default()
            },
        }
    }
}

/// A convolution with its operands in memory, ready to run.
pub struct Loaded(Values);

enum Values {
    F32(Operands<f32>),
    Bf16(Operands<bf16>),
}

struct Operands<T> {
    shape: ConvShape,
    x: Vec<T>,
    w: Vec<f32>,
    dy: Vec<T>,
}

impl Loaded {
    /// Operands of even noise in ±1.
    pub fn new(convolution: &Convolution, precision: Precision) -> Self {
        Self(match precision {
            Precision::F32 => Values::F32(Operands::new(convolution)),
            Precision::Bf16 => Values::Bf16(Operands::new(convolution)),
        })
    }

    /// One product on the current pool's threads.
    pub fn run(&self, product: Product) {
        match &self.0 {
            Values::F32(operands) => operands.run(product),
            Values::Bf16(operands) => operands.run(product),
        }
    }
}

impl<T: Value> Operands<T> {
    fn new(convolution: &Convolution) -> Self {
        let s = convolution.shape::<T>();
        Self {
            x: noise(s.n * s.h * s.w * s.c),
            w: noise(s.o * s.kh * s.kw * s.c),
            dy: noise(s.n * s.ho * s.wo * s.o),
            shape: s,
        }
    }

    fn run(&self, product: Product) {
        let (s, x, w, dy) = (&self.shape, &self.x, &self.w, &self.dy);
        match product {
            Product::Forward => drop(black_box(conv_forward(
                s,
                x,
                Weights::Plain(w),
                Finish::NONE,
            ))),
            Product::InputGradient => drop(black_box(conv_backward_input(s, dy, w, None))),
            Product::WeightGradient => drop(black_box(conv_backward_weight(s, x, dy))),
        }
    }
}

fn noise<T: Value>(len: usize) -> Vec<T> {
    let mut state = 1u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        T::of((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
    };
    (0..len).map(next).collect()
}

/// Operations per second of the register tile on every thread of the current pool, its operands as near as they get:
/// the best of long and short runs, and of every way of packing that the tile has.
pub fn tile_speed(precision: Precision, time: Duration) -> f64 {
    match precision {
        Precision::F32 => best_tile::<f32>(time),
        Precision::Bf16 => best_tile::<bf16>(time),
    }
}

fn best_tile<T: Value>(time: Duration) -> f64 {
    let sides = match Kernel::of::<T>().tiled {
        true => &[Side::Rows][..],
        false => &[Side::Rows, Side::Steps],
    };
    let kinds = sides
        .iter()
        .flat_map(|&side| [64, KC].map(|len| (side, len)));
    let share = time / (2 * sides.len() as u32);
    let speeds = kinds.map(|(side, len)| {
        rayon::broadcast(|_| one_tile::<T>(side, len, share))
            .iter()
            .sum()
    });
    speeds.fold(0.0, f64::max)
}

fn one_tile<T: Value>(side: Side, len: usize, time: Duration) -> f64 {
    let kernel = Kernel::of::<T>();
    let runs = [Run { a: 0, b: 0, len }];
    let rows: Vec<usize> = (0..kernel.mr).map(|i| i * kernel.nr).collect();
    with_workspace(|space| {
        // Room for rows and, which is less, for steps.
        let a = space.a.get::<u32>(MAX_MR * A_PITCH);
        a.fill(unit::<T>(0.5, -0.5));
        let b = space.b.get::<u32>(KC * MAX_NR);
        b.fill(unit::<T>(0.25, 0.75));
        let (a, b) = (&*a, &*b);
        let c = space.c.get::<f32>(MAX_MR * MAX_NR);
        let _entered = kernel.enter();
        let (mut tiles, started) = (0u64, Instant::now());
        while started.elapsed() < time {
            for _ in 0..64 {
                let out = Shared::new(&mut *c);
                // SAFETY: the output is this thread's own, and nothing is added to it.
                unsafe {
                    kernel.run(
                        side,
                        &runs,
                        black_box(a),
                        black_box(b),
                        out,
                        &rows,
                        0,
                        kernel.nr,
                        Onto::Nothing,
                    )
                }
                black_box(&*c);
            }
            tiles += 64;
        }
        let operations = 2 * len * T::PER_UNIT * kernel.mr * kernel.nr;
        tiles as f64 * operations as f64 / started.elapsed().as_secs_f64()
    })
}

/// Iterations of one call of [`fma_pass`].
const ITERATIONS: usize = 1 << 22;

/// Vectors kept in registers: more chains than hide the units' latency, fewer than there are registers.
const CHAINS: usize = 12;

/// `x ← x · m + a`, again and again, for [`CHAINS`] vectors in registers; one value of their sum.
macro_rules! registers {
    ($name:ident $(, $features:literal)?; $splat:expr, $fma:expr, $add:expr, $lane:expr) => {
        $(#[target_feature(enable = $features)])?
        pub(super) fn $name(iterations: usize, m: f32, a: f32) -> f32 {
            let (m, a) = ($splat(m), $splat(a));
            let mut x = [$splat(1.0); CHAINS];
            for _ in 0..iterations {
                for x in &mut x {
                    *x = $fma(*x, m, a);
                }
            }
            $lane(x.into_iter().reduce(|x, y| $add(x, y)).unwrap_or(a))
        }
    };
}

registers!(
    portable;
    |x| [x; 8],
    |x: [f32; 8], m: [f32; 8], a: [f32; 8]| -> [f32; 8] { std::array::from_fn(|i| x[i] * m[i] + a[i]) },
    |x: [f32; 8], y: [f32; 8]| -> [f32; 8] { std::array::from_fn(|i| x[i] + y[i]) },
    |x: [f32; 8]| x[0]
);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::CHAINS;
    use std::arch::x86_64::*;

    registers!(
        avx512, "avx512f";
        _mm512_set1_ps, _mm512_fmadd_ps, _mm512_add_ps, _mm512_cvtss_f32
    );
    registers!(
        avx2, "avx2,fma";
        _mm256_set1_ps, _mm256_fmadd_ps, _mm256_add_ps, _mm256_cvtss_f32
    );
}

fn in_registers(iterations: usize, m: f32, a: f32) -> f32 {
    match isa() {
        // SAFETY: `isa` returns a set only where the processor has it.
        #[cfg(target_arch = "x86_64")]
        Isa::Amx | Isa::Avx512Bf16 | Isa::Avx512 => unsafe { x86::avx512(iterations, m, a) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::avx2(iterations, m, a) },
        _ => portable(iterations, m, a),
    }
}

/// Multiply-adds in registers alone on every thread of the current pool, [`fma_operations`] on each; a value of the result.
///
/// What a second thread adds to *this* is what the machine has to give: no cache and no memory is shared.
pub fn fma_pass() -> f32 {
    rayon::broadcast(|_| in_registers(ITERATIONS, black_box(0.999), black_box(0.001)))
        .iter()
        .sum()
}

/// Operations of one [`fma_pass`] on one thread, two per multiply-add.
pub fn fma_operations() -> f64 {
    let lanes = match isa() {
        Isa::Amx | Isa::Avx512Bf16 | Isa::Avx512 => 16,
        Isa::Avx2 | Isa::Portable => 8,
    };
    2.0 * (ITERATIONS * CHAINS * lanes) as f64
}

/// Values of one array of [`memory_speed`]: three are far more than any cache holds.
const STREAM: usize = 1 << 24;

/// Bytes per second that all threads of the current pool read and write together in `a ← b + s · c`, as McCalpin's STREAM
/// counts them: two arrays read, one written. The best of five passes.
pub fn memory_speed() -> f64 {
    let [mut a, b, c] = [1.0, 2.0, 3.0].map(|value| vec![value; STREAM]);
    let part = STREAM.div_ceil(4 * rayon::current_num_threads());
    let pass = |_| {
        let started = Instant::now();
        let parts = b.par_chunks(part).zip(c.par_chunks(part));
        a.par_chunks_mut(part).zip(parts).for_each(|(a, (b, c))| {
            for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
                *a = b + 0.5f32 * c;
            }
        });
        black_box(&mut a);
        (3 * STREAM * size_of::<f32>()) as f64 / started.elapsed().as_secs_f64()
    };
    (0..5).map(pass).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Convolution = Convolution {
        batch: 2,
        side: 3,
        channels: 4,
        outputs: 5,
        window: 3,
        stride: 2,
        first: false,
    };

    #[test]
    fn operations_leave_the_padding_out() {
        // Along an axis of three pixels, two windows see two taps each: 4 · 4 of all 6 · 6.
        assert_eq!(SMALL.operations(), 2.0 * (2 * 16 * 4 * 5) as f64);
        let inside = Convolution { window: 1, ..SMALL };
        assert_eq!(inside.operations(), 2.0 * (2 * 4 * 4 * 5) as f64);
    }

    #[test]
    fn bytes_are_both_activations_and_the_weights() {
        let (activations, weights) = (2 * (9 * 4 + 4 * 5), 5 * 9 * 4);
        let f32s = SMALL.bytes(Precision::F32);
        assert_eq!(f32s, (4 * activations + 4 * weights) as f64);
        let bf16s = SMALL.bytes(Precision::Bf16);
        assert_eq!(bf16s, (2 * activations + 4 * weights) as f64);
    }

    #[test]
    fn every_product_runs_at_both_precisions() {
        let stem = Convolution {
            side: 8,
            channels: 3,
            window: 7,
            first: true,
            ..SMALL
        };
        for convolution in [SMALL, stem] {
            for precision in [Precision::F32, Precision::Bf16] {
                let loaded = Loaded::new(&convolution, precision);
                loaded.run(Product::Forward);
                loaded.run(Product::InputGradient);
                loaded.run(Product::WeightGradient);
            }
        }
    }

    #[test]
    fn the_loop_computes_what_it_says() {
        // 1 → 2.5 → 3.25 → 3.625, twelve times.
        let (used, plain) = (in_registers(3, 0.5, 2.0), portable(3, 0.5, 2.0));
        assert_eq!((used, plain), (43.5, 43.5));
        assert!((fma_pass() / rayon::current_num_threads() as f32 - 12.0).abs() < 0.01);
    }

    #[test]
    fn memory_has_a_speed() {
        let speed = memory_speed();
        assert!(speed.is_finite() && speed > 0.0, "{speed}");
    }

    #[test]
    fn the_tile_has_a_speed() {
        for precision in [Precision::F32, Precision::Bf16] {
            let speed = tile_speed(precision, Duration::from_millis(4));
            assert!(speed.is_finite() && speed > 0.0, "{speed}");
        }
    }
}
