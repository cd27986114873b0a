//! Single operators at the sizes of ResNet-50 (ImageNet stem, 32×32 input, batch 128): forward alone, and forward with
//! backward. Convolutions report matrix elements per second: multiply-adds of the products that the padding leaves.
//!
//! ```text
//! cargo bench -p kernels
//! ```

use std::hint::black_box;
use std::time::Duration;

use candle_core::{DType, Device, Result, Tensor, Var};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kernels::{
    Activation, ConvConfig, batch_norm_train, conv2d, global_avg_pool, linear, max_pool2d,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

#[global_allocator]
static ALLOCATOR: kernels::CachingAllocator = kernels::CachingAllocator::new();

const BATCH: usize = 128;

/// name, side of the input, input channels, output channels, window, stride
const CONVOLUTIONS: [(&str, usize, usize, usize, usize, usize); 8] = [
    ("stem_7x7_s2_32px", 32, 3, 64, 7, 2),
    ("layer1_1x1_8px", 8, 64, 256, 1, 1),
    ("layer1_3x3_8px", 8, 64, 64, 3, 1),
    ("layer2_3x3_4px", 4, 128, 128, 3, 1),
    ("layer3_3x3_2px", 2, 256, 256, 3, 1),
    ("layer4_3x3_1px", 1, 512, 512, 3, 1),
    ("layer4_1x1_1px", 1, 512, 2048, 1, 1),
    ("down_1x1_s2_8px", 8, 256, 512, 1, 2),
];

fn tensor(dims: &[usize]) -> Result<Var> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let count = dims.iter().product();
    let values: Vec<f32> = (0..count).map(|_| rng.random_range(-1f32..1.0)).collect();
    Var::from_tensor(&Tensor::from_vec(values, dims, &Device::Cpu)?)
}

/// Multiply-adds of one forward pass, without those in the padding.
fn products(side: usize, c: usize, o: usize, k: usize, stride: usize) -> u64 {
    let (pad, out) = (k / 2, (side + 2 * (k / 2) - k) / stride + 1);
    let seen = |i: usize| {
        (0..k)
            .filter(|r| (pad..pad + side).contains(&(i * stride + r)))
            .count()
    };
    let axis: usize = (0..out).map(seen).sum();
    (BATCH * axis * axis * c * o) as u64
}

fn measure(c: &mut Criterion, name: &str, work: u64, f: impl Fn() -> Result<Tensor>) {
    let mut group = c.benchmark_group(name);
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .throughput(Throughput::Elements(work));
    group.bench_function("forward", |b| b.iter(|| black_box(f().expect("a result"))));
    group.throughput(Throughput::Elements(3 * work));
    group.bench_function("forward_backward", |b| {
        // The gradient of the sum; its seed costs one pass that a network would not need.
        b.iter(|| {
            black_box(
                f().and_then(|y| y.sum_all()?.backward())
                    .expect("gradients"),
            )
        });
    });
    group.finish();
}

fn operators(c: &mut Criterion) -> Result<()> {
    println!("{}", kernels::cpu_features());
    for (name, side, input, output, k, stride) in CONVOLUTIONS {
        let x = tensor(&[BATCH, side, side, input])?;
        let w = tensor(&[output, k, k, input])?;
        let cfg = ConvConfig {
            stride,
            padding: k / 2,
            ..ConvConfig::default()
        };
        let work = products(side, input, output, k, stride);
        measure(c, name, work, || conv2d(&x, &w, None, &cfg));
    }
    for (side, channels) in [(8, 256), (2, 1024), (1, 2048)] {
        let x = tensor(&[BATCH, side, side, channels])?;
        let r = tensor(&[BATCH, side, side, channels])?;
        let (gamma, beta) = (tensor(&[channels])?, tensor(&[channels])?);
        let name = format!("batch_norm_add_relu_{side}px_{channels}");
        measure(c, &name, x.elem_count() as u64, || {
            let y = batch_norm_train(&x, &gamma, &beta, Some(&r), Activation::Relu, 1e-5)?;
            Ok(y.0)
        });
    }
    let x = tensor(&[BATCH, 16, 16, 64])?;
    measure(c, "max_pool_16px_64", x.elem_count() as u64, || {
        max_pool2d(&x, 3, 2, 1)
    });
    let x = tensor(&[BATCH, 4, 4, 512])?;
    measure(c, "global_avg_pool_4px_512", x.elem_count() as u64, || {
        global_avg_pool(&x)
    });
    let (x, w) = (tensor(&[BATCH, 2048])?, tensor(&[1000, 2048])?);
    measure(c, "linear_2048_1000", (BATCH * 2048 * 1000) as u64, || {
        linear(&x, &w, None)
    });

    // The same convolution by stock Candle, channels first.
    let x = tensor(&[BATCH, 64, 8, 8])?.to_dtype(DType::F32)?;
    let w = tensor(&[64, 64, 3, 3])?;
    let work = products(8, 64, 64, 3, 1);
    measure(c, "stock_layer1_3x3_8px", work, || x.conv2d(&w, 1, 1, 1, 1));
    Ok(())
}

fn all(c: &mut Criterion) {
    operators(c).expect("the operators run");
}

criterion_group!(benches, all);
criterion_main!(benches);
