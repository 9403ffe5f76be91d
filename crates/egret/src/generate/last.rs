//! Scores behind the last token alone: those behind the others are read by nobody, and a text of a thousand tokens has as many rows of them as
//! the model knows words.

use super::build;
use crate::error::Result;
use egret_ir::{Dim, Graph, Op, attrs};

/// Makes the product that gives the scores one of its last row, where it is one of a row for each of so many tokens. Others stay.
///
/// # Errors
/// A rule of types that is broken, which an unverified graph may cause.
pub fn row(graph: &mut Graph, output: usize, tokens: &Dim) -> Result<()> {
    let scores = graph.outputs()[output];
    let product = graph.producer(scores).map(|n| graph.node(n)).filter(|n| n.op == Op::Matmul);
    let Some((x, w, sources)) = product.map(|n| (n.operand(0), n.operand(1), n.sources.clone())) else {
        return Ok(());
    };
    let mut sizes = graph.tensor_ty(x).shape.clone();
    let used =
        !graph.users(scores).is_empty() || graph.outputs().iter().filter(|v| **v == scores).count() > 1;
    let Some(axis) = sizes.len().checked_sub(2).filter(|&a| sizes[a] == *tokens && !used) else {
        return Ok(());
    };
    if graph.tensor_ty(w).rank() != 2 {
        return Ok(());
    }
    let (mut starts, steps) = (vec![Dim::constant(0); sizes.len()], vec![1i64; sizes.len()]);
    starts[axis] = tokens.clone() + Dim::constant(-1);
    sizes[axis] = Dim::constant(1);
    let last = build(graph, |b| {
        b.set_sources(sources);
        let last = b.emit(Op::Slice, attrs! { starts: starts, sizes: sizes, steps: steps }, &[x])?;
        b.emit(Op::Matmul, attrs!(), &[last, w])
    })?;
    graph.set_output(output, last);
    graph.remove_dead();
    Ok(())
}
