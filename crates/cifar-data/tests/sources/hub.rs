//! The real Hub and archive code when all goes well in the end: cache, token, redirects, resumed transfers.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use cifar_data::{Archive, DatasetName, HubFile, Images, ProgressEvent, SourceOptions};
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
    assert_eq!(server.starts(), [4_000, 0]);
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

/// An archive of CIFAR-10 and its images.
fn small_archive() -> (Arc<Vec<u8>>, (Images, Images)) {
    let images = (tell_tale(10, 10, 0), tell_tale(3, 10, 3));
    let bytes = tar_gz(&six_files(&images.0, &images.1));
    (Arc::new(bytes), images)
}

/// Options that find nothing but this archive, pinned by its MD5.
fn archive_only(fixture: &Fixture, server: &Server, bytes: &[u8]) -> SourceOptions {
    let mut options = fixture.options("http://127.0.0.1:9");
    options.archive = Some(Archive {
        url: format!("{}/a.tar.gz", server.address),
        md5: Some(hex(&md5::Md5::digest(bytes))),
        bytes: None,
    });
    options
}

#[test]
fn who_comes_during_an_archive_download_waits_for_it() {
    let fixture = Fixture::new();
    let (bytes, images) = small_archive();
    let body = Arc::clone(&bytes);
    let server = Server::start(move |request, _| {
        let mut reply = Reply::file(&body);
        if request.range_start == Some(0) {
            reply.cut = Some(2_000);
            reply.stall = Some(Duration::from_millis(300));
        }
        reply
    });
    let options = archive_only(&fixture, &server, &bytes);
    // Each opens the lock file itself, as a process of its own would.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(open(&options).unwrap().train().unwrap(), images.0));
        }
    });
    assert_eq!(server.starts(), [0, 2_000]);
}

#[test]
fn an_archive_answer_from_elsewhere_in_the_file_is_not_appended() {
    let fixture = Fixture::new();
    let (bytes, images) = small_archive();
    let body = Arc::clone(&bytes);
    let elsewhere = move |from: usize| Reply {
        headers: vec![(
            "Content-Range",
            format!("bytes {from}-{}/{}", body.len() - 1, body.len()),
        )],
        body: Arc::new(body[from..].to_vec()),
        ..Reply::status(206)
    };
    let (body, once) = (Arc::clone(&bytes), elsewhere.clone());
    let server = Server::start(move |request, number| {
        let mut reply = Reply::file(&body);
        // The probe comes first, then a transfer that breaks.
        match (number, request.range_start) {
            (2, _) => reply.cut = Some(500),
            (_, Some(500)) => return once(300),
            _ => {}
        }
        reply
    });
    let dataset = open(&archive_only(&fixture, &server, &bytes)).unwrap();
    assert_eq!((dataset.train().unwrap(), dataset.test().unwrap()), images);
    assert_eq!(server.starts(), [0, 500, 0]);

    let fixture = Fixture::new();
    let server = Server::start(move |_, _| elsewhere(7));
    let text = message(&archive_only(&fixture, &server, &bytes));
    assert!(text.contains("another part of the file"), "{text}");
}

#[test]
fn an_archive_is_asked_for_as_it_is_and_not_compressed_once_more() {
    let fixture = Fixture::new();
    let (bytes, images) = small_archive();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).unwrap();
    let (body, squeezed) = (Arc::clone(&bytes), Arc::new(gzip.finish().unwrap()));
    let server = Server::start(move |request, number| {
        let plain = request.accept_encoding.as_deref() == Some("identity");
        let mut reply = Reply::file(if plain { &body } else { &squeezed });
        if !plain {
            reply.headers.push(("Content-Encoding", "gzip".to_owned()));
        }
        reply.cut = (number == 2).then_some(500);
        reply
    });
    let dataset = open(&archive_only(&fixture, &server, &bytes)).unwrap();
    assert_eq!(dataset.info().name, "CIFAR-10");
    assert_eq!(dataset.train().unwrap(), images.0);
    assert_eq!(server.starts(), [0, 500]);
}

#[test]
fn cifar100_comes_from_the_hub_resumes_and_then_lives_from_the_cache() {
    let fixture = Fixture::of(DatasetName::Cifar100);
    let server = fixture.serve(|request, _, mut reply| {
        if request.range_start == Some(0) && request.path.contains("train") {
            reply.cut = Some(4_000);
        }
        reply
    });
    let mut options = fixture.options(&server.address);
    let dataset = open(&options).unwrap();
    fixture.assert_whole(&dataset);
    assert_eq!(dataset.info().classes[99], "worm");
    assert_eq!(server.starts(), [0, 4_000, 0]);
    options.offline = true;
    fixture.assert_whole(&open(&options).unwrap());
}

#[test]
fn cifar100_comes_from_its_official_archive_resumes_and_is_checked() {
    let fixture = Fixture::of(DatasetName::Cifar100);
    let images = (tell_tale(20, 100, 0), tell_tale(6, 100, 3));
    let bytes = Arc::new(tar_gz(&[
        (
            "cifar-100-binary/train.bin".to_owned(),
            binary(&images.0, true),
        ),
        (
            "cifar-100-binary/test.bin".to_owned(),
            binary(&images.1, true),
        ),
    ]));
    let body = Arc::clone(&bytes);
    let server = Server::start(move |request, _| {
        let mut reply = Reply::file(&body);
        reply.cut = (request.range_start == Some(0)).then_some(2_000);
        reply
    });
    let mut options = archive_only(&fixture, &server, b"other bytes");
    let text = message(&options);
    assert!(
        text.contains("md5") && text.contains("CIFAR100_DIR"),
        "{text}"
    );
    options.archive = archive_only(&fixture, &server, &bytes).archive;
    for offline in [false, true] {
        options.offline = offline;
        let dataset = open(&options).unwrap();
        assert_eq!(dataset.info().name, "CIFAR-100");
        assert_eq!((dataset.train().unwrap(), dataset.test().unwrap()), images);
    }
    assert_eq!(server.starts(), [0, 2_000, 0, 2_000]);
    let kept = options.hub.archive_dir().join("cifar-100-binary.tar.gz");
    assert_eq!(std::fs::read(kept).unwrap(), *bytes);
}
