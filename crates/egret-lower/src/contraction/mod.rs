//! Contractions: matrix products and convolutions.

use crate::context::Ctx;
use crate::error::Unsupported;
use crate::groups::Group;

/// Lower a group whose anchor is one of these.
pub fn lower(ctx: &mut Ctx, group: &Group) -> Result<(), Unsupported> {
    let _ = (ctx, group);
    Err(Unsupported::new("has no kernel yet; run the model in the interpreter"))
}
