//! Building graphs: types are inferred, constants folded and shape arithmetic followed while nodes are added.

use crate::{Attrs, DType, Dim, Graph, Op, Tensor, Type, ValueId, infer, interp, symbolic};
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
    /// Contents of small integer tensors (rank 0 or 1) as dims, where they are known symbolically.
    known: HashMap<ValueId, Vec<Dim>>,
    sources: BTreeSet<String>,
    /// Prefix of symbols made for data-dependent dims.
    fresh: usize,
}

impl Builder {
    /// Start with an empty graph.
    pub fn new(name: &str) -> Builder {
        Builder::from_graph(Graph::new(name))
    }

    /// Go on with a graph.
    pub fn from_graph(graph: Graph) -> Builder {
        Builder { graph, known: HashMap::new(), sources: BTreeSet::new(), fresh: 0 }
    }

    /// The ONNX nodes that the nodes added from now on come from.
    pub fn set_sources(&mut self, sources: BTreeSet<String>) {
        self.sources = sources;
    }

    /// The ONNX nodes that nodes are said to come from now.
    pub fn sources(&self) -> &BTreeSet<String> {
        &self.sources
    }

    /// A symbol that no other dim has.
    pub fn fresh_symbol(&mut self) -> Dim {
        loop {
            let name = format!("u{}", self.fresh);
            self.fresh += 1;
            if !self.graph.free_dims().contains(&name) {
                return Dim::symbol(&name);
            }
        }
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
    /// Where every operand is a small constant the node is evaluated instead and constants are returned.
    pub fn emit_node(
        &mut self,
        op: Op,
        attrs: Attrs,
        operands: &[Option<ValueId>],
        regions: Vec<Graph>,
    ) -> Result<Vec<ValueId>, TypeError> {
        let types: Vec<Option<&Type>> = operands.iter().map(|v| v.map(|v| self.graph.ty(v))).collect();
        let mut inferred =
            infer::infer(op, &attrs, &types, &regions).map_err(|message| TypeError { op, message })?;
        for ty in &mut inferred {
            self.freshen(ty);
        }
        if let Some(folded) = self.fold(op, &attrs, operands, &inferred) {
            return Ok(folded.into_iter().map(|t| self.constant(t)).collect());
        }
        let known = symbolic::eval(op, &attrs, operands, &self.graph, &|v| self.known_dims(v));
        if let Some(constant) = known.as_deref().and_then(|dims| constant_of(dims, &inferred)) {
            return Ok(vec![self.constant(constant)]);
        }
        let node =
            self.graph.add_node(op, attrs, operands.to_vec(), regions, inferred, self.sources.clone());
        let results = self.graph.node(node).results.clone();
        if let Some(dims) = known {
            self.known.insert(results[0], dims);
        }
        Ok(results)
    }

    /// Replace the placeholder of data-dependent dims (see [`infer::UNKNOWN`]) by fresh symbols.
    fn freshen(&mut self, ty: &mut Type) {
        let dims = match ty {
            Type::Tensor(t) => &mut t.shape,
            Type::Sequence(s) => match &mut s.shape {
                Some(shape) => shape,
                None => return,
            },
            Type::Optional(t) => return self.freshen(t),
        };
        for dim in dims {
            if dim.as_symbol() == Some(infer::UNKNOWN) {
                *dim = self.fresh_symbol();
            }
        }
    }

    fn fold(
        &self,
        op: Op,
        attrs: &Attrs,
        operands: &[Option<ValueId>],
        types: &[Type],
    ) -> Option<Vec<Tensor>> {
        let row = op.info();
        if row.has_trait("random") || row.has_trait("control") || !row.regions.is_empty() {
            return None;
        }
        let values: Vec<Option<crate::Value>> = operands
            .iter()
            .map(|v| match v {
                None => Some(None),
                Some(v) => self.graph.as_const(*v).map(|t| Some(t.clone().into())),
            })
            .collect::<Option<_>>()?;
        let small = |bytes: usize| bytes <= EAGER_FOLD_BYTES;
        if !values
            .iter()
            .flatten()
            .all(|v| v.as_tensor().is_some_and(|t| small(t.len() * t.dtype().size().max(1))))
        {
            return None;
        }
        // A data-dependent result of small operands is small too.
        let dependent = row.has_trait("data_dependent");
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

    /// The content of a small integer tensor of rank 0 or 1, if it is known, symbolically or as a constant.
    pub fn known_dims(&self, value: ValueId) -> Option<Vec<Dim>> {
        if let Some(dims) = self.known.get(&value) {
            return Some(dims.clone());
        }
        let t = self.graph.as_const(value)?;
        if t.rank() > 1 || t.len() > 1024 || !(t.dtype().is_int() || t.dtype() == DType::Bool) {
            return None;
        }
        Some(t.to_i64s()?.into_iter().map(Dim::constant).collect())
    }

    /// State the content of an integer tensor of rank 0 or 1 that this builder cannot see: a sub-graph's captured shape.
    pub fn set_known_dims(&mut self, value: ValueId, dims: Vec<Dim>) {
        self.known.insert(value, dims);
    }

    /// Make the fresh symbols of this builder differ from those that `other` has made so far.
    pub fn skip_symbols_of(&mut self, other: &Builder) {
        self.fresh = self.fresh.max(other.fresh);
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
