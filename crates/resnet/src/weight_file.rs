//! Reading and writing `.safetensors` files.
//!
//! Writing is atomic (temporary file beside the target, fsync, rename, fsync of the folder) and byte-reproducible: the
//! header lists metadata and tensors in a fixed order. Reading trusts nothing: sizes are checked before memory is
//! taken, and a file that is something else is named as what it is.

use std::collections::BTreeMap;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors};

use crate::{Error, Result};

/// What a file holds: tensors as they stand there (shapes and element types untouched), and its metadata.
#[derive(Clone, Debug)]
pub struct WeightFile {
    /// The tensors, on the CPU.
    pub tensors: BTreeMap<String, Tensor>,
    /// The header's `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

/// Reads a `.safetensors` file.
///
/// # Errors
/// [`Error::Io`] if it cannot be read; [`Error::File`] if it is truncated, has a wrong or oversized header, holds an
/// element type that is not understood, or is another kind of file.
pub fn read_safetensors(path: &Path) -> Result<WeightFile> {
    let bytes = read_checked(path)?;
    let bad = |problem: String| Error::File {
        path: path.into(),
        problem,
    };
    let damaged = |what: String| {
        bad(format!(
            "damaged safetensors file: {what}; fetch or write it again"
        ))
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
    let metadata = header
        .metadata()
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::I64 => DType::I64,
            Dtype::U32 => DType::U32,
            Dtype::U8 => DType::U8,
            other => {
                return Err(bad(format!(
                    "tensor {name:?} has element type {other:?}; expected F32, F64, F16, BF16, I64, U32 or U8"
                )));
            }
        };
        let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(WeightFile { tensors, metadata })
}

/// The file's bytes, once its first eight say that it can be a safetensors file.
fn read_checked(path: &Path) -> Result<Vec<u8>> {
    let io = |source| Error::Io {
        path: path.into(),
        action: "read",
        source,
    };
    let bad = |problem: String| Error::File {
        path: path.into(),
        problem,
    };
    let mut file = std::fs::File::open(path).map_err(io)?;
    let info = file.metadata().map_err(io)?;
    if !info.is_file() {
        return Err(bad(
            "not a file; expected the path of a .safetensors file".into()
        ));
    }
    let mut head = Vec::with_capacity(8);
    (&mut file).take(8).read_to_end(&mut head).map_err(io)?;
    if let Some(kind) = foreign_kind(&head) {
        return Err(bad(format!("{kind}, not a .safetensors file")));
    }
    let Ok(length) = <[u8; 8]>::try_from(head.as_slice()).map(u64::from_le_bytes) else {
        return Err(bad(format!(
            "truncated: {} bytes, a .safetensors file has at least 8; fetch or write it again",
            head.len()
        )));
    };
    if length > info.len() - 8 {
        return Err(bad(format!(
            "not a .safetensors file, or truncated: it announces a header of {length} bytes and has {} in all; \
             fetch or write it again",
            info.len()
        )));
    }
    let mut bytes = Vec::with_capacity(info.len() as usize);
    bytes.extend_from_slice(&head);
    file.read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

/// Names a file that people mistake for weights, by its first bytes, with the remedy.
fn foreign_kind(head: &[u8]) -> Option<&'static str> {
    let kinds: [(&[u8], &str); 6] = [
        (
            b"PK\x03\x04",
            "a PyTorch .pth or Keras .keras archive (convert it: README, \"Weights from elsewhere\")",
        ),
        (
            b"\x89HDF\r\n",
            "a Keras HDF5 file (convert it: README, \"Weights from elsewhere\")",
        ),
        (
            b"\x80\x02",
            "a Python pickle (convert it: README, \"Weights from elsewhere\")",
        ),
        (b"version ", "a Git LFS pointer (fetch the file itself)"),
        (b"<!DOCTYP", "an HTML page (the download failed)"),
        (b"<html", "an HTML page (the download failed)"),
    ];
    kinds
        .into_iter()
        .find(|(magic, _)| head.starts_with(magic))
        .map(|(_, kind)| kind)
}

/// Writes a `.safetensors` file, atomically and byte-reproducibly.
///
/// Tensors are written in memory order, wider element types first, then by name (as the `safetensors` library does).
///
/// # Errors
/// [`Error::Io`] if the file cannot be written; an existing file is then as it was.
pub fn write_safetensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let mut order: Vec<(&String, &Tensor)> = tensors.iter().collect();
    order.sort_by_key(|(name, t)| (std::cmp::Reverse(t.dtype().size_in_bytes()), *name));
    let header = header(path, &order, metadata)?;

    let io = |source| Error::Io {
        path: path.into(),
        action: "write",
        source,
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".weights-");
    #[cfg(unix)]
    {
        // As any new file: readable by whom the umask lets read.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let temporary = builder.tempfile_in(folder).map_err(io)?;
    let mut out = BufWriter::with_capacity(1 << 20, temporary.as_file());
    out.write_all(&(header.len() as u64).to_le_bytes())
        .map_err(io)?;
    out.write_all(&header).map_err(io)?;
    for (name, tensor) in order {
        out.write_all(&bytes_of(path, name, tensor)?).map_err(io)?;
    }
    out.flush().map_err(io)?;
    drop(out);
    temporary.as_file().sync_all().map_err(io)?;
    temporary.persist(path).map_err(|e| io(e.error))?;
    #[cfg(unix)]
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io)?;
    Ok(())
}

/// The JSON header, padded with spaces to a multiple of 8 bytes.
fn header(
    path: &Path,
    order: &[(&String, &Tensor)],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let mut fields = Vec::with_capacity(order.len() + 1);
    if !metadata.is_empty() {
        let pairs: Vec<String> = metadata
            .iter()
            .map(|(k, v)| format!("{}:{}", quote(k), quote(v)))
            .collect();
        fields.push(format!("\"__metadata__\":{{{}}}", pairs.join(",")));
    }
    let mut start = 0;
    for (name, tensor) in order {
        let dtype = match tensor.dtype() {
            DType::F32 => "F32",
            DType::F64 => "F64",
            DType::I64 => "I64",
            DType::U32 => "U32",
            DType::U8 => "U8",
            other => return Err(unwritable(path, name, other)),
        };
        let end = start + tensor.elem_count() * tensor.dtype().size_in_bytes();
        let shape: Vec<String> = tensor.dims().iter().map(usize::to_string).collect();
        fields.push(format!(
            "{}:{{\"dtype\":\"{dtype}\",\"shape\":[{}],\"data_offsets\":[{start},{end}]}}",
            quote(name),
            shape.join(",")
        ));
        start = end;
    }
    let mut header = format!("{{{}}}", fields.join(",")).into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

fn bytes_of(path: &Path, name: &str, tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::F32 => flat
            .to_vec1::<f32>()?
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect(),
        DType::F64 => flat
            .to_vec1::<f64>()?
            .into_iter()
            .flat_map(f64::to_le_bytes)
            .collect(),
        DType::I64 => flat
            .to_vec1::<i64>()?
            .into_iter()
            .flat_map(i64::to_le_bytes)
            .collect(),
        DType::U32 => flat
            .to_vec1::<u32>()?
            .into_iter()
            .flat_map(u32::to_le_bytes)
            .collect(),
        DType::U8 => flat.to_vec1::<u8>()?,
        other => return Err(unwritable(path, name, other)),
    })
}

fn unwritable(path: &Path, name: &str, dtype: DType) -> Error {
    Error::File {
        path: path.into(),
        problem: format!(
            "tensor {name:?} of element type {dtype:?} is not written; expected F32, F64, I64, U32 or U8"
        ),
    }
}
