//! The partition of the work never depends on the number of threads, so neither do the bits.

use candle_core::{DType, Device, Result, Tensor};
use kernels::{
    Activation, ConvConfig, batch_norm_train, conv2d, global_avg_pool, linear, max_pool2d,
};

use crate::support::{generator, random, var_on};

/// A small network's output and gradients, as bits.
fn step() -> Result<Vec<Vec<u32>>> {
    let mut rng = generator(11);
    let mut new = |dims: &[usize]| {
        let values = random(&mut rng, dims.iter().product());
        var_on(&Device::Cpu, &values, dims, DType::F32)
    };
    let x = new(&[24, 12, 12, 3])?;
    let vars = [
        new(&[64, 7, 7, 3])?,
        new(&[64])?,
        new(&[64])?,
        new(&[70, 3, 3, 64])?,
        new(&[70])?,
        new(&[70])?,
        new(&[10, 70])?,
        new(&[10])?,
    ];
    let [stem, g0, b0, body, g1, b1, head, bias] = &vars;
    let cfg = |stride, padding| ConvConfig {
        stride,
        padding,
        ..ConvConfig::default()
    };
    let y = conv2d(&x, stem, None, &cfg(1, 3))?;
    let (y, moments) = batch_norm_train(&y, g0, b0, None, Activation::Relu, 1e-5)?;
    let y = max_pool2d(&y, 3, 2, 1)?;
    let y = conv2d(&y, body, None, &cfg(2, 1))?;
    let r = y.clone();
    let (y, _) = batch_norm_train(&y, g1, b1, Some(&r), Activation::Relu, 1e-5)?;
    let y = linear(&global_avg_pool(&y)?, head, Some(bias.as_tensor()))?;
    let grads = y.sqr()?.sum_all()?.backward()?;
    let bits = |t: &Tensor| -> Result<Vec<u32>> {
        let values = t.flatten_all()?.to_vec1::<f32>()?;
        Ok(values.iter().map(|v| v.to_bits()).collect())
    };
    let mut all = vec![bits(&y)?, bits(&moments.mean)?, bits(&moments.var)?];
    for v in [&x].into_iter().chain(&vars) {
        all.push(bits(grads.get(v).expect("every variable has a gradient"))?);
    }
    Ok(all)
}

#[test]
fn one_two_and_three_threads_give_the_same_bits() -> Result<()> {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("a pool").install(step)
    };
    let one = run(1)?;
    assert!(one.iter().flatten().all(|b| f32::from_bits(*b).is_finite()));
    assert!(one == run(2)? && one == run(3)?);
    Ok(())
}
