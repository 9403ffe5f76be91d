//! Weights that the processes of a stage's copies have once: the first copy lays down what its kernels read, packed as they read it, in the memory that processes
//! share, and all of them map it from there.
//!
//! ```text
//! each copy            Answer::Lowered(bytes)  ->
//!                      <-  Ask::Lay(place)     to the first, which writes
//! the first            Answer::Laid            ->
//!                      <-  Ask::Take(place)    to the others
//! each copy            Answer::Ready           ->
//! ```

use super::shared::no_room;
use crate::error::{Error, Result};
use egret_loop::Weights;
use egret_runtime::abi::{WEIGHTS_HEADER, weights_header};
use egret_runtime::{Mapped, WeightsFile};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes that weights take: those of a weights file.
pub(super) fn size(weights: &Weights) -> usize {
    WEIGHTS_HEADER + weights.len()
}

/// Write packed weights to a place, as a weights file has them.
pub(super) fn lay(weights: &Weights, file: &File, at: u64) -> Result<()> {
    let (mut to, mut written) = (at + WEIGHTS_HEADER as u64, Ok(()));
    let mut hasher = blake3::Hasher::new();
    weights.each(|piece| {
        if written.is_ok() {
            hasher.update(piece);
            written = file.write_all_at(piece, to);
            to += piece.len() as u64;
        }
    });
    let header = weights_header(weights.len() as u64, hasher.finalize().as_bytes());
    let written = written.and_then(|()| file.write_all_at(&header, at));
    written.map_err(|e| no_room(&e, size(weights), "weights"))
}

/// Map weights that were laid down. Code that is given those of another program refuses them, by their hash.
pub(super) fn take(weights: &Weights, file: &File, at: u64) -> Result<WeightsFile> {
    let len = size(weights);
    // SAFETY: the place is taken until the processes of the stage have ended, and nobody writes there any more; a file without a name is not shortened.
    let mapped = unsafe { Mapped::of(file, at, len) };
    Ok(WeightsFile::Mapped(mapped.map_err(|e| {
        Error::memory(format!(
            "{len} bytes of weights cannot be mapped from the memory that stages share: {e}"
        ))
    })?))
}

#[cfg(test)]
mod tests {
    use super::super::shared::Memory;
    use super::*;

    /// What is taken is what was laid down, piece by piece, whatever lies beside it.
    #[test]
    fn weights_are_taken_as_they_were_laid_down() {
        let memory = Memory::new().unwrap();
        let mut weights = Weights::default();
        weights.push(&[7; 100]);
        weights.push_later(5000, |bytes| bytes.iter_mut().enumerate().for_each(|(i, b)| *b = i as u8));
        let (before, place) = (memory.room(10), memory.room(size(&weights) as u64));
        let file = memory.file().unwrap();
        lay(&weights, &file, place.at()).unwrap();
        file.write_all_at(&[9; 10], before.at()).unwrap();
        let taken = take(&weights, &file, place.at()).unwrap();
        let mut all = vec![];
        weights.each(|piece| all.extend_from_slice(piece));
        assert_eq!(taken[WEIGHTS_HEADER..], *all);
        assert_eq!(taken[..WEIGHTS_HEADER], weights_header(5100, blake3::hash(&all).as_bytes()));
        assert_eq!(taken.as_ptr() as usize % egret_runtime::abi::ALIGN, 0);
    }

    /// A file that takes no more is an error of memory, with the bytes.
    #[test]
    fn no_room_is_said() {
        let Ok(full) = File::options().write(true).open("/dev/full") else { return };
        let mut weights = Weights::default();
        weights.push(&[7; 100]);
        let e = lay(&weights, &full, 0).unwrap_err();
        assert_eq!(e.kind, crate::error::ErrorKind::Memory, "{e}");
        assert!(e.message.contains(": 164 bytes for weights in the memory"), "{e}");
    }
}
