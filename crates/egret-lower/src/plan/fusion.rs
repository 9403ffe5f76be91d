//! Which nodes share a kernel.
//!
//! A group has one result. Its anchor, if any, is a node with a kernel of its own (a contraction, a
//! reduction, ...); elementwise nodes that alone use the anchor's result become its epilogue, those that it
//! alone uses the prologue of its first operand. Without an anchor a group is a DAG of elementwise nodes.
//! Movement nodes become the strides with which a group reads its operands. A node belongs to a group only
//! if all its users do (movement nodes, which cost nothing, may be in several), so the groups in the order
//! of their last nodes are in topological order.

use crate::LowerOptions;
use crate::expr::{Expr, Operand, Term};
use crate::geometry::access::StridedAccess;
use crate::geometry::aliases::alias;
use crate::geometry::conv::ConvShape;
use crate::geometry::dtypes::is_direct;
use crate::geometry::shape::{dims, strides};
use crate::plan::units::Units;
use egret_ir::{Blockwise, DType, Def, Family, FusionRoles, Graph, Node, NodeId, Op, UseLists, ValueId};
use std::collections::{BTreeSet, HashMap};

/// More nodes than this in one kernel only press on its registers.
pub const MAX_NODES: usize = 48;

/// Nodes that share a kernel.
#[derive(Clone, Debug)]
pub struct FusionGroup {
    /// The last node; its results are the group's.
    pub root: NodeId,
    /// The node with a kernel of its own.
    pub anchor: Option<NodeId>,
    /// All nodes, ascending.
    pub nodes: BTreeSet<NodeId>,
    /// The group's result: the first of the root.
    pub result: ValueId,
    /// What is computed for every element of the result, from the anchor's value if there is one.
    pub expr: Expr,
    /// What the anchor's first operand is made of, if anything; otherwise it is read from its buffer.
    pub prologue: Option<Expr>,
    /// A convolution whose products are added to the anchor's, as [`addends`](crate::plan::addends) finds them.
    pub addend: Option<NodeId>,
    /// The weights of an anchor that is a product, where it reads them as codes.
    pub weights: Option<Blockwise>,
}

impl FusionGroup {
    /// The node whose kernel computes the group: the anchor, or the last of a DAG of elementwise nodes.
    pub fn node(&self) -> NodeId {
        self.anchor.unwrap_or(self.root)
    }
}

/// The groups of a graph, producers before users. Nodes whose results nobody needs, or only as views, are
/// in none. Where the graph is that of one unit, what finds a dim is before all that have it, and always needed.
pub fn build(graph: &Graph, options: &LowerOptions, units: Option<&Units>) -> Vec<FusionGroup> {
    // Dims are constant in the graph of one unit: what they tie together is to be seen in the one with free dims.
    let order = units.map_or(graph, |u| &*u.graph).topological().unwrap_or_default();
    let (uses, fuse) = (graph.use_lists(), options.fuse);
    let mut builder = GroupBuilder { graph, units, uses, fuse, needed: BTreeSet::new() };
    for &v in graph.outputs() {
        builder.need(v);
    }
    for found_by in units.iter().flat_map(|u| &u.lengths.0).filter_map(|l| l.found_by) {
        builder.need(graph.node(found_by).results[0]);
    }
    let mut groups = vec![];
    for &n in order.iter().rev() {
        if builder.needed.contains(&n) {
            groups.push(builder.group(n));
        }
    }
    groups.reverse();
    groups
}

/// Index along one axis of a value: `offset + scale * i[axis]` of the group's index `i`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct AxisView {
    axis: Option<usize>,
    scale: i64,
    offset: i64,
}

type View = Vec<AxisView>;

fn identity(rank: usize) -> View {
    (0..rank).map(|axis| AxisView { axis: Some(axis), scale: 1, offset: 0 }).collect()
}

struct GroupBuilder<'g> {
    graph: &'g Graph,
    units: Option<&'g Units>,
    uses: UseLists,
    fuse: bool,
    /// Nodes whose results must stand in a buffer.
    needed: BTreeSet<NodeId>,
}

impl GroupBuilder<'_> {
    fn roles(&self, n: NodeId) -> FusionRoles {
        self.graph.node(n).op.fusion()
    }

    /// A value must stand in a buffer; a view's operand does so for it.
    fn need(&mut self, v: ValueId) {
        let mut v = v;
        while let Some(n) = self.graph.producer(v) {
            match alias(self.graph, n) {
                Some((x, _)) => v = x,
                None => {
                    self.needed.insert(n);
                    return;
                }
            }
        }
    }

    fn group(&mut self, root: NodeId) -> FusionGroup {
        let graph = self.graph;
        let node = graph.node(root);
        let result = node.results[0];
        let out_dims = dims(graph, result);
        let is_map = node.op.is_elementwise() || self.roles(root).strided;
        let mut anchor = (!is_map).then_some(root);
        let mut nodes = BTreeSet::from([root]);
        if is_map && self.fuse {
            anchor = self.grow(&mut nodes, &out_dims);
        }
        let mut expr =
            ExprBuilder { graph, members: &nodes, anchor, expr: empty(out_dims), memo: HashMap::new() };
        expr.term(result, identity(expr.expr.dims.len()));
        let expr = expr.expr;
        let mut prologue = None;
        let weights =
            anchor.and_then(|a| Blockwise::of(graph, &self.uses, a)).filter(|w| w.is_folded(graph));
        if let Some(a) = anchor {
            let anchor_node = graph.node(a);
            let first = anchor_node.operands.first().copied().flatten();
            if let (true, Some(x)) = (self.fuse, first) {
                let inner = self.prologue(a, x);
                if !inner.is_empty() {
                    let x_dims = dims(graph, x);
                    let mut e = ExprBuilder {
                        graph,
                        members: &inner,
                        anchor: None,
                        expr: empty(x_dims),
                        memo: HashMap::new(),
                    };
                    e.term(x, identity(e.expr.dims.len()));
                    let e = e.expr;
                    nodes.extend(inner);
                    prologue = Some(e);
                }
            }
            for (i, v) in anchor_node.operands.iter().enumerate() {
                let elsewhere = i == 0 && prologue.is_some() || i == 1 && weights.is_some();
                if let (Some(v), false) = (v, elsewhere) {
                    self.need(*v);
                }
            }
        }
        for operand in expr.operands.iter().chain(prologue.iter().flat_map(|p| &p.operands)) {
            self.need(operand.value);
        }
        nodes.extend(weights.iter().flat_map(|w| &w.nodes));
        FusionGroup { root, anchor, nodes, result, expr, prologue, addend: None, weights }
    }

    /// Adds to a group whatever its members alone use; returns the anchor found.
    fn grow(&self, nodes: &mut BTreeSet<NodeId>, out_dims: &[i64]) -> Option<NodeId> {
        let graph = self.graph;
        let root_moves = nodes.iter().any(|&n| self.roles(n).strided);
        let mut candidates: Vec<NodeId> = vec![];
        loop {
            let before = nodes.len();
            for &m in nodes.clone().iter().rev() {
                for v in graph.node(m).operands.iter().flatten() {
                    let Some(p) = graph.producer(*v) else { continue };
                    if nodes.contains(&p) || nodes.len() >= MAX_NODES {
                        continue;
                    }
                    let node = graph.node(p);
                    if self.roles(p).strided {
                        // Reading a transposed operand would cost the other operands their vectors.
                        if alias(graph, p).is_none()
                            && (root_moves || node.op != Op::Transpose)
                            && !self.scatters(p)
                        {
                            nodes.insert(p);
                        }
                    } else if self.only_used_by(*v, nodes, |n| n.op.is_elementwise())
                        && dims(graph, *v) == out_dims
                    {
                        if node.op.is_elementwise() {
                            nodes.insert(p);
                        } else if self.roles(p).epilogue && !candidates.contains(&p) {
                            candidates.push(p);
                        }
                    }
                }
            }
            if nodes.len() == before {
                break;
            }
        }
        // The most work per element first; of equal ones the latest, whose result would be read soonest.
        let rank = |n: &NodeId| (graph.node(*n).op.family() == Family::Contraction, *n);
        let anchor = candidates.into_iter().max_by_key(rank)?;
        nodes.insert(anchor);
        Some(anchor)
    }

    /// Whether reading the node's operand in place would lose contiguous runs that its own kernel would
    /// restore once for all.
    fn scatters(&self, n: NodeId) -> bool {
        let node = self.graph.node(n);
        node.op == Op::Slice
            && node.attrs.ints("steps").last().is_some_and(|&s| s != 1)
            && self.uses.users(node.results[0]).len() > 1
    }

    /// The nodes of an anchor's prologue: any that its kernel takes, or the cast by which a depthwise convolution reads bytes, a quarter
    /// of what it would read of floats.
    fn prologue(&self, anchor: NodeId, x: ValueId) -> BTreeSet<NodeId> {
        if self.roles(anchor).prologue {
            return self.grow_prologue(anchor, x);
        }
        let open = self.units.is_some_and(|u| u.is_open(anchor));
        let depthwise = |n| {
            let shape = ConvShape::new(self.graph, n);
            shape.depthwise && shape.channels_last && shape.has_tiles(self.graph, n)
        };
        let bytes = |n: &NodeId| {
            let node = self.graph.node(*n);
            node.op == Op::Cast && self.graph.tensor_ty(node.operand(0)).dtype == DType::U8
        };
        let around = BTreeSet::from([anchor]);
        let is_conv = !open && self.graph.node(anchor).op == Op::Conv;
        let cast = self.graph.producer(x).filter(bytes).filter(|_| is_conv && depthwise(anchor));
        cast.filter(|_| self.only_used_by(x, &around, |_| true)).into_iter().collect()
    }

    fn grow_prologue(&self, anchor: NodeId, x: ValueId) -> BTreeSet<NodeId> {
        let graph = self.graph;
        let x_dims = dims(graph, x);
        let mut inner = BTreeSet::new();
        let mut around = BTreeSet::from([anchor]);
        let mut work = vec![x];
        while let Some(v) = work.pop() {
            let Some(p) = graph.producer(v) else { continue };
            let node = graph.node(p);
            let folds = if graph.node(anchor).op == Op::Pool {
                // Each element is in several windows, which compute it again.
                inner.is_empty() && is_instruction_of_one(node) && self.only_used_by(v, &around, |_| true)
            } else if node.op == Op::Broadcast || node.op == Op::Slice {
                alias(graph, p).is_none() && !self.scatters(p)
            } else {
                node.op.is_elementwise()
                    && dims(graph, v) == x_dims
                    && self.only_used_by(v, &around, |_| true)
            };
            if folds && inner.len() < MAX_NODES && inner.insert(p) {
                around.insert(p);
                // Members found earlier may now use everything of a value passed over before.
                work.extend(inner.iter().flat_map(|&m| graph.node(m).operands.iter().flatten().copied()));
                work.retain(|v| graph.producer(*v).is_some_and(|p| !inner.contains(&p)));
            }
        }
        inner
    }

    /// Whether all users of a value are members for which `test` holds, and no output is it.
    fn only_used_by(
        &self,
        v: ValueId,
        nodes: &BTreeSet<NodeId>,
        test: impl Fn(&egret_ir::Node) -> bool,
    ) -> bool {
        self.uses.output_uses(v) == 0
            && self.uses.users(v).iter().all(|u| nodes.contains(u) && test(self.graph.node(*u)))
    }
}

/// Whether a node is one instruction on one value: `mul(x, x)`, say.
fn is_instruction_of_one(node: &Node) -> bool {
    matches!(node.op, Op::Mul | Op::Abs | Op::Neg) && node.operands.iter().all(|v| *v == node.operands[0])
}

/// An attribute of constant dims.
///
/// # Panics
/// If they are not constant: `plan::legalize` refuses such graphs before.
fn const_attr(node: &Node, name: &str) -> Vec<i64> {
    let dims = node.attrs.const_dims(name);
    dims.unwrap_or_else(|| unreachable!("lowering a {} with an open `{name}`", node.op))
}

fn empty(dims: Vec<i64>) -> Expr {
    Expr { dims, operands: vec![], terms: vec![] }
}

/// Writes a group's members down as an expression.
struct ExprBuilder<'a> {
    graph: &'a Graph,
    members: &'a BTreeSet<NodeId>,
    anchor: Option<NodeId>,
    expr: Expr,
    memo: HashMap<(ValueId, View), usize>,
}

impl ExprBuilder<'_> {
    fn term(&mut self, v: ValueId, view: View) -> usize {
        // Where nothing varies, equal values are one term whatever their view.
        if let Some(&i) = self.memo.get(&(v, view.clone())) {
            return i;
        }
        let dtype = self.graph.tensor_ty(v).dtype;
        let term = match &self.graph.value(v).def {
            Def::Node(n, _) if Some(*n) == self.anchor => Term::Anchor,
            Def::Node(n, _) if self.members.contains(n) => {
                let node = self.graph.node(*n);
                if node.op.fusion().strided {
                    let i = self.term(node.operand(0), self.operand_view(*n, 0, &view));
                    self.memo.insert((v, view), i);
                    return i;
                }
                let args = (0..node.operands.len())
                    .map(|i| self.term(node.operand(i), self.operand_view(*n, i, &view)))
                    .collect();
                Term::Apply(node.op, node.attrs.clone(), args)
            }
            Def::Const(t) if t.len() == 1 && is_direct(dtype) && dtype.size() == t.bytes().len() => {
                let mut bits = [0u8; 8];
                bits[..t.bytes().len()].copy_from_slice(t.bytes());
                Term::Const(u64::from_le_bytes(bits))
            }
            _ => {
                let operand = Operand { value: v, dtype, access: self.access(v, &view) };
                let at = self.expr.operands.iter().position(|o| *o == operand).unwrap_or_else(|| {
                    self.expr.operands.push(operand);
                    self.expr.operands.len() - 1
                });
                Term::Operand(at)
            }
        };
        self.expr.terms.push((term, dtype));
        let i = self.expr.terms.len() - 1;
        self.memo.insert((v, view), i);
        i
    }

    /// How a node's operand is indexed where its result is indexed by `view`.
    fn operand_view(&self, n: NodeId, i: usize, view: &View) -> View {
        let node = self.graph.node(n);
        let from = dims(self.graph, node.operand(i));
        let fixed = AxisView { axis: None, scale: 0, offset: 0 };
        match node.op {
            Op::Transpose => {
                let mut out = vec![fixed; from.len()];
                for (axis, p) in node.attrs.indices("perm").into_iter().enumerate() {
                    out[p] = view[axis];
                }
                out
            }
            Op::Slice => {
                let starts = const_attr(node, "starts");
                let steps = node.attrs.ints("steps");
                let sizes = dims(self.graph, node.results[0]);
                // A step that is never taken could be larger than what it steps over.
                let one = |(i, a): (usize, &AxisView)| match sizes[i] {
                    0 => fixed,
                    1 => AxisView { axis: None, scale: 0, offset: starts[i] },
                    _ => AxisView {
                        axis: a.axis,
                        scale: a.scale * steps[i],
                        offset: starts[i] + steps[i] * a.offset,
                    },
                };
                view.iter().enumerate().map(one).collect()
            }
            // Elementwise operands and `broadcast`: aligned at the last axis, axes of size 1 repeated.
            _ => {
                let skip = view.len() - from.len();
                from.iter().enumerate().map(|(j, &d)| if d == 1 { fixed } else { view[skip + j] }).collect()
            }
        }
    }

    fn access(&self, v: ValueId, view: &View) -> StridedAccess {
        let mut access = StridedAccess { offset: 0, strides: vec![0; self.expr.dims.len()] };
        for (a, stride) in view.iter().zip(strides(&dims(self.graph, v))) {
            access.offset += a.offset * stride;
            if let Some(axis) = a.axis {
                access.strides[axis] += a.scale * stride;
            }
        }
        access
    }
}
