//! The pieces that formulas over pairs are made of.

use candle_core::Tensor;

use crate::{Error, Result, logits};

/// \[x\]₊ = max(x, 0), whose gradient at 0 is 0 (Candle's `relu` has 1 there).
pub(crate) fn hinge(x: &Tensor) -> Result<Tensor> {
    let active = x.detach().gt(0f64)?;
    Ok(active.where_cond(x, &x.zeros_like()?)?)
}

/// ln(1 + eˣ), for any x.
pub(crate) fn softplus(x: &Tensor) -> Result<Tensor> {
    logits::log_add_exp(x, &x.zeros_like()?)
}

/// ln(1 + Σ_j m_ij exp(x_ij)): `[N, M]` → `[N]`; 0 where the mask leaves nothing.
pub(crate) fn log_one_plus_sum_exp(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let total = softplus(&logits::log_sum_exp(x, mask)?)?.squeeze(1)?; // [N]
    let any = mask.max(1)?; // [N], u8
    Ok(any.where_cond(&total, &total.zeros_like()?)?)
}

/// x where the mask holds, 0 elsewhere.
pub(crate) fn masked(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    Ok(mask.where_cond(x, &x.zeros_like()?)?)
}

/// How many entries are not 0.
pub(crate) fn count_nonzero(x: &Tensor) -> Result<usize> {
    let active = x.detach().ne(0f64)?.flatten_all()?.to_vec1::<u8>()?;
    Ok(active.iter().map(|&one| usize::from(one)).sum())
}

/// ln(1 + eˣ) of a number.
pub(crate) fn softplus_of(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// An option that must be a finite number within bounds (both included).
pub(crate) fn check_range(option: &'static str, got: f64, least: f64, most: f64) -> Result<()> {
    if got.is_finite() && (least..=most).contains(&got) {
        return Ok(());
    }
    let expected = match (least, most) {
        (f64::MIN, f64::MAX) => "a finite number".to_owned(),
        (least, f64::MAX) => format!("a finite number of at least {least}"),
        (least, most) => format!("a number from {least} to {most}"),
    };
    Err(Error::Setting {
        option,
        expected,
        got,
    })
}

/// An option that must be a finite number above 0.
pub(crate) fn check_positive(option: &'static str, got: f64) -> Result<()> {
    if got.is_finite() && got > 0.0 {
        return Ok(());
    }
    Err(Error::Setting {
        option,
        expected: "a finite number above 0".to_owned(),
        got,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn kinks_have_the_gradients_of_pytorch() {
        let x = Var::new(&[-1f32, 0.0, 2.0, -200.0, 200.0], &Device::Cpu).unwrap();
        let gradient = |y: Tensor| {
            let store = y.sum_all().unwrap().backward().unwrap();
            store.get(&x).unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(gradient(hinge(&x).unwrap()), [0.0, 0.0, 1.0, 0.0, 1.0]);
        let slope = gradient(softplus(&x).unwrap());
        assert_eq!((slope[1], slope[3], slope[4]), (0.5, 0.0, 1.0));
        let value = softplus(&x).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!((value[3], value[4]), (0.0, 200.0));
        assert!((f64::from(value[2]) - softplus_of(2.0)).abs() < 1e-6);
    }

    #[test]
    fn an_empty_sum_is_ln_of_one() {
        let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let mask = Tensor::new(&[[0u8, 0], [1, 0]], &Device::Cpu).unwrap();
        let sums = log_one_plus_sum_exp(&x, &mask)
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        assert_eq!(sums[0], 0.0);
        assert!((f64::from(sums[1]) - softplus_of(3.0)).abs() < 1e-6);
    }

    #[test]
    fn ranges_are_named() {
        let text = check_range("margin", -1.0, 0.0, f64::MAX)
            .unwrap_err()
            .to_string();
        assert_eq!(
            text,
            "the loss option `margin` must be a finite number of at least 0, got -1"
        );
        assert!(check_range("beta", 1.5, 0.0, 1.0).is_err());
        assert!(check_positive("alpha", f64::NAN).is_err());
        assert!(check_positive("alpha", 2.0).is_ok());
    }
}
