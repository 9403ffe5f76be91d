//! Kernel families, a file or a folder with one entry each, and the table of them.
//!
//! A new kernel is a function in the file of its family and a row of [`KERNELS`]. What fusion may ask of it, an epilogue
//! or a prologue, says the op table (`fusion`). Kernels of nodes with free dims that are not computed unit by unit are in [`open`], which has
//! a table of its own. Files that no row names (`planes`, `points`, `taps`) serve several families. `docs/dev/lowering.md` is the way in.

mod arg_reduce;
mod contraction;
mod control;
mod deform_conv;
pub mod elementwise;
mod gather_scatter;
mod grid_sample;
mod linalg;
mod movement;
mod normalization;
pub mod open;
pub mod planes;
mod points;
mod recurrent;
mod reduction;
mod roi_align;
mod rotary;
mod sampling;
mod scan;
mod sort;
mod taps;
mod tfidf;
mod trees;
mod window;

pub use contraction::FreeRows;

use crate::error::Unsupported;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::{Family, Op, Trait};

/// Operations with one kernel function.
#[derive(Copy, Clone)]
pub struct KernelFamily {
    /// The operations.
    pub ops: Ops,
    /// Writes the kernels of a group whose [`FusionGroup::node`] is one of them.
    pub lower: Lower,
}

/// Writes the kernels of a group into a program.
pub type Lower = fn(&mut Ctx, &FusionGroup) -> Result<(), Unsupported>;

/// Some operations.
#[derive(Copy, Clone)]
pub enum Ops {
    /// These.
    These(&'static [Op]),
    /// A family.
    Family(Family),
    /// All that the op table gives a trait.
    Trait(Trait),
}

impl Ops {
    /// Whether an operation is among them.
    pub fn contains(self, op: Op) -> bool {
        match self {
            Ops::These(ops) => ops.contains(&op),
            Ops::Family(family) => op.family() == family,
            Ops::Trait(property) => op.info().has(property),
        }
    }
}

const fn row(ops: Ops, lower: Lower) -> KernelFamily {
    KernelFamily { ops, lower }
}

const fn these(ops: &'static [Op]) -> Ops {
    Ops::These(ops)
}

/// Everything that has a kernel.
pub const KERNELS: &[KernelFamily] = &[
    row(Ops::Family(Family::Elementwise), elementwise::lower),
    row(these(&[Op::Broadcast, Op::Slice, Op::Transpose]), elementwise::lower),
    row(these(&[Op::Pad]), movement::pad),
    row(these(&[Op::Dilate]), movement::dilate),
    row(these(&[Op::Concat]), movement::concat),
    row(these(&[Op::BitCast]), movement::bit_cast),
    row(these(&[Op::Shape]), movement::shape),
    row(these(&[Op::Iota, Op::RandomUniform, Op::RandomNormal]), movement::constant),
    row(these(&[Op::Reduce]), reduction::lower),
    row(these(&[Op::Softmax, Op::LayerNorm, Op::RmsNorm]), normalization::lower),
    row(these(&[Op::ArgReduce]), arg_reduce::lower),
    row(these(&[Op::Cumulative]), scan::lower),
    row(these(&[Op::Rotary]), rotary::lower),
    row(these(&[Op::Matmul]), contraction::matmul),
    row(these(&[Op::Conv]), contraction::conv),
    row(these(&[Op::ConvTranspose]), contraction::conv_transpose),
    row(these(&[Op::Pool]), window::pool),
    row(these(&[Op::MaxPoolIndices]), window::max_pool_indices),
    row(these(&[Op::Col2im]), window::col2im),
    row(these(&[Op::Resize]), sampling::resize),
    row(these(&[Op::GridSample]), grid_sample::lower),
    row(these(&[Op::RoiAlign]), roi_align::lower),
    row(these(&[Op::DeformConv]), deform_conv::lower),
    row(these(&[Op::Gather]), gather_scatter::gather),
    row(these(&[Op::GatherElements]), gather_scatter::gather_elements),
    row(these(&[Op::GatherNd]), gather_scatter::gather_nd),
    row(these(&[Op::ScatterElements]), gather_scatter::scatter_elements),
    row(these(&[Op::ScatterNd]), gather_scatter::scatter_nd),
    row(these(&[Op::ReverseSequence]), gather_scatter::reverse_sequence),
    row(these(&[Op::TopK]), sort::top_k),
    row(these(&[Op::Det]), linalg::det),
    row(these(&[Op::TreeEnsemble]), trees::lower),
    row(these(&[Op::If]), control::if_),
    row(these(&[Op::Loop]), control::loop_),
    row(these(&[Op::Scan]), control::scan),
    row(these(&[Op::Tfidf]), tfidf::lower),
    row(these(&[Op::Lstm, Op::Gru, Op::Rnn]), recurrent::lower),
];

/// Operations that need no kernel, and why.
pub const WITHOUT_KERNEL: &[(Op, &str)] = &[
    (Op::Reshape, "shares its operand's memory (geometry/aliases.rs)"),
    (Op::Attention, "is decomposed before lowering (plan/decompose.rs)"),
    (Op::Nonzero, IS_OPEN),
    (Op::Compress, IS_OPEN),
    (Op::Unique, IS_OPEN),
    (Op::Nms, IS_OPEN),
];

/// Where data decides a dim.
const IS_OPEN: &str = "has kernels of dims that are known while the model runs (kernels/open)";

/// Operations that are not compiled, and why: the first row that has an operation counts.
pub const REFUSED: &[(Ops, &str)] = &[(
    Ops::Trait(Trait::Host),
    "works on strings or sequences, which compiled code does not hold; run the model in the interpreter",
)];

/// Whether an operation has a kernel of its own.
pub fn has_kernel(op: Op) -> bool {
    family(op).is_some()
}

fn family(op: Op) -> Option<&'static KernelFamily> {
    KERNELS.iter().find(|k| k.ops.contains(op))
}

/// Why an operation is not compiled, if it is not.
pub fn refusal(op: Op) -> Option<&'static str> {
    REFUSED.iter().find(|(ops, _)| ops.contains(op)).map(|(_, why)| *why)
}

/// Why an operation without a row in [`KERNELS`] has none.
fn without_kernel(op: Op) -> &'static str {
    let unneeded = WITHOUT_KERNEL.iter().find(|(o, _)| *o == op).map(|(_, why)| *why);
    unneeded.or_else(|| refusal(op)).unwrap_or("has no kernel")
}

/// Writes the kernels of a group.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let op = ctx.graph.node(group.node()).op;
    match family(op) {
        Some(family) => (family.lower)(ctx, group),
        None => Err(Unsupported::new(without_kernel(op))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_one_kernel_or_a_reason() {
        for op in Op::all() {
            let kernels = KERNELS.iter().filter(|k| k.ops.contains(op)).count();
            let without = WITHOUT_KERNEL.iter().filter(|(o, _)| *o == op).count();
            let refused = usize::from(refusal(op).is_some());
            assert_eq!(
                kernels + without + refused,
                1,
                "`{op}` is in {kernels} rows of KERNELS, {without} of WITHOUT_KERNEL, {refused} of REFUSED: \
                 give it one row (kernels/mod.rs)"
            );
        }
    }
}
