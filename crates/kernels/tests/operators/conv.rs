//! Convolution and the dense layer over a table of geometries.

use candle_core::{DType, Device, Result, Tensor};
use kernels::{ConvConfig, compose, conv2d, linear};

use crate::oracle::Conv;
use crate::support::{
    close, device, dot, finite_differences, generator, gradients, numbers, random, types, var,
};

#[rustfmt::skip]
fn geometries() -> Vec<Conv> {
    // n, h, w, c, o, kh, kw, stride, padding, dilation, groups
    let table = [
        [2, 8, 8, 16, 32, 1, 1, 1, 0, 1, 1],
        [3, 5, 7, 3, 5, 3, 3, 1, 1, 1, 1],
        [2, 9, 6, 3, 7, 7, 7, 2, 3, 1, 1],
        [1, 1, 1, 4, 6, 3, 3, 1, 1, 1, 1],
        [5, 2, 2, 33, 17, 3, 3, 1, 1, 1, 1],
        [2, 4, 4, 40, 70, 3, 3, 1, 1, 1, 1],
        [2, 7, 5, 10, 9, 3, 3, 2, 1, 1, 1],
        [2, 6, 6, 8, 8, 1, 1, 2, 0, 1, 1],
        [1, 7, 7, 5, 3, 1, 1, 3, 0, 1, 1],
        [2, 10, 9, 4, 6, 3, 3, 3, 0, 1, 1],
        [2, 9, 11, 6, 4, 5, 5, 1, 2, 1, 1],
        [1, 9, 9, 6, 4, 3, 3, 1, 2, 2, 1],
        [2, 11, 10, 3, 4, 3, 3, 2, 3, 2, 1],
        [2, 6, 5, 8, 12, 3, 3, 1, 1, 1, 4],
        [2, 6, 6, 7, 7, 3, 3, 2, 1, 1, 7],
        [1, 5, 5, 70, 66, 3, 3, 1, 1, 1, 2],
        [2, 4, 6, 3, 5, 2, 3, 1, 0, 1, 1],
        [2, 3, 3, 4, 4, 3, 1, 2, 1, 1, 1],
        [1, 2, 2, 3, 2, 5, 5, 2, 3, 1, 1],
        [2, 3, 3, 300, 40, 3, 3, 1, 1, 1, 1],
        [150, 1, 1, 20, 34, 3, 3, 1, 1, 1, 1],
        [2, 3, 4, 2, 3, 1, 1, 1, 2, 1, 1],
        // Large maps, whose weight gradient goes row by row: odd widths, several images in a chunk, dilation, groups.
        [3, 9, 11, 33, 37, 3, 3, 1, 1, 1, 1],
        [1, 20, 8, 40, 6, 3, 5, 1, 2, 2, 1],
        [2, 8, 9, 70, 66, 3, 3, 1, 1, 1, 2],
        [2, 34, 10, 32, 13, 3, 3, 1, 0, 1, 1],
        // Transformed tiles: every padding, channels that fill no vector and no panel, several chunks of channels, and of tiles.
        [2, 8, 8, 40, 36, 3, 3, 1, 1, 1, 1],
        [3, 8, 6, 32, 50, 3, 3, 1, 0, 1, 1],
        [9, 4, 4, 33, 32, 3, 3, 1, 2, 1, 1],
        [8, 4, 4, 600, 33, 3, 3, 1, 1, 1, 1],
        [2, 16, 18, 32, 70, 3, 3, 1, 1, 1, 1],
        // The same on maps of 2×2.
        [70, 2, 2, 36, 50, 3, 3, 1, 1, 1, 1],
        [3, 2, 2, 300, 33, 3, 3, 1, 1, 1, 1],
        // So many weights that their panels go in groups, of the output and of the input gradient.
        [1, 4, 4, 288, 512, 3, 3, 1, 1, 1, 1],
        [1, 4, 4, 4100, 32, 3, 3, 1, 1, 1, 1],
    ];
    table
        .into_iter()
        .map(|[n, h, w, c, o, kh, kw, stride, padding, dilation, groups]| Conv {
            n, h, w, c, o, kh, kw,
            cfg: ConvConfig { stride, padding, dilation, groups },
        })
        .collect()
}

#[test]
fn values_and_gradients_follow_the_oracle() -> Result<()> {
    for (seed, g) in geometries().into_iter().enumerate() {
        let mut rng = generator(seed as u64);
        let cg = g.c / g.cfg.groups;
        let (x_dims, w_dims) = ([g.n, g.h, g.w, g.c], [g.o, g.kh, g.kw, cg]);
        let x = random(&mut rng, x_dims.iter().product());
        let w = random(&mut rng, w_dims.iter().product());
        let bias = random(&mut rng, g.o);
        let want = g.forward(&x, &w, &bias);
        let dy = random(&mut rng, want.len());
        let want_grads = g.backward(&x, &w, &dy);
        for (i, at) in [&x, &w, &bias].into_iter().enumerate() {
            finite_differences(
                &format!("oracle {g:?}"),
                at,
                &want_grads[i],
                &mut rng,
                |v| {
                    let mut all = [&x[..], &w[..], &bias[..]];
                    all[i] = v;
                    dot(&g.forward(all[0], all[1], all[2]), &dy)
                },
            );
        }

        for (dtype, tolerance) in types(2e-6, 1e-13) {
            let (xv, wv) = (var(&x, &x_dims, dtype)?, var(&w, &w_dims, dtype)?);
            let bv = var(&bias, &[g.o], dtype)?;
            let fast = conv2d(&xv, &wv, Some(bv.as_tensor()), &g.cfg)?;
            let composed = compose::conv2d(&xv, &wv, Some(bv.as_tensor()), &g.cfg)?;
            for (path, y) in [("conv2d", fast), ("compose", composed)] {
                let what = format!("{path} {dtype:?} {g:?}");
                let (ho, wo) = g.output();
                assert_eq!(y.dims(), [g.n, ho, wo, g.o], "{what}");
                close(&what, &numbers(&y)?, &want, tolerance);
                let grads = gradients(&y, &dy, &[&xv, &wv, &bv])?;
                for ((name, got), want) in ["dx", "dw", "db"].iter().zip(&grads).zip(&want_grads) {
                    close(&format!("{what} {name}"), got, want, tolerance);
                }
            }
            // Without a bias.
            let y = numbers(&conv2d(&xv, &wv, None, &g.cfg)?)?;
            close(
                "no bias",
                &y,
                &g.forward(&x, &w, &vec![0.0; g.o]),
                tolerance,
            );
        }
    }
    Ok(())
}

#[test]
fn strided_and_offset_inputs_are_read_right() -> Result<()> {
    let mut rng = generator(1);
    let g = geometries()[1];
    // x as a permuted NCHW tensor cut out of a larger one, w as a permuted OIHW tensor.
    let big = var(
        &random(&mut rng, (g.n + 1) * g.c * g.h * g.w),
        &[g.n + 1, g.c, g.h, g.w],
        DType::F32,
    )?;
    let filters = var(
        &random(&mut rng, g.o * g.c * 9),
        &[g.o, g.c, 3, 3],
        DType::F32,
    )?;
    let x = big.narrow(0, 1, g.n)?.permute((0, 2, 3, 1))?;
    let w = filters.permute((0, 2, 3, 1))?;
    let (xs, ws) = (numbers(&x)?, numbers(&w)?);
    let y = conv2d(&x, &w, None, &g.cfg)?;
    let want = g.forward(&xs, &ws, &vec![0.0; g.o]);
    close("strided", &numbers(&y)?, &want, 2e-6);
    let dy = random(&mut rng, want.len());
    let [dx, dw, _] = g.backward(&xs, &ws, &dy);
    let got = gradients(&y, &dy, &[&big, &filters])?;
    let image = g.c * g.h * g.w;
    assert!(got[0][..image].iter().all(|v| *v == 0.0));
    let cpu = Device::Cpu;
    let dx = Tensor::from_vec(dx, (g.n, g.h, g.w, g.c), &cpu)?.permute((0, 3, 1, 2))?;
    close("strided dx", &got[0][image..], &numbers(&dx)?, 2e-6);
    let dw = Tensor::from_vec(dw, (g.o, 3, 3, g.c), &cpu)?.permute((0, 3, 1, 2))?;
    close("strided dw", &got[1], &numbers(&dw)?, 2e-6);

    // A gradient that arrives strided.
    let y = conv2d(&x, &w, None, &g.cfg)?.permute((3, 1, 2, 0))?;
    let dy_strided = Tensor::from_slice(&dy, (g.n, 5, 7, g.o), &cpu)?.permute((3, 1, 2, 0))?;
    let again = gradients(&y, &numbers(&dy_strided)?, &[&big, &filters])?;
    close("strided dy", &again[1], &got[1], 2e-6);
    Ok(())
}

#[test]
fn no_images_make_no_gradient() -> Result<()> {
    // On all three ways of the weight gradient: a window of one, rows of a large map, transformed tiles.
    for (side, channels, window) in [(4, 8, 1), (9, 32, 3), (8, 32, 3), (2, 32, 3)] {
        let used = var(
            &vec![0.5; 2 * side * side * channels],
            &[2, side, side, channels],
            DType::F32,
        )?;
        let w = var(
            &vec![0.5; 32 * window * window * channels],
            &[32, window, window, channels],
            DType::F32,
        )?;
        let cfg = ConvConfig {
            padding: window / 2,
            ..ConvConfig::default()
        };
        // What scratch space holds of another batch must not come back.
        conv2d(&used, &w, None, &cfg)?.sum_all()?.backward()?;
        let y = conv2d(&used.narrow(0, 0, 0)?, &w, None, &cfg)?;
        assert_eq!(y.dims(), [0, side, side, 32]);
        let grads = y.sum_all()?.backward()?;
        let dw = numbers(grads.get(&w).expect("a gradient"))?;
        assert!(dw.iter().all(|v| *v == 0.0));
    }
    Ok(())
}

#[test]
fn a_frozen_operand_gets_no_gradient() -> Result<()> {
    let x = Tensor::ones((2, 4, 4, 3), DType::F32, device())?;
    let w = var(&[0.5; 4 * 9 * 3], &[4, 3, 3, 3], DType::F32)?;
    let y = conv2d(&x, &w, None, &ConvConfig::default())?;
    let grads = y.sum_all()?.backward()?;
    assert!(grads.get(&w).is_some() && grads.get(&x).is_none());
    Ok(())
}

#[test]
fn dense_layers_follow_the_equation() -> Result<()> {
    for (seed, [n, i, o]) in [[1, 1, 1], [3, 5, 2], [130, 70, 33], [17, 600, 10]]
        .into_iter()
        .enumerate()
    {
        let mut rng = generator(seed as u64);
        let (x, w) = (random(&mut rng, n * i), random(&mut rng, o * i));
        let bias = random(&mut rng, o);
        let g = Conv {
            n,
            h: 1,
            w: 1,
            c: i,
            o,
            kh: 1,
            kw: 1,
            cfg: ConvConfig::default(),
        };
        let want = g.forward(&x, &w, &bias);
        let dy = random(&mut rng, want.len());
        let want_grads = g.backward(&x, &w, &dy);
        let xv = var(&x, &[n, i], DType::F32)?;
        let wv = var(&w, &[o, i], DType::F32)?;
        let bv = var(&bias, &[o], DType::F32)?;
        for y in [
            linear(&xv, &wv, Some(bv.as_tensor()))?,
            compose::linear(&xv, &wv, Some(bv.as_tensor()))?,
        ] {
            close("linear", &numbers(&y)?, &want, 2e-6);
            let grads = gradients(&y, &dy, &[&xv, &wv, &bv])?;
            for (got, want) in grads.iter().zip(&want_grads) {
                close("linear gradient", got, want, 2e-6);
            }
        }
    }
    Ok(())
}
