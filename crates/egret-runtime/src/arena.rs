//! Memory aligned for generated code: the arena, and weights read from a file.

use crate::abi::ALIGN;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// Zeroed bytes aligned to [`ALIGN`]. Pages of it that nobody writes take no memory: there may be room for far more than a run needs.
#[derive(Debug)]
pub struct AlignedBytes {
    /// What is allocated; an allocator zeroes by hand what it has to align.
    base: NonNull<u8>,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it owns its bytes; access goes through & and &mut.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    fn layout(len: usize) -> Option<Layout> {
        // Never empty, so that the pointer is a real one.
        Layout::from_size_align(len.checked_add(ALIGN)?, 1).ok()
    }

    /// `len` zero bytes, or `None` if there is no room for them.
    pub fn zeroed(len: usize) -> Option<AlignedBytes> {
        let layout = AlignedBytes::layout(len)?;
        // SAFETY: the layout is not empty.
        let base = NonNull::new(crate::memory::fallible(|| unsafe { alloc_zeroed(layout) }))?;
        let offset = base.as_ptr().align_offset(ALIGN);
        // SAFETY: there are ALIGN bytes more than `len`, and the offset is less than that.
        let start = unsafe { base.add(offset) };
        Some(AlignedBytes { base, start, len })
    }

    /// A copy of some bytes.
    pub fn copy_of(bytes: &[u8]) -> Option<AlignedBytes> {
        let mut out = AlignedBytes::zeroed(bytes.len())?;
        out.copy_from_slice(bytes);
        Some(out)
    }
}

impl std::ops::Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes start here and live as long as self.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl std::ops::DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and self is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        if let Some(layout) = AlignedBytes::layout(self.len) {
            // SAFETY: allocated in `zeroed` with this very layout.
            unsafe { dealloc(self.base.as_ptr(), layout) }
        }
    }
}
