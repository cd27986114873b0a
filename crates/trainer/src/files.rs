//! Small files, written so that nothing half-written is ever visible: temporary file, fsync, rename, fsync of the folder.

use crate::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Write;
use std::path::Path;

/// Prefixes of temporary files; what a killed process left of them is removed when the run is opened again.
const TEMPORARY: [&str; 4] = [".new-", ".weights-", ".eval-", ".tmp"];

/// Writes a file as a whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY[0]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666)); // less the umask
    }
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    sync_folder(folder)
}

/// Makes renames and new files in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    fs_err::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Writes a value as JSON, readable and with a newline at its end.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| unreadable(path, &e))?;
    text.push('\n');
    write(path, text.as_bytes())
}

/// Reads a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&fs_err::read_to_string(path)?).map_err(|e| unreadable(path, &e))
}

/// Removes what interrupted writes left in a folder.
pub(crate) fn remove_temporaries(folder: &Path) -> Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if TEMPORARY.iter().any(|prefix| name.starts_with(prefix)) && entry.file_type()?.is_file() {
            fs_err::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn unreadable(path: &Path, error: &serde_json::Error) -> Error {
    Error::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
        remedy: "restore it, or start again in a new run folder".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_appear_whole_and_leftovers_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_json(&path, &vec![1, 2]).unwrap();
        write_json(&path, &vec![0.1 + 0.2]).unwrap();
        assert_eq!(read_json::<Vec<f64>>(&path).unwrap(), [0.1 + 0.2]);
        std::fs::write(folder.path().join(".new-abc"), "half").unwrap();
        remove_temporaries(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::write(&path, "{").unwrap();
        assert!(
            read_json::<Vec<f64>>(&path)
                .unwrap_err()
                .to_string()
                .contains("a.json")
        );
        assert!(write(&folder.path().join("none/x"), b"").is_err());
    }
}
