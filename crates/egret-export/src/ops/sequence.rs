//! Sequences and optionals.

use super::Spelling::{self, Nodes, Same};
use crate::call::{Call, Written};
use crate::proto;
use egret_ir::Type;
use egret_ir::families::Sequence as S;

pub(super) fn spelling(op: S) -> Spelling {
    match op {
        S::SequenceConstruct => Same("SequenceConstruct"),
        S::SequenceEmpty => Nodes("SequenceEmpty", empty),
        S::SequenceInsert => Same("SequenceInsert"),
        S::SequenceErase => Same("SequenceErase"),
        S::SequenceAt => Same("SequenceAt"),
        S::SequenceLength => Same("SequenceLength"),
        S::SequenceConcat => Nodes("ConcatFromSequence", concat),
        S::SequenceSplit => Nodes("SplitToSequence", split),
        S::OptionalSome => Same("Optional"),
        S::OptionalNone => Nodes("Optional", none),
        S::OptionalGet => Same("OptionalGetElement"),
        S::OptionalHas => Same("OptionalHasElement"),
    }
}

fn empty(c: &mut Call<'_, '_>) -> Written {
    let to = proto::code(c.attrs().dtype("to"));
    Ok(vec![c.op("SequenceEmpty", &[], vec![proto::int("dtype", to)])])
}

fn concat(c: &mut Call<'_, '_>) -> Written {
    let operands = c.operands();
    let attributes = ["axis", "new_axis"].map(|name| proto::int(name, c.attrs().int(name)));
    Ok(vec![c.emit("ConcatFromSequence", &operands, attributes.to_vec())])
}

fn split(c: &mut Call<'_, '_>) -> Written {
    let mut operands = c.operands();
    if !c.attrs().flag("has_split") {
        operands.truncate(1);
    }
    let attributes = ["axis", "keepdims"].map(|name| proto::int(name, c.attrs().int(name)));
    Ok(vec![c.emit("SplitToSequence", &operands, attributes.to_vec())])
}

fn none(c: &mut Call<'_, '_>) -> Written {
    // The attribute is what the optional would hold.
    let of = match c.graph.ty(c.node.results[0]) {
        Type::Optional(inner) => inner.as_ref().clone(),
        other => other.clone(),
    };
    Ok(vec![c.op("Optional", &[], vec![proto::type_of("type", &of)])])
}
