//! [`CachePadded`]: a value on its own cache lines.

use std::ops::Deref;

/// A value on its own cache lines, so that writes to it do not slow readers of its neighbours. Two lines of 64 bytes,
/// because CPUs fetch them in pairs.
#[repr(align(128))]
#[derive(Default)]
pub(crate) struct CachePadded<T>(pub T);

impl<T> Deref for CachePadded<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}
