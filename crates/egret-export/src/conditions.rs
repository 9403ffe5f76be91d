//! The conditions of a graph: a function of the model through which its outputs go, and which fails where one does not hold.

use crate::error::ExportError;
use crate::proto;
use crate::writer::Writer;
use egret_ir::{DType, Dim, Graph, Tensor, Type, ValueId};
use onnx_protobuf::{AttributeProto, FunctionProto, NodeProto};

/// The domain of Egret's own functions.
pub(crate) const DOMAIN: &str = "egret";
const NAME: &str = "Require";

/// Whether ONNX's operators take a value through the function.
pub(crate) fn passes(graph: &Graph, v: ValueId) -> bool {
    matches!(graph.ty(v), Type::Tensor(t) if takes(t.dtype))
}

fn takes(d: DType) -> bool {
    !matches!(d, DType::I2 | DType::U2 | DType::I4 | DType::U4) && (!d.is_float() || d.size() > 1)
}

impl Writer<'_> {
    /// The conditions of a graph as a vector of i64, if it has some.
    ///
    /// # Errors
    /// One that cannot be computed for all sizes; no output that can go through the function.
    pub(crate) fn conditions(&mut self, graph: &Graph) -> Result<Option<String>, ExportError> {
        let all = graph.conditions();
        if all.is_empty() {
            return Ok(None);
        }
        if let Some(dim) = all.iter().find(|d| !d.has_value_where(&[])) {
            return Err(ExportError::new(format!(
                "the graph requires that {dim} has a value, which ONNX cannot say; give its dims values (--dim)"
            )));
        }
        if !graph.outputs().iter().any(|&v| passes(graph, v)) {
            let all: Vec<String> = all.iter().map(Dim::to_string).collect();
            return Err(ExportError::new(format!(
                "the graph requires that {} be at least 0, and no output is a tensor of a type that can go through a check of it",
                all.join(", ")
            )));
        }
        self.held_dims(all).map(Some)
    }

    /// Dims that have to be at least 0, as the function takes them.
    fn held_dims(&mut self, all: &[Dim]) -> Result<String, ExportError> {
        self.frame().base = "conditions".into();
        let vector = self.shape(all)?;
        self.has_function(NAME, function);
        Ok(vector)
    }

    /// Give the model a function of Egret's own, once.
    pub(crate) fn has_function(&mut self, name: &str, function: fn() -> FunctionProto) {
        self.require(DOMAIN, 1);
        if self.functions.iter().all(|(have, _)| have != name) {
            self.functions.push((name.to_owned(), function()));
        }
    }

    /// What has to be at least 0 for these dims to be, that the model's own conditions do not say.
    pub(crate) fn not_held(&self, dims: impl IntoIterator<Item = Dim>) -> impl Iterator<Item = Dim> {
        let mut needed = Graph::new("");
        dims.into_iter().for_each(|d| needed.require(d));
        let implies =
            |d: &Dim, held: &Dim| (d.clone() - held.clone()).at_least().is_some_and(|least| least >= 0);
        let is_held = |d: &Dim| self.conditions.iter().any(|held| implies(d, held));
        let open: Vec<Dim> = needed.conditions().iter().filter(|d| !is_held(d)).cloned().collect();
        open.into_iter()
    }

    /// A value within a graph that is one only where dims are at least 0.
    ///
    /// # Errors
    /// Dims that cannot be computed for all sizes; a type that cannot go through the function.
    pub(crate) fn held(&mut self, value: &str, dtype: DType, dims: &[Dim]) -> Result<String, ExportError> {
        if dims.is_empty() {
            return Ok(value.to_owned());
        }
        if let Some(dim) = dims.iter().find(|d| !d.has_value_where(&[])) {
            return Err(ExportError::new(format!(
                "runs are held to `{dim}` having a value, which ONNX cannot say; give its dims values (--dim)"
            )));
        }
        if !takes(dtype) {
            return Err(ExportError::new(format!(
                "runs are held to `{}` being at least 0, and a {dtype} cannot go through a check of it; give its dims values (--dim)",
                dims[0]
            )));
        }
        let conditions = self.held_dims(dims)?;
        let held = self.temporary();
        self.required(value, &conditions, held.clone());
        Ok(held)
    }

    /// An output that is a value only where the conditions hold.
    pub(crate) fn required(&mut self, value: &str, conditions: &str, output: String) {
        self.push(DOMAIN, NAME, &[value, conditions], vec![output], vec![]);
    }
}

/// A vector of one integer in a function.
pub(crate) fn constant(name: &str, v: i64) -> NodeProto {
    let tensor = proto::tensor(name, &Tensor::new(&[1], vec![v]), true);
    NodeProto {
        op_type: "Constant".into(),
        output: vec![name.to_owned()],
        attribute: vec![proto::held("value", tensor)],
        ..Default::default()
    }
}

/// A node of a function.
pub(crate) fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|&s| s.to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute,
        ..Default::default()
    }
}

/// `y` is `x`, beginning at element `zero[worst]` of an axis of one: 1 is no place of `zero`.
fn function() -> FunctionProto {
    FunctionProto {
        domain: DOMAIN.into(),
        name: NAME.into(),
        input: vec!["x".into(), "conditions".into()],
        output: vec!["y".into()],
        node: vec![
            constant("zero", 0),
            constant("end", 1),
            node("Less", &["conditions", "zero"], "below", vec![]),
            node("Cast", &["below"], "broken", vec![proto::int("to", proto::code(DType::I64))]),
            node("ReduceMax", &["broken"], "worst", vec![proto::int("keepdims", 1)]),
            node("Gather", &["zero", "worst"], "start", vec![]),
            node("Unsqueeze", &["x", "zero"], "one", vec![]),
            node("Slice", &["one", "start", "end", "zero"], "all", vec![]),
            node("Squeeze", &["all", "zero"], "y", vec![]),
        ],
        doc_string:
            "x. Fails unless all conditions are at least 0: for other sizes the model has no result.".into(),
        ..Default::default()
    }
}
