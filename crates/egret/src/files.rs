//! Writing one file: beside its place first, so that what was there stays if writing fails. Reading text.

use crate::error::{Error, Result};
use std::io::Write;
use std::path::Path;

/// Write a file whole or not at all. What is no file, as `/dev/stdout`, is written to as it is.
///
/// # Errors
/// The folder cannot be written to.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        return std::fs::write(path, bytes).map_err(|e| Error::io("write", path, &e));
    }
    // A link stays a link: what it leads to is replaced.
    let real = std::fs::canonicalize(path);
    let path = real.as_deref().unwrap_or(path);
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let fail = |e: &std::io::Error| Error::io("write", path, e);
    let mut file = tempfile::Builder::new().prefix(".egret-").tempfile_in(dir).map_err(|e| fail(&e))?;
    file.write_all(bytes).map_err(|e| fail(&e))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary files are for their owner only.
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(|e| fail(&e))?;
    }
    file.persist(path).map_err(|e| fail(&e.error))?;
    Ok(())
}

/// Read a file of text; `what` it should be is told of one that is none.
///
/// # Errors
/// It cannot be read, or is no text.
pub fn read_text(path: &Path, what: &str) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    String::from_utf8(bytes)
        .map_err(|_| Error::user(format!("{} is no text (UTF-8); give {what}", path.display())))
}
