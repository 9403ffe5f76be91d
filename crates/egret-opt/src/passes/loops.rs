//! Products of loops by weights that need not be computed in every round.
//!
//! - What rounds read of a value around the loop, element by element of its first axis, is multiplied before the loop, all of it at once: the weights
//!   are read once and not once a round. Each row of a product is what it was.
//! - A carried value that begins as zeros, as states of recurrent networks do, is not multiplied in the first round: the product is a row that is
//!   known. Loops of a constant number of rounds are left alone, of which the first is one of many.
//!
//! Only loops of the graph itself are looked at, and those whose weights are constants.

use crate::pass::PassContext;
use crate::rebuild::{Rebuild, rebuild};
use crate::report::Rewrite;
use egret_ir::{
    Builder, Def, Dim, Graph, Node, NodeId, Op, Tensor, Type, TypeError, ValueId, attrs, interp, symbolic,
};

/// Weights of fewer elements are multiplied as they were: what is saved is not worth a node.
const LEAST: usize = 1 << 12;

/// Products of fewer numbers each are computed as they were: storing one and reading it again takes as long.
const LEAST_DEPTH: usize = 16;

/// Operands of a body before those that it carries: the number of the round, and the condition.
const BEFORE_CARRIED: usize = 2;

/// The graph with such loops; nothing where there are none. Every product that leaves rounds is a rewrite.
pub(super) fn run(graph: &Graph, ctx: &mut PassContext) -> Result<Option<Graph>, TypeError> {
    if !graph.node_ids().iter().any(|&n| graph.node(n).op == Op::Loop) {
        return Ok(None);
    }
    let mut changed = false;
    let new = rebuild(graph, |r, id, operands| {
        let Some(mut of) = Loop::of(r, id, operands) else { return Ok(None) };
        for n in of.products() {
            let sources = of.body.graph.node(n).sources.clone();
            let what = match () {
                () if of.multiply_before(r, n)? => "matmul before the loop, of all rounds",
                () if of.leave_out_first(r, n)? => "matmul in all rounds but the first",
                () => continue,
            };
            ctx.rewrites.push(Rewrite {
                rule: "loop-products".into(),
                place: String::new(),
                sources,
                before: "matmul in every round".into(),
                after: what.into(),
                conditions: String::new(),
            });
            of.changed = true;
        }
        if !of.changed {
            return Ok(None);
        }
        changed = true;
        let mut body = of.body.graph;
        body.remove_dead();
        r.builder.set_sources(of.node.sources.clone());
        r.builder.emit_node(Op::Loop, of.node.attrs.clone(), &of.operands, vec![body]).map(Some)
    })?;
    Ok(changed.then_some(new))
}

/// A loop, its new operands and its new body. Input `i` of the body is operand `i`, from [`BEFORE_CARRIED`] on.
struct Loop<'a> {
    node: &'a Node,
    /// How many values it carries.
    carried: usize,
    /// How many rounds it runs at most, if dims tell.
    rounds: Option<Dim>,
    operands: Vec<Option<ValueId>>,
    body: Builder,
    changed: bool,
}

impl<'a> Loop<'a> {
    fn of(r: &Rebuild<'a>, id: NodeId, operands: &[Option<ValueId>]) -> Option<Loop<'a>> {
        let node = r.old.node(id);
        let body = node.regions.first().filter(|_| node.op == Op::Loop)?.clone();
        let carried = usize::try_from(node.attrs.int("carried")).ok()?;
        let trips = node.operands.first().copied().flatten().filter(|_| node.attrs.flag("has_trip_count"));
        let rounds = trips.and_then(|v| symbolic::content(r.old, v)).and_then(|d| d.into_iter().next());
        let body = Builder::from_graph(body);
        Some(Loop { node, carried, rounds, operands: operands.to_vec(), body, changed: false })
    }

    /// The products of its body, in order.
    fn products(&self) -> Vec<NodeId> {
        let all = self.body.graph.topological().unwrap_or_default();
        all.into_iter().filter(|&n| self.body.graph.node(n).op == Op::Matmul).collect()
    }

    /// The number of a value of the body that is an input.
    fn input(&self, v: ValueId) -> Option<usize> {
        match self.body.graph.value(v).def {
            Def::Input(i) => Some(i),
            _ => None,
        }
    }

    /// What an input is in every round: a value of the new graph.
    fn captured(&self, input: usize) -> Option<ValueId> {
        self.operands.get(input).copied().flatten().filter(|_| input >= BEFORE_CARRIED + self.carried)
    }

    /// The weights that the right operand of a product is: a matrix of constants.
    fn weights(&self, r: &Rebuild, product: &Node) -> Option<Tensor> {
        let v = product.operand(1);
        let tensor = match self.input(v) {
            Some(i) => r.as_const(self.captured(i)?)?,
            None => self.body.graph.as_const(v)?,
        };
        let [depth, _] = tensor.shape() else { return None };
        (tensor.len() >= LEAST && *depth >= LEAST_DEPTH).then(|| tensor.clone())
    }

    /// Multiplies what rounds read of a captured value before it is read. There have to be as many elements as rounds at most, so that not many
    /// are multiplied in vain.
    fn multiply_before(&mut self, r: &mut Rebuild, n: NodeId) -> Result<bool, TypeError> {
        let Some((read, input, all)) = self.read_of_all(r, n) else { return Ok(false) };
        let product = self.body.graph.node(n).clone();
        let Some(weights) = self.weights(r, &product) else { return Ok(false) };
        let weights = r.builder.constant(weights);
        r.builder.set_sources(product.sources.clone());
        let all = r.builder.emit(Op::Matmul, product.attrs.clone(), &[all, weights])?;
        let elements = self.body.graph.ty(self.body.graph.inputs()[input]);
        let Some(ty) = with_last(elements, r.builder.graph.ty(all)) else { return Ok(false) };
        self.operands.push(Some(all));
        let products = self.body.input("", ty);
        let reader = self.body.graph.node(read).clone();
        self.body.set_sources(reader.sources.union(&product.sources).cloned().collect());
        let index = reader.operand(1);
        let element = self.body.emit(Op::Gather, reader.attrs, &[products, index])?;
        self.body.graph.replace_uses(product.results[0], element);
        Ok(true)
    }

    /// The node that reads one element of a captured value each round for a product; the number of the input that it reads, and which value
    /// that is in the new graph.
    fn read_of_all(&self, r: &Rebuild, n: NodeId) -> Option<(NodeId, usize, ValueId)> {
        let body = &self.body.graph;
        let read = body.producer(body.node(n).operand(0))?;
        let node = body.node(read);
        let reads = node.op == Op::Gather && node.attrs.int("axis") == 0;
        if !reads || body.ty(node.operand(1)).as_tensor()?.rank() != 0 {
            return None;
        }
        let input = self.input(node.operand(0))?;
        let all = self.captured(input)?;
        let shape = &r.builder.graph.ty(all).as_tensor()?.shape;
        // Elements that are vectors would be rows of a matrix, which are products of other kernels.
        (shape.len() > 2 && shape.first() == self.rounds.as_ref()).then_some((read, input, all))
    }

    /// Multiplies a carried value that begins as zeros from the second round on.
    fn leave_out_first(&mut self, r: &Rebuild, n: NodeId) -> Result<bool, TypeError> {
        let product = self.body.graph.node(n).clone();
        let (state, result) = (product.operand(0), product.results[0]);
        let first = self.input(state).filter(|&i| i < BEFORE_CARRIED + self.carried);
        let first = first.and_then(|i| self.operands[i]).is_some_and(|v| is_zero(&r.builder.graph, v));
        let round = self.body.graph.inputs()[0];
        let counted = self.body.graph.ty(round).as_tensor().is_some_and(|t| t.rank() == 0);
        let often = self.rounds.as_ref().is_some_and(|n| n.as_const().is_some());
        let Some(weights) = self.weights(r, &product).filter(|_| first && counted && !often) else {
            return Ok(false);
        };
        // A state of another depth the product refuses in the first round as well.
        let depth = self.body.graph.ty(state).as_tensor().and_then(|t| t.shape.last()?.as_const());
        if depth != i64::try_from(weights.shape()[0]).ok() {
            return Ok(false);
        }
        let Some(row) = product_of_zeros(&product, &weights) else { return Ok(false) };
        let Some(shape) = self.body.graph.ty(result).as_tensor().map(|t| t.shape.to_vec()) else {
            return Ok(false);
        };
        let state_ty = self.body.graph.ty(state).clone();
        let branch = |name: &str, is_first: bool| -> Result<Graph, TypeError> {
            let mut b = Builder::new(name);
            b.set_sources(product.sources.clone());
            let state = b.input("", state_ty.clone());
            let y = if is_first {
                let row = b.constant(row.clone());
                b.emit(Op::Broadcast, attrs! { shape: shape.clone() }, &[row])?
            } else {
                let weights = b.constant(weights.clone());
                b.emit(Op::Matmul, product.attrs.clone(), &[state, weights])?
            };
            b.output("", y);
            Ok(b.graph)
        };
        let branches = vec![branch("first", true)?, branch("later", false)?];
        self.body.set_sources(product.sources.clone());
        let none = self.body.constant(Tensor::scalar(0i64));
        let is_first = self.body.emit(Op::Equal, attrs! {}, &[round, none])?;
        let chosen = self.body.emit_node(Op::If, attrs! {}, &[Some(is_first), Some(state)], branches)?;
        self.body.graph.replace_uses(result, chosen[0]);
        Ok(true)
    }
}

/// The row of a product by weights whose other operand is zeros, as it is computed: no zeros where weights are not finite.
fn product_of_zeros(product: &Node, weights: &Tensor) -> Option<Tensor> {
    let zeros = Tensor::from_f64s(weights.dtype(), &[1, weights.shape()[0]], vec![0.0; weights.shape()[0]]);
    let operands = [Some(zeros.into()), Some(weights.clone().into())];
    let results = interp::eval_op(product.op, &product.attrs, &operands, &[]).ok()?;
    Some(results.first()?.as_tensor()?.reshaped(&[weights.shape()[1]]))
}

/// A tensor type with another one's last dim.
fn with_last(ty: &Type, of: &Type) -> Option<Type> {
    let (ty, last) = (ty.as_tensor()?, of.as_tensor()?.shape.last()?.clone());
    let mut shape = ty.shape.to_vec();
    *shape.last_mut()? = last;
    Some(Type::tensor(ty.dtype, shape))
}

/// Whether all elements of a value are known to be zero, and not negative zero.
fn is_zero(graph: &Graph, v: ValueId) -> bool {
    let zeros = |t: &Tensor| t.to_f64s().is_some_and(|all| all.iter().all(|x| x.to_bits() == 0));
    match (graph.as_const(v), graph.producer(v).map(|n| graph.node(n))) {
        (Some(t), _) => zeros(t),
        (None, Some(n)) if n.op == Op::Broadcast => graph.as_const(n.operand(0)).is_some_and(zeros),
        _ => false,
    }
}
