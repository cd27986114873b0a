//! A training step of torchvision's ResNet-50 (ImageNet stem, 32×32, f32): these kernels against stock Candle,
//! alternating in one process.
//!
//! ```text
//! cargo run --release -p kernels --example r50_step -- [batch 128] [rounds 5] [ours]
//! ```
//!
//! Both networks start from the same weights; the first losses are printed side by side. A step is forward, backward
//! and plain SGD. The stock twin is NCHW with Candle's convolution and candle-nn's batch norm; its padded max-pool is
//! composed, because Candle's has no gradient there. With `ours`, only these kernels run.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::BatchNorm;
use kernels::{Activation, ConvConfig};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Both networks profit.
#[global_allocator]
static ALLOCATOR: kernels::CachingAllocator = kernels::CachingAllocator::new();

/// Small, so that rounding does not push the two random networks apart.
const RATE: f64 = 1e-4;

/// (blocks, middle channels, stride of the first block)
const STAGES: [(usize, usize, usize); 4] = [(3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2)];

/// Weights by name; created where first asked for.
struct Weights {
    vars: BTreeMap<String, Var>,
    rng: ChaCha8Rng,
}

impl Weights {
    fn new() -> Self {
        Self {
            vars: BTreeMap::new(),
            rng: ChaCha8Rng::seed_from_u64(0),
        }
    }

    fn get(&mut self, name: &str, dims: &[usize], gain: Option<f64>, fill: f32) -> Result<Tensor> {
        if !self.vars.contains_key(name) {
            let count = dims.iter().product();
            let values: Vec<f32> = match gain {
                None => vec![fill; count],
                Some(gain) => {
                    let fan_in: usize = dims[1..].iter().product();
                    let bound = (3.0 * gain / fan_in as f64).sqrt() as f32;
                    (0..count)
                        .map(|_| self.rng.random_range(-bound..bound))
                        .collect()
                }
            };
            let value = Tensor::from_vec(values, dims, &Device::Cpu)?;
            self.vars.insert(name.into(), Var::from_tensor(&value)?);
        }
        Ok(self.vars[name].as_tensor().clone())
    }

    /// The same values with convolution weights as OIHW.
    fn stock(&self) -> Result<Self> {
        let mut vars = BTreeMap::new();
        for (name, var) in &self.vars {
            let value = match var.rank() {
                4 => var.permute((0, 3, 1, 2))?.contiguous()?,
                _ => var.as_tensor().copy()?,
            };
            vars.insert(name.clone(), Var::from_tensor(&value)?);
        }
        Ok(Self {
            vars,
            rng: self.rng.clone(),
        })
    }

    fn step(&self, loss: &Tensor, rate: f64) -> Result<()> {
        let grads = loss.backward()?;
        for var in self.vars.values() {
            if let Some(grad) = grads.get(var) {
                var.set(&(var.as_tensor() - (grad * rate)?)?)?;
            }
        }
        Ok(())
    }
}

/// What the two networks do differently.
trait Ops {
    #[allow(clippy::too_many_arguments)]
    fn conv_bn(
        w: &mut Weights,
        name: &str,
        x: &Tensor,
        channels: (usize, usize),
        kernel: usize,
        stride: usize,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<Tensor>;
    fn max_pool(x: &Tensor) -> Result<Tensor>;
    fn head(x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor>;
}

struct Ours;

impl Ops for Ours {
    fn conv_bn(
        w: &mut Weights,
        name: &str,
        x: &Tensor,
        (input, output): (usize, usize),
        kernel: usize,
        stride: usize,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<Tensor> {
        let weight = w.get(name, &[output, kernel, kernel, input], Some(2.0), 0.0)?;
        let gamma = w.get(&format!("{name}.gamma"), &[output], None, 1.0)?;
        let beta = w.get(&format!("{name}.beta"), &[output], None, 0.0)?;
        let cfg = ConvConfig {
            stride,
            padding: kernel / 2,
            ..ConvConfig::default()
        };
        let y = kernels::conv2d(x, &weight, None, &cfg)?;
        let act = if relu {
            Activation::Relu
        } else {
            Activation::Identity
        };
        Ok(kernels::batch_norm_train(&y, &gamma, &beta, residual, act, 1e-5)?.0)
    }

    fn max_pool(x: &Tensor) -> Result<Tensor> {
        kernels::max_pool2d(x, 3, 2, 1)
    }

    fn head(x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
        kernels::linear(&kernels::global_avg_pool(x)?, w, Some(b))
    }
}

struct Stock;

impl Ops for Stock {
    fn conv_bn(
        w: &mut Weights,
        name: &str,
        x: &Tensor,
        (input, output): (usize, usize),
        kernel: usize,
        stride: usize,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<Tensor> {
        let weight = w.get(name, &[output, input, kernel, kernel], Some(2.0), 0.0)?;
        let gamma = w.get(&format!("{name}.gamma"), &[output], None, 1.0)?;
        let beta = w.get(&format!("{name}.beta"), &[output], None, 0.0)?;
        let y = x.conv2d(&weight, kernel / 2, stride, 1, 1)?;
        let mean = Tensor::zeros(output, DType::F32, x.device())?;
        let norm = BatchNorm::new(output, mean.clone(), mean.ones_like()?, gamma, beta, 1e-5)?;
        let y = norm.forward_train(&y)?;
        let y = match residual {
            Some(residual) => (y + residual)?,
            None => y,
        };
        if relu { y.relu() } else { Ok(y) }
    }

    /// Columns, then rows, each the maximum of three; zero padding, as the input is a ReLU's.
    fn max_pool(x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for axis in [3, 2] {
            let len = x.dim(axis)?;
            let padded = x.pad_with_zeros(axis, 1, 1)?;
            let tap = |r: u32| {
                let index: Vec<u32> = (0..len as u32 / 2).map(|i| 2 * i + r).collect();
                padded.index_select(&Tensor::new(index, x.device())?, axis)
            };
            x = tap(0)?.maximum(&tap(1)?)?.maximum(&tap(2)?)?;
        }
        Ok(x)
    }

    fn head(x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
        x.mean(3)?.mean(2)?.matmul(&w.t()?)?.broadcast_add(b)
    }
}

fn logits<O: Ops>(w: &mut Weights, x: &Tensor) -> Result<Tensor> {
    let x = O::conv_bn(w, "stem", x, (3, 64), 7, 2, None, true)?;
    let mut x = O::max_pool(&x)?;
    let mut channels = 64;
    for (s, (blocks, middle, stride)) in STAGES.into_iter().enumerate() {
        for b in 0..blocks {
            let name = |part: &str| format!("layer{}.{b}.{part}", s + 1);
            let (output, stride) = (4 * middle, if b == 0 { stride } else { 1 });
            let shortcut = if b == 0 {
                let sizes = (channels, output);
                O::conv_bn(w, &name("down"), &x, sizes, 1, stride, None, false)?
            } else {
                x.clone()
            };
            let y = O::conv_bn(w, &name("a"), &x, (channels, middle), 1, 1, None, true)?;
            let y = O::conv_bn(w, &name("b"), &y, (middle, middle), 3, stride, None, true)?;
            let sizes = (middle, output);
            x = O::conv_bn(w, &name("c"), &y, sizes, 1, 1, Some(&shortcut), true)?;
            channels = output;
        }
    }
    let weight = w.get("fc", &[10, channels], Some(1.0), 0.0)?;
    let bias = w.get("fc.bias", &[10], None, 0.0)?;
    O::head(&x, &weight, &bias)
}

fn train<O: Ops>(w: &mut Weights, x: &Tensor, labels: &Tensor) -> Result<(f32, f64)> {
    let start = Instant::now();
    let loss = candle_nn::loss::cross_entropy(&logits::<O>(w, x)?, labels)?;
    w.step(&loss, RATE)?;
    Ok((loss.to_scalar()?, start.elapsed().as_secs_f64()))
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |i: usize, default: usize| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (batch, rounds) = (number(0, 128), number(1, 5));
    let ours_only = args.iter().any(|a| a == "ours");

    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let pixels: Vec<f32> = (0..batch * 32 * 32 * 3)
        .map(|_| rng.random_range(-1.7f32..1.7))
        .collect();
    let x = Tensor::from_vec(pixels, (batch, 32, 32, 3), &Device::Cpu)?;
    let labels: Vec<u32> = (0..batch).map(|_| rng.random_range(0..10)).collect();
    let labels = Tensor::new(labels, &Device::Cpu)?;
    let stock_x = x.permute((0, 3, 1, 2))?.contiguous()?;

    let mut ours = Weights::new();
    logits::<Ours>(&mut ours, &x.narrow(0, 0, 2)?)?; // creates the weights
    let mut stock = ours.stock()?;
    println!(
        "ResNet-50, 32x32, batch {batch}; {}",
        kernels::cpu_features()
    );

    let (mut our_times, mut stock_times) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (loss, seconds) = train::<Ours>(&mut ours, &x, &labels)?;
        print!(
            "ours {:6.1} images/s, loss {loss:.5}",
            batch as f64 / seconds
        );
        if !ours_only {
            let (stock_loss, stock_seconds) = train::<Stock>(&mut stock, &stock_x, &labels)?;
            let speed = batch as f64 / stock_seconds;
            print!("   stock {speed:6.1} images/s, loss {stock_loss:.5}");
            if round > 0 {
                stock_times.push(stock_seconds);
            }
        }
        println!("{}", if round == 0 { "   (warm-up)" } else { "" });
        if round > 0 {
            our_times.push(seconds);
        }
    }
    let ours = median(&our_times);
    println!("median: ours {:.1} images/s", batch as f64 / ours);
    if !ours_only {
        let stock = median(&stock_times);
        println!(
            "median: stock {:.1} images/s; ratio {:.2}",
            batch as f64 / stock,
            stock / ours
        );
    }
    Ok(())
}
