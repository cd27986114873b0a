//! Features of named images as a file that other programs read: safetensors, NumPy's `.npy`, or Parquet, by the file's ending.

use crate::{Error, Result, files};
use candle_core::{Device, Tensor};
use eval::Features;
use parquet::data_type::{ByteArray, ByteArrayType, FloatType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Features of images with their names.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// `[N]`: the images' paths.
    pub names: Vec<String>,
    /// `[N, D]`.
    pub features: Features,
}

/// The formats, by ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Safetensors,
    Npy,
    Parquet,
}

impl Format {
    fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("npy") => Ok(Self::Npy),
            Some("parquet") => Ok(Self::Parquet),
            _ => Err(Error::Unfit {
                message: format!(
                    "{}: embeddings are written as .safetensors, .npy or .parquet; give the file one of these endings",
                    path.display()
                ),
            }),
        }
    }
}

impl Embeddings {
    /// Refuses a file whose ending names no format, before anything is computed for it.
    ///
    /// # Errors
    /// If the ending is another than `.safetensors`, `.npy` or `.parquet`.
    pub fn check_format(path: &Path) -> Result<()> {
        Format::of(path).map(|_| ())
    }

    /// Writes the file as a whole or not at all, and tells which files there are now.
    ///
    /// | ending | holds |
    /// |---|---|
    /// | `.safetensors` | `features` `[N, D]` f32; the names as a JSON list under `names` in the metadata |
    /// | `.npy` | `[N, D]` f32, little-endian; the names, one a line, in a file beside it that ends in `.names.txt` |
    /// | `.parquet` | a row for each image: `path` (string), `features` (list of float) |
    ///
    /// # Errors
    /// If the ending names no format, the numbers of names and features differ, or a file cannot be written.
    pub fn save(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let format = Format::of(path)?;
        if self.names.len() != self.features.len() {
            return Err(Error::Unfit {
                message: format!(
                    "{} names for {} features: one each is needed",
                    self.names.len(),
                    self.features.len()
                ),
            });
        }
        let mut written = vec![path.to_owned()];
        match format {
            Format::Safetensors => self.save_safetensors(path)?,
            Format::Npy => {
                files::write(path, &self.npy())?;
                let beside = path.with_extension("names.txt");
                files::write(&beside, (self.names.join("\n") + "\n").as_bytes())?;
                written.push(beside);
            }
            Format::Parquet => files::write(path, &self.parquet(path)?)?,
        }
        Ok(written)
    }

    fn save_safetensors(&self, path: &Path) -> Result<()> {
        let shape = (self.features.len(), self.features.dim);
        let features = Tensor::from_slice(&self.features.values, shape, &Device::Cpu)?;
        let names = serde_json::Value::from(self.names.clone()).to_string();
        Ok(resnet::write_safetensors(
            path,
            &BTreeMap::from([("features".to_owned(), features)]),
            &BTreeMap::from([("names".to_owned(), names)]),
        )?)
    }

    /// NumPy's format, version 1.0: magic, header length, a Python literal padded to 64 bytes, the numbers.
    fn npy(&self) -> Vec<u8> {
        let mut header = format!(
            "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}",
            self.features.len(),
            self.features.dim
        );
        let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
        header.push_str(&" ".repeat(length - header.len() - 1));
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend_from_slice(&(length as u16).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        let values = self.features.values.iter();
        bytes.extend(values.flat_map(|value| value.to_le_bytes()));
        bytes
    }

    fn parquet(&self, path: &Path) -> Result<Vec<u8>> {
        let failed = |error: parquet::errors::ParquetError| Error::Unfit {
            message: format!("{} cannot be written as Parquet: {error}", path.display()),
        };
        let schema = parse_message_type(
            "message embeddings { required binary path (UTF8); required group features (LIST) \
             { repeated group list { required float element; } } }",
        )
        .map_err(failed)?;
        let properties = WriterProperties::builder()
            .set_compression(parquet::basic::Compression::SNAPPY)
            .build();
        let mut bytes = Vec::new();
        let mut writer =
            SerializedFileWriter::new(&mut bytes, Arc::new(schema), Arc::new(properties))
                .map_err(failed)?;
        let mut rows = writer.next_row_group().map_err(failed)?;
        if let Some(mut column) = rows.next_column().map_err(failed)? {
            let names: Vec<ByteArray> = (self.names.iter())
                .map(|name| ByteArray::from(name.as_str()))
                .collect();
            let typed = column.typed::<ByteArrayType>();
            typed.write_batch(&names, None, None).map_err(failed)?;
            column.close().map_err(failed)?;
        }
        if let Some(mut column) = rows.next_column().map_err(failed)? {
            // Every value is there (definition level 1); the first of a row begins a list (repetition level 0).
            let definition = vec![1; self.features.values.len()];
            let repetition: Vec<i16> = (0..self.features.values.len())
                .map(|at| i16::from(at % self.features.dim != 0))
                .collect();
            let typed = column.typed::<FloatType>();
            typed
                .write_batch(&self.features.values, Some(&definition), Some(&repetition))
                .map_err(failed)?;
            column.close().map_err(failed)?;
        }
        rows.close().map_err(failed)?;
        writer.close().map_err(failed)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    fn embeddings() -> Embeddings {
        Embeddings {
            names: ["a/1.png", "ü \"2\".jpg"].map(str::to_owned).to_vec(),
            features: Features::new(3, vec![1.0, -2.5, 0.0, 1e-30, 3.5, 7.0], vec![0, 0]).unwrap(),
        }
    }

    #[test]
    fn safetensors_hold_features_and_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.safetensors");
        embeddings().save(&path).unwrap();
        let file = resnet::read_safetensors(&path).unwrap();
        let rows: Vec<Vec<f32>> = file.tensors["features"].to_vec2().unwrap();
        assert_eq!(rows, [[1.0, -2.5, 0.0], [1e-30, 3.5, 7.0]]);
        let names: Vec<String> = serde_json::from_str(&file.metadata["names"]).unwrap();
        assert_eq!(names, embeddings().names);
    }

    #[test]
    fn npy_is_what_numpy_documents() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.npy");
        let written = embeddings().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!((10 + length) % 64, 0);
        let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
        assert!(header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"));
        assert!(header.ends_with('\n'));
        assert_eq!(bytes.len(), 10 + length + 6 * 4);
        assert_eq!(bytes[10 + length + 4..][..4], (-2.5f32).to_le_bytes());
        assert_eq!(written[1], folder.path().join("e.names.txt"));
        assert_eq!(
            std::fs::read_to_string(&written[1]).unwrap(),
            "a/1.png\nü \"2\".jpg\n"
        );
    }

    #[test]
    fn parquet_has_a_row_for_each_image() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.parquet");
        embeddings().save(&path).unwrap();
        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        let rows: Vec<_> = reader
            .get_row_iter(None)
            .unwrap()
            .map(|row| row.unwrap())
            .collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1].get_string(0).unwrap(), "ü \"2\".jpg");
        let list = rows[1].get_list(1).unwrap();
        assert_eq!(
            format!("{:?}", list.elements().last().unwrap()),
            "Float(7.0)"
        );
        assert_eq!(list.len(), 3);
    }

    #[test]
    fn other_endings_are_refused() {
        let message = embeddings()
            .save(Path::new("e.csv"))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("e.csv") && message.contains(".parquet"),
            "{message}"
        );
        assert!(Embeddings::check_format(Path::new("e")).is_err());
    }
}
