//! Kernel families, one file each.

mod arg_reduce;
mod contraction;
pub mod elementwise;
mod gather_scatter;
mod linalg;
mod movement;
mod normalization;
mod recurrent;
mod reduction;
mod rotary;
mod sampling;
mod scan;
mod sort;
mod window;

use crate::error::Unsupported;
use crate::plan::fusion::Group;
use crate::program::context::Ctx;
use egret_ir::Op;

/// Writes the kernels of a group.
pub fn lower(ctx: &mut Ctx, group: &Group) -> Result<(), Unsupported> {
    let Some(anchor) = group.anchor else { return elementwise::lower(ctx, group) };
    let node = ctx.graph.node(anchor);
    match node.op {
        Op::Matmul | Op::Conv | Op::ConvTranspose => contraction::lower(ctx, group),
        Op::ArgReduce => arg_reduce::lower(ctx, group),
        Op::Cumulative => scan::lower(ctx, group),
        Op::Reduce => reduction::lower(ctx, group),
        Op::Softmax | Op::LayerNorm | Op::RmsNorm => normalization::lower(ctx, group),
        Op::Rotary => rotary::lower(ctx, group, node),
        Op::Pool | Op::MaxPoolIndices => window::lower(ctx, group),
        Op::Pad
        | Op::Dilate
        | Op::Concat
        | Op::Iota
        | Op::BitCast
        | Op::Shape
        | Op::RandomUniform
        | Op::RandomNormal => movement::lower(ctx, group),
        Op::Gather => gather_scatter::gather(ctx, node),
        Op::GatherElements => gather_scatter::gather_elements(ctx, node),
        Op::GatherNd => gather_scatter::gather_nd(ctx, node),
        Op::ScatterElements => gather_scatter::scatter_elements(ctx, node),
        Op::ScatterNd => gather_scatter::scatter_nd(ctx, node),
        Op::ReverseSequence => gather_scatter::reverse_sequence(ctx, node),
        Op::TopK => sort::top_k(ctx, node),
        Op::Det => linalg::det(ctx, node),
        Op::Col2im => window::col2im(ctx, node),
        Op::Resize => sampling::resize(ctx, node),
        Op::Lstm | Op::Gru | Op::Rnn => recurrent::lower(ctx, node),
        op if op.info().has_trait("data_dependent") => {
            Err(Unsupported::new("has a result whose size depends on data; compiled code has fixed sizes"))
        }
        _ => Err(Unsupported::new("has no kernel yet; run the model with --engine interp")),
    }
}
