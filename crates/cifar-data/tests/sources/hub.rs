//! The real Hub and archive code when all goes well in the end: cache, token, redirects, resumed transfers.

use std::sync::Arc;

use cifar_data::{Archive, DatasetName, HubFile, ProgressEvent};
use sha2::Digest;

use crate::server::*;
use crate::support::*;

#[test]
fn downloads_once_shows_progress_and_then_lives_from_the_cache() {
    let fixture = Fixture::new();
    let server = fixture.serve(|_, _, reply| reply);
    let mut options = fixture.options(&server.address);
    options.hub.token = Some("secret".to_owned());
    let mut last = (0, 0);
    let dataset = cifar_data::open(&options, &mut |event: &ProgressEvent| {
        if let ProgressEvent::Download {
            file,
            received,
            total,
        } = event
            && file.contains("train")
        {
            last = (*received, *total);
        }
    })
    .unwrap();
    fixture.assert_whole(&dataset);
    assert_eq!(
        last,
        (fixture.train.len() as u64, fixture.train.len() as u64)
    );
    let requests = server.requests.lock().unwrap().clone();
    assert!(
        requests
            .iter()
            .all(|request| request.authorization.as_deref() == Some("Bearer secret"))
    );

    // Offline, and for `auto` too, the cache is enough; nobody is asked.
    for name in [DatasetName::Cifar10, DatasetName::Auto] {
        options.dataset = name;
        options.offline = true;
        fixture.assert_whole(&open(&options).unwrap());
    }
    assert_eq!(server.paths().len(), requests.len());
}

#[test]
fn a_token_on_disk_is_used() {
    let fixture = Fixture::new();
    let server = fixture.serve(|request, _, reply| match request.authorization.as_deref() {
        Some("Bearer from-disk") => reply,
        _ => Reply::status(401),
    });
    let options = fixture.options(&server.address);
    std::fs::create_dir_all(&options.hub.home).unwrap();
    std::fs::write(options.hub.home.join("token"), "from-disk\n").unwrap();
    fixture.assert_whole(&open(&options).unwrap());
}

#[test]
fn follows_redirects_within_the_host_and_to_another() {
    let fixture = Fixture::new();
    let other = fixture.serve(|_, _, reply| reply);
    let elsewhere = other.address.clone();
    let server = fixture.serve(move |request, _, reply| {
        if request.path.starts_with("/cdn/") || reply.status != 200 {
            return reply;
        }
        let location = if request.path.contains("train") {
            "/cdn/train".to_owned()
        } else {
            format!("{elsewhere}/cdn/test")
        };
        let mut headers = reply.headers;
        headers.push(("Location", location));
        Reply {
            headers,
            ..Reply::status(302)
        }
    });
    fixture.assert_whole(&open(&fixture.options(&server.address)).unwrap());
    assert!(server.paths().iter().any(|path| path == "/cdn/train"));
    assert!(other.paths().iter().all(|path| path == "/cdn/test") && !other.paths().is_empty());
}

#[test]
fn resumes_within_a_run() {
    let fixture = Fixture::new();
    let server = fixture.serve(|request, _, mut reply| {
        if request.whole_range && request.range_start == Some(0) && request.path.contains("train") {
            reply.cut = Some(10_000);
        }
        reply
    });
    fixture.assert_whole(&open(&fixture.options(&server.address)).unwrap());
    let requests = server.requests.lock().unwrap();
    assert!(
        requests
            .iter()
            .any(|request| request.range_start == Some(10_000) && request.whole_range)
    );
}

#[test]
fn resumes_in_a_later_run_after_the_connection_broke_for_good() {
    let fixture = Fixture::new();
    let broken = fixture.serve(|_, _, mut reply| {
        reply.cut = Some(4_000);
        reply
    });
    let mut options = fixture.options(&broken.address);
    options.hub.retries = 0;
    let text = message(&options);
    assert!(
        text.contains("no source of cifar10") && text.contains("Hub: http"),
        "{text}"
    );
    let server = fixture.serve(|_, _, reply| reply);
    fixture.assert_whole(&open(&fixture.options(&server.address)).unwrap());
    let starts: Vec<usize> = {
        let requests = server.requests.lock().unwrap();
        requests
            .iter()
            .filter(|r| r.whole_range)
            .filter_map(|r| r.range_start)
            .collect()
    };
    assert_eq!(starts, [4_000, 0]);
}

#[test]
fn a_cache_filled_by_another_program_is_found_and_a_damaged_one_replaced() {
    let fixture = Fixture::new();
    let server = fixture.serve(|_, _, reply| reply);
    let mut options = fixture.options(&server.address);
    let snapshot = options
        .hub
        .cache_dir()
        .join("datasets--owner--tiny/snapshots")
        .join(REVISION);
    let write = |file: &HubFile, bytes: &[u8]| {
        let path = snapshot.join(&file.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    write(&fixture.pin.train, &fixture.train);
    write(&fixture.pin.test, &fixture.test);
    options.offline = true;
    fixture.assert_whole(&open(&options).unwrap());

    write(&fixture.pin.test, b"damaged");
    let text = message(&options);
    assert!(
        text.contains("is pinned") && text.contains("offline (HF_HUB_OFFLINE)"),
        "{text}"
    );
    options.offline = false;
    fixture.assert_whole(&open(&options).unwrap());
    assert!(
        server.paths().iter().all(|path| !path.contains("train")),
        "the good file is not asked for again"
    );
}

#[test]
fn the_official_archive_comes_next_resumes_and_is_checked() {
    let fixture = Fixture::new();
    let images = (tell_tale(10, 10, 0), tell_tale(3, 10, 3));
    let bytes = Arc::new(tar_gz(&six_files(&images.0, &images.1)));
    let md5 = hex(&md5::Md5::digest(&bytes[..]));
    let body = Arc::clone(&bytes);
    let server = Server::start(move |request, _| {
        let mut reply = Reply::file(&body);
        if request.path != "/a.tar.gz" {
            return Reply::status(404);
        }
        if request.range_start == Some(0) {
            reply.cut = Some(2_000);
        }
        reply
    });
    let mut options = fixture.options(&server.address);
    let archive = Archive {
        url: format!("{}/a.tar.gz", server.address),
        md5: Some(md5),
        bytes: Some(bytes.len() as u64),
    };
    options.archive = Some(Archive {
        md5: Some("0".repeat(32)),
        ..archive.clone()
    });
    let text = message(&options);
    assert!(
        text.contains("md5") && text.contains(&"0".repeat(32)),
        "{text}"
    );
    options.archive = Some(Archive {
        bytes: Some(7),
        ..archive.clone()
    });
    assert!(
        message(&options).contains("7 bytes is pinned"),
        "{}",
        message(&options)
    );

    options.archive = Some(archive);
    let dataset = open(&options).unwrap();
    assert_eq!(dataset.info().name, "CIFAR-10");
    assert_eq!((dataset.train().unwrap(), dataset.test().unwrap()), images);
    assert!(
        server
            .requests
            .lock()
            .unwrap()
            .iter()
            .any(|request| request.range_start == Some(2_000))
    );
    let asked = server.paths().len();
    options.offline = true;
    assert_eq!(open(&options).unwrap().info().name, "CIFAR-10");
    assert_eq!(
        server.paths().len(),
        asked,
        "an earlier download serves offline"
    );
}

#[test]
fn an_archive_server_without_ranges_starts_over() {
    let fixture = Fixture::new();
    let images = (tell_tale(10, 10, 0), tell_tale(3, 10, 3));
    let bytes = Arc::new(tar_gz(&six_files(&images.0, &images.1)));
    let body = Arc::clone(&bytes);
    let server = Server::start(move |_, number| {
        let mut reply = Reply::file(&body);
        reply.ranges = false;
        reply.headers.clear();
        // The probe, a transfer that breaks, and a good one.
        reply.cut = (number == 2).then_some(500);
        reply
    });
    let mut options = fixture.options("http://127.0.0.1:9");
    options.archive = Some(Archive {
        url: format!("{}/a.tar.gz", server.address),
        md5: None,
        bytes: None,
    });
    let dataset = open(&options).unwrap();
    assert_eq!(dataset.info().name, "CIFAR-10 (user's copy)");
    assert_eq!(dataset.train().unwrap(), images.0);
}
