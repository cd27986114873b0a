//! Bad input of any kind: exit code 2, one sentence with the flag or field, the value and the
//! remedy, and no run folder touched.

use std::fs;

use crate::support::{World, finish, tiny};

/// A command line, and what its refusal must name.
const REFUSED: &[(&[&str], &[&str])] = &[
    // flags
    (&["run-al"], &["run-al", "run-all"]),
    (&["run-all", "--recip", "smoke"], &["--recip", "--recipe"]),
    (&["run-all", "--seed", "minus"], &["--seed", "minus"]),
    (
        &["run-all", "--seed", "-1"],
        &["--seed", "-1", "whole number from 0"],
    ),
    (
        &["export", "--run-dir=no-run", "--to=x", "--license=garbage"],
        &["--license", "garbage", "apache-2.0"],
    ),
    (
        &["compare-losses", "--losses=npairs,npairs"],
        &["--losses npairs,npairs", "twice"],
    ),
    (
        &["embed", "empty", "--out=nowhere/e.npy", "--run-dir=no-run"],
        &["--out nowhere/e.npy", "no folder nowhere"],
    ),
    (
        &["search", "a.png", "--strip=s.jpg", "--run-dir=no-run"],
        &["--strip s.jpg", ".png"],
    ),
    (
        &["run-all", "--device", "tpu"],
        &["--device", "tpu", "metal"],
    ),
    (
        &["run-all", "--dataset", "mnist"],
        &["--dataset", "mnist", "cifar10"],
    ),
    (
        &["run-all", "--set", "pretrain.epochs"],
        &["--set", "pretrain.epochs", "KEY=VALUE"],
    ),
    (&["run-all", "--set", "=3"], &["--set", "=3"]),
    (&["run-all", "--run-dir", ""], &["--run-dir"]),
    (&["run-all", "stray"], &["stray"]),
    (&["completions", "dosh"], &["dosh", "bash"]),
    (&["completions"], &["SHELL"]),
    (&["bench", "--batch", "0"], &["--batch", "0"]),
    (
        &["bench", "--network", "vgg"],
        &["--network", "vgg", "r18-cifar"],
    ),
    (
        &["bench", "--peer", "jax"],
        &["--peer", "jax", "stock-candle"],
    ),
    (&["bench", "--only", "train"], &["--only", "--peer torch"]),
    (
        &["bench", "--peer=torch", "--only=speed"],
        &["--only", "speed", "threads"],
    ),
    (&["bench", "--python", "x"], &["--python", "--peer torch"]),
    (&["bench", "--write", "x.md"], &["--write", "--peer torch"]),
    (
        &["bench", "--peer=torch", "--precision=f32"],
        &["--precision", "both"],
    ),
    (
        &["bench", "--peer=torch", "--device=metal"],
        &["--device", "CPU"],
    ),
    (
        &["bench", "--layers", "--peer=torch"],
        &["--layers", "--peer"],
    ),
    (
        &["bench", "--layers", "--steps=2"],
        &["--steps", "--layers"],
    ),
    // recipes
    (
        &["run-all", "--recipe", "smok"],
        &["--recipe smok", "smoke", "transfer"],
    ),
    (&["run-all", "--recipe", "no/such.toml"], &["no/such.toml"]),
    (&["run-all", "--recipe", "."], &["--recipe ."]),
    (
        &["run-all", "--recipe", "typo.toml"],
        &["typo.toml", "temprature", "temperature"],
    ),
    (
        &["run-all", "--recipe", "broken.toml"],
        &["broken.toml", "line 2"],
    ),
    (
        &["run-all", "--recipe", "kind.toml"],
        &["kind.toml", "warm"],
    ),
    (
        &["run-all", "--recipe", "range.toml"],
        &["pretrain.temperature", "-1", "above 0"],
    ),
    (&["run-all", "--recipe", "binary.toml"], &["binary.toml"]),
    // fields
    (
        &[
            "run-all",
            "--recipe",
            "smoke",
            "--set",
            "pretrain.temprature=1",
        ],
        &["pretrain.temprature=1"],
    ),
    (
        &[
            "run-all",
            "--recipe",
            "smoke",
            "--set",
            "pretrain.epochs=none",
        ],
        &["pretrain.epochs", "none"],
    ),
    (
        &["run-all", "--recipe", "smoke", "--set", "pretrain.epochs=0"],
        &["pretrain.epochs", "0"],
    ),
    (
        &[
            "run-all",
            "--recipe",
            "smoke",
            "--set",
            "supervised.batch_size=1",
        ],
        &["supervised.batch_size"],
    ),
    (
        &[
            "run-all",
            "--recipe",
            "smoke",
            "--set",
            "supervised.batch_size=60000",
        ],
        &["batch"],
    ),
    (
        &[
            "run-all",
            "--recipe",
            "smoke",
            "--set",
            "data.validation=999999",
        ],
        &["data.validation", "999999", "training images"],
    ),
    (
        &[
            "run-all",
            "--recipe",
            "smoke",
            "--set",
            "arms.baseline=maybe",
        ],
        &["arms.baseline", "maybe"],
    ),
    (
        &[
            "run-all",
            "--recipe",
            "smoke",
            "--set",
            "arms.baseline=false",
        ],
        &["arms.control"],
    ),
    (
        &[
            "run-all",
            "--recipe",
            "smoke",
            "--set",
            "pretrain.loss=nt_xent",
        ],
        &["augment.views", "2"],
    ),
    (
        &[
            "run-all",
            "--recipe",
            "smoke",
            "--set",
            "model.init=nowhere.safetensors",
        ],
        &["nowhere.safetensors"],
    ),
    // first weights
    (
        &["run-all", "--init", "hub:resnet50"],
        &["--init", "hub:resnet50", "hub:owner/name"],
    ),
    (
        &[
            "run-all",
            "--recipe",
            "smoke",
            "--init",
            "nowhere.safetensors",
        ],
        &["nowhere.safetensors"],
    ),
    (
        &["run-all", "--recipe", "smoke", "--init", "range.toml"],
        &["range.toml"],
    ),
    (
        &["run-all", "--recipe", "smoke", "--init", "hub:a/b"],
        &["hub:a/b", "HF_HUB_OFFLINE"],
    ),
    (
        &[
            "run-all",
            "--recipe",
            "smoke",
            "--set",
            "arms.transfer=true",
            "--set",
            "transfer.init=nowhere.safetensors",
        ],
        &["nowhere.safetensors"],
    ),
    (
        &[
            "run-all",
            "--recipe",
            "smoke",
            "--set",
            "arms.transfer=true",
            "--init",
            "random",
        ],
        &["transfer.init", "random"],
    ),
    // data
    (
        &["run-all", "--recipe", "quick", "--data-dir", "nowhere"],
        &["nowhere", "--data-dir"],
    ),
    (
        &["run-all", "--recipe", "quick", "--data-dir", "typo.toml"],
        &["typo.toml", "folder", "parquet"],
    ),
    (
        &["download", "--dataset=synthetic", "--data-dir=empty"],
        &["--data-dir empty", "--dataset synthetic", "leave one"],
    ),
    (
        &["run-all", "--recipe", "quick", "--data-dir", "empty"],
        &["empty", "parquet"],
    ),
    (
        &["run-all", "--recipe", "smoke", "--data-dir", "empty"],
        &["--data-dir", "--dataset auto"],
    ),
    (&["run-all", "--dataset", "folder"], &["--data-dir"]),
    (
        &["run-all", "--dataset", "cifar10"],
        &["cifar10", "--data-dir"],
    ),
    (
        &["run-all", "--dataset", "cifar100"],
        &["cifar100", "--data-dir"],
    ),
    (
        &["train", "--recipe", "quick", "--dataset", "cifar10"],
        &["cifar10", "--data-dir"],
    ),
    // run folders
    (
        &["run-all", "--recipe", "smoke", "--resume"],
        &["runs/smoke-seed0", "no run", "--resume"],
    ),
    (
        &[
            "run-all",
            "--recipe",
            "smoke",
            "--resume",
            "--run-dir",
            "no-run",
        ],
        &["no-run", "--resume"],
    ),
    (&["report", "--run-dir", "no-run"], &["no-run", "--run-dir"]),
    (
        &["run-all", "--recipe", "smoke", "--run-dir", "range.toml"],
        &["range.toml", "folder"],
    ),
    (
        &[
            "run-all",
            "--recipe",
            "smoke",
            "--run-dir",
            "range.toml/run",
        ],
        &["--run-dir", "range.toml/run"],
    ),
    (
        &["run-all", "--seeds=2", "--resume", "--run-dir=no-run"],
        &["no-run", "no runs of several seeds", "--resume"],
    ),
    (
        &["run-all", "--seeds=2", "--resume", "--run-dir=taken"],
        &["taken", "no runs of several seeds"],
    ),
    (
        &["run-all", "--seeds=2", "--run-dir=taken"],
        &["taken", "thesis.tex", "--run-dir"],
    ),
    (
        &["run-all", "--seeds=2", "--run-dir=single"],
        &["single", "run of one seed", "without --seeds"],
    ),
    (
        &["run-all", "--seeds=2", "--resume", "--run-dir=single"],
        &["single", "run of one seed"],
    ),
    (
        &["run-all", "--resume", "--run-dir=several"],
        &["several/seed-4", "--seeds N --resume"],
    ),
    (
        &["run-all", "--seeds=2", "--run-dir=several"],
        &["several", "continue them with --resume"],
    ),
    (
        &["predict", "a.png", "--run-dir=several"],
        &["--run-dir several/seed-4"],
    ),
    (
        &["export", "--to=x", "--run-dir=several"],
        &["--run-dir several/seed-4"],
    ),
    (
        &["compare-losses", "--resume", "--run-dir=single"],
        &["single run", "--run-dir"],
    ),
    (
        &["run-all", "--recipe", "smoke", "--run-dir", "taken"],
        &["taken", "thesis.tex", "--run-dir"],
    ),
];

#[test]
fn every_refusal_is_one_sentence_and_touches_nothing() {
    let world = World::new();
    world.write("typo.toml", "[pretrain]\ntemprature = 0.1\n");
    world.write("broken.toml", "[pretrain]\nloss = \n");
    world.write("kind.toml", "[supervised.schedule]\nkind = \"warm\"\n");
    world.write("range.toml", "[pretrain]\ntemperature = -1.0\n");
    fs::write(world.path("binary.toml"), [0xff, 0xfe, 0, 1]).expect("a file");
    world.write("taken/thesis.tex", "precious");
    world.write("single/config.toml", "name = \"single\"\n");
    world.write("several/seed-4/.lock", "");
    fs::create_dir(world.path("empty")).expect("a folder");
    for (arguments, words) in REFUSED {
        eprintln!("{arguments:?}");
        world.run(arguments).refused(words);
    }
    assert_eq!(
        fs::read_dir(world.path("taken")).expect("a folder").count(),
        1
    );
    for folder in ["single", "several", "several/seed-4"] {
        let entries = fs::read_dir(world.path(folder)).expect("a folder");
        assert_eq!(entries.count(), 1, "{folder}");
    }
    assert!(
        !world.path("runs").exists(),
        "a refused command made a run folder"
    );
}

#[test]
fn an_existing_run_is_not_harmed_by_bad_input() {
    let world = World::new();
    world
        .tiny("train", "run", &["--set=supervised.epochs=1"])
        .ok();
    let before = snapshot(&world);
    // Another seed, another recipe, no --resume: all refused, all harmless.
    world
        .tiny("run-all", "run", &["--set=supervised.epochs=1"])
        .refused(&["run", "--resume"]);
    world
        .run(&["run-all", "--run-dir=run", "--resume", "--seed=9"])
        .refused(&["seed", "9"]);
    world
        .run(&["run-all", "--run-dir=run", "--resume", "--recipe=quick"])
        .refused(&["run"]);
    world
        .run(&tiny(
            "run-all",
            "run",
            &[
                "--resume",
                "--set=supervised.epochs=1",
                "--set=pretrain.temperature=0.2",
            ],
        ))
        .refused(&["pretrain.temperature", "0.1", "0.2"]);
    world
        .run(&["run-all", "--run-dir=run", "--resume", "--device=tpu"])
        .refused(&["tpu"]);
    world
        .run(&["finetune", "--run-dir=run"])
        .refused(&["finetune"]);
    world
        .run(&["eval", "--run-dir=run", "--set=seed=3"])
        .refused(&["seed"]);
    assert_eq!(snapshot(&world), before);
}

#[test]
fn damaged_run_folders_are_named() {
    let world = World::new();
    world
        .tiny("train", "run", &["--set=supervised.epochs=1"])
        .ok();
    let encoder = world.path("run/baseline/encoder.safetensors");
    let bytes = fs::read(&encoder).expect("weights");
    fs::write(&encoder, &bytes[..bytes.len() / 2]).expect("written");
    world
        .run(&["probe", "--run-dir=run"])
        .refused(&["encoder.safetensors"]);
    fs::write(&encoder, bytes).expect("written");
    fs::write(world.path("run/config.toml"), "name = 3").expect("written");
    world
        .run(&["probe", "--run-dir=run"])
        .refused(&["config.toml"]);
}

/// Names, sizes and contents of everything in the run folder but the lock.
fn snapshot(world: &World) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![world.path("run")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push((path.display().to_string(), fs::read(&path).expect("a file")));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn an_unknown_instruction_set_is_refused() {
    let world = World::new();
    let mut command = world.command(&["doctor"]);
    command.env("KERNELS_CPU", "sse9");
    finish(command.spawn().expect("started")).refused(&["KERNELS_CPU", "sse9", "portable"]);
}
