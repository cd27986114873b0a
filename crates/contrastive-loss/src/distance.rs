//! Euclidean distances between rows, with gradients that stay finite where rows coincide, and the choice between the
//! similarities and distances that pair losses are written in.

use candle_core::{DType, Tensor};

use crate::Result;
use crate::similarity::{embeddings, in_one_type, one_where_zero, same_width};

/// What a pair loss is a function of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// a·b: cosines, where rows are normalised. Large means near.
    Dot,
    /// ‖a − b‖. Small means near.
    Euclidean,
    /// ‖a − b‖². Small means near.
    SquaredEuclidean,
}

impl Measure {
    /// Its value for every row of `a` with every row of `b`: `[N, D]`, `[M, D]` → `[N, M]`, f32 (f64 stays f64).
    ///
    /// # Errors
    /// If either is not a non-empty rank-2 float tensor, or their widths differ.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use contrastive_loss::Measure;
    /// let a = Tensor::new(&[[0f32, 0.0], [3.0, 0.0]], &Device::Cpu)?;
    /// let b = Tensor::new(&[[3f32, 4.0]], &Device::Cpu)?;
    /// assert_eq!(Measure::Euclidean.matrix(&a, &b)?.to_vec2::<f32>()?, [[5.0], [4.0]]);
    /// assert_eq!(Measure::Dot.matrix(&a, &b)?.to_vec2::<f32>()?, [[0.0], [9.0]]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn matrix(self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let (a, b) = (embeddings(a, "a")?, embeddings(b, "b")?);
        same_width(("a", &a), ("b", &b))?;
        let (a, b) = in_one_type(&a, &b)?;
        let dtype = a.dtype();
        match self {
            Self::Dot => Ok(a.matmul(&b.t()?)?),
            Self::Euclidean => {
                let (squares, apart) = squared(&a, &b)?;
                // √(0 + 1) where rows coincide: finite both ways, and the mask takes the value and the gradient away.
                let length = one_where_zero(&squares)?.sqrt()?;
                let length = apart.where_cond(&length, &length.zeros_like()?)?;
                Ok(length.to_dtype(dtype)?)
            }
            Self::SquaredEuclidean => Ok(squared(&a, &b)?.0.to_dtype(dtype)?),
        }
    }
}

/// ‖a_i − b_j‖² with the mask of the pairs that do not coincide: `[N, D]`, `[M, D]` → `[N, M]`, `[N, M]`.
///
/// ‖a‖² + ‖b‖² − 2 a·b loses the digits of near rows to cancellation, so that it is computed in f64, except on Metal, which
/// has none. What is within its rounding of 0 is exactly 0, without gradient.
fn squared(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
    let (wide, rounding) = if a.device().is_metal() {
        (a.dtype(), 1e-6)
    } else {
        (DType::F64, 1e-13)
    };
    let (a, b) = (a.to_dtype(wide)?, b.to_dtype(wide)?);
    let lengths = a
        .sqr()?
        .sum_keepdim(1)? // [N, 1]
        .broadcast_add(&b.sqr()?.sum_keepdim(1)?.t()?)?; // [N, M]
    let squares = (&lengths - a.matmul(&b.t()?)?.affine(2.0, 0.0)?)?;
    let apart = squares
        .detach()
        .gt(&lengths.detach().affine(rounding, 0.0)?)?;
    let squares = apart.where_cond(&squares, &squares.zeros_like()?)?;
    Ok((squares, apart))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn near_rows_keep_their_distance_and_equal_rows_have_none() {
        let a = Tensor::new(&[[0.6f32, 0.8], [0.6, 0.8]], &Device::Cpu).unwrap();
        let b = Tensor::new(&[[0.6f32, 0.8], [0.6, 0.80001]], &Device::Cpu).unwrap();
        let d = Measure::Euclidean
            .matrix(&a, &b)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        assert_eq!((d[0][0], d[1][0]), (0.0, 0.0));
        // 0.80001 − 0.8 as f32 numbers.
        let expected = 0.80001f32 - 0.8f32;
        assert!((d[0][1] - expected).abs() < 1e-3 * expected, "{d:?}");
    }

    #[test]
    fn gradient_is_the_direction_and_zero_where_rows_coincide() {
        let a = Var::new(&[[3f32, 4.0], [1.0, 1.0]], &Device::Cpu).unwrap();
        let b = Tensor::new(&[[0f32, 0.0], [1.0, 1.0]], &Device::Cpu).unwrap();
        for (measure, expected) in [
            (Measure::Euclidean, [[0.6, 0.8], [0.0, 0.0]]),
            (Measure::SquaredEuclidean, [[6.0, 8.0], [0.0, 0.0]]),
        ] {
            let d = measure.matrix(&a, &b).unwrap();
            let diagonal = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu).unwrap();
            let loss = (d * diagonal).unwrap().sum_all().unwrap();
            let gradient = loss
                .backward()
                .unwrap()
                .get(&a)
                .unwrap()
                .to_vec2::<f32>()
                .unwrap();
            for (got, expected) in gradient.iter().flatten().zip(expected.iter().flatten()) {
                assert!((got - expected).abs() < 1e-6, "{gradient:?}");
            }
        }
    }
}
