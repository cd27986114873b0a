//! HTTP with short patience: a probe that tells within seconds whether an address answers, and a download that resumes.

use std::fs::TryLockError;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::config::RedirectAuthHeaders;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, RANGE};

use super::options::SourceOptions;
use crate::error::{Error, Result};
use crate::progress::{Progress, ProgressEvent};

/// What to do where nothing answers: said once, however many addresses were tried.
pub(crate) const CONNECT: &str =
    "connect to the network, or name a folder with your own copy (--data-dir)";

/// The encoding asked for: a server may not compress what it sends, for checksums and resumed transfers are of the file as
/// it is.
const AS_IT_IS: &str = "identity";

/// Asks for the first byte of `url`; any answer but an error status will do. Redirects are followed, and each address on
/// the way has `patience` from the look-up of its name to its answer.
pub(crate) fn probe(url: &str, token: Option<&str>, patience: Duration) -> Result<()> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_per_call(Some(patience))
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .accept_encoding(AS_IT_IS)
        .http_status_as_error(false)
        .build()
        .into();
    let mut request = agent.get(url).header(RANGE, "bytes=0-0");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    match request.call() {
        Ok(response) => match response.status().as_u16() {
            200..400 => Ok(()),
            status => Err(refused(url, status)),
        },
        Err(error) => Err(failed(url, &error)),
    }
}

/// The error for an HTTP status.
pub(crate) fn refused(url: &str, status: u16) -> Error {
    let (reason, remedy) = match status {
        401 | 403 => (
            "access refused",
            "set HF_TOKEN to a valid token, or unset a stale one",
        ),
        404 => (
            "no such file",
            "check HF_ENDPOINT; the revision is pinned and should be there",
        ),
        429 => ("too many requests", "wait a few minutes and try again"),
        500.. => ("the server is in trouble", "try again later"),
        _ => (
            "unexpected answer",
            "check HF_ENDPOINT and the proxy settings",
        ),
    };
    Error::Network {
        url: url.to_owned(),
        reason: format!("{reason} (HTTP {status})"),
        remedy: remedy.to_owned(),
    }
}

/// The error for a request without an answer.
pub(crate) fn failed(url: &str, error: &ureq::Error) -> Error {
    match error {
        ureq::Error::StatusCode(status) => refused(url, *status),
        error => Error::Network {
            url: url.to_owned(),
            reason: error.to_string(),
            remedy: CONNECT.to_owned(),
        },
    }
}

/// Refuses where the network may not be asked.
pub(crate) fn refuse_offline(options: &SourceOptions, url: &str) -> Result<()> {
    if options.offline {
        return Err(Error::Network {
            url: url.to_owned(),
            reason: "offline (HF_HUB_OFFLINE)".to_owned(),
            remedy: "unset HF_HUB_OFFLINE, or name a folder with your own copy (--data-dir)"
                .to_owned(),
        });
    }
    Ok(())
}

/// Keeps other downloads of `path` out until the file it returns is closed, by whatever end of the process. Waits for one
/// that is under way.
pub(crate) fn lock(path: &Path, progress: &mut dyn Progress) -> Result<fs_err::File> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    let file = fs_err::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(beside(path, ".lock"))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let source = format!("{}, which another process is downloading", path.display());
            progress.event(&ProgressEvent::Trying { source });
            file.lock()?;
        }
        outcome => outcome.map_err(io::Error::from)?,
    }
    Ok(file)
}

/// Downloads `url` to `path`. What has arrived waits beside it in `….part`; a broken transfer is taken up where it ended,
/// now and in a later run. `path` appears only when whole. The caller holds its [`lock`].
pub(crate) fn download(
    url: &str,
    path: &Path,
    bytes: Option<u64>,
    options: &SourceOptions,
    progress: &mut dyn Progress,
) -> Result<()> {
    let hub = &options.hub;
    probe(url, None, hub.connect_timeout)?;
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_resolve(Some(hub.connect_timeout))
        .timeout_connect(Some(hub.connect_timeout))
        .timeout_recv_response(Some(hub.stall_timeout))
        .timeout_per_read(Some(hub.stall_timeout))
        .accept_encoding(AS_IT_IS)
        .build()
        .into();
    let part = beside(path, ".part");
    let mut attempt = 0;
    loop {
        match transfer(&agent, url, &part, bytes, progress) {
            Ok(()) => break,
            Err(error) if attempt >= hub.retries => return Err(error),
            Err(error) => {
                attempt += 1;
                tracing::info!(url, attempt, %error, "download broken off, taking it up again");
                std::thread::sleep(Duration::from_millis(200) * attempt as u32);
            }
        }
    }
    fs_err::rename(&part, path)?;
    // A rename is on the disk when its folder is.
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        fs_err::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// The path with `ending` added to the file's name.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

fn transfer(
    agent: &ureq::Agent,
    url: &str,
    part: &Path,
    bytes: Option<u64>,
    progress: &mut dyn Progress,
) -> Result<()> {
    let mut file = fs_err::OpenOptions::new()
        .create(true)
        .append(true)
        .open(part)?;
    let mut received = file.metadata()?.len();
    if bytes == Some(received) {
        return Ok(());
    }
    let response = match agent
        .get(url)
        .header(RANGE, format!("bytes={received}-"))
        .call()
    {
        Ok(response) => response,
        Err(ureq::Error::StatusCode(416)) => {
            // Nothing lies beyond what is here: either it is whole (the checksum will tell) or it is not this file.
            return if received > 0 && bytes.is_none() {
                Ok(())
            } else {
                file.set_len(0)?;
                Err(refused(url, 416))
            };
        }
        Err(error) => return Err(failed(url, &error)),
    };
    let header = |name| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let range = header(CONTENT_RANGE);
    // Where the body starts: without ranges at the beginning, else as in `bytes 500-999/1000`.
    let start = match response.status().as_u16() {
        206 => range.and_then(|range| {
            range
                .strip_prefix("bytes ")?
                .split('-')
                .next()?
                .parse()
                .ok()
        }),
        _ => Some(0),
    };
    if start != Some(received) {
        if received == 0 {
            return Err(Error::Network {
                url: url.to_owned(),
                reason: "answered with another part of the file than was asked for".to_owned(),
                remedy: "try again later".to_owned(),
            });
        }
        // Not where we are: start again, with this answer if that is what it does.
        file.set_len(0)?;
        if start != Some(0) {
            return transfer(agent, url, part, bytes, progress);
        }
        received = 0;
    }
    let total = range
        .and_then(|range| range.rsplit('/').next()?.parse().ok())
        .or_else(|| Some(received + header(CONTENT_LENGTH)?.parse::<u64>().ok()?))
        .or(bytes);
    let name = url.rsplit('/').next().unwrap_or(url).to_owned();
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        progress.event(&ProgressEvent::Download {
            file: name.clone(),
            received,
            total: total.unwrap_or(0),
        });
        match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                file.write_all(&buffer[..read])?;
                received += read as u64;
            }
            Err(error) => {
                return Err(Error::Network {
                    url: url.to_owned(),
                    reason: format!("broke off after {received} bytes ({error})"),
                    remedy: "try again: it resumes".to_owned(),
                });
            }
        }
    }
    file.sync_all()?;
    match total {
        Some(total) if received < total => Err(Error::Network {
            url: url.to_owned(),
            reason: format!("ended after {received} of {total} bytes"),
            remedy: "try again: it resumes".to_owned(),
        }),
        _ => Ok(()),
    }
}
