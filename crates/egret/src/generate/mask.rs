//! A mask of ones, as many as there are tokens. Exporters call their number by a name of its own, which says nothing of its being that
//! of the tokens kept and those of the step: rules that ask whether scores and mask are of one size (attention's) then never apply.

use super::instead;
use crate::error::Result;
use egret_ir::{Dim, Graph, Op, Tensor, Type, ValueId, attrs};
use std::collections::BTreeMap;

/// Gives the users of the input `mask`, which is of ones, such ones: of one text of `count` tokens. The input stays, and nothing reads it.
///
/// # Errors
/// A rule of types that is broken, which an unverified graph may cause.
pub fn ones(graph: &mut Graph, mask: usize, count: &Dim) -> Result<()> {
    let input = graph.inputs()[mask];
    let ty = graph.tensor_ty(input).clone();
    let [batch, length] = &ty.shape[..] else { return Ok(()) };
    let Some(name) = length.as_symbol().filter(|_| batch.as_const() == Some(1)) else { return Ok(()) };
    // A symbol that other inputs tell too is no other name of the number.
    let told =
        |&v: &ValueId| v != input && graph.ty(v).as_tensor().is_some_and(|t| t.shape.contains(length));
    if length != count {
        if graph.inputs().iter().any(told) {
            return Ok(());
        }
        graph.substitute_symbols(&BTreeMap::from([(name.to_owned(), count.clone())]));
        graph.set_type(input, Type::Tensor(ty.clone()));
    }
    instead(graph, input, |b| {
        let one = b.constant(Tensor::from_f64s(ty.dtype, &[], vec![1.0]));
        b.emit(Op::Broadcast, attrs! { shape: vec![Dim::constant(1), count.clone()] }, &[one])
    })
}
