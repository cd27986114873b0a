//! First weights from a file and from the Hub: fetched, shown, recorded, and refused where they do not fit.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
};

use candle_core::Device;
use resnet::{Arch, Parameters, ResNet, ResNetConfig, Stem};

use crate::support::{Outcome, World, assert_narrow, finish, tiny};

const HUB: &str = "--init=hub:somebody/net";
const ONE_EPOCH: &str = "--set=supervised.epochs=1";

#[test]
fn download_fetches_the_weights_that_a_later_run_needs() {
    let world = World::new();
    let (endpoint, sum) = hub(&world);
    let arguments = ["download", "--recipe=smoke", "--set=model.width=0.125", HUB];
    let outcome = online(&world, &arguments, &endpoint);
    outcome.ok();
    for word in ["hub:somebody/net: ", "model.safetensors", &sum] {
        assert!(outcome.stdout.contains(word), "{}", outcome.stdout);
    }
    assert_downloads(&outcome, true);

    // Again, and in a run: nothing is left to download, with and without the network.
    let outcome = online(&world, &arguments, &endpoint);
    outcome.ok();
    assert_downloads(&outcome, false);
    world.tiny("train", "run", &[HUB, ONE_EPOCH]).ok();
    assert!(recorded(&world, "run", "environment.json").contains(&sum));
}

#[test]
fn a_run_fetches_the_weights_of_its_transfer_arm_and_shows_it() {
    let world = World::new();
    let (endpoint, sum) = hub(&world);
    let transfer = ["--set=arms.transfer=true", HUB, ONE_EPOCH];
    let outcome = online(&world, &tiny("train", "run", &transfer), &endpoint);
    outcome.ok();
    assert_downloads(&outcome, true);
    assert!(recorded(&world, "run", "environment.json").contains(&sum));
    let config = recorded(&world, "run", "config.toml");
    let transfer = config.split("[transfer]").nth(1).expect("a section");
    assert!(
        transfer.contains("init = \"hub:somebody/net\""),
        "{transfer}"
    );
    assert!(config.contains("init = \"random\""), "{config}");
}

#[test]
fn the_encoder_of_one_run_begins_another() {
    let world = World::new();
    world.tiny("train", "first", &[ONE_EPOCH]).ok();
    let file = "first/baseline/encoder.safetensors";
    let init = format!("--init={file}");
    world.tiny("train", "second", &[&init, ONE_EPOCH]).ok();
    let sum = resnet::sha256(&world.path(file)).expect("weights");
    let record = recorded(&world, "second", "environment.json");
    assert!(record.contains(file) && record.contains(&sum), "{record}");
    assert_ne!(
        fs::read(world.path("second/baseline/encoder.safetensors")).expect("weights"),
        fs::read(world.path(file)).expect("weights")
    );

    // Whichever arm they are for, weights of another width leave no run behind.
    for arm in ["--set=arms.control=true", "--set=arms.transfer=true"] {
        let wide = ["--set=model.width=0.25", arm, &init];
        world
            .tiny("run-all", "wide", &wide)
            .refused(&[file, "do not fit"]);
        assert!(!world.path("wide").exists());
    }
    world
        .tiny("download", "unused", &["--set=model.width=0.25", &init])
        .refused_after_output(&[file, "do not fit"]);
}

/// Runs a command that may ask the Hub at `endpoint`.
fn online(world: &World, arguments: &[&str], endpoint: &str) -> Outcome {
    let mut command = world.command(arguments);
    command
        .env_remove("HF_HUB_OFFLINE")
        .env("HF_ENDPOINT", endpoint);
    finish(command.spawn().expect("started"))
}

fn assert_downloads(outcome: &Outcome, expected: bool) {
    let shown = outcome.stderr.contains("downloading hub:somebody/net (");
    assert_eq!(shown, expected, "{}", outcome.stderr);
    assert_narrow(&outcome.stderr);
}

fn recorded(world: &World, run: &str, file: &str) -> String {
    fs::read_to_string(world.path(run).join(file)).expect("a text file")
}

/// A Hub whose one file holds weights for the tiny run: its address, and the file's SHA-256.
fn hub(world: &World) -> (String, String) {
    let file = weights(&world.path("w.safetensors"));
    let sum = resnet::sha256(&file).expect("a readable file");
    let body = fs::read(file).expect("a readable file");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let etag = sum.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that closes early has what it wanted.
            let _ = answer(stream, &body, &etag);
        }
    });
    (endpoint, sum)
}

/// The first byte where only that is asked for, else everything.
fn answer(mut stream: TcpStream, body: &[u8], etag: &str) -> io::Result<()> {
    let mut part = body;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if line.eq_ignore_ascii_case("range: bytes=0-0") {
            part = &body[..1];
        }
    }
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nETag: \"{etag}\"\r\nX-Repo-Commit: {}\r\n\
         Content-Range: bytes 0-{}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        "0".repeat(40),
        part.len() - 1,
        body.len(),
        part.len()
    )?;
    stream.write_all(part)
}

/// Writes random weights of the tiny run's network.
fn weights(path: &Path) -> PathBuf {
    let config = ResNetConfig {
        width: 0.125,
        ..ResNetConfig::new(Arch::ResNet18, Stem::ImageNet)
    };
    let mut parameters = Parameters::new(&Device::Cpu);
    let mut rng = cifar_data::stream(0, "test", &[]);
    ResNet::new(&config, &mut parameters, &mut rng).expect("a network");
    parameters.save(path, &BTreeMap::new()).expect("written");
    path.to_owned()
}
