//! A small residual network trained for a few steps: the kernels and the compositions take the same path.

use candle_core::{DType, Result, Tensor, Var};
use kernels::{
    Activation, ConvConfig, batch_norm_train, compose, conv2d, global_avg_pool, linear, max_pool2d,
};

use crate::support::{generator, random, var};

type Conv = fn(&Tensor, &Tensor, Option<&Tensor>, &ConvConfig) -> Result<Tensor>;
type Linear = fn(&Tensor, &Tensor, Option<&Tensor>) -> Result<Tensor>;

fn losses(fast: bool) -> Result<Vec<f32>> {
    let mut rng = generator(21);
    let mut new = |dims: &[usize], scale: f64| {
        let values = random(&mut rng, dims.iter().product());
        let values: Vec<f64> = values.iter().map(|v| v * scale).collect();
        var(&values, dims, DType::F32)
    };
    let x = new(&[32, 16, 16, 3], 1.7)?;
    let target = new(&[32, 10], 1.0)?;
    let vars = [
        new(&[16, 7, 7, 3], 0.1)?,
        new(&[8, 1, 1, 16], 0.3)?,
        new(&[8, 3, 3, 8], 0.15)?,
        new(&[40, 1, 1, 8], 0.3)?,
        new(&[40, 1, 1, 16], 0.3)?,
        new(&[10, 40], 0.2)?,
    ];
    let affine: Vec<(Var, Var)> = [16, 8, 8, 40, 40]
        .into_iter()
        .map(|c| {
            Ok((
                var(&vec![1.0; c], &[c], DType::F32)?,
                var(&vec![0.1; c], &[c], DType::F32)?,
            ))
        })
        .collect::<Result<_>>()?;
    let conv: Conv = if fast { conv2d } else { compose::conv2d };
    let dense: Linear = if fast { linear } else { compose::linear };
    let layer = |i: usize, x: &Tensor, stride, residual: Option<&Tensor>, act| {
        let cfg = ConvConfig {
            stride,
            padding: vars[i].dim(1)? / 2,
            ..ConvConfig::default()
        };
        let y = conv(x, &vars[i], None, &cfg)?;
        let norm = if fast {
            batch_norm_train
        } else {
            compose::batch_norm_train
        };
        Ok::<_, candle_core::Error>(norm(&y, &affine[i].0, &affine[i].1, residual, act, 1e-5)?.0)
    };
    let mut losses = Vec::new();
    for _ in 0..6 {
        let y = layer(0, &x, 2, None, Activation::Relu)?;
        let y = if fast {
            max_pool2d(&y, 3, 2, 1)?
        } else {
            compose::max_pool2d(&y, 3, 2, 1)?
        };
        let short = layer(4, &y, 2, None, Activation::Identity)?;
        let y = layer(1, &y, 1, None, Activation::Relu)?;
        let y = layer(2, &y, 2, None, Activation::Relu)?;
        let y = layer(3, &y, 1, Some(&short), Activation::Relu)?;
        let y = if fast {
            global_avg_pool(&y)?
        } else {
            compose::global_avg_pool(&y)?
        };
        let loss = (dense(&y, &vars[5], None)? - target.as_tensor())?
            .sqr()?
            .mean_all()?;
        let grads = loss.backward()?;
        for v in vars.iter().chain(affine.iter().flat_map(|(g, b)| [g, b])) {
            let grad = grads.get(v).expect("every variable has a gradient");
            v.set(&(v.as_tensor() - (grad * 0.1)?)?)?;
        }
        losses.push(loss.to_scalar()?);
    }
    Ok(losses)
}

#[test]
fn kernels_and_compositions_train_alike() -> Result<()> {
    let (fast, composed) = (losses(true)?, losses(false)?);
    for (f, c) in fast.iter().zip(&composed) {
        assert!((f - c).abs() < 1e-4 * c.abs(), "{fast:?} {composed:?}");
    }
    assert!(fast[5] < fast[0]);
    Ok(())
}
