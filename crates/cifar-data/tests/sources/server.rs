//! A small HTTP server that can break off, stall, redirect and refuse, and a data set on it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cifar_data::{Archive, Dataset, DatasetName, HubFile, HubPin, Images, Result, SourceOptions};
use sha2::Digest;
use tempfile::{TempDir, tempdir};

use crate::support::*;

pub const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server answers to one request.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    /// The whole file; the range asked for is cut out of it.
    pub body: Arc<Vec<u8>>,
    /// Send only this many bytes of what was asked for, then `stall` or hang up.
    pub cut: Option<usize>,
    pub stall: Option<Duration>,
    pub ranges: bool,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Arc::default(),
            cut: None,
            stall: None,
            ranges: true,
        }
    }

    pub fn file(body: &Arc<Vec<u8>>) -> Self {
        let headers = vec![
            ("ETag", format!("\"{}\"", body.len())),
            ("x-repo-commit", REVISION.to_owned()),
        ];
        Self {
            headers,
            body: Arc::clone(body),
            ..Self::status(200)
        }
    }
}

#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub range_start: Option<usize>,
    pub whole_range: bool,
    pub authorization: Option<String>,
    pub accept_encoding: Option<String>,
}

pub struct Server {
    pub address: String,
    pub requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                std::thread::spawn(move || serve(stream, &*answer, &log));
            }
        });
        Self { address, requests }
    }

    pub fn paths(&self) -> Vec<String> {
        self.requests
            .lock()
            .unwrap()
            .iter()
            .map(|request| request.path.clone())
            .collect()
    }

    /// Where the transfers began; probes are left out.
    pub fn starts(&self) -> Vec<usize> {
        self.requests
            .lock()
            .unwrap()
            .iter()
            .filter(|request| request.whole_range)
            .filter_map(|request| request.range_start)
            .collect()
    }
}

fn serve(
    mut stream: TcpStream,
    answer: &dyn Fn(&Request, usize) -> Reply,
    log: &Mutex<Vec<Request>>,
) {
    let mut lines = BufReader::new(stream.try_clone().unwrap())
        .lines()
        .map_while(std::result::Result::ok);
    let Some(path) = lines
        .next()
        .and_then(|line| Some(line.split(' ').nth(1)?.to_owned()))
    else {
        return;
    };
    let headers: Vec<(String, String)> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            line.split_once(':')
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect();
    let get = |name: &str| {
        headers
            .iter()
            .find(|(have, _)| have == name)
            .map(|(_, value)| value.clone())
    };
    let range = get("range").and_then(|value| value.strip_prefix("bytes=").map(str::to_owned));
    let request = Request {
        path,
        range_start: range
            .as_deref()
            .and_then(|range| range.split('-').next()?.parse().ok()),
        whole_range: range.as_deref().is_some_and(|range| range.ends_with('-')),
        authorization: get("authorization"),
        accept_encoding: get("accept-encoding"),
    };
    let number = {
        let mut log = log.lock().unwrap();
        log.push(request.clone());
        log.len()
    };
    let reply = answer(&request, number);
    let (mut status, mut headers) = (reply.status, reply.headers);
    let mut body = &reply.body[..];
    if let (200, true, Some(start)) = (status, reply.ranges, request.range_start) {
        if start >= body.len() {
            status = 416;
            body = &[];
        } else {
            let end = if request.whole_range {
                body.len()
            } else {
                start + 1
            };
            headers.push((
                "Content-Range",
                format!("bytes {start}-{}/{}", end - 1, body.len()),
            ));
            body = &body[start..end];
            status = 206;
        }
    }
    let mut head = format!(
        "HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let sent = if request.whole_range {
        reply.cut.unwrap_or(body.len()).min(body.len())
    } else {
        body.len()
    };
    let _ = stream.write_all(&body[..sent]);
    let _ = stream.flush();
    if let (Some(stall), true) = (reply.stall, sent < body.len()) {
        std::thread::sleep(stall);
    }
}

/// A data set on the server: the two files, their pins, and an empty home.
pub struct Fixture {
    pub dataset: DatasetName,
    pub home: TempDir,
    pub train: Arc<Vec<u8>>,
    pub test: Arc<Vec<u8>>,
    pub images: (Images, Images),
    pub pin: HubPin,
}

impl Fixture {
    pub fn new() -> Self {
        Self::of(DatasetName::Cifar10)
    }

    /// CIFAR-100 has other folders and columns than CIFAR-10.
    pub fn of(dataset: DatasetName) -> Self {
        let (classes, folder, label) = match dataset {
            DatasetName::Cifar100 => (100, "cifar100", "fine_label"),
            _ => (10, "plain_text", "label"),
        };
        let home = tempdir().unwrap();
        let images = (tell_tale(40, classes, 0), tell_tale(5, classes, 3));
        let read = |name: &str, images: &Images| {
            let path = home.path().join(name);
            let encoded: Vec<Vec<u8>> = (0..images.len())
                .map(|i| encode(images, i, image::ImageFormat::Png))
                .collect();
            write_parquet(&path, &encoded, &images.labels, label, None, 4);
            Arc::new(std::fs::read(path).unwrap())
        };
        let (train, test) = (read("a", &images.0), read("b", &images.1));
        let file = |part: &str, bytes: &[u8]| HubFile {
            path: format!("{folder}/{part}-00000-of-00001.parquet"),
            sha256: Some(hex(&sha2::Sha256::digest(bytes))),
        };
        let pin = HubPin {
            repo: "owner/tiny".to_owned(),
            revision: REVISION.to_owned(),
            train: file("train", &train),
            test: file("test", &test),
        };
        Self {
            dataset,
            home,
            train,
            test,
            images,
            pin,
        }
    }

    pub fn options(&self, endpoint: &str) -> SourceOptions {
        let mut options = sealed(self.dataset, &self.home.path().join("hf"));
        options.offline = false;
        options.hub.endpoint = endpoint.to_owned();
        options.hub.connect_timeout = Duration::from_secs(2);
        // hf-hub waits up to 0.8 s before it takes up a broken transfer.
        options.hub.stall_timeout = Duration::from_secs(3);
        options.hub.retries = 1;
        options.pin = Some(self.pin.clone());
        options.archive = Some(Archive {
            url: "http://127.0.0.1:9/none.tar.gz".to_owned(),
            md5: None,
            bytes: None,
        });
        options
    }

    /// A server that hands out both files, each reply passed through `change`.
    pub fn serve(
        &self,
        change: impl Fn(&Request, usize, Reply) -> Reply + Send + Sync + 'static,
    ) -> Server {
        let (train, test) = (Arc::clone(&self.train), Arc::clone(&self.test));
        let pin = self.pin.clone();
        Server::start(move |request, number| {
            let expected = format!("/datasets/owner/tiny/resolve/{REVISION}/");
            let reply = match request.path.strip_prefix(&expected) {
                Some(path) if path == pin.train.path => Reply::file(&train),
                Some(path) if path == pin.test.path => Reply::file(&test),
                _ if request.path == "/cdn/train" => Reply::file(&train),
                _ if request.path == "/cdn/test" => Reply::file(&test),
                _ => Reply::status(404),
            };
            change(request, number, reply)
        })
    }

    pub fn assert_whole(&self, dataset: &Dataset) {
        let name = match self.dataset {
            DatasetName::Cifar100 => "CIFAR-100",
            _ => "CIFAR-10",
        };
        assert_eq!(dataset.info().name, name);
        assert_eq!(
            dataset.info().source,
            format!("owner/tiny at revision {REVISION}")
        );
        assert_eq!(dataset.train().unwrap(), self.images.0);
        assert_eq!(dataset.test().unwrap(), self.images.1);
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn open(options: &SourceOptions) -> Result<Dataset> {
    cifar_data::open(options, &mut ())
}

pub fn message(options: &SourceOptions) -> String {
    open(options).unwrap_err().to_string()
}
