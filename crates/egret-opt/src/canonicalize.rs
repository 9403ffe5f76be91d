//! Clean-up that changes no number: nodes that do nothing go. Movements of movements become one by the rules that follow.

use crate::rebuild::{Rebuild, rebuild};
use egret_ir::{Attr, Graph, Node, Op, Tensor, TypeError, ValueId, attrs};

/// The pass; `None` where there is nothing to do.
pub(crate) fn run(graph: &Graph) -> Result<Option<Graph>, TypeError> {
    let changes = |n: &Node| is_swapped(graph, n, &n.operands) || simplify(graph, n, &n.operands).is_some();
    if !graph.node_ids().into_iter().any(|id| changes(graph.node(id))) {
        return Ok(None);
    }
    let new = rebuild(graph, |r, id, operands| {
        let old = r.old;
        let node = old.node(id);
        // A constant of a commutative operation stands second.
        if is_swapped(&r.builder.graph, node, operands) {
            let swapped = [operands[1], operands[0]];
            return match simplify(&r.builder.graph, node, &swapped) {
                Some(v) => Ok(Some(vec![v])),
                None => Ok(Some(r.copy(node, &swapped)?)),
            };
        }
        Ok(simplify(&r.builder.graph, node, operands).map(|v| vec![v]))
    })?;
    Ok(Some(new))
}

/// Whether a node is commutative and only its first operand is a constant.
fn is_swapped(graph: &Graph, node: &Node, operands: &[Option<ValueId>]) -> bool {
    let [Some(a), Some(b)] = *operands else { return false };
    graph.as_const(a).is_some() && graph.as_const(b).is_none() && node.op.info().has_trait("commutative")
}

/// The value that a node of these operands is, if it does nothing.
fn simplify(graph: &Graph, node: &Node, operands: &[Option<ValueId>]) -> Option<ValueId> {
    let x = (*operands.first()?)?;
    let ty = graph.ty(x).as_tensor()?;
    match node.op {
        // cast to the type it has
        Op::Cast if node.attrs.dtype("to") == ty.dtype => Some(x),
        Op::Broadcast if node.attrs.dims("shape") == ty.shape => Some(x),
        // a slice of everything
        Op::Slice
            if node.attrs.dims("sizes") == ty.shape
                && node.attrs.ints("steps").iter().all(|&s| s == 1)
                && node.attrs.dims("starts").iter().all(|d| d.as_const() == Some(0)) =>
        {
            Some(x)
        }
        Op::Pad if ["low", "high"].iter().all(|a| node.attrs.dims(a).iter().all(|d| d.as_const() == Some(0))) => Some(x),
        Op::Concat if operands.len() == 1 => Some(x),
        Op::Reduce if node.attrs.ints("axes").is_empty() => Some(x),
        // x + 0 and the like, where the constant does not broadcast x up (exact: IEEE x + -0 and x * 1 are x)
        Op::Add | Op::Sub | Op::Mul | Op::Div => neutral(graph, node.op, operands),
        _ => None,
    }
}

/// A transpose of a transpose is one; one that only moves axes of extent 1 is a reshape; one that moves nothing is gone.
pub(crate) fn transpose(r: &mut Rebuild, x: ValueId, perm: &[i64]) -> Result<Option<ValueId>, TypeError> {
    let (x, perm) = match r.producer(x, Op::Transpose) {
        Some(inner) => {
            let first = inner.attrs.ints("perm");
            (inner.operand(0), perm.iter().map(|&p| first[p as usize]).collect::<Vec<_>>())
        }
        None => (x, perm.to_vec()),
    };
    if perm.iter().enumerate().all(|(i, &p)| i as i64 == p) {
        return Ok(Some(x));
    }
    let shape = r.builder.tensor_ty(x).shape.clone();
    let moved: Vec<i64> = perm.iter().copied().filter(|&p| shape[p as usize].as_const() != Some(1)).collect();
    if moved.is_sorted() {
        let shape = perm.iter().map(|&p| shape[p as usize].clone()).collect();
        return Ok(Some(r.emit(Op::Reshape, attrs! { shape: Attr::Dims(shape) }, &[x])?));
    }
    Ok(Some(r.emit(Op::Transpose, attrs! { perm: perm }, &[x])?))
}

fn neutral(graph: &Graph, op: Op, operands: &[Option<ValueId>]) -> Option<ValueId> {
    let [Some(a), Some(b)] = *operands else { return None };
    for (x, c) in [(a, b), (b, a)] {
        let Some(t) = graph.as_const(c) else { continue };
        let shape = &graph.tensor_ty(x).shape;
        let neutral = match op {
            Op::Add if t.dtype().is_int() => 0.0,
            // x + 0 is not x for x = -0.
            Op::Add => -0.0,
            Op::Sub if x == a => 0.0,
            Op::Mul => 1.0,
            Op::Div if x == a => 1.0,
            _ => continue,
        };
        // Does the constant leave the shape alone?
        let keeps = t.rank() <= shape.len()
            && t.shape().iter().rev().zip(shape.iter().rev()).all(|(&d, s)| d == 1 || s.as_const() == Some(d as i64));
        if keeps && !t.is_empty() && all_equal(t, neutral) {
            return Some(x);
        }
    }
    None
}

/// Whether every element of a small tensor has exactly these bits.
fn all_equal(t: &Tensor, value: f64) -> bool {
    use egret_ir::DType::*;
    match t.dtype() {
        F32 => t.data::<f32>().iter().all(|v| v.to_bits() == (value as f32).to_bits()),
        F64 => t.data::<f64>().iter().all(|v| v.to_bits() == value.to_bits()),
        F16 | BF16 => false,
        _ => t.to_i64s().is_some_and(|v| v.iter().all(|&v| v == value as i64)),
    }
}
