//! Batch norm with and without residual and activation, training and evaluation.

use candle_core::{DType, Result, Tensor, Var};
use kernels::{Activation, batch_norm_eval, batch_norm_train, compose};

use crate::oracle::Norm;
use crate::support::{
    close, dot, finite_differences, generator, gradients, numbers, random, types, var,
};

const EPS: f64 = 1e-3;

struct Case {
    dims: Vec<usize>,
    residual: bool,
    act: Activation,
    fixed: bool,
}

impl Case {
    /// Of inputs x, gamma, beta and perhaps residual.
    fn oracle<'a>(&self, inputs: &'a [Vec<f64>], mean: &'a [f64], var: &'a [f64]) -> Norm<'a> {
        Norm {
            x: &inputs[0],
            gamma: &inputs[1],
            beta: &inputs[2],
            residual: inputs.get(3).map(Vec::as_slice),
            relu: self.act == Activation::Relu,
            eps: EPS,
            fixed: self.fixed.then_some((mean, var)),
        }
    }
}

fn cases() -> Vec<Case> {
    let shapes: [&[usize]; 7] = [
        &[2, 3, 5, 7],
        &[4, 1, 1, 33],
        &[700, 64],
        &[19, 3],
        &[2, 1],
        &[1, 2, 2, 40],
        &[1, 1, 1, 5],
    ];
    let mut cases = Vec::new();
    for dims in shapes {
        for residual in [false, true] {
            for act in [Activation::Identity, Activation::Relu] {
                for fixed in [false, true] {
                    cases.push(Case {
                        dims: dims.to_vec(),
                        residual,
                        act,
                        fixed,
                    });
                }
            }
        }
    }
    cases
}

#[test]
fn values_and_gradients_follow_the_oracle() -> Result<()> {
    for (seed, case) in cases().into_iter().enumerate() {
        let mut rng = generator(seed as u64);
        let count: usize = case.dims.iter().product();
        let c = case.dims[case.dims.len() - 1];
        let mut inputs = vec![
            random(&mut rng, count),
            random(&mut rng, c),
            random(&mut rng, c),
        ];
        if case.residual {
            inputs.push(random(&mut rng, count));
        }
        let mean = random(&mut rng, c);
        let var_: Vec<f64> = random(&mut rng, c)
            .iter()
            .map(|v| f64::from((v.abs() + 0.1) as f32))
            .collect();
        let oracle = case.oracle(&inputs, &mean, &var_);
        let want = oracle.forward();
        let mut dy = random(&mut rng, count);
        if oracle.relu {
            // Near the corner of a ReLU rounding decides: no gradient is asked for there.
            let before = Norm {
                relu: false,
                ..case.oracle(&inputs, &mean, &var_)
            };
            for (dy, before) in dy.iter_mut().zip(before.forward()) {
                if before.abs() < 1e-3 {
                    *dy = 0.0;
                }
            }
        }
        let want_grads = oracle.backward(&dy);
        for (i, at) in inputs.iter().enumerate() {
            let what = format!(
                "oracle {:?} {:?} fixed {}, input {i}",
                case.dims, case.act, case.fixed
            );
            finite_differences(&what, at, &want_grads[i], &mut rng, |v| {
                let mut all = inputs.clone();
                all[i] = v.to_vec();
                dot(&case.oracle(&all, &mean, &var_).forward(), &dy)
            });
        }

        for (dtype, tolerance) in types(2e-5, 1e-12) {
            let vector = [c];
            let vars: Vec<Var> = inputs
                .iter()
                .enumerate()
                .map(|(i, v)| {
                    let dims: &[usize] = if i == 1 || i == 2 {
                        &vector
                    } else {
                        &case.dims
                    };
                    var(v, dims, dtype)
                })
                .collect::<Result<_>>()?;
            let t: Vec<&Tensor> = vars.iter().map(Var::as_tensor).collect();
            let r = t.get(3).copied();
            let (m, v) = (var(&mean, &[c], dtype)?, var(&var_, &[c], dtype)?);
            let results = if case.fixed {
                [
                    batch_norm_eval(t[0], t[1], t[2], &m, &v, r, case.act, EPS)?,
                    compose::batch_norm_eval(t[0], t[1], t[2], &m, &v, r, case.act, EPS)?,
                ]
            } else {
                [
                    batch_norm_train(t[0], t[1], t[2], r, case.act, EPS)?.0,
                    compose::batch_norm_train(t[0], t[1], t[2], r, case.act, EPS)?.0,
                ]
            };
            let refs: Vec<&Var> = vars.iter().collect();
            for (path, y) in ["kernel", "compose"].iter().zip(results) {
                let what = format!(
                    "{path} {dtype:?} {:?} residual {} {:?} fixed {}",
                    case.dims, case.residual, case.act, case.fixed
                );
                close(&what, &numbers(&y)?, &want, tolerance);
                let grads = gradients(&y, &dy, &refs)?;
                for (i, (got, want)) in grads.iter().zip(&want_grads).enumerate() {
                    close(&format!("{what}, gradient {i}"), got, want, tolerance);
                }
                if case.fixed {
                    let grads = (y.sum_all()?).backward()?;
                    assert!(grads.get(&m).is_none() && grads.get(&v).is_none(), "{what}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_activation_is_flat_at_zero() -> Result<()> {
    let x = var(&[-1.0, 0.0, 2.0], &[3, 1], DType::F32)?;
    let (zero, one) = (
        var(&[0.0], &[1], DType::F32)?,
        var(&[1.0], &[1], DType::F32)?,
    );
    let r = var(&[0.0; 3], &[3, 1], DType::F32)?;
    for residual in [None, Some(r.as_tensor())] {
        for norm in [batch_norm_eval, compose::batch_norm_eval] {
            let y = norm(
                &x,
                &one,
                &zero,
                &zero,
                &one,
                residual,
                Activation::Relu,
                0.0,
            )?;
            assert_eq!(numbers(&y)?, [0.0, 0.0, 2.0]);
            let grads = gradients(&y, &[1.0; 3], &[&x, &zero])?;
            assert_eq!(grads, [vec![0.0, 0.0, 1.0], vec![1.0]]);
        }
    }
    Ok(())
}

#[test]
fn kernel_and_composition_agree_on_every_gradient() -> Result<()> {
    let mut rng = generator(9);
    let dims = [6, 5, 4, 48];
    let count = dims.iter().product();
    let x = var(&random(&mut rng, count), &dims, DType::F32)?;
    let r = var(&random(&mut rng, count), &dims, DType::F32)?;
    let gamma = var(&random(&mut rng, 48), &[48], DType::F32)?;
    let beta = var(&random(&mut rng, 48), &[48], DType::F32)?;
    let dy = random(&mut rng, count);
    let all = [&x, &r, &gamma, &beta];
    let residual = Some(r.as_tensor());
    let (fast, moments) = batch_norm_train(&x, &gamma, &beta, residual, Activation::Relu, EPS)?;
    let (plain, plain_moments) =
        compose::batch_norm_train(&x, &gamma, &beta, residual, Activation::Relu, EPS)?;
    let fast_grads = gradients(&fast, &dy, &all)?;
    for (f, p) in fast_grads.iter().zip(gradients(&plain, &dy, &all)?) {
        close("gradient", f, &p, 1e-5);
    }
    assert_eq!(moments.count, 120);
    assert_eq!(plain_moments.count, 120);
    close(
        "mean",
        &numbers(&moments.mean)?,
        &numbers(&plain_moments.mean)?,
        1e-6,
    );
    close(
        "var",
        &numbers(&moments.var)?,
        &numbers(&plain_moments.var)?,
        1e-6,
    );
    assert!(!moments.mean.track_op() && !moments.var.track_op());
    Ok(())
}

/// A mean a thousand times the deviation, and one wild row where the rough mean samples.
#[test]
fn statistics_stay_accurate_far_from_zero() -> Result<()> {
    let mut rng = generator(3);
    let (rows, c) = (3000, 5);
    let mut x: Vec<f64> = random(&mut rng, rows * c)
        .iter()
        .map(|v| f64::from((v + 1000.0) as f32))
        .collect();
    for wild in [false, true] {
        if wild {
            x[..c].fill(-50_000.0);
        }
        let (gamma, beta) = (vec![1.0; c], vec![0.0; c]);
        let oracle = Norm {
            x: &x,
            gamma: &gamma,
            beta: &beta,
            residual: None,
            relu: false,
            eps: EPS,
            fixed: None,
        };
        let (mean, variance) = oracle.moments();
        let (xv, ones) = (
            var(&x, &[rows, c], DType::F32)?,
            var(&gamma, &[c], DType::F32)?,
        );
        let zeros = var(&beta, &[c], DType::F32)?;
        let (_, m) = batch_norm_train(&xv, &ones, &zeros, None, Activation::Identity, EPS)?;
        for j in 0..c {
            let (got_mean, got_var) = (numbers(&m.mean)?[j], numbers(&m.var)?[j]);
            assert!(
                (got_mean / mean[j] - 1.0).abs() < 1e-6,
                "{got_mean} {}",
                mean[j]
            );
            assert!(
                (got_var / variance[j] - 1.0).abs() < 1e-4,
                "{got_var} {}",
                variance[j]
            );
        }
    }
    Ok(())
}
