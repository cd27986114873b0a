//! Makes tiny data sets in every layout.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use cifar_data::{DatasetName, Hub, Images, SourceOptions};
use image::{ImageFormat, RgbImage};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// The file names of the Hub.
pub const TRAIN: &str = "train-00000-of-00001.parquet";
pub const TEST: &str = "test-00000-of-00001.parquet";

/// Images whose every byte tells its place: nothing can be transposed, mirrored or swapped unnoticed.
pub fn tell_tale(count: usize, classes: u32, salt: usize) -> Images {
    let side = 32;
    let pixels = (0..count * side * side * 3)
        .map(|at| {
            let (channel, x, y) = (at % 3, at / 3 % side, at / 3 / side % side);
            let image = at / (3 * side * side);
            ((image * 37 + salt * 11 + y * 5 + x * 2 + channel * 60) % 256) as u8
        })
        .collect();
    let labels = (0..count as u32)
        .map(|i| (i * 7 + salt as u32) % classes)
        .collect();
    Images {
        height: side,
        width: side,
        pixels,
        labels,
    }
}

pub fn encode(images: &Images, index: usize, format: ImageFormat) -> Vec<u8> {
    let pixels = images.image(index).to_vec();
    let image = RgbImage::from_raw(images.width as u32, images.height as u32, pixels).unwrap();
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A parquet file as the Hub's writer lays it out, `group` rows in a row group. Beside fine labels there are coarse ones.
pub fn write_parquet(
    path: &Path,
    encoded: &[Vec<u8>],
    labels: &[u32],
    label: &str,
    names: Option<&[&str]>,
    group: usize,
) {
    let coarse = if label == "fine_label" {
        "optional int64 coarse_label;"
    } else {
        ""
    };
    let text = format!(
        "message schema {{ optional group img {{ optional binary bytes; optional binary path (UTF8); }} \
         optional int64 {label}; {coarse} }}"
    );
    let metadata = names.map(|names| {
        let json = serde_json::json!({"info": {"features": {label: {"names": names, "_type": "ClassLabel"}}}});
        vec![KeyValue::new("huggingface".to_owned(), json.to_string())]
    });
    let properties = WriterProperties::builder()
        .set_compression(parquet::basic::Compression::SNAPPY)
        .set_key_value_metadata(metadata)
        .build();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let schema = Arc::new(parse_message_type(&text).unwrap());
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for (encoded, labels) in encoded.chunks(group).zip(labels.chunks(group)) {
        let mut rows = writer.next_row_group().unwrap();
        let bytes: Vec<ByteArray> = encoded
            .iter()
            .map(|bytes| ByteArray::from(bytes.clone()))
            .collect();
        let mut column = rows.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&bytes, Some(&vec![2; bytes.len()]), None)
            .unwrap();
        column.close().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&[], Some(&vec![1; bytes.len()]), None)
            .unwrap();
        column.close().unwrap();
        let mut numbers: Vec<Vec<i64>> = vec![labels.iter().copied().map(i64::from).collect()];
        if !coarse.is_empty() {
            numbers.push(vec![19; labels.len()]);
        }
        for values in numbers {
            let mut column = rows.next_column().unwrap().unwrap();
            column
                .typed::<Int64Type>()
                .write_batch(&values, Some(&vec![1; values.len()]), None)
                .unwrap();
            column.close().unwrap();
        }
        rows.close().unwrap();
    }
    writer.close().unwrap();
}

pub fn write_parquet_images(path: &Path, images: &Images, format: ImageFormat) {
    let encoded: Vec<Vec<u8>> = (0..images.len())
        .map(|i| encode(images, i, format))
        .collect();
    write_parquet(path, &encoded, &images.labels, "label", None, 4);
}

/// The bytes of an official binary file.
pub fn binary(images: &Images, coarse: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for index in 0..images.len() {
        if coarse {
            bytes.push(99);
        }
        bytes.push(images.labels[index] as u8);
        for channel in 0..3 {
            bytes.extend(images.image(index).iter().skip(channel).step_by(3));
        }
    }
    bytes
}

/// The six official files of CIFAR-10 from ten images for training and the test images.
pub fn six_files(train: &Images, test: &Images) -> Vec<(String, Vec<u8>)> {
    let batch = |number: usize| train.subset(&[2 * number - 2, 2 * number - 1]);
    let mut files: Vec<(String, Vec<u8>)> = (1..=5)
        .map(|number| {
            (
                format!("data_batch_{number}.bin"),
                binary(&batch(number), false),
            )
        })
        .collect();
    files.push(("test_batch.bin".to_owned(), binary(test, false)));
    files
}

pub fn tar_gz(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // As a hostile archive would, without the checks of `set_path`.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

/// Options that read no environment variable, touch no home folder and no network.
pub fn sealed(dataset: DatasetName, home: &Path) -> SourceOptions {
    SourceOptions {
        dataset,
        offline: true,
        hub: Hub {
            home: home.to_path_buf(),
            endpoint: "http://127.0.0.1:9".to_owned(),
            ..Hub::default()
        },
        ..SourceOptions::default()
    }
}

/// Opens a folder the user named.
pub fn open_folder(dataset: DatasetName, folder: &Path) -> cifar_data::Result<cifar_data::Dataset> {
    let mut options = sealed(dataset, folder);
    options.data_dir = Some(folder.to_path_buf());
    cifar_data::open(&options, &mut ())
}

/// Both parquet files, and what they hold.
pub fn parquet_folder(root: &Path, format: ImageFormat) -> (Images, Images) {
    let (train, test) = (tell_tale(10, 10, 0), tell_tale(6, 10, 3));
    write_parquet_images(&root.join(TRAIN), &train, format);
    write_parquet_images(&root.join(TEST), &test, format);
    (train, test)
}
