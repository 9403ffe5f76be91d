//! Building graphs: types are inferred, constants folded and shape arithmetic followed while nodes are added.

use crate::attr::DECLARED;
use crate::{Attr, Attrs, DType, Dim, Graph, Op, Tensor, Type, ValueId, infer, interp, symbolic};
use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// Results of at most this many bytes are folded while building; larger ones are left to the `fold` pass.
const EAGER_FOLD_BYTES: usize = 1 << 16;

/// Why a node cannot be added: its operands' types break a rule of the operation.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeError {
    /// The operation.
    pub op: Op,
    /// The rule broken.
    pub message: String,
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.op, self.message)
    }
}
impl std::error::Error for TypeError {}

/// The tensor that holds `dims`, if they are constants of a wide integer type or bools.
fn constant_of(dims: &[Dim], types: &[Type]) -> Option<Tensor> {
    let values: Vec<i64> = dims.iter().map(Dim::as_const).collect::<Option<_>>()?;
    let [Type::Tensor(t)] = types else { return None };
    let shape = t.const_dims()?;
    if t.const_len() != Some(values.len()) {
        return None;
    }
    match t.dtype {
        DType::I64 => Some(Tensor::new(&shape, values)),
        DType::I32 => {
            let narrow: Vec<i32> =
                values.into_iter().map(|v| i32::try_from(v).ok()).collect::<Option<_>>()?;
            Some(Tensor::new(&shape, narrow))
        }
        DType::Bool => {
            Some(Tensor::from_bools(&shape, &values.iter().map(|v| *v != 0).collect::<Vec<_>>()))
        }
        _ => None,
    }
}

/// Adds nodes to a graph.
#[derive(Debug)]
pub struct Builder {
    /// The graph so far.
    pub graph: Graph,
    /// Contents of small integer tensors as dims, where they are known symbolically: their elements in row-major order.
    known: HashMap<ValueId, Vec<Dim>>,
    sources: BTreeSet<String>,
    /// The number of the next fresh symbol.
    fresh: usize,
    /// Symbols that no fresh one may be, beside those of values that have not been looked at.
    taken: BTreeSet<String>,
    /// How many of the graph's values have been looked at.
    noted: usize,
}

impl Builder {
    /// Start with an empty graph.
    pub fn new(name: &str) -> Builder {
        Builder::from_graph(Graph::new(name))
    }

    /// Go on with a graph.
    pub fn from_graph(graph: Graph) -> Builder {
        Builder {
            graph,
            known: HashMap::new(),
            sources: BTreeSet::new(),
            fresh: 0,
            taken: BTreeSet::new(),
            noted: 0,
        }
    }

    /// The ONNX nodes that the nodes added from now on come from.
    pub fn set_sources(&mut self, sources: BTreeSet<String>) {
        self.sources = sources;
    }

    /// The ONNX nodes that nodes are said to come from now.
    pub fn sources(&self) -> &BTreeSet<String> {
        &self.sources
    }

    /// A symbol that stands nowhere in the graph, nor in one of those that were [reserved](Builder::reserve_symbols).
    pub fn fresh_symbol(&mut self) -> Dim {
        Dim::symbol(&self.fresh_name())
    }

    fn fresh_name(&mut self) -> String {
        while self.noted < self.graph.value_count() {
            self.graph.symbols_of(ValueId(self.noted as u32), &mut self.taken);
            self.noted += 1;
        }
        loop {
            let name = format!("u{}", self.fresh);
            self.fresh += 1;
            if !self.taken.contains(&name) {
                return name;
            }
        }
    }

    /// Make no fresh symbol that this graph has: nodes of it will be added, or those made will be put into it.
    pub fn reserve_symbols(&mut self, of: &Graph) {
        self.taken.extend(of.all_symbols());
    }

    /// Add an input.
    pub fn input(&mut self, name: &str, ty: Type) -> ValueId {
        self.graph.add_input(name, ty)
    }

    /// Add a constant.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.graph.add_const(tensor)
    }

    /// Add a node with one result.
    pub fn emit(&mut self, op: Op, attrs: Attrs, operands: &[ValueId]) -> Result<ValueId, TypeError> {
        let operands: Vec<_> = operands.iter().map(|&v| Some(v)).collect();
        let results = self.emit_node(op, attrs, &operands, vec![])?;
        debug_assert_eq!(results.len(), 1, "{op} has several results");
        Ok(results[0])
    }

    /// Add a node with any number of results, optional operands left out as `None`, and sub-graphs.
    ///
    /// Where every operand is a small constant the node is evaluated instead and constants are returned, unless it
    /// declares symbols. Dims that only the data decide, and that the attributes do not declare, get fresh symbols.
    pub fn emit_node(
        &mut self,
        op: Op,
        attrs: Attrs,
        operands: &[Option<ValueId>],
        regions: Vec<Graph>,
    ) -> Result<Vec<ValueId>, TypeError> {
        let types: Vec<Option<&Type>> = operands.iter().map(|v| v.map(|v| self.graph.ty(v))).collect();
        let mut inferred =
            infer::infer_open(op, &attrs, &types, &regions).map_err(|message| TypeError { op, message })?;
        // What declares symbols stays: others use them.
        let declares = !attrs.declared().is_empty();
        if !declares && let Some(folded) = self.fold(op, &attrs, operands, &inferred) {
            self.graph.spread(operands);
            return Ok(folded.into_iter().map(|t| self.constant(t)).collect());
        }
        let known = match &inferred[..] {
            [ty] => symbolic::eval(op, &attrs, operands, ty, &self.graph, &|v| self.known_elements(v)),
            _ => None,
        };
        if !declares && let Some(constant) = known.as_deref().and_then(|dims| constant_of(dims, &inferred))
        {
            return Ok(vec![self.constant(constant)]);
        }
        let mut attrs = attrs;
        self.declare(op, &mut attrs, &mut inferred);
        let node =
            self.graph.add_node(op, attrs, operands.to_vec(), regions, inferred, self.sources.clone());
        let results = self.graph.node(node).results.clone();
        if let Some(dims) = known {
            self.known.insert(results[0], dims);
        }
        Ok(results)
    }

    /// Declare dims that only the data decide, and that have no name, by fresh symbols; what a loop stacks is as long as it has rounds, all of it.
    fn declare(&mut self, op: Op, attrs: &mut Attrs, types: &mut [Type]) {
        if !types.iter().any(|t| t.fixed_dims().iter().any(Dim::is_unnamed)) {
            return;
        }
        let mut names = attrs.declared().to_vec();
        let stacked = if op == Op::Loop { attrs.index("carried") } else { types.len() };
        let (mut place, mut rounds) = (0, None);
        for (result, ty) in types.iter_mut().enumerate() {
            for (axis, dim) in ty.fixed_dims_mut().iter_mut().enumerate() {
                if dim.is_unnamed() {
                    let name = match &rounds {
                        Some(rounds) if result >= stacked && axis == 0 => String::clone(rounds),
                        _ => self.fresh_name(),
                    };
                    if result >= stacked && axis == 0 {
                        rounds = Some(name.clone());
                    }
                    *dim = Dim::symbol(&name);
                    names.resize(names.len().max(place + 1), None);
                    names[place] = Some(name);
                }
                place += 1;
            }
        }
        attrs.0.insert(DECLARED, Attr::Symbols(names));
    }

    fn fold(
        &self,
        op: Op,
        attrs: &Attrs,
        operands: &[Option<ValueId>],
        types: &[Type],
    ) -> Option<Vec<Tensor>> {
        // A range is as long as its operand says, however small that is.
        if op.is_random() || op.has_regions() || op == Op::Range {
            return None;
        }
        let values: Vec<Option<crate::Value>> = operands
            .iter()
            .map(|v| match v {
                None => Some(None),
                Some(v) => self.graph.as_const(*v).map(|t| Some(t.clone().into())),
            })
            .collect::<Option<_>>()?;
        if self.is_of_codes(op, attrs, operands) {
            return None;
        }
        let small = |bytes: usize| bytes <= EAGER_FOLD_BYTES;
        if !values
            .iter()
            .flatten()
            .all(|v| v.as_tensor().is_some_and(|t| small(t.len() * t.dtype().size().max(1))))
        {
            return None;
        }
        // A data-dependent result of small operands is small too.
        let dependent = op.is_data_dependent();
        for ty in types {
            let t = ty.as_tensor()?;
            if !dependent && !small(t.const_len()?.checked_mul(t.dtype.size().max(1))?) {
                return None;
            }
        }
        // An error here (an index out of range, say) is the model's own, to be reported when it runs.
        let results = interp::eval_op(op, attrs, &values, &[]).ok()?;
        results.into_iter().map(|v| v.as_tensor().cloned()).collect()
    }

    /// Whether a node widens weights of 8 bits, as what dequantises them does: to i32, or to floats where they have no zero point. That stays until the
    /// `fold` pass, however few they are: rules before it make products of integers of those that read them. What an import has to know (scales of a
    /// resize, dims) is a vector, and is folded.
    fn is_of_codes(&self, op: Op, attrs: &Attrs, operands: &[Option<ValueId>]) -> bool {
        let of = operands.first().copied().flatten().and_then(|v| self.graph.as_const(v));
        let of = of.filter(|t| matches!(t.dtype(), DType::I8 | DType::U8) && t.rank() > 1);
        op == Op::Cast && of.is_some() && (attrs.dtype("to") == DType::I32 || attrs.dtype("to").is_float())
    }

    /// The elements of a small integer tensor of any rank in row-major order, if they are known, symbolically or as a constant.
    pub fn known_elements(&self, value: ValueId) -> Option<Vec<Dim>> {
        if let Some(dims) = self.known.get(&value) {
            return Some(dims.clone());
        }
        symbolic::of_constant(&self.graph, value)
    }

    /// The elements of a small integer tensor that is a vector or a scalar, if they are known.
    pub fn known_dims(&self, value: ValueId) -> Option<Vec<Dim>> {
        let line = self.graph.ty(value).as_tensor().is_some_and(|t| t.rank() <= 1);
        if line { self.known_elements(value) } else { None }
    }

    /// State the elements of an integer tensor that this builder cannot see: a sub-graph's captured shape.
    pub fn set_known_elements(&mut self, value: ValueId, elements: Vec<Dim>) {
        self.known.insert(value, elements);
    }

    /// Make the fresh symbols of this builder differ from those that `other` has, has made or has to stay clear of.
    pub fn skip_symbols_of(&mut self, other: &Builder) {
        self.fresh = self.fresh.max(other.fresh);
        self.taken.extend(other.taken.iter().cloned());
        self.reserve_symbols(&other.graph);
    }

    /// Append an output.
    pub fn output(&mut self, name: &str, value: ValueId) {
        self.graph.add_output(name, value);
    }

    /// The tensor type of a value. Panics if it is no tensor.
    pub fn tensor_ty(&self, value: ValueId) -> &crate::TensorType {
        self.graph.tensor_ty(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{attrs, verify};

    /// Fresh symbols differ from those of inputs, attributes, declarations, regions and reserved graphs.
    #[test]
    fn fresh_symbols_are_no_others() {
        let mut b = Builder::new("g");
        let x = b.input("x", Type::tensor(DType::F32, vec![Dim::symbol("u0"), Dim::symbol("n")]));
        let named = attrs! { dims: vec![None, Some("u2".to_owned())] };
        b.emit(Op::Nonzero, named, &[x]).unwrap();
        let target = vec![Dim::symbol("u3"), Dim::symbol("n")];
        b.emit(Op::Broadcast, attrs! { shape: target }, &[x]).unwrap();
        let mut other = Builder::new("other");
        other.input("y", Type::tensor(DType::F32, vec![Dim::symbol("u4")]));
        b.reserve_symbols(&other.graph);
        let counts = [0, 1].map(|_| {
            let v = b.emit(Op::Nonzero, attrs! {}, &[x]).unwrap();
            b.tensor_ty(v).shape[1].to_string()
        });
        assert_eq!(counts, ["u1", "u5"]);
        b.graph.add_input("late", Type::tensor(DType::F32, vec![Dim::symbol("u3"), Dim::symbol("u6")]));
        assert_eq!(b.fresh_symbol().to_string(), "u7");
        assert_eq!(verify(&b.graph), Ok(()));
        let node = b.graph.node_ids()[2];
        assert_eq!(b.graph.node(node).attrs.declared(), [None, Some("u1".to_owned())]);
    }

    /// A node that names its symbols keeps them, whatever is known of its operands.
    #[test]
    fn declared_symbols_stay() {
        let mut b = Builder::new("g");
        let x = b.constant(Tensor::new(&[3], vec![1f32, 0.0, 2.0]));
        let folded = b.emit(Op::Nonzero, attrs! {}, &[x]).unwrap();
        assert!(b.graph.as_const(folded).is_some());
        let kept = b.emit(Op::Nonzero, attrs! { dims: vec![None, Some("k".to_owned())] }, &[x]).unwrap();
        assert_eq!(b.graph.ty(kept).to_string(), "i64[1, k]");
    }

    /// Weights of 8 bits are not widened to i32 or floats, nor what is computed from that; zero points, shapes and scales of a resize are.
    #[test]
    fn codes_stay() {
        let mut b = Builder::new("g");
        for (shape, folds) in [(vec![2, 1], false), (vec![8, 9], false), (vec![2], true), (vec![], true)] {
            let n = shape.iter().product();
            for codes in [Tensor::new(&shape, vec![3u8; n]), Tensor::new(&shape, vec![-3i8; n])] {
                let x = b.constant(codes);
                let to = |to| attrs! { to: to, saturate: 1i64, round: "nearest" };
                let wide = b.emit(Op::Cast, to(DType::I32), &[x]).unwrap();
                let float = b.emit(Op::Cast, to(DType::F32), &[x]).unwrap();
                assert_eq!(b.graph.as_const(float).is_some(), folds, "{shape:?} to f32");
                let sum = b.emit(Op::Add, attrs! {}, &[wide, wide]).unwrap();
                assert_eq!([wide, sum].map(|v| b.graph.as_const(v).is_some()), [folds; 2], "{shape:?}");
            }
        }
    }
}
