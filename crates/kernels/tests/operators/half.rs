//! f16 and bf16: there the compositions are the only path.

use candle_core::{DType, Result};
use kernels::{Activation, ConvConfig, compose};

use crate::oracle::{self, Conv, Norm};
use crate::support::{close, generator, numbers, random, var};

#[test]
fn results_are_within_the_types_rounding() -> Result<()> {
    // The distance from 1 to the next number: a product and a sum are rounded by half of it each.
    for (dtype, step) in [(DType::F16, 2f64.powi(-10)), (DType::BF16, 2f64.powi(-7))] {
        let mut rng = generator(12);
        let mut new = |dims: &[usize]| var(&random(&mut rng, dims.iter().product()), dims, dtype);
        let g = Conv {
            n: 2,
            h: 5,
            w: 4,
            c: 6,
            o: 5,
            kh: 3,
            kw: 3,
            cfg: ConvConfig {
                stride: 2,
                padding: 1,
                ..ConvConfig::default()
            },
        };
        let (x, w, bias) = (new(&[2, 5, 4, 6])?, new(&[5, 3, 3, 6])?, new(&[5])?);
        let y = compose::conv2d(&x, &w, Some(bias.as_tensor()), &g.cfg)?;
        assert_eq!(y.dtype(), dtype);
        let want = g.forward(&numbers(&x)?, &numbers(&w)?, &numbers(&bias)?);
        close(&format!("conv2d {dtype:?}"), &numbers(&y)?, &want, step);

        let (gamma, beta, r) = (new(&[6])?, new(&[6])?, new(&[2, 5, 4, 6])?);
        let residual = Some(r.as_tensor());
        let (y, _) =
            compose::batch_norm_train(&x, &gamma, &beta, residual, Activation::Relu, 1e-5)?;
        assert_eq!(y.dtype(), dtype);
        let want = Norm {
            x: &numbers(&x)?,
            gamma: &numbers(&gamma)?,
            beta: &numbers(&beta)?,
            residual: Some(&numbers(&r)?),
            relu: true,
            eps: 1e-5,
            fixed: None,
        }
        .forward();
        close(&format!("batch norm {dtype:?}"), &numbers(&y)?, &want, step);

        let y = compose::max_pool2d(&x, 3, 2, 1)?;
        assert_eq!(y.dtype(), dtype);
        let (want, _) = oracle::max_pool([2, 5, 4, 6], &numbers(&x)?, 3, 2, 1);
        assert_eq!(numbers(&y)?, want); // nothing is rounded
    }
    Ok(())
}
