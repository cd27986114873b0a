//! The page of pictures: what it shows, and what it replaces.

use std::collections::BTreeMap;
use std::path::Path;

use crate::invented;
use crate::report::write;
use eval::{CorruptionRecord, write_pictures};

/// Names and bytes of the files in a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().to_str().unwrap().to_owned();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

#[test]
fn a_page_of_pictures_shows_what_it_links_and_says_what_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page");
    let mut input = invented::input(5);
    input
        .results
        .arms
        .get_mut("contrastive")
        .unwrap()
        .corruption = Some(CorruptionRecord {
        images: 100,
        families: BTreeMap::from([("noise".to_owned(), 0.4321)]),
        corruptions: BTreeMap::from([("fog".to_owned(), vec![0.4321; 5])]),
        ..CorruptionRecord::default()
    });
    let paths = write_pictures(&page, &input).unwrap();
    let found = files(&page);
    let text = String::from_utf8(found["README.md"].clone()).unwrap();
    // Every file is shown and every file shown is there.
    assert_eq!(found.len(), 1 + paths.pictures.len());
    for path in &paths.pictures {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(text.matches(&format!("]({name})")).count(), 1, "{name}");
        let bytes = &found[name];
        // An image within an image is not shown everywhere.
        if cfg!(feature = "png") && name.ends_with(".svg") {
            assert!(
                !String::from_utf8_lossy(bytes).contains("<image "),
                "{name}"
            );
        } else if name.ends_with(".png") {
            assert!(bytes.starts_with(b"\x89PNG"), "{name}");
        }
    }
    let names: Vec<&String> = found.keys().collect();
    for part in [
        "accuracy.",
        "validation.",
        "map-t-sne-contrastive.",
        "similarity-contrastive-embeddings.",
        "confusion-difference-contrastive.",
        "retrieval-baseline.",
        "hardest-contrastive.",
        "reliability-baseline.",
        "photographs.",
    ] {
        assert!(
            names.iter().any(|name| name.starts_with(part)),
            "{part}: {names:?}"
        );
    }
    // The report's two arms alone have maps; the answer and the tables are the report's.
    assert!(
        !names
            .iter()
            .any(|name| name.starts_with("map-") && name.contains("control"))
    );
    let report = write(&input);
    let lead = report.markdown.split("**").nth(3).unwrap();
    assert!(
        lead.contains("one seed gives no verdict") && text.contains(lead),
        "{lead}"
    );
    assert!(text.contains("SYNTHETIC DATA") && text.contains("43.21\u{a0}%"));
    let size: usize = found.values().map(Vec::len).sum();
    assert!(
        size < 2_500_000,
        "{size} bytes, of drawn noise, which compresses badly"
    );
    // The cover is on the page, too: both maps, and similarities.
    assert_eq!(paths.cover.len(), 4);
    assert!(
        paths
            .cover
            .iter()
            .all(|(file, _)| paths.pictures.contains(file))
    );
    // The same input gives the same bytes.
    write_pictures(&page, &input).unwrap();
    assert!(files(&page) == found);
}

#[test]
fn a_page_of_pictures_replaces_its_own_and_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    write_pictures(folder.path(), &invented::input(2)).unwrap();
    std::fs::write(folder.path().join("mine.png"), "mine").unwrap();
    let paths = write_pictures(folder.path(), &invented::input(1)).unwrap();
    let found = files(folder.path());
    assert_eq!(found.len(), paths.pictures.len() + 2);
    assert_eq!(found["mine.png"], b"mine");
    std::fs::write(folder.path().join("README.md"), "# Mine").unwrap();
    let message = write_pictures(folder.path(), &invented::input(1))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("README.md") && message.contains("folder"),
        "{message}"
    );
    assert_eq!(files(folder.path())["README.md"], b"# Mine");
}
