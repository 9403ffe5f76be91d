//! A model while it is written: names, nodes and constants of the graph and of the sub-graphs around the current place.

use crate::call::Call;
use crate::error::ExportError;
use crate::{Options, proto};
use egret_ir::{DType, Def, Dim, Graph, Node, NodeId, Tensor, Type, ValueId};
use onnx_protobuf::{AttributeProto, GraphProto, NodeProto};
use std::collections::{BTreeMap, BTreeSet};

/// A graph that is being written.
#[derive(Default)]
pub(crate) struct Frame {
    pub(crate) proto: GraphProto,
    /// By value: its name in the model.
    names: Vec<Option<String>>,
    /// For each symbol a value that has it as a dim, and the axis.
    symbols: BTreeMap<String, (String, usize)>,
    /// Dims that were computed: vectors of one element.
    pub(crate) dims: BTreeMap<Dim, String>,
    /// Vectors of dims.
    pub(crate) vectors: BTreeMap<Vec<Dim>, String>,
    /// Constants that the graph has not, by their content.
    constants: BTreeMap<(DType, Vec<usize>, Vec<u8>), String>,
    /// What the names of helping values begin with.
    base: String,
}

/// A model that is being written.
pub(crate) struct Writer<'o> {
    options: &'o Options,
    used: BTreeSet<String>,
    node_names: BTreeSet<String>,
    pub(crate) frames: Vec<Frame>,
    /// The opsets in use, by domain.
    pub(crate) opsets: BTreeMap<&'static str, i64>,
    pub(crate) ir_version: i64,
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
        while input.last().is_some_and(String::is_empty) {
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

    fn define(&mut self, graph: &Graph, v: ValueId, name: String) {
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

    /// The model's graph: names of inputs and outputs are kept.
    ///
    /// # Errors
    /// A node that cannot be said in ONNX.
    pub(crate) fn model_graph(&mut self, graph: &Graph) -> Result<GraphProto, ExportError> {
        let own: Vec<Option<String>> = vec![None; graph.inputs().len()];
        self.graph(graph, &own, true)
    }

    /// A graph. `captured`: for each input the name of the value around it that it is, or that it is an input here too.
    pub(crate) fn graph(
        &mut self,
        graph: &Graph,
        captured: &[Option<String>],
        keeps_names: bool,
    ) -> Result<GraphProto, ExportError> {
        let names = vec![None; graph.value_count()];
        self.frames.push(Frame { names, base: graph.name.clone(), ..Frame::default() });
        self.frame().proto.name = if graph.name.is_empty() { "graph".into() } else { graph.name.clone() };
        for (&v, outer) in graph.inputs().iter().zip(captured) {
            let name = match outer {
                Some(outer) => outer.clone(),
                None => {
                    let name = self.unique(&wanted(graph, v));
                    if keeps_names && name != graph.value(v).name && !graph.value(v).name.is_empty() {
                        return Err(ExportError::new(format!(
                            "two inputs are called `{}`",
                            graph.value(v).name
                        )));
                    }
                    self.frame().proto.input.push(proto::value(&name, graph.ty(v)));
                    name
                }
            };
            self.define(graph, v, name);
        }
        // The first output that is a node's result gives the result its name.
        let mut planned: BTreeMap<ValueId, String> = BTreeMap::new();
        if keeps_names {
            for (&v, name) in graph.outputs().iter().zip(graph.output_names()) {
                if !self.used.insert(name.clone()) {
                    return Err(ExportError::new(format!(
                        "the output `{name}` has the name of an input or of another output, which ONNX does not allow; rename it"
                    )));
                }
                if graph.producer(v).is_some() {
                    planned.entry(v).or_insert_with(|| name.clone());
                }
            }
        }
        let order = graph
            .topological()
            .map_err(|n| ExportError::new(format!("{} is on a cycle", graph.node(n).op)))?;
        for id in order {
            self.node(graph, id, &planned).map_err(|e| e.at(|| place(graph.node(id))))?;
        }
        self.outputs(graph, keeps_names);
        let mut proto = self.frames.pop().expect("pushed above").proto;
        sweep(&mut proto);
        Ok(proto)
    }

    fn outputs(&mut self, graph: &Graph, keeps_names: bool) {
        let mut taken = BTreeSet::new();
        for (i, &v) in graph.outputs().iter().enumerate() {
            let have = self.name(graph, v);
            let name = if keeps_names { graph.output_names()[i].clone() } else { have.clone() };
            // A sub-graph gives what a node of its own makes, each value once.
            let own = self.frame().proto.node.iter().any(|n| n.output.contains(&have));
            let name = if have == name && own && taken.insert(name.clone()) {
                name
            } else {
                self.frame().base = wanted(graph, v);
                let name = if keeps_names { name } else { self.temporary() };
                self.push("", "Identity", &[&have], vec![name.clone()], vec![]);
                name
            };
            let value = proto::value(&name, graph.ty(v));
            self.frame().proto.output.push(value);
        }
    }

    fn node(
        &mut self,
        graph: &Graph,
        id: NodeId,
        planned: &BTreeMap<ValueId, String>,
    ) -> Result<(), ExportError> {
        let node = graph.node(id);
        let mut names = vec![];
        for &r in &node.results {
            names.push(match planned.get(&r) {
                Some(name) => name.clone(),
                None => self.unique(&wanted(graph, r)),
            });
        }
        self.frame().base = names.first().cloned().unwrap_or_default();
        let first = self.frame().proto.node.len();
        let written = Call { writer: self, graph, node }.write()?;
        let mut given = BTreeSet::new();
        for ((&r, written), name) in node.results.iter().zip(written).zip(names) {
            let emitted = &mut self.frame().proto.node[first..];
            let is_new =
                emitted.iter().any(|n| n.output.contains(&written)) && given.insert(written.clone());
            let name = if is_new {
                rename(emitted, &written, &name);
                self.used.remove(&written);
                name
            } else {
                written
            };
            self.define(graph, r, name);
        }
        self.name_nodes(node, first);
        Ok(())
    }

    /// Call the nodes from `first` on by the ONNX node that their work comes from.
    fn name_nodes(&mut self, node: &Node, first: usize) {
        let source = node.sources.first().map(|s| s.split_once(':').map_or(s.as_str(), |(_, name)| name));
        let source = source.filter(|s| !s.is_empty()).map(str::to_owned);
        for i in first..self.frame().proto.node.len() {
            let own = self.frame().proto.node[i].output.first().cloned().unwrap_or_default();
            let name = unique(&mut self.node_names, source.as_deref().unwrap_or(&own));
            self.frame().proto.node[i].name = name;
        }
    }
}

/// A name that is not among `used` yet: the wanted one, or with a number behind it.
fn unique(used: &mut BTreeSet<String>, wanted: &str) -> String {
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
fn wanted(graph: &Graph, v: ValueId) -> String {
    let data = graph.value(v);
    if data.name.is_empty() { format!("v{}", v.0) } else { data.name.clone() }
}

fn rename(nodes: &mut [NodeProto], from: &str, to: &str) {
    let names = nodes.iter_mut().flat_map(|n| n.input.iter_mut().chain(&mut n.output));
    names.filter(|n| *n == from).for_each(|n| to.clone_into(n));
}

/// How messages name a node.
fn place(node: &Node) -> String {
    match node.sources.first() {
        Some(source) => format!("{} from {source:?}", node.op),
        None => node.op.to_string(),
    }
}

/// Remove nodes and constants that no output needs: what an operation was written without, as the casts before an integer product.
/// Constants in a file of their own stay.
fn sweep(graph: &mut GraphProto) {
    let mut needed: BTreeSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    let mut kept = vec![];
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|o| needed.contains(o)) {
            taken(&node, &mut needed);
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.initializer.retain(|t| !t.external_data.is_empty() || needed.contains(&t.name));
}

/// The values that a node takes, also inside its sub-graphs.
fn taken(node: &NodeProto, out: &mut BTreeSet<String>) {
    out.extend(node.input.iter().filter(|i| !i.is_empty()).cloned());
    for inner in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
        inner.node.iter().for_each(|n| taken(n, out));
        out.extend(inner.output.iter().map(|o| o.name.clone()));
    }
}
