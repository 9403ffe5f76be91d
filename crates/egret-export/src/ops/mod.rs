//! How every operation is spelt in ONNX, in files by family.

mod attention;
mod cells;
mod contraction;
mod control;
mod elementwise;
mod gather_scatter;
mod lstm;
mod movement;
mod normalization;
mod others;
mod recurrent;
mod reduction;
mod sampling;
mod sequence;
mod walk;
mod window;

use crate::call::{Call, Written};
use egret_ir::{Member, Op};

/// How an operation is spelt.
#[derive(Copy, Clone)]
pub(crate) enum Spelling {
    /// As this operator: the same operands in the same order, no attributes, one result.
    Same(&'static str),
    /// As these operators, by a function. Beside them it may use what computes dims and converts types.
    Nodes(&'static str, fn(&mut Call<'_, '_>) -> Written),
}

/// The spelling of an operation. Every family names all of its operations, so that the compiler asks for that of a new one.
pub(crate) fn spelling(op: Op) -> Spelling {
    match op.member() {
        Member::Attention(op) => attention::spelling(op),
        Member::Contraction(op) => contraction::spelling(op),
        Member::Control(op) => control::spelling(op),
        Member::Elementwise(op) => elementwise::spelling(op),
        Member::GatherScatter(op) => gather_scatter::spelling(op),
        Member::Image(op) => others::image(op),
        Member::Linalg(op) => others::linalg(op),
        Member::Ml(op) => others::ml(op),
        Member::Movement(op) => movement::spelling(op),
        Member::Normalization(op) => normalization::spelling(op),
        Member::Random(op) => others::random(op),
        Member::Recurrent(op) => recurrent::spelling(op),
        Member::Reduction(op) => reduction::spelling(op),
        Member::Sampling(op) => sampling::spelling(op),
        Member::Sequence(op) => sequence::spelling(op),
        Member::Sort(op) => others::sort(op),
        Member::Text(op) => others::text(op),
        Member::Window(op) => window::spelling(op),
    }
}

/// Append the ONNX nodes of a node.
fn write(c: &mut Call<'_, '_>) -> Written {
    match spelling(c.node.op) {
        Spelling::Same(onnx) => {
            let operands = c.operands();
            Ok(vec![c.emit(onnx, &operands, vec![])])
        }
        Spelling::Nodes(_, write) => write(c),
    }
}

/// Every operation and the ONNX operators that it becomes, in words, by name.
pub fn spellings() -> impl Iterator<Item = (Op, &'static str)> {
    Op::all().map(|op| match spelling(op) {
        Spelling::Same(onnx) | Spelling::Nodes(onnx, _) => (op, onnx),
    })
}
