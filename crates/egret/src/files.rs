//! Writing one file: beside its place first, so that what was there stays if writing fails. Reading text.
//!
//! A temporary file is locked by the process that writes it. One that nobody locks was left by a process that was killed, and is removed.

use crate::error::{Error, Result};
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How the names of temporary files and folders begin that stand beside what they become.
pub const SCRATCH: &str = ".egret-";

/// How the names of temporary files end. Folders have no such end: they are known by the lock in them.
const PART: &str = ".part";

/// The name of a plan of stages in its folder.
pub const PLAN: &str = "plan.toml";

/// What is written to now and is not yet in its place.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(vec![]);

/// A path that is removed by [`discard_unfinished`] as long as this lives.
#[derive(Debug)]
struct Unfinished(PathBuf);

impl Unfinished {
    fn new(path: &Path) -> Unfinished {
        UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
        Unfinished(path.to_owned())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).retain(|p| *p != self.0);
    }
}

/// Remove the temporary files and folders of this process: for a process that ends without running destructors.
pub fn discard_unfinished() {
    let Ok(paths) = UNFINISHED.try_lock() else { return };
    for path in paths.iter() {
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
}

/// The name of a folder as its path has it; where that ends in none (`.` or `..`), the name of what it leads to.
pub(crate) fn folder_name(dir: &Path) -> Option<String> {
    let given = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let led = if given.file_name().is_none() { given.canonicalize().ok()? } else { given.to_owned() };
    Some(led.file_name()?.to_string_lossy().into_owned())
}

/// A temporary folder, removed when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    dir: tempfile::TempDir,
    _listed: Unfinished,
}

impl Scratch {
    /// One where the system has its temporary files.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new() -> Result<Scratch> {
        let dir = tempfile::tempdir().map_err(|e| {
            let (folder, cause) = (std::env::temp_dir(), Error::cause(&e));
            Error::user(format!("no temporary folder in {}: {cause}", folder.display()))
        })?;
        Ok(Scratch::of(dir))
    }

    /// One inside a folder.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn inside(folder: &Path) -> Result<Scratch> {
        let dir = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(folder);
        Ok(Scratch::of(dir.map_err(|e| Error::io("write into", folder, &e))?))
    }

    fn of(dir: tempfile::TempDir) -> Scratch {
        Scratch { _listed: Unfinished::new(dir.path()), dir }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Whether a path is no file, as `/dev/stdout`.
fn is_special(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir())
}

/// Where a path leads, whether or not anything is there yet: two paths of one place are equal.
pub fn place(path: &Path) -> PathBuf {
    if let Ok(there) = path.canonicalize() {
        return there;
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Where a file is written that a path names: a link stays a link, and what it leads to is replaced.
fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// A temporary file beside a path, locked.
fn temporary(path: &Path) -> Result<tempfile::NamedTempFile> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return Err(Error::user(format!("{} is a folder; name a file", path.display())));
    }
    if !dir.is_dir() {
        return Err(Error::user(format!("{}: {} is no folder", path.display(), dir.display())));
    }
    loop {
        let made = tempfile::Builder::new().prefix(SCRATCH).suffix(PART).tempfile_in(dir);
        let made = made.map_err(|e| Error::io("write", path, &e))?;
        if own(made.as_file(), made.path()) {
            return Ok(made);
        }
    }
}

/// Take the lock of what was made just now: false where another process took it for a leftover before that. Where the file system has no
/// locks, nothing is ever swept.
pub(crate) fn own(file: &File, path: &Path) -> bool {
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) && is_at(file, path)
}

/// Whether an open file is still the one of that name.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let [open, named] =
            [file.metadata(), std::fs::metadata(path)].map(|m| m.map(|m| (m.dev(), m.ino())).ok());
        open.is_some() && open == named
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

/// Remove the temporary files in a folder that killed processes left: those whose lock nobody holds.
pub(crate) fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let named = name.to_str().is_some_and(|n| n.starts_with(SCRATCH) && n.ends_with(PART));
        if named
            && entry.file_type().is_ok_and(|t| t.is_file())
            && File::open(entry.path()).is_ok_and(|left| left.try_lock().is_ok())
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// That a file can be written to, before the long work whose result it is to hold. What killed processes left beside it goes.
///
/// # Errors
/// Its folder does not exist or cannot be written to; the path is a folder.
pub fn writable(path: &Path) -> Result<()> {
    if is_special(path) {
        return Ok(());
    }
    let file = temporary(&real(path))?;
    let _listed = Unfinished::new(file.path());
    file.path().parent().into_iter().for_each(sweep);
    Ok(())
}

/// That what is found out takes the place of none of the files that are read for it; where one of them is a folder of test cases, of no
/// model and no tensor in it.
///
/// # Errors
/// The file is one of them.
pub fn apart<'p>(path: &Path, read: impl IntoIterator<Item = &'p Path>) -> Result<()> {
    let of_case = path.extension().is_some_and(|e| e == "onnx" || e == "pb");
    let is = |there: &Path, r: &Path| there == r || of_case && r.is_dir() && there.starts_with(r);
    if let Ok(there) = path.canonicalize()
        && read.into_iter().any(|r| r.canonicalize().is_ok_and(|r| is(&there, &r)))
    {
        return Err(Error::user(format!(
            "{} is read here, and what is written would take its place; name another file",
            path.display()
        )));
    }
    Ok(())
}

/// Write a file whole or not at all, so that it may be the one that was read. What is no file, as `/dev/stdout`, is written to as it is.
///
/// # Errors
/// As of [`writable`]; there is no room.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_pieces(path, std::iter::once(bytes))
}

/// As [`write()`], of pieces one after another: for what is too large to be in memory twice.
///
/// # Errors
/// As of [`write()`].
pub fn write_pieces<B: AsRef<[u8]>>(path: &Path, mut pieces: impl Iterator<Item = B>) -> Result<()> {
    write_with(path, |file| {
        pieces.try_for_each(|p| file.write_all(p.as_ref())).map_err(|e| Error::io("write", path, &e))
    })
}

/// As [`write()`], of what `work` writes: for what is made piece by piece, where making a piece can fail.
///
/// # Errors
/// As of [`write()`]; what `work` says. The file stays as it was then.
pub fn write_with<T>(path: &Path, work: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
    if is_special(path) {
        let file = std::fs::OpenOptions::new().write(true).open(path);
        return work(&mut file.map_err(|e| Error::io("write", path, &e))?);
    }
    let path = &real(path);
    let fail = |e: &std::io::Error| Error::io("write", path, e);
    let mut file = temporary(path)?;
    let _listed = Unfinished::new(file.path());
    let out = work(&mut file)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary files are for their owner only.
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(|e| fail(&e))?;
    }
    file.persist(path).map_err(|e| fail(&e.error))?;
    Ok(out)
}

/// The most bytes of a file of text. Lists and graphs of text are far smaller; what does not end, as `/dev/zero`, is larger.
const TEXT: u64 = 1 << 28;

/// Read a file of text; `what` it should be is told of one that is none.
///
/// # Errors
/// It cannot be read, is no text, or is of more than 256 MiB.
pub fn read_text(path: &Path, what: &str) -> Result<String> {
    let mut bytes = vec![];
    let file = std::fs::File::open(path).map_err(|e| Error::io("read", path, &e))?;
    file.take(TEXT + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, &e))?;
    if bytes.len() as u64 > TEXT {
        return Err(Error::user(format!(
            "{} is larger than {} MiB; give {what}",
            path.display(),
            TEXT >> 20
        )));
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::user(format!("{} is no text (UTF-8); give {what}", path.display())))
}

/// The BLAKE3 of a file.
pub(crate) fn hash_of(path: &Path) -> Result<[u8; 32]> {
    let failed = |e| Error::io("read", path, &e);
    let file = std::fs::File::open(path).map_err(failed)?;
    Ok(*blake3::Hasher::new().update_reader(file).map_err(failed)?.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_goes_and_what_is_written_now_stays() {
        let root = tempfile::tempdir().expect("a folder");
        let at = |name: &str| root.path().join(name);
        let left = at(".egret-a1B2c3.part");
        // Nothing of ours: another name, and a folder.
        let others = [at(".egret-settings"), at("x.part"), at(".egret-folder.part")];
        std::fs::create_dir(&others[2]).expect("a folder");
        for path in [&left, &others[0], &others[1]] {
            std::fs::write(path, "half").expect("a file");
        }
        let running = temporary(&at("y")).expect("a file");
        writable(&at("x")).expect("a place");
        assert!(!left.exists() && running.path().exists() && others.iter().all(|p| p.exists()));
        let (_, kept) = running.keep().expect("a file");
        writable(&at("x")).expect("a place");
        assert!(!kept.exists(), "its process is done with it");
    }

    #[test]
    fn a_folder_is_called_as_its_path_has_it() {
        let root = tempfile::tempdir().expect("a folder");
        let there = root.path().join("there");
        std::fs::create_dir(&there).expect("a folder");
        assert_eq!(folder_name(&there).as_deref(), Some("there"));
        assert_eq!(folder_name(&there.join("..").join("there").join(".")).as_deref(), Some("there"));
        let up = there.join("..");
        assert_eq!(folder_name(&up), folder_name(&root.path().canonicalize().expect("a folder")));
        assert!(folder_name(Path::new("")).is_some());
        #[cfg(unix)]
        {
            let link = root.path().join("link");
            std::os::unix::fs::symlink(&there, &link).expect("a link");
            assert_eq!(folder_name(&link).as_deref(), Some("link"));
        }
    }
}
