//! HTTP with short patience: a probe that tells within seconds whether an address answers, and a download that resumes.

use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, RANGE};

use super::options::SourceOptions;
use crate::error::{Error, Result};
use crate::progress::{Progress, ProgressEvent};

/// What to do where nothing answers: said once, however many addresses were tried.
pub(crate) const CONNECT: &str =
    "connect to the network, or name a folder with your own copy (--data-dir)";

/// Asks for the first byte of `url` without following a redirect; any answer but an error status will do.
pub(crate) fn probe(url: &str, token: Option<&str>, patience: Duration) -> Result<()> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(patience))
        .max_redirects(0)
        .max_redirects_will_error(false)
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

/// Downloads `url` to `path`. What has arrived waits beside it in `….part`; a broken transfer is taken up where it ended,
/// now and in a later run. `path` appears only when whole.
pub(crate) fn download(
    url: &str,
    path: &Path,
    bytes: Option<u64>,
    options: &SourceOptions,
    progress: &mut dyn Progress,
) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    let hub = &options.hub;
    probe(url, None, hub.connect_timeout)?;
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(hub.connect_timeout))
        .timeout_recv_response(Some(hub.stall_timeout))
        .timeout_per_read(Some(hub.stall_timeout))
        .build()
        .into();
    let part = part_of(path);
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
    Ok(())
}

pub(crate) fn part_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
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
    let resumes = response.status().as_u16() == 206;
    if !resumes && received > 0 {
        // The server ignores ranges and starts from the beginning: so do we.
        file.set_len(0)?;
        file.rewind()?;
        received = 0;
    }
    let number = |name| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let total = number(CONTENT_RANGE)
        .and_then(|range| range.rsplit('/').next()?.parse().ok())
        .or_else(|| Some(received + number(CONTENT_LENGTH)?.parse::<u64>().ok()?))
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
