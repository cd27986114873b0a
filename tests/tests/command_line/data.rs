//! Where the data come from, seen from outside: no network, no data, real data.

use std::{
    fs,
    net::TcpListener,
    time::{Duration, Instant},
};

use crate::support::{World, finish, tiny};

/// The tiny run without its recipe's data set.
fn tiny_auto<'a>(run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = tiny(
        "train",
        run,
        &["--dataset=auto", "--set=supervised.epochs=1"],
    );
    arguments.extend(more);
    arguments
}

#[test]
fn without_network_and_data_auto_is_synthetic_within_seconds() {
    let world = World::new();
    let dead = format!("http://127.0.0.1:{}", unused_port());
    let mut command = world.command(&tiny_auto("run", &[]));
    // Not declared offline: the network is tried, and is not there.
    command
        .env_remove("HF_HUB_OFFLINE")
        .env("HF_ENDPOINT", &dead)
        .env(
            "CIFAR10_ARCHIVE_URL",
            format!("{dead}/cifar-10-binary.tar.gz"),
        );
    let begun = Instant::now();
    let outcome = finish(command.spawn().expect("started"));
    outcome.ok();
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        outcome.stderr.contains("S Y N T H E T I C"),
        "{}",
        outcome.stderr
    );
    // What `auto` turned out to be is on disk, so that a resumed run cannot turn out otherwise.
    let config = fs::read_to_string(world.path("run/config.toml")).expect("a config");
    assert!(config.contains("dataset = \"synthetic\""), "{config}");
}

#[test]
fn cifar10_without_network_fails_with_what_to_do() {
    let world = World::new();
    let dead = format!("http://127.0.0.1:{}", unused_port());
    for command in ["run-all", "download"] {
        let mut command = world.command(&[command, "--dataset=cifar10"]);
        command
            .env_remove("HF_HUB_OFFLINE")
            .env("HF_ENDPOINT", &dead)
            .env(
                "CIFAR10_ARCHIVE_URL",
                format!("{dead}/cifar-10-binary.tar.gz"),
            );
        let outcome = finish(command.spawn().expect("started"));
        outcome.refused(&["cifar10", "--data-dir", "CIFAR10_DIR"]);
    }
}

#[test]
fn download_of_embedded_data_needs_nothing() {
    let world = World::new();
    let outcome = world.run(&["download", "--dataset=synthetic"]);
    outcome.ok();
    assert!(outcome.stdout.contains("SYNTHETIC"), "{}", outcome.stdout);
}

#[test]
fn a_folder_of_ones_own_images() {
    let world = World::new();
    // Three classes, each of a colour of its own, 24 columns and 20 rows.
    for (part, count) in [("train", 44), ("test", 10)] {
        for (channel, class) in ["blue-tit", "goldfinch", "robin"].iter().enumerate() {
            let folder = world.path("own").join(part).join(class);
            fs::create_dir_all(&folder).expect("a folder");
            for number in 0..count {
                let image = image::RgbImage::from_fn(24, 20, |x, y| {
                    let mut pixel = [(x * 7 + y * 5 + number * 11) as u8 / 2; 3];
                    pixel[channel] = 255;
                    image::Rgb(pixel)
                });
                let file = folder.join(format!("{number}.png"));
                image.save(file).expect("an image");
            }
        }
    }
    let arguments = [
        "--dataset=folder",
        "--data-dir=own",
        "--set=data.train_limit=none",
        "--set=data.validation=30",
    ];
    let outcome = world.tiny("run-all", "run", &arguments);
    outcome.ok();
    assert!(
        !outcome.stderr.contains("S Y N T H E T I C"),
        "{}",
        outcome.stderr
    );
    let results = world.results("run");
    let data = &results["dataset"];
    assert_eq!(data["synthetic"], false);
    assert_eq!(
        data["classes"],
        serde_json::json!(["blue-tit", "goldfinch", "robin"])
    );
    assert_eq!(
        (&data["train_images"], &data["test_images"], &data["width"]),
        (&102.into(), &30.into(), &24.into())
    );
    for arm in ["baseline", "contrastive", "control", "finetuned"] {
        let top1 = results["arms"][arm]["test"]["top1"].as_f64();
        assert!(
            top1.is_some_and(|top1| (0.0..=1.0).contains(&top1)),
            "{arm}"
        );
    }
}

#[test]
fn a_file_that_is_no_image_is_named() {
    let world = World::new();
    world.write("own/train/cat/1.png", "this is no image");
    world.write("own/test/cat/1.png", "this is no image");
    world
        .run(&["download", "--data-dir=own"])
        .refused(&["1.png"]);
}

/// Photographs through the whole program; needs CIFAR10_DIR.
#[test]
fn real_photographs() {
    let Some(folder) = std::env::var_os("CIFAR10_DIR") else {
        eprintln!("SKIPPED real_photographs: set CIFAR10_DIR to a folder with CIFAR-10");
        return;
    };
    let folder = fs::canonicalize(&folder).expect("CIFAR10_DIR is a folder");
    let folder = folder.to_string_lossy();
    let world = World::new();
    let mut arguments = tiny(
        "run-all",
        "run",
        &["--dataset=cifar10", "--data-dir", &folder],
    );
    arguments.push("--set=data.train_limit=512");
    let outcome = world.run(&arguments);
    outcome.ok();
    assert!(
        !outcome.stderr.contains("S Y N T H E T I C"),
        "{}",
        outcome.stderr
    );
    let results = world.results("run");
    assert_eq!(results["dataset"]["synthetic"], false);
    assert!(
        results["dataset"]["name"]
            .as_str()
            .is_some_and(|name| name.contains("CIFAR-10"))
    );
    assert!(
        !results["dataset"]["checksums"]
            .as_object()
            .expect("checksums")
            .is_empty()
    );
}

/// A port nobody listens on.
fn unused_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("a port")
        .port()
}
