//! How much a cache holds, and how it is kept within its limit.

use super::{Cache, LIST, Lock, code, list};
use crate::artifact::place::sweep;
use crate::error::{Error, Result};
use crate::files::is_at;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What a cache holds.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Compilations.
    pub entries: usize,
    /// Functions' machine code.
    pub functions: usize,
    /// Bytes of their files, in whole blocks of a disk.
    pub bytes: u64,
}

/// What [`Cache::prune`] removed, and what it left.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// What is gone.
    pub removed: Kept,
    /// What is left.
    pub left: Kept,
}

/// A compilation or a function, as the folder shows it.
struct Found {
    path: PathBuf,
    what: What,
    bytes: u64,
    /// When it was last made or taken.
    used: SystemTime,
}

#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A folder.
    Compilation,
    /// A file.
    Function,
}

/// What a file takes up at least.
const BLOCK: u64 = 4096;

/// How long functions count as what they were when they were last gone through: there may be very many.
const COUNTED: Duration = Duration::from_secs(3600);

impl Cache {
    /// What it holds.
    pub fn kept(&self) -> Kept {
        kept(&self.all())
    }

    /// Remove what killed processes left, and what was used least recently until so many bytes are left.
    ///
    /// # Errors
    /// Something cannot be removed; all that can is.
    pub fn prune(&self, limit: u64) -> Result<Pruned> {
        let (pruned, failed) = self.shortened(self.all(), limit);
        let functions =
            self.all().iter().filter(|f| f.what == What::Function).map(|f| f.bytes).sum::<u64>();
        let counted = self.counted_in();
        if counted.parent().is_some_and(Path::exists) {
            // Without it they are gone through again.
            let _ = fs::write(counted, functions.to_string());
        }
        failed.map_or(Ok(pruned), Err)
    }

    /// After a compilation: keep to the limit. Functions are gone through from time to time only.
    pub(in crate::artifact) fn keep_to_limit(&self) -> Result<()> {
        let Some(functions) = self.counted() else { return self.prune(self.limit).map(drop) };
        let (_, failed) = self.shortened(self.compilations(), self.limit.saturating_sub(functions));
        failed.map_or(Ok(()), Err)
    }

    /// Remove the first of what was found, by the time of their use, until so many bytes are left, and say what could not be removed.
    fn shortened(&self, mut found: Vec<Found>, limit: u64) -> (Pruned, Option<Error>) {
        self.sweep();
        found.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        let mut bytes = kept(&found).bytes;
        let (mut removed, mut left, mut failed) = (vec![], vec![], None);
        for found in found {
            let gone = match found.what {
                _ if bytes <= limit => None,
                What::Compilation => Some(self.remove(&found.path)),
                What::Function => Some(gone(&found.path)),
            };
            match gone {
                Some(Ok(())) => {
                    bytes -= found.bytes;
                    removed.push(found);
                }
                Some(Err(e)) => {
                    failed.get_or_insert(e);
                    left.push(found);
                }
                None => left.push(found),
            }
        }
        (Pruned { removed: kept(&removed), left: kept(&left) }, failed)
    }

    /// The paths of all of a kind.
    #[cfg(test)]
    pub(super) fn paths(&self, what: What) -> Vec<PathBuf> {
        self.all().into_iter().filter(|f| f.what == what).map(|f| f.path).collect()
    }

    fn all(&self) -> Vec<Found> {
        let mut all = self.compilations();
        all.extend(self.functions());
        all
    }

    fn compilations(&self) -> Vec<Found> {
        let found = |entry: fs::DirEntry| {
            entry.file_type().ok().filter(|t| t.is_dir())?;
            let path = entry.path();
            let bytes = list(&path).filter_map(|f| f.metadata().ok()).map(|m| blocks(m.len())).sum();
            let used = fs::metadata(path.join(LIST)).and_then(|m| m.modified());
            let used = used.unwrap_or(SystemTime::UNIX_EPOCH);
            Some(Found { path, what: What::Compilation, bytes, used })
        };
        folders(&self.dir).filter_map(found).collect()
    }

    fn functions(&self) -> impl Iterator<Item = Found> {
        let found = |entry: fs::DirEntry| {
            let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            Some(Found { path: entry.path(), what: What::Function, bytes: blocks(about.len()), used })
        };
        folders(&self.dir.join(code::FOLDER)).filter_map(found)
    }

    /// What functions came to not long ago.
    fn counted(&self) -> Option<u64> {
        let path = self.counted_in();
        let age = fs::metadata(&path).and_then(|m| m.modified()).ok()?.elapsed().ok()?;
        if age > COUNTED {
            return None;
        }
        fs::read_to_string(path).ok()?.parse().ok()
    }

    fn counted_in(&self) -> PathBuf {
        self.dir.join(code::FOLDER).join("counted")
    }

    /// Remove what killed processes left: temporary folders and locks.
    fn sweep(&self) {
        sweep(&self.dir);
        let locks =
            folders(&self.dir).map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "lock"));
        for left in locks {
            if let Ok(file) = File::options().write(true).open(&left)
                && file.try_lock().is_ok()
                && is_at(&file, &left)
            {
                drop(Lock { path: left, _file: file });
            }
        }
    }
}

/// What is in the folders of two letters.
fn folders(dir: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    let named = |e: &fs::DirEntry| e.file_name().to_str().is_some_and(|n| n.len() == 2);
    list(dir).filter(named).flat_map(|folder| list(&folder.path()))
}

/// What a file of so many bytes takes up.
fn blocks(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK)
}

fn kept(found: &[Found]) -> Kept {
    let functions = found.iter().filter(|f| f.what == What::Function).count();
    Kept { entries: found.len() - functions, functions, bytes: found.iter().map(|f| f.bytes).sum() }
}

/// Remove a file that another process may have removed.
fn gone(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove from the cache", path, &e)),
        _ => Ok(()),
    }
}
