//! Free dims: values as units that do not depend on one another.
//!
//! A dim that a model leaves free is known when a run begins. Kernels are written for dims that are known when the model is compiled;
//! so a value whose first dim (of those that are not 1) is free is taken to be so many *units*, each of constant dims, one behind the other
//! in memory: `f32[N, 3, 224, 224]` is N units of `f32[3, 224, 224]`, and `f32[N*196, 768]` N units of `f32[196, 768]`. Where every
//! unit of a node's results depends on the same unit of its operands alone, the node's kernels for one unit, with all free dims
//! set to 1, run N times. This file finds whether that holds of every node of a graph ([`plan`]); one of which it does not is refused.
//!
//! A dim that data decides, such as how many elements are not 0, is free in the same way: it is known when the node that finds it has run
//! (a *length*), and until then there is room for the most that it can be.
//!
//! A value is *uniform* if its dims are free and it has the same elements in every unit (a class token that is broadcast to the batch): it is
//! kept once.

use crate::error::Refusal;
use crate::geometry::access::Views;
use crate::geometry::shape::volume;
use crate::plan::bounds::Lengths;
use crate::plan::lengths;
use egret_ir::{Attr, Dim, Graph, Node, NodeId, Op, TensorType, ValueId, advice, geometry};
use egret_loop::Symbol;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many units a value is: the product of these factors, by their numbers, sorted.
pub type Count = Vec<usize>;

/// The units of a graph's values.
#[derive(Clone, Debug)]
pub struct Units {
    /// The free dims that inputs tell.
    pub symbols: Vec<Symbol>,
    /// Those that data decides.
    pub lengths: Lengths,
    /// What dims are products of, numbered by [`Count`]s: both kinds of free dims, one after the other, and then sums and quotients of
    /// them (`past + seq`).
    factors: Vec<Dim>,
    /// The graph with its free dims.
    pub graph: Arc<Graph>,
    /// Values that are kept in units, and how many.
    counts: BTreeMap<ValueId, Count>,
    /// Nodes that do not go through their values unit by unit; they have kernels of their own (`kernels/open`).
    open: BTreeSet<NodeId>,
    /// What kernels with free dims read where it stands in other values.
    pub views: Views,
    /// What they write where it stands in other values.
    pub written: Views,
    /// Axes of windows, of how many elements, and at how many positions windows are: what runs are held to.
    pub windows: Vec<(geometry::Axis, [Dim; 2])>,
}

impl Units {
    /// How many units a value is kept in; nothing where it is kept once.
    pub fn of(&self, v: ValueId) -> Option<&Count> {
        self.counts.get(&v)
    }

    /// Whether a node has a kernel with free dims.
    pub fn is_open(&self, n: NodeId) -> bool {
        self.open.contains(&n)
    }

    /// The graph of so many units: of the first factor of the count so many, of all others one.
    pub fn graph_of(&self, count: &Count, step: i64) -> Graph {
        let of = |d: &Dim| match self.product(d) {
            Some((c, factors)) => {
                let of_step = factors.iter().filter(|f| Some(*f) == count.first());
                of_step.fold(Dim::constant(c), |n, _| n * Dim::constant(step))
            }
            None => d.clone(),
        };
        let mut graph = Graph::clone(&self.graph);
        graph.clear_conditions();
        graph.map_dims(&of);
        for &n in &self.open {
            let node = graph.node_mut(n);
            (node.op, node.attrs, node.regions) = (STAND_IN, Default::default(), vec![]);
        }
        graph
    }

    /// Leaves these nodes to kernels with free dims, too.
    pub fn open(&mut self, nodes: Vec<NodeId>) {
        self.open.extend(nodes);
    }

    /// Whether all nodes go through their values unit by unit.
    pub fn all_closed(&self) -> bool {
        self.open.is_empty()
    }

    /// The dims of a value.
    pub fn dims(&self, v: ValueId) -> &[Dim] {
        self.graph.ty(v).as_tensor().map_or(&[], |t| &t.shape[..])
    }

    /// The dims that a value is stored with: those along which it is the same in every unit are 1.
    pub fn stored(&self, v: ValueId) -> Vec<Dim> {
        let once = self.of(v).is_none();
        let one = |d: &Dim| match self.product(d) {
            Some((c, _)) if once => Dim::constant(c),
            _ => d.clone(),
        };
        self.dims(v).iter().map(one).collect()
    }

    /// A dim as a constant and symbols that it is the product of.
    pub fn product(&self, dim: &Dim) -> Option<(i64, Count)> {
        product(&self.factors, dim)
    }

    /// How many units a value of these dims is.
    pub fn count(&self, dims: &[Dim]) -> Option<Count> {
        count(&self.factors, dims)
    }

    /// The factor of a number of a [`Count`].
    pub fn factor(&self, number: usize) -> &Dim {
        &self.factors[number]
    }

    /// As [`Lengths::most`].
    pub fn most(&self, dim: &Dim) -> Dim {
        self.lengths.most(dim)
    }

    /// As [`Lengths::is_decided`].
    pub fn is_decided(&self, dims: &[Dim]) -> bool {
        self.lengths.is_decided(dims)
    }

    /// Takes note of the sums and quotients that a dim is a product of.
    fn note_factors(&mut self, dim: &Dim) {
        let Some((_, factors)) = dim.as_factors() else { return };
        for factor in factors {
            if factor.as_symbol().is_some() || self.factors.contains(&factor) {
                continue;
            }
            let mut names = vec![];
            factor.collect_symbols(&mut names);
            let known = names.iter().all(|name| self.factors.contains(&Dim::symbol(name)));
            if known && self.lengths.is_bounded(&factor) {
                self.factors.push(factor);
            }
        }
    }
}

fn product(known: &[Dim], dim: &Dim) -> Option<(i64, Count)> {
    let (coefficient, factors) = dim.as_factors()?;
    let number = |factor: Dim| known.iter().position(|f| *f == factor);
    Some((coefficient, factors.into_iter().map(number).collect::<Option<_>>()?))
}

/// The free dims of a shape multiplied; nothing where one is no product of them.
fn count(known: &[Dim], dims: &[Dim]) -> Option<Count> {
    let mut all = vec![];
    for dim in dims {
        let (coefficient, count) = product(known, dim)?;
        if coefficient < 0 || coefficient == 0 && !count.is_empty() {
            return None;
        }
        all.extend(count);
    }
    all.sort_unstable();
    Some(all)
}

/// What a value's free dims are.
#[derive(Clone, Debug, PartialEq)]
enum Form {
    /// None.
    Fixed,
    /// The first ones, along these axes: it is units one behind the other.
    Units(Vec<usize>, Count),
    /// Some others.
    Open(Count),
}

/// The units of a graph whose inputs have free dims; nothing where no dim is free. The dims of a sub-graph (`within` another one) are made of
/// those that the graph `around` it knows, if it knows any.
///
/// # Errors
/// Inputs and nodes that have neither units nor a kernel with free dims.
pub fn plan(
    graph: &Graph,
    within: bool,
    around: Option<&Units>,
    takes: Takes,
) -> Result<Option<Units>, Vec<Refusal>> {
    let is_free = match around {
        Some(_) => !graph.all_symbols().is_empty(),
        None => !graph.free_dims().is_empty() || !graph.declarations().is_empty(),
    };
    if !is_free {
        return Ok(None);
    }
    let symbols = around.map_or_else(|| symbols(graph), |u| Ok(u.symbols.clone()))?;
    let free: Vec<String> = symbols.iter().map(|s| s.name.clone()).collect();
    let mut lengths = around.map_or_else(Lengths::default, |u| u.lengths.clone());
    lengths.0.iter_mut().for_each(|l| l.found_by = None);
    lengths::find(graph, &mut lengths);
    let names: Vec<String> = free.iter().chain(lengths.0.iter().map(|l| &l.name)).cloned().collect();
    let mut units = Units {
        factors: names.iter().map(|name| Dim::symbol(name)).collect(),
        symbols,
        lengths,
        graph: Arc::new(graph.clone()),
        counts: BTreeMap::new(),
        open: BTreeSet::new(),
        views: Views::new(),
        written: Views::new(),
        windows: vec![],
    };
    for v in graph.value_ids() {
        let shape = graph.ty(v).as_tensor().map_or(vec![], |t| t.shape.to_vec());
        shape.iter().for_each(|d| units.note_factors(d));
    }
    let mut planner = Planner { graph, within, free: &free, names: &names, takes, units };
    let mut refusals = vec![];
    for &v in graph.inputs() {
        let Some(ty) = graph.ty(v).as_tensor() else { continue };
        match planner.form(ty) {
            Ok(Form::Units(_, count) | Form::Open(count)) => {
                planner.units.counts.insert(v, count);
            }
            Ok(Form::Fixed) => {}
            Err(reason) => {
                refusals.push(Refusal::of_graph(format!("input `{}`: {reason}", graph.value(v).name)));
            }
        }
    }
    for id in graph.topological().unwrap_or_default() {
        if let Err(reason) = planner.node(id) {
            refusals.push(Refusal::of_node(graph, id, reason));
        }
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    Ok(Some(planner.units))
}

/// The free dims of a graph, and the inputs that tell them.
fn symbols(graph: &Graph) -> Result<Vec<Symbol>, Vec<Refusal>> {
    let place = |name: String| {
        let place = graph.inputs().iter().enumerate().find_map(|(input, &v)| {
            let shape = &graph.ty(v).as_tensor()?.shape;
            Some((input, shape.iter().position(|d| d.as_symbol() == Some(&name))?))
        });
        let Some((input, axis)) = place else {
            let reason = format!("no input has the dim `{name}` itself: {}", advice::dims([&name]));
            return Err(vec![Refusal::of_graph(reason)]);
        };
        Ok(Symbol { name, input, axis })
    };
    graph.free_dims().into_iter().map(place).collect()
}

/// What nodes with kernels of their own are in the graph of one unit: an operation that shares neither kernels nor memory.
const STAND_IN: Op = Op::Det;

/// Whether a node has a kernel with free dims.
pub type Takes = fn(&Graph, NodeId) -> bool;

struct Planner<'g> {
    graph: &'g Graph,
    /// Whether it is a sub-graph.
    within: bool,
    /// The dims that inputs tell: what a user may give a value.
    free: &'g [String],
    /// Those, and those that data decides.
    names: &'g [String],
    takes: Takes,
    units: Units,
}

impl Planner<'_> {
    fn form(&self, ty: &TensorType) -> Result<Form, String> {
        if ty.const_dims().is_some() {
            return Ok(Form::Fixed);
        }
        let Some(count) = self.units.count(&ty.shape) else {
            return Err(format!(
                "has the shape {ty}, and compiled code has no value for its dims: {}",
                advice::to_have_room(&ty.shape[..], self.graph, self.within, self.free)
            ));
        };
        let free = |d: &Dim| d.as_const().is_none();
        let last = ty.shape.iter().rposition(free).unwrap_or(0);
        // Before the last free dim there are free dims and ones: what is behind it is a unit.
        let whole = |d: &Dim| self.units.product(d).is_some_and(|(c, _)| c == 1);
        Ok(match ty.shape[..last].iter().all(whole) {
            true => Form::Units((0..=last).filter(|&a| free(&ty.shape[a])).collect(), count),
            false => Form::Open(count),
        })
    }

    fn form_of(&self, v: ValueId) -> Result<Form, String> {
        self.graph.ty(v).as_tensor().map_or(Ok(Form::Fixed), |ty| self.form(ty))
    }

    fn shape(&self, v: ValueId) -> &[Dim] {
        self.graph.ty(v).as_tensor().map_or(&[], |t| &t.shape[..])
    }

    /// The axes of a value's units.
    fn axes(&self, v: ValueId) -> Vec<usize> {
        match self.form_of(v) {
            Ok(Form::Units(axes, _)) => axes,
            _ => vec![],
        }
    }

    /// Finds the units of a node's results.
    fn node(&mut self, id: NodeId) -> Result<(), String> {
        let node = self.graph.node(id);
        let operands: Vec<ValueId> = node.operands.iter().flatten().copied().collect();
        let mut forms = vec![];
        for &v in &operands {
            // Its producer is named already.
            let Ok(form) = self.form_of(v) else { return Ok(()) };
            forms.push(form);
        }
        let results = node.results.iter().map(|&v| self.form_of(v)).collect::<Result<Vec<_>, _>>()?;
        if forms.iter().chain(&results).all(|f| *f == Form::Fixed) && !self.counts_units(node) {
            return Ok(());
        }
        let varies = operands.iter().any(|v| self.units.counts.contains_key(v));
        // What is the same in every unit is not the same along a dim that no longer counts units.
        let units = varies || !matches!(results.first(), Some(Form::Open(_)));
        if node.op == Op::Reshape
            && units
            && volume(self.shape(node.operand(0))) == volume(self.shape(node.results[0]))
        {
            // The same elements in the same order, whatever the dims are called.
            if let (true, Some(count)) = (varies, self.units.count(self.shape(node.results[0]))) {
                self.units.counts.insert(node.results[0], count);
            }
            return Ok(());
        }
        if self.by_units(node, &forms, &results) {
            // Where all operands are the same in every unit, so are the results.
            if varies {
                let counts = node.results.iter().zip(results).filter_map(|(&v, form)| match form {
                    Form::Units(_, count) => Some((v, count)),
                    _ => None,
                });
                self.units.counts.extend(counts);
            }
            return Ok(());
        }
        if (self.takes)(self.graph, id) {
            let counts = node.results.iter().zip(results).filter_map(|(&v, form)| match form {
                Form::Units(_, count) | Form::Open(count) => Some((v, count)),
                Form::Fixed => None,
            });
            self.units.counts.extend(counts);
            self.units.open.insert(id);
            return Ok(());
        }
        let dims = operands.iter().chain(&node.results).flat_map(|&v| self.shape(v));
        Err(format!(
            "does not go through its free dims one after the other, and has no kernel for others: {}",
            advice::to_be_constant(dims, self.free)
        ))
    }

    /// Whether a node goes through its values unit by unit.
    fn by_units(&self, node: &Node, operands: &[Form], results: &[Form]) -> bool {
        let Some(Form::Units(axes, count)) = results.first() else { return false };
        let same = |f: &Form| matches!(f, Form::Units(a, c) if a == axes && c == count);
        let fits = |f: &Form| match f {
            Form::Fixed => true,
            Form::Units(_, c) => c == count,
            Form::Open(_) => false,
        };
        results.iter().all(same)
            && !self.counts_units(node)
            && operands.iter().all(fits)
            && axes.iter().all(|&axis| self.independent(node, axis))
    }

    /// Whether something of a node holds a free dim beside the dims of its results: a kernel for one unit would take it to be 1.
    fn counts_units(&self, node: &Node) -> bool {
        let open = |attr: &Attr| match attr {
            Attr::Dim(d) => d.as_const().is_none(),
            Attr::Dims(dims) => dims.iter().any(|d| d.as_const().is_none()),
            _ => false,
        };
        // `shape` and `sizes` are the dims of the result.
        let mut names =
            node.op.info().attrs.iter().map(|a| a.name).filter(|n| !["shape", "sizes"].contains(n));
        let inside = |g: &Graph| g.free_symbols().iter().any(|s| self.names.contains(s));
        names.any(|name| node.attrs.get(name).is_some_and(open)) || node.regions.iter().any(inside)
    }

    /// Whether a unit of a node's results, which lie along `axis`, depends on the same unit of its operands alone.
    fn independent(&self, node: &Node, axis: usize) -> bool {
        let result = self.shape(node.results[0]);
        let fixed = |v: ValueId| self.axes(v).is_empty();
        let along = |v: ValueId, axis: usize| self.axes(v).contains(&axis);
        // Operands are found in a result's axes, aligned at the last: as many along `axis`, or one for all.
        let aligned = |v: ValueId| {
            let shape = self.shape(v);
            match (axis + shape.len()).checked_sub(result.len()) {
                Some(at) => shape[at] == result[axis] || shape[at].as_const() == Some(1) && fixed(v),
                None => fixed(v),
            }
        };
        // The first operand has its units along the same axis as the result, and all others are the same for every unit.
        let alone = |others: &[Option<ValueId>]| {
            let x = node.operand(0);
            along(x, axis)
                && self.shape(x).get(axis) == result.get(axis)
                && others.iter().flatten().all(|&v| fixed(v))
        };
        let rest = node.operands.get(1..).unwrap_or_default();
        // An operand has as many units as the result, along the same axis.
        let same = |v: ValueId| along(v, axis) && self.shape(v)[axis] == result[axis];
        // The axis of the first operand that becomes this one: as many of its free dims are before it.
        let place = self.axes(node.results[0]).iter().position(|&a| a == axis);
        let from = || self.axes(node.operand(0)).get(place?).copied();
        match node.op {
            Op::BitCast | Op::LabelEncode => alone(rest),
            op if op.is_elementwise() => node.operands.iter().flatten().all(|&v| aligned(v)),
            Op::Broadcast | Op::Rotary => node.operands.iter().flatten().all(|&v| aligned(v)),
            Op::Transpose => {
                let from = from();
                from.is_some() && node.attrs.indices("perm").get(axis).copied() == from
            }
            Op::Slice => {
                alone(rest)
                    && node.attrs.dims("starts")[axis].as_const() == Some(0)
                    && node.attrs.ints("steps")[axis] == 1
            }
            Op::Pad => {
                let none = |name: &str| node.attrs.dims(name)[axis].as_const() == Some(0);
                alone(rest) && none("low") && none("high")
            }
            Op::Dilate => alone(rest) && node.attrs.ints("factors")[axis] == 1,
            Op::Concat => {
                node.attrs.index("axis") != axis
                    && node.operands.iter().flatten().all(|&v| self.shape(v)[axis] == result[axis])
            }
            Op::Softmax | Op::Cumulative | Op::TopK => alone(rest) && node.attrs.index("axis") != axis,
            Op::LayerNorm | Op::RmsNorm => alone(rest) && node.attrs.index("axis") > axis,
            // What is left out before the units has one element.
            Op::Reduce => from().is_some_and(|a| !node.attrs.indices("axes").contains(&a)),
            Op::ArgReduce => from().is_some_and(|a| node.attrs.index("axis") != a),
            Op::Matmul => self.product(node, axis),
            // A dim of the weights is not free, and of the others only the batch is gone through.
            Op::Conv | Op::ConvTranspose | Op::Pool | Op::Col2im => axis == 0 && alone(rest),
            Op::Resize => {
                // At a scale of 1 each coordinate is its own, unless it is cropped or half an element beside.
                axis == 0
                    && alone(rest)
                    && [0.0, 1.0].contains(&node.attrs.floats("scales")[0])
                    && !["tf_crop_and_resize", "tf_half_pixel_for_nn"]
                        .contains(&node.attrs.str("coordinate"))
            }
            Op::GridSample | Op::DeformConv => {
                let weights = if node.op == Op::DeformConv { 1 } else { 0 };
                let (weights, others) = rest.split_at(weights);
                self.axes(node.results[0]) == [0]
                    && self.axes(node.operand(0)) == [0]
                    && weights.iter().flatten().all(|&v| fixed(v))
                    && others.iter().flatten().all(|&v| same(v))
            }
            Op::Gather => {
                let (x, indices) = (node.operand(0), node.operand(1));
                let gathered = node.attrs.index("axis");
                match (fixed(x), fixed(indices)) {
                    (false, true) => along(x, axis) && gathered > axis,
                    (true, false) => {
                        let before = self.shape(x).iter().take(gathered).all(|d| d.as_const() == Some(1));
                        before && axis.checked_sub(gathered).is_some_and(|of| along(indices, of))
                    }
                    _ => false,
                }
            }
            Op::GatherElements => {
                same(node.operand(0)) && same(node.operand(1)) && node.attrs.index("axis") != axis
            }
            Op::GatherNd => {
                let (x, indices) = (node.operand(0), node.operand(1));
                let batch = node.attrs.index("batch_dims");
                match fixed(x) {
                    false => same(x) && same(indices) && batch > axis,
                    true => same(indices) && batch == 0,
                }
            }
            Op::ScatterElements => {
                node.operands.iter().flatten().all(|&v| same(v)) && node.attrs.index("axis") != axis
            }
            Op::ReverseSequence => {
                let lengths = node.operand(1);
                let of_units = match self.axes(lengths).first() {
                    Some(&at) => {
                        node.attrs.index("batch_axis") == axis && self.shape(lengths)[at] == result[axis]
                    }
                    None => node.attrs.index("batch_axis") != axis,
                };
                same(node.operand(0)) && of_units && node.attrs.index("time_axis") != axis
            }
            // The batch of the scores.
            Op::Attention => axis + 2 < result.len() && node.operands.iter().flatten().all(|&v| aligned(v)),
            // It is the same in every unit.
            Op::Iota => node.attrs.index("axis") != axis,
            // Each region is of an image of a constant batch.
            Op::RoiAlign => fixed(node.operand(0)) && rest.iter().flatten().all(|&v| same(v)) && axis == 0,
            Op::Tfidf => alone(rest) && axis + 1 < self.shape(node.operand(0)).len(),
            Op::TreeEnsemble => axis == 0 && alone(rest),
            Op::Det => along(node.operand(0), axis) && axis + 2 < self.shape(node.operand(0)).len(),
            _ => false,
        }
    }

    /// Whether a matrix product goes through the units one after the other: its batch, or the rows of its left operand.
    fn product(&self, node: &Node, axis: usize) -> bool {
        let (a, b) = (node.operand(0), node.operand(1));
        let result = self.shape(node.results[0]);
        if axis + 1 >= result.len() {
            return false;
        }
        let rows = axis + 2 == result.len();
        [(a, true), (b, false)].into_iter().all(|(v, left)| {
            let (shape, axes) = (self.shape(v), self.axes(v));
            let at = (axis + shape.len()).checked_sub(result.len());
            // Of the right operand the axis before the last is summed over, and of the left one the last.
            let summed = if left { shape.len() - 1 } else { shape.len() - 2 };
            if axes.contains(&summed) {
                return false;
            }
            match axes.is_empty() {
                false => {
                    at.is_some_and(|at| axes.contains(&at) && shape[at] == result[axis]) && (left || !rows)
                }
                true if rows => !left,
                true => at.is_none_or(|at| shape[at].as_const() == Some(1)),
            }
        })
    }
}
