//! Kernel families, a file or a folder with one entry each, and the table of them.
//!
//! A new kernel is a function in the file of its family and a row of [`KERNELS`]. What fusion may ask of it, an epilogue
//! or a prologue, says the op table (`fusion`). Kernels of nodes with free dims that are not computed unit by unit are in [`open`]; they are
//! a column of the same table. Files that no row names (`planes`, `points`, `taps`) serve several families. `docs/dev/lowering.md` is the way in.

mod arg_reduce;
mod changing;
mod contraction;
mod control;
mod control_slices;
mod deform_conv;
pub mod elementwise;
mod gather_scatter;
mod grid_sample;
mod linalg;
mod movement;
mod normalization;
mod open;
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
pub use open::standing;

use crate::error::Unsupported;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::{Family, Graph, NodeId, Op, Trait};

/// Operations with the same kernel functions.
#[derive(Copy, Clone)]
pub struct KernelFamily {
    /// The operations.
    pub ops: Ops,
    /// Writes the kernels of a group whose [`FusionGroup::node`] is one of them and has constant dims; or why there are none.
    pub lower: Result<Lower, &'static str>,
    /// The same for a node with free dims that is not computed unit by unit; nothing where there are no such kernels.
    pub open: Option<Open>,
}

/// Writes the kernels of a group into a program.
pub type Lower = fn(&mut Ctx, &FusionGroup) -> Result<(), Unsupported>;

/// Kernels of single nodes with free dims.
#[derive(Copy, Clone)]
pub struct Open {
    /// Whether there is one for a node.
    pub takes: fn(&Graph, NodeId) -> bool,
    /// Writes it; the graph has the free dims.
    pub lower: fn(&mut Ctx, &Graph, NodeId) -> Result<(), Unsupported>,
}

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

/// Operations with kernels of constant dims.
const fn row(ops: Ops, lower: Lower) -> KernelFamily {
    KernelFamily { ops, lower: Ok(lower), open: None }
}

/// Operations that need no kernel of constant dims, or have none, and why.
const fn without(ops: Ops, why: &'static str) -> KernelFamily {
    KernelFamily { ops, lower: Err(why), open: None }
}

impl KernelFamily {
    /// It has kernels of free dims too, for such nodes.
    const fn open(
        self,
        takes: fn(&Graph, NodeId) -> bool,
        lower: fn(&mut Ctx, &Graph, NodeId) -> Result<(), Unsupported>,
    ) -> KernelFamily {
        KernelFamily { open: Some(Open { takes, lower }), ..self }
    }
}

const fn these(ops: &'static [Op]) -> Ops {
    Ops::These(ops)
}

/// Where data decides a dim.
const IS_OPEN: &str = "has kernels of dims that are known while the model runs (kernels/open)";

/// Everything that is compiled.
pub const KERNELS: &[KernelFamily] = &[
    row(Ops::Family(Family::Elementwise), elementwise::lower).open(open::always, open::map::lower),
    row(these(&[Op::Broadcast, Op::Slice, Op::Transpose]), elementwise::lower)
        .open(open::always, open::map::lower),
    without(these(&[Op::Reshape]), "shares its operand's memory (geometry/aliases.rs)")
        .open(open::of_numbers, open::places::reshape),
    row(these(&[Op::Pad]), movement::pad).open(open::always, open::pad::lower),
    row(these(&[Op::Dilate]), movement::dilate),
    row(these(&[Op::Concat]), movement::concat).open(open::always, open::join::concat),
    row(these(&[Op::BitCast]), movement::bit_cast).open(open::of_numbers, open::places::reshape),
    row(these(&[Op::Shape]), movement::shape).open(open::always, open::places::shape),
    row(these(&[Op::Iota]), movement::constant).open(open::always, open::places::iota),
    row(these(&[Op::RandomUniform]), movement::constant).open(open::random::takes, open::random::uniform),
    row(these(&[Op::RandomNormal]), movement::constant),
    row(these(&[Op::Reduce]), reduction::lower).open(open::reduce::takes, open::reduce::lower),
    row(these(&[Op::Softmax]), normalization::lower).open(open::of_floats, open::softmax::lower),
    row(these(&[Op::LayerNorm, Op::RmsNorm]), normalization::lower).open(open::of_f32, open::norm::lower),
    row(these(&[Op::ArgReduce]), arg_reduce::lower).open(open::of_numbers, open::axis::arg_reduce),
    row(these(&[Op::Cumulative]), scan::lower).open(open::of_numbers, open::axis::cumulative),
    row(these(&[Op::Rotary]), rotary::lower).open(open::of_numbers, open::rotary::lower),
    row(these(&[Op::Matmul]), contraction::matmul).open(open::of_numbers, open::matmul::lower),
    without(these(&[Op::Attention]), "is decomposed before lowering (plan/decompose.rs)"),
    row(these(&[Op::Conv]), contraction::conv).open(open::conv::takes, open::conv::lower),
    row(these(&[Op::ConvTranspose]), contraction::conv_transpose)
        .open(open::conv::takes, open::conv::lower),
    row(these(&[Op::Pool]), window::pool).open(open::pool::takes, open::pool::lower),
    row(these(&[Op::MaxPoolIndices]), window::max_pool_indices)
        .open(open::pool::takes_indices, open::pool::indices),
    row(these(&[Op::Col2im]), window::col2im).open(open::col2im::takes, open::col2im::lower),
    row(these(&[Op::Resize]), sampling::resize).open(open::resize::takes, open::resize::lower),
    row(these(&[Op::GridSample]), grid_sample::lower).open(open::sampled::takes, open::sampled::grid),
    row(these(&[Op::RoiAlign]), roi_align::lower).open(open::sampled::takes, open::sampled::regions),
    row(these(&[Op::DeformConv]), deform_conv::lower)
        .open(open::deform_conv::takes, open::deform_conv::lower),
    row(these(&[Op::Gather]), gather_scatter::gather).open(open::gather::takes, open::gather::slices),
    row(these(&[Op::GatherElements]), gather_scatter::gather_elements)
        .open(open::gather::takes, open::gather::elements),
    row(these(&[Op::GatherNd]), gather_scatter::gather_nd).open(open::gather::takes, open::gather::tuples),
    row(these(&[Op::ScatterElements]), gather_scatter::scatter_elements)
        .open(open::scatter::takes, open::scatter::elements),
    row(these(&[Op::ScatterNd]), gather_scatter::scatter_nd)
        .open(open::scatter::takes, open::scatter::tuples),
    row(these(&[Op::ReverseSequence]), gather_scatter::reverse_sequence)
        .open(open::of_numbers, open::reversed::lower),
    row(these(&[Op::TopK]), sort::top_k).open(open::of_numbers, open::ranked::lower),
    row(these(&[Op::Det]), linalg::det).open(open::of_floats, open::rows::det),
    row(these(&[Op::TreeEnsemble]), trees::lower).open(open::of_numbers, trees::lower_open),
    row(these(&[Op::If, Op::Loop, Op::Scan]), control::lower).open(open::of_tensors, control::lower_open),
    row(these(&[Op::Tfidf]), tfidf::lower).open(open::of_numbers, open::rows::tfidf),
    row(these(&[Op::Lstm, Op::Gru, Op::Rnn]), recurrent::lower)
        .open(open::recurrent::takes, open::recurrent::lower),
    without(these(&[Op::Range]), IS_OPEN).open(open::always, open::found::range),
    without(these(&[Op::Nonzero]), IS_OPEN).open(open::always, open::found::nonzero),
    without(these(&[Op::Compress]), IS_OPEN).open(open::always, open::found::compress),
    without(these(&[Op::Unique]), IS_OPEN).open(open::always, open::unique::lower),
    without(these(&[Op::Nms]), IS_OPEN).open(open::always, open::nms::lower),
];

/// Operations that are not compiled, and why: the first row that has an operation counts.
pub const REFUSED: &[(Ops, &str)] = &[(
    Ops::Trait(Trait::Host),
    "works on strings, sequences, optionals or encoded images, which compiled code does not hold; `egret run` and the JIT engine run such a node on the host",
)];

fn family(op: Op) -> Option<&'static KernelFamily> {
    KERNELS.iter().find(|k| k.ops.contains(op))
}

/// Whether an operation has a kernel of its own.
pub fn has_kernel(op: Op) -> bool {
    family(op).is_some_and(|f| f.lower.is_ok())
}

/// Why an operation is not compiled, if it is not.
pub fn refusal(op: Op) -> Option<&'static str> {
    REFUSED.iter().find(|(ops, _)| ops.contains(op)).map(|(_, why)| *why)
}

/// Writes the kernels of a group.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let op = ctx.graph.node(group.node()).op;
    let lower = match family(op) {
        Some(family) => family.lower,
        None => Err(refusal(op).unwrap_or("has no kernel")),
    };
    lower.map_err(Unsupported::new)?(ctx, group)
}

/// Whether a node has a kernel with free dims.
pub fn takes_open(graph: &Graph, n: NodeId) -> bool {
    let open = family(graph.node(n).op).and_then(|f| f.open);
    open.is_some_and(|open| (open.takes)(graph, n))
}

/// Writes the kernel of a node with free dims; `graph` has them.
pub fn lower_open(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    if open::stands(ctx, graph, n) {
        return open::map::hold(ctx, graph, n);
    }
    match family(graph.node(n).op).and_then(|f| f.open) {
        Some(open) => (open.lower)(ctx, graph, n),
        None => Err(Unsupported::bug("has no kernel with free dims")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_one_row() {
        for op in Op::all() {
            let kernels = KERNELS.iter().filter(|k| k.ops.contains(op)).count();
            let refused = usize::from(refusal(op).is_some());
            assert_eq!(
                kernels + refused,
                1,
                "`{op}` is in {kernels} rows of KERNELS, {refused} of REFUSED: give it one row (kernels/mod.rs)"
            );
        }
    }
}
