//! A model while it is written: names, nodes and constants of the graph and of the sub-graphs around the current place.

use crate::{Options, proto};
use egret_ir::{DType, Def, Dim, Graph, Tensor, Type, ValueId};
use onnx_protobuf::{AttributeProto, FunctionProto, GraphProto, NodeProto};
use std::collections::{BTreeMap, BTreeSet};

/// A graph that is being written.
#[derive(Default)]
pub(crate) struct Frame {
    pub(crate) proto: GraphProto,
    /// By value: its name in the model.
    pub(crate) names: Vec<Option<String>>,
    /// For each symbol a value that has it as a dim, and the axis.
    pub(crate) symbols: BTreeMap<String, (String, usize)>,
    /// Dims that were computed: vectors of one element.
    pub(crate) dims: BTreeMap<Dim, String>,
    /// Vectors of dims.
    pub(crate) vectors: BTreeMap<Vec<Dim>, String>,
    /// Constants that the graph has not, by their content.
    pub(crate) constants: BTreeMap<(DType, Vec<usize>, Vec<u8>), String>,
    /// What the names of helping values begin with.
    pub(crate) base: String,
}

/// A model that is being written.
pub(crate) struct Writer<'o> {
    options: &'o Options,
    pub(crate) used: BTreeSet<String>,
    pub(crate) node_names: BTreeSet<String>,
    pub(crate) frames: Vec<Frame>,
    /// The opsets in use, by domain.
    pub(crate) opsets: BTreeMap<&'static str, i64>,
    pub(crate) ir_version: i64,
    /// What runs of the model are held to.
    pub(crate) conditions: Vec<Dim>,
    /// Functions of the model, with the choice of operands and attributes that each is made for.
    pub(crate) functions: Vec<(String, FunctionProto)>,
    /// Constants that are written into a file of their own, in the order of their bytes there.
    pub(crate) outside: Vec<Tensor>,
    outside_bytes: u64,
    /// Whether constants go outside.
    external: bool,
}

/// Constants of fewer bytes stay in the model's own file in any case.
const SMALL: usize = 1024;
/// What constants in a file of their own are aligned to, in bytes: a page, so that they can be mapped.
pub(crate) const ALIGNMENT: u64 = 4096;

impl<'o> Writer<'o> {
    pub(crate) fn new(options: &'o Options, external: bool) -> Writer<'o> {
        Writer {
            options,
            used: BTreeSet::new(),
            node_names: BTreeSet::new(),
            frames: vec![],
            opsets: [("", crate::OPSET)].into(),
            ir_version: crate::IR_VERSION,
            conditions: vec![],
            functions: vec![],
            outside: vec![],
            outside_bytes: 0,
            external,
        }
    }

    /// Use an operator or element type that is there from an opset on.
    pub(crate) fn require(&mut self, domain: &'static str, opset: i64) {
        let known = self.opsets.entry(domain).or_insert(opset);
        *known = (*known).max(opset);
    }

    fn require_type(&mut self, ty: &Type) {
        let dtype = match ty {
            Type::Tensor(t) => t.dtype,
            Type::Sequence(s) => s.dtype,
            Type::Optional(inner) => return self.require_type(inner),
        };
        let (opset, ir) = proto::since(dtype);
        self.require("", opset);
        self.ir_version = self.ir_version.max(ir);
    }

    /// A name that nothing has yet.
    pub(crate) fn unique(&mut self, wanted: &str) -> String {
        unique(&mut self.used, wanted)
    }

    /// The graph that is being written now.
    pub(crate) fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("a graph is being written")
    }

    /// A fresh name for a helping value.
    pub(crate) fn temporary(&mut self) -> String {
        let wanted = format!("{}/1", self.frame().base);
        self.unique(&wanted)
    }

    /// Append a node with one output; its name.
    pub(crate) fn emit(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.temporary();
        self.push("", op, inputs, vec![output.clone()], attributes);
        output
    }

    /// Append a node.
    pub(crate) fn push(
        &mut self,
        domain: &str,
        op: &str,
        inputs: &[&str],
        output: Vec<String>,
        attribute: Vec<AttributeProto>,
    ) {
        let mut input: Vec<String> = inputs.iter().map(|&s| s.to_owned()).collect();
        // Trailing inputs that are left out are not named, but those of a Loop are two at least.
        let least = if op == "Loop" { 2 } else { 0 };
        while input.len() > least && input.last().is_some_and(String::is_empty) {
            input.pop();
        }
        self.frame().proto.node.push(NodeProto {
            op_type: op.to_owned(),
            domain: domain.to_owned(),
            input,
            output,
            attribute,
            ..Default::default()
        });
    }

    /// Have the last node call an overload of its function.
    pub(crate) fn overload(&mut self, overload: &str) {
        if let Some(node) = self.frame().proto.node.last_mut() {
            overload.clone_into(&mut node.overload);
        }
    }

    /// A constant that the graph itself does not have: one for equal ones.
    pub(crate) fn constant(&mut self, t: &Tensor) -> String {
        let key = (t.dtype(), t.shape().to_vec(), t.bytes().to_vec());
        if let Some(name) = self.frame().constants.get(&key) {
            return name.clone();
        }
        let wanted = match (t.rank(), t.to_i64s()) {
            (0 | 1, Some(v)) if v.len() <= 6 => {
                let list: Vec<String> = v.iter().map(i64::to_string).collect();
                let list = list.join(",");
                if t.rank() == 0 {
                    format!("{}:{list}", t.dtype())
                } else {
                    format!("{}[{list}]", t.dtype())
                }
            }
            _ => format!("{}/const", self.frame().base),
        };
        let name = self.unique(&wanted);
        self.require_type(&Type::Tensor(t.ty()));
        let tensor = proto::tensor(&name, t, true);
        self.frame().proto.initializer.push(tensor);
        self.frame().constants.insert(key, name.clone());
        name
    }

    /// Integers as a constant vector.
    pub(crate) fn ints(&mut self, values: &[i64]) -> String {
        self.constant(&Tensor::new(&[values.len()], values.to_vec()))
    }

    /// A constant of the graph.
    fn weight(&mut self, wanted: &str, t: &Tensor) -> String {
        let name = self.unique(wanted);
        self.require_type(&Type::Tensor(t.ty()));
        let bytes = t.bytes().len();
        let outside = self.external && bytes >= SMALL && t.dtype() != DType::String;
        let mut tensor = proto::tensor(&name, t, !outside);
        if outside {
            let start = self.outside_bytes.next_multiple_of(ALIGNMENT);
            let length = proto::raw_len(t);
            for (key, value) in [
                ("location", self.options.data_file.clone()),
                ("offset", start.to_string()),
                ("length", length.to_string()),
            ] {
                let entry =
                    onnx_protobuf::StringStringEntryProto { key: key.into(), value, ..Default::default() };
                tensor.external_data.push(entry);
            }
            tensor.data_location = onnx_protobuf::tensor_proto::DataLocation::EXTERNAL.into();
            self.outside_bytes = start + length;
            self.outside.push(t.clone());
        }
        self.frame().proto.initializer.push(tensor);
        name
    }

    /// The name of a value of the graph that is being written; a constant is written at its first use.
    pub(crate) fn name(&mut self, graph: &Graph, v: ValueId) -> String {
        let at = v.0 as usize;
        if let Some(name) = &self.frame().names[at] {
            return name.clone();
        }
        let name = match &graph.value(v).def {
            Def::Const(t) => self.weight(&wanted(graph, v), t),
            // The order is topological: whoever uses a value comes after its producer.
            Def::Input(_) | Def::Node(..) => unreachable!("{v} is used before it is written"),
        };
        self.frame().names[at] = Some(name.clone());
        name
    }

    /// Where a symbol can be read off.
    pub(crate) fn symbol(&self, name: &str) -> Option<(String, usize)> {
        self.frames.iter().rev().find_map(|f| f.symbols.get(name)).cloned()
    }

    /// A dim, or a vector of dims, that was computed in this graph or one around it.
    pub(crate) fn computed<T>(&self, find: impl Fn(&Frame) -> Option<T>) -> Option<T> {
        self.frames.iter().rev().find_map(find)
    }

    /// Give a value its name in the model; dims that are symbols can be read off it.
    pub(crate) fn define(&mut self, graph: &Graph, v: ValueId, name: String) {
        let ty = graph.ty(v);
        self.require_type(ty);
        // Of an optional tensor, or a sequence, no dim can be read.
        if let Type::Tensor(t) = ty {
            for (axis, d) in t.shape.iter().enumerate() {
                if let Some(symbol) = d.as_symbol().filter(|_| !d.is_unnamed()) {
                    let place = (name.clone(), axis);
                    self.frame().symbols.entry(symbol.to_owned()).or_insert(place);
                }
            }
        }
        self.frame().names[v.0 as usize] = Some(name);
    }
}

/// A name that is not among `used` yet: the wanted one, or with a number behind it.
pub(crate) fn unique(used: &mut BTreeSet<String>, wanted: &str) -> String {
    if used.insert(wanted.to_owned()) {
        return wanted.to_owned();
    }
    let stem = wanted.trim_end_matches(|c: char| c.is_ascii_digit());
    let (stem, from) = match wanted.strip_prefix(stem).and_then(|n| n.parse::<u64>().ok()) {
        Some(n) if stem.ends_with(['/', '_']) => (stem.to_owned(), n),
        _ => (format!("{wanted}_"), 0),
    };
    let free = (from + 1..).map(|i| format!("{stem}{i}")).find(|name| !used.contains(name));
    let name = free.expect("there are more numbers than names");
    used.insert(name.clone());
    name
}

/// What a value is called where the name is free.
pub(crate) fn wanted(graph: &Graph, v: ValueId) -> String {
    let data = graph.value(v);
    if data.name.is_empty() { format!("v{}", v.0) } else { data.name.clone() }
}
