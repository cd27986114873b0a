//! Rows of numbers with a label each, as a safetensors file of two tensors. Byte-reproducible: one metadata key.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{Error, Result};

/// `[rows, columns]` f32 under `name`, `[rows]` u32 under `labels`.
pub(crate) fn to_bytes(
    name: &str,
    columns: usize,
    values: &[f32],
    labels: &[u32],
) -> Result<Vec<u8>> {
    let values: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let label_bytes: Vec<u8> = labels
        .iter()
        .flat_map(|label| label.to_le_bytes())
        .collect();
    let view = |dtype, shape, bytes| {
        TensorView::new(dtype, shape, bytes)
            .map_err(|error| Error::Invalid(format!("cannot write {name}: {error}")))
    };
    let tensors = [
        (
            name,
            view(Dtype::F32, vec![labels.len(), columns], &values)?,
        ),
        (
            "labels",
            view(Dtype::U32, vec![labels.len()], &label_bytes)?,
        ),
    ];
    let metadata = HashMap::from([("holds".to_owned(), name.to_owned())]);
    safetensors::serialize(tensors, Some(metadata))
        .map_err(|error| Error::Invalid(format!("cannot write {name}: {error}")))
}

/// (columns, values, labels) of what [`to_bytes`] wrote.
pub(crate) fn read(path: &Path, name: &'static str) -> Result<(usize, Vec<f32>, Vec<u32>)> {
    let bytes = fs_err::read(path).map_err(|source| Error::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let unfit = |source| Error::Tensors {
        path: path.to_owned(),
        expected: name,
        source,
    };
    let wrong = |what: &str, view: &TensorView| {
        Error::Invalid(format!(
            "{}: expected `{name}` as F32 [rows, columns] and `labels` as U32 [rows], got {what} as {:?} {:?}; \
             is it another kind of file?",
            path.display(),
            view.dtype(),
            view.shape()
        ))
    };
    let file = SafeTensors::deserialize(&bytes).map_err(unfit)?;
    let (values, labels) = (
        file.tensor(name).map_err(unfit)?,
        file.tensor("labels").map_err(unfit)?,
    );
    let (&[rows, columns], Dtype::F32) = (values.shape(), values.dtype()) else {
        return Err(wrong(name, &values));
    };
    if (labels.shape(), labels.dtype()) != (&[rows], Dtype::U32) {
        return Err(wrong("`labels`", &labels));
    }
    let (numbers, _) = values.data().as_chunks::<4>();
    let (classes, _) = labels.data().as_chunks::<4>();
    Ok((
        columns,
        numbers
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect(),
        classes
            .iter()
            .map(|&bytes| u32::from_le_bytes(bytes))
            .collect(),
    ))
}
