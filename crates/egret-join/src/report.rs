//! What was joined.

use serde_json::{Value as Json, json};

/// A model of the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// What wires call it.
    pub name: String,
    /// The name of its file; that of a ready head is empty.
    pub file: String,
    /// Nodes of its graph.
    pub nodes: usize,
    /// Its opset of ONNX's own operators, before it was raised to that of the whole; `None` = it uses none.
    pub opset: Option<i64>,
    /// Bytes of its files.
    pub bytes: u64,
}

/// A value that is an input of another model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wired {
    /// `MODEL:VALUE`
    pub from: String,
    /// `MODEL:INPUT`
    pub to: String,
    /// The type of the value, with the dims of the whole.
    pub ty: String,
}

/// An input or output of the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: String,
    /// What it is in the models, `MODEL:VALUE`: one for an output, as many as it feeds for an input.
    pub of: Vec<String>,
}

/// Dims that are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dim {
    /// Its name or size in the whole.
    pub name: String,
    /// What it is in the models, `MODEL:DIM`.
    pub of: Vec<String>,
}

/// What was joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The models, in the order in which they were given; a ready head is the last.
    pub models: Vec<Model>,
    /// Opset of ONNX's own operators.
    pub opset: Option<i64>,
    /// The wires, in the order in which they were given.
    pub wires: Vec<Wired>,
    /// Inputs of the whole.
    pub inputs: Vec<Port>,
    /// Outputs of the whole.
    pub outputs: Vec<Port>,
    /// Dims that wires and shared inputs made one, or gave a size.
    pub dims: Vec<Dim>,
    /// Initialisers that were there before and are stored once.
    pub shared: usize,
    /// Their bytes.
    pub shared_bytes: u64,
    /// Nodes that only dropped outputs needed.
    pub dropped: usize,
    /// Bytes of the joined file; weights in files of their own are not counted.
    pub bytes: usize,
    /// Why Egret's importer could not look at the whole, where it does not take a part either.
    pub unchecked: Option<String>,
}

impl Report {
    /// Everything as JSON.
    pub fn to_json(&self) -> Json {
        let model = |m: &Model| json!({ "name": m.name, "file": m.file, "nodes": m.nodes, "opset": m.opset, "bytes": m.bytes });
        let wire = |w: &Wired| json!({ "from": w.from, "to": w.to, "type": w.ty });
        let port = |p: &Port| json!({ "name": p.name, "type": p.ty, "of": p.of });
        let dim = |d: &Dim| json!({ "name": d.name, "of": d.of });
        json!({
            "models": self.models.iter().map(model).collect::<Vec<_>>(),
            "opset": self.opset,
            "wires": self.wires.iter().map(wire).collect::<Vec<_>>(),
            "inputs": self.inputs.iter().map(port).collect::<Vec<_>>(),
            "outputs": self.outputs.iter().map(port).collect::<Vec<_>>(),
            "dims": self.dims.iter().map(dim).collect::<Vec<_>>(),
            "shared": { "tensors": self.shared, "bytes": self.shared_bytes },
            "dropped_nodes": self.dropped,
            "bytes": self.bytes,
            "unchecked": self.unchecked,
        })
    }
}
