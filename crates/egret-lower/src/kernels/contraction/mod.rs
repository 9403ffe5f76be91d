//! Contractions: matrix products and convolutions.
//!
//! f32 goes through register tiles ([`product`]; [`blockwise`] where the weights are codes); what those cannot do (other dtypes, odd pads) through
//! plain loops ([`generic`]).

mod blockwise;
mod columns;
mod conv;
mod conv_buffers;
mod depthwise;
mod free_rows;
mod generic;
mod matmul;
mod planes;
mod pointwise;
mod product;
mod shape;
mod target;
mod tiling;
mod transposed;

pub use columns::Columns;
pub use free_rows::FreeRows;

use crate::error::Unsupported;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::NodeId;

/// `matmul`.
pub fn matmul(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    tiles_or_loops(ctx, group, matmul::lower)
}

/// `conv`.
pub fn conv(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    tiles_or_loops(ctx, group, conv::lower)
}

/// `conv_transpose`.
pub fn conv_transpose(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    tiles_or_loops(ctx, group, transposed::lower)
}

/// Lowers by `tiles`, which says whether it could; otherwise by plain loops.
fn tiles_or_loops(
    ctx: &mut Ctx,
    group: &FusionGroup,
    tiles: fn(&mut Ctx, &FusionGroup, NodeId) -> Result<bool, Unsupported>,
) -> Result<(), Unsupported> {
    let anchor = group.node();
    ctx.origin(group.result)?;
    if ctx.len(ctx.graph.node(anchor).results[0]) == 0 || tiles(ctx, group, anchor)? {
        return Ok(());
    }
    generic::lower(ctx, group, anchor)
}
