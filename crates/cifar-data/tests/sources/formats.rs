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

    // A file that changes changes the checksum; images of several sizes are brought to one, and that is said.
    let large = Images {
        height: 90,
        width: 60,
        pixels: vec![7; 90 * 60 * 3],
        labels: vec![0],
    };
    fs::write(
        root.path().join("train/yak/1.png"),
        encode(&large, 0, ImageFormat::Png),
    )
    .unwrap();
    assert!(dataset.info().notes.is_empty(), "one size is kept");
    let dataset = open_folder(DatasetName::Folder, root.path()).unwrap();
    assert_ne!(dataset.info().checksums["train/*"], sum);
    assert_eq!((dataset.info().height, dataset.info().width), (64, 64));
    let note = &dataset.info().notes[0];
    assert!(
        note.contains("2 sizes, 32×32 to 60×90") && note.contains("64×64"),
        "{note}"
    );
    let train = dataset.train().unwrap();
    assert_eq!((train.height, train.width, train.len()), (64, 64, 3));
    assert_eq!(train.image(2), vec![7; 64 * 64 * 3]);

    // A size that is asked for is what images get, large or small.
    let mut options = sealed(DatasetName::Folder, root.path());
    options.data_dir = Some(root.path().to_path_buf());
    options.image_size = Some(16);
    let dataset = cifar_data::open(&options, &mut ()).unwrap();
    assert_eq!(dataset.test().unwrap().height, 16);
}

#[test]
fn a_folder_without_a_test_part_gets_one_for_ever() {
    let root = tempdir().unwrap();
    let images = tell_tale(30, 2, 0);
    for layout in ["train/", ""] {
        let home = root.path().join(format!("as{layout}"));
        for index in 0..30 {
            let class = ["owl", "yak", "yak"][index % 3];
            let path = home.join(format!("{layout}{class}/{index:02}.png"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, encode(&images, index, ImageFormat::Png)).unwrap();
        }
        let dataset = open_folder(DatasetName::Folder, &home).unwrap();
        let (train, test) = (dataset.train().unwrap(), dataset.test().unwrap());
        assert_eq!((train.len(), test.len()), (24, 6));
        let yaks = test.labels.iter().filter(|&&label| label == 1).count();
        assert_eq!(yaks, 4, "a fifth of each class");
        assert!((0..6).all(|t| (0..24).all(|i| test.image(t) != train.image(i))));
        assert!(dataset.info().notes[0].contains("6 of its 30 images"));
        let again = open_folder(DatasetName::Folder, &home).unwrap();
        assert_eq!(again.test().unwrap(), test);
        assert_eq!(dataset.info(), again.info());
    }
    let lonely = root.path().join("lonely/owl/1.png");
    fs::create_dir_all(lonely.parent().unwrap()).unwrap();
    fs::write(lonely, encode(&images, 0, ImageFormat::Png)).unwrap();
    let message = open_folder(DatasetName::Folder, &root.path().join("lonely"))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("owl") && message.contains("at least 5") && message.contains("found 1"),
        "{message}"
    );
}

#[test]
fn only_image_folders_are_resized() {
    let root = tempdir().unwrap();
    parquet_folder(root.path(), ImageFormat::Png);
    let mut options = sealed(DatasetName::Cifar10, root.path());
    options.data_dir = Some(root.path().to_path_buf());
    options.image_size = Some(48);
    let message = cifar_data::open(&options, &mut ()).unwrap_err().to_string();
    assert!(
        message.contains("image_size = 48") && message.contains("32×32"),
        "{message}"
    );
    options.image_size = Some(32);
    cifar_data::open(&options, &mut ()).unwrap();
}

#[test]
fn photographs_of_any_size_are_brought_to_one() {
    let root = tempdir().unwrap();
    let images = tell_tale(1, 1, 0);
    let (same, wide) = (root.path().join("b.PNG"), root.path().join("deep/a.jpeg"));
    fs::create_dir_all(wide.parent().unwrap()).unwrap();
    fs::write(&same, encode(&images, 0, ImageFormat::Png)).unwrap();
    let photo = Images {
        height: 40,
        width: 200,
        pixels: vec![120; 40 * 200 * 3],
        labels: vec![0],
    };
    fs::write(&wide, encode(&photo, 0, ImageFormat::Jpeg)).unwrap();
    fs::write(root.path().join("notes.txt"), "no photograph").unwrap();
    let found = cifar_data::find_photographs(root.path()).unwrap();
    assert_eq!(found, [same.clone(), wide]);
    let read = cifar_data::read_photographs(&found, 32, 32).unwrap();
    assert_eq!(
        read.image(0),
        images.image(0),
        "its own size: its own pixels"
    );
    assert!(
        read.image(1)
            .iter()
            .all(|value| (117..=123).contains(value))
    );
    fs::write(&same, "no image").unwrap();
    let message = cifar_data::read_photographs(&found, 32, 32)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("b.PNG") && message.contains("PNG or JPEG"),
        "{message}"
    );
    let empty = tempdir().unwrap();
    assert!(cifar_data::find_photographs(empty.path()).is_err());
}

#[test]
fn a_long_photograph_is_read_and_one_too_large_is_told_from_a_broken_one() {
    let root = tempdir().unwrap();
    let (long, vast) = (root.path().join("long.png"), root.path().join("vast.jpg"));
    let image = |width: usize| Images {
        height: 20,
        width,
        pixels: vec![90; 20 * width * 3],
        labels: vec![0],
    };
    fs::write(&long, encode(&image(20_000), 0, ImageFormat::Png)).unwrap();
    // A header that promises 60000×60000 pixels.
    let mut jpeg = encode(&image(30), 0, ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]);
    let sides = frame.unwrap() + 5;
    jpeg[sides..sides + 2].copy_from_slice(&60_000u16.to_be_bytes());
    jpeg[sides + 2..sides + 4].copy_from_slice(&60_000u16.to_be_bytes());
    fs::write(&vast, jpeg).unwrap();
    let mut read = cifar_data::read_each_photograph(&[long, vast], 32, 32);
    let message = read.remove(1).unwrap_err().to_string();
    for part in ["vast.jpg", "60000×60000 pixels", "512 MiB", "shrink it"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let long = read.remove(0).unwrap();
    assert_eq!((long.width, long.height, long.enlarged), (20_000, 20, true));
    assert!(long.pixels.iter().all(|value| *value == 90));
}

#[test]
fn a_folder_of_all_kinds_of_things_is_no_data_set() {
    let root = tempdir().unwrap();
    let image = encode(&tell_tale(1, 1, 0), 0, ImageFormat::Png);
    for name in ["letters", "music", "pictures"] {
        fs::create_dir_all(root.path().join(name)).unwrap();
    }
    fs::write(root.path().join("letters/a.txt"), "Dear Sir").unwrap();
    fs::write(root.path().join("pictures/a.png"), image).unwrap();
    let message = open_folder(DatasetName::Folder, root.path())
        .unwrap_err()
        .to_string();
    for part in ["train/<class>/*", "none of them", "one of these layouts"] {
        assert!(message.contains(part), "{part}: {message}");
    }
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

/// A column `label` from 0 to 9 is no CIFAR-100, whatever it is called.
#[test]
fn ten_classes_are_no_hundred() {
    let root = tempdir().unwrap();
    parquet_folder(root.path(), ImageFormat::Jpeg);
    let message = open_folder(DatasetName::Cifar100, root.path())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("expected the classes of cifar100") && message.contains("10 classes"),
        "{message}"
    );
    open_folder(DatasetName::Cifar10, root.path()).unwrap();
}

#[test]
fn what_is_not_there_or_of_another_kind_is_named_with_the_way_out() {
    let root = tempdir().unwrap();
    let file = root.path().join("zero.parquet");
    fs::write(&file, "").unwrap();
    let nowhere = root.path().join("nowhere");
    let photograph = std::slice::from_ref(&nowhere);
    for (error, says) in [
        (
            open_folder(DatasetName::Cifar10, &nowhere).err(),
            ["nowhere", "found nothing; correct --data-dir"],
        ),
        (
            open_folder(DatasetName::Cifar10, &file).err(),
            ["zero.parquet", "name the folder that holds it"],
        ),
        (
            cifar_data::find_photographs(&nowhere).err(),
            ["nowhere", "found nothing"],
        ),
        (
            cifar_data::find_photographs(&file).err(),
            ["zero.parquet", "found a file"],
        ),
        (
            cifar_data::read_photographs(photograph, 32, 32).err(),
            ["nowhere", "found no file"],
        ),
        (
            cifar_data::read_photographs(&[root.path().to_path_buf()], 32, 32).err(),
            ["", "found a folder; name the files in it"],
        ),
    ] {
        let text = error.unwrap().to_string();
        assert!(!text.contains("os error"), "{text}");
        for part in says {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let mut options = sealed(DatasetName::Cifar10, root.path());
    options.cifar10_dir = Some(nowhere);
    let text = cifar_data::open(&options, &mut ()).unwrap_err().to_string();
    assert!(text.contains("correct CIFAR10_DIR"), "{text}");
}

/// A later program finds the user's data again, wherever it is started.
#[test]
fn where_the_users_data_lie_is_kept() {
    let root = tempdir().unwrap();
    parquet_folder(root.path(), ImageFormat::Png);
    let dataset = open_folder(DatasetName::Cifar10, root.path()).unwrap();
    let there = dataset.info().data_dir.clone().unwrap();
    assert!(there.is_absolute() && there == root.path(), "{there:?}");
    let drawn = sealed(DatasetName::Synthetic, root.path());
    let drawn = cifar_data::open(&drawn, &mut ()).unwrap();
    assert_eq!(drawn.info().data_dir, None);
}
