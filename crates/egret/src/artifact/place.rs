//! Writing the files of a compilation: first all into a staging folder beside their places, then into these.

use crate::error::{Error, Result};
use crate::files::{self, Scratch};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// The file of a staging folder that the process that fills it holds locked.
pub(super) const LOCK: &str = "lock";

/// The folder in it for the files: one of its own, for a file may be called as the lock is.
pub(super) const FILES: &str = "files";

/// A file that was written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its length.
    pub bytes: u64,
    /// Its BLAKE3.
    pub hash: [u8; 32],
}

/// Files on their way into a folder. If it is dropped unfinished, none is left.
pub struct Staging {
    /// Where they go; whether that was there before.
    dir: PathBuf,
    existed: bool,
    /// Where they are until then, and the lock on it.
    staged: Option<(Scratch, File)>,
    files: BTreeMap<String, Written>,
}

impl Staging {
    /// For files that go into a folder.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn new(dir: &Path) -> Result<Staging> {
        let existed = dir.is_dir();
        std::fs::create_dir_all(dir).map_err(|e| Error::io("make the folder", dir, &e))?;
        sweep(dir);
        let mut staging = Staging { dir: dir.to_owned(), existed, staged: None, files: BTreeMap::new() };
        let (scratch, _) = staging.staged.insert(stage(dir)?);
        std::fs::create_dir(scratch.path().join(FILES)).map_err(|e| Error::io("write into", dir, &e))?;
        Ok(staging)
    }

    /// Write a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.stream(name, |file| Ok(file.write_all(bytes)))?;
        self.permit(name, bytes)
    }

    /// Write a copy of a file: what was written, or none if that file cannot be read.
    ///
    /// # Errors
    /// The copy cannot be written.
    pub fn copy(&mut self, name: &str, from: &Path) -> Result<Option<Written>> {
        let Ok(mut source) = File::open(from) else { return Ok(None) };
        let mut piece = vec![0; 4 * PIECE];
        let mut head = [0; 4];
        let whole = self.stream(name, |file| {
            let mut first = true;
            loop {
                let Ok(read) = fill(&mut source, &mut piece) else { return Ok(Ok(false)) };
                if std::mem::take(&mut first) {
                    head.copy_from_slice(&piece[..4]);
                }
                if let Err(e) = file.write_all(&piece[..read]) {
                    return Ok(Err(e));
                }
                if read < piece.len() {
                    return Ok(Ok(true));
                }
            }
        })?;
        self.permit(name, &head)?;
        Ok(whole.then(|| self.files[name]))
    }

    /// Let a file be run or loaded if its first bytes say that it is for that.
    fn permit(&self, name: &str, head: &[u8]) -> Result<()> {
        #[cfg(unix)]
        if head.starts_with(b"\x7fELF") && !name.ends_with(".o") {
            use std::os::unix::fs::PermissionsExt;
            let staged = self.staged(name);
            let failed = |e| self.failed(name, &e);
            // Who may read it may run it: the umask said who that is.
            let mode = std::fs::metadata(&staged).map_err(failed)?.permissions().mode();
            let permissions = std::fs::Permissions::from_mode(mode | (mode & 0o444) >> 2);
            std::fs::set_permissions(staged, permissions).map_err(failed)?;
        }
        Ok(())
    }

    /// Write a file bit by bit: nobody has to hold it whole.
    ///
    /// # Errors
    /// It cannot be written; what `write` says.
    pub fn stream<T>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<io::Result<T>>,
    ) -> Result<T> {
        let fail = |e: io::Error| self.failed(name, &e);
        let file = File::create(self.staged(name)).map_err(fail)?;
        let mut out = BufWriter::new(Hashed { file, hasher: blake3::Hasher::new(), bytes: 0 });
        let result = write(&mut out)?.map_err(fail)?;
        let hashed = out.into_inner().map_err(|e| fail(e.into_error()))?;
        let written = Written { bytes: hashed.bytes, hash: *hashed.hasher.finalize().as_bytes() };
        self.files.insert(name.to_owned(), written);
        Ok(result)
    }

    /// As [`Staging::stream`], a file that is needed for others and not kept.
    ///
    /// # Errors
    /// As [`Staging::stream`].
    pub fn stream_aside<T>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<io::Result<T>>,
    ) -> Result<T> {
        let result = self.stream(name, write)?;
        self.files.remove(name);
        Ok(result)
    }

    /// The bytes of a file that was written.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.staged(name);
        std::fs::read(&path).map_err(|e| Error::io("read", &path, &e))
    }

    /// What was written so far, by name.
    pub fn files(&self) -> &BTreeMap<String, Written> {
        &self.files
    }

    /// Let those of some names have the time of what is in their places, where that has the same bytes.
    pub fn keep_times(&self, of: impl Fn(&str) -> bool) {
        for (name, written) in self.files.iter().filter(|(name, _)| of(name)) {
            let there = self.dir.join(name);
            let time = std::fs::metadata(&there).ok().filter(|m| m.is_file() && m.len() == written.bytes);
            // Where a time cannot be told or kept, the file is new: what depends on it is made again.
            if let Some(time) = time.and_then(|m| m.modified().ok())
                && files::hash_of(&there).is_ok_and(|hash| hash == written.hash)
            {
                let staged = File::options().append(true).open(self.staged(name));
                let _ = staged.and_then(|file| file.set_modified(time));
            }
        }
    }

    /// Move all files to their places.
    ///
    /// # Errors
    /// One cannot be; then none is left.
    pub fn finish(mut self) -> Result<Vec<PathBuf>> {
        let mut done: Vec<PathBuf> = vec![];
        for name in self.files.keys() {
            let path = self.dir.join(name);
            if let Err(e) = std::fs::rename(self.staged(name), &path) {
                for path in &done {
                    let _ = std::fs::remove_file(path);
                }
                return Err(Error::io("write", &path, &e));
            }
            done.push(path);
        }
        self.existed = true;
        Ok(done)
    }

    /// Where a file is until it is moved.
    pub fn staged(&self, name: &str) -> PathBuf {
        self.staged.as_ref().map_or(&*self.dir, |(scratch, _)| scratch.path()).join(FILES).join(name)
    }

    /// An error of a file: the place that it is meant for is the user's.
    fn failed(&self, name: &str, e: &io::Error) -> Error {
        Error::io("write", &self.dir.join(name), e)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.staged = None;
        if !self.existed {
            // Only if it is empty, as it was made here.
            let _ = std::fs::remove_dir(&self.dir);
        }
    }
}

/// A file that is hashed as it is written.
struct Hashed {
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

/// Read as much as there is room for: less only at the end of the file.
fn fill(file: &mut File, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match file.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// From this many bytes on a piece is hashed on another thread while it is written.
const PIECE: usize = 1 << 20;

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Hashed { file, hasher, bytes: count } = self;
        if bytes.len() < PIECE {
            hasher.update(bytes);
            file.write_all(bytes)?;
        } else {
            let hash = || {
                hasher.update(bytes);
            };
            egret_threads::both(hash, || file.write_all(bytes)).1?;
        }
        *count += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Remove what killed processes left in a folder: temporary files, and staging folders, whose lock nobody holds.
pub(super) fn sweep(dir: &Path) {
    files::sweep(dir);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(files::SCRATCH)
            || !entry.file_type().is_ok_and(|t| t.is_dir())
        {
            continue;
        }
        let folder = entry.path();
        match File::open(folder.join(LOCK)) {
            Ok(lock) if lock.try_lock().is_ok() => drop(std::fs::remove_dir_all(folder)),
            Ok(_) => {}
            // Killed before its lock was made; one that is about to make it makes another folder.
            Err(_) if std::fs::remove_dir(&folder).is_ok() => {}
            Err(_) if half_removed(&folder) => drop(std::fs::remove_dir_all(folder)),
            Err(_) => {}
        }
    }
}

/// Whether a folder is one whose process was killed while it removed it: the lock is the first that is made in one, so that what is there beside
/// none is left of it.
fn half_removed(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let names: Vec<_> = entries.flatten().map(|e| e.file_name()).collect();
    names == [FILES] && !folder.join(LOCK).exists()
}

/// A staging folder, and its lock for as long as it is needed.
pub(super) fn stage(dir: &Path) -> Result<(Scratch, File)> {
    loop {
        let staging = Scratch::inside(dir)?;
        let path = staging.path().join(LOCK);
        match File::create(&path) {
            Ok(lock) if files::own(&lock, &path) => return Ok((staging, lock)),
            Ok(_) => {}
            Err(_) if !staging.path().exists() => {}
            Err(e) => return Err(Error::io("write into", dir, &e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FILES, LOCK, Staging, stage};
    use crate::error::Result;
    use std::fs::File;
    use std::path::{Path, PathBuf};

    fn files(dir: &Path, files: &[(&str, &[u8])]) -> Result<Vec<PathBuf>> {
        let mut staging = Staging::new(dir)?;
        files.iter().try_for_each(|(name, bytes)| staging.write(name, bytes))?;
        staging.finish()
    }

    #[test]
    fn what_a_killed_compilation_staged_is_swept_and_what_a_running_one_stages_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let killed = dir.path().join(".egret-killed");
        std::fs::create_dir_all(killed.join(FILES)).unwrap();
        std::fs::write(killed.join(LOCK), "").unwrap();
        // One that was killed as it made its folder, as it removed it, and as it wrote a report.
        std::fs::create_dir(dir.path().join(".egret-begins")).unwrap();
        std::fs::create_dir_all(dir.path().join(".egret-ends").join(FILES).join("m")).unwrap();
        std::fs::write(dir.path().join(".egret-report.part"), "half").unwrap();
        // No folder of ours.
        let other = dir.path().join(".egret-other");
        std::fs::create_dir_all(other.join("m")).unwrap();
        let running = stage(dir.path()).unwrap();
        files(dir.path(), &[("m.h", b"new")]).unwrap();
        assert!(!killed.exists() && running.0.path().exists() && other.exists());
        drop(running);
        std::fs::remove_dir_all(other).unwrap();
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["m.h"]);
    }

    #[test]
    fn what_has_the_same_bytes_keeps_its_time_where_that_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let made = |of: &dyn Fn(&str) -> bool| {
            let long_ago = std::time::SystemTime::UNIX_EPOCH;
            let names = ["m.a", "m.h", "m.hpp"];
            for name in names {
                std::fs::write(dir.path().join(name), "1").unwrap();
                File::options()
                    .append(true)
                    .open(dir.path().join(name))
                    .unwrap()
                    .set_modified(long_ago)
                    .unwrap();
            }
            let mut staging = Staging::new(dir.path()).unwrap();
            for (name, bytes) in names.iter().zip(["1", "1", "2"]) {
                staging.write(name, bytes.as_bytes()).unwrap();
            }
            staging.keep_times(of);
            staging.finish().unwrap();
            names.map(|name| dir.path().join(name).metadata().unwrap().modified().unwrap() == long_ago)
        };
        assert_eq!(made(&|name| name != "m.a"), [false, true, false]);
        assert_eq!(made(&|_| false), [false; 3]);
    }

    #[test]
    fn a_place_that_cannot_be_taken_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("m.rs/in the way")).unwrap();
        assert!(files(dir.path(), &[("m.h", &[1]), ("m.rs", &[2])]).is_err());
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["m.rs"]);
    }

    #[test]
    fn a_file_that_is_written_in_pieces_has_the_hash_of_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let whole: Vec<u8> = (0..3 * super::PIECE).map(|i| (i % 251) as u8).collect();
        let mut staging = Staging::new(&out).unwrap();
        let (small, large) = whole.split_at(1000);
        staging
            .stream("m.o", |file| Ok(file.write_all(small).and_then(|()| file.write_all(large))))
            .unwrap();
        let written = staging.files()["m.o"];
        assert_eq!((written.bytes, written.hash), (whole.len() as u64, *blake3::hash(&whole).as_bytes()));
        assert_eq!(staging.finish().unwrap(), [out.join("m.o")]);
        assert_eq!(std::fs::read(out.join("m.o")).unwrap(), whole);
        // One that is given up leaves no folder.
        drop(Staging::new(&dir.path().join("none")).unwrap());
        assert!(!dir.path().join("none").exists());
    }
}
