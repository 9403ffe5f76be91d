//! Activations as bytes: which values get a `QuantizeLinear`, with the ranges that samples give them.
//!
//! Inputs of contractions are quantised, once behind their producer; every reader of integers has a `DequantizeLinear` of its own. What
//! only moves numbers (`Reshape`, `MaxPool`, ..) works on the integers of its input, with the same scale. A residual addition reads the
//! integers of its skip input where they are there; everything else, the end of the model and activation functions work on floats.

use crate::constants::Constants;
use crate::data::taps::{Taps, floats};
use crate::flat;
use crate::integers::grid::Grid;
use crate::names::fresh;
use crate::quantize::histogram::{Histogram, Range, bytes};
use crate::stats::{Kind, Stats};
use egret::samples::Samples;
use egret::{Error, Result};
use onnx_protobuf::{GraphProto, ModelProto, NodeProto, TensorProto};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Operators whose first output has numbers of their first input only.
const MOVES: [&str; 14] = [
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Slice",
    "Gather",
    "Tile",
    "Expand",
    "Split",
    "MaxPool",
    "Identity",
    "DepthToSpace",
    "SpaceToDepth",
];
/// Operators that read integers where they are there.
const READERS: [&str; 4] = ["Add", "Mul", "GlobalAveragePool", "AveragePool"];

/// Where a node reads a value: node and slot.
pub type Edge = (usize, usize);

/// Which edges read integers.
#[derive(Default)]
pub struct Places {
    /// By the value that is read.
    pub edges: BTreeMap<String, BTreeSet<Edge>>,
    /// Values that have the integers of another.
    same: BTreeMap<String, String>,
}

impl Places {
    /// Where integers stand so that these edges, inputs of contractions, read them.
    pub fn new(graph: &GraphProto, constants: &Constants<'_>, wanted: &[Edge]) -> Places {
        let mut out = Places::default();
        for &(node, slot) in wanted {
            out.read(graph, (node, slot));
        }
        // Behind all others first: what a mover reads is quantised for it.
        for (i, node) in graph.node.iter().enumerate().rev() {
            let moves = MOVES.contains(&node.op_type.as_str()) && node.output.len() == 1;
            let y = node.output.first().map_or("", String::as_str);
            if moves && out.edges.contains_key(y) && !constants.is_constant(&node.input[0]) {
                out.same.insert(y.to_owned(), node.input[0].clone());
                out.read(graph, (i, 0));
            }
        }
        // In a branch where no contraction reads integers, samples may not have been.
        let homes = flat::homes(graph);
        let seen: BTreeSet<flat::Home> = wanted.iter().map(|edge| homes[edge.0]).chain([0]).collect();
        for (i, node) in graph.node.iter().enumerate() {
            if !READERS.contains(&node.op_type.as_str()) || !seen.contains(&homes[i]) {
                continue;
            }
            for (slot, name) in node.input.iter().enumerate() {
                // One side of an addition stays in the accumulator of its contraction.
                if let Some(edges) = out.edges.get_mut(name) {
                    edges.insert((i, slot));
                }
            }
        }
        out
    }

    fn read(&mut self, graph: &GraphProto, edge: Edge) {
        let name = graph.node[edge.0].input[edge.1].clone();
        self.edges.entry(name).or_default().insert(edge);
    }

    /// The value whose range a value has.
    fn source<'a>(&'a self, name: &'a str) -> &'a str {
        let mut at = name;
        while let Some(next) = self.same.get(at) {
            at = next;
        }
        at
    }
}

/// What was seen of a value.
#[derive(Clone, Default)]
pub struct Seen {
    histogram: Histogram,
    /// Whether some sample had no f32 tensor there.
    other: bool,
}

impl Seen {
    /// Its bytes among stats.
    pub fn write(&self) -> Vec<u8> {
        let mut out = vec![u8::from(self.other)];
        self.histogram.write(&mut out);
        out
    }

    /// Add what stats have seen.
    fn add(&mut self, bytes: &[u8]) -> Option<()> {
        let (&other, histogram) = bytes.split_first().filter(|(other, _)| **other <= 1)?;
        self.other |= other == 1;
        self.histogram.merge(Histogram::read(histogram)?);
        Some(())
    }
}

/// What samples, stats, or both together tell of the values that [`ranges`] are made of.
///
/// # Errors
/// A sample that the model does not take; stats without one of the values.
pub fn seen(
    model: &ModelProto,
    path: &Path,
    places: &Places,
    samples: Option<&Samples>,
    stats: Option<&Stats>,
    watch: &mut dyn FnMut(usize),
) -> Result<BTreeMap<String, Seen>> {
    let names: BTreeSet<String> = places.edges.keys().map(|n| places.source(n).to_owned()).collect();
    let mut out: BTreeMap<String, Seen> = names.iter().map(|n| (n.clone(), Seen::default())).collect();
    if let Some(stats) = stats {
        for (name, seen) in &mut out {
            stats.each(&(Kind::Range, 0, name.clone()), [0; 3], |bytes| seen.add(bytes))?;
        }
    }
    let Some(samples) = samples else { return Ok(out) };
    let mut taps = Taps::new(model, path, &names);
    samples.each(&mut |number, sample| {
        watch(number);
        let values = taps.run(sample).map_err(|e| e.at(format!("sample {number}")))?;
        for (name, seen) in &mut out {
            let single = values.get(name).filter(|t| t.dtype() == egret::ir::DType::F32);
            match single.and_then(floats) {
                Some(numbers) => seen.histogram.add(&numbers),
                None if taps.lacks(name) => {}
                None => seen.other = true,
            }
        }
        Ok(())
    })?;
    Ok(out)
}

/// The ranges of values; what has no floats, or some that are not finite (a mask of -inf), has none.
///
/// # Errors
/// No value is finite.
pub fn ranges(
    model: &ModelProto,
    places: &Places,
    seen: &BTreeMap<String, Seen>,
) -> Result<BTreeMap<String, Range>> {
    let graph = model.graph.get_or_default();
    let probabilities: BTreeSet<&str> = graph
        .node
        .iter()
        .filter(|n| n.op_type == "Softmax")
        .filter_map(|n| n.output.first().map(String::as_str))
        .collect();
    let mut out = BTreeMap::new();
    for name in places.edges.keys() {
        let source = places.source(name);
        let Some(Seen { histogram, other: false }) = seen.get(source) else { continue };
        if histogram.count() == 0 || histogram.bad() > 0 {
            continue;
        }
        let range = match probabilities.contains(source) {
            true => Range { grid: bytes(0.0, 1.0), method: "probabilities" },
            false => histogram.range(),
        };
        out.insert(name.clone(), range);
    }
    let broken =
        places.edges.keys().find(|n| seen.get(places.source(n)).is_some_and(|s| s.histogram.bad() > 0));
    match broken {
        Some(name) if out.is_empty() => Err(Error::user(format!(
            "`{name}` and all other inputs of contractions hold what is no finite number on these samples: are they prepared \
             as the model expects them?"
        ))),
        _ => Ok(out),
    }
}

/// Put the nodes around the values that have ranges; edges of others stay.
pub fn put(graph: &mut GraphProto, places: &Places, ranges: &BTreeMap<String, Range>) {
    let (mut before, mut behind) = (BTreeMap::<usize, Vec<NodeProto>>::new(), BTreeMap::new());
    let mut first = vec![];
    let mut renamed: BTreeMap<Edge, String> = BTreeMap::new();
    let producers: BTreeMap<String, usize> = (graph.node.iter().enumerate())
        .flat_map(|(i, n)| n.output.iter().map(move |o| (o.clone(), i)))
        .collect();
    for (name, edges) in &places.edges {
        let Some(range) = ranges.get(name) else { continue };
        let [scale, zero, codes] =
            ["act_scale", "act_zero_point", "act_quantized"].map(|n| fresh(graph, &format!("{name}_{n}")));
        graph.initializer.extend(parameters(&range.grid, &scale, &zero));
        let node = |op: &str, x: &str, y: String| NodeProto {
            op_type: op.into(),
            name: y.clone(),
            input: vec![x.to_owned(), scale.clone(), zero.clone()],
            output: vec![y],
            ..NodeProto::default()
        };
        let quantize = node("QuantizeLinear", name, codes.clone());
        match producers.get(name) {
            Some(&at) => behind.entry(at).or_insert_with(Vec::new).push(quantize),
            None => first.push(quantize),
        }
        for (k, &edge) in edges.iter().enumerate() {
            let y = fresh(graph, &format!("{name}_act_dequantized_{k}"));
            before.entry(edge.0).or_default().push(node("DequantizeLinear", &codes, y.clone()));
            renamed.insert(edge, y);
        }
    }
    let mut nodes = first;
    for (i, mut node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
        for (slot, name) in node.input.iter_mut().enumerate() {
            if let Some(new) = renamed.get(&(i, slot)) {
                name.clone_from(new);
            }
        }
        nodes.extend(before.remove(&i).unwrap_or_default());
        nodes.push(node);
        nodes.extend(behind.remove(&i).unwrap_or_default());
    }
    graph.node = nodes;
}

fn parameters(grid: &Grid, scale: &str, zero: &str) -> [TensorProto; 2] {
    let tensor = |name: &str, data_type: i32, raw_data: Vec<u8>| TensorProto {
        name: name.into(),
        data_type,
        raw_data,
        ..TensorProto::default()
    };
    let bytes = (grid.scale as f32).to_le_bytes().to_vec();
    [tensor(scale, 1, bytes), tensor(zero, 2, vec![grid.zero as u8])]
}
