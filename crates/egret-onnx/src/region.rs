//! Sub-graphs: the bodies of If, Loop, Scan and SequenceMap become closed graphs with captures.

use crate::context::OnnxAttr;
use crate::data::decode_type;
use crate::error::ImportError;
use crate::holding;
use crate::importer::{Importer, identifier};
use crate::names::initialised;
use crate::scope::Level;
use egret_ir::{Builder, DType, Dim, Graph, Op, Type, ValueId};
use onnx_protobuf::{GraphProto, NodeProto};
use std::collections::{BTreeMap, BTreeSet};

/// A closed graph and the outer values it captures, in the order of its last inputs; `None` if one of its outputs
/// depends on a node that failed for want of a value.
type Region = Option<(Graph, Vec<ValueId>)>;

/// How often the types of loop-carried values are generalised before the loop is refused: every attempt makes a type
/// more general, and each can be made so a few times only.
const MAX_ATTEMPTS: usize = 16;

impl<'m> Importer<'m> {
    /// Import a GRAPH attribute of a node. The types of the body's inputs come from the node's inputs where the operator
    /// says how, since models often leave them out or state them too narrowly.
    pub(crate) fn region(
        &mut self,
        node: &NodeProto,
        opset: i64,
        inputs: &[Option<ValueId>],
        attrs: &BTreeMap<String, OnnxAttr>,
        proto: &'m GraphProto,
    ) -> Result<Region, ImportError> {
        let types: Vec<Option<Type>> = inputs.iter().map(|v| v.map(|v| self.scopes.ty(v))).collect();
        match node.op_type.as_str() {
            "Loop" => {
                let graph = &self.scopes.builder().graph;
                let op = |v: &Option<ValueId>| Some(graph.node(graph.producer((*v)?)?).op);
                let empty = inputs.iter().map(|v| op(v) == Some(Op::SequenceEmpty)).collect();
                self.loop_body(proto, types, empty)
            }
            "Scan" => {
                let types = scan_types(opset, types, attrs);
                self.closed(proto, &types, &[], 0)
            }
            "SequenceMap" => {
                let builder = self.scopes.builder();
                // A symbol among the elements' dims is another number in each.
                let mut own =
                    |d: &Dim| if d.as_const().is_some() { d.clone() } else { builder.fresh_symbol() };
                let mut element = |ty: Option<Type>| match ty? {
                    Type::Sequence(s) => {
                        let shape: Option<Vec<Dim>> = s.shape.map(|s| s.iter().map(&mut own).collect());
                        shape.map(|shape| Type::tensor(s.dtype, shape))
                    }
                    other => Some(other),
                };
                let types: Vec<_> = types.into_iter().map(&mut element).collect();
                self.closed(proto, &types, &[], 0)
            }
            _ => self.closed(proto, &[], &[], 0),
        }
    }

    /// A loop's body, imported with types of its carried values that hold for every iteration: they start as those of
    /// the initial values; dims that the body changes become symbols. `empty`: the inputs that are sequences without elements, which
    /// may hold what the body gives.
    fn loop_body(
        &mut self,
        proto: &'m GraphProto,
        node_types: Vec<Option<Type>>,
        mut empty: Vec<bool>,
    ) -> Result<Region, ImportError> {
        let scalar = |dtype| Some(Type::tensor(dtype, vec![]));
        let mut types = vec![scalar(DType::I64), scalar(DType::Bool)];
        types.extend(node_types.into_iter().skip(2));
        let mut widened = vec![];
        self.declared_elements(proto, &mut types, &empty, &mut widened);
        for _ in 0..MAX_ATTEMPTS {
            let needs = self.needs.len();
            let Some((graph, captures)) = self.closed(proto, &types, &widened, 1)? else { return Ok(None) };
            let mut stable = true;
            for (i, ty) in types.iter_mut().enumerate().skip(2) {
                let (Some(ty), Some(&out)) = (ty, graph.outputs().get(i - 1)) else { continue };
                let builder = self.scopes.builder();
                // The rank of the elements is that of what goes in, and their dims so far as each has the same.
                if let (true, Type::Sequence(own)) = (std::mem::take(&mut empty[i]), &mut *ty)
                    && own.shape.is_none()
                    && let Some(dims) = dims_of_elements(&graph, out)
                {
                    let known = |d: Dim| if d.as_const().is_some() { d } else { builder.fresh_symbol() };
                    own.shape = Some(dims.into_iter().map(known).collect());
                    widened.extend(own.shape.iter().flatten().filter(|d| d.as_const().is_none()).cloned());
                    stable = false;
                    continue;
                }
                stable &= !widen(ty, graph.ty(out), &mut widened, &mut || builder.fresh_symbol()).map_err(
                    |why| ImportError::unsupported(format!("the loop-carried input {} {why}", i - 2)),
                )?;
            }
            if stable {
                return Ok(Some((graph, captures)));
            }
            self.needs.truncate(needs);
        }
        Err(ImportError::unsupported("the types of the loop-carried values do not settle"))
    }

    /// Sequences without elements take the rank of elements that the body declares for them: what it does with the elements it may need to know.
    fn declared_elements(
        &mut self,
        proto: &GraphProto,
        types: &mut [Option<Type>],
        empty: &[bool],
        widened: &mut Vec<Dim>,
    ) {
        let builder = self.scopes.builder();
        for ((ty, empty), info) in types.iter_mut().zip(empty).zip(&proto.input) {
            let mut dim = |_: &str, _| builder.fresh_symbol();
            if let (true, Some(Type::Sequence(own))) = (empty, ty)
                && let Ok(Some(Type::Sequence(declared))) =
                    decode_type(info.type_.get_or_default(), &mut dim)
                && declared.dtype == own.dtype
            {
                own.shape = declared.shape;
                widened.extend(own.shape.iter().flatten().filter(|d| d.as_const().is_none()).cloned());
            }
        }
    }

    /// Import a graph as a closed one; `types` are those of its inputs where they are known from outside, `changing` the dims of them that change
    /// from round to round, and `decides` how many outputs are first that say whether there is another round.
    fn closed(
        &mut self,
        proto: &'m GraphProto,
        types: &[Option<Type>],
        changing: &[Dim],
        decides: usize,
    ) -> Result<Region, ImportError> {
        let level = self.scopes.levels.len();
        let mut builder = Builder::new(&identifier(&proto.name));
        builder.skip_symbols_of(self.scopes.builder());
        let frame = self.inner_frame(level);
        let mut around = self.scopes.decided();
        around.extend(changing.iter().filter_map(Dim::as_symbol).map(str::to_owned));
        let told = self.scopes.told();
        self.scopes.levels.push(Level::new(builder));
        let lengths = &mut self.scopes.levels[level].lengths;
        (lengths.around, lengths.told) = (around, told);
        self.open(frame)?;
        let initialised = initialised(proto);
        let own: Vec<_> = proto.input.iter().filter(|i| !initialised.contains(i.name.as_str())).collect();
        for (i, info) in own.iter().enumerate() {
            let ty = match types.get(i).cloned().flatten() {
                Some(ty) => ty,
                None => {
                    let builder = self.scopes.builder();
                    decode_type(info.type_.get_or_default(), &mut |_, _| builder.fresh_symbol())
                        .and_then(|t| {
                            t.ok_or_else(|| ImportError::unsupported("its number of dims is not declared"))
                        })
                        .map_err(|e| e.at(format!("input `{}` of the graph `{}`", info.name, proto.name)))?
                }
            };
            let value = self.scopes.builder().input(&info.name, ty);
            self.define(&info.name, crate::scope::Slot::Value(value))?;
            let Level { builder, lengths, .. } = &mut self.scopes.levels[level];
            lengths.at_run_time.insert(builder.graph.value(value).name.clone());
        }
        self.scopes.levels[level].own_inputs = own.len();
        self.body(proto, &BTreeSet::new())?;
        let outputs = self.outputs(proto)?;
        self.scopes.frames.pop();
        let mut inner = self.scopes.levels.pop().expect("pushed above");
        self.scopes.builder().skip_symbols_of(&inner.builder);
        for (info, value) in proto.output.iter().zip(outputs) {
            let Some(value) = value else { return Ok(None) };
            inner.builder.output(&info.name, value);
        }
        holding::lengthen(&mut inner.builder, &inner.holding, decides, false)?;
        let mut graph = inner.builder.graph;
        graph.remove_dead();
        Ok(Some((graph, inner.captures)))
    }
}

/// The types of a Scan's body inputs: states as they are, sequences without the axis that is scanned.
fn scan_types(
    opset: i64,
    types: Vec<Option<Type>>,
    attrs: &BTreeMap<String, OnnxAttr>,
) -> Vec<Option<Type>> {
    // Opset 8 has a leading input of sequence lengths, and a batch axis before everything.
    let batched = opset < 9;
    let types: Vec<_> = types.into_iter().skip(usize::from(batched)).collect();
    let scans = match attrs.get("num_scan_inputs") {
        Some(OnnxAttr::Int(n)) => usize::try_from(*n).unwrap_or(0).min(types.len()),
        _ => 0,
    };
    let states = types.len() - scans;
    let axis_of = |scan: usize| match attrs.get("scan_input_axes") {
        Some(OnnxAttr::Ints(axes)) => axes.get(scan).copied().unwrap_or(0),
        _ => 0,
    };
    let without = |ty: Option<Type>, axis: i64| match ty {
        Some(Type::Tensor(mut t)) => {
            let axis = usize::try_from(if axis < 0 { axis + t.rank() as i64 } else { axis })
                .ok()
                .filter(|&a| a < t.rank())?;
            t.shape.remove(axis);
            Some(Type::Tensor(t))
        }
        other => other,
    };
    types
        .into_iter()
        .enumerate()
        .map(|(i, ty)| {
            let ty = if batched { without(ty, 0) } else { ty };
            if i < states { ty } else { without(ty, axis_of(i - states)) }
        })
        .collect()
}

/// Make `ty` general enough for `result` too; returns whether it changed. `widened` are the symbols made so far.
fn widen(
    ty: &mut Type,
    result: &Type,
    widened: &mut Vec<Dim>,
    fresh: &mut dyn FnMut() -> Dim,
) -> Result<bool, String> {
    let differ = |a: &dyn std::fmt::Display, b: &dyn std::fmt::Display| {
        format!("changes its type from {a} to {b} in the loop")
    };
    let mut changed = false;
    match (&mut *ty, result) {
        (Type::Tensor(a), Type::Tensor(b)) => {
            if a.dtype != b.dtype || a.rank() != b.rank() {
                return Err(differ(a, b));
            }
            widen_dims(&mut a.shape, &b.shape, widened, fresh, &mut changed);
        }
        (Type::Sequence(a), Type::Sequence(b)) => {
            if a.dtype != b.dtype && a.shape.is_some() {
                return Err(differ(ty, result));
            }
            match (&mut a.shape, &b.shape) {
                (Some(dims), Some(others)) if a.dtype == b.dtype && dims.len() == others.len() => {
                    widen_dims(dims, others, widened, fresh, &mut changed);
                }
                (None, _) if a.dtype == b.dtype => {}
                _ => {
                    changed = true;
                    a.dtype = b.dtype;
                    a.shape = None;
                }
            }
        }
        (Type::Optional(a), Type::Optional(b)) => return widen(a, b, widened, fresh),
        // Whoever makes the loop has the body give it as an optional.
        (Type::Optional(a), b) => return widen(a, b, widened, fresh),
        _ => return Err(differ(ty, result)),
    }
    Ok(changed)
}

fn widen_dims(
    a: &mut [Dim],
    b: &[Dim],
    widened: &mut Vec<Dim>,
    fresh: &mut dyn FnMut() -> Dim,
    changed: &mut bool,
) {
    for (x, y) in a.iter_mut().zip(b) {
        if x != y && !widened.contains(x) {
            *x = fresh();
            widened.push(x.clone());
            *changed = true;
        }
    }
}

/// The dims of the elements of a sequence, or of one that is inserted into it where its type does not tell. Symbols may be those of a region.
fn dims_of_elements(graph: &Graph, seq: ValueId) -> Option<Vec<Dim>> {
    if let Type::Sequence(s) = graph.ty(seq)
        && s.shape.is_some()
    {
        return s.shape.clone();
    }
    let id = graph.producer(seq)?;
    let node = graph.node(id);
    let result = node.results.iter().position(|&v| v == seq)?;
    let of_region = |region: &Graph, i: usize| dims_of_elements(region, *region.outputs().get(i)?);
    match node.op {
        Op::SequenceInsert => dims_of_elements(graph, node.operand(0))
            .or_else(|| graph.ty(node.operand(1)).as_tensor().map(|t| t.shape.clone())),
        Op::SequenceErase => dims_of_elements(graph, node.operand(0)),
        Op::If => node.regions.iter().find_map(|r| of_region(r, result)),
        Op::Loop => node.regions.iter().find_map(|r| of_region(r, 1 + result)),
        _ => None,
    }
}
