//! A network as one node against the same layers as plain Candle operators in f64.

use candle_core::{DType, Device, Result, Tensor, Var};
use kernels::{Activation, ConvConfig, ConvNorm, Network, Precision, Slot, compose};

use crate::support::{close, generator, numbers, random, var_on};

/// One convolution with its batch norm: window, stride, groups, outputs; what it reads and adds; its activation.
#[derive(Clone, Copy)]
struct Layer {
    window: usize,
    stride: usize,
    groups: usize,
    outputs: usize,
    input: usize,
    residual: Option<usize>,
    act: Activation,
}

const fn layer(window: usize, stride: usize, outputs: usize, input: usize) -> Layer {
    Layer {
        window,
        stride,
        groups: 1,
        outputs,
        input,
        residual: None,
        act: Activation::Relu,
    }
}

/// A stem, and after the pooling two bottlenecks, the first with a convolution in its shortcut. Slots count from the
/// input; slot 2 is the pooling's.
fn bottlenecks(widths: [usize; 3]) -> Vec<Layer> {
    let [stem, inner, outer] = widths;
    let shortcut = Layer {
        act: Activation::Identity,
        ..layer(1, 2, outer, 2)
    };
    vec![
        layer(7, 2, stem, 0),
        shortcut,              // 3
        layer(1, 1, inner, 2), // 4
        layer(3, 2, inner, 4), // 5
        Layer {
            residual: Some(3),
            ..layer(1, 1, outer, 5)
        }, // 6
        layer(1, 1, inner, 6), // 7
        layer(3, 1, inner, 7), // 8
        Layer {
            residual: Some(6),
            ..layer(1, 1, outer, 8)
        }, // 9
    ]
}

/// The same numbers as variables of one type.
struct Variables {
    x: Var,
    layers: Vec<[Var; 3]>,
}

impl Variables {
    fn new(layers: &[Layer], input: [usize; 4], dtype: DType, seed: u64) -> Result<Self> {
        let mut rng = generator(seed);
        let mut new = |dims: &[usize], around: f64, scale: f64| {
            let values = random(&mut rng, dims.iter().product());
            let values: Vec<f64> = values
                .iter()
                // Numbers that f32 holds exactly, so that both types start from the same.
                .map(|v| f64::from((around + scale * v) as f32))
                .collect();
            var_on(&Device::Cpu, &values, dims, dtype)
        };
        let x = new(&input, 0.0, 1.7)?;
        let mut channels = vec![input[3]];
        let mut all = Vec::new();
        for (i, l) in layers.iter().enumerate() {
            let read = channels[l.input];
            let dims = [l.outputs, l.window, l.window, read / l.groups];
            let fan_in = (dims[1] * dims[2] * dims[3]) as f64;
            all.push([
                new(&dims, 0.0, (3.0 / fan_in).sqrt())?,
                new(&[l.outputs], 1.0, 0.3)?,
                new(&[l.outputs], 0.1, 0.3)?,
            ]);
            channels.push(l.outputs);
            if i == 0 {
                channels.push(l.outputs); // the pooling
            }
        }
        Ok(Self { x, layers: all })
    }

    fn all(&self) -> Vec<&Var> {
        std::iter::once(&self.x)
            .chain(self.layers.iter().flatten())
            .collect()
    }
}

fn config(l: &Layer) -> ConvConfig {
    ConvConfig {
        stride: l.stride,
        padding: l.window / 2,
        groups: l.groups,
        ..ConvConfig::default()
    }
}

const EPS: f64 = 1e-5;

fn network(layers: &[Layer], v: &Variables) -> (Network, Slot) {
    let mut network = Network::new();
    let mut slots = vec![Network::INPUT];
    for (i, (l, [weight, gamma, beta])) in layers.iter().zip(&v.layers).enumerate() {
        let layer = ConvNorm {
            weight: weight.as_tensor().clone(),
            config: config(l),
            gamma: gamma.as_tensor().clone(),
            beta: beta.as_tensor().clone(),
            eps: EPS,
            act: l.act,
        };
        let residual = l.residual.map(|r| slots[r]);
        slots.push(network.conv_norm(slots[l.input], layer, residual));
        if i == 0 {
            slots.push(network.max_pool(slots[1], 3, 2, 1));
        }
    }
    (network, slots[slots.len() - 1])
}

/// A value as f64 holds it.
fn exact(x: &Tensor) -> Result<Tensor> {
    Ok(x.clone())
}

/// A value as bf16 stores it; the gradient passes as it is.
fn stored(x: &Tensor) -> Result<Tensor> {
    let rounded = x.to_dtype(DType::F32)?.to_dtype(DType::BF16)?;
    x + (rounded.to_dtype(DType::F64)? - x)?.detach()
}

/// The composition; with statistics, those instead of the batch's. `store` is applied to whatever the node stores: what
/// is multiplied, the sums, and the normalised.
fn composed(
    layers: &[Layer],
    v: &Variables,
    statistics: Option<&[(Tensor, Tensor)]>,
    store: fn(&Tensor) -> Result<Tensor>,
) -> Result<(Tensor, Vec<(Tensor, Tensor)>)> {
    let mut slots = vec![store(&v.x)?];
    let mut moments = Vec::new();
    for (i, (l, [weight, gamma, beta])) in layers.iter().zip(&v.layers).enumerate() {
        let y = compose::conv2d(&slots[l.input], &store(weight)?, None, &config(l))?;
        let y = if statistics.is_none() { store(&y)? } else { y };
        let residual = l.residual.map(|r| &slots[r]);
        let y = match statistics {
            None => {
                let (y, m) = compose::batch_norm_train(&y, gamma, beta, residual, l.act, EPS)?;
                moments.push((m.mean, m.var));
                y
            }
            Some(all) => {
                let (mean, var) = &all[i];
                compose::batch_norm_eval(&y, gamma, beta, mean, var, residual, l.act, EPS)?
            }
        };
        slots.push(store(&y)?);
        if i == 0 {
            slots.push(compose::max_pool2d(&slots[1], 3, 2, 1)?);
        }
    }
    Ok((compose::global_avg_pool(&slots[slots.len() - 1])?, moments))
}

/// Σ weight · y with a fixed random weighting.
fn weighted(y: &Tensor) -> Result<Tensor> {
    let weight = random(&mut generator(77), y.elem_count());
    let weight = Tensor::from_vec(weight, y.shape(), &Device::Cpu)?.to_dtype(y.dtype())?;
    (y * weight)?.sum_all()
}

fn cases() -> Vec<(Vec<Layer>, [usize; 4])> {
    let grouped = vec![
        layer(3, 1, 12, 0),
        Layer {
            groups: 3,
            ..layer(3, 2, 9, 2)
        },
        layer(1, 1, 5, 3),
    ];
    let identity = vec![
        Layer {
            act: Activation::Identity,
            ..layer(3, 1, 8, 0)
        },
        layer(3, 1, 8, 2),
        Layer {
            act: Activation::Identity,
            residual: Some(2),
            ..layer(3, 1, 8, 3)
        },
    ];
    let transformed = vec![
        layer(3, 1, 32, 0),
        layer(3, 1, 40, 2),
        Layer {
            residual: Some(2),
            ..layer(3, 1, 32, 3)
        },
    ];
    vec![
        (bottlenecks([16, 8, 32]), [6, 20, 20, 3]),
        (bottlenecks([64, 32, 96]), [5, 12, 24, 3]),
        (bottlenecks([7, 5, 11]), [3, 17, 9, 1]), // odd channels, strides that do not divide
        (bottlenecks([16, 8, 16]), [9, 4, 4, 3]), // maps of 1×1
        (grouped, [4, 9, 9, 5]),
        (identity, [1, 10, 6, 4]),                   // one image
        (transformed, [3, 16, 12, 3]),               // 8×6 after the pooling: transformed tiles
        (bottlenecks([64, 32, 96]), [5, 12, 16, 3]), // the last window on 2×2: transformed
    ]
}

#[test]
fn values_and_gradients_are_those_of_the_composition() -> Result<()> {
    for (layers, input) in cases() {
        let what = format!("{input:?} through {} layers", layers.len());
        let single = Variables::new(&layers, input, DType::F32, 5)?;
        let double = Variables::new(&layers, input, DType::F64, 5)?;
        let (want, statistics) = composed(&layers, &double, None, exact)?;
        let want_grads = weighted(&want)?.backward()?;

        let (net, output) = network(&layers, &single);
        let (y, moments) = net.train(output, &single.x, Precision::F32)?;
        close(&what, &numbers(&y)?, &numbers(&want)?, 1e-5);
        for (m, (mean, var)) in moments.iter().zip(&statistics) {
            close(&what, &numbers(&m.mean)?, &numbers(mean)?, 1e-5);
            close(&what, &numbers(&m.var)?, &numbers(var)?, 1e-5);
        }
        let plain = weighted(&y)?.backward()?;
        let again = weighted(&net.train(output, &single.x, Precision::F32)?.0)?;
        let handed_over = kernels::backward(&again)?;
        // What backward needs has been freed on its way.
        let twice = kernels::backward(&again).expect_err("a second backward pass");
        assert!(
            twice.to_string().contains("run the forward pass again"),
            "{twice}"
        );
        for (one, two) in single.all().into_iter().zip(double.all()) {
            let got = plain.get(one).expect("every variable has a gradient");
            let want = want_grads.get(two).expect("every variable has a gradient");
            close(&what, &numbers(got)?, &numbers(want)?, 2e-4);
            let handed = handed_over.get(one).expect("every variable has a gradient");
            assert_eq!(numbers(got)?, numbers(handed)?, "{what}");
        }

        // Given statistics.
        let given: Vec<_> = (statistics.iter())
            .map(|(m, v)| {
                Ok((
                    m.detach().to_dtype(DType::F32)?,
                    v.detach().to_dtype(DType::F32)?,
                ))
            })
            .collect::<Result<_>>()?;
        let (want, _) = composed(&layers, &double, Some(&statistics), exact)?;
        let got = net.infer(output, &single.x, &given, Precision::F32)?;
        close(&what, &numbers(&got)?, &numbers(&want)?, 1e-5);
        assert!(!got.track_op());
        // Prepared with all images, used for the first: its bits do not depend on the others.
        let prepared = net.prepare(output, &single.x, &given, Precision::F32)?;
        let first = prepared.infer(&single.x.narrow(0, 0, 1)?)?;
        assert_eq!(numbers(&first)?, numbers(&got.narrow(0, 0, 1)?)?, "{what}");
        // Used for so many that they are taken in parts.
        let copies = 150 / input[0] + 1;
        let many = Tensor::cat(&vec![single.x.as_tensor(); copies], 0)?;
        for precision in [Precision::F32, Precision::Bf16] {
            let each = net.infer(output, &single.x, &given, precision)?;
            let prepared = net.prepare(output, &single.x, &given, precision)?;
            let all = numbers(&prepared.infer(&many)?)?;
            assert!(
                all == numbers(&each)?.repeat(copies),
                "{what} {precision:?}"
            );
        }
    }
    Ok(())
}

/// |got − want| / |want|, Euclidean.
fn distance(got: &[f64], want: &[f64]) -> f64 {
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut got.iter().zip(want).map(|(g, w)| g - w)) / norm(&mut want.iter().copied())
}

#[test]
fn bf16_is_f64_rounded_where_values_are_stored() -> Result<()> {
    // The oracle rounds what the node stores. What is left: f32 sums that fall on the other side of a rounding's middle,
    // and backward the gradients of the values stored, each rounded by at most 2⁻⁸ of itself, by less than half of that in the mean.
    // (Not the last cases: the mean of what a batch norm leaves of one image is constant, and its gradient nothing; and where
    // transformed tiles round is for the tests of single products to say.)
    let one = 2f64.powi(-9);
    for (layers, input) in cases().into_iter().take(5) {
        let what = format!("{input:?} through {} layers", layers.len());
        let single = Variables::new(&layers, input, DType::F32, 9)?;
        let double = Variables::new(&layers, input, DType::F64, 9)?;
        let (want, statistics) = composed(&layers, &double, None, stored)?;
        let want_grads = weighted(&want)?.backward()?;
        let (net, output) = network(&layers, &single);
        let (y, _) = net.train(output, &single.x, Precision::Bf16)?;
        let off = distance(&numbers(&y)?, &numbers(&want)?);
        assert!(off < one, "{what}: features are off by {off}");
        let (plain, _) = net.train(output, &single.x, Precision::F32)?;
        assert!(
            distance(&numbers(&y)?, &numbers(&plain)?) > one / 4.0,
            "that was not bf16"
        );

        let given: Vec<_> = (statistics.iter())
            .map(|(m, v)| {
                Ok((
                    m.detach().to_dtype(DType::F32)?,
                    v.detach().to_dtype(DType::F32)?,
                ))
            })
            .collect::<Result<_>>()?;
        let (inferred, _) = composed(&layers, &double, Some(&statistics), stored)?;
        let got = net.infer(output, &single.x, &given, Precision::Bf16)?;
        let off = distance(&numbers(&got)?, &numbers(&inferred)?);
        assert!(off < one, "{what}: inferred features are off by {off}");

        let grads = kernels::backward(&weighted(&y)?)?;
        for (one_var, two) in single.all().into_iter().zip(double.all()) {
            let got = numbers(grads.get(one_var).expect("every variable has a gradient"))?;
            let want = numbers(want_grads.get(two).expect("every variable has a gradient"))?;
            let off = distance(&got, &want);
            // A vector's gradient is a sum of many terms that nearly cancel after a batch norm.
            let slack = if one_var.rank() == 1 { 8.0 } else { 1.0 };
            let most = slack * one * (4.0 * layers.len() as f64).sqrt();
            let dims = one_var.dims();
            assert!(off < most, "{what}: a gradient of {dims:?} is off by {off}");
        }
    }
    Ok(())
}

#[test]
fn only_what_is_asked_for_gets_a_gradient() -> Result<()> {
    let layers = bottlenecks([16, 8, 32]);
    let v = Variables::new(&layers, [3, 16, 16, 3], DType::F32, 3)?;
    let x = v.x.detach();
    // Of two layers only the last one's scale is a variable.
    let (net, last) = {
        let mut net = Network::new();
        let stem = ConvNorm {
            weight: v.layers[0][0].detach(),
            config: config(&layers[0]),
            gamma: v.layers[0][1].detach(),
            beta: v.layers[0][2].detach(),
            eps: EPS,
            act: Activation::Relu,
        };
        let stem = net.conv_norm(Network::INPUT, stem, None);
        let body = ConvNorm {
            weight: v.layers[2][0].detach(),
            config: config(&layers[2]),
            gamma: v.layers[2][1].as_tensor().clone(),
            beta: v.layers[2][2].detach(),
            eps: EPS,
            act: Activation::Relu,
        };
        let last = net.conv_norm(stem, body, None);
        (net, last)
    };
    let (y, _) = net.train(last, &x, Precision::F32)?;
    let grads = kernels::backward(&weighted(&y)?)?;
    for var in v.all() {
        let asked_for = var.id() == v.layers[2][1].id();
        assert_eq!(grads.get(var).is_some(), asked_for, "{:?}", var.dims());
    }
    Ok(())
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() -> Result<()> {
    let cases = [
        (bottlenecks([64, 32, 96]), [40, 32, 32, 3]), // the second on 4×4: transformed tiles
        (vec![layer(3, 1, 32, 0), layer(3, 1, 40, 2)], [6, 48, 40, 3]), // weight gradients row by row
        (
            vec![layer(1, 1, 384, 0), layer(3, 1, 384, 2)],
            [3, 16, 16, 3],
        ), // transformed weights beyond a cache, in groups
    ];
    for (layers, input) in cases {
        for precision in [Precision::F32, Precision::Bf16] {
            let step = || -> Result<Vec<Vec<f64>>> {
                let v = Variables::new(&layers, input, DType::F32, 4)?;
                let (net, output) = network(&layers, &v);
                let (y, moments) = net.train(output, &v.x, precision)?;
                let grads = kernels::backward(&weighted(&y)?)?;
                let mut all = vec![numbers(&y)?];
                for m in &moments {
                    all.push(numbers(&m.var)?);
                }
                for v in v.all() {
                    all.push(numbers(
                        grads.get(v).expect("every variable has a gradient"),
                    )?);
                }
                Ok(all)
            };
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.expect("a pool").install(step)
            };
            let one = run(1)?;
            assert!(one.iter().flatten().all(|x| x.is_finite()));
            assert!(one == run(2)? && one == run(3)?, "{input:?}");
        }
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_with_its_layer() -> Result<()> {
    let layers = bottlenecks([16, 8, 32]);
    let v = Variables::new(&layers, [3, 16, 16, 3], DType::F32, 3)?;
    let (net, output) = network(&layers, &v);
    let refused = |net: &Network, output, x: &Tensor, part: &str| {
        let error = net
            .train(output, x, Precision::F32)
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    };
    refused(&net, output, &v.x.to_dtype(DType::F64)?, "f32 on the CPU");
    refused(&net, output, &v.x.narrow(3, 0, 2)?, "weight");
    refused(&net, Network::INPUT, &v.x, "output");
    let mut wrong = Network::new();
    let stem = ConvNorm {
        weight: v.layers[0][0].as_tensor().clone(),
        config: config(&layers[0]),
        gamma: v.layers[1][1].as_tensor().clone(),
        beta: v.layers[0][2].as_tensor().clone(),
        eps: EPS,
        act: Activation::Relu,
    };
    let last = wrong.conv_norm(Network::INPUT, stem, None);
    refused(&wrong, last, &v.x, "gamma of shape [16]");
    let error = net.infer(output, &v.x, &[], Precision::F32).unwrap_err();
    assert!(error.to_string().contains("8 layers"), "{error}");
    let given: Vec<_> = (v.layers.iter())
        .map(|[_, gamma, beta]| (beta.as_detached_tensor(), gamma.as_detached_tensor()))
        .collect();
    let prepared = net.prepare(output, &v.x, &given, Precision::F32)?;
    let error = prepared.infer(&v.x.narrow(1, 0, 8)?).unwrap_err();
    assert!(error.to_string().contains("[16, 16, 3]"), "{error}");
    Ok(())
}
