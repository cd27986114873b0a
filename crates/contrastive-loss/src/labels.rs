//! Labels as they come in, as plain numbers on the host.

use candle_core::{DType, Device, Tensor};

use crate::{Error, Result};

/// Reads a label tensor `[N]` of an integer type.
pub(crate) fn read(labels: &Tensor, rows: usize) -> Result<Vec<i64>> {
    match labels.dtype() {
        DType::U8 | DType::U32 | DType::I16 | DType::I32 | DType::I64 => {}
        got => {
            return Err(Error::DType {
                what: "labels",
                expected: "an integer type",
                got,
            });
        }
    }
    if labels.rank() != 1 {
        return Err(Error::Shape {
            what: "labels",
            expected: "[N]",
            got: labels.dims().to_vec(),
        });
    }
    if labels.elem_count() != rows {
        return Err(Error::LabelCount {
            expected: rows,
            rows,
            views: 1,
            got: labels.elem_count(),
        });
    }
    Ok(labels.to_dtype(DType::I64)?.to_vec1()?)
}

/// Reads multi-hot (or weighted) labels `[N, C]` as f64 rows, refusing what is not a finite weight.
pub(crate) fn read_multi_hot(labels: &Tensor, rows: usize) -> Result<Vec<Vec<f64>>> {
    if labels.rank() != 2 {
        return Err(Error::Shape {
            what: "multi-hot labels",
            expected: "[N, C]",
            got: labels.dims().to_vec(),
        });
    }
    if labels.dim(0)? != rows {
        return Err(Error::LabelCount {
            expected: rows,
            rows,
            views: 1,
            got: labels.dim(0)?,
        });
    }
    if labels.dim(1)? == 0 {
        return Err(Error::Empty {
            what: "multi-hot labels",
            shape: labels.dims().to_vec(),
        });
    }
    // Read on the CPU: Metal has no f64.
    let values: Vec<Vec<f64>> = labels
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F64)?
        .to_vec2()?;
    for (row, weights) in values.iter().enumerate() {
        for (class, &got) in weights.iter().enumerate() {
            if !(got.is_finite() && got >= 0.0) {
                return Err(Error::LabelValue { got, row, class });
            }
        }
    }
    Ok(values)
}

/// How many samples `rows` rows in `views` views are.
pub(crate) fn samples(rows: usize, views: usize) -> Result<usize> {
    if views == 0 || !rows.is_multiple_of(views) {
        return Err(Error::Views {
            rows,
            views,
            need: "the rows must be a multiple of the views, of which there is at least one",
        });
    }
    Ok(rows / views)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_floats_wrong_ranks_and_wrong_counts() {
        let device = Device::Cpu;
        let floats = Tensor::new(&[0f32, 1.0], &device).unwrap();
        assert!(matches!(read(&floats, 2), Err(Error::DType { .. })));
        let column = Tensor::new(&[[0u32], [1]], &device).unwrap();
        assert!(matches!(read(&column, 2), Err(Error::Shape { .. })));
        let two = Tensor::new(&[0u32, 1], &device).unwrap();
        assert!(matches!(
            read(&two, 3),
            Err(Error::LabelCount {
                expected: 3,
                got: 2,
                ..
            })
        ));
        assert_eq!(read(&two, 2).unwrap(), [0, 1]);
    }

    #[test]
    fn refuses_negative_and_nan_multi_hot_labels() {
        let device = Device::Cpu;
        let bad = Tensor::new(&[[0f32, 1.0], [-1.0, 0.0]], &device).unwrap();
        assert!(matches!(
            read_multi_hot(&bad, 2),
            Err(Error::LabelValue {
                row: 1,
                class: 0,
                ..
            })
        ));
        let nan = Tensor::new(&[[0f32, f32::NAN]], &device).unwrap();
        assert!(matches!(
            read_multi_hot(&nan, 1),
            Err(Error::LabelValue { .. })
        ));
    }
}
