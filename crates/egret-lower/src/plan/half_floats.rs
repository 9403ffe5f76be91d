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
use crate::geometry::dtypes::is_half;
use egret_ir::{
    Builder, DType, Graph, Node, NodeId, Op, Rounding, Tensor, TypeError, ValueId, attrs, interp,
};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Whether f32 may be between an operation's operands and its results of f16 and bf16.
fn rounds_once(op: Op) -> bool {
    op.info().rounding != Rounding::Steps
}

/// Whether an operation only moves elements.
fn is_move(op: Op) -> bool {
    op.info().rounding == Rounding::Moves
}

/// Whether every result of a node is a number of its operands' type, whatever it is computed in.
fn is_exact(node: &Node) -> bool {
    match node.op.info().rounding {
        Rounding::Moves | Rounding::Chooses => true,
        Rounding::Once => {
            matches!(node.op, Op::Reduce | Op::Pool) && ["max", "min"].contains(&node.attrs.str("kind"))
        }
        Rounding::Steps => false,
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
    let mut w =
        Widening { b: Builder::from_graph(graph.clone()), wide: HashMap::new(), replaced: HashSet::new() };
    let mut origins = Origins::new();
    let mut note = |b: &Builder, first: usize, id: NodeId| {
        let made = (first..b.graph.value_count()).filter_map(|v| b.graph.producer(ValueId(v as u32)));
        origins.extend(made.map(|n| (n, id)));
    };
    for id in nodes {
        let node = w.b.graph.node(id).clone();
        w.b.set_sources(node.sources.clone());
        let first = w.b.graph.value_count();
        w.node(id, &node)?;
        note(&w.b, first, id);
    }
    for (i, &v) in graph.outputs().iter().enumerate() {
        let Some(id) = graph.producer(v).filter(|_| w.replaced.contains(&v)) else { continue };
        w.b.set_sources(graph.node(id).sources.clone());
        let first = w.b.graph.value_count();
        let narrow = w.narrow(v)?;
        w.b.graph.set_output(i, narrow);
        note(&w.b, first, id);
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
        // What was read and is only moved stays what it is: of a table few elements may be looked at.
        let moves = is_move(node.op) && node.operands.iter().flatten().all(|v| !self.replaced.contains(v));
        if !rounds_once(node.op) || moves || !node.regions.is_empty() {
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
        let exact = is_exact(node);
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
        if from == DType::F32 && (to == DType::F32 || is_half(to)) {
            return Ok(x);
        }
        let cast = self.b.emit(Op::Cast, node.attrs.clone(), &[x])?;
        // The model's own cast: f64 and integers are not cast to f32 in its place.
        if is_half(to) { self.cast(cast, DType::F32) } else { Ok(cast) }
    }
}

/// A constant of a smaller float as f32.
fn as_f32(tensor: &Tensor) -> Option<Tensor> {
    let attrs = attrs! { to: DType::F32, saturate: 0i64, round: "nearest" };
    let results = interp::eval_op(Op::Cast, &attrs, &[Some(tensor.clone().into())], &[]).ok()?;
    results.first()?.as_tensor().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret_ir::{Value, text};

    /// Nodes that compute or move f16 or bf16, by name, and the graph without them.
    fn widened(source: &str) -> (Graph, Vec<&'static str>) {
        let graph = text::parse(source, &|_| None).unwrap();
        let (wide, origins) = widen(&graph).unwrap();
        let wide = wide.into_owned();
        egret_ir::verify(&wide).unwrap();
        let before = graph.node_ids();
        assert!(wide.node_ids().iter().all(|n| before.contains(n) || before.contains(&origins[n])));
        let half = |v: ValueId| wide.ty(v).as_tensor().is_some_and(|t| is_half(t.dtype));
        let left = wide.node_ids().into_iter().map(|n| wide.node(n)).filter(|n| n.op != Op::Cast);
        let left = left.filter(|n| n.operands.iter().flatten().chain(&n.results).any(|&v| half(v)));
        let left = left.map(|n| n.op.name()).collect();
        (wide, left)
    }

    /// The results of both, on numbers for which f32 is as good as exact.
    fn assert_same(source: &str, inputs: &[Tensor]) {
        let graph = text::parse(source, &|_| None).unwrap();
        let inputs: Vec<Value> = inputs.iter().map(|t| t.clone().into()).collect();
        let run = |g: &Graph| interp::run(g, &inputs).unwrap();
        assert_eq!(run(&graph), run(&widened(source).0));
    }

    fn numbers(shape: &[usize], dtype: DType) -> Tensor {
        let n: usize = shape.iter().product();
        let x: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 8.0).collect();
        let attrs = attrs! { to: dtype, saturate: 0i64, round: "nearest" };
        let cast = interp::eval_op(Op::Cast, &attrs, &[Some(Tensor::new(shape, x).into())], &[]).unwrap();
        cast[0].as_tensor().unwrap().clone()
    }

    #[test]
    fn what_is_inside_is_f32() {
        for (name, dtype) in [("f16", DType::F16), ("bf16", DType::BF16)] {
            let source = "graph @g(%0 \"x\": f16[1, 3, 6, 6]) -> (%8 \"y\", %3 \"c\", %9 \"less\") {
                %1 = const f16[4, 3, 3, 3] random(1)
                %2 = const f16[] [0.1]
                %3 = conv(%0, %1) {dilations = [1, 1], groups = 1, layout = \"channels_first\", pads = [1, 1, 1, 1], strides = [1, 1]}
                %4 = mul(%3, %2)
                %5 = max(%4, %2)
                %6 = pool(%5) {dilations = [1, 1], high_extra = [0, 0], kernel = [2, 2], kind = \"max\", layout = \"channels_first\", pads = [0, 0, 0, 0], strides = [2, 2]}
                %7 = reduce(%6) {axes = [3], keepdims = 0, kind = \"sum\"}
                %8 = exp(%7)
                %9 = less(%7, %2)
            }";
            let source = source.replace("f16", name);
            assert!(widened(&source).1.is_empty());
            assert_same(&source, &[numbers(&[1, 3, 6, 6], dtype)]);
        }
    }

    #[test]
    fn numbers_are_rounded_where_they_were() {
        // 2049 is no f16; 70,000 is infinite.
        let source = "graph @g(%0 \"x\": f16[4], %1 \"z\": f64[2], %2 \"i\": i32[2]) -> (%4 \"y\", %6 \"c\", %8 \"d\") {
            %3 = add(%0, %0)
            %4 = sub(%3, %0)
            %5 = cast(%1) {round = \"nearest\", saturate = 1, to = f16}
            %6 = cast(%5) {round = \"nearest\", saturate = 1, to = f32}
            %7 = cast(%2) {round = \"nearest\", saturate = 1, to = f16}
            %8 = add(%7, %7)
        }";
        let x = interp::eval_op(
            Op::Cast,
            &attrs! { to: DType::F16, saturate: 0i64, round: "nearest" },
            &[Some(Tensor::new(&[4], vec![1025.0f32, 40000.0, -40000.0, 6e-8]).into())],
            &[],
        );
        let x = x.unwrap()[0].as_tensor().unwrap().clone();
        // Of f64, rounding to f32 first would give another f16.
        let z = Tensor::new(&[2], vec![1.0 + 2f64.powi(-11) + 2f64.powi(-40), 1e9]);
        assert_same(source, &[x, z, Tensor::new(&[2], vec![2049i32, 70_000])]);
    }

    #[test]
    fn tables_and_running_sums_keep_their_type() {
        let source = "graph @g(%0 \"i\": i64[2]) -> (%3 \"y\", %4 \"sums\") {
            %1 = const f16[50, 4] random(1)
            %2 = gather(%1, %0) {axis = 0}
            %3 = mul(%2, %2)
            %4 = cumulative(%3) {axis = 1, exclusive = 0, kind = \"sum\", reverse = 0}
        }";
        assert_eq!(widened(source).1, ["gather", "cumulative"]);
        assert_same(source, &[Tensor::new(&[2], vec![49i64, 3])]);
        let moved = "graph @g(%0 \"x\": f16[2, 3], %1 \"z\": f16[2, 3]) -> (%4 \"y\") {
            %2 = transpose(%0) {perm = [1, 0]}
            %3 = transpose(%1) {perm = [1, 0]}
            %4 = concat(%2, %3) {axis = 1}
        }";
        assert_eq!(widened(moved).1, ["transpose", "transpose", "concat"]);
        let same = "graph @g(%0 \"x\": f32[2]) -> (%1 \"y\") {\n %1 = exp(%0)\n}";
        let graph = text::parse(same, &|_| None).unwrap();
        assert!(matches!(widen(&graph).unwrap().0, Cow::Borrowed(_)));
    }
}
