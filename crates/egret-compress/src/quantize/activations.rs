//! Activations as bytes: the ranges that samples give to values, and the nodes that make bytes of these and floats again.
//!
//! Values are quantised once, behind their producer; every reader of integers has a `DequantizeLinear` of its own.

use crate::constants::Constants;
use crate::data::taps::{Taps, floats};
use crate::integers::grid::Grid;
use crate::layout::int;
use crate::names::fresh;
use crate::quantize::channels::Channels;
use crate::quantize::fold;
use crate::quantize::histogram::{Histogram, Range, bytes};
use crate::quantize::placement::Codes;
use crate::quantize::places::{Clamp, Edge, Places};
use crate::stats::{Kind, Stats};
use egret::ir::Tensor;
use egret::samples::Samples;
use egret::{Error, Result};
use onnx_protobuf::{GraphProto, ModelProto, NodeProto, TensorProto};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// `TensorProto.DataType`.
const FLOAT: i32 = 1;
const UINT8: i32 = 2;
const INT8: i32 = 3;

/// What was seen of a value.
#[derive(Clone, Default)]
pub struct Seen {
    histogram: Histogram,
    /// Of its channels, where these may have scales of their own.
    channels: Channels,
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

    /// See a sample.
    fn see(&mut self, value: &Tensor, numbers: &[f32]) {
        self.histogram.add(numbers);
        self.channels.see(value.shape(), numbers);
    }

    /// Add what stats have seen.
    fn add(&mut self, bytes: &[u8]) -> Option<()> {
        let (&other, histogram) = bytes.split_first().filter(|(other, _)| **other <= 1)?;
        self.other |= other == 1;
        self.histogram.merge(Histogram::read(histogram)?);
        Some(())
    }
}

/// What samples, stats, or both together tell of values: of [`Places::sources`], [`ranges`] are made of it.
///
/// `channels` are those of [`Places::channels`]; stats, which hold none, leave one scale.
///
/// # Errors
/// A sample that the model does not take; stats without one of the values.
pub fn seen(
    model: &ModelProto,
    path: &Path,
    names: &BTreeSet<String>,
    channels: &BTreeMap<String, usize>,
    samples: Option<&Samples>,
    stats: Option<&Stats>,
    watch: &mut dyn FnMut(usize),
) -> Result<BTreeMap<String, Seen>> {
    let mut out: BTreeMap<String, Seen> = names.iter().map(|n| (n.clone(), Seen::default())).collect();
    for (name, &count) in channels.iter().filter(|_| stats.is_none()) {
        if let Some(seen) = out.get_mut(name) {
            seen.channels = Channels::new(count);
        }
    }
    if let Some(stats) = stats {
        for (name, seen) in &mut out {
            stats.each(&(Kind::Range, 0, name.clone()), [0; 3], |bytes| seen.add(bytes))?;
        }
    }
    let Some(samples) = samples else { return Ok(out) };
    let mut taps = Taps::new(model, path, names);
    samples.each(&mut |number, sample| {
        watch(number);
        let values = taps.run(sample).map_err(|e| e.at(format!("sample {number}")))?;
        for (name, seen) in &mut out {
            let single = values.get(name).filter(|t| t.dtype() == egret::ir::DType::F32);
            match single.and_then(|t| Some((t, floats(t)?))) {
                Some((value, numbers)) => seen.see(value, &numbers),
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
    let zero_below: BTreeSet<&str> =
        places.edges.keys().map(String::as_str).filter(|n| is_zero_below(graph, places, n)).collect();
    let mut out = BTreeMap::new();
    for name in places.edges.keys() {
        let source = places.source(name);
        let Some(Seen { histogram, channels, other: false }) = seen.get(source) else { continue };
        if histogram.count() == 0 || histogram.bad() > 0 {
            continue;
        }
        let range = match probabilities.contains(source) {
            true => Range::of(bytes(0.0, 1.0), "probabilities"),
            false if zero_below.contains(name.as_str()) => histogram.clone().above(ZERO_BELOW).range(),
            false => {
                let channels = channels.grids();
                Range { channels, ..histogram.range() }
            }
        };
        out.insert(name.clone(), range);
    }
    share(places, &mut out);
    if places.runtime.rules().codes == Codes::Symmetric {
        let grids = out.values_mut().flat_map(|r| std::iter::once(&mut r.grid).chain(&mut r.channels));
        grids.for_each(|grid| *grid = symmetric(grid));
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

/// `HardSwish` makes zero of every number below.
const ZERO_BELOW: f64 = -3.0;

/// Whether nothing but `HardSwish` reads a value: codes for what it makes zeros of would be wasted.
fn is_zero_below(graph: &GraphProto, places: &Places, name: &str) -> bool {
    let mut readers = graph.node.iter().filter(|n| n.input.iter().any(|i| i == name)).peekable();
    let is_output = graph.output.iter().any(|o| o.name == name);
    let alone = places.source(name) == name && !is_output && readers.peek().is_some();
    alone && readers.all(|n| n.op_type == "HardSwish")
}

/// Ranges that are more than this many times as wide as others share no scale with them: the bytes of the others would be few.
const WIDEST: f64 = 4.0;

/// Give values that share a scale the range of all of them.
fn share(places: &Places, ranges: &mut BTreeMap<String, Range>) {
    let ends = |r: &Range| (r.grid.value(r.grid.low), r.grid.value(r.grid.high));
    // Results that are operands of others: until nothing changes.
    for _ in 0..places.shared.len() {
        let before = ranges.clone();
        for names in &places.shared {
            let of: BTreeSet<&str> = names.iter().map(|n| places.source(n)).collect();
            let all: Vec<(f64, f64)> = names.iter().filter_map(|n| ranges.get(n)).map(ends).collect();
            let widths = || all.iter().map(|(low, high)| high - low);
            let (least, most) = (widths().fold(f64::INFINITY, f64::min), widths().fold(0.0, f64::max));
            if all.len() < names.len() || most > WIDEST * least {
                continue;
            }
            let low = all.iter().map(|e| e.0).fold(0.0, f64::min);
            let high = all.iter().map(|e| e.1).fold(0.0, f64::max);
            let range = Range::of(bytes(low, high), "shared");
            let theirs = ranges.iter_mut().filter(|(n, _)| of.contains(places.source(n)));
            theirs.for_each(|(_, r)| *r = range.clone());
        }
        if *ranges == before {
            break;
        }
    }
}

/// The grid of i8 with zero at 0 that has the numbers of another.
fn symmetric(grid: &Grid) -> Grid {
    let most = f64::max(-grid.value(grid.low), grid.value(grid.high));
    Grid { scale: f64::from((most / 127.0) as f32), zero: 0, low: -128, high: 127 }
}

/// The clamps that change no byte, and that nothing but bytes stands behind.
fn redundant<'a>(
    graph: &GraphProto,
    places: &'a Places,
    ranges: &BTreeMap<String, Range>,
) -> BTreeMap<&'a str, &'a Clamp> {
    let constants = Constants::new(graph);
    let redundant = |(name, clamp): &(&String, &Clamp)| {
        let Some(range) = ranges.get(*name) else { return false };
        let (low, high) = clamp.bounds;
        let all = places.edges.get(*name).map_or(0, BTreeSet::len);
        let is = |grid: &Grid| grid.code(low) == grid.low && grid.code(high) == grid.high;
        range.grids().iter().all(is) && constants.read_count(name) == all
    };
    places.clamps.iter().filter(redundant).map(|(name, clamp)| (name.as_str(), clamp)).collect()
}

/// By what a node gives now, what it gives when the clamp behind it is taken out.
pub fn results(
    graph: &GraphProto,
    places: &Places,
    ranges: &BTreeMap<String, Range>,
) -> BTreeMap<String, String> {
    let result =
        |(name, clamp): (&str, &Clamp)| (graph.node[clamp.behind].output[0].clone(), name.to_owned());
    redundant(graph, places, ranges).into_iter().map(result).collect()
}

/// Take clamps out: what they clamp has the names of their results. Indices of nodes stay, of those that went too.
fn take_out(graph: &mut GraphProto, clamps: &BTreeMap<&str, &Clamp>) {
    for (name, clamp) in clamps {
        let result = &mut graph.node[clamp.behind].output[0];
        let inner = std::mem::replace(result, (*name).to_owned());
        graph.value_info.retain(|v| v.name != inner);
    }
}

/// Put the nodes around the values that have ranges; edges of others stay.
pub fn put(graph: &mut GraphProto, places: &Places, ranges: &BTreeMap<String, Range>) {
    let clamps = redundant(graph, places, ranges);
    take_out(graph, &clamps);
    let gone: BTreeSet<usize> = clamps.values().map(|clamp| clamp.node).collect();
    let (mut before, mut behind) = (BTreeMap::<usize, Vec<NodeProto>>::new(), BTreeMap::new());
    let mut first = vec![];
    let mut renamed: BTreeMap<Edge, String> = BTreeMap::new();
    let producers: BTreeMap<String, usize> = (graph.node.iter().enumerate())
        .filter(|(i, _)| !gone.contains(i))
        .flat_map(|(i, n)| n.output.iter().map(move |o| (o.clone(), i)))
        .collect();
    for (name, edges) in &places.edges {
        let Some(range) = ranges.get(name) else { continue };
        let [scale, zero, codes] =
            ["act_scale", "act_zero_point", "act_quantized"].map(|n| fresh(graph, &format!("{name}_{n}")));
        graph.initializer.extend(parameters(range, &scale, &zero));
        let axis = (!range.channels.is_empty()).then(|| int("axis", 1));
        let node = |op: &str, x: &str, y: String| NodeProto {
            op_type: op.into(),
            name: y.clone(),
            input: vec![x.to_owned(), scale.clone(), zero.clone()],
            output: vec![y],
            attribute: axis.iter().cloned().collect(),
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
    let (mut nodes, mut bounds) = (first, BTreeSet::new());
    for (i, mut node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
        if gone.contains(&i) {
            bounds.extend(node.input.drain(1..));
            continue;
        }
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
    fold::drop_unread(graph, bounds);
}

/// Scale and zero point: of one element, or a list of those of the channels.
fn parameters(range: &Range, scale: &str, zero: &str) -> [TensorProto; 2] {
    let tensor = |name: &str, data_type: i32, raw_data: Vec<u8>| TensorProto {
        name: name.into(),
        dims: if range.channels.is_empty() { vec![] } else { vec![range.channels.len() as i64] },
        data_type,
        raw_data,
        ..TensorProto::default()
    };
    let scales = range.grids().iter().flat_map(|g| (g.scale as f32).to_le_bytes()).collect();
    let zeros = range.grids().iter().map(|g| g.zero as u8).collect();
    let data_type = if range.grid.low < 0 { INT8 } else { UINT8 };
    [tensor(scale, FLOAT, scales), tensor(zero, data_type, zeros)]
}
