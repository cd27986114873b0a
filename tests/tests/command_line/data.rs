//! Where the data come from, seen from outside: no network, no data, real data.

use std::{
    fs,
    net::TcpListener,
    time::{Duration, Instant},
};

use crate::support::{World, assert_narrow, finish, tiny};

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

/// Photographs of three sizes in three classes, no test part, a recipe that asks for more than there is.
#[test]
fn photographs_of_any_size_run_the_whole_comparison() {
    let world = World::new();
    for (channel, class) in ["heron", "kingfisher", "wren"].iter().enumerate() {
        let folder = world.path("birds").join(class);
        fs::create_dir_all(&folder).expect("a folder");
        for number in 0..40u32 {
            let (width, height) = [(70, 50), (48, 96), (64, 64)][number as usize % 3];
            let image = image::RgbImage::from_fn(width, height, |x, y| {
                let mut pixel = [(x * 3 + y * 5 + number * 11) as u8 / 2; 3];
                pixel[channel] = 255;
                image::Rgb(pixel)
            });
            let ending = if number % 2 == 0 { "png" } else { "jpg" };
            let file = folder.join(format!("{number:02}.{ending}"));
            image.save(file).expect("an image");
        }
    }
    let run = [
        "run-all",
        "--run-dir=run",
        "--recipe=smoke",
        "--device=cpu",
        "--dataset=folder",
        "--data-dir=birds",
        "--set=model.width=0.125",
        "--set=supervised.epochs=3",
        "--set=pretrain.epochs=3",
        "--set=probe.epochs=10",
        "--set=head.epochs=2",
    ];
    let outcome = world.run(&run);
    outcome.ok();
    assert_narrow(&outcome.stderr);
    let told = outcome.stderr.replace("\n", " ");
    assert!(told.contains("data.validation 500 → 9"), "{told}");
    assert!(told.contains("3 sizes, 70×50 to 48×96"), "{told}");
    assert!(told.contains("24 of its 120 images"), "{told}");
    let results = world.results("run");
    let data = &results["dataset"];
    let classes = serde_json::json!(["heron", "kingfisher", "wren"]);
    assert_eq!(data["classes"], classes);
    for (field, expected) in [
        ("train_images", 87),
        ("validation_images", 9),
        ("test_images", 24),
        ("height", 64),
        ("width", 64),
    ] {
        assert_eq!(data[field], expected, "{field}");
    }
    assert!(
        data["note"]
            .as_str()
            .is_some_and(|note| note.contains("64×64") && note.contains("fixed seed")),
        "{data}"
    );
    for arm in ["baseline", "contrastive", "control", "finetuned"] {
        let confusion = &results["arms"][arm]["test"]["confusion"];
        assert_eq!(confusion.as_array().map(Vec::len), Some(3), "{arm}");
    }
    for report in ["run/report.md", "run/report.html"] {
        let text = fs::read_to_string(world.path(report)).expect("a report");
        for word in ["heron", "kingfisher", "wren", "64×64"] {
            assert!(text.contains(word), "{word} in {report}");
        }
    }
    // The same command goes on with the run, its recipe fitted once more to the same data.
    let again: Vec<&str> = run.into_iter().chain(["--resume"]).collect();
    world.run(&again).ok();
    // And what it learned can be asked.
    let outcome = world.run(&["predict", "birds/wren/01.jpg", "--run-dir=run", "--json"]);
    outcome.ok();
    let answer: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let ranked = answer["images"][0]["classes"].as_array().expect("classes");
    assert_eq!(ranked.len(), 3);
}

#[test]
fn an_image_size_is_for_image_folders() {
    let world = World::new();
    let line = tiny("run-all", "run", &["--set=data.image_size=4"]);
    world.run(&line).refused(&["data.image_size", "8 to 1024"]);
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

/// `count` photographs of each class, each class of a colour of its own.
fn photographs(world: &World, folder: &str, classes: &[&str], count: u32) {
    for (channel, class) in classes.iter().enumerate() {
        let folder = world.path(folder).join(class);
        fs::create_dir_all(&folder).expect("a folder");
        for number in 0..count {
            let image = image::RgbImage::from_fn(16, 16, |x, y| {
                let mut pixel = [(x * 7 + y * 5 + number * 11) as u8 / 2; 3];
                pixel[channel] = 255;
                image::Rgb(pixel)
            });
            let file = folder.join(format!("{number}.png"));
            image.save(file).expect("an image");
        }
    }
}

#[test]
fn too_little_to_tell_apart_is_refused() {
    let world = World::new();
    photographs(&world, "one", &["cat"], 20);
    photographs(&world, "few", &["cat", "dog"], 3);
    let run = |folder| {
        let data = ["--dataset=folder", "--data-dir", folder];
        world.tiny("run-all", "run", &data)
    };
    run("one").refused(&["one", "one class (cat)", "another class"]);
    run("few").refused(&["cat", "at least 5 images", "found 3", "test part"]);
    assert!(!world.path("run").exists());
}

/// A run knows where its data are, from whatever folder it is taken up.
#[test]
fn a_run_goes_on_with_the_data_that_it_found() {
    let world = World::new();
    photographs(&world, "own", &["cat", "dog"], 60);
    let data = [
        "--dataset=auto",
        "--data-dir=own",
        "--set=data.train_limit=none",
        "--set=data.validation=8",
        "--set=supervised.epochs=1",
        "--set=supervised.batch_size=16",
    ];
    world.tiny("train", "run", &data).ok();
    fs::create_dir(world.path("elsewhere")).expect("a folder");
    let mut command = world.command(&["probe", "--run-dir=../run"]);
    command.current_dir(world.path("elsewhere"));
    let outcome = finish(command.spawn().expect("started"));
    outcome.ok();
    assert!(!outcome.stderr.contains("trying Hub"), "{}", outcome.stderr);
    // Gone is gone, and moved is named.
    fs::rename(world.path("own"), world.path("moved")).expect("moved");
    world
        .run(&["run-all", "--run-dir=run", "--resume"])
        .refused(&["own", "not there any more", "--data-dir"]);
    world
        .run(&["probe", "--run-dir=run", "--data-dir=moved"])
        .ok();
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
