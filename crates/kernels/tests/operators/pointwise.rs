//! ReLU and dropout.

use candle_core::{DType, Result, Tensor};
use kernels::{compose, dropout, relu};

use crate::support::{device, generator, gradients, numbers, random, var};

#[test]
fn relu_is_flat_at_zero() -> Result<()> {
    let x = var(&[-1.5, 0.0, -0.0, 2.0], &[4], DType::F32)?;
    for y in [relu(&x)?, compose::relu(&x)?] {
        assert_eq!(numbers(&y)?, [0.0, 0.0, 0.0, 2.0]);
        let grads = gradients(&y, &[1.0; 4], &[&x])?;
        assert_eq!(grads[0], [0.0, 0.0, 0.0, 1.0]);
    }
    let mut rng = generator(0);
    let x = var(&random(&mut rng, 70_001), &[70_001], DType::F32)?;
    assert_eq!(numbers(&relu(&x)?)?, numbers(&compose::relu(&x)?)?);
    Ok(())
}

#[test]
fn dropout_keeps_the_mean_and_repeats_itself() -> Result<()> {
    let x = Tensor::ones((100, 200), DType::F32, device())?;
    for p in [0.1, 0.5, 0.9] {
        let y = numbers(&dropout(&x, p, &mut generator(5))?)?;
        let kept = y.iter().filter(|v| **v != 0.0).count() as f64 / y.len() as f64;
        assert!((kept - (1.0 - p)).abs() < 0.015, "{kept} kept at {p}");
        assert!(
            y.iter()
                .all(|v| *v == 0.0 || (v - 1.0 / (1.0 - p)).abs() < 1e-5)
        );
        assert_eq!(y, numbers(&dropout(&x, p, &mut generator(5))?)?);
        assert_ne!(y, numbers(&dropout(&x, p, &mut generator(6))?)?);
    }
    let v = var(&[2.0; 50], &[50], DType::F32)?;
    let y = dropout(&v, 0.5, &mut generator(7))?;
    let grads = gradients(&y, &[1.0; 50], &[&v])?;
    let share: Vec<f64> = numbers(&y)?.iter().map(|y| y / 2.0).collect();
    assert_eq!(grads[0], share);
    assert_eq!(numbers(&dropout(&v, 0.0, &mut generator(7))?)?, [2.0; 50]);
    Ok(())
}
