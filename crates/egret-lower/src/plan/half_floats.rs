//! f16 and bf16 as f32 that holds their numbers, before nodes are grouped.
//!
//! A node of such floats becomes the same node of f32, followed by a cast to the small type and one back: the numbers are those that
//! the node would have, and every kernel of f32 serves them. Constants become f32 here; what is read and what is returned keeps its type.
//! For example `relu(conv(x, w))` of f16 becomes, with `x` and `w` cast to f32:
//!
//! ```text
//! %1 = conv(%x, %w) : f32
//! %2 = cast(%1) : f16
//! %3 = cast(%2) : f32       // both are a step or two of the convolution's epilogue
//! %4 = max(%3, 0) : f32     // chooses among numbers of f16: nothing is rounded
//! ```

use super::decompose::Origins;
use egret_ir::{
    Attrs, Builder, DType, Graph, Node, NodeId, Op, Tensor, TypeError, ValueId, attrs, interp,
};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// Whether an operation computes its results of f16 and bf16 as if with real numbers and rounds them once, so that f32 may be in between.
fn rounds_once(op: Op) -> bool {
    use Op::*;
    op.is_elementwise()
        || is_exact(op, "")
        || matches!(op, Matmul | Conv | ConvTranspose | Attention | Softmax | LayerNorm | RmsNorm)
        || matches!(op, Reduce | ArgReduce | Pool | Resize)
}

/// Whether every result is an operand's element, with another sign at most, a whole number near it, or 0: a number of the operands'
/// type, whatever it is computed in. `kind` is the attribute of that name.
fn is_exact(op: Op, kind: &str) -> bool {
    use Op::*;
    match op {
        Neg | Abs | Sign | Floor | Ceil | Round | Max | Min | Where => true,
        Reshape | Broadcast | Transpose | Slice | Pad | Dilate | Concat => true,
        Gather | GatherElements | GatherNd | ReverseSequence | TopK => true,
        Reduce | Pool => kind == "max" || kind == "min",
        _ => false,
    }
}

/// The graph without f16 and bf16 inside, and what the new nodes were; itself where there are none.
///
/// # Errors
/// A rule of types that the replacement breaks, which an unverified graph may cause.
pub fn widen(graph: &Graph) -> Result<(Cow<'_, Graph>, Origins), TypeError> {
    let half = |v: ValueId| graph.ty(v).as_tensor().is_some_and(|t| is_half(t.dtype));
    let computes = |id: &NodeId| {
        let node = graph.node(*id);
        rounds_once(node.op)
            && node.op != Op::Cast
            && node.operands.iter().flatten().chain(&node.results).any(|&v| half(v))
    };
    let nodes = graph.topological().unwrap_or_default();
    if !nodes.iter().any(computes) {
        return Ok((Cow::Borrowed(graph), Origins::new()));
    }
    let mut w = Widening {
        b: Builder::from_graph(graph.clone()),
        wide: HashMap::new(),
        replaced: HashSet::new(),
    };
    let mut origins = Origins::new();
    for id in nodes {
        let node = w.b.graph.node(id).clone();
        w.b.set_sources(node.sources.clone());
        let first = w.b.graph.value_count();
        w.node(id, &node)?;
        let made = (first..w.b.graph.value_count()).filter_map(|v| w.b.graph.producer(ValueId(v as u32)));
        origins.extend(made.map(|n| (n, id)));
    }
    for (i, v) in w.b.graph.outputs().to_vec().into_iter().enumerate() {
        let narrow = w.narrow(v)?;
        w.b.graph.set_output(i, narrow);
    }
    let mut graph = w.b.graph;
    graph.remove_dead();
    origins.retain(|n, _| graph.contains(*n));
    Ok((Cow::Owned(graph), origins))
}

struct Widening {
    b: Builder,
    /// For a value of f16 or bf16 the f32 that holds its numbers.
    wide: HashMap<ValueId, ValueId>,
    /// Those that no node computes any more.
    replaced: HashSet<ValueId>,
}

impl Widening {
    fn half(&self, v: ValueId) -> Option<DType> {
        self.b.graph.ty(v).as_tensor().map(|t| t.dtype).filter(|d| is_half(*d))
    }

    fn cast(&mut self, x: ValueId, to: DType) -> Result<ValueId, TypeError> {
        self.b.emit(Op::Cast, attrs! { to: to, saturate: 0i64, round: "nearest" }, &[x])
    }

    /// f32 with the numbers of a value of f16 or bf16; other values as they are.
    fn widen(&mut self, v: ValueId) -> Result<ValueId, TypeError> {
        if self.half(v).is_none() {
            return Ok(v);
        }
        if let Some(&wide) = self.wide.get(&v) {
            return Ok(wide);
        }
        let converted = self.b.graph.as_const(v).and_then(as_f32);
        let wide = match converted {
            Some(tensor) => self.b.constant(tensor),
            None => self.cast(v, DType::F32)?,
        };
        self.wide.insert(v, wide);
        Ok(wide)
    }

    /// A value of its own type again, where it is computed in f32.
    fn narrow(&mut self, v: ValueId) -> Result<ValueId, TypeError> {
        match self.half(v).filter(|_| self.replaced.contains(&v)) {
            Some(dtype) => self.cast(self.wide[&v], dtype),
            None => Ok(v),
        }
    }

    /// f32 rounded to the numbers of a smaller float.
    fn rounded(&mut self, x: ValueId, dtype: DType) -> Result<ValueId, TypeError> {
        let narrow = self.cast(x, dtype)?;
        self.cast(narrow, DType::F32)
    }

    fn node(&mut self, id: NodeId, node: &Node) -> Result<(), TypeError> {
        let touches = node.operands.iter().flatten().chain(&node.results).any(|&v| self.half(v).is_some());
        if !touches {
            return Ok(());
        }
        let from_table = matches!(node.op, Op::Gather | Op::GatherElements | Op::GatherNd)
            && self.b.graph.as_const(node.operand(0)).is_some();
        if !rounds_once(node.op) || from_table || !node.regions.is_empty() {
            // It keeps its types: of a table few elements may be looked at.
            for (i, v) in node.operands.iter().enumerate() {
                if let Some(v) = v {
                    let narrow = self.narrow(*v)?;
                    self.b.graph.set_operand(id, i, narrow);
                }
            }
            return Ok(());
        }
        let operands: Vec<Option<ValueId>> =
            node.operands.iter().map(|v| v.map(|v| self.widen(v)).transpose()).collect::<Result<_, _>>()?;
        let results = if node.op == Op::Cast {
            vec![self.converted(node, operands[0].unwrap_or(node.operand(0)))?]
        } else {
            self.b.emit_node(node.op, node.attrs.clone(), &operands, vec![])?
        };
        let exact = is_exact(node.op, kind(&node.attrs));
        for (&before, now) in node.results.iter().zip(results) {
            let Some(dtype) = self.half(before) else {
                self.b.graph.replace_uses(before, now);
                continue;
            };
            let now = if exact { now } else { self.rounded(now, dtype)? };
            self.wide.insert(before, now);
            self.replaced.insert(before);
        }
        Ok(())
    }

    /// What a cast from or to a smaller float gives before it is rounded: f32 where its result is such a float.
    fn converted(&mut self, node: &Node, x: ValueId) -> Result<ValueId, TypeError> {
        let to = node.attrs.dtype("to");
        let from = self.b.tensor_ty(x).dtype;
        match to {
            DType::F32 | DType::F16 | DType::BF16 if from == DType::F32 => Ok(x),
            // f64 and wide integers are rounded once: not to f32 first.
            DType::F16 | DType::BF16 => {
                let narrow = self.b.emit(Op::Cast, node.attrs.clone(), &[x])?;
                self.cast(narrow, DType::F32)
            }
            _ => self.b.emit(Op::Cast, node.attrs.clone(), &[x]),
        }
    }
}

fn kind(attrs: &Attrs) -> &str {
    if attrs.0.contains_key("kind") { attrs.str("kind") } else { "" }
}

/// A constant of a smaller float as f32.
fn as_f32(tensor: &Tensor) -> Option<Tensor> {
    let attrs = attrs! { to: DType::F32, saturate: 0i64, round: "nearest" };
    let results = interp::eval_op(Op::Cast, &attrs, &[Some(tensor.clone().into())], &[]).ok()?;
    results.first()?.as_tensor().cloned()
}
