//! Log-sum-exps over masked rows that stay finite, with finite gradients.
//!
//! Mask first, then subtract the row maximum over what is left, then exponentiate. Maxima are constants for autograd: they
//! cancel in every loss, and Candle's gradient of `max` counts ties twice. No sentinel such as −10⁹ or −∞ enters a sum, so
//! nothing depends on what a type can represent.

use candle_core::{DType, Device, Shape, Tensor};

use crate::Result;
use crate::similarity::one_where_zero;

/// s_ij − max over the unmasked j of s_ij; 0 in masked entries: `[N, M]` → `[N, M]`.
///
/// Every loss here is unchanged when a constant is added to a row, and more accurate after this: at low temperatures the
/// similarities are large and their differences are what counts.
pub(crate) fn centre(similarity: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let maximum = row_max(similarity, mask)?;
    Ok(mask.where_cond(
        &similarity.broadcast_sub(&maximum)?,
        &similarity.zeros_like()?,
    )?)
}

/// LSE_i = ln Σ_j m_ij exp(s_ij): `[N, M]` → `[N, 1]`; 0 where the mask leaves nothing.
pub(crate) fn log_sum_exp(similarity: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let maximum = row_max(similarity, mask)?; // [N, 1]
    let zeros = similarity.zeros_like()?;
    let shifted = mask.where_cond(&similarity.broadcast_sub(&maximum)?, &zeros)?; // [N, M], at most 0
    let weights = mask.to_dtype(similarity.dtype())?;
    let total = (shifted.exp()? * weights)?.sum_keepdim(1)?; // at least 1, or 0 where nothing is left
    let empty = total.detach().eq(0f64)?;
    let maximum = empty.where_cond(&maximum.zeros_like()?, &maximum)?;
    Ok((one_where_zero(&total)?.log()? + maximum)?)
}

/// A constant of `like`'s type on its device. The cast happens on the CPU: Metal has no f64.
pub(crate) fn constant(values: Vec<f64>, shape: impl Into<Shape>, like: &Tensor) -> Result<Tensor> {
    let shape: Shape = shape.into();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?
        .to_dtype(like.dtype())?
        .to_device(like.device())?)
}

/// ln(eᵃ + eᵇ), element by element.
pub(crate) fn log_add_exp(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let maximum = a.detach().maximum(&b.detach())?;
    let sum = ((a - &maximum)?.exp()? + (b - &maximum)?.exp()?)?;
    Ok((sum.log()? + maximum)?)
}

/// The largest unmasked entry of each row, a constant for autograd: `[N, M]` → `[N, 1]`; the type's least number where
/// nothing is left.
fn row_max(similarity: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let similarity = similarity.detach();
    let least = match similarity.dtype() {
        DType::F64 => Tensor::full(f64::MIN, similarity.shape(), similarity.device())?,
        _ => Tensor::full(f32::MIN, similarity.shape(), similarity.device())?,
    };
    Ok(mask.where_cond(&similarity, &least)?.max_keepdim(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    #[test]
    fn row_maximum_ignores_what_is_masked() {
        // The masked entry would push the others below f32's range of exponentials.
        let s = Tensor::new(&[[1000f32, 0.0, 1.0], [5.0, 5.0, 5.0]], &Device::Cpu).unwrap();
        let mask = Tensor::new(&[[0u8, 1, 1], [0, 0, 0]], &Device::Cpu).unwrap();
        let lse = log_sum_exp(&s, &mask).unwrap().to_vec2::<f32>().unwrap();
        assert!((lse[0][0] - 1.3132617).abs() < 1e-6, "{lse:?}");
        assert_eq!(lse[1][0], 0.0);
        let centred = centre(&s, &mask).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(centred, [[0.0, -1.0, 0.0], [0.0, 0.0, 0.0]]);
    }

    #[test]
    fn gradient_is_the_masked_softmax_even_with_ties_and_empty_rows() {
        let s = Var::new(&[[2f32, 2.0, 9.0], [1.0, 2.0, 3.0]], &Device::Cpu).unwrap();
        let mask = Tensor::new(&[[1u8, 1, 0], [0, 0, 0]], &Device::Cpu).unwrap();
        let loss = log_sum_exp(&s, &mask).unwrap().sum_all().unwrap();
        let gradient = loss
            .backward()
            .unwrap()
            .get(&s)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        assert_eq!(gradient, [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]);
    }

    #[test]
    fn log_add_exp_of_far_and_equal_numbers() {
        let a = Var::new(&[0f32, -1000.0, 3.0], &Device::Cpu).unwrap();
        let b = Tensor::new(&[0f32, 2.0, -1000.0], &Device::Cpu).unwrap();
        let sum = log_add_exp(&a, &b).unwrap();
        let values = sum.to_vec1::<f32>().unwrap();
        assert!(
            (values[0] - std::f32::consts::LN_2).abs() < 1e-6 && values[1..] == [2.0, 3.0],
            "{values:?}"
        );
        let gradient = sum
            .sum_all()
            .unwrap()
            .backward()
            .unwrap()
            .get(&a)
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        assert_eq!(gradient, [0.5, 0.0, 1.0]);
    }
}
