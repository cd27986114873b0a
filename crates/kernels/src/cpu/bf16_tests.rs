//! Products of bf16 against f64: operands that bf16 holds exactly, and where tiles are transformed the same rounding of what the
//! transform gives, so that what is left is the rounding of f32 sums and of the result.

use half::bf16;

use super::buffer::poison_buffers;
use super::finish::Finish;
use super::gather::{conv_backward_input, conv_forward, pack_forward};
use super::isa::isa;
use super::value::Value;
use super::weight_grad::conv_backward_weight;
use super::weights::Weights;
use super::winograd;
use crate::geometry::{ConvConfig, ConvShape};

/// Numbers in (−1, 1) with the 8 bits of a bf16.
fn random(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 24) as f32 - 127.5) / 128.0
        })
        .map(|x| bf16::from_f32(x).to_f32())
        .collect()
}

fn stored(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|x| bf16::from_f32(*x)).collect()
}

/// Calls `f(y index, x index, w index)` for every product of a convolution.
fn products(s: &ConvShape, mut f: impl FnMut(usize, usize, usize)) {
    let (cg, og, cfg) = (s.c / s.cfg.groups, s.o / s.cfg.groups, s.cfg);
    let at = |i: usize, r: usize, len: usize| {
        let position = (i * cfg.stride + r * cfg.dilation).checked_sub(cfg.padding);
        position.filter(|p| *p < len)
    };
    for (n, i, j) in (0..s.n * s.ho * s.wo).map(|p| (p / (s.ho * s.wo), p / s.wo % s.ho, p % s.wo))
    {
        for (r, q) in (0..s.kh * s.kw).map(|t| (t / s.kw, t % s.kw)) {
            let (Some(a), Some(b)) = (at(i, r, s.h), at(j, q, s.w)) else {
                continue;
            };
            for (o, c) in (0..s.o * cg).map(|k| (k / cg, k % cg)) {
                let y = ((n * s.ho + i) * s.wo + j) * s.o + o;
                let x = ((n * s.h + a) * s.w + b) * s.c + o / og * cg + c;
                f(y, x, ((o * s.kh + r) * s.kw + q) * cg + c);
            }
        }
    }
}

/// Rows of a matrix.
type Matrix = &'static [&'static [f64]];

/// Bᵀ, G and Aᵀ of Lavin & Gray 2016 for F(2, 3).
const OF_TILES: [Matrix; 3] = [
    &[
        &[1.0, 0.0, -1.0, 0.0],
        &[0.0, 1.0, 1.0, 0.0],
        &[0.0, -1.0, 1.0, 0.0],
        &[0.0, 1.0, 0.0, -1.0],
    ],
    &[
        &[1.0, 0.0, 0.0],
        &[0.5, 0.5, 0.5],
        &[0.5, -0.5, 0.5],
        &[0.0, 0.0, 1.0],
    ],
    &[&[1.0, 1.0, 1.0, 0.0], &[0.0, 1.0, -1.0, -1.0]],
];

/// The same for two pixels in padding of one.
const OF_MAPS: [Matrix; 3] = [
    &[&[1.0, 1.0], &[0.0, 1.0], &[1.0, 0.0]],
    &[&[0.0, 1.0, 0.0], &[0.0, -1.0, 1.0], &[1.0, -1.0, 0.0]],
    &[&[1.0, 1.0, 0.0], &[1.0, 0.0, 1.0]],
];

/// The sums that transformed tiles give (`winograd`), written out from the matrices: transformed pixels and transformed weights are each
/// rounded to bf16. `w(o, c, r, q)` is a tap of a 3×3 window over `source: [N, H, W, C]`, padded.
fn transformed(
    source: &[f32],
    [n, h, w, c]: [usize; 4],
    o: usize,
    padding: usize,
    weight: impl Fn(usize, usize, usize, usize) -> f32,
) -> Vec<Sum> {
    let ([b, g, a], edge) = match (h, w) {
        (2, 2) => (OF_MAPS, padding), // what a tile sees begins in the map
        _ => (OF_TILES, 0),
    };
    let (size, sight) = (b.len(), b[0].len());
    // The operands are small multiples of powers of two: these sums are exact before they are rounded.
    let rounded = |sum: f64| f64::from(bf16::from_f64(sum).to_f32());
    let (ho, wo) = (h + 2 * padding - 2, w + 2 * padding - 2);
    let points = || (0..size * size).map(|p| (p / size, p % size));
    let seen = || (0..sight * sight).map(|p| (p / sight, p % sight));
    let pixel = |image: usize, i: usize, j: usize, channel: usize| {
        let (i, j) = (i.wrapping_sub(padding), j.wrapping_sub(padding));
        match i < h && j < w {
            true => f64::from(source[((image * h + i) * w + j) * c + channel]),
            false => 0.0,
        }
    };
    let mut u = vec![vec![0.0; size * size]; o * c];
    for (k, u) in u.iter_mut().enumerate() {
        for (point, (i, j)) in points().enumerate() {
            let taps = (0..9).map(|t| (t / 3, t % 3));
            u[point] = rounded(
                taps.map(|(r, q)| g[i][r] * g[j][q] * f64::from(weight(k / c, k % c, r, q)))
                    .sum(),
            );
        }
    }
    let mut y = vec![Sum::default(); n * ho * wo * o];
    for (image, row, column) in (0..n * ho / 2 * wo / 2).map(|t| {
        (
            t / (ho / 2 * (wo / 2)),
            t / (wo / 2) % (ho / 2) * 2,
            t % (wo / 2) * 2,
        )
    }) {
        let mut v = vec![vec![0.0; size * size]; c];
        for (channel, v) in v.iter_mut().enumerate() {
            for (point, (i, j)) in points().enumerate() {
                let sum = seen().map(|(p, q)| {
                    let (row, column) = (row + edge + p, column + edge + q);
                    b[i][p] * b[j][q] * pixel(image, row, column, channel)
                });
                v[point] = rounded(sum.sum());
            }
        }
        for (out, (p, q)) in (0..4 * o).map(|k| (k / 4, (k / 2 % 2, k % 2))) {
            let y = &mut y[((image * ho + row + p) * wo + column + q) * o + out];
            for (point, (i, j)) in points()
                .enumerate()
                .filter(|(_, (i, j))| a[p][*i] * a[q][*j] != 0.0)
            {
                for (v, u) in v.iter().zip(&u[out * c..]) {
                    y.add(a[p][i] * a[q][j] * v[point] * u[point]);
                }
            }
        }
    }
    y
}

/// A sum, and the sum of its terms' sizes, which scales its rounding.
#[derive(Clone, Copy, Default)]
struct Sum {
    value: f64,
    size: f64,
    terms: f64,
}

impl Sum {
    fn add(&mut self, term: f64) {
        self.value += term;
        self.size += term.abs();
        self.terms += 1.0;
    }

    /// The error that f32 sums of this many terms may have.
    fn rounding(&self) -> f64 {
        (self.terms + 2.0) * 2f64.powi(-24) * self.size + f64::from(f32::MIN_POSITIVE)
    }

    #[track_caller]
    fn check_f32(&self, what: &str, got: f32) {
        let error = (f64::from(got) - self.value).abs();
        assert!(
            error <= self.rounding(),
            "{what}: {got} is not {}",
            self.value
        );
    }

    /// One rounding to 8 bits on top.
    #[track_caller]
    fn check_bf16(&self, what: &str, got: bf16) {
        let error = (f64::from(got.get()) - self.value).abs();
        let most = self.rounding() + 2f64.powi(-8) * (self.value.abs() + self.rounding());
        assert!(error <= most, "{what}: {got} is not {}", self.value);
    }
}

/// [N, H, W, C], [O, kh, kw], stride, padding, dilation, groups
const SHAPES: [([usize; 4], [usize; 3], [usize; 4]); 38] = [
    ([9, 1, 1, 16], [16, 3, 3], [1, 1, 1, 1]),
    ([3, 2, 1, 40], [8, 3, 3], [1, 1, 1, 1]),
    ([2, 8, 8, 64], [64, 1, 1], [1, 0, 1, 1]),
    ([3, 8, 8, 64], [96, 3, 3], [1, 1, 1, 1]),
    ([2, 5, 7, 32], [40, 3, 3], [2, 1, 1, 1]),
    ([5, 2, 2, 96], [64, 3, 3], [1, 1, 1, 1]),
    ([9, 1, 1, 128], [160, 3, 3], [1, 1, 1, 1]),
    ([2, 6, 6, 160], [33, 1, 1], [2, 0, 1, 1]),
    ([2, 9, 9, 4], [24, 7, 7], [2, 0, 1, 1]),
    ([1, 6, 5, 3], [5, 3, 3], [1, 1, 1, 1]),
    ([1, 7, 7, 10], [6, 3, 3], [1, 2, 2, 2]),
    ([2, 4, 4, 24], [12, 3, 3], [1, 1, 1, 3]),
    ([1, 1, 1, 1], [1, 1, 1], [1, 0, 1, 1]),
    ([1, 3, 3, 700], [34, 3, 3], [1, 1, 1, 1]),
    ([40, 3, 3, 16], [300, 1, 1], [1, 0, 1, 1]),
    ([2, 5, 5, 15], [31, 3, 3], [3, 1, 1, 1]),
    ([3, 9, 11, 33], [37, 3, 3], [1, 1, 1, 1]),
    ([1, 20, 8, 40], [6, 3, 5], [1, 2, 2, 1]),
    ([2, 8, 9, 70], [66, 3, 3], [1, 1, 1, 2]),
    ([2, 34, 10, 32], [13, 3, 3], [1, 0, 1, 1]),
    ([2, 6, 8, 40], [36, 3, 3], [1, 0, 1, 1]),
    ([1, 4, 4, 600], [34, 3, 3], [1, 2, 1, 1]),
    ([5, 4, 6, 66], [130, 3, 3], [1, 1, 1, 1]),
    // Rows where they lie: of a group, and of so many channels that they are summed in parts, or too far apart.
    ([3, 4, 4, 64], [64, 1, 1], [1, 0, 1, 2]),
    ([3, 3, 3, 800], [64, 1, 1], [1, 0, 1, 1]),
    ([2, 2, 2, 1100], [32, 1, 1], [1, 0, 1, 1]),
    // A network's first layer as it is computed: more pixels than are summed at a time.
    ([3, 38, 38, 4], [64, 7, 7], [2, 0, 1, 1]),
    ([3, 38, 38, 3], [64, 7, 7], [2, 0, 1, 1]),
    // Odd channels without padding.
    ([2, 13, 11, 3], [24, 7, 7], [2, 0, 1, 1]),
    ([3, 6, 5, 15], [40, 3, 3], [1, 0, 1, 1]),
    ([1, 5, 4, 401], [33, 3, 2], [2, 0, 1, 1]),
    ([1, 4, 4, 201], [33, 3, 3], [1, 0, 1, 1]),
    ([1, 5, 5, 101], [8, 3, 3], [1, 0, 1, 1]),
    ([5, 1, 8, 3], [32, 1, 2], [2, 0, 1, 1]),
    ([1, 1, 20, 3], [32, 1, 4], [2, 0, 1, 1]),
    ([4, 5, 2, 5], [9, 3, 2], [1, 0, 1, 1]),
    ([1, 9, 9, 5], [6, 3, 3], [1, 0, 2, 1]),
    ([2, 6, 6, 15], [12, 3, 3], [1, 0, 1, 3]),
];

#[test]
fn products_are_exact_up_to_the_rounding_of_sums_and_result() {
    poison_buffers(true);
    for (i, (x, [o, kh, kw], [stride, padding, dilation, groups])) in SHAPES.into_iter().enumerate()
    {
        let cfg = ConvConfig {
            stride,
            padding,
            dilation,
            groups,
        };
        let s = ConvShape::of(&x, &[o, kh, kw, x[3] / groups], &cfg).expect("a shape");
        let what = format!("{x:?} {o} {kh}x{kw} {cfg:?} on {:?}", isa());
        let seed = 10 * i as u32;
        let x = random(seed, s.n * s.h * s.w * s.c);
        let w = random(seed + 1, s.o * s.kh * s.kw * s.c / groups);
        let dy = random(seed + 2, s.n * s.ho * s.wo * s.o);
        let (bias, scale) = (random(seed + 3, s.o), random(seed + 4, s.o));
        let onto = random(seed + 5, x.len());

        let mut y = vec![Sum::default(); dy.len()];
        let mut dx = vec![Sum::default(); x.len()];
        let mut dw = vec![Sum::default(); w.len()];
        products(&s, |iy, ix, iw| {
            y[iy].add(f64::from(x[ix]) * f64::from(w[iw]));
            dx[ix].add(f64::from(dy[iy]) * f64::from(w[iw]));
            dw[iw].add(f64::from(dy[iy]) * f64::from(x[ix]));
        });

        // What bf16 sums, where it sums other products than f32.
        let (mut y16, mut dx16) = (y.clone(), dx.clone());
        if winograd::applies::<bf16>(&s) {
            let at = |o: usize, c: usize, r: usize, q: usize| w[((o * 3 + r) * 3 + q) * s.c + c];
            y16 = transformed(&x, [s.n, s.h, s.w, s.c], s.o, padding, at);
            let turned = |c: usize, o: usize, r: usize, q: usize| at(o, c, 2 - r, 2 - q);
            dx16 = transformed(&dy, [s.n, s.ho, s.wo, s.o], s.c, 2 - padding, turned);
        }

        let (xs, dys) = (stored(&x), stored(&dy));
        let plain = conv_forward(&s, &xs, Weights::Plain(&w), Finish::NONE);
        for (y, got) in y16.iter().zip(&plain) {
            y.check_bf16(&what, *got);
        }
        // Packed for another number of images: the same bits.
        let packed = pack_forward::<bf16>(&ConvShape { n: 7, ..s }, &w);
        let again = conv_forward(&s, &xs, Weights::Packed(&packed), Finish::NONE);
        assert_eq!(again, plain, "{what}");
        for (dw, got) in dw.iter().zip(conv_backward_weight(&s, &xs, &dys)) {
            dw.check_f32(&what, got);
        }
        for (dx, got) in dx16.iter().zip(conv_backward_input(&s, &dys, &w, None)) {
            dx.check_bf16(&what, got);
        }
        let sum = conv_backward_input(&s, &dys, &w, Some(stored(&onto)));
        for ((dx, onto), got) in dx16.iter().zip(&onto).zip(sum) {
            let mut dx = *dx;
            dx.add(f64::from(*onto));
            dx.check_bf16(&what, got);
        }

        // The same finish in f32 and bf16: scale, bias, residual, ReLU.
        let check = |y: &Sum, i: usize| {
            let mut sum = *y;
            let channel = i % s.o;
            sum.value *= f64::from(scale[channel]);
            sum.size *= f64::from(scale[channel]).abs();
            sum.add(f64::from(bias[channel]));
            sum.add(f64::from(dy[i]));
            sum.value = sum.value.max(0.0);
            sum
        };
        let finish = Finish {
            scale: Some(&scale),
            bias: Some(&bias),
            residual: Some(dys.as_slice()),
            relu: true,
        };
        let got = conv_forward(&s, &xs, Weights::Plain(&w), finish);
        let finish = Finish {
            scale: Some(&scale),
            bias: Some(&bias),
            residual: Some(dy.as_slice()),
            relu: true,
        };
        let single = conv_forward(&s, &x, Weights::Plain(&w), finish);
        let packed = pack_forward::<f32>(&s, &w);
        let again = conv_forward(&s, &x, Weights::Packed(&packed), finish);
        assert_eq!(again, single, "{what}");
        for (i, (got, single)) in got.into_iter().zip(single).enumerate() {
            check(&y16[i], i).check_bf16(&what, got);
            check(&y[i], i).check_f32(&what, single);
        }
    }
}

#[test]
fn narrower_sets_pass_too() {
    const WISH: &str = "KERNELS_CPU";
    if std::env::var_os(WISH).is_some() {
        return; // already one of the processes below
    }
    for wish in ["avx512bf16", "avx512", "avx2", "portable"] {
        let exe = std::env::current_exe().expect("this test's path");
        let output = std::process::Command::new(exe)
            .args(["bf16_tests", "tile::"])
            .env(WISH, wish)
            .output()
            .expect("this test runs again");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "with {WISH}={wish}:\n{text}");
        assert!(text.contains("3 passed"), "{text}");
    }
}
