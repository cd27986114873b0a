//! Weights from the Hub, against a local server that answers as the Hub does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use candle_core::Device;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use resnet::{Arch, HubConfig, Init, LoadOptions, Parameters, ResNet, ResNetConfig, Stem};

use crate::formula;

const REPO: &str = "timm/resnet18.test";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How the server behaves.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Good,
    Status(u16),
    /// Bytes that are not those announced.
    Wrong,
    /// Half of the file, then nothing, the connection open.
    Stall,
    /// Half of the file, then the connection closed.
    Cut,
}

struct Server {
    endpoint: String,
    manner: Arc<Mutex<Manner>>,
    /// Each request's line, range and authorisation.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(body: Vec<u8>, sha256: String, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let manner = Arc::new(Mutex::new(manner));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (m, r) = (manner.clone(), requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (body, sha256, m, r) = (body.clone(), sha256.clone(), m.clone(), r.clone());
                std::thread::spawn(move || {
                    let manner = *m.lock().unwrap();
                    // A client that has given up closes early: nothing to report.
                    let _ = answer(stream, &body, &sha256, manner, &r);
                });
            }
        });
        Self {
            endpoint,
            manner,
            requests,
        }
    }

    fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

fn answer(
    stream: TcpStream,
    body: &[u8],
    sha256: &str,
    manner: Manner,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut request = lines.next().unwrap_or(Ok(String::new()))?;
    let mut start = 0;
    let mut probe = false;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            probe = range == "0-0";
            start = range
                .split('-')
                .next()
                .and_then(|s| s.parse().ok())
                .unwrap_or(0);
            request += &format!(" range {range}");
        }
        if let Some(token) = line.strip_prefix("authorization: ") {
            request += &format!(" token {token}");
        }
    }
    log.lock().unwrap().push(request);
    let mut stream = stream;
    if let Manner::Status(code) = manner {
        write!(
            stream,
            "HTTP/1.1 {code} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?;
        return Ok(());
    }
    let mut part = if probe {
        body[..1].to_vec()
    } else {
        body[start.min(body.len())..].to_vec()
    };
    if manner == Manner::Wrong {
        part.iter_mut().for_each(|b| *b ^= 1);
    }
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nETag: \"{sha256}\"\r\nX-Repo-Commit: {COMMIT}\r\n\
         Content-Range: bytes {start}-{}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        start + part.len() - 1,
        body.len(),
        part.len()
    )?;
    match manner {
        Manner::Stall | Manner::Cut if !probe => {
            stream.write_all(&part[..part.len() / 2])?;
            stream.flush()?;
            if manner == Manner::Stall {
                std::thread::sleep(Duration::from_secs(20));
            }
            Ok(())
        }
        _ => stream.write_all(&part),
    }
}

fn encoder(seed: u64) -> Parameters {
    let config = ResNetConfig {
        width: 0.125,
        ..ResNetConfig::new(Arch::ResNet18, Stem::ImageNet)
    };
    let mut params = Parameters::new(&Device::Cpu);
    ResNet::new(&config, &mut params, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
    params
}

/// Random weights in timm's naming, with their SHA-256.
fn weights() -> (Vec<u8>, String) {
    use sha2::Digest;
    let mut tensors = formula::tensors_like(&encoder(0).to_tensors().unwrap());
    tensors.insert("fc.weight".into(), formula::tensor("fc.weight", &[10, 64]));
    tensors.insert("fc.bias".into(), formula::tensor("fc.bias", &[10]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    resnet::write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
    let bytes = std::fs::read(path).unwrap();
    let sum = sha2::Sha256::digest(&bytes);
    (bytes, sum.iter().map(|b| format!("{b:02x}")).collect())
}

fn config(endpoint: &str, home: &Path) -> HubConfig {
    HubConfig {
        endpoint: endpoint.into(),
        cache: home.join("hub"),
        token: None,
        offline: false,
        patience: Duration::from_secs(10),
    }
}

fn load(hub: &HubConfig) -> resnet::Result<Parameters> {
    let params = encoder(1);
    let init: Init = format!("hub:{REPO}").parse()?;
    init.load(&params, &LoadOptions::encoder(), hub, &mut |_, _| {})?;
    Ok(params)
}

fn refusal(hub: &HubConfig) -> String {
    let message = load(hub).unwrap_err().to_string();
    assert!(message.starts_with(&format!("hub:{REPO}: ")), "{message}");
    message
}

#[test]
fn a_download_is_loaded_cached_and_then_used_offline() {
    let home = tempfile::tempdir().unwrap();
    let (bytes, sum) = weights();
    let total = bytes.len() as u64;
    let server = Server::start(bytes, sum, Manner::Good);
    let mut hub = config(&server.endpoint, home.path());
    hub.token = Some("secret".into());
    let init: Init = format!("hub:{REPO}").parse().unwrap();
    let mut seen = (0, 0);
    let path = init
        .resolve(&hub, &mut |done, total| seen = (done, total))
        .unwrap()
        .unwrap();
    assert_eq!(seen, (total, total));
    assert!(path.starts_with(home.path()));
    let requests = server.requests();
    assert!(
        requests[0].contains("/timm/resnet18.test/resolve/main/model.safetensors"),
        "{requests:?}"
    );
    assert!(
        requests.iter().all(|r| r.contains("token bearer secret")),
        "{requests:?}"
    );

    hub.offline = true;
    let params = load(&hub).unwrap();
    assert!(server.requests().is_empty());
    let value = params.to_tensors().unwrap()["layer3.0.conv1.weight"]
        .flatten_all()
        .unwrap();
    let expected = formula::tensor("layer3.0.conv1.weight", &[32, 16, 3, 3])
        .flatten_all()
        .unwrap();
    assert_eq!(
        value.to_vec1::<f32>().unwrap(),
        expected.to_vec1::<f32>().unwrap()
    );
}

#[test]
fn refusals_say_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(vec![0; 8], "x".into(), Manner::Good);
    let hub = config(&server.endpoint, home.path());
    for (code, remedy) in [
        (401, "HF_TOKEN"),
        (403, "HF_TOKEN"),
        (404, "no such file"),
        (500, "HF_ENDPOINT"),
    ] {
        server.behave(Manner::Status(code));
        let message = refusal(&hub);
        assert!(
            message.contains(&code.to_string()) && message.contains(remedy),
            "{message}"
        );
    }
    server.requests();
    let offline = HubConfig {
        offline: true,
        ..hub.clone()
    };
    assert!(refusal(&offline).contains("HF_HUB_OFFLINE"));
    assert!(server.requests().is_empty());
    // A port that nobody listens on.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let message = refusal(&config(&format!("http://{free}"), home.path()));
    assert!(message.contains("check the connection"), "{message}");
}

#[test]
fn wrong_bytes_are_found_out_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let (bytes, sum) = weights();
    let server = Server::start(bytes, sum.clone(), Manner::Wrong);
    let hub = config(&server.endpoint, home.path());
    let message = refusal(&hub);
    assert!(
        message.contains(&sum) && message.contains("removed"),
        "{message}"
    );
    server.behave(Manner::Good);
    load(&hub).unwrap();
}

#[test]
fn a_cut_download_resumes() {
    let home = tempfile::tempdir().unwrap();
    let (bytes, sum) = weights();
    let half = bytes.len() / 2;
    let server = Server::start(bytes, sum, Manner::Cut);
    let hub = config(&server.endpoint, home.path());
    refusal(&hub);
    server.requests();
    server.behave(Manner::Good);
    load(&hub).unwrap();
    let requests = server.requests();
    assert!(
        requests
            .iter()
            .any(|r| r.contains(&format!("range {half}-"))),
        "{requests:?}"
    );
}

#[test]
fn a_stalled_download_is_given_up() {
    let home = tempfile::tempdir().unwrap();
    let (bytes, sum) = weights();
    let server = Server::start(bytes, sum, Manner::Stall);
    let mut hub = config(&server.endpoint, home.path());
    hub.patience = Duration::from_millis(500);
    let message = refusal(&hub);
    assert!(
        message.contains("nothing came") && message.contains("try again"),
        "{message}"
    );
}
