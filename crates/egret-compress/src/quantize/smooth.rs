//! Smoothing: factors move from the channels of a value into the weights that read it, so that one range serves all channels. A channel of
//! ten times the range of the others leaves them a tenth of the codes; divided by eight, it leaves them most, and its weights are eight
//! times as large.
//!
//! It is SmoothQuant (arXiv 2211.10438) where the value comes from a normalisation, and cross-layer equalisation (arXiv 1906.04721) where it
//! comes from a layer. Factors are powers of two: the model before rounding gives the same bits, unless numbers are subnormal.

use crate::constants::{Constants, Place};
use crate::data::taps::{Taps, floats};
use crate::layers::{Contraction, Layer};
use crate::layout::{Side, integer};
use crate::numbers;
use crate::quantize::{Edge, Planned};
use egret::Result;
use egret::samples::Samples;
use onnx_protobuf::{GraphProto, ModelProto, NodeProto};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How much of the range of a channel goes into the weights, as an exponent: those of SmoothQuant, and some around it.
const SHARES: [f64; 5] = [0.25, 0.5, 0.65, 0.8, 0.95];
/// Factors are from one over this power of two up to it.
const MOST: f64 = 12.0;
/// What is left of the error, at most, where factors are moved.
const WORTH: f64 = 0.9;
/// Operators that a factor of a channel, being positive, passes.
const PASS: [&str; 4] = ["Relu", "LeakyRelu", "Identity", "Dropout"];
/// As these, of images: they mix what stands on the axes behind that of the channels.
const POOLS: [&str; 3] = ["MaxPool", "AveragePool", "GlobalAveragePool"];

/// A tensor, and for each of its elements in some order: where it stands, and its channel.
struct Scaled {
    place: Place,
    elements: Vec<(usize, usize)>,
}

/// A value whose channels may be scaled.
struct Site {
    name: String,
    channels: usize,
    /// Axes behind that of the channels.
    behind: usize,
    /// What makes the value: divided.
    makers: Vec<Scaled>,
    /// The layers that read it, as indices of contractions: multiplied.
    readers: Vec<(usize, Scaled)>,
}

/// What samples tell of the channels of a value.
#[derive(Clone, Default)]
struct Channels {
    low: Vec<f64>,
    high: Vec<f64>,
    /// Sums of squares.
    square: Vec<f64>,
    count: f64,
}

/// Move factors where that makes the rounding errors of the layers less; of each contraction that reads a smoothed value, the words for the
/// report.
///
/// # Errors
/// A sample that the model does not take.
pub fn smooth(
    model: &mut ModelProto,
    path: &Path,
    found: &[Contraction],
    plan: &[Planned],
    inputs: &[Vec<Edge>],
    skipped: &dyn Fn(&Contraction) -> bool,
    samples: &Samples,
) -> Result<BTreeMap<usize, String>> {
    let sites = sites(model.graph.get_or_default(), found, plan, inputs, skipped);
    let mut out = BTreeMap::new();
    if sites.is_empty() {
        return Ok(out);
    }
    let seen = seen(model, path, &sites, samples)?;
    for (site, seen) in sites.iter().zip(&seen) {
        let graph = model.graph.mut_or_insert_default();
        let Some(powers) = powers(graph, found, site, seen) else { continue };
        let [least, most] = [powers.iter().min(), powers.iter().max()].map(|p| p.copied().unwrap_or(0));
        for maker in &site.makers {
            scale(graph, maker, &powers, -1);
        }
        for (index, reader) in &site.readers {
            scale(graph, reader, &powers, 1);
            out.insert(*index, format!("; columns by 2^{least} to 2^{most}"));
        }
    }
    Ok(out)
}

/// The values that only quantised layers read, and that something makes whose channels can be scaled.
fn sites(
    graph: &GraphProto,
    found: &[Contraction],
    plan: &[Planned],
    inputs: &[Vec<Edge>],
    skipped: &dyn Fn(&Contraction) -> bool,
) -> Vec<Site> {
    let constants = Constants::new(graph);
    let makers: BTreeMap<&str, &NodeProto> =
        graph.node.iter().flat_map(|n| n.output.iter().map(move |o| (o.as_str(), n))).collect();
    let layers: BTreeMap<usize, &Layer> = found
        .iter()
        .filter(|c| !skipped(c))
        .filter_map(|c| c.layer.as_ref().ok())
        .map(|l| (l.node, l))
        .collect();
    let mut read: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, c) in found.iter().enumerate() {
        if let (Ok(layer), Ok(_), [_]) = (&c.layer, &plan[index], &inputs[index][..]) {
            read.entry(&graph.node[layer.node].input[layer.input()]).or_default().push(index);
        }
    }
    let mut out = vec![];
    for (name, readers) in read {
        if readers.len() != constants.read_count(name) {
            continue;
        }
        let of = |&index: &usize| Some((index, columns(graph, found[index].layer.as_ref().ok()?)?));
        let Some(all) = readers.iter().map(of).collect::<Option<Vec<_>>>() else { continue };
        let (channels, behind) = (all[0].1.0, all[0].1.1);
        if all.iter().any(|(_, c)| (c.0, c.1) != (channels, behind)) || channels < 2 {
            continue;
        }
        let from =
            Maker { graph, constants: &constants, makers: &makers, layers: &layers, channels, behind };
        if let Some(makers) = from.of(name) {
            let readers = all.into_iter().map(|(index, c)| (index, c.2)).collect();
            out.push(Site { name: name.to_owned(), channels, behind, makers, readers });
        }
    }
    out
}

/// Of a layer that reads a value: its channels, the axes behind them, and its weights by channel.
fn columns(graph: &GraphProto, layer: &Layer) -> Option<(usize, usize, Scaled)> {
    let (node, layout) = (&graph.node[layer.node], &layer.layout);
    let behind = match node.op_type.as_str() {
        "Conv" => layout.positions.len(),
        "MatMul" if layout.groups.is_empty() => 0,
        "Gemm" if integer(node, "transA", 0) == 0 => 0,
        _ => return None,
    };
    if layer.side != Side::Right || !is_single(graph, layer.place) {
        return None;
    }
    let (each, row) = (layout.channel_count(), layout.position_count() * layout.channel_count());
    let group = layout.row_count() * row;
    let offsets = layout.offsets().into_iter().enumerate();
    let elements = offsets.map(|(k, at)| (at, k / group * each + k % each)).collect();
    Some((layout.group_count() * each, behind, Scaled { place: layer.place, elements }))
}

fn is_single(graph: &GraphProto, place: Place) -> bool {
    const FLOAT: i32 = 1;
    place.of(graph).is_some_and(|t| t.data_type == FLOAT)
}

/// Where the factors of a value go.
struct Maker<'a> {
    graph: &'a GraphProto,
    constants: &'a Constants<'a>,
    makers: &'a BTreeMap<&'a str, &'a NodeProto>,
    layers: &'a BTreeMap<usize, &'a Layer>,
    channels: usize,
    behind: usize,
}

impl Maker<'_> {
    /// The tensors that are divided so that the channels of a value are.
    fn of(&self, name: &str) -> Option<Vec<Scaled>> {
        let (mut at, mut out) = (name, vec![]);
        loop {
            if at != name && !self.constants.is_read_once(at) {
                return None;
            }
            let node = *self.makers.get(at)?;
            if node.output.iter().filter(|o| !o.is_empty()).count() != 1 || !crate::contractions::ours(node)
            {
                return None;
            }
            match node.op_type.as_str() {
                op if PASS.contains(&op) => at = node.input.first()?,
                op if POOLS.contains(&op) && self.behind > 0 => at = node.input.first()?,
                "Add" => {
                    let slot = self.constant(node)?;
                    out.push(self.vector(&node.input[slot])?);
                    at = &node.input[1 - slot];
                }
                "Mul" => {
                    let slot = self.constant(node)?;
                    out.push(self.vector(&node.input[slot])?);
                    return Some(out);
                }
                "LayerNormalization" if self.behind == 0 && integer(node, "axis", -1) == -1 => {
                    out.push(self.vector(node.input.get(1)?)?);
                    out.extend(self.optional(node, 2)?);
                    return Some(out);
                }
                "BatchNormalization" if self.behind > 0 => {
                    for slot in [1, 2] {
                        out.push(self.list(node.input.get(slot)?)?);
                    }
                    return Some(out);
                }
                "Conv" | "MatMul" | "Gemm" => {
                    out.extend(self.rows(node)?);
                    return Some(out);
                }
                _ => return None,
            }
        }
    }

    /// Which of two operands is a constant.
    fn constant(&self, node: &NodeProto) -> Option<usize> {
        match [0, 1].map(|i| node.input.get(i).is_some_and(|n| self.constants.is_constant(n))) {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        }
    }

    /// A constant with a number for each channel, along their axis.
    fn vector(&self, name: &str) -> Option<Scaled> {
        let constant = self.constants.find(name).ok()?;
        let axis = constant.dims.len().checked_sub(self.behind + 1)?;
        let others = constant.dims.iter().enumerate().all(|(a, d)| a == axis || d.size == 1);
        self.scaled(constant.place, constant.dims[axis].size).filter(|_| others)
    }

    /// A constant that is a list of numbers, one for each channel.
    fn list(&self, name: &str) -> Option<Scaled> {
        let constant = self.constants.find(name).ok()?;
        let [only] = constant.dims[..] else { return None };
        self.scaled(constant.place, only.size)
    }

    fn scaled(&self, place: Place, size: usize) -> Option<Scaled> {
        let fits = size == self.channels && is_single(self.graph, place);
        fits.then(|| Scaled { place, elements: (0..size).map(|i| (i, i)).collect() })
    }

    /// A bias that may be left out; `None` where it is none that can be scaled.
    fn optional(&self, node: &NodeProto, slot: usize) -> Option<Option<Scaled>> {
        match node.input.get(slot).filter(|n| !n.is_empty()) {
            None => Some(None),
            Some(name) if self.behind > 0 => self.list(name).map(Some),
            Some(name) => self.vector(name).map(Some),
        }
    }

    /// The weights of a layer by output, and its bias.
    fn rows(&self, node: &NodeProto) -> Option<Vec<Scaled>> {
        let at = self.graph.node.iter().position(|n| std::ptr::eq(n, node))?;
        let layer = *self.layers.get(&at)?;
        let layout = &layer.layout;
        let outputs = layout.group_count() * layout.row_count();
        let conv = node.op_type == "Conv";
        let along = match conv {
            true => layout.positions.len() == self.behind,
            false => self.behind == 0 && layout.groups.is_empty(),
        };
        let fits = along && layer.side == Side::Right && outputs == self.channels;
        if !fits || !is_single(self.graph, layer.place) {
            return None;
        }
        let each = layout.len() / outputs.max(1);
        let offsets = layout.offsets().into_iter().enumerate();
        let elements = offsets.map(|(k, at)| (at, k / each)).collect();
        let bias = if node.op_type == "MatMul" { None } else { self.optional(node, 2)? };
        Some(std::iter::once(Scaled { place: layer.place, elements }).chain(bias).collect())
    }
}

/// What samples tell of the channels of all values.
fn seen(model: &ModelProto, path: &Path, sites: &[Site], samples: &Samples) -> Result<Vec<Channels>> {
    let new = |s: &Site| {
        let zeros = vec![0.0; s.channels];
        Channels { low: zeros.clone(), high: zeros.clone(), square: zeros, count: 0.0 }
    };
    let mut out: Vec<Channels> = sites.iter().map(new).collect();
    let names: BTreeSet<String> = sites.iter().map(|s| s.name.clone()).collect();
    let mut taps = Taps::new(model, path, &names);
    samples.each(&mut |number, sample| {
        let values = taps.run(sample).map_err(|e| e.at(format!("sample {number}")))?;
        for (site, out) in sites.iter().zip(&mut out) {
            let Some(value) = values.get(&site.name) else { continue };
            let (Some(all), Some(axis)) = (floats(value), value.shape().len().checked_sub(site.behind + 1))
            else {
                continue;
            };
            let inner: usize = value.shape()[axis + 1..].iter().product();
            out.count += (all.len() / site.channels) as f64;
            for (k, run) in all.chunks(inner.max(1)).enumerate() {
                let c = k % site.channels;
                for v in run.iter().map(|v| f64::from(*v)) {
                    out.low[c] = out.low[c].min(v);
                    out.high[c] = out.high[c].max(v);
                    out.square[c] += v * v;
                }
            }
        }
        Ok(())
    })?;
    Ok(out)
}

/// The powers of two that a value's channels are divided by; `None` where none is worth it.
fn powers(graph: &GraphProto, found: &[Contraction], site: &Site, seen: &Channels) -> Option<Vec<i32>> {
    let range: Vec<f64> = seen.low.iter().zip(&seen.high).map(|(l, h)| h.max(-l)).collect();
    if seen.count == 0.0 || !range.iter().chain(&seen.square).all(|v| v.is_finite()) {
        return None;
    }
    let mut weights = vec![];
    for (index, reader) in &site.readers {
        let values = reader.place.of(graph).and_then(numbers::read)?;
        let layer = found[*index].layer.as_ref().ok()?;
        let row = layer.layout.position_count() * layer.layout.channel_count();
        let list: Vec<(f64, usize)> = reader.elements.iter().map(|&(at, c)| (values[at], c)).collect();
        weights.push((list, row.max(1)));
    }
    let mut largest = vec![0f64; site.channels];
    for &(w, c) in weights.iter().flat_map(|(list, _)| list) {
        largest[c] = largest[c].max(w.abs());
    }
    // What rounding the value and rounding the weights add to the outputs, as variances of independent errors.
    let error = |powers: &[i32]| -> f64 {
        let factor: Vec<f64> = powers.iter().map(|&p| 2f64.powi(p)).collect();
        let end =
            |list: &[f64]| list.iter().zip(&factor).map(|(v, f)| v / f).fold(0f64, |a, v| a.max(v.abs()));
        let step = (end(&seen.low) + end(&seen.high)) / 255.0;
        let mut out = 0.0;
        for (list, row) in &weights {
            for row in list.chunks(*row) {
                let most = row.iter().fold(0f64, |a, &(w, c)| a.max((w * factor[c]).abs()));
                let weight = most / 127.0;
                for &(w, c) in row {
                    let scaled = w * factor[c];
                    out += step * step * scaled * scaled;
                    out += weight * weight * seen.square[c] / seen.count / (factor[c] * factor[c]);
                }
            }
        }
        out
    };
    let as_it_is = error(&vec![0; site.channels]);
    let with = |share: f64| -> Vec<i32> {
        let wanted: Vec<f64> =
            range
                .iter()
                .zip(&largest)
                .map(|(&x, &w)| {
                    if x > 0.0 && w > 0.0 { share * x.log2() - (1.0 - share) * w.log2() } else { f64::NAN }
                })
                .collect();
        let known: Vec<f64> = wanted.iter().copied().filter(|v| !v.is_nan()).collect();
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        let power = |v: f64| if v.is_nan() { 0 } else { (v - mean).round().clamp(-MOST, MOST) as i32 };
        wanted.into_iter().map(power).collect()
    };
    let tried = SHARES.map(|share| {
        let powers = with(share);
        (error(&powers), powers)
    });
    let best = tried.into_iter().min_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 < WORTH * as_it_is).then_some(best.1)
}

/// Multiply a tensor by powers of two, or divide it by them.
fn scale(graph: &mut GraphProto, tensor: &Scaled, powers: &[i32], sign: i32) {
    if let Some(tensor_proto) = tensor.place.of_mut(graph)
        && let Some(mut values) = numbers::read(tensor_proto)
    {
        for &(at, channel) in &tensor.elements {
            values[at] *= 2f64.powi(sign * powers[channel]);
        }
        numbers::write(tensor_proto, &values);
    }
}
