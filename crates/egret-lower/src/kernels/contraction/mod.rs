//! Contractions: matrix products and convolutions. Files, in the order in which an operation is offered to them:
//!
//! | file | what |
//! |---|---|
//! | `sparse` | `matmul` of f32, and `conv` of f32 and of u8 by i8 with channels first, by constant weights that are mostly zeros |
//! | `matmul.rs`, `blockwise.rs` | `matmul` of f32, and of u8 by constant i8; of f32 by weights that are codes in blocks |
//! | `planes.rs`, `depthwise.rs` | depthwise `conv` of f32: planes of channels first; channels in the lanes of vectors |
//! | `pointwise.rs` | `conv` of f32 of one tap with channels first, whose planes are the right operand as they are |
//! | `conv.rs` | other `conv` of f32, and of u8 by constant i8: a product whose rows are pixels |
//! | `transposed.rs` | `conv_transpose` of f32: a product for each phase of the output |
//! | `generic.rs` | all others (element types, pads that are odd): plain loops, one element of the result at a time |
//!
//! All but `planes`, `depthwise` and `generic` are register tiles, of floats or of bytes: `product.rs` writes them, `shape.rs` chooses their shape
//! from those of the machine, `tiling.rs` cuts rows into them, `target.rs` says what runs on the sums and where results go, `conv_buffers.rs`
//! what convolutions read and write. `free_rows.rs` takes the rows of all units at once where a run knows how many there are, and
//! `columns.rs` is for kernels of other families that gather columns themselves.

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
mod sparse;
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
