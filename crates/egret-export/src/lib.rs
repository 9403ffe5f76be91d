//! ONNX export: Graph IR back to a model file that other tools read.
//!
//! [`export`] writes a verified [`Graph`] as an ONNX model of opset 23 (or a newer one where an operation or element type needs it).
//! Every operation of the op table has one entry that says how it is spelt: as an ONNX operator of the same meaning, or as a few nodes
//! ([`spellings`]; `docs/EXPORT.md` is made of it). The compiler holds the table complete: it matches on the families of operations, as
//! the interpreter does. What ONNX cannot say of an operation (an attribute, an element type) is refused with the node and what to do.
//!
//! | module | what it does |
//! |---|---|
//! | `writer` | the graph and the sub-graphs around the current place: names, constants, nodes |
//! | `call` | what the function of an operation sees of its node |
//! | `conditions` | what runs are held to, whatever is read |
//! | `dims` | symbolic dims: read off shapes, and computed with |
//! | `ops` | the table, in files by family, and the walk over a graph |
//! | `proto` | types, tensors, attributes |
//!
//! * Names of inputs and outputs are kept. Other values keep the names they have, or are called `v12` after their number; helping
//!   values `NAME/1`. The same graph gives the same bytes.
//! * A symbol of an input's type is a `dim_param`. Where a shape needs a symbolic dim as a number, it is computed from the `Shape` of a value.
//! * What no operator says becomes a function of the model, of the domain `egret`, with a body of ONNX's operators; imported again, it is the
//!   operation that it was (`ops/lstm.rs`).
//! * A sub-graph names what it takes from around it directly.
//! * Constants are initialisers. Above [`EXTERNAL_BYTES`] together, the larger ones go into a file of their own ([`Exported::data`]).
//!
//! # Example
//!
//! ```
//! use egret_export::{Options, export};
//! use egret_onnx::{ImportOptions, import_bytes, import_path};
//!
//! let model = std::path::Path::new("../../fixtures/models/parallel_cnn.onnx");
//! let graph = import_path(model, &ImportOptions::default())?;
//! let exported = export(&graph, &Options::default())?;
//! let again = import_bytes(&exported.model, None, &ImportOptions::default())?;
//! assert_eq!(again.ty(again.inputs()[0]).to_string(), "f32[batch, 1, 28, 28]");
//! assert_eq!(again.output_names(), graph.output_names());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod call;
mod conditions;
mod dims;
mod error;
mod ops;
mod proto;
mod writer;

pub use error::ExportError;
pub use ops::spellings;

use egret_ir::{Def, Graph, Tensor};
use onnx_protobuf::{GraphProto, Message, ModelProto, OperatorSetIdProto};
use std::collections::BTreeMap;

/// The opset that is written unless a newer one is needed.
pub const OPSET: i64 = 23;
/// The version of ONNX's file format that goes with it.
const IR_VERSION: i64 = 11;
/// Constants of more bytes than this together are written into a file of their own: a protobuf message is shorter than 2 GiB.
pub const EXTERNAL_BYTES: u64 = 1 << 30;

/// What may be chosen.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of the file beside the model that large constants are in, where there is one.
    pub data_file: String,
    /// From how many bytes of constants on there is one.
    pub external_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { data_file: "model.onnx.data".into(), external_bytes: EXTERNAL_BYTES }
    }
}

/// A model file, and what goes beside it.
pub struct Exported {
    /// The bytes of the model.
    pub model: Vec<u8>,
    /// The constants in the file [`Options::data_file`]; none where all are in the model.
    pub data: Data,
    /// The opset of ONNX's own operators.
    pub opset: i64,
    /// How many nodes there are of each operator, sub-graphs included, bodies of functions not.
    pub nodes: BTreeMap<String, usize>,
}

/// Constants in a file of their own.
pub struct Data(Vec<Tensor>);

impl Data {
    /// Whether there is no such file.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of the file, in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = std::borrow::Cow<'_, [u8]>> {
        let mut at = 0u64;
        self.0.iter().flat_map(move |t| {
            let gap = at.next_multiple_of(writer::ALIGNMENT) - at;
            let raw = proto::raw(t);
            at += gap + raw.len() as u64;
            [vec![0; gap as usize].into(), raw.into()]
        })
    }
}

/// Bytes of the constants of a graph and of its sub-graphs.
fn constant_bytes(graph: &Graph) -> u64 {
    let own = graph.value_ids().map(|v| match &graph.value(v).def {
        Def::Const(t) => t.bytes().len() as u64,
        _ => 0,
    });
    let inner = graph.node_ids().into_iter().flat_map(|n| graph.node(n).regions.iter().map(constant_bytes));
    own.sum::<u64>() + inner.sum::<u64>()
}

/// Count the nodes of a graph and of its sub-graphs by operator.
fn count(graph: &GraphProto, counts: &mut BTreeMap<String, usize>) {
    for node in &graph.node {
        *counts.entry(node.op_type.clone()).or_default() += 1;
        node.attribute.iter().filter_map(|a| a.g.as_ref()).for_each(|inner| count(inner, counts));
    }
}

/// Write a graph as an ONNX model.
///
/// # Errors
/// A node of an operation that ONNX cannot say, or not with these attributes and types; a dim that no shape tells.
pub fn export(graph: &Graph, options: &Options) -> Result<Exported, ExportError> {
    let external = constant_bytes(graph) > options.external_bytes;
    let mut writer = writer::Writer::new(options, external);
    let proto = writer.model_graph(graph)?;
    let opsets: Vec<_> = writer
        .opsets
        .iter()
        .map(|(domain, version)| OperatorSetIdProto {
            domain: (*domain).to_owned(),
            version: *version,
            ..Default::default()
        })
        .collect();
    let functions = writer.functions.into_iter().map(|(_, mut function)| {
        function.opset_import.clone_from(&opsets);
        function
    });
    let mut nodes = BTreeMap::new();
    count(&proto, &mut nodes);
    let model = ModelProto {
        ir_version: writer.ir_version,
        functions: functions.collect(),
        opset_import: opsets,
        producer_name: "egret".into(),
        graph: Some(proto).into(),
        ..Default::default()
    };
    let bytes = model
        .write_to_bytes()
        .map_err(|e| ExportError::new(format!("the model does not fit into one file: {e}")))?;
    let opset = writer.opsets[""];
    Ok(Exported { model: bytes, data: Data(writer.outside), opset, nodes })
}
