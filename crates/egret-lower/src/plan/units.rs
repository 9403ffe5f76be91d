//! Free dims: values as units that do not depend on one another.
//!
//! A dim that a model leaves free is known when a run begins. Kernels are written for dims that are known when the model is compiled;
//! so a value whose first dim (of those that are not 1) is free is taken to be so many *units*, each of constant dims, one behind the other
//! in memory: `f32[N, 3, 224, 224]` is N units of `f32[3, 224, 224]`, and `f32[N*196, 768]` N units of `f32[196, 768]`. Where every
//! unit of a node's results depends on the same unit of its operands alone, the node's kernels for one unit, with all free dims
//! set to 1, run N times. This file finds whether that holds of every node of a graph ([`plan`]); one of which it does not is refused.
//!
//! A value is *uniform* if its dims are free and it has the same elements in every unit (a class token that is broadcast to the batch): it is
//! kept once.

use crate::error::Refusal;
use egret_ir::{Attr, Dim, Graph, Node, NodeId, Op, TensorType, ValueId, advice};
use egret_loop::Symbol;
use std::collections::BTreeMap;

/// How many units a value is: the product of these symbols, by their numbers.
pub type Count = Vec<usize>;

/// The units of a graph's values.
#[derive(Clone, Debug)]
pub struct Units {
    /// The free dims.
    pub symbols: Vec<Symbol>,
    /// Values that are kept in units, and how many.
    counts: BTreeMap<ValueId, Count>,
    /// Dims of inputs and outputs.
    pub dims: BTreeMap<ValueId, Vec<Dim>>,
}

impl Units {
    /// How many units a value is kept in; nothing where it is kept once.
    pub fn of(&self, v: ValueId) -> Option<&Count> {
        self.counts.get(&v)
    }

    /// A dim as a constant and symbols that it is the product of.
    pub fn product(&self, dim: &Dim) -> Option<(i64, Count)> {
        product(&self.symbols, dim)
    }
}

fn product(symbols: &[Symbol], dim: &Dim) -> Option<(i64, Count)> {
    let (coefficient, names) = dim.as_product()?;
    let number = |name: &str| symbols.iter().position(|s| s.name == name);
    Some((coefficient, names.into_iter().map(number).collect::<Option<_>>()?))
}

/// The axis of a free dim, and how many units it makes.
type Lead = Option<(usize, Count)>;

/// The units of a graph whose inputs have free dims, and the graph of one unit; nothing where no dim is free.
///
/// # Errors
/// Inputs and nodes whose units depend on one another, or that are not known to be without.
pub fn plan(graph: &Graph) -> Result<Option<(Units, Graph)>, Vec<Refusal>> {
    let free = graph.free_dims();
    if free.is_empty() {
        return Ok(None);
    }
    let mut symbols = vec![];
    for name in &free {
        let place = graph.inputs().iter().enumerate().find_map(|(input, &v)| {
            let shape = &graph.ty(v).as_tensor()?.shape;
            Some((input, shape.iter().position(|d| d.as_symbol() == Some(name))?))
        });
        let Some((input, axis)) = place else {
            let reason = format!("no input has the dim `{name}` itself: {}", advice::dims([name]));
            return Err(vec![Refusal::of_graph(reason)]);
        };
        symbols.push(Symbol { name: name.clone(), input, axis });
    }
    let mut planner = Planner {
        graph,
        free: &free,
        units: Units { symbols, counts: BTreeMap::new(), dims: BTreeMap::new() },
    };
    let mut refusals = vec![];
    for &v in graph.inputs() {
        let Some(ty) = graph.ty(v).as_tensor() else { continue };
        match planner.lead(ty) {
            Ok(Some((_, count))) => {
                planner.units.counts.insert(v, count);
            }
            Ok(None) => {}
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
    let mut units = planner.units;
    for &v in graph.inputs().iter().chain(graph.outputs()) {
        let shape = graph.ty(v).as_tensor().map(|t| t.shape.to_vec());
        units.dims.insert(v, shape.unwrap_or_default());
    }
    let mut of_one = graph.clone();
    of_one.bind_dims(&free.into_iter().map(|name| (name, 1)).collect());
    Ok(Some((units, of_one)))
}

struct Planner<'g> {
    graph: &'g Graph,
    free: &'g [String],
    units: Units,
}

impl Planner<'_> {
    /// The axis along which a type's units lie; nothing where no dim is free.
    fn lead(&self, ty: &TensorType) -> Result<Lead, String> {
        if ty.const_dims().is_some() {
            return Ok(None);
        }
        let first = ty.shape.iter().position(|d| d.as_const() != Some(1)).unwrap_or(0);
        let behind = ty.shape.iter().skip(first + 1).all(|d| d.as_const().is_some());
        match ty.shape.get(first).and_then(|d| product(&self.units.symbols, d)) {
            Some((1.., count)) if behind && !count.is_empty() => Ok(Some((first, count))),
            _ => Err(format!(
                "has the shape {ty}, and compiled code has free dims only as the first dim: {}",
                advice::to_be_constant(&ty.shape[..], self.free)
            )),
        }
    }

    fn lead_of(&self, v: ValueId) -> Result<Lead, String> {
        self.graph.ty(v).as_tensor().map_or(Ok(None), |ty| self.lead(ty))
    }

    fn shape(&self, v: ValueId) -> &[Dim] {
        self.graph.ty(v).as_tensor().map_or(&[], |t| &t.shape[..])
    }

    /// Finds the units of a node's results.
    fn node(&mut self, id: NodeId) -> Result<(), String> {
        let node = self.graph.node(id);
        let operands: Vec<ValueId> = node.operands.iter().flatten().copied().collect();
        let mut leads = vec![];
        for &v in &operands {
            // Its producer is named already.
            let Ok(lead) = self.lead_of(v) else { return Ok(()) };
            leads.push(lead);
        }
        let remedy = || {
            let dims = operands.iter().chain(&node.results).flat_map(|&v| self.shape(v));
            advice::to_be_constant(dims, self.free)
        };
        if let Some(attr) = self.counts_units(node) {
            return Err(format!("its {attr} depends on a free dim: {}", remedy()));
        }
        if leads.iter().all(Option::is_none)
            && node.results.iter().all(|&v| matches!(self.lead_of(v), Ok(None)))
        {
            return Ok(());
        }
        let mut result = None;
        for &v in &node.results {
            match self.lead_of(v)? {
                Some(lead) if result.as_ref().is_none_or(|r: &(usize, Count)| *r == lead) => {
                    result = Some(lead)
                }
                _ => return Err(format!("gives results that depend on all of a free dim: {}", remedy())),
            }
        }
        let Some((axis, count)) = result else { return Ok(()) };
        let alike = leads.iter().flatten().all(|l| l.1 == count);
        if !alike || !self.independent(node, axis) {
            return Err(format!(
                "is computed from {}, whose free dim it does not go through one after the other: {}",
                operands.iter().map(|&v| self.graph.ty(v).to_string()).collect::<Vec<_>>().join(", "),
                remedy()
            ));
        }
        // Where all operands are the same in every unit, so are the results.
        if operands.iter().any(|v| self.units.counts.contains_key(v)) {
            self.units.counts.extend(node.results.iter().map(|&v| (v, count.clone())));
        }
        Ok(())
    }

    /// What of a node holds a free dim beside the dims of its results: a kernel for one unit would take it to be 1.
    fn counts_units(&self, node: &Node) -> Option<String> {
        let open = |attr: &Attr| match attr {
            Attr::Dim(d) => d.as_const().is_none(),
            Attr::Dims(dims) => dims.iter().any(|d| d.as_const().is_none()),
            _ => false,
        };
        // `shape` and `sizes` are the dims of the result.
        let names = node.op.info().attrs.iter().map(|a| a.name).filter(|n| !["shape", "sizes"].contains(n));
        let mut attrs = names.filter(|name| node.attrs.get(name).is_some_and(open));
        let inside = |g: &Graph| g.free_symbols().iter().any(|s| self.free.contains(s));
        match attrs.next() {
            Some(name) => Some(format!("attribute `{name}`")),
            None => node.regions.iter().any(inside).then(|| "body".to_owned()),
        }
    }

    /// Whether a unit of a node's results, which lie along `axis`, depends on the same unit of its operands alone.
    fn independent(&self, node: &Node, axis: usize) -> bool {
        let result = self.shape(node.results[0]);
        let lead = |v: ValueId| self.lead_of(v).ok().flatten().map(|l| l.0);
        // Operands are found in a result's axes, aligned at the last: as many along `axis`, or one for all.
        let aligned = |v: ValueId| {
            let shape = self.shape(v);
            match (axis + shape.len()).checked_sub(result.len()) {
                Some(at) => {
                    shape[at] == result[axis] || shape[at].as_const() == Some(1) && lead(v).is_none()
                }
                None => lead(v).is_none(),
            }
        };
        // The first operand has its units along the same axis as the result, and all others are the same for every unit.
        let alone = |others: &[Option<ValueId>]| {
            let x = node.operand(0);
            lead(x) == Some(axis)
                && self.shape(x).get(axis) == result.get(axis)
                && others.iter().flatten().all(|&v| lead(v).is_none())
        };
        let rest = node.operands.get(1..).unwrap_or_default();
        // An operand has as many units as the result, along the same axis.
        let along = |v: ValueId| lead(v) == Some(axis) && self.shape(v)[axis] == result[axis];
        match node.op {
            Op::Reshape => {
                // The elements of as many units: a constant has none.
                let all = |dims: &[Dim]| dims.iter().fold(Dim::constant(1), |all, d| all * d.clone());
                lead(node.operand(0)).is_some() && all(self.shape(node.operand(0))) == all(result)
            }
            Op::BitCast | Op::LabelEncode => alone(rest),
            op if op.is_elementwise() => node.operands.iter().flatten().all(|&v| aligned(v)),
            Op::Broadcast | Op::Rotary => node.operands.iter().flatten().all(|&v| aligned(v)),
            Op::Transpose => {
                let from = lead(node.operand(0));
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
            Op::Reduce => lead(node.operand(0)).is_some_and(|a| !node.attrs.indices("axes").contains(&a)),
            Op::ArgReduce => lead(node.operand(0)).is_some_and(|a| node.attrs.index("axis") != a),
            Op::Matmul => self.product(node, axis),
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
                let (fixed, others) = rest.split_at(weights);
                axis == 0
                    && lead(node.operand(0)) == Some(0)
                    && fixed.iter().flatten().all(|&v| lead(v).is_none())
                    && others.iter().flatten().all(|&v| along(v))
            }
            Op::Gather => {
                let (x, indices) = (node.operand(0), node.operand(1));
                let along = node.attrs.index("axis");
                match (lead(x), lead(indices)) {
                    (Some(of), None) => of == axis && along > axis,
                    (None, Some(of)) => {
                        let before = self.shape(x).iter().take(along).all(|d| d.as_const() == Some(1));
                        before && axis == along + of
                    }
                    _ => false,
                }
            }
            Op::GatherElements => {
                along(node.operand(0)) && along(node.operand(1)) && node.attrs.index("axis") != axis
            }
            Op::GatherNd => {
                let (x, indices) = (node.operand(0), node.operand(1));
                let batch = node.attrs.index("batch_dims");
                match lead(x) {
                    Some(_) => along(x) && along(indices) && batch > axis,
                    None => along(indices) && batch == 0,
                }
            }
            Op::ScatterElements => {
                node.operands.iter().flatten().all(|&v| along(v)) && node.attrs.index("axis") != axis
            }
            Op::ReverseSequence => {
                let lengths = node.operand(1);
                let of_units = match lead(lengths) {
                    Some(at) => {
                        node.attrs.index("batch_axis") == axis && self.shape(lengths)[at] == result[axis]
                    }
                    None => node.attrs.index("batch_axis") != axis,
                };
                along(node.operand(0)) && of_units && node.attrs.index("time_axis") != axis
            }
            // The batch of the scores.
            Op::Attention => axis + 2 < result.len() && node.operands.iter().flatten().all(|&v| aligned(v)),
            // It is the same in every unit.
            Op::Iota => node.attrs.index("axis") != axis,
            // Each region is of an image of a constant batch.
            Op::RoiAlign => {
                lead(node.operand(0)).is_none() && rest.iter().flatten().all(|&v| along(v)) && axis == 0
            }
            Op::Tfidf => alone(rest) && axis + 1 < self.shape(node.operand(0)).len(),
            Op::TreeEnsemble => axis == 0 && alone(rest),
            Op::Det => lead(node.operand(0)) == Some(axis) && axis + 2 < self.shape(node.operand(0)).len(),
            _ => false,
        }
    }

    /// Whether a matrix product goes through the units one after the other: its batch, or the rows of its left operand.
    fn product(&self, node: &Node, axis: usize) -> bool {
        let (a, b) = (node.operand(0), node.operand(1));
        let result = self.shape(node.results[0]);
        let lead = |v: ValueId| self.lead_of(v).ok().flatten().map(|l| l.0);
        if axis + 1 >= result.len() {
            return false;
        }
        let rows = axis + 2 == result.len();
        [(a, true), (b, false)].into_iter().all(|(v, left)| {
            let shape = self.shape(v);
            let at = (axis + shape.len()).checked_sub(result.len());
            match lead(v) {
                // Of the right operand the axis before the last is summed over.
                Some(of) => at == Some(of) && (left || !rows) && shape[of] == result[axis],
                None if rows => !left,
                None => at.is_none_or(|at| shape[at].as_const() == Some(1)),
            }
        })
    }
}
