//! Parquet in the Hub's layout: `{train,test}-*.parquet` with a column `img` (or `image`) = struct { bytes, path } of PNG or
//! JPEG, and an integer column `label` (CIFAR-100: `fine_label`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use parquet::basic::Type as Physical;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::decode::{decode, decode_all, format_of};
use super::{Found, Identity, checksum};
use crate::dataset::{DatasetInfo, Part, Source};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::progress::{Progress, ProgressEvent};

const IMAGE_COLUMNS: [&str; 2] = ["img.bytes", "image.bytes"];
const LABEL_COLUMNS: [&str; 2] = ["fine_label", "label"];

/// The parquet files of both parts, each in name order.
#[derive(Clone, Debug)]
pub(crate) struct ParquetSource {
    pub root: PathBuf,
    pub train: Vec<PathBuf>,
    pub test: Vec<PathBuf>,
}

impl ParquetSource {
    /// The files under `root` or one of the folders the Hub keeps them in; `None` where there is no parquet.
    pub(crate) fn find(root: &Path) -> Result<Option<Self>> {
        for folder in [
            "",
            "plain_text",
            "cifar10",
            "cifar10/plain_text",
            "cifar100",
            "data",
        ] {
            let folder = root.join(folder);
            if !folder.is_dir() {
                continue;
            }
            let mut parts = [Vec::new(), Vec::new()];
            for entry in fs_err::read_dir(&folder)? {
                let path = entry?.path();
                let name = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default();
                for (files, part) in parts.iter_mut().zip(["train", "test"]) {
                    if name.starts_with(part) && name.ends_with(".parquet") {
                        files.push(path.clone());
                    }
                }
            }
            let [mut train, mut test] = parts;
            if train.is_empty() && test.is_empty() {
                continue;
            }
            train.sort();
            test.sort();
            for (files, part) in [(&train, "train"), (&test, "test")] {
                if files.is_empty() {
                    return Err(Error::file(
                        &folder,
                        "train-*.parquet and test-*.parquet",
                        format!("no {part} file"),
                        "put both files there",
                    ));
                }
            }
            return Ok(Some(Self {
                root: root.to_path_buf(),
                train,
                test,
            }));
        }
        Ok(None)
    }

    /// Reads the metadata and the first image. `known` are the checksums, if they have been computed already.
    pub(crate) fn open(
        self,
        identity: &Identity,
        known: Option<BTreeMap<String, String>>,
        progress: &mut dyn Progress,
    ) -> Result<Found> {
        let checksums = match known {
            Some(checksums) => checksums,
            None => self.checksums(progress)?,
        };
        let mut train_len = 0;
        let mut classes = None;
        let mut fine = false;
        for path in &self.train {
            let file = File::open(path)?;
            train_len += file.rows()?;
            fine |= file.label_name() == "fine_label";
            classes = classes.or_else(|| file.class_names());
        }
        let mut test_len = 0;
        for path in &self.test {
            test_len += File::open(path)?.rows()?;
        }
        let first = File::open(&self.train[0])?;
        let image = first.images(1)?;
        let encoded = image
            .first()
            .ok_or_else(|| first.refuse("at least one row", "none".to_owned()))?;
        let refuse = |found| first.refuse("a PNG or JPEG image in row 0", found);
        let format = format_of(encoded.data()).map_err(refuse)?;
        let (height, width, _) = decode(encoded.data()).map_err(refuse)?;
        let classes = match classes {
            Some(classes) => classes,
            None => {
                let mut bound = 0;
                for path in &self.train {
                    bound = File::open(path)?
                        .labels()?
                        .iter()
                        .fold(bound, |bound, &label| bound.max(label + 1));
                }
                identity.class_names(bound as usize, fine)
            }
        };
        let info = DatasetInfo {
            name: String::new(),
            source: self.root.display().to_string(),
            synthetic: false,
            classes,
            checksums,
            train_len,
            test_len,
            height,
            width,
            data_dir: None,
            user_images: false,
            notes: Vec::new(),
        };
        identity.name(info, Some(format), Box::new(self))
    }

    fn checksums(&self, progress: &mut dyn Progress) -> Result<BTreeMap<String, String>> {
        let mut checksums = BTreeMap::new();
        for path in self.train.iter().chain(&self.test) {
            let name = super::relative(&self.root, path);
            progress.event(&ProgressEvent::Checking { file: name.clone() });
            checksums.insert(name, format!("sha256:{}", checksum::sha256(path)?));
        }
        Ok(checksums)
    }
}

impl Source for ParquetSource {
    fn path(&self) -> &Path {
        &self.root
    }

    fn load(&self, part: Part) -> Result<Images> {
        let files = match part {
            Part::Train => &self.train,
            Part::Test => &self.test,
        };
        let mut images = Vec::new();
        let mut labels = Vec::new();
        let mut ends = Vec::new();
        for path in files {
            let file = File::open(path)?;
            images.extend(file.images(usize::MAX)?);
            labels.extend(file.labels()?);
            ends.push(images.len());
        }
        decode_all(
            images.len(),
            labels,
            None,
            |row| Ok(images[row].data()),
            |row, found| {
                let file = ends.partition_point(|&end| end <= row).min(files.len() - 1);
                let start = if file == 0 { 0 } else { ends[file - 1] };
                refuse(
                    &files[file],
                    format!("a PNG or JPEG image in row {}", row - start),
                    found,
                )
            },
        )
    }
}

fn refuse(path: &Path, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::file(
        path,
        expected,
        found,
        "get the file again, or point the data folder elsewhere",
    )
}

/// One open parquet file with its two columns located.
struct File {
    path: PathBuf,
    reader: SerializedFileReader<std::fs::File>,
    image: usize,
    label: usize,
}

impl File {
    fn open(path: &Path) -> Result<Self> {
        let file = fs_err::File::open(path)?;
        let reader = SerializedFileReader::new(file.into_parts().0).map_err(|error| {
            refuse(
                path,
                "a whole parquet file",
                format!("something else ({error})"),
            )
        })?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let names: Vec<String> = schema
            .columns()
            .iter()
            .map(|column| column.path().string())
            .collect();
        let find = |wanted: &[&str], physical: &[Physical]| {
            wanted
                .iter()
                .find_map(|name| names.iter().position(|column| column == name))
                .filter(|&at| {
                    physical.contains(&schema.column(at).physical_type())
                        && schema.column(at).max_rep_level() == 0
                })
        };
        let image = find(&IMAGE_COLUMNS, &[Physical::BYTE_ARRAY]);
        let label = find(&LABEL_COLUMNS, &[Physical::INT64, Physical::INT32]);
        match (image, label) {
            (Some(image), Some(label)) => Ok(Self {
                path: path.to_path_buf(),
                reader,
                image,
                label,
            }),
            _ => Err(refuse(
                path,
                "binary column img.bytes (or image.bytes) and integer column label (or fine_label)",
                format!("the columns {}", names.join(", ")),
            )),
        }
    }

    fn refuse(&self, expected: &str, found: String) -> Error {
        refuse(&self.path, expected, found)
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> Error {
        self.refuse("readable parquet pages", format!("broken ones ({error})"))
    }

    fn rows(&self) -> Result<usize> {
        let rows = self.reader.metadata().file_metadata().num_rows();
        usize::try_from(rows).map_err(|_| self.refuse("a number of rows", rows.to_string()))
    }

    fn label_name(&self) -> String {
        self.reader
            .metadata()
            .file_metadata()
            .schema_descr()
            .column(self.label)
            .path()
            .string()
    }

    /// The class names the Hub's writer leaves in the metadata.
    fn class_names(&self) -> Option<Vec<String>> {
        let metadata = self
            .reader
            .metadata()
            .file_metadata()
            .key_value_metadata()?;
        let text = metadata
            .iter()
            .find(|entry| entry.key == "huggingface")?
            .value
            .as_ref()?;
        let json: serde_json::Value = serde_json::from_str(text).ok()?;
        let names = json["info"]["features"][self.label_name()]["names"].as_array()?;
        names
            .iter()
            .map(|name| name.as_str().map(str::to_owned))
            .collect()
    }

    fn images(&self, limit: usize) -> Result<Vec<ByteArray>> {
        let mut all = Vec::new();
        self.for_each_group(self.image, |reader, rows| match reader {
            ColumnReader::ByteArrayColumnReader(reader) => {
                let rows = rows.min(limit - all.len());
                self.read(reader, rows, &mut all)
                    .map(|()| all.len() < limit)
            }
            _ => Err(self.refuse("a binary image column", "another type".to_owned())),
        })?;
        Ok(all)
    }

    fn labels(&self) -> Result<Vec<u32>> {
        let mut all: Vec<i64> = Vec::new();
        self.for_each_group(self.label, |reader, rows| {
            match reader {
                ColumnReader::Int64ColumnReader(reader) => self.read(reader, rows, &mut all)?,
                ColumnReader::Int32ColumnReader(reader) => {
                    let mut narrow = Vec::new();
                    self.read(reader, rows, &mut narrow)?;
                    all.extend(narrow.into_iter().map(i64::from));
                }
                _ => return Err(self.refuse("an integer label column", "another type".to_owned())),
            }
            Ok(true)
        })?;
        all.iter()
            .enumerate()
            .map(|(row, &label)| match u32::try_from(label) {
                Ok(label) if label < u32::from(u16::MAX) => Ok(label),
                _ => Err(self.refuse("labels from 0 up", format!("label {label} in row {row}"))),
            })
            .collect()
    }

    /// Calls `visit(reader, rows)` for each row group's column until it returns false.
    fn for_each_group(
        &self,
        column: usize,
        mut visit: impl FnMut(ColumnReader, usize) -> Result<bool>,
    ) -> Result<()> {
        for group in 0..self.reader.num_row_groups() {
            let group = self
                .reader
                .get_row_group(group)
                .map_err(|error| self.broken(&error))?;
            let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
            let reader = group
                .get_column_reader(column)
                .map_err(|error| self.broken(&error))?;
            if !visit(reader, rows)? {
                break;
            }
        }
        Ok(())
    }

    /// Appends exactly `rows` non-null values.
    fn read<T: DataType>(
        &self,
        mut reader: ColumnReaderImpl<T>,
        rows: usize,
        values: &mut Vec<T::T>,
    ) -> Result<()> {
        let end = values.len() + rows;
        let mut levels = Vec::new();
        let mut read = 0;
        while read < rows {
            levels.clear();
            let (records, _, _) = reader
                .read_records(rows - read, Some(&mut levels), None, values)
                .map_err(|error| self.broken(&error))?;
            if records == 0 {
                break;
            }
            read += records;
        }
        if values.len() != end {
            return Err(self.refuse(
                "an image and a label in every row",
                format!("{} of {rows} in a row group", rows + values.len() - end),
            ));
        }
        Ok(())
    }
}
