//! What the page shows, as compact JSON: the graph after import and after each pass, the trace, the kernels.
//!
//! Texts occur once, in `strings`; everything else names them by their place. Nodes are rows, operands are numbers:
//! `n` is the first result of node `n`, `[n, k]` its result `k`, `-1 - i` is input `i`, `[-1, s]` the constant spelt by string `s`.

use super::Focus;
use crate::story::Story;
use egret_ir::{Def, Family, Graph, NodeId, Op, Type, ValueId};
use egret_loop::Program;
use egret_opt::{CostModel, PassReport};
use egret_trace::Trace;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};

/// Texts and operations that the data names by their places.
#[derive(Default)]
struct Tables {
    strings: Vec<String>,
    places: HashMap<String, usize>,
    ops: Vec<Op>,
    op_places: BTreeMap<usize, usize>,
}

impl Tables {
    fn string(&mut self, text: &str) -> usize {
        if let Some(&place) = self.places.get(text) {
            return place;
        }
        self.strings.push(text.to_owned());
        self.places.insert(text.to_owned(), self.strings.len() - 1);
        self.strings.len() - 1
    }

    fn op(&mut self, op: Op) -> usize {
        let next = self.ops.len();
        *self.op_places.entry(op as usize).or_insert_with(|| {
            self.ops.push(op);
            next
        })
    }

    /// A value of the trace with every text replaced by `#` and its place, whatever its fields are.
    fn packed(&mut self, value: Value) -> Value {
        match value {
            Value::String(s) => Value::String(format!("#{}", self.string(&s))),
            Value::Array(list) => list.into_iter().map(|v| self.packed(v)).collect(),
            Value::Object(map) => {
                Value::Object(map.into_iter().map(|(k, v)| (k, self.packed(v))).collect::<Map<_, _>>())
            }
            other => other,
        }
    }
}

/// Sub-graphs of at most so many nodes are spelt out.
const READABLE: usize = 200;

/// Attributes are shown up to so many characters.
const LONG: usize = 400;

/// Collects what happens to a graph.
pub struct Recorder {
    model: &'static CostModel,
    tables: Tables,
    stages: Vec<Stage>,
    /// Nanoseconds of each kernel, where they were measured.
    pub(super) measured: Option<Vec<u64>>,
}

struct Stage {
    name: String,
    graph: Value,
}

impl Recorder {
    /// Nothing yet; nodes will be said to cost what they cost by this model.
    pub fn new(model: &'static CostModel) -> Recorder {
        Recorder { model, tables: Tables::default(), stages: vec![], measured: None }
    }

    /// Note the graph as it is after a pass.
    pub fn stage(&mut self, name: &str, graph: &Graph) {
        let graph = encode(&mut self.tables, graph, self.model);
        self.stages.push(Stage { name: name.to_owned(), graph });
    }

    /// Note the graph as a pass left it.
    pub fn pass(&mut self, report: &PassReport) {
        if let Some(stages) = &report.snapshots {
            self.stage(report.name, &stages.after);
        }
    }

    /// Everything, for the page. `program`: the kernels, or why there are none.
    pub fn finish(
        mut self,
        title: &str,
        trace: &Trace,
        story: &Story,
        program: Result<&Program, &str>,
        focus: &Focus,
    ) -> Value {
        let mut events = trace.to_json()["events"].take();
        if let Some(list) = events.as_array_mut() {
            // The program says the same of its kernels.
            list.retain(|e| {
                e["what"] != "kernel" || e["alternatives"].as_array().is_some_and(|a| !a.is_empty())
            });
        }
        for event in events.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            // What a proof's checker reads: all terms of a pass as text IR.
            event.remove("terms");
        }
        let events = self.tables.packed(events);
        let compiled = match program {
            Ok(p) => {
                let kernels = crate::kernels::kernels(p)
                    .into_iter()
                    .map(|k| self.tables.packed(k))
                    .collect::<Vec<_>>();
                let branches: Vec<Vec<[usize; 2]>> =
                    p.branches.iter().map(|b| b.calls.iter().map(|c| [c.start, c.end]).collect()).collect();
                json!({ "kernels": kernels, "branches": branches, "arena_bytes": p.arena_bytes, "weights_bytes": p.weights.len(), "measured": self.measured })
            }
            Err(reason) => json!({ "refused": reason }),
        };
        let mut stages: Vec<Value> = vec![];
        for (i, stage) in self.stages.iter().enumerate() {
            let doc = egret_opt::PASSES.iter().find(|p| p.name == stage.name).map_or("", |p| p.doc);
            // A pass that changes nothing costs nothing.
            let same = i.checked_sub(1).filter(|&before| self.stages[before].graph == stage.graph);
            stages.push(match same {
                Some(before) => json!({ "name": stage.name, "doc": doc, "same": before }),
                None => json!({ "name": stage.name, "doc": doc, "graph": stage.graph }),
            });
        }
        let ops: Vec<Value> =
            self.tables.ops.iter().map(|&op| json!([op.name(), colour(op), op.info().doc])).collect();
        json!({
            "title": title,
            "focus": { "q": focus.query, "tab": if focus.missed { "missed" } else { "graph" } },
            "producer": concat!("egret ", env!("CARGO_PKG_VERSION")),
            "strings": self.tables.strings,
            "ops": ops,
            "stages": stages,
            "events": events,
            "story": story.to_json(),
            "compiled": compiled,
        })
    }
}

/// What an operation is to the eye: its colour.
fn colour(op: Op) -> &'static str {
    match op.family() {
        Family::Contraction | Family::Attention | Family::Recurrent => "contraction",
        Family::Reduction | Family::Normalization | Family::Window | Family::Sampling => "reduction",
        Family::Elementwise => "elementwise",
        Family::Movement => "movement",
        Family::GatherScatter
        | Family::Sort
        | Family::Linalg
        | Family::Random
        | Family::Control
        | Family::Sequence
        | Family::Text
        | Family::Image
        | Family::Ml => "other",
    }
}

fn encode(tables: &mut Tables, graph: &Graph, model: &CostModel) -> Value {
    let costs = egret_opt::estimate(graph, model);
    let place: HashMap<NodeId, usize> = costs.iter().enumerate().map(|(i, &(n, _))| (n, i)).collect();
    let nodes: Vec<Value> = costs.iter().map(|&(id, cost)| node(tables, graph, &place, id, cost)).collect();
    let inputs: Vec<Value> =
        graph.inputs().iter().map(|&v| json!([graph.value(v).name, graph.ty(v).to_string()])).collect();
    let names = graph.output_names().iter().zip(graph.outputs());
    let outputs: Vec<Value> = names
        .map(|(name, &v)| json!([name, operand(tables, graph, &place, v), graph.ty(v).to_string()]))
        .collect();
    json!({ "inputs": inputs, "outputs": outputs, "nodes": nodes })
}

/// `[op, attributes, type, name, cost, operands, sources, sub-graphs as text]`
fn node(
    tables: &mut Tables,
    graph: &Graph,
    place: &HashMap<NodeId, usize>,
    id: NodeId,
    cost: u64,
) -> Value {
    let node = graph.node(id);
    let mut attrs: Vec<String> = node
        .attrs
        .0
        .iter()
        .map(|(name, value)| format!("{name} = {}", clipped(value.to_string())))
        .collect();
    let regions = node.op.info().regions.iter().zip(&node.regions);
    attrs.extend(regions.clone().map(|(name, region)| format!("{name} = {} nodes", region.node_count())));
    // Sub-graphs are shown as text, where they are not too long to be read.
    let spelt = regions.filter(|(_, region)| region.node_count() <= READABLE);
    let texts: Vec<usize> =
        spelt.map(|(name, region)| tables.string(&format!("{name}: {region}"))).collect();
    let types: Vec<String> = node.results.iter().map(|&v| graph.ty(v)).map(Type::to_string).collect();
    let name =
        node.results.iter().map(|&v| graph.value(v).name.as_str()).find(|n| !n.is_empty()).unwrap_or("");
    let operands: Vec<Value> =
        node.operands.iter().map(|v| v.map_or(Value::Null, |v| operand(tables, graph, place, v))).collect();
    let sources: Vec<usize> = node.sources.iter().map(|s| tables.string(s)).collect();
    json!([
        tables.op(node.op),
        tables.string(&attrs.join("\n")),
        tables.string(&types.join("; ")),
        tables.string(name),
        cost,
        operands,
        sources,
        texts
    ])
}

/// The beginning of a long text: attributes of a tree ensemble are megabytes.
fn clipped(text: String) -> String {
    match text.char_indices().nth(LONG) {
        Some((end, _)) => format!("{}.. ({} characters)", &text[..end], text.chars().count()),
        None => text,
    }
}

fn operand(tables: &mut Tables, graph: &Graph, place: &HashMap<NodeId, usize>, v: ValueId) -> Value {
    match &graph.value(v).def {
        Def::Input(i) => json!(-1 - (*i as i64)),
        Def::Const(t) => json!([-1, tables.string(&egret_ir::text::constant(t))]),
        Def::Node(n, k) => match (place.get(n), *k) {
            (Some(n), 0) => json!(n),
            (Some(n), k) => json!([n, k]),
            (None, _) => Value::Null,
        },
    }
}
