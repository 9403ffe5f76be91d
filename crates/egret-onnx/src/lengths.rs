//! Dims that a model computes from data: each is the number of elements of a `range`, a dim of the graph that only a run knows.

use crate::context::{Element, NodeCtx};
use crate::error::ImportError;
use egret_ir::{AT_MOST, Attr, Attrs, DType, Dim, DimOp, Graph, Node, Op, ValueId, attrs, symbolic};
use std::collections::BTreeSet;

/// Sums and products are followed through so many operations at most; what is behind them is computed by the run.
const DEPTH: usize = 5;

impl NodeCtx<'_> {
    /// The dims in an integer tensor of rank 0 or 1: symbolic where dims of inputs decide them, and where only a run does (see
    /// `is_computed`) those of ranges. A run in which such a number is below 0 fails.
    ///
    /// # Errors
    /// They must be known before a run, and are not.
    pub fn need_dims(&mut self, value: ValueId, what: &str) -> Result<Vec<Dim>, ImportError> {
        self.dims_within(value, what, None)
    }

    /// As [`NodeCtx::need_dims`], of which none may be more than `most`.
    pub fn dims_within(
        &mut self,
        value: ValueId,
        what: &str,
        most: Option<&Dim>,
    ) -> Result<Vec<Dim>, ImportError> {
        if self.builder.known_dims(value).is_some() || !self.is_computed(value) {
            return self.told_dims(value, what);
        }
        let ty = self.tensor(value)?;
        let fits = ty.dtype.is_int() && ty.rank() <= 1;
        let Some(count) = ty.const_len().filter(|_| fits) else { return self.told_dims(value, what) };
        (0..count).map(|i| self.element(value, i, most)).collect()
    }

    /// Whether dims are made of a value that is not known before a run: where binding an input would fix the network's own results, where there is
    /// nothing to bind, and where whoever imports the model wants nothing bound.
    pub(crate) fn is_computed(&self, value: ValueId) -> bool {
        self.builder.known_elements(value).is_none()
            && self.builder.graph.as_const(value).is_none()
            && (self.lengths_anywhere
                || self.only_at_run_time(value)
                || predicted(&self.builder.graph, value))
    }

    /// Whether elements of what dims are made of are those of an input of the model, which a run gives: they may be any numbers.
    pub(crate) fn is_given_by_a_run(&self, value: ValueId) -> bool {
        let ty = self.tensor(value).ok();
        let len = ty.filter(|t| t.dtype.is_int() && t.rank() == 1).and_then(|t| t.const_len());
        let is_input = |i: usize| {
            let (from, at) = self.origin(value, i);
            self.known_element(from, at, DEPTH).is_none() && self.producer(from).is_none()
        };
        self.is_computed(value) && len.is_some_and(|len| (0..len).any(is_input))
    }

    /// One element as a dim: that of the number which it is, or which it is made of where that is a dim already.
    fn element(&mut self, value: ValueId, i: usize, most: Option<&Dim>) -> Result<Dim, ImportError> {
        if let Some(known) = self.known_element(value, i, DEPTH) {
            return Ok(known);
        }
        let at = self.origin(value, i);
        let dim = self.counted(at.0, at.1, most)?;
        self.lengths.made.insert(at, dim.clone());
        Ok(dim)
    }

    /// One element that is a dim, as [`NodeCtx::need_dims`] has it.
    pub(crate) fn dim_of(&mut self, value: ValueId, i: usize) -> Result<Dim, ImportError> {
        self.element(value, i, None)
    }

    /// Whether an element is no dim that is known, and nothing says that it is 0 or more.
    pub(crate) fn may_be_below_zero(&self, value: ValueId, i: usize) -> bool {
        if self.known_element(value, i, DEPTH).is_some() {
            return false;
        }
        let (value, _) = self.origin(value, i);
        let at_least_zero = |v: &ValueId| {
            let constant = self.builder.graph.as_const(*v);
            constant.is_some_and(|t| t.to_i64s().is_some_and(|n| n.iter().all(|&n| n >= 0)))
        };
        let max = self.producer(value).filter(|node| node.op == Op::Max);
        !max.is_some_and(|node| node.operands.iter().flatten().any(at_least_zero))
    }

    /// Where an element comes from that only moves.
    pub(crate) fn origin(&self, value: ValueId, i: usize) -> Element {
        let known = |v: ValueId| self.builder.known_elements(v);
        let mut at = (value, i);
        while known(at.0).is_none() {
            let Some(from) = moved(&self.builder.graph, &known, at.0, at.1) else { break };
            at = from;
        }
        at
    }

    /// An element whose dim is known, or follows from dims that were made before: sums, products and quotients of i64, which do not wrap as narrower
    /// ones do. What was not taken for a dim itself may be below 0, and is not made one for what is made of it.
    fn known_element(&self, value: ValueId, i: usize, depth: usize) -> Option<Dim> {
        let (value, i) = self.origin(value, i);
        if let Some(known) = self.builder.known_elements(value) {
            return known.get(if known.len() == 1 { 0 } else { i }).cloned();
        }
        if let Some(made) = self.lengths.made.get(&(value, i)) {
            return Some(made.clone());
        }
        let node = self.producer(value)?;
        let [Some(a), Some(b)] = node.operands[..] else { return None };
        if self.dtype(value).ok()? != DType::I64 {
            return None;
        }
        let left = depth.checked_sub(1)?;
        let one = |v: ValueId| self.known_element(v, self.aligned(v, value, i)?, left);
        if !matches!(node.op, Op::Add | Op::Sub | Op::Mul | Op::Div) {
            return None;
        }
        let (x, y) = (one(a)?, one(b)?);
        let never_below = |d: &Dim| d.at_least().is_some_and(|least| least >= 0);
        // What falls where data gives more has no most that room could be made for; quotients are as truncated where neither is below 0.
        let dim = match node.op {
            Op::Add => x + y,
            Op::Sub if self.is_told(&y) => x - y,
            Op::Mul if never_below(&x) && never_below(&y) => x * y,
            Op::Div if never_below(&x) && y.as_const().is_some_and(|y| y > 0) => x.op(DimOp::FloorDiv, &y),
            _ => return None,
        };
        Some(dim).filter(|d| !d.is_saturated())
    }

    /// Whether the dims of the inputs tell a dim, those of graphs around too, whatever of them is captured so far.
    pub(crate) fn is_told(&self, dim: &Dim) -> bool {
        let mut symbols = vec![];
        dim.collect_symbols(&mut symbols);
        let free = self.builder.graph.free_dims();
        let told = |s: &String| free.contains(s) || self.lengths.told.contains(s);
        symbols.iter().all(|s| told(s) && !self.lengths.around.contains(s))
    }

    /// An element as the number of a range.
    fn counted(&mut self, value: ValueId, i: usize, most: Option<&Dim>) -> Result<Dim, ImportError> {
        let said =
            self.limit(value, i).into_iter().chain(most.cloned()).reduce(|a, b| a.op(DimOp::Min, &b));
        let one = self.one_of(value, i)?;
        let range = self.range(one, said)?;
        Ok(self.shape_of(range)?[0].clone())
    }

    /// The numbers below a scalar, which is `most` at most where that is said.
    pub(crate) fn range(&mut self, below: ValueId, most: Option<Dim>) -> Result<ValueId, ImportError> {
        let below = self.cast(below, DType::I64)?;
        let range = self.emit(Op::Range, Attrs::default(), &[below])?;
        if let (Some(most), Some(node)) = (most, self.builder.graph.producer(range)) {
            self.builder.graph.node_mut(node).attrs.0.insert(AT_MOST, Attr::Dims(vec![most]));
        }
        Ok(range)
    }

    /// What an element is at most, as a minimum of it and what is known says.
    pub(crate) fn limit(&self, value: ValueId, i: usize) -> Option<Dim> {
        let known = |v: ValueId| self.builder.known_elements(v);
        let (mut value, mut i, mut least) = (value, i, 0);
        loop {
            if let Some((from, at)) = moved(&self.builder.graph, &known, value, i) {
                (value, i) = (from, at);
                continue;
            }
            let node = self.producer(value)?;
            let [Some(a), Some(b)] = node.operands[..] else { return None };
            let (open, told, dims) = match (known(a), known(b)) {
                (None, Some(dims)) => (a, b, dims),
                (Some(dims), None) => (b, a, dims),
                _ => return None,
            };
            let dim = dims.get(self.aligned(told, value, i)?)?.clone();
            match node.op {
                Op::Min => return Some(dim.op(DimOp::Max, &Dim::constant(least))),
                // At least that much, whatever limits the other one.
                Op::Max => least = least.max(dim.as_const()?),
                _ => return None,
            }
            (value, i) = (open, self.aligned(open, value, i)?);
        }
    }

    /// The number that element `i` of `to` has in a value that is broadcast to it.
    fn aligned(&self, from: ValueId, to: ValueId, i: usize) -> Option<usize> {
        symbolic::broadcast_source(&self.tensor(from).ok()?.shape, &self.tensor(to).ok()?.shape, i)
    }

    /// Element `i` of a value as a scalar.
    fn one_of(&mut self, value: ValueId, i: usize) -> Result<ValueId, ImportError> {
        let ty = self.tensor(value)?;
        if ty.rank() == 0 {
            return Ok(value);
        }
        let at = symbolic::coordinates(i, &ty.shape)
            .ok_or_else(|| ImportError::invalid(format!("{ty} has no element {i}")))?;
        let starts = at.into_iter().map(Dim::from).collect();
        let (sizes, steps) = (vec![Dim::constant(1); ty.rank()], vec![1i64; ty.rank()]);
        let one = self.emit(
            Op::Slice,
            attrs! { starts: Attr::Dims(starts), sizes: sizes, steps: steps },
            &[value],
        )?;
        self.single(one)
    }

    fn producer(&self, value: ValueId) -> Option<Node> {
        Some(self.builder.graph.node(self.builder.graph.producer(value)?).clone())
    }
}

/// The element of another value that an element of an integer tensor is, where the node only moves it.
fn moved(
    graph: &Graph,
    known: &dyn Fn(ValueId) -> Option<Vec<Dim>>,
    value: ValueId,
    i: usize,
) -> Option<Element> {
    let node = graph.node(graph.producer(value)?);
    let to = graph.ty(value).as_tensor()?.dtype;
    let int = |v: ValueId| graph.ty(v).as_tensor().map(|t| t.dtype).filter(|d| d.is_int());
    match node.op {
        // What is narrower may be another number.
        Op::Cast => {
            let first = node.operand(0);
            let same = |of: &DType| to == DType::I64 || to == *of;
            int(first).filter(same).map(|_| (first, i))
        }
        _ => symbolic::source(graph, node, i, known).filter(|(from, _)| int(*from).is_some()),
    }
}

/// Whether a value comes out of the network's own arithmetic, a sum of products at least: then binding an input, which would fix
/// it, would fix the network's result too.
fn predicted(graph: &Graph, value: ValueId) -> bool {
    let (mut seen, mut work) = (BTreeSet::new(), vec![value]);
    while let Some(node) = work.pop().and_then(|v| graph.producer(v)) {
        if !seen.insert(node) {
            continue;
        }
        let node = graph.node(node);
        if matches!(node.op, Op::Matmul | Op::Conv | Op::ConvTranspose | Op::Lstm | Op::Gru | Op::Rnn) {
            return true;
        }
        work.extend(node.operands.iter().flatten().filter(|v| graph.producer(**v).is_some()));
    }
    false
}
