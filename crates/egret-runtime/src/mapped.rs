//! Bytes of a file, read where they lie, and the content of weights files.

use crate::arena::AlignedBytes;
use std::fs::File;
use std::io;
use std::ops::Deref;

/// Bytes of a file in this process's address space: pages are read when they are first used, and shared with other processes that map them.
#[derive(Debug)]
pub struct Mapped(memmap2::Mmap);

impl Mapped {
    /// `len` bytes from `offset` on.
    ///
    /// # Safety
    /// Nobody may write to these bytes of the file or shorten it while this lives: what is gone ends the process when it is read. To replace the file by another of
    /// its name is no harm.
    ///
    /// # Errors
    /// The file cannot be mapped.
    pub unsafe fn of(file: &File, offset: u64, len: usize) -> io::Result<Mapped> {
        // SAFETY: the caller's word.
        unsafe { memmap2::MmapOptions::new().offset(offset).len(len).map_copy_read_only(file) }.map(Mapped)
    }
}

impl Deref for Mapped {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// The content of a weights file.
#[derive(Debug)]
pub enum WeightsFile {
    /// Read into memory.
    Read(AlignedBytes),
    /// Where it lies in its file, from a place on that is a multiple of [`ALIGN`](crate::abi::ALIGN).
    Mapped(Mapped),
}

impl Deref for WeightsFile {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            WeightsFile::Read(bytes) => bytes,
            WeightsFile::Mapped(bytes) => bytes,
        }
    }
}
