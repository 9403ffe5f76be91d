//! Elementwise groups.

use crate::context::Ctx;
use crate::error::Unsupported;
use crate::groups::Group;
use egret_loop::{Arg, Elem};

/// Lower a group without an anchor.
pub fn lower(ctx: &mut Ctx, group: &Group) -> Result<(), Unsupported> {
    let _ = (ctx, group);
    Err(Unsupported::new("has no kernel yet; run the model in the interpreter"))
}

/// Copies a contiguous run of elements.
pub fn copy(ctx: &mut Ctx, elem: Elem, len: usize, from: Arg, to: Arg) -> Result<(), Unsupported> {
    let _ = (ctx, elem, len, from, to);
    Err(Unsupported::new("has no kernel yet; run the model in the interpreter"))
}
