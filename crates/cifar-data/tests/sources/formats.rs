//! Every layout: golden pixels, labels, names.

use std::fs;

use crate::support::*;
use cifar_data::{DatasetName, Images};
use image::ImageFormat;
use tempfile::tempdir;

fn assert_close(got: &Images, expected: &Images, tolerance: i32) {
    assert_eq!(
        (got.len(), got.height, got.width),
        (expected.len(), expected.height, expected.width)
    );
    assert_eq!(got.labels, expected.labels);
    let worst = got
        .pixels
        .iter()
        .zip(&expected.pixels)
        .map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs())
        .max();
    assert!(worst.unwrap() <= tolerance, "off by {worst:?}");
}

#[test]
fn png_parquet_is_exact_wherever_the_hub_puts_it() {
    for folder in ["", "plain_text", "cifar10", "cifar10/plain_text"] {
        let root = tempdir().unwrap();
        let (train, test) = parquet_folder(&root.path().join(folder), ImageFormat::Png);
        for name in [DatasetName::Auto, DatasetName::Cifar10, DatasetName::Folder] {
            let dataset = open_folder(name, root.path()).unwrap();
            let info = dataset.info();
            assert_eq!(
                (info.train_len, info.test_len, info.height, info.width),
                (10, 6, 32, 32)
            );
            assert!(!info.synthetic && dataset.notice().is_none());
            assert_eq!(info.checksums.len(), 2);
            assert!(
                info.checksums
                    .values()
                    .all(|sum| sum.starts_with("sha256:") && sum.len() == 71)
            );
            assert_eq!(dataset.train().unwrap(), train);
            assert_eq!(dataset.test().unwrap(), test);
            if name == DatasetName::Cifar10 {
                assert_eq!(info.name, "CIFAR-10 (user's copy)");
                assert_eq!(info.classes[3], "cat");
            }
        }
    }
}

#[test]
fn jpeg_parquet_is_close_and_named_for_what_it_is() {
    let root = tempdir().unwrap();
    // Smooth images: JPEG keeps them, so a swapped channel or axis would stand out.
    let smooth = |count: usize| {
        let pixels = (0..count * 32 * 32 * 3)
            .map(|at| (40 + at / 3072 * 3 + at / 96 % 32 * 2 + at / 3 % 32 + at % 3 * 25) as u8)
            .collect();
        Images {
            height: 32,
            width: 32,
            pixels,
            labels: (0..count as u32).collect(),
        }
    };
    let (train, test) = (smooth(10), smooth(4));
    write_parquet_images(&root.path().join(TRAIN), &train, ImageFormat::Jpeg);
    write_parquet_images(&root.path().join(TEST), &test, ImageFormat::Jpeg);
    let dataset = open_folder(DatasetName::Cifar10, root.path()).unwrap();
    assert_eq!(
        dataset.info().name,
        "CIFAR-10 (JPEG re-encoded, user's copy)"
    );
    assert_close(&dataset.train().unwrap(), &train, 8);
    assert_close(&dataset.test().unwrap(), &test, 8);
}

#[test]
fn shards_row_groups_and_class_names_of_the_metadata() {
    let root = tempdir().unwrap();
    let images = tell_tale(11, 3, 0);
    let encoded: Vec<Vec<u8>> = (0..11)
        .map(|i| encode(&images, i, ImageFormat::Png))
        .collect();
    let names = Some(&["ant", "bee", "cow"][..]);
    for (name, range) in [
        ("train-00000-of-00002.parquet", 0..7),
        ("train-00001-of-00002.parquet", 7..11),
        (TEST, 0..3),
    ] {
        let path = root.path().join("data").join(name);
        write_parquet(
            &path,
            &encoded[range.clone()],
            &images.labels[range],
            "label",
            names,
            3,
        );
    }
    let dataset = open_folder(DatasetName::Auto, root.path()).unwrap();
    assert_eq!(dataset.info().classes, ["ant", "bee", "cow"]);
    assert!(
        dataset.info().name.ends_with("(user's images)"),
        "{}",
        dataset.info().name
    );
    assert_eq!(dataset.train().unwrap(), images);
    let message = open_folder(DatasetName::Cifar10, root.path())
        .unwrap_err()
        .to_string();
    assert!(message.contains("3 classes: ant, bee, cow"), "{message}");
}

#[test]
fn cifar100_takes_the_fine_labels_of_parquet_and_binary_files() {
    let root = tempdir().unwrap();
    let (train, test) = (tell_tale(20, 100, 0), tell_tale(6, 100, 3));
    for (name, images) in [(TRAIN, &train), (TEST, &test)] {
        let encoded: Vec<Vec<u8>> = (0..images.len())
            .map(|i| encode(images, i, ImageFormat::Png))
            .collect();
        write_parquet(
            &root.path().join("cifar100").join(name),
            &encoded,
            &images.labels,
            "fine_label",
            None,
            5,
        );
    }
    let binaries = tempdir().unwrap();
    fs::create_dir(binaries.path().join("cifar-100-binary")).unwrap();
    fs::write(
        binaries.path().join("cifar-100-binary/train.bin"),
        binary(&train, true),
    )
    .unwrap();
    fs::write(
        binaries.path().join("cifar-100-binary/test.bin"),
        binary(&test, true),
    )
    .unwrap();
    for folder in [root.path(), binaries.path()] {
        let dataset = open_folder(DatasetName::Cifar100, folder).unwrap();
        assert_eq!(dataset.info().name, "CIFAR-100 (user's copy)");
        assert_eq!(dataset.info().classes[99], "worm");
        assert_eq!(dataset.train().unwrap(), train);
        assert_eq!(dataset.test().unwrap(), test);
        let message = open_folder(DatasetName::Cifar10, folder)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("the classes of cifar10") && message.contains("100 classes: apple"),
            "{message}"
        );
    }
}

#[test]
fn six_binary_files_and_the_archive_are_exact() {
    let (train, test) = (tell_tale(10, 10, 0), tell_tale(3, 10, 3));
    let root = tempdir().unwrap();
    for (name, bytes) in six_files(&train, &test) {
        fs::write(root.path().join(name), bytes).unwrap();
    }
    let archive = tempdir().unwrap();
    // In the archive's own folder, in another order, with strangers, one of which points out of the folder.
    let mut files: Vec<(String, Vec<u8>)> = six_files(&train, &test)
        .into_iter()
        .rev()
        .map(|(name, bytes)| (format!("cifar-10-batches-bin/{name}"), bytes))
        .collect();
    files.insert(
        0,
        (
            "cifar-10-batches-bin/readme.html".to_owned(),
            b"hello".to_vec(),
        ),
    );
    files.push(("../../escaped.bin".to_owned(), b"never written".to_vec()));
    let file = archive.path().join("cifar-10-binary.tar.gz");
    fs::write(&file, tar_gz(&files)).unwrap();
    for path in [root.path(), archive.path(), &file] {
        let dataset = open_folder(DatasetName::Cifar10, path).unwrap();
        assert_eq!(dataset.info().name, "CIFAR-10 (user's copy)");
        assert_eq!(dataset.train().unwrap(), train);
        assert_eq!(dataset.test().unwrap(), test);
    }
    assert_eq!(
        fs::read_dir(archive.path()).unwrap().count(),
        1,
        "nothing is unpacked"
    );
}

#[test]
fn image_folders_of_any_class_count_and_size() {
    let root = tempdir().unwrap();
    let mut images = tell_tale(4, 2, 0);
    images.labels = vec![0, 0, 1, 1];
    for (index, path) in [
        "train/owl/a.png",
        "train/owl/b.png",
        "train/yak/1.png",
        "test/yak/2.png",
    ]
    .iter()
    .enumerate()
    {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, encode(&images, index, ImageFormat::Png)).unwrap();
    }
    fs::write(root.path().join("train/owl/.hidden"), "x").unwrap();
    let dataset = open_folder(DatasetName::Folder, root.path()).unwrap();
    assert_eq!(dataset.info().classes, ["owl", "yak"]);
    assert_eq!(dataset.train().unwrap(), images.subset(&[0, 1, 2]));
    assert_eq!(dataset.test().unwrap(), images.subset(&[3]));
    let sum = dataset.info().checksums["train/*"].clone();

    // A file that changes changes the checksum; one of another size is refused by name.
    let small = Images {
        height: 8,
        width: 8,
        pixels: vec![7; 192],
        labels: vec![0],
    };
    fs::write(
        root.path().join("train/yak/1.png"),
        encode(&small, 0, ImageFormat::Png),
    )
    .unwrap();
    let dataset = open_folder(DatasetName::Folder, root.path()).unwrap();
    assert_ne!(dataset.info().checksums["train/*"], sum);
    let message = dataset.train().unwrap_err().to_string();
    assert!(
        message.contains("1.png") && message.contains("8×8 pixels where the first image has 32×32"),
        "{message}"
    );
}

#[test]
fn pillow_and_this_crate_decode_jpeg_alike() {
    let fixture: serde_json::Value =
        serde_json::from_str(include_str!("../fixtures/augment.json")).unwrap();
    let unhex = |text: &serde_json::Value| -> Vec<u8> {
        let text = text.as_str().unwrap();
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    };
    for (name, jpeg) in fixture["jpegs"].as_object().unwrap() {
        let root = tempdir().unwrap();
        let bytes = vec![unhex(&jpeg["bytes"])];
        for part in [TRAIN, TEST] {
            write_parquet(
                &root.path().join(part),
                &bytes,
                &[0],
                "label",
                Some(&["x"]),
                1,
            );
        }
        let got = open_folder(DatasetName::Folder, root.path())
            .unwrap()
            .train()
            .unwrap();
        let expected = Images {
            height: 16,
            width: 16,
            pixels: unhex(&jpeg["pixels"]),
            labels: vec![0],
        };
        assert_close(&got, &expected, if name == "4:2:0" { 6 } else { 2 });
    }
}
