//! Files that appear whole or not at all: temporary file in the same folder, fsync, rename, fsync of the folder.

use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Writes `bytes` to `path` so that a reader sees the old file or the new one, never a part.
///
/// The parent folder must exist. On any failure the old file stays as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |source| failed(path, source);
    let file = partial(path, bytes).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    sync_folder(folder(path)).map_err(failed)
}

/// Like [`write_atomically`], but refuses to replace a file: of two writers, one wins and the other is told.
pub(crate) fn write_once(path: &Path, bytes: &[u8]) -> Result<()> {
    let taken = || Error::AlreadyWritten {
        path: path.to_owned(),
    };
    if path.exists() {
        return Err(taken());
    }
    let failed = |source| failed(path, source);
    let file = partial(path, bytes).map_err(failed)?;
    file.persist_noclobber(path)
        .map_err(|error| match error.error.kind() {
            std::io::ErrorKind::AlreadyExists => taken(),
            _ => failed(error.error),
        })?;
    sync_folder(folder(path)).map_err(failed)
}

fn failed(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        action: "write",
        path: path.to_owned(),
        source,
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A whole temporary file beside `path`, its bytes on the disk.
fn partial(path: &Path, bytes: &[u8]) -> std::io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(".partial-")
        .tempfile_in(folder(path))?;
    file.write_all(bytes)?;
    allow_reading(file.as_file())?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Temporary files are private; a report is read by whoever may read the folder.
#[cfg(unix)]
fn allow_reading(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn allow_reading(_: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_files_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_atomically(&path, b"old").unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_target_and_no_partial_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("inside"), b"kept").unwrap();
        let message = write_atomically(&path, b"new").unwrap_err().to_string();
        assert!(
            message.contains("cannot write") && message.contains("taken"),
            "{message}"
        );
        assert_eq!(std::fs::read(path.join("inside")).unwrap(), b"kept");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_written_once_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        write_once(&path, b"first").unwrap();
        assert!(matches!(
            write_once(&path, b"second"),
            Err(Error::AlreadyWritten { .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent").join("a.json");
        assert!(
            write_atomically(&path, b"x")
                .unwrap_err()
                .to_string()
                .contains("absent")
        );
    }
}
