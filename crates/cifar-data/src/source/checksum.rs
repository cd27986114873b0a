//! SHA-256 and MD5 of files, as lower-case hexadecimal.

use std::io::Read;
use std::path::Path;

use sha2::digest::Digest;

use crate::error::Result;

/// SHA-256 of a file.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    digest_file::<sha2::Sha256>(path)
}

/// MD5 of a file: only to compare with what the publishers printed.
pub(crate) fn md5(path: &Path) -> Result<String> {
    digest_file::<md5::Md5>(path)
}

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn digest_file<D: Digest>(path: &Path) -> Result<String> {
    let mut file = fs_err::File::open(path)?;
    let mut hash = D::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        assert_eq!(
            sha256(file.path()).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            md5(file.path()).unwrap(),
            "900150983cd24fb0d6963f7d28e17f72"
        );
    }
}
