//! What a long run has found so far, in a file beside its output: a run that was ended from outside begins again where it was.
//!
//! The file is `EGRSTATE`, the version, the key of the run ([`key`]), and records: a name, a payload, and the BLAKE3 of the key and both.
//! A record is added when its work is done and never changed, so that what stands before a cut or a damaged one is whole. A run goes the
//! same way when it is begun again, and takes each result whose record is there instead of finding it again. The file is removed when
//! the run has written what it was for.

mod key;
mod pack;

pub use key::key;
pub use pack::{Pack, Unpack};

use egret::samples::Samples;
use egret::{Error, ErrorKind, Result};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

const MAGIC: &[u8; 8] = b"EGRSTATE";
const VERSION: u32 = 2;
/// Bytes of a hash.
const HASH: usize = 32;
/// Bytes before the records.
const HEAD: usize = MAGIC.len() + size_of::<u32>() + HASH;

/// Where a run keeps what it has found, and who is told of what was there already.
pub struct Resume<'a> {
    pub(crate) path: &'a Path,
    pub(crate) tell: &'a dyn Fn(&str),
    /// Whether the file is this run's, and whole.
    has: Rc<Cell<bool>>,
}

impl<'a> Resume<'a> {
    /// A file, and who is told in a line what is taken from it, or why nothing is.
    pub fn new(path: &'a Path, tell: &'a dyn Fn(&str)) -> Resume<'a> {
        Resume { path, tell, has: Rc::default() }
    }

    /// What becomes of the file when a run has ended so. What was asked, the model or the samples are at fault in most errors: the same run
    /// would end the same way, and the file is removed. Where memory was, or Egret is, it is kept, which is told.
    pub(crate) fn ended<T>(at: Option<&Resume<'_>>, result: Result<T>) -> Result<T> {
        // Another run may have the same place.
        let mine = at.is_some_and(|at| at.has.take());
        if let (Some(at), Err(error)) = (at, &result)
            && mine
            && at.path.exists()
        {
            match error.kind {
                ErrorKind::User | ErrorKind::Bound | ErrorKind::Unsupported | ErrorKind::Differs => {
                    let _ = std::fs::remove_file(at.path);
                }
                ErrorKind::Internal | ErrorKind::Memory | ErrorKind::Lost | ErrorKind::Closed => {
                    (at.tell)(&format!(
                        "what was found so far is kept in {}: the same command goes on from it",
                        at.path.display()
                    ))
                }
            }
        }
        result
    }
}

/// What a run has found so far.
#[derive(Default)]
pub struct State {
    open: Option<RefCell<Open>>,
}

struct Open {
    path: PathBuf,
    file: File,
    key: [u8; HASH],
    /// Where payloads stand, and how long they are.
    records: BTreeMap<String, (u64, u64)>,
    end: u64,
    /// As [`Resume::has`].
    has: Rc<Cell<bool>>,
}

impl State {
    /// Of the run with this key; without a place nothing is kept.
    ///
    /// # Errors
    /// What stands there is no file of this kind, or another run has it; it cannot be read or written.
    pub fn open(at: Option<&Resume<'_>>, key: impl FnOnce() -> Result<[u8; HASH]>) -> Result<State> {
        let Some(at) = at else { return Ok(State::default()) };
        let key = key()?;
        let path = at.path.to_owned();
        let failed = |e| Error::io("write", &path, &e);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::user(format!(
                    "{} belongs to a run that has not ended; wait for it, or name another output",
                    path.display()
                )));
            }
            // Where files cannot be locked, two runs must not have one output.
            Err(TryLockError::Error(_)) => {}
        }
        let mut head = vec![];
        (&mut file).take(HEAD as u64).read_to_end(&mut head).map_err(failed)?;
        if !head.starts_with(MAGIC) && !MAGIC.starts_with(&head) {
            return Err(Error::user(format!(
                "{} is where what is found so far would be kept, but it is another file; move it, or name another output",
                path.display()
            )));
        }
        let mut wanted = MAGIC.to_vec();
        wanted.extend(VERSION.to_le_bytes());
        wanted.extend(key);
        let mut open =
            Open { path, file, key, records: BTreeMap::new(), end: HEAD as u64, has: at.has.clone() };
        if head == wanted {
            if !open.read()? {
                (at.tell)(&format!(
                    "{} was cut short or is damaged after {} records; what stands before is taken",
                    open.path.display(),
                    open.records.len()
                ));
            }
        } else {
            if head.len() == HEAD {
                (at.tell)(&format!(
                    "{} is of another model, other data, other options or another Egret; all is begun anew",
                    open.path.display()
                ));
            }
            open.file.set_len(0).map_err(|e| Error::io("write", &open.path, &e))?;
            open.put(0, &wanted)?;
        }
        at.has.set(true);
        Ok(State { open: Some(RefCell::new(open)) })
    }

    /// As [`State::open`], of layers that are made one after the other; it is told how many are there, of so many.
    ///
    /// # Errors
    /// As of [`State::open`]; the model or samples cannot be read.
    pub fn of_layers(
        at: Option<&Resume<'_>>,
        asked: &str,
        model: &Path,
        samples: &Samples,
        count: usize,
    ) -> Result<State> {
        let state = State::open(at, || {
            let model = std::fs::read(model).map_err(|e| Error::io("read", model, &e))?;
            key(asked, &model, &[samples], &[])
        })?;
        if let (Some(at), done @ 1..) = (at, state.names().len()) {
            let path = at.path.display();
            (at.tell)(&format!(
                "{done} of {count} layers are taken from {path}, of a run that did not end"
            ));
        }
        Ok(state)
    }

    /// The names of the records.
    pub fn names(&self) -> Vec<String> {
        self.open.as_ref().map_or(vec![], |o| o.borrow().records.keys().cloned().collect())
    }

    /// Whether there is a record of this name.
    pub fn has(&self, name: &str) -> bool {
        self.open.as_ref().is_some_and(|o| o.borrow().records.contains_key(name))
    }

    /// A record's payload.
    ///
    /// # Errors
    /// It cannot be read any more.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(open) = &self.open else { return Ok(None) };
        let mut open = open.borrow_mut();
        let Some(&(at, bytes)) = open.records.get(name) else { return Ok(None) };
        open.seek(at)?;
        let mut out = vec![];
        let got = (&mut open.file).take(bytes).read_to_end(&mut out);
        match got {
            Ok(n) if n as u64 == bytes => Ok(Some(out)),
            Ok(_) => Err(open.changed()),
            Err(e) => Err(Error::io("read", &open.path, &e)),
        }
    }

    /// Keep a record.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put(&self, name: &str, payload: &[u8]) -> Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let mut open = open.borrow_mut();
        let mut bytes = Pack::default();
        bytes.text(name);
        bytes.bytes(payload);
        let mut bytes = bytes.done();
        bytes.extend(hash(&open.key, name, payload));
        let end = open.end;
        open.put(end, &bytes)?;
        let at = open.end - (HASH + payload.len()) as u64;
        open.records.insert(name.to_owned(), (at, payload.len() as u64));
        Ok(())
    }

    /// Numbers that are kept, or made and kept now.
    ///
    /// # Errors
    /// As of [`State::get`] and [`State::put`]; what `make` says.
    pub fn numbers(&self, name: &str, make: impl FnOnce() -> Result<Vec<f64>>) -> Result<Vec<f64>> {
        if let Some(bytes) = self.get(name)? {
            return self.whole(&bytes, |parts| parts.numbers());
        }
        let out = make()?;
        let mut bytes = Pack::default();
        bytes.numbers(&out);
        self.put(name, &bytes.done())?;
        Ok(out)
    }

    /// What a payload says, all of it.
    ///
    /// # Errors
    /// It says something else.
    pub fn whole<T>(&self, bytes: &[u8], read: impl FnOnce(&mut Unpack<'_>) -> Option<T>) -> Result<T> {
        let mut parts = Unpack::new(bytes);
        let out = read(&mut parts).filter(|_| parts.is_empty());
        out.ok_or_else(|| self.open.as_ref().map_or(Error::internal("no state"), |o| o.borrow().changed()))
    }

    /// The run has written what it was for: remove the file.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn done(mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let path = open.into_inner().path;
        std::fs::remove_file(&path).map_err(|e| Error::io("remove", &path, &e))
    }
}

impl Drop for State {
    /// What holds nothing is of no use.
    fn drop(&mut self) {
        if let Some(open) = &self.open
            && open.borrow().records.is_empty()
        {
            let _ = std::fs::remove_file(&open.borrow().path);
        }
    }
}

impl Open {
    fn seek(&mut self, at: u64) -> Result<()> {
        self.file.seek(SeekFrom::Start(at)).map(|_| ()).map_err(|e| Error::io("read", &self.path, &e))
    }

    /// Write at the end of what is whole.
    fn put(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.seek(at)?;
        self.file.write_all(bytes).map_err(|e| {
            // A full disk is no fault of the run: it can go on from what was written.
            self.has.set(false);
            Error::io("write", &self.path, &e)
        })?;
        self.end = at + bytes.len() as u64;
        Ok(())
    }

    /// Find the records, and cut off what is none; whether there was nothing to cut off.
    fn read(&mut self) -> Result<bool> {
        let failed = |e| Error::io("read", &self.path, &e);
        let all = self.file.metadata().map_err(failed)?.len();
        while let Some((name, at, bytes)) = self.record(all)? {
            self.end = at + bytes + HASH as u64;
            self.records.insert(name, (at, bytes));
        }
        if self.end == all {
            return Ok(true);
        }
        self.file.set_len(self.end).map_err(|e| Error::io("write", &self.path, &e))?;
        Ok(false)
    }

    /// The record behind the last one; no length in it is believed before the file is that long.
    fn record(&mut self, all: u64) -> Result<Option<(String, u64, u64)>> {
        let mut at = self.end;
        let Some(name) = self.part(&mut at, all)? else { return Ok(None) };
        let Some(payload) = self.part(&mut at, all)? else { return Ok(None) };
        let (Ok(name), bytes) = (String::from_utf8(name), payload.len() as u64) else { return Ok(None) };
        let mut found = vec![];
        (&mut self.file)
            .take(HASH as u64)
            .read_to_end(&mut found)
            .map_err(|e| Error::io("read", &self.path, &e))?;
        Ok((found == hash(&self.key, &name, &payload)).then_some((name, at - bytes, bytes)))
    }

    /// Bytes with their length before them.
    fn part(&mut self, at: &mut u64, all: u64) -> Result<Option<Vec<u8>>> {
        self.seek(*at)?;
        let mut read = |count: u64| {
            let mut out = vec![];
            (&mut self.file)
                .take(count)
                .read_to_end(&mut out)
                .map_err(|e| Error::io("read", &self.path, &e))?;
            Ok::<_, Error>(Some(out).filter(|o| o.len() as u64 == count))
        };
        let Some(length) = read(8)?.and_then(|l| Some(u64::from_le_bytes(l.try_into().ok()?))) else {
            return Ok(None);
        };
        *at += 8;
        if length > all.saturating_sub(*at) {
            return Ok(None);
        }
        *at += length;
        read(length)
    }

    fn changed(&self) -> Error {
        Error::user(format!("{} is not as it was written; remove it and begin again", self.path.display()))
    }
}

fn hash(key: &[u8; HASH], name: &str, payload: &[u8]) -> [u8; HASH] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key).update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(payload);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests;
