//! The record of a failure: words before the addresses of a kernel's arguments, which kernels write and `run` reads.

use egret_loop::OutOfRange;
use egret_runtime::abi::BadIndex;
use std::mem::offset_of;

/// Bytes of the record before the arguments.
pub(crate) const BYTES: i32 = 8 + OutOfRange::BYTES as i32;
/// Not 0 once a kernel failed; from the arguments on, as the others.
pub(crate) const FAILED: i32 = -BYTES;
/// The [`BadIndex`].
pub(crate) const REASON: i32 = FAILED + 8;

/// Where a kernel writes the number, the bounds, and at last a 1.
pub(crate) const WORDS: [i32; 4] = [
    REASON + offset_of!(BadIndex, value) as i32,
    REASON + offset_of!(BadIndex, low) as i32,
    REASON + offset_of!(BadIndex, high) as i32,
    FAILED,
];
