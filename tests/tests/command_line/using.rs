//! predict, embed, search: a finished run is used on ordinary photographs.

use std::{fs, path::Path, sync::OnceLock};

use cifar_data::{Dataset, DatasetName, Images, SourceOptions};
use eval::{Features, Predictions};
use image::{RgbImage, imageops};
use serde_json::Value;

use crate::support::{World, assert_narrow};

/// A tiny run of all arms, made once, and photographs beside it.
fn finished() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let world = World::lasting("finished");
        world.tiny("run-all", "run", &[]).ok();
        let test = dataset().test().expect("test images");
        fs::create_dir_all(world.path("photos/deep")).expect("a folder");
        for index in 0..4 {
            let name = if index == 3 {
                "deep/3".to_owned()
            } else {
                index.to_string()
            };
            let file = world.path(&format!("photos/{name}.png"));
            picture(&test, index).save(file).expect("a photograph");
        }
        world
    })
}

fn dataset() -> Dataset {
    let options = SourceOptions {
        dataset: DatasetName::Synthetic,
        ..SourceOptions::default()
    };
    cifar_data::open(&options, &mut ()).expect("the embedded set")
}

fn picture(images: &Images, index: usize) -> RgbImage {
    let (width, height) = (images.width as u32, images.height as u32);
    RgbImage::from_raw(width, height, images.image(index).to_vec()).expect("an image")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON on stdout")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// A test photograph as a PNG file gets the very probabilities that were recorded for it, in every arm.
#[test]
fn predict_agrees_with_what_the_run_recorded() {
    let world = finished();
    for arm in ["baseline", "contrastive", "control", "finetuned"] {
        let outcome = world.run(&[
            "predict",
            "photos/0.png",
            "photos/1.png",
            "photos/2.png",
            "--run-dir=run",
            "--json",
            "--top=10",
            "--arm",
            arm,
        ]);
        outcome.ok();
        assert_eq!(outcome.stderr, "");
        let answer = json(&outcome.stdout);
        assert_eq!(
            (&answer["arm"], &answer["run"]),
            (&arm.into(), &"run".into())
        );
        let path = world.path(&format!("run/{arm}/predictions-linear.safetensors"));
        let recorded = Predictions::load(&path).expect("predictions");
        for (row, image) in answer["images"]
            .as_array()
            .expect("images")
            .iter()
            .enumerate()
        {
            let logits = &recorded.logits[row * 10..][..10];
            let peak = logits.iter().copied().fold(f32::MIN, f32::max);
            let sum: f64 = logits.iter().map(|&l| f64::from(l - peak).exp()).sum();
            let ranked = image["classes"].as_array().expect("classes");
            assert_eq!(ranked.len(), 10);
            for class in ranked {
                let label = class["label"].as_u64().expect("a label") as usize;
                let expected = f64::from(logits[label] - peak).exp() / sum;
                // Batches of another size round differently in the last bits.
                assert!(
                    (number(&class["probability"]) - expected).abs() < 1e-4,
                    "{arm} {row}: {class} {expected}"
                );
            }
        }
    }
}

#[test]
fn photographs_of_any_size_are_taken_and_strange_ones_named() {
    let world = finished();
    let test = dataset().test().expect("test images");
    // The same picture, six times as large, wider, and as a JPEG.
    let large = imageops::resize(&picture(&test, 0), 192, 192, imageops::FilterType::Nearest);
    let mut wide = RgbImage::from_pixel(300, 192, image::Rgb([9, 99, 200]));
    imageops::replace(&mut wide, &large, 54, 0);
    wide.save(world.path("wide.jpg")).expect("a photograph");
    // A checkerboard of single pixels: no drawn shape looks like that.
    let board = RgbImage::from_fn(32, 32, |x, y| image::Rgb([(x + y) as u8 % 2 * 255; 3]));
    board.save(world.path("board.png")).expect("a photograph");
    let line = [
        "predict",
        "photos/0.png",
        "wide.jpg",
        "board.png",
        "--run-dir=run",
        "--arm=baseline",
    ];
    let outcome = world.run(&[&line[..], &["--json", "--top=1"]].concat());
    outcome.ok();
    let answer = json(&outcome.stdout);
    let rule = &answer["familiarity"]["features"];
    assert_eq!(
        (&rule["held_out"], &rule["images"]),
        (&true.into(), &100.into())
    );
    let images = answer["images"].as_array().expect("images");
    for image in images {
        let beyond = number(&image["distance"]) > number(&rule["threshold"]);
        let reasons = image["reasons"].as_array().expect("reasons");
        assert_eq!(reasons.contains(&"features".into()), beyond, "{image}");
        assert_eq!(image["unlike_training_data"], !reasons.is_empty());
    }
    assert_eq!(images[0]["unlike_training_data"], false, "{}", images[0]);
    assert_eq!(images[2]["unlike_training_data"], true, "{}", images[2]);
    assert_eq!(images[1]["width"], 300, "{}", images[1]);
    assert_eq!(
        images[0]["classes"][0]["class"],
        images[1]["classes"][0]["class"]
    );
    let outcome = world.run(&line);
    outcome.ok();
    assert_narrow(&outcome.stdout);
    assert_narrow(&outcome.stderr);
    assert!(outcome.stderr.starts_with("SYNTHETIC"), "{outcome:?}");
    let count = |what: &str| outcome.stdout.matches(what).count();
    assert_eq!(count("(features"), count("nearest training photograph"));
    assert!(
        outcome.stdout.contains("board.png") && outcome.stdout.contains("UNLIKE the training data")
    );
}

/// An encoder of a minute maps anything among its photographs; pixels tell what is no picture at all.
#[test]
fn noise_and_patterns_are_unlike_the_training_data_by_their_pixels() {
    let world = finished();
    let grey = |name: &str, of: &dyn Fn(u32, u32) -> u8| {
        let image = RgbImage::from_fn(32, 32, |x, y| image::Rgb([of(x, y); 3]));
        image.save(world.path(name)).expect("an image");
    };
    grey("black.png", &|_, _| 0);
    grey("flat.png", &|_, _| 128);
    grey("stripes.png", &|_, y| (y / 2 % 2) as u8 * 60 + 90);
    grey("checks.png", &|x, y| ((x / 2 + y / 2) % 2) as u8 * 255);
    grey("noise.png", &|x, y| {
        (x + 32 * y + 1).wrapping_mul(0x9e37_79b1).rotate_left(9) as u8
    });
    let strange = ["black", "flat", "stripes", "checks", "noise"].map(|name| format!("{name}.png"));
    let known = [0, 1, 2].map(|index| format!("photos/{index}.png"));
    let mut line = vec!["predict", "--run-dir=run", "--json"];
    line.extend(strange.iter().chain(&known).map(String::as_str));
    let outcome = world.run(&line);
    let answer = json(&outcome.ok().stdout);
    assert!(answer["familiarity"]["pixels"]["contrast"].is_array());
    for (row, image) in answer["images"]
        .as_array()
        .expect("images")
        .iter()
        .enumerate()
    {
        let reasons = image["reasons"].as_array().expect("reasons");
        let by_pixels = reasons.contains(&"pixels".into());
        assert_eq!(by_pixels, row < strange.len(), "{image}");
    }
    let told = world.run(&["search", "black.png", "--run-dir=run"]);
    let text = &told.ok().stdout;
    assert!(
        text.contains("UNLIKE") && text.contains("pixels: contrast 0.000"),
        "{text}"
    );
    assert_narrow(text);
    // A run of an older version kept no ranges: they are measured from its data.
    copy(&world.path("run"), &world.path("older"));
    let file = world.path("older/environment.json");
    let mut record = json(&fs::read_to_string(&file).expect("a record"));
    let kept = record.as_object_mut().expect("an object").remove("pixels");
    fs::write(&file, record.to_string()).expect("a record");
    let told = world.run(&["search", "black.png", "--run-dir=older", "--json"]);
    let answer = json(&told.ok().stdout);
    assert_eq!(answer["unlike_training_data"], true);
    assert_eq!(Some(&answer["familiarity"]["pixels"]), kept.as_ref());
}

#[test]
fn what_cannot_be_read_costs_no_other_answer_and_small_images_are_said_to_be_enlarged() {
    let world = finished();
    world.write("text.png", "no photograph");
    let small = RgbImage::from_fn(3, 7, |x, y| image::Rgb([(x * 60 + y * 9) as u8; 3]));
    small.save(world.path("small.png")).expect("a photograph");
    let line = [
        "predict",
        "photos/0.png",
        "text.png",
        "small.png",
        "nowhere.png",
        "--run-dir=run",
    ];
    let outcome = world.run(&line);
    outcome.refused_after_output(&["2 of 4 images"]);
    for (text, words) in [
        (
            &outcome.stdout,
            ["photos/0.png", "small.png", "enlarged: it has 3×7 pixels"],
        ),
        (
            &outcome.stderr,
            ["text.png: expected", "nowhere.png: expected", "no file"],
        ),
    ] {
        assert!(
            words.iter().all(|word| text.contains(word)),
            "{words:?}: {text}"
        );
    }
    let outcome = world.run(&[&line[..], &["--json"]].concat());
    outcome.refused_after_output(&["2 of 4 images"]);
    let answer = json(&outcome.stdout);
    let entry = |row: usize| &answer["images"][row];
    for (row, path) in line[1..5].iter().enumerate() {
        assert_eq!(entry(row)["image"], *path);
        assert_eq!(
            entry(row)["error"].is_string(),
            row % 2 == 1,
            "{}",
            entry(row)
        );
        assert_eq!(
            entry(row)["classes"].is_array(),
            row % 2 == 0,
            "{}",
            entry(row)
        );
    }
    assert_eq!(
        (&entry(0)["enlarged"], &entry(2)["enlarged"]),
        (&false.into(), &true.into())
    );
    // A table of features has no gaps: nothing is written, and all that is in the way is named.
    fs::create_dir_all(world.path("mixed")).expect("a folder");
    world.write("mixed/a.png", "no photograph");
    world.write("mixed/c.jpg", "no photograph");
    fs::copy(world.path("photos/0.png"), world.path("mixed/b.png")).expect("a copy");
    let outcome = world.run(&["embed", "mixed", "--out=mixed.npy", "--run-dir=run"]);
    outcome.refused(&[
        "2 of 3 photographs",
        "nothing was written",
        "a.png",
        "c.jpg",
    ]);
    assert!(!world.path("mixed.npy").exists());
}

#[test]
fn embeddings_are_the_features_of_the_run() {
    let world = finished();
    let recorded =
        Features::load(&world.path("run/contrastive/features-test.safetensors")).expect("features");
    for file in ["e.safetensors", "e.npy", "e.parquet"] {
        let outcome = world.run(&["embed", "photos", "--out", file, "--run-dir=run", "--json"]);
        outcome.ok();
        let answer = json(&outcome.stdout);
        assert_eq!(answer["dim"], recorded.dim);
        let names: Vec<&str> = answer["images"]
            .as_array()
            .expect("images")
            .iter()
            .filter_map(|image| image["image"].as_str())
            .collect();
        assert_eq!(names, ["0.png", "1.png", "2.png", "deep/3.png"]);
    }
    let told = world.run(&["embed", "photos", "--out=e.npy", "--run-dir=run"]);
    assert!(told.ok().stderr.starts_with("SYNTHETIC"), "{told:?}");
    let file = resnet::read_safetensors(&world.path("e.safetensors")).expect("embeddings");
    let rows: Vec<Vec<f32>> = file.tensors["features"].to_vec2().expect("rows");
    let npy = fs::read(world.path("e.npy")).expect("embeddings");
    for (index, row) in rows.iter().enumerate() {
        let scale = recorded
            .row(index)
            .iter()
            .fold(0f32, |most, x| most.max(x.abs()));
        for (got, expected) in row.iter().zip(recorded.row(index)) {
            // Batches of another size round differently in the last bits.
            assert!(
                (got - expected).abs() <= 1e-5 * scale,
                "{index}: {got} {expected}"
            );
        }
        for (column, got) in row.iter().enumerate() {
            let at = npy.len() - 4 * (rows.len() * recorded.dim - index * recorded.dim - column);
            assert_eq!(
                npy[at..at + 4],
                got.to_le_bytes(),
                "row {index} of the .npy file"
            );
        }
    }
}

#[test]
fn search_finds_a_training_photograph_itself_and_draws_what_it_found() {
    let world = finished();
    let search = |image: &str, more: &[&str]| {
        let line = [&["search", image, "--run-dir=run"][..], more].concat();
        let outcome = world.run(&line);
        outcome.ok();
        outcome.stdout
    };
    let answer = json(&search("photos/0.png", &["--json", "--count=3"]));
    let found = answer["nearest"].as_array().expect("neighbours");
    assert_eq!(found.len(), 3);
    assert!(number(&found[0]["similarity"]) >= number(&found[2]["similarity"]));
    // What was found, brought as a file: itself, at a cosine of 1.
    let index = found[1]["index"].as_u64().expect("an index") as usize;
    let train = dataset().train().expect("training images");
    let label = u64::from(train.labels[index]);
    assert_eq!(found[1]["label"], label);
    picture(&train, index)
        .save(world.path("known.png"))
        .expect("a photograph");
    let text = search("known.png", &["--strip=strip.png", "--count=4"]);
    assert_narrow(&text);
    let first = text
        .lines()
        .find(|line| line.contains("1.0000"))
        .unwrap_or_default();
    assert!(first.contains(&format!(" {index} ")), "{text}");
    let strip = image::open(world.path("strip.png"))
        .expect("a picture")
        .to_rgb8();
    assert_eq!(strip.dimensions(), (5 * 128 + 5 * 4 + 16, 136));
    let pixels = |left: u32| imageops::crop_imm(&strip, left, 4, 128, 128).to_image();
    assert_eq!(
        pixels(4),
        pixels(4 + 128 + 16),
        "the photograph, and itself found"
    );
}

#[test]
fn what_cannot_be_used_is_refused_in_one_sentence() {
    let world = finished();
    world.write("broken.jpg", "no photograph");
    fs::create_dir_all(world.path("empty")).expect("a folder");
    let whole = fs::read(world.path("photos/0.png")).expect("a photograph");
    fs::write(world.path("cut.png"), &whole[..whole.len() / 2]).expect("a file");
    let cases: [(&[&str], &[&str]); 13] = [
        (
            &["predict", "nowhere.png", "--run-dir=run"],
            &["nowhere.png", "no file"],
        ),
        (
            &["predict", "photos", "--run-dir=run"],
            &["photos", "a folder", "name the files in it"],
        ),
        (
            &[
                "search",
                "photos/0.png",
                "--run-dir=run",
                "--data-dir=empty",
            ],
            &["--data-dir empty", "embedded", "leave it out"],
        ),
        (
            &["predict", "broken.jpg", "--run-dir=run"],
            &["broken.jpg", "PNG or JPEG"],
        ),
        (&["predict", "cut.png", "--run-dir=run"], &["cut.png"]),
        (
            &["predict", "photos/0.png", "--run-dir=run", "--arm=transfer"],
            &["transfer", "baseline, contrastive"],
        ),
        (
            &["predict", "photos/0.png", "--run-dir=run", "--arm=best"],
            &["best", "baseline"],
        ),
        (
            &["predict", "photos/0.png", "--run-dir=empty"],
            &["empty", "config.toml", "--run-dir"],
        ),
        (&["predict", "--run-dir=run"], &["IMAGE"]),
        (&["predict", "photos/0.png"], &["--run-dir"]),
        (
            &["embed", "photos", "--out=e.csv", "--run-dir=run"],
            &["e.csv", ".parquet"],
        ),
        (
            &["embed", "empty", "--out=e.npy", "--run-dir=run"],
            &["empty", "photographs"],
        ),
        (
            &["search", "nowhere.png", "--run-dir=run"],
            &["nowhere.png"],
        ),
    ];
    for (line, words) in cases {
        world.run(line).refused(words);
    }
    assert!(!world.path("e.csv").exists());
    // A run that is still under way.
    world
        .tiny("train", "begun", &["--set=supervised.epochs=1"])
        .ok();
    world
        .run(&["predict", "photos/0.png", "--run-dir=begun"])
        .refused(&[
            "contrastive",
            "not finished",
            "contrastive/pretrain",
            "--resume",
        ]);
    // A file of the run that is no more what it was.
    copy(&world.path("run"), &world.path("damaged"));
    fs::write(
        world.path("damaged/contrastive/encoder.safetensors"),
        "no weights",
    )
    .expect("a file");
    world
        .run(&["predict", "photos/0.png", "--run-dir=damaged"])
        .refused(&["encoder.safetensors"]);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name");
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).expect("a copy");
        }
    }
}
