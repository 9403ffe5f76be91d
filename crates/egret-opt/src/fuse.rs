//! Constants after contractions move into their weights: what is left of a BatchNorm is a bias.
//!
//! Tier reassoc: products and sums of constants are rounded once more, at compile time.

use crate::rebuild::{Rebuild, rebuild};
use egret_ir::{Attrs, DType, Graph, Op, Tensor, TypeError, UseLists, ValueId};

/// The pass: rounds until nothing changes, at most a few.
pub(crate) fn run(graph: &Graph) -> Result<Graph, TypeError> {
    let mut graph = graph.clone();
    for _ in 0..4 {
        let before = graph.node_count();
        let uses = graph.use_lists();
        let mut changed = false;
        graph = rebuild(&graph, |r, id, operands| {
            let result = visit(r, &uses, id, operands)?;
            changed |= result.is_some();
            Ok(result.map(|v| vec![v]))
        })?;
        if !changed && graph.node_count() == before {
            break;
        }
    }
    Ok(graph)
}

fn visit(r: &mut Rebuild, uses: &UseLists, id: egret_ir::NodeId, operands: &[Option<ValueId>]) -> Result<Option<ValueId>, TypeError> {
    let node = r.old.node(id);
    if !matches!(node.op, Op::Add | Op::Sub | Op::Mul | Op::Div) {
        return Ok(None);
    }
    let (Some(Some(a)), Some(Some(b))) = (operands.first().copied(), operands.get(1).copied()) else { return Ok(None) };
    if r.builder.tensor_ty(a).dtype != DType::F32 {
        return Ok(None);
    }
    let (x, c, old_x, swapped) = match (r.as_const(a).is_some(), r.as_const(b).is_some()) {
        (false, true) => (a, b, node.operand(0), false),
        (true, false) => (b, a, node.operand(1), true),
        _ => return Ok(None),
    };
    // x must not grow by the constant, and must be wanted by nobody else.
    if r.builder.tensor_ty(x).shape != r.old.tensor_ty(node.results[0]).shape || uses.sole_user(old_x) != Some(id) {
        return Ok(None);
    }
    match node.op {
        // x - c => x + (-c); x / c => x * (1/c): one form each for what follows.
        Op::Sub if !swapped => {
            let n = r.emit(Op::Neg, Attrs::default(), &[c])?;
            Ok(Some(add(r, x, n)?))
        }
        Op::Div if !swapped && scales(r, x, c) => {
            let one = r.builder.constant(Tensor::scalar(1f32));
            let i = r.emit(Op::Div, Attrs::default(), &[one, c])?;
            scale(r, x, i)
        }
        Op::Add => Ok(joinable(r, x).then(|| add(r, x, c)).transpose()?),
        Op::Mul if scales(r, x, c) => scale(r, x, c),
        _ => Ok(None),
    }
}

/// x is itself a sum with a constant.
fn joinable(r: &Rebuild, x: ValueId) -> bool {
    r.producer(x, Op::Add).is_some_and(|n| r.as_const(n.operand(1)).is_some())
}

/// x + c, joined with a constant that x already ends in.
fn add(r: &mut Rebuild, x: ValueId, c: ValueId) -> Result<ValueId, TypeError> {
    if let Some(n) = r.producer(x, Op::Add) {
        let (inner, d) = (n.operand(0), n.operand(1));
        if r.as_const(d).is_some() && r.builder.tensor_ty(inner).shape == r.builder.tensor_ty(x).shape {
            let sum = r.emit(Op::Add, Attrs::default(), &[d, c])?;
            return r.emit(Op::Add, Attrs::default(), &[inner, sum]);
        }
    }
    r.emit(Op::Add, Attrs::default(), &[x, c])
}

/// Whether x is a contraction with constant weights (plus a constant, perhaps) and c a factor per output channel.
fn scales(r: &Rebuild, x: ValueId, c: ValueId) -> bool {
    let core = match r.producer(x, Op::Add) {
        Some(n) if r.as_const(n.operand(1)).is_some() && r.builder.tensor_ty(n.operand(0)).shape == r.builder.tensor_ty(x).shape => {
            n.operand(0)
        }
        _ => x,
    };
    factor(r, core, c).is_some()
}

/// The factor as one vector over the output channels (or columns) of the contraction that makes x.
fn factor(r: &Rebuild, x: ValueId, c: ValueId) -> Option<Vec<f32>> {
    let t = r.as_const(c)?;
    let shape = r.builder.tensor_ty(x).const_dims()?;
    let rank = shape.len();
    let node = r.builder.graph.node(r.builder.graph.producer(x)?);
    let axis = match node.op {
        Op::Conv if node.attrs.str("layout") == "channels_first" => 1,
        Op::Conv | Op::Matmul => rank - 1,
        _ => return None,
    };
    r.as_const(node.operand(1))?;
    let channels = shape[axis];
    let mut dims = vec![1; rank.checked_sub(t.rank())?];
    dims.extend(t.shape());
    let fits = dims.iter().enumerate().all(|(i, &d)| d == 1 || (i == axis && d == channels));
    let data = t.data::<f32>();
    match (fits, data.len()) {
        (true, 1) => Some(vec![data[0]; channels]),
        (true, n) if n == channels => Some(data.to_vec()),
        _ => None,
    }
}

/// x * c with the factor in x's weights.
fn scale(r: &mut Rebuild, x: ValueId, c: ValueId) -> Result<Option<ValueId>, TypeError> {
    if let Some(n) = r.producer(x, Op::Add) {
        let (inner, d) = (n.operand(0), n.operand(1));
        if r.as_const(d).is_some() {
            let scaled = r.emit(Op::Mul, Attrs::default(), &[d, c])?;
            let Some(core) = scale(r, inner, c)? else { return Ok(None) };
            return Ok(Some(r.emit(Op::Add, Attrs::default(), &[core, scaled])?));
        }
    }
    let Some(factors) = factor(r, x, c) else { return Ok(None) };
    let graph = &r.builder.graph;
    let Some(producer) = graph.producer(x) else { return Ok(None) };
    let node = graph.node(producer).clone();
    let Some(w) = r.as_const(node.operand(1)) else { return Ok(None) };
    if w.dtype() != DType::F32 {
        return Ok(None);
    }
    let (shape, mut data) = (w.shape().to_vec(), w.data::<f32>().to_vec());
    if node.op == Op::Matmul {
        let n = factors.len();
        data.iter_mut().enumerate().for_each(|(i, v)| *v *= factors[i % n]);
    } else {
        let per = data.len() / factors.len().max(1);
        data.iter_mut().enumerate().for_each(|(i, v)| *v *= factors[i / per.max(1)]);
    }
    let w = r.builder.constant(Tensor::new(&shape, data));
    let mut sources = node.sources.clone();
    sources.extend(r.builder.sources().iter().cloned());
    r.builder.set_sources(sources);
    let x = node.operand(0);
    Ok(Some(r.emit(node.op, node.attrs, &[x, w])?))
}
