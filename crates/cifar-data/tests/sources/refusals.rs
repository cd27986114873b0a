//! Each way the network can go wrong, and the environment variables.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cifar_data::{Archive, DatasetName, HubFile, HubPin, SourceOptions};

use crate::server::*;

#[test]
fn a_stall_ends_within_its_time_and_is_named() {
    let fixture = Fixture::new();
    let server = fixture.serve(|_, _, mut reply| {
        reply.cut = Some(5_000);
        reply.stall = Some(Duration::from_secs(4));
        reply
    });
    let started = Instant::now();
    let mut options = fixture.options(&server.address);
    options.hub.stall_timeout = Duration::from_millis(700);
    let text = message(&options);
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    assert!(
        text.contains("stood still") && text.contains("after 5000 of"),
        "{text}"
    );
}

#[test]
fn refusals_are_told_apart() {
    for (status, expected) in [
        (401, "access refused (HTTP 401)"),
        (404, "no such file (HTTP 404)"),
        (503, "HTTP 503"),
    ] {
        let fixture = Fixture::new();
        let server = Server::start(move |_, _| Reply::status(status));
        let text = message(&fixture.options(&server.address));
        assert!(
            text.contains(expected) && text.contains("--data-dir"),
            "{text}"
        );
    }
}

#[test]
fn wrong_bytes_are_refused_removed_and_both_sums_named() {
    let fixture = Fixture::new();
    let server = fixture.serve(|request, _, mut reply| {
        if request.path.contains("train") {
            let mut bytes = reply.body.to_vec();
            bytes[100] ^= 1;
            reply.body = Arc::new(bytes);
        }
        reply
    });
    let options = fixture.options(&server.address);
    let text = message(&options);
    let pinned = fixture.pin.train.sha256.clone().unwrap();
    assert!(
        text.contains(&pinned) && text.contains("sha256") && text.contains("not checked"),
        "{text}"
    );
    assert!(text.contains("is pinned"), "{text}");
    let good = fixture.serve(|_, _, reply| reply);
    fixture.assert_whole(&open(&fixture.options(&good.address)).unwrap());
}

#[test]
fn a_partial_download_that_does_not_fit_is_thrown_away() {
    for garbage in [3_000, 1_000_000] {
        let fixture = Fixture::new();
        let server = fixture.serve(|_, _, reply| reply);
        let options = fixture.options(&server.address);
        let blobs = options.hub.cache_dir().join("datasets--owner--tiny/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(
            blobs.join(format!("{}.part", fixture.train.len())),
            vec![7; garbage],
        )
        .unwrap();
        fixture.assert_whole(&open(&options).unwrap());
    }
}

#[test]
fn without_a_network_auto_falls_back_loudly_and_cifar10_says_what_to_do() {
    let fixture = Fixture::new();
    // A port nobody listens on, and one that accepts and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for endpoint in [
        "http://127.0.0.1:9".to_owned(),
        format!("http://{}", silent.local_addr().unwrap()),
    ] {
        let mut options = fixture.options(&endpoint);
        let started = Instant::now();
        let text = message(&options);
        assert!(
            text.contains("Hub cache:") && text.contains("official archive:"),
            "{text}"
        );
        assert!(
            text.contains("CIFAR10_DIR") && text.contains("--dataset synthetic"),
            "{text}"
        );
        options.dataset = DatasetName::Auto;
        let dataset = open(&options).unwrap();
        assert!(
            started.elapsed() < Duration::from_secs(8),
            "{:?}",
            started.elapsed()
        );
        assert!(dataset.info().synthetic && dataset.info().name.contains("SYNTHETIC"));
        assert!(dataset.notice().unwrap().starts_with("SYNTHETIC DATA"));
    }
}

/// The Hub answers, but what it redirects to does not: `auto` waits for neither that nor for a stall.
#[test]
fn a_redirect_to_an_address_that_never_answers_costs_no_more_than_one() {
    let fixture = Fixture::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for away in [
        "http://127.0.0.1:9/".to_owned(),
        format!("http://{}/", silent.local_addr().unwrap()),
    ] {
        let server = fixture.serve(move |_, _, reply| {
            let mut headers = reply.headers;
            headers.push(("Location", away.clone()));
            Reply {
                headers,
                ..Reply::status(302)
            }
        });
        let mut options = fixture.options(&server.address);
        options.dataset = DatasetName::Auto;
        options.hub.connect_timeout = Duration::from_millis(500);
        options.hub.stall_timeout = Duration::from_secs(60);
        options.archive = Some(Archive {
            url: format!("{}/a.tar.gz", server.address),
            md5: None,
            bytes: None,
        });
        let started = Instant::now();
        let dataset = open(&options).unwrap();
        let waited = started.elapsed();
        assert!(waited < Duration::from_secs(4), "{waited:?}");
        let notice = dataset.notice().unwrap();
        let (hub, archive) = (&server.address, "official archive: http");
        assert!(dataset.info().synthetic && notice.contains(hub) && notice.contains(archive));
    }
}

/// The environment belongs to the process, so this test runs itself again in one of its own.
#[test]
fn the_environment_is_honoured() {
    if let Ok(home) = std::env::var("CIFAR_DATA_TEST_CHILD") {
        let mut options = SourceOptions::from_env(DatasetName::Cifar10);
        options.pin = Some(HubPin {
            repo: "owner/tiny".to_owned(),
            revision: REVISION.to_owned(),
            train: HubFile {
                path: "plain_text/train-00000-of-00001.parquet".to_owned(),
                sha256: None,
            },
            test: HubFile {
                path: "plain_text/test-00000-of-00001.parquet".to_owned(),
                sha256: None,
            },
        });
        let dataset = open(&options).unwrap();
        assert_eq!(dataset.info().train_len, 40);
        assert_eq!(
            dataset.info().name,
            "CIFAR-10 (user's copy)",
            "nothing was pinned, so nothing was verified"
        );
        assert!(
            Path::new(&home)
                .join("hub/datasets--owner--tiny/snapshots")
                .is_dir()
        );
        return;
    }
    let fixture = Fixture::new();
    let server = fixture.serve(|request, _, reply| {
        if request.authorization.as_deref() == Some("Bearer from-env") {
            reply
        } else {
            Reply::status(401)
        }
    });
    let home = fixture.home.path().join("env-home");
    let child = |offline: &str| {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "refusals::the_environment_is_honoured",
                "--nocapture",
            ])
            .env("CIFAR_DATA_TEST_CHILD", &home)
            .env("HF_HOME", &home)
            .env("HF_ENDPOINT", format!("{}/", server.address))
            .env("HF_TOKEN", "from-env")
            .env("HF_HUB_OFFLINE", offline)
            .env("CIFAR10_ARCHIVE_URL", "http://127.0.0.1:9/none.tar.gz")
            .env_remove("CIFAR10_DIR")
            .env_remove("HF_HUB_CACHE")
            .output()
            .unwrap()
    };
    let refused = child("1");
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("offline (HF_HUB_OFFLINE)"));
    assert!(server.paths().is_empty(), "offline asks nobody");
    let output = child("0");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
