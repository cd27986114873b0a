//! Pooling and resizing.

use candle_core::{DType, Result};
use kernels::{compose, global_avg_pool, max_pool2d, pad_zeros, upsample_bilinear};
use rand::Rng;

use crate::oracle;
use crate::support::{
    close, dot, finite_differences, generator, gradients, numbers, random, types, var,
};

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
        for (dtype, tolerance) in types(1e-6, 1e-13) {
            let v = var(&x, &dims, dtype)?;
            for y in [
                max_pool2d(&v, kernel, stride, padding)?,
                compose::max_pool2d(&v, kernel, stride, padding)?,
            ] {
                let what = format!("{dims:?} {kernel} {stride} {padding} {dtype:?}");
                assert_eq!(numbers(&y)?, want, "{what}");
                close(&what, &gradients(&y, &dy, &[&v])?[0], &dx, tolerance);
            }
        }
    }
    Ok(())
}

#[test]
fn a_nan_is_a_maximum() -> Result<()> {
    let mut x = vec![0.0; 16];
    for i in [5, 10, 15] {
        x[i] = f64::NAN;
    }
    let v = var(&x, &[1, 4, 4, 1], DType::F32)?;
    // Of the two in the last window, the first.
    let mut dx = vec![0.0; 16];
    for (i, g) in [(5, 1.0), (2, 2.0), (8, 3.0), (10, 4.0)] {
        dx[i] = g;
    }
    for y in [max_pool2d(&v, 2, 2, 0)?, compose::max_pool2d(&v, 2, 2, 0)?] {
        let values = numbers(&y)?;
        assert!(values[0].is_nan() && values[3].is_nan());
        assert_eq!(values[1..3], [0.0, 0.0]);
        assert_eq!(gradients(&y, &[1.0, 2.0, 3.0, 4.0], &[&v])?[0], dx);
    }
    for y in [kernels::relu(&v)?, compose::relu(&v)?] {
        assert!(numbers(&y)?[5].is_nan());
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
    let x = var(&[1.0, 2.0, 3.0, 4.0], &[1, 2, 2, 1], DType::F32)?;
    let up = numbers(&upsample_bilinear(&x, 4, 4)?)?;
    let want = [
        1.0, 1.25, 1.75, 2.0, 1.5, 1.75, 2.25, 2.5, 2.5, 2.75, 3.25, 3.5, 3.0, 3.25, 3.75, 4.0,
    ];
    assert_eq!(up, want);
    let odd = numbers(&upsample_bilinear(&x, 3, 2)?)?;
    assert_eq!(odd, [1.0, 2.0, 2.0, 3.0, 3.0, 4.0]);
    Ok(())
}

#[test]
fn resizing_follows_the_oracle() -> Result<()> {
    let table = [
        ([2, 3, 4, 2], 6, 8),
        ([2, 3, 4, 2], 3, 7),
        ([1, 1, 1, 3], 3, 2),
        ([1, 5, 4, 1], 7, 9),
        ([2, 6, 5, 3], 4, 2),
    ];
    for (seed, (dims, height, width)) in table.into_iter().enumerate() {
        let mut rng = generator(seed as u64);
        let [n, _, _, c] = dims;
        let x = random(&mut rng, dims.iter().product());
        let dy = random(&mut rng, n * height * width * c);
        let (mut want, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
        oracle::bilinear(dims, height, width, |to, from, share| {
            want[to] += share * x[from];
            dx[from] += share * dy[to];
        });
        let v = var(&x, &dims, DType::F32)?;
        let y = upsample_bilinear(&v, height, width)?;
        let what = format!("{dims:?} to {height}x{width}");
        close(&what, &numbers(&y)?, &want, 1e-6);
        close(&what, &gradients(&y, &dy, &[&v])?[0], &dx, 1e-6);
    }
    Ok(())
}

#[test]
fn padding_surrounds_with_zeros() -> Result<()> {
    let table = [([1, 1, 1, 2], 1), ([2, 3, 4, 3], 2), ([2, 2, 1, 5], 0)];
    for (seed, (dims, padding)) in table.into_iter().enumerate() {
        let mut rng = generator(seed as u64);
        let [n, h, w, c] = dims;
        let (height, width) = (h + 2 * padding, w + 2 * padding);
        let x = random(&mut rng, dims.iter().product());
        let dy = random(&mut rng, n * height * width * c);
        let (mut want, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
        for (from, x) in x.iter().enumerate() {
            let (image, a, b, k) = (
                from / (h * w * c),
                from / (w * c) % h,
                from / c % w,
                from % c,
            );
            let to = ((image * height + a + padding) * width + b + padding) * c + k;
            (want[to], dx[from]) = (*x, dy[to]);
        }
        let v = var(&x, &dims, DType::F32)?;
        let y = pad_zeros(&v, padding)?;
        assert_eq!(y.dims(), [n, height, width, c]);
        assert_eq!(numbers(&y)?, want);
        assert_eq!(gradients(&y, &dy, &[&v])?[0], dx);
    }
    Ok(())
}
