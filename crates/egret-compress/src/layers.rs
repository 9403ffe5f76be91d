//! Layers: every contraction of a model, with the weight that can be compressed or the reason why none can.

use crate::constants::{Constants, Place, Refusal};
use crate::contractions::{Kind, in_functions, is_recurrent, kind, name, nested};
use crate::flat::{self, Tree};
use crate::layout::{Layout, Side};
use crate::numbers;
use crate::report::Reason;
use egret::{Error, near};
use onnx_protobuf::{GraphProto, ModelProto, NodeProto};
use std::collections::BTreeMap;

/// A contraction whose weight can be pruned.
pub struct Layer {
    /// The node's index.
    pub node: usize,
    /// The weight's name in the file.
    pub weight: String,
    /// Where it stands.
    pub place: Place,
    /// How the node reads it.
    pub layout: Layout,
    /// Which operand it is.
    pub side: Side,
    /// A convolution of each channel by itself.
    pub depthwise: bool,
}

impl Layer {
    /// Which of the node's inputs the weight works on.
    pub fn input(&self) -> usize {
        if self.side == Side::Left { 1 } else { 0 }
    }
}

/// A contraction.
pub struct Contraction {
    /// The node's name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// The node's index in the graph; `None` inside another node or a function.
    pub node: Option<usize>,
    /// Its weight, or why it has none to prune.
    pub layer: Result<Layer, Refusal>,
}

impl Contraction {
    /// Whether its node or its weight is called so.
    pub fn is(&self, name: &str) -> bool {
        self.name == name || self.layer.as_ref().is_ok_and(|l| l.weight == name)
    }

    /// Bytes of its weights as they stand in the file, where it has any that could be compressed; the constants are those of the graph.
    pub fn stored(&self, graph: &GraphProto, constants: &Constants<'_>) -> Option<usize> {
        let places: Vec<Place> = match (&self.layer, self.node) {
            (Ok(layer), _) => vec![layer.place],
            (Err(_), Some(node)) if is_recurrent(&graph.node[node]) => {
                let slots = graph.node[node].input.iter().skip(1).take(2);
                slots.map(|name| Some(constants.find(name).ok()?.place)).collect::<Option<_>>()?
            }
            _ => return None,
        };
        let bytes = |place: &Place| {
            let tensor = place.of(graph).filter(|t| numbers::is_float(t))?;
            Some(tensor.dims.iter().product::<i64>() as usize * numbers::width(tensor))
        };
        places.iter().map(bytes).sum()
    }
}

/// A name that an option gives must be a layer's.
///
/// # Errors
/// It is not; names near it are told.
pub fn named(found: &[Contraction], name: &str, option: &str) -> Result<(), Error> {
    if found.iter().any(|c| c.is(name)) {
        return Ok(());
    }
    Err(unnamed(name, option, found.iter().map(|c| c.name.as_str()), "contraction"))
}

/// That none of these names is the one that an option has, with those that are near it.
pub fn unnamed<'a>(name: &str, option: &str, names: impl Iterator<Item = &'a str>, kind: &str) -> Error {
    let near = near(name, names);
    let hint = if near.is_empty() { String::new() } else { format!("; near it: {}", near.join(", ")) };
    Error::user(format!("{option} {name}: no {kind} is called so{hint}"))
}

/// Every contraction: those of the graph in order, then those inside its nodes, then those of functions.
pub fn contractions(model: &ModelProto) -> Vec<Contraction> {
    let Some(graph) = model.graph.as_ref() else { return vec![] };
    let constants = Constants::new(graph);
    let mut out = vec![];
    let mut add = |node: &NodeProto, at, layer| {
        out.push(Contraction { name: name(node), op: node.op_type.clone(), node: at, layer })
    };
    for (i, node) in graph.node.iter().enumerate() {
        match kind(node) {
            None => {}
            Some(Kind::Integer) => {
                add(node, Some(i), Err((Reason::Integer, "it works on integers".to_owned())))
            }
            Some(Kind::Other) => {
                let text = format!("weights of {} are left as they are", node.op_type);
                add(node, Some(i), Err((Reason::NotDone, text)));
            }
            Some(Kind::Known) => add(node, Some(i), layer(graph, &constants, i, node)),
        }
    }
    let mut inner = vec![];
    nested(&graph.node, &mut inner);
    for (list, place) in
        [(inner, "a branch or body of If, Loop or Scan"), (in_functions(model), "a function")]
    {
        for node in list {
            add(node, None, Err((Reason::NotDone, format!("it is inside {place}"))));
        }
    }
    if flat::has_inside(graph) {
        apart(graph, &mut out);
    }
    out
}

/// Give contractions of a flat graph that are called alike names of their own: with those of the nodes around them before.
fn apart(graph: &GraphProto, found: &mut [Contraction]) {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    found.iter().for_each(|c| *count.entry(c.name.clone()).or_default() += 1);
    let (homes, tree) = (flat::homes(graph), Tree::new(graph));
    for c in found.iter_mut().filter(|c| count[&c.name] > 1) {
        let Some(node) = c.node else { continue };
        for (at, inner) in tree.nodes_around(homes[node]).into_iter().rev() {
            let branch = flat::attribute_of(&graph.node[at], inner).unwrap_or("body");
            c.name = format!("{}/{branch}/{}", name(&graph.node[at]), c.name);
        }
    }
}

fn layer(
    graph: &GraphProto,
    constants: &Constants<'_>,
    at: usize,
    node: &NodeProto,
) -> Result<Layer, Refusal> {
    let operand = |i: usize| node.input.get(i).map_or("", String::as_str);
    let [left, right] = [0, 1].map(|i| constants.is_constant(operand(i)));
    let is_product = matches!(node.op_type.as_str(), "Gemm" | "MatMul");
    let side = match (left, right) {
        (true, true) => return Err((Reason::NoConstant, "both operands are constants".into())),
        (true, false) if is_product => Side::Left,
        _ => Side::Right,
    };
    let found = constants.find(operand(if side == Side::Left { 0 } else { 1 }))?;
    let tensor = found.place.of(graph).and_then(numbers::read);
    let layout = Layout::of(node, side, &found.dims);
    let (Some(values), Some(layout)) = (tensor, layout) else {
        return Err((
            Reason::NotDone,
            format!("`{}` does not have the shape that {} needs", found.name, node.op_type),
        ));
    };
    if values.len() != layout.len() {
        return Err((Reason::NotDone, format!("`{}` does not have the elements of its shape", found.name)));
    }
    let depthwise = node.op_type == "Conv" && layout.group_count() > 1 && layout.channel_count() == 1;
    Ok(Layer { node: at, weight: found.name, place: found.place, layout, side, depthwise })
}
