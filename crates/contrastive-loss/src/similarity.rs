//! Cosine similarity, the first formula of the SHARCNET slides:
//!
//! cos(a, b) = a·b / (‖a‖ ‖b‖)
//!
//! and its matrix over a batch, s_ij = z_i·z_j / τ.

use candle_core::{D, DType, Tensor};

use crate::unit::unit_rows;
use crate::{Error, Result, tiled};

/// The smallest temperature: below it 1/τ times a similarity leaves f32.
const LEAST_TEMPERATURE: f64 = 1e-30;

/// Divides each row by its Euclidean length: `[N, D]` → `[N, D]`, f32 (f64 stays f64).
///
/// Lengths neither overflow nor underflow: they are in f64 on the CPU, and elsewhere rows are divided by their largest magnitude first. A row of zeros has no
/// direction: it stays zero and passes no gradient (PyTorch's `F.normalize` passes 10¹² times the incoming one).
///
/// # Errors
/// If `x` is not a non-empty `[N, D]` tensor of floats.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[3f32, 4.0], [0.0, 0.0]], &Device::Cpu)?;
/// let z = contrastive_loss::normalize(&x)?.to_vec2::<f32>()?;
/// assert_eq!(z, [[0.6, 0.8], [0.0, 0.0]]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn normalize(x: &Tensor) -> Result<Tensor> {
    let x = embeddings(x, "embeddings")?; // [N, D]
    if tiled::applies(&x) {
        return unit_rows(&x);
    }
    let largest = x.detach().abs()?.max_keepdim(1)?; // [N, 1]
    let x = x.broadcast_div(&one_where_zero(&largest)?)?;
    let squares = x.sqr()?.sum_keepdim(1)?; // [N, 1], within [1, D], or 0 for a zero row
    // For a zero row the length becomes √(0 + 1): nothing flows back, since x·x̄ is 0 there, except the direct term, which
    // the factor `nonzero` removes.
    let nonzero = squares.detach().ne(0f64)?.to_dtype(x.dtype())?;
    let length = one_where_zero(&squares)?.sqrt()?;
    Ok(x.broadcast_div(&length)?.broadcast_mul(&nonzero)?)
}

/// Cosine similarity of every row of `a` with every row of `b`: `[N, D]`, `[M, D]` → `[N, M]`, within rounding of [−1, 1].
///
/// cos(a_i, b_j) = a_i·b_j / (‖a_i‖ ‖b_j‖); 0 where either row is zero.
///
/// # Errors
/// If either is not a non-empty rank-2 float tensor, or their widths differ.
///
/// Source: SHARCNET slides "Contrastive Learning" (W. Guan), first formula.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let a = Tensor::new(&[[1f32, 0.0]], &Device::Cpu)?;
/// let b = Tensor::new(&[[2f32, 0.0], [0.0, 3.0], [-1.0, 0.0]], &Device::Cpu)?;
/// let cosines = contrastive_loss::cosine_similarity(&a, &b)?.to_vec2::<f32>()?;
/// assert_eq!(cosines, [[1.0, 0.0, -1.0]]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn cosine_similarity(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (a, b) = (normalize(a)?, normalize(b)?);
    same_width(("a", &a), ("b", &b))?;
    let (a, b) = in_one_type(&a, &b)?;
    Ok(a.matmul(&b.t()?)?)
}

/// The similarity matrix s_ij = z_i·z_j / τ of the rows of `z` as they are: `[N, D]` → `[N, N]`, f32 (f64 stays f64).
///
/// It does not normalise: for cosines, call [`normalize`] first.
///
/// # Errors
/// If `z` is not a non-empty `[N, D]` float tensor, or τ is not a positive finite number.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let z = Tensor::new(&[[1f32, 0.0], [0.0, 2.0]], &Device::Cpu)?;
/// let s = contrastive_loss::similarity_matrix(&z, 0.5)?.to_vec2::<f32>()?;
/// assert_eq!(s, [[2.0, 0.0], [0.0, 8.0]]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn similarity_matrix(z: &Tensor, temperature: f64) -> Result<Tensor> {
    check_temperature(temperature)?;
    let z = embeddings(z, "embeddings")?; // [N, D]
    Ok(z.matmul(&z.t()?)?.affine(1.0 / temperature, 0.0)?) // [N, N]
}

/// A usable temperature, or the error that says why not.
pub(crate) fn check_temperature(got: f64) -> Result<()> {
    if got.is_finite() && got >= LEAST_TEMPERATURE {
        Ok(())
    } else {
        Err(Error::Temperature {
            got,
            least: LEAST_TEMPERATURE,
        })
    }
}

/// A non-empty `[N, D]` float tensor in the type losses compute in.
pub(crate) fn embeddings(x: &Tensor, what: &'static str) -> Result<Tensor> {
    if x.rank() != 2 {
        return Err(Error::Shape {
            what,
            expected: "[rows, columns]",
            got: x.dims().to_vec(),
        });
    }
    if x.elem_count() == 0 {
        return Err(Error::Empty {
            what,
            shape: x.dims().to_vec(),
        });
    }
    working(x, what)
}

/// Refuses rows of different widths.
pub(crate) fn same_width(
    left: (&'static str, &Tensor),
    right: (&'static str, &Tensor),
) -> Result<()> {
    if left.1.dim(1)? == right.1.dim(1)? {
        return Ok(());
    }
    Err(Error::Mismatch {
        left: left.0,
        left_shape: left.1.dims().to_vec(),
        right: right.0,
        right_shape: right.1.dims().to_vec(),
        need: "both need the same number of columns",
    })
}

/// Both in f32; in f64 if either is.
pub(crate) fn in_one_type(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
    let dtype = if a.dtype() == DType::F64 || b.dtype() == DType::F64 {
        DType::F64
    } else {
        DType::F32
    };
    Ok((a.to_dtype(dtype)?, b.to_dtype(dtype)?))
}

/// f32 inside whatever comes in; f64 stays f64.
fn working(x: &Tensor, what: &'static str) -> Result<Tensor> {
    match x.dtype() {
        DType::F32 | DType::F64 => Ok(x.clone()),
        DType::BF16 | DType::F16 => Ok(x.to_dtype(DType::F32)?),
        got => Err(Error::DType {
            what,
            expected: "f16, bf16, f32 or f64",
            got,
        }),
    }
}

/// `x`, with 1 added wherever it is exactly 0 (as a constant).
pub(crate) fn one_where_zero(x: &Tensor) -> Result<Tensor> {
    let zero = x.detach().eq(0f64)?.to_dtype(x.dtype())?;
    Ok((x + zero)?)
}

/// The sum of each row: Σ_j x_ij, `[N, M]` → `[N]`.
pub(crate) fn row_sums(x: &Tensor) -> Result<Tensor> {
    Ok(x.sum(D::Minus1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn rows<const N: usize>(values: &[[f32; 2]; N]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    #[test]
    fn lengths_neither_overflow_nor_underflow() {
        let x = rows(&[[3e30, 4e30], [3e-30, 4e-30], [-3.0, 4.0]]);
        let z = normalize(&x).unwrap().to_vec2::<f32>().unwrap();
        for (row, first) in z.iter().zip([0.6, 0.6, -0.6]) {
            assert!(
                (row[0] - first).abs() < 1e-6 && (row[1] - 0.8).abs() < 1e-6,
                "{row:?}"
            );
        }
    }

    #[test]
    fn zero_row_stays_zero_and_passes_no_gradient() {
        let x = Var::from_tensor(&rows(&[[0.0, 0.0], [1.0, 0.0]])).unwrap();
        let weights = rows(&[[5.0, 7.0], [5.0, 7.0]]);
        let loss = (normalize(&x).unwrap() * weights)
            .unwrap()
            .sum_all()
            .unwrap();
        let gradient = loss
            .backward()
            .unwrap()
            .get(&x)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        // d(x/‖x‖) at (1, 0) keeps only what is orthogonal to the row.
        assert_eq!(gradient, [[0.0, 0.0], [0.0, 7.0]]);
    }

    #[test]
    fn refuses_bad_temperatures() {
        let z = rows(&[[1.0, 0.0]]);
        for bad in [0.0, -0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-39] {
            assert!(
                matches!(similarity_matrix(&z, bad), Err(Error::Temperature { .. })),
                "{bad}"
            );
        }
        assert!(similarity_matrix(&z, 1e-3).is_ok());
    }

    #[test]
    fn refuses_wrong_ranks_types_and_empty_batches() {
        let device = Device::Cpu;
        let vector = Tensor::new(&[1f32, 2.0], &device).unwrap();
        assert!(matches!(normalize(&vector), Err(Error::Shape { .. })));
        let integers = Tensor::new(&[[1u32, 2]], &device).unwrap();
        assert!(matches!(normalize(&integers), Err(Error::DType { .. })));
        let empty = Tensor::zeros((0, 4), DType::F32, &device).unwrap();
        assert!(matches!(normalize(&empty), Err(Error::Empty { .. })));
        let (narrow, wide) = (
            rows(&[[1.0, 2.0]]),
            Tensor::new(&[[1f32, 2.0, 3.0]], &device).unwrap(),
        );
        assert!(matches!(
            cosine_similarity(&narrow, &wide),
            Err(Error::Mismatch { .. })
        ));
    }

    #[test]
    fn widens_half_precision_and_keeps_f64() {
        let x = rows(&[[3.0, 4.0]]);
        for (given, expected) in [
            (DType::F16, DType::F32),
            (DType::BF16, DType::F32),
            (DType::F32, DType::F32),
            (DType::F64, DType::F64),
        ] {
            assert_eq!(
                normalize(&x.to_dtype(given).unwrap()).unwrap().dtype(),
                expected
            );
        }
    }
}
