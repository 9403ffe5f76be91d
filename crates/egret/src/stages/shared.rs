//! Memory that processes share: a file without a name, which the system keeps in memory where it has a folder for that. Nothing of it is left when
//! the processes have ended, however they end.
//!
//! It is read and written at places: where there is no room, a write is an error, and touching a mapping would end the process. Mapped are [weights](super::payload)
//! alone, once they are written.

use super::form::Form;
use crate::error::{Error, Result};
use egret_ir::{Tensor, Value};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Where Linux has files that are memory.
const IN_MEMORY: &str = "/dev/shm";

/// Places begin at multiples of this.
const ALIGNED: u64 = 64;

/// The memory, and which of its bytes are taken. One process shares it out.
pub(super) struct Memory {
    file: File,
    /// Where each place begins, and where it ends.
    taken: Mutex<BTreeMap<u64, u64>>,
}

/// Bytes of the memory that are taken until this is dropped.
pub(super) struct Place {
    memory: Arc<Memory>,
    at: u64,
}

/// A tensor that lies in the memory.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) form: Form,
    place: Arc<Place>,
}

impl Memory {
    pub(super) fn new() -> Result<Arc<Memory>> {
        let folder = Path::new(IN_MEMORY);
        let file = match folder.is_dir() {
            true => tempfile::tempfile_in(folder).or_else(|_| tempfile::tempfile()),
            false => tempfile::tempfile(),
        };
        let file = file.map_err(|e| Error::user(format!("no file for memory that stages share: {e}")))?;
        Ok(Arc::new(Memory { file, taken: Mutex::new(BTreeMap::new()) }))
    }

    /// The file, for another process.
    pub(super) fn file(&self) -> std::io::Result<File> {
        self.file.try_clone()
    }

    /// The first place for a tensor of this form that is free and large enough.
    pub(super) fn take(self: &Arc<Memory>, form: Form) -> Result<Shared> {
        let bytes = form.size()?.1 as u64;
        Ok(Shared { form, place: self.room(bytes) })
    }

    /// The first place of so many bytes that is free.
    pub(super) fn room(self: &Arc<Memory>, bytes: u64) -> Arc<Place> {
        let bytes = bytes.max(1);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = 0;
        for (&begin, &end) in taken.iter() {
            if begin - at >= bytes {
                break;
            }
            at = end;
        }
        taken.insert(at, (at + bytes).next_multiple_of(ALIGNED));
        Arc::new(Place { memory: self.clone(), at })
    }

    /// Lay a tensor into the memory.
    pub(super) fn put(self: &Arc<Memory>, tensor: &Tensor) -> Result<Shared> {
        let shared = self.take(Form::of(tensor))?;
        write(&self.file, shared.at(), tensor)?;
        Ok(shared)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.memory.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.at);
    }
}

impl Place {
    /// Where it begins.
    pub(super) fn at(&self) -> u64 {
        self.at
    }
}

impl Shared {
    /// Where it begins.
    pub(super) fn at(&self) -> u64 {
        self.place.at()
    }

    /// A copy in the memory of this process.
    pub(super) fn value(&self) -> Result<Value> {
        read(&self.place.memory.file, self.at(), &self.form)
    }
}

/// Read a tensor of this form that begins at a place.
pub(super) fn read(file: &File, at: u64, form: &Form) -> Result<Value> {
    let fill = |bytes: &mut [u8]| {
        let read = file.read_exact_at(bytes, at);
        read.map_err(|e| Error::user(format!("cannot read the memory that stages share: {e}")))
    };
    Ok(Value::from(form.read(fill)?))
}

/// Write a tensor to a place.
pub(super) fn write(file: &File, at: u64, tensor: &Tensor) -> Result<()> {
    let written = file.write_all_at(tensor.bytes(), at);
    written.map_err(|e| no_room(&e, tensor.bytes().len(), &tensor.ty().to_string()))
}

/// That a file for shared memory does not take so many bytes for something.
pub(super) fn no_room(e: &std::io::Error, bytes: usize, what: &str) -> Error {
    Error::memory(format!(
        "{bytes} bytes for {what} in the memory that stages share ({IN_MEMORY}, or TMPDIR where there is none): {e}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, first: f32) -> Tensor {
        Tensor::new(&[n], (0..n).map(|i| first + i as f32).collect())
    }

    #[test]
    fn places_do_not_overlap_and_are_taken_again() {
        let memory = Memory::new().unwrap();
        let put = |n, first| memory.put(&numbers(n, first)).unwrap();
        let is = |s: &Shared, n: usize, first: f32| {
            assert_eq!(s.value().unwrap().as_tensor().unwrap().bytes(), numbers(n, first).bytes());
        };
        let (a, none, b, c) = (put(100, 1.0), put(0, 0.0), put(7, 2.0), put(100, 3.0));
        assert_ne!(none.at(), b.at());
        let (first, end) = (a.at(), c.at() + 400);
        let again = a.clone();
        drop(a);
        // Somebody still has it.
        let d = put(100, 4.0);
        assert!(d.at() >= end, "{}", d.at());
        drop(again);
        let (e, f) = (put(60, 5.0), put(40, 6.0));
        assert_eq!(e.at(), first);
        for (s, n, x) in [(&b, 7, 2.0), (&c, 100, 3.0), (&d, 100, 4.0), (&e, 60, 5.0), (&f, 40, 6.0)] {
            is(s, n, x);
        }
        drop((none, b, c, d, e, f));
        assert!(memory.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn what_nobody_wrote_is_not_read() {
        let memory = Memory::new().unwrap();
        let form = Form::of(&numbers(4, 0.0));
        assert!(read(&memory.file, 1 << 20, &form).unwrap_err().message.contains("cannot read"));
    }
}
