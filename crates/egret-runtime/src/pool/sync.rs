//! What a fork is made of: the standard library's atomics, lock and clock; in the model of the pool those of `loom`, which
//! runs a model once for every order in which its threads may see each other's steps.

#[cfg(all(test, loom))]
pub(super) use loom::sync::{Condvar, Mutex, atomic};
#[cfg(not(all(test, loom)))]
pub(super) use std::sync::{Condvar, Mutex, atomic};
#[cfg(not(all(test, loom)))]
pub(super) use std::time::Instant;

/// Looks at what is pending between two looks at the clock: a model learns nothing from the second.
pub(super) const LOOKS: u32 = if cfg!(all(test, loom)) { 1 } else { 16 };

/// A clock by which any wait has been long, so that a model does what threads do that have lost patience.
#[cfg(all(test, loom))]
pub(super) struct Instant;

#[cfg(all(test, loom))]
impl Instant {
    pub fn now() -> Instant {
        Instant
    }

    pub fn elapsed(&self) -> std::time::Duration {
        std::time::Duration::MAX
    }
}
