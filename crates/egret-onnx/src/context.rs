//! What the function of an operator sees of its node: inputs, attributes (each must be read), and the builder.

use crate::clamps::Clamped;
use crate::error::{ErrorKind, ImportError};
use crate::holding::Holding;
use egret_ir::{Attr, Attrs, Builder, DType, Dim, Graph, Op, Tensor, TensorType, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// Result of an operator's function.
pub type OpResult = Result<Vec<ValueId>, ImportError>;

/// An attribute of an ONNX node, decoded.
#[derive(Clone, Debug)]
pub enum OnnxAttr {
    /// FLOAT
    Float(f32),
    /// INT
    Int(i64),
    /// STRING
    String(String),
    /// TENSOR
    Tensor(Tensor),
    /// GRAPH: the sub-graph imported as a closed graph, and the outer values it captures, in the order of its last inputs.
    Graph(Box<Graph>, Vec<ValueId>),
    /// FLOATS
    Floats(Vec<f32>),
    /// INTS
    Ints(Vec<i64>),
    /// STRINGS
    Strings(Vec<String>),
    /// TYPE_PROTO
    Type(egret_ir::Type),
}

/// An element of a vector, or of a scalar.
pub(crate) type Element = (ValueId, usize);

/// The dims that an importer has made of data.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lengths {
    /// Of which elements of which values, so that one that is asked for twice is one dim.
    pub(crate) made: BTreeMap<Element, Dim>,
    /// What elements of which values add where they are pads that may be below 0.
    pub(crate) added: BTreeMap<Element, Dim>,
    /// The places of an axis that pads below 0 leave, which are those elements at its begin and end.
    pub(crate) left: BTreeMap<(Dim, [Option<Element>; 2]), ValueId>,
    /// The dims that data decides in graphs around.
    pub(crate) around: BTreeSet<String>,
    /// The dims that the inputs of graphs around tell.
    pub(crate) told: BTreeSet<String>,
    /// The inputs of a sub-graph that only a run knows, whatever is bound: what changes from round to round, and what is captured of that.
    pub(crate) at_run_time: BTreeSet<String>,
}

impl Lengths {
    /// Whether only the running model knows a value: it depends on what changes from round to round of a loop, or on nothing that could be bound.
    pub(crate) fn only_at_run_time(&self, builder: &Builder, value: ValueId) -> bool {
        let depends = builder.graph.inputs_read_for(value);
        builder.known_elements(value).is_none()
            && (depends.is_empty() || depends.iter().any(|d| self.at_run_time.contains(d)))
    }
}

/// One ONNX node while it is imported.
pub struct NodeCtx<'a> {
    /// Where the primitives go.
    pub builder: &'a mut Builder,
    /// The opset version of the node's domain.
    pub opset: i64,
    /// `op_type`.
    pub op_type: &'a str,
    /// Inputs; `None` where left out (trailing ones may be missing altogether).
    pub inputs: Vec<Option<ValueId>>,
    /// Number of outputs that the node names (a left-out one counts); the function may return more, never fewer.
    pub outputs: usize,
    /// Whether the output at an index is wanted (named, not left out).
    pub wanted: Vec<bool>,
    /// The values that attributes name, by name: those of a Gradient.
    pub named: BTreeMap<String, ValueId>,
    /// Attributes not read yet. What is left at the end is an error.
    pub attrs: BTreeMap<String, OnnxAttr>,
    /// The dims that were made of data.
    pub(crate) lengths: &'a mut Lengths,
    /// Whether dims are made of any data, and no input has to be bound for them.
    pub(crate) lengths_anywhere: bool,
    /// The slices of it that are clamped for some sizes only.
    pub(crate) clamped: Vec<Clamped>,
    /// What it supposes of sizes.
    pub(crate) holding: Vec<Holding>,
}

impl NodeCtx<'_> {
    // ---- inputs ----

    /// The input at `i`, which must be there.
    pub fn input(&self, i: usize) -> Result<ValueId, ImportError> {
        self.opt_input(i)
            .ok_or_else(|| ImportError::invalid(format!("{} needs an input {i}", self.op_type)))
    }

    /// The input at `i`, if there.
    pub fn opt_input(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    /// The tensor type of a value; sequences and optionals are refused.
    pub fn tensor(&self, value: ValueId) -> Result<TensorType, ImportError> {
        self.builder
            .graph
            .ty(value)
            .as_tensor()
            .cloned()
            .ok_or_else(|| ImportError::invalid(format!("{} takes tensors here", self.op_type)))
    }

    /// Element type of a value.
    pub fn dtype(&self, value: ValueId) -> Result<DType, ImportError> {
        Ok(self.tensor(value)?.dtype)
    }

    /// Number of axes of a value.
    pub fn rank(&self, value: ValueId) -> Result<usize, ImportError> {
        Ok(self.tensor(value)?.rank())
    }

    /// The constant behind a value, if it is one.
    pub fn as_const(&self, value: ValueId) -> Option<Tensor> {
        self.builder.graph.as_const(value).cloned()
    }

    /// The constant behind a value that the compiler must know; else `NeedsValue` with the graph inputs it depends on.
    pub fn need_const(&self, value: ValueId, what: &str) -> Result<Tensor, ImportError> {
        self.as_const(value).ok_or_else(|| self.needs_value(value, what))
    }

    /// The integers in a value that must be known.
    pub fn need_ints(&self, value: ValueId, what: &str) -> Result<Vec<i64>, ImportError> {
        let dims = self.told_dims(value, what)?;
        dims.iter()
            .map(Dim::as_const)
            .collect::<Option<Vec<i64>>>()
            .ok_or_else(|| self.needs_value(value, what))
    }

    /// The dims in an integer tensor of rank 0 or 1 that dims of inputs decide.
    pub fn told_dims(&self, value: ValueId, what: &str) -> Result<Vec<Dim>, ImportError> {
        match self.builder.known_elements(value) {
            Some(dims) if self.rank(value)? <= 1 => Ok(dims),
            Some(_) => {
                let ty = self.tensor(value)?;
                Err(ImportError::invalid(format!("{what}: a vector is needed, not {ty}")))
            }
            None => Err(self.needs_value(value, what)),
        }
    }

    /// The error that `what` (in `value`) must be known at compile time.
    pub fn needs_value(&self, value: ValueId, what: &str) -> ImportError {
        let mut e =
            ImportError::new(ErrorKind::NeedsValue, format!("{what} must be known at compile time"));
        e.inputs_to_bind = self.builder.graph.inputs_read_for(value);
        e
    }

    // ---- attributes ----

    /// Take an attribute; it then counts as read.
    pub fn take(&mut self, name: &str) -> Option<OnnxAttr> {
        self.attrs.remove(name)
    }

    fn wrong_kind(&self, name: &str, kind: &str) -> ImportError {
        ImportError::invalid(format!("attribute `{name}` of {} must be {kind}", self.op_type))
    }

    /// An INT attribute, or the default.
    pub fn int(&mut self, name: &str, default: i64) -> Result<i64, ImportError> {
        Ok(self.opt_int(name)?.unwrap_or(default))
    }

    /// An INT attribute.
    pub fn opt_int(&mut self, name: &str) -> Result<Option<i64>, ImportError> {
        match self.take(name) {
            None => Ok(None),
            Some(OnnxAttr::Int(v)) => Ok(Some(v)),
            Some(_) => Err(self.wrong_kind(name, "an INT")),
        }
    }

    /// A FLOAT attribute, or the default.
    pub fn float(&mut self, name: &str, default: f32) -> Result<f32, ImportError> {
        Ok(self.opt_float(name)?.unwrap_or(default))
    }

    /// A FLOAT attribute.
    pub fn opt_float(&mut self, name: &str) -> Result<Option<f32>, ImportError> {
        match self.take(name) {
            None => Ok(None),
            Some(OnnxAttr::Float(v)) => Ok(Some(v)),
            Some(_) => Err(self.wrong_kind(name, "a FLOAT")),
        }
    }

    /// A STRING attribute, or the default.
    pub fn str(&mut self, name: &str, default: &str) -> Result<String, ImportError> {
        Ok(self.opt_str(name)?.unwrap_or_else(|| default.to_owned()))
    }

    /// A STRING attribute.
    pub fn opt_str(&mut self, name: &str) -> Result<Option<String>, ImportError> {
        match self.take(name) {
            None => Ok(None),
            Some(OnnxAttr::String(v)) => Ok(Some(v)),
            Some(_) => Err(self.wrong_kind(name, "a STRING")),
        }
    }

    /// An INTS attribute.
    pub fn opt_ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, ImportError> {
        match self.take(name) {
            None => Ok(None),
            Some(OnnxAttr::Ints(v)) => Ok(Some(v)),
            Some(_) => Err(self.wrong_kind(name, "INTS")),
        }
    }

    /// A FLOATS attribute.
    pub fn opt_floats(&mut self, name: &str) -> Result<Option<Vec<f32>>, ImportError> {
        match self.take(name) {
            None => Ok(None),
            Some(OnnxAttr::Floats(v)) => Ok(Some(v)),
            Some(_) => Err(self.wrong_kind(name, "FLOATS")),
        }
    }

    /// A STRINGS attribute.
    pub fn opt_strings(&mut self, name: &str) -> Result<Option<Vec<String>>, ImportError> {
        match self.take(name) {
            None => Ok(None),
            Some(OnnxAttr::Strings(v)) => Ok(Some(v)),
            Some(_) => Err(self.wrong_kind(name, "STRINGS")),
        }
    }

    /// A TENSOR attribute.
    pub fn opt_tensor(&mut self, name: &str) -> Result<Option<Tensor>, ImportError> {
        match self.take(name) {
            None => Ok(None),
            Some(OnnxAttr::Tensor(v)) => Ok(Some(v)),
            Some(_) => Err(self.wrong_kind(name, "a TENSOR")),
        }
    }

    /// A GRAPH attribute, which must be there: the closed graph and the outer values it captures.
    pub fn graph(&mut self, name: &str) -> Result<(Graph, Vec<ValueId>), ImportError> {
        match self.take(name) {
            Some(OnnxAttr::Graph(g, captures)) => Ok((*g, captures)),
            _ => Err(self.wrong_kind(name, "a GRAPH")),
        }
    }

    /// An axis attribute or value made non-negative and checked against a rank.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, ImportError> {
        let wrapped = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(wrapped).ok().filter(|&a| a < rank).ok_or_else(|| {
            ImportError::invalid(format!("axis {axis} of {} is outside a rank of {rank}", self.op_type))
        })
    }

    // ---- emitting ----

    /// Add a primitive with one result.
    pub fn emit(&mut self, op: Op, attrs: Attrs, operands: &[ValueId]) -> Result<ValueId, ImportError> {
        Ok(self.builder.emit(op, attrs, operands)?)
    }

    /// Add a primitive with several results, left-out operands or regions.
    pub fn emit_node(
        &mut self,
        op: Op,
        attrs: Attrs,
        operands: &[Option<ValueId>],
        regions: Vec<Graph>,
    ) -> OpResult {
        Ok(self.builder.emit_node(op, attrs, operands, regions)?)
    }

    /// A one-operand primitive without attributes.
    pub fn unary(&mut self, op: Op, x: ValueId) -> Result<ValueId, ImportError> {
        self.emit(op, Attrs::default(), &[x])
    }

    /// A two-operand primitive without attributes.
    pub fn binary(&mut self, op: Op, a: ValueId, b: ValueId) -> Result<ValueId, ImportError> {
        self.emit(op, Attrs::default(), &[a, b])
    }

    /// A scalar constant of a dtype; integers are truncated.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Result<ValueId, ImportError> {
        let v = self.builder.constant(Tensor::scalar(value));
        if dtype == DType::F64 { Ok(v) } else { self.cast(v, dtype) }
    }

    /// A constant vector of i64.
    pub fn ints_const(&mut self, values: &[i64]) -> ValueId {
        self.builder.constant(Tensor::new(&[values.len()], values.to_vec()))
    }

    /// x converted to a dtype; x itself where it has it already.
    pub fn cast(&mut self, x: ValueId, to: DType) -> Result<ValueId, ImportError> {
        if self.dtype(x)? == to {
            return Ok(x);
        }
        self.emit(Op::Cast, egret_ir::attrs! { to: to, saturate: 1i64, round: "nearest" }, &[x])
    }

    /// x under other dims.
    pub fn reshape(&mut self, x: ValueId, shape: Vec<Dim>) -> Result<ValueId, ImportError> {
        self.emit(Op::Reshape, egret_ir::attrs! { shape: Attr::Dims(shape) }, &[x])
    }

    /// x with its axes permuted.
    pub fn transpose(&mut self, x: ValueId, perm: Vec<i64>) -> Result<ValueId, ImportError> {
        self.emit(Op::Transpose, egret_ir::attrs! { perm: perm }, &[x])
    }

    /// x reduced over axes.
    pub fn reduce(
        &mut self,
        kind: &str,
        x: ValueId,
        mut axes: Vec<i64>,
        keepdims: bool,
    ) -> Result<ValueId, ImportError> {
        axes.sort();
        self.emit(Op::Reduce, egret_ir::attrs! { kind: kind, axes: axes, keepdims: keepdims }, &[x])
    }
}
