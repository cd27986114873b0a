//! Pooling and resizing.

use candle_core::{DType, Device, Result, Tensor};
use kernels::{compose, global_avg_pool, max_pool2d, pad_zeros, upsample_bilinear};
use rand::Rng;

use crate::oracle;
use crate::support::{close, dot, finite_differences, generator, gradients, numbers, random, var};

#[test]
fn max_pooling_follows_the_oracle() -> Result<()> {
    let table = [
        ([2, 16, 16, 5], 3, 2, 1),
        ([1, 7, 5, 33], 3, 2, 1),
        ([3, 6, 6, 4], 2, 2, 0),
        ([2, 1, 1, 3], 3, 2, 1),
        ([2, 5, 8, 1], 3, 1, 1),
        ([1, 9, 9, 2], 5, 3, 2),
        ([2, 4, 4, 2], 1, 1, 0),
        ([1, 8, 8, 20], 2, 3, 1),
    ];
    for (seed, (dims, kernel, stride, padding)) in table.into_iter().enumerate() {
        let mut rng = generator(seed as u64);
        let count = dims.iter().product();
        // Few distinct values: many ties.
        let x: Vec<f64> = (0..count)
            .map(|_| f64::from(rng.random_range(-2i8..3)))
            .collect();
        let (want, from) = oracle::max_pool(dims, &x, kernel, stride, padding);
        let dy = random(&mut rng, want.len());
        let mut dx = vec![0.0; count];
        from.iter().zip(&dy).for_each(|(i, g)| dx[*i] += g);
        for dtype in [DType::F32, DType::F64] {
            let v = var(&x, &dims, dtype)?;
            for y in [
                max_pool2d(&v, kernel, stride, padding)?,
                compose::max_pool2d(&v, kernel, stride, padding)?,
            ] {
                let what = format!("{dims:?} {kernel} {stride} {padding} {dtype:?}");
                assert_eq!(numbers(&y)?, want, "{what}");
                close(&what, &gradients(&y, &dy, &[&v])?[0], &dx, 1e-6);
            }
        }
    }
    Ok(())
}

#[test]
fn a_nan_is_not_hidden() -> Result<()> {
    let mut x = vec![0f32; 16];
    x[5] = f32::NAN;
    let x = Tensor::from_vec(x, (1, 4, 4, 1), &Device::Cpu)?;
    for y in [max_pool2d(&x, 2, 2, 0)?, compose::max_pool2d(&x, 2, 2, 0)?] {
        let y = y.flatten_all()?.to_vec1::<f32>()?;
        assert!(y[0].is_nan() && y[1..].iter().all(|v| *v == 0.0));
    }
    for y in [kernels::relu(&x)?, compose::relu(&x)?] {
        assert!(y.flatten_all()?.to_vec1::<f32>()?[5].is_nan());
    }
    Ok(())
}

#[test]
fn averages_follow_the_equation() -> Result<()> {
    for (seed, dims) in [[2, 3, 5, 7], [1, 1, 1, 4], [3, 2, 2, 65]]
        .into_iter()
        .enumerate()
    {
        let mut rng = generator(seed as u64);
        let [n, h, w, c] = dims;
        let x = random(&mut rng, n * h * w * c);
        let mean = |x: &[f64]| {
            let mut y = vec![0.0; n * c];
            for (i, v) in x.iter().enumerate() {
                y[i / (h * w * c) * c + i % c] += v / (h * w) as f64;
            }
            y
        };
        let dy = random(&mut rng, n * c);
        let v = var(&x, &dims, DType::F32)?;
        for y in [global_avg_pool(&v)?, compose::global_avg_pool(&v)?] {
            assert_eq!(y.dims(), [n, c]);
            close("mean", &numbers(&y)?, &mean(&x), 1e-6);
            let grads = gradients(&y, &dy, &[&v])?;
            finite_differences("mean", &x, &grads[0], &mut rng, |x| dot(&mean(x), &dy));
        }
    }
    Ok(())
}

/// Values of `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`.
#[test]
fn resizing_follows_pytorch() -> Result<()> {
    let x = Tensor::new(&[1f32, 2.0, 3.0, 4.0], &Device::Cpu)?.reshape((1, 2, 2, 1))?;
    let up = upsample_bilinear(&x, 4, 4)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    let want = [
        1.0, 1.25, 1.75, 2.0, 1.5, 1.75, 2.25, 2.5, 2.5, 2.75, 3.25, 3.5, 3.0, 3.25, 3.75, 4.0,
    ];
    assert_eq!(up, want);
    let odd = upsample_bilinear(&x, 3, 2)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    assert_eq!(odd, [1.0, 2.0, 2.0, 3.0, 3.0, 4.0]);
    // Rows of weights sum to one, so the gradient of the sum is the share of the output that each pixel feeds.
    let v = var(&[0.3; 18], &[1, 3, 3, 2], DType::F32)?;
    let grads = upsample_bilinear(&v, 6, 9)?.sum_all()?.backward()?;
    let total: f64 = numbers(grads.get(&v).expect("a gradient"))?.iter().sum();
    assert!((total - 6.0 * 9.0 * 2.0).abs() < 1e-4);
    Ok(())
}

#[test]
fn padding_surrounds_with_zeros() -> Result<()> {
    let x = var(&[1.0, 2.0], &[1, 1, 1, 2], DType::F32)?;
    let y = pad_zeros(&x, 1)?;
    assert_eq!(y.dims(), [1, 3, 3, 2]);
    let mut want = vec![0.0; 18];
    want[8..10].copy_from_slice(&[1.0, 2.0]);
    assert_eq!(numbers(&y)?, want);
    assert_eq!(gradients(&y, &want, &[&x])?[0], [1.0, 2.0]);
    Ok(())
}
