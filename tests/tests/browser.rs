//! The report in a real browser, with as many test images as a page has to hold.
//!
//! Needs Node with the packages of `tests/browser` (`npm ci` there) and Chromium (`CHROMIUM` names it; else
//! `/usr/bin/chromium`). Where one is missing the test says so and is skipped, unless `REQUIRE_BROWSER` is set.
//! `BROWSER_PICTURES` names a folder in which pictures of the page are kept.

use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "../../crates/eval/tests/story/invented.rs"]
#[allow(dead_code)] // this test needs the largest report alone
mod invented;

const TEST_IMAGES: usize = 10_000;
const MOST_BYTES: u64 = 25_000_000;

#[test]
fn a_report_of_ten_thousand_images_is_read_in_a_browser() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    if let Some(missing) = missing(&scripts) {
        let message =
            format!("a_report_of_ten_thousand_images_is_read_in_a_browser: skipped, {missing}");
        assert!(std::env::var_os("REQUIRE_BROWSER").is_none(), "{message}");
        eprintln!("{message}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let report = eval::write_report(folder.path(), &invented::large(TEST_IMAGES)).unwrap();
    let size = std::fs::metadata(&report.html).unwrap().len();
    assert!(size < MOST_BYTES, "the page has {size} bytes");
    let pictures = std::env::var_os("BROWSER_PICTURES")
        .map_or_else(|| folder.path().join("pictures"), PathBuf::from);
    let output = Command::new("node")
        .arg(scripts.join("report.mjs"))
        .args([&report.html, &pictures])
        .output()
        .unwrap();
    let (out, trouble) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    println!("{out}");
    assert!(output.status.success(), "{out}{trouble}");
}

/// What this machine lacks, in words.
fn missing(scripts: &Path) -> Option<String> {
    let chromium = std::env::var_os("CHROMIUM")
        .map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from);
    if !chromium.is_file() {
        return Some(format!(
            "there is no Chromium at {} (CHROMIUM names another place)",
            chromium.display()
        ));
    }
    if Command::new("node").arg("--version").output().is_err() {
        return Some("there is no Node".to_owned());
    }
    if !scripts.join("node_modules/playwright-core").is_dir() {
        return Some(format!(
            "its packages are missing (npm ci in {})",
            scripts.display()
        ));
    }
    None
}
