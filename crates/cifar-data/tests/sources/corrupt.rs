//! What corrupt, truncated and missing files are told.

use std::fs;
use std::path::Path;

use cifar_data::DatasetName;
use image::ImageFormat;
use tempfile::tempdir;

use crate::support::*;

/// The message for a broken folder, from whichever call notices.
fn complaint(dataset: DatasetName, folder: &Path) -> String {
    match open_folder(dataset, folder) {
        Err(error) => error.to_string(),
        Ok(dataset) => match dataset.train().and_then(|_| dataset.test()) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{} was read", folder.display()),
        },
    }
}

/// One sentence that names the file and a remedy.
fn assert_clear(message: &str, file: &str) {
    assert!(message.contains(file), "{message}");
    assert!(
        message.contains("expected") && message.contains("found") && message.contains("; "),
        "{message}"
    );
    assert!(!message.contains('\n') && message.len() < 700, "{message}");
}

#[test]
fn truncated_files_of_every_format_are_refused_by_name() {
    let (train, test) = (tell_tale(10, 10, 0), tell_tale(3, 10, 3));
    for format in [ImageFormat::Png, ImageFormat::Jpeg] {
        let root = tempdir().unwrap();
        parquet_folder(root.path(), format);
        let whole = fs::read(root.path().join(TRAIN)).unwrap();
        for keep in [
            0,
            1,
            4,
            whole.len() / 3,
            whole.len() / 2,
            whole.len() - 9,
            whole.len() - 1,
        ] {
            fs::write(root.path().join(TRAIN), &whole[..keep]).unwrap();
            assert_clear(&complaint(DatasetName::Cifar10, root.path()), TRAIN);
        }
    }
    let root = tempdir().unwrap();
    for (name, bytes) in six_files(&train, &test) {
        fs::write(root.path().join(name), bytes).unwrap();
    }
    for keep in [0, 1, 3072, 3074] {
        let name = root.path().join("data_batch_3.bin");
        let whole = fs::read(&name).unwrap();
        fs::write(&name, &whole[..keep]).unwrap();
        assert_clear(
            &complaint(DatasetName::Cifar10, root.path()),
            "data_batch_3.bin",
        );
        fs::write(&name, whole).unwrap();
    }
    fs::remove_file(root.path().join("data_batch_5.bin")).unwrap();
    assert_clear(
        &complaint(DatasetName::Cifar10, root.path()),
        "no data_batch_5.bin",
    );

    let archive = root.path().join("cifar-10-binary.tar.gz");
    let whole = tar_gz(&six_files(&train, &test));
    for keep in [0, 5, 20, whole.len() / 2, whole.len() - 20] {
        fs::write(&archive, &whole[..keep]).unwrap();
        assert_clear(
            &complaint(DatasetName::Cifar10, &archive),
            "cifar-10-binary.tar.gz",
        );
    }
    fs::write(&archive, tar_gz(&six_files(&train, &test)[1..])).unwrap();
    assert_clear(
        &complaint(DatasetName::Cifar10, &archive),
        "only data_batch_2.bin",
    );

    let folder = tempdir().unwrap();
    for (format, name) in [(ImageFormat::Png, "a.png"), (ImageFormat::Jpeg, "a.jpg")] {
        let whole = encode(&train, 0, format);
        for keep in [0, 2, 30, whole.len() / 2, whole.len() - 5] {
            for part in ["train", "test"] {
                let path = folder.path().join(part).join("owl").join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, &whole[..keep]).unwrap();
            }
            assert_clear(&complaint(DatasetName::Folder, folder.path()), name);
        }
        fs::remove_dir_all(folder.path().join("train")).unwrap();
        fs::remove_dir_all(folder.path().join("test")).unwrap();
    }
}

#[test]
fn a_corrupt_image_or_label_is_named_by_row() {
    let root = tempdir().unwrap();
    let images = tell_tale(9, 10, 0);
    let mut encoded: Vec<Vec<u8>> = (0..9)
        .map(|i| encode(&images, i, ImageFormat::Png))
        .collect();
    write_parquet(
        &root.path().join(TEST),
        &encoded,
        &images.labels,
        "label",
        None,
        4,
    );
    encoded[5].truncate(60);
    write_parquet(
        &root.path().join(TRAIN),
        &encoded,
        &images.labels,
        "label",
        None,
        4,
    );
    let message = complaint(DatasetName::Cifar10, root.path());
    assert!(
        message.contains("row 5") && message.contains(TRAIN),
        "{message}"
    );

    let encoded: Vec<Vec<u8>> = (0..9)
        .map(|i| encode(&images, i, ImageFormat::Png))
        .collect();
    let names = Some(&["a", "b"][..]);
    write_parquet(
        &root.path().join(TRAIN),
        &encoded,
        &[0, 1, 0, 1, 7, 0, 0, 0, 0],
        "label",
        names,
        4,
    );
    let message = complaint(DatasetName::Folder, root.path());
    assert!(message.contains("label 7 in row 4"), "{message}");

    write_parquet(
        &root.path().join(TRAIN),
        &encoded,
        &images.labels,
        "klass",
        None,
        4,
    );
    assert_clear(
        &complaint(DatasetName::Cifar10, root.path()),
        "img.bytes, img.path, klass",
    );
}

#[test]
fn flipped_bits_never_panic_the_caller() {
    let root = tempdir().unwrap();
    parquet_folder(root.path(), ImageFormat::Png);
    let whole = fs::read(root.path().join(TRAIN)).unwrap();
    let mut state = 1u64;
    for _ in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] ^= 1 << (state & 7);
        }
        fs::write(root.path().join(TRAIN), bytes).unwrap();
        // Read or refused: both are fine.
        if let Ok(dataset) = open_folder(DatasetName::Cifar10, root.path()) {
            let _ = dataset.train();
        }
    }
}

#[test]
fn what_cannot_be_read_is_an_error_and_never_skipped() {
    let home = tempdir().unwrap();
    for name in [DatasetName::Auto, DatasetName::Cifar10, DatasetName::Folder] {
        let message = open_folder(name, home.path()).unwrap_err().to_string();
        assert!(
            message.contains("none of them") && message.contains("test_batch.bin"),
            "{message}"
        );
        let missing = home.path().join("nowhere");
        let message = open_folder(name, &missing).unwrap_err().to_string();
        assert!(message.contains("nowhere"), "{message}");
        let mut options = sealed(name, home.path());
        options.cifar10_dir = Some(missing);
        let message = cifar_data::open(&options, &mut ()).unwrap_err().to_string();
        let needs_dir = name == DatasetName::Folder;
        assert!(
            message.contains(if needs_dir {
                "need a data folder"
            } else {
                "nowhere"
            }),
            "{message}"
        );
    }
    // The variable for CIFAR-10 does not stand in the way of other data sets.
    let mut options = sealed(DatasetName::Synthetic, home.path());
    options.cifar10_dir = Some(home.path().join("nowhere"));
    assert!(
        cifar_data::open(&options, &mut ())
            .unwrap()
            .info()
            .synthetic
    );
}
