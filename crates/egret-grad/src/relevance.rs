//! Layer-wise relevance (Bach et al. 2015): a value is shared out among what it was computed from, node by node.
//!
//! A backward sweep like that of gradients, with shares instead of slopes. What a linear node with the result z has of relevance, R, it gives
//! to its operand x as x times the gradient rule for R / z: each product x w gets its part of the sum that z is. Where all nodes are piecewise
//! linear, this comes to x times the gradient (Ancona et al. 2018); epsilon, gamma and other activations make the difference.

use crate::emit::{Emit, Made, Refusal};
use crate::error::{GradError, Place, name_of};
use crate::reverse::{WITHIN, activity, check_real, is_real_tensor, no_path, seed};
use crate::rules::{Call, Derivative, derivative, rule};
use egret_ir::{Builder, Graph, Node, NodeId, Op, Tensor, ValueId};
use std::collections::HashMap;

/// How a linear node shares its relevance out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// Added to the size of what is divided by, so that sums near 0 have no large shares; what it takes is lost.
    pub epsilon: f64,
    /// How much more what has the sign of the result counts in matrix products and convolutions: of a positive result, with x of 0 or more, weights
    /// (and biases) are w + gamma max(w, 0); 0 is the epsilon rule.
    pub gamma: f64,
}

/// The graph that computes a value and the relevance of each of `wrt`, inputs or intermediates, to its elements. It has the inputs of
/// `graph` and `seed`, which weighs the elements, and the outputs `NAME` of the value and `relevance.NAME` of each of `wrt`.
///
/// - **Linear** nodes share out by [`Shares`]: matrix products, convolutions and products with what does not depend on `wrt`, sums, means.
///   Factors and a bias that only the result of one meets are part of it. What a bias has a share in, and what epsilon takes, goes to nobody.
/// - **Movement**, and extrema of several values: relevance goes where a gradient goes.
/// - **Activations** of one value (ReLU, tanh, sigmoid, GELU, SiLU and x times one of x) pass it on as it is.
///
/// # Errors
/// As [`crate::grad`]; [`GradError::NoRelevance`]: products and quotients of two values that depend on `wrt`, softmax, norms, other functions.
pub fn relevance(graph: &Graph, of: ValueId, shares: Shares, wrt: &[ValueId]) -> Result<Graph, GradError> {
    check_real(graph, of, wrt)?;
    if let Some(&v) = wrt.iter().find(|v| graph.as_const(**v).is_some()) {
        return Err(GradError::Request(format!(
            "`{}` is a constant: inputs and what is computed from them have relevance",
            name_of(graph, v)
        )));
    }
    let order = graph.topological().map_err(|n| GradError::Request(format!("{n} lies on a cycle")))?;
    let active = activity(graph, &order, wrt, &[]);
    let mut e = Emit { b: Builder::from_graph(graph.clone()) };
    e.b.graph.clear_outputs();
    let seed = seed(&mut e, graph, of)?;
    e.b.output(&name_of(graph, of), of);
    let whole = e.mul(of, seed).map_err(|e| GradError::Request(format!("{e:?}")))?;
    let mut sweep =
        Sweep { graph, e: &mut e, shares, active, wrt, relevances: HashMap::from([(of, whole)]) };
    let mut refused = vec![];
    for &n in order.iter().rev() {
        match sweep.node(n) {
            Ok(()) => {}
            Err(Refusal::Reason(reason)) => refused.push(Place::new(graph, n, &reason)),
            Err(Refusal::Type(t)) => {
                return Err(GradError::Rule(Place::new(graph, n, "a node that does not fit"), t));
            }
        }
    }
    if !refused.is_empty() {
        refused.reverse();
        return Err(GradError::NoRelevance(refused));
    }
    let relevances = sweep.relevances;
    for &v in wrt {
        let relevance = relevances.get(&v).copied().ok_or_else(|| no_path(graph, &order, of, v))?;
        e.b.output(&format!("relevance.{}", name_of(graph, v)), relevance);
    }
    e.b.graph.remove_dead();
    Ok(e.b.graph)
}

/// How a node passes relevance on.
enum Way {
    /// By shares of a sum.
    Linear,
    /// As a gradient goes.
    Moves,
    /// As it is, to one operand.
    Passes(usize),
    /// Not at all: the reason.
    Refused(String),
}

struct Sweep<'a> {
    graph: &'a Graph,
    e: &'a mut Emit,
    shares: Shares,
    /// By value: whether it depends on one of `wrt`.
    active: Vec<bool>,
    wrt: &'a [ValueId],
    /// By value: what has reached it so far.
    relevances: HashMap<ValueId, ValueId>,
}

impl Sweep<'_> {
    fn is_active(&self, v: ValueId) -> bool {
        self.active[v.0 as usize]
    }

    /// By operand: whether it depends on one of `wrt`.
    fn wanted(&self, node: &Node) -> Vec<bool> {
        node.operands.iter().map(|v| v.is_some_and(|v| self.is_active(v))).collect()
    }

    /// The only operand that depends on `wrt`, if it is one.
    fn only(&self, node: &Node) -> Option<usize> {
        let mut all = self.wanted(node).into_iter().enumerate().filter(|(_, w)| *w).map(|(i, _)| i);
        all.next().filter(|_| all.next().is_none())
    }

    /// Pass the relevance of a node's results on to its operands.
    fn node(&mut self, n: NodeId) -> Result<(), Refusal> {
        let node = self.graph.node(n);
        let relevances: Vec<_> = node.results.iter().map(|r| self.relevances.get(r).copied()).collect();
        let wanted = self.wanted(node);
        let ends = matches!(derivative(node.op), Derivative::Zero(_));
        if ends || relevances.iter().all(Option::is_none) || !wanted.contains(&true) {
            return Ok(());
        }
        let narrow = node.operands.iter().flatten().find(|v| self.is_active(**v) && !self.is_real(**v));
        if let Some(v) = narrow {
            return Err(Refusal::Reason(format!("relevance is not computed in {}", self.graph.ty(*v))));
        }
        self.e.b.set_sources(node.sources.clone());
        match self.way(node) {
            Way::Refused(reason) => Err(Refusal::Reason(reason)),
            Way::Moves => {
                let given = self.pulled(node, relevances, wanted)?;
                self.add(node, given)
            }
            Way::Passes(i) => {
                let mut call = Call::new(self.e, node, relevances, wanted, WITHIN);
                let relevance = call.g()?;
                call.give_summed(i, relevance)?;
                let given = call.given();
                self.add(node, given)
            }
            Way::Linear => self.linear(n),
        }
    }

    fn is_real(&self, v: ValueId) -> bool {
        is_real_tensor(self.graph.ty(v))
    }

    fn add(&mut self, node: &Node, given: Vec<Option<ValueId>>) -> Result<(), Refusal> {
        for (operand, relevance) in node.operands.iter().zip(given) {
            let (Some(v), Some(relevance)) = (operand, relevance) else { continue };
            let sum = match self.relevances.get(v) {
                Some(&before) => self.e.add(before, relevance)?,
                None => relevance,
            };
            self.relevances.insert(*v, sum);
        }
        Ok(())
    }

    /// What the gradient rule of a node gives its operands.
    fn pulled(
        &mut self,
        node: &Node,
        of: Vec<Option<ValueId>>,
        wanted: Vec<bool>,
    ) -> Result<Vec<Option<ValueId>>, Refusal> {
        let rule = rule(node.op).ok_or_else(|| Refusal::Reason("it has no derivative".into()))?;
        let mut call = Call::new(self.e, node, of, wanted, WITHIN);
        rule(&mut call)?;
        Ok(call.given())
    }

    fn way(&self, node: &Node) -> Way {
        use Op::*;
        let kind = |linear: &[&str], moves: &[&str]| match node.attrs.str("kind") {
            k if linear.contains(&k) => Way::Linear,
            k if moves.contains(&k) => Way::Moves,
            k => Way::Refused(format!("there is no relevance by `{k}`")),
        };
        let only = self.only(node);
        match node.op {
            Add | Sub | Neg | Resize => Way::Linear,
            Matmul | Conv | ConvTranspose | Rotary | Mul if only.is_some() => Way::Linear,
            Mul if let Some(i) = self.gated(node) => Way::Passes(i),
            Div if only == Some(0) => Way::Linear,
            Div => Way::Refused("it divides by what depends on the inputs".into()),
            Matmul | Conv | ConvTranspose | Rotary | Mul => {
                Way::Refused("both its operands depend on the inputs".into())
            }
            Reduce => kind(&["sum"], &["max", "min"]),
            Pool => kind(&["sum", "mean"], &["max"]),
            Cumulative => kind(&["sum"], &[]),
            ScatterElements | ScatterNd => match node.attrs.str("reduction") {
                "none" => Way::Moves,
                "add" => Way::Linear,
                other => Way::Refused(format!("there is no relevance by `{other}`")),
            },
            Cast | Reshape | Broadcast | Transpose | Slice | Pad | Dilate | Concat | Gather
            | GatherElements | GatherNd | ReverseSequence | Compress | TopK | MaxPoolIndices | Where => {
                Way::Moves
            }
            Max | Min => only.map_or(Way::Moves, Way::Passes),
            Tanh | Sigmoid | Erf | Gelu | Silu | HardSwish | Softplus => Way::Passes(0),
            Softmax | LayerNorm | RmsNorm => {
                Way::Refused("it divides by what depends on the inputs".into())
            }
            _ => Way::Refused("it is no sum of shares".into()),
        }
    }

    /// Where a product is x (or a multiple of it) times a limited function of x, as SiLU and GELU are spelt: the operand that is x.
    fn gated(&self, node: &Node) -> Option<usize> {
        use Op::*;
        (0..2).find(|&i| {
            let scaled = self.line(node.operand(i), &[Mul, Div]);
            let gate = self
                .line(node.operand(1 - i), &[Mul, Div, Add, Sub, Max, Min, Tanh, Sigmoid, Erf, Softplus]);
            let limited = gate.iter().skip_while(|(op, _)| !matches!(op, Min | Tanh | Sigmoid | Erf));
            let is_x = |v: ValueId| v == node.operand(i) || scaled.iter().any(|(_, s)| *s == v);
            limited.clone().any(|(_, v)| is_x(*v))
        })
    }

    /// From a value back, nodes of some operations that have one operand that depends on `wrt`: with that operand.
    fn line(&self, mut v: ValueId, of: &[Op]) -> Vec<(Op, ValueId)> {
        let mut line = vec![];
        while let Some(node) =
            self.graph.producer(v).map(|n| self.graph.node(n)).filter(|n| of.contains(&n.op))
            && let Some(i) = self.only(node).filter(|i| *i == 0 || node.op != Op::Div)
        {
            v = node.operand(i);
            line.push((node.op, v));
        }
        line
    }

    /// A linear node, with those before whose results it alone scales and shifts: as one.
    fn linear(&mut self, n: NodeId) -> Result<(), Refusal> {
        let chain = self.chain(n);
        let first = self.graph.node(*chain.last().expect("the node itself"));
        let relevance = self.relevances[&self.graph.node(n).results[0]];
        let weighted = matches!(first.op, Op::Matmul | Op::Conv | Op::ConvTranspose);
        if let Some(i) = self.only(first).filter(|_| weighted && self.shares.gamma != 0.0) {
            let mut given = vec![None; first.operands.len()];
            given[i] = Some(self.favoured(&chain, first.operand(i), i, relevance)?);
            return self.add(first, given);
        }
        let nodes: Vec<Node> = chain.iter().map(|&n| self.graph.node(n).clone()).collect();
        let share = self.over(relevance, nodes[0].results[0])?;
        let mut given = self.through(&nodes, &chain, share)?;
        for (i, share) in given.iter_mut().enumerate() {
            if let Some(share) = share {
                *share = self.e.mul(first.operand(i), *share)?;
            }
        }
        self.add(first, given)
    }

    /// What the gradient rules of nodes that stand for those of a chain give the operands of the last.
    fn through(
        &mut self,
        nodes: &[Node],
        chain: &[NodeId],
        mut share: ValueId,
    ) -> Result<Vec<Option<ValueId>>, Refusal> {
        let mut given = vec![];
        for (node, &own) in nodes.iter().zip(chain) {
            let wanted = self.wanted(self.graph.node(own));
            given = self.pulled(node, vec![Some(share)], wanted)?;
            share = given.iter().copied().flatten().next().unwrap_or(share);
        }
        Ok(given)
    }

    /// The relevance of x, operand `i` of the last of a chain, by the gamma rule: where the result is positive, positive products count more,
    /// where it is negative, negative ones, so that nothing cancels that did not before (Andéol et al. 2021).
    fn favoured(&mut self, chain: &[NodeId], x: ValueId, i: usize, relevance: ValueId) -> Made {
        let z = self.graph.node(chain[0]).results[0];
        let zero = self.e.scalar(self.e.dtype(z), 0.0)?;
        let below = self.e.binary(Op::Less, z, zero)?;
        let (up, down) = (self.e.with(Op::Max, x, 0.0)?, self.e.with(Op::Min, x, 0.0)?);
        let mut terms = vec![];
        for (same, other) in [(Op::Max, Op::Min), (Op::Min, Op::Max)] {
            // A product with what is negative has the other sign than the weight.
            let of_up = self.again(chain, up, same, true)?;
            let of_down = self.again(chain, down, other, false)?;
            let z = self.e.add(of_up[0].results[0], of_down[0].results[0])?;
            let share = self.over(relevance, z)?;
            let share =
                if same == Op::Min { self.e.only(below, share)? } else { self.e.unless(below, share)? };
            for (x, nodes) in [(up, of_up), (down, of_down)] {
                let given = self.through(&nodes, chain, share)?;
                let share = given[i].ok_or_else(|| Refusal::Reason("its rule gives no share".into()))?;
                terms.push(self.e.mul(x, share)?);
            }
        }
        let mut sum = terms[0];
        for &term in &terms[1..] {
            sum = self.e.add(sum, term)?;
        }
        Ok(sum)
    }

    /// A linear node, the one whose result it scales or shifts, and so on. With gamma only factors of 0 or more: they leave signs as they are.
    fn chain(&self, n: NodeId) -> Vec<NodeId> {
        let mut chain = vec![n];
        let mut node = self.graph.node(n);
        while let Some(i) = self.only(node) {
            let scales = |other: usize| {
                let factor = self.graph.as_const(node.operand(other));
                self.shares.gamma == 0.0
                    || factor.and_then(Tensor::to_f64s).is_some_and(|f| f.iter().all(|f| *f >= 0.0))
            };
            let joins = match node.op {
                Op::Add => true,
                Op::Mul | Op::Div => scales(1 - i),
                _ => false,
            };
            let v = node.operand(i);
            let Some(before) = self.graph.producer(v).filter(|_| joins && !self.wrt.contains(&v)) else {
                break;
            };
            if self.graph.users(v).len() > 1 || !matches!(self.way(self.graph.node(before)), Way::Linear) {
                break;
            }
            chain.push(before);
            node = self.graph.node(before);
        }
        chain
    }

    /// The nodes of a chain once more, of another x, with the weights of a sign (`max` or `min` with 0) counting more, and such biases or none.
    fn again(
        &mut self,
        chain: &[NodeId],
        x: ValueId,
        sign: Op,
        biased: bool,
    ) -> Result<Vec<Node>, Refusal> {
        let mut nodes: Vec<Node> = vec![];
        for &n in chain.iter().rev() {
            let mut node = self.graph.node(n).clone();
            let wanted = self.wanted(&node);
            for (operand, wanted) in node.operands.iter_mut().zip(wanted) {
                let Some(v) = operand else { continue };
                *v = match node.op {
                    _ if wanted => nodes.last().map_or(x, |before| before.results[0]),
                    Op::Mul | Op::Div => *v,
                    Op::Add if !biased => self.e.with(Op::Mul, *v, 0.0)?,
                    _ => self.favour(*v, sign)?,
                };
            }
            node.results = self.e.b.emit_node(node.op, node.attrs.clone(), &node.operands, vec![])?;
            nodes.push(node);
        }
        nodes.reverse();
        Ok(nodes)
    }

    /// w + gamma max(w, 0), or min.
    fn favour(&mut self, w: ValueId, sign: Op) -> Made {
        let part = self.e.with(sign, w, 0.0)?;
        let more = self.e.with(Op::Mul, part, self.shares.gamma)?;
        self.e.add(w, more)
    }

    /// R / (z + epsilon), epsilon having the sign of z.
    fn over(&mut self, relevance: ValueId, z: ValueId) -> Made {
        let e = &mut *self.e;
        let dtype = e.dtype(z);
        let (up, down) = (e.scalar(dtype, self.shares.epsilon)?, e.scalar(dtype, -self.shares.epsilon)?);
        let zero = e.scalar(dtype, 0.0)?;
        let below = e.binary(Op::Less, z, zero)?;
        let epsilon = e.select(below, down, up)?;
        let z = e.add(z, epsilon)?;
        e.div(relevance, z)
    }
}
