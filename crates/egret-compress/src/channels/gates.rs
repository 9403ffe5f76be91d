//! The gates of recurrent layers as readers of channels: of their inputs by one weight, and of the hidden units of the step before by the other.
//! What a gate sums is linear in both, so that what stays can make up for what goes, as in any other layer.

use crate::channels::groups::Group;
use crate::channels::ids::Id;
use crate::channels::walk::Walk;
use crate::data::taps::{Taps, floats};
use crate::layout::integer;
use crate::methods::{DAMPING, Method, least};
use crate::moments::{Moments, Sums};
use crate::numbers;
use crate::report::Reason;
use egret::samples::Samples;
use egret::{Error, Result};
use onnx_protobuf::{GraphProto, ModelProto, NodeProto, TensorProto};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

/// Inputs of a recurrent layer.
const X: usize = 0;
const W: usize = 1;
const R: usize = 2;
const B: usize = 3;
const H0: usize = 5;

/// A weight of recurrent layers, and what it is multiplied by: that of the input in all directions, that of the state in the only one.
pub struct Gates {
    /// The weight: gates and units, times columns.
    pub weights: Vec<f64>,
    /// The classes of its columns.
    pub columns: Vec<Id>,
    /// Moments of what it multiplies, and of the sums; `None` of the states of both directions, which it is not fitted to.
    pub moments: Option<Moments>,
    /// The weight's name.
    pub name: String,
    /// The name of the biases, and the place of the first of this weight's among them.
    bias: Option<(String, usize)>,
    /// Rows of a direction.
    rows: usize,
    /// Rows that multiply something else than what is known of, and keep their numbers.
    other: Range<usize>,
}

/// A value, and whether its last step is read by no gate.
type Source = (String, bool);

/// What belongs to a weight: its biases, the rows that multiply something else, and the values that the others multiply.
#[derive(Default)]
struct Found {
    bias: Option<String>,
    other: Range<usize>,
    sources: BTreeSet<Source>,
}

/// The weights that read channels of free groups, with what samples tell of their columns.
///
/// # Errors
/// A sample that the model does not take.
pub fn gates(
    model: &ModelProto,
    path: &Path,
    walk: &Walk<'_>,
    groups: &mut [Group],
    samples: &Samples,
) -> Result<Vec<Gates>> {
    let free: BTreeSet<Id> =
        groups.iter().filter(|g| g.stays.is_none()).flat_map(|g| g.classes.iter().copied()).collect();
    // Layers of two branches may share a weight: it has one entry.
    let mut found: BTreeMap<(String, usize), Found> = BTreeMap::new();
    for product in walk.products.iter().filter(|p| p.recurrent) {
        let node = &walk.graph.node[product.node];
        for slot in [W, R] {
            let Some([_, _, Some(ids)]) = walk.values.get(&node.input[slot]).map(Vec::as_slice) else {
                continue;
            };
            // Both directions read one input, and each its own state.
            let one =
                walk.tensors.get(node.input[slot].as_str()).is_some_and(|t| t.dims.first() == Some(&1));
            if !ids.iter().any(|&id| free.contains(&walk.ids.class(id))) {
                continue;
            }
            let bias = node.input.get(B).filter(|b| walk.tensors.contains_key(b.as_str())).cloned();
            // Biases that other weights have too cannot make up for this one.
            let own = |n: &NodeProto, b: &String| {
                n.input.get(B) != Some(b) || n.input.get(slot) == Some(&node.input[slot])
            };
            let bias = bias.filter(|b| walk.graph.node.iter().all(|n| own(n, b)));
            let other = match (node.op_type.as_str(), slot, integer(node, "linear_before_reset", 0)) {
                // The state is multiplied by the reset gate first.
                ("GRU", R, 0) => {
                    let units = walk.tensors.get(node.input[R].as_str()).map_or(0, |t| size(t, 2));
                    2 * units..3 * units
                }
                _ => 0..0,
            };
            let new = Found { bias: bias.clone(), other, ..Found::default() };
            let entry = found.entry((node.input[slot].clone(), slot)).or_insert(new);
            if entry.bias != bias {
                entry.bias = None;
            }
            let named =
                |name: Option<&String>, short| name.filter(|n| !n.is_empty()).map(|n| (n.clone(), short));
            if !one && slot == R {
                continue;
            }
            if slot == W {
                entry.sources.extend(named(node.input.get(X), false));
                continue;
            }
            // Forwards, the state behind the last step is read by none; elsewhere one state more is counted.
            let forwards = !node
                .attribute
                .iter()
                .any(|a| a.name == "direction" && a.s != b"forward" || a.name == "layout" && a.i != 0);
            let (start, steps) = (named(node.input.get(H0), false), named(node.output.first(), forwards));
            // Where only the last state is there, it stands for those before it.
            let last = named(node.output.get(1), false).filter(|_| start.is_none() && steps.is_none());
            entry.sources.extend(start.into_iter().chain(steps).chain(last));
        }
    }
    let names: BTreeSet<String> = found.values().flat_map(|f| &f.sources).map(|s| s.0.clone()).collect();
    let mut sums: BTreeMap<(String, usize), (Vec<f32>, usize, Sums)> = BTreeMap::new();
    for key in found.keys() {
        let Some(tensor) = walk.tensors.get(key.0.as_str()) else { continue };
        let (rows, columns) = (size(tensor, 0) * size(tensor, 1), size(tensor, 2));
        let weights = numbers::read(tensor).unwrap_or_default().iter().map(|v| *v as f32).collect();
        sums.insert(key.clone(), (weights, columns, Sums::new(columns, rows)));
    }
    if found.is_empty() {
        return Ok(vec![]);
    }
    let mut taps = Taps::new(model, path, &names);
    samples.each(&mut |number, sample| {
        let values = taps.run(sample).map_err(|e| e.at(format!("sample {number}")))?;
        for (key, Found { sources, .. }) in &found {
            let Some((weights, columns, sums)) = sums.get_mut(key) else { continue };
            for (name, but_last) in sources {
                let Some(value) = values.get(name) else { continue };
                let Some(all) = floats(value) else { continue };
                let steps = value.shape().first().copied().unwrap_or(1).max(1);
                let count = if *but_last { all.len() / steps * (steps - 1) } else { all.len() };
                for line in all[..count].chunks_exact((*columns).max(1)) {
                    let (x, y) = sums.row();
                    x.copy_from_slice(line);
                    for (y, row) in y.iter_mut().zip(weights.chunks_exact(*columns)) {
                        *y = row.iter().zip(line).map(|(w, x)| w * x).sum();
                    }
                }
            }
        }
        Ok(())
    })?;
    let mut out = vec![];
    for ((name, slot), Found { bias, other, .. }) in found {
        let Some((_, _, sums)) = sums.remove(&(name.clone(), slot)) else { continue };
        let ids = walk.values[&name][2].clone().unwrap_or_default();
        let columns: Vec<Id> = ids.iter().map(|&i| walk.ids.class(i)).collect();
        let Some(tensor) = walk.tensors.get(name.as_str()) else { continue };
        let moments = sums.finish();
        if moments.is_none() && !(slot == R && tensor.dims.first() != Some(&1)) {
            // What it costs that these go cannot be told.
            let reads = |g: &&mut Group| g.classes.iter().any(|c| columns.contains(c));
            for group in groups.iter_mut().filter(|g| g.stays.is_none()).filter(reads) {
                let text = format!("`{name}` multiplies its channels where no sample comes by");
                group.stays = Some((Reason::NoSamples, text));
            }
            continue;
        }
        let weights = numbers::read(tensor).ok_or_else(|| Error::internal(format!("`{name}` is gone")))?;
        let from = if slot == R { size(tensor, 1) } else { 0 };
        let (bias, rows) = (bias.map(|b| (b, from)), size(tensor, 1).max(1));
        out.push(Gates { weights, columns, moments, bias, rows, other, name });
    }
    Ok(out)
}

fn size(tensor: &TensorProto, axis: usize) -> usize {
    tensor.dims.get(axis).and_then(|&d| usize::try_from(d).ok()).unwrap_or(0)
}

impl Gates {
    /// Write weights that do not read these classes into a graph, fitted where the method fits, with the means of the sums as they were.
    ///
    /// # Errors
    /// Data that make no system that can be solved.
    pub fn put(&self, graph: &mut GraphProto, gone: &BTreeSet<Id>, method: Method) -> Result<()> {
        let n = self.columns.len();
        let kept: Vec<usize> = (0..n).filter(|&j| !gone.contains(&self.columns[j])).collect();
        if kept.len() == n || kept.is_empty() {
            return Ok(());
        }
        let mut new = vec![0.0; self.weights.len()];
        if let (Some(moments), "obc") = (&self.moments, method.name()) {
            new = least(&self.weights, moments, DAMPING, &kept).ok_or_else(|| {
                Error::user(format!("`{}`: its data make no system that can be solved", self.name))
            })?;
        } else {
            for (row, old) in new.chunks_exact_mut(n).zip(self.weights.chunks_exact(n)) {
                kept.iter().for_each(|&j| row[j] = old[j]);
            }
        }
        for row in self.other.clone() {
            let (to, from) = (row * n, &self.weights[row * n..(row + 1) * n]);
            new[to..to + n].fill(0.0);
            kept.iter().for_each(|&j| new[to + j] = from[j]);
        }
        change(graph, &self.name, |list| list.clone_from(&new));
        let Some(moments) = &self.moments else { return Ok(()) };
        let mean = |list: &[f64]| -> Vec<f64> {
            let dot = |row: &[f64]| row.iter().zip(&moments.x_mean).map(|(w, x)| w * x).sum();
            list.chunks_exact(n).map(dot).collect()
        };
        let mut shift: Vec<f64> = mean(&self.weights).iter().zip(mean(&new)).map(|(a, b)| a - b).collect();
        shift[self.other.clone()].fill(0.0);
        if let Some((bias, from)) = &self.bias {
            change(graph, bias, |list| {
                // Of each direction: biases of the input, then of the state.
                for (list, shift) in list.chunks_mut(2 * self.rows).zip(shift.chunks(self.rows)) {
                    list.iter_mut().skip(*from).zip(shift).for_each(|(b, s)| *b += s);
                }
            });
        }
        Ok(())
    }
}

/// Change the numbers of a constant.
fn change(graph: &mut GraphProto, name: &str, to: impl FnOnce(&mut Vec<f64>)) {
    let inner =
        graph.node.iter_mut().filter(|n| n.op_type == "Constant" && n.output.iter().any(|o| o == name));
    let inner =
        inner.flat_map(|n| &mut n.attribute).filter(|a| a.name == "value").filter_map(|a| a.t.as_mut());
    let tensor = graph.initializer.iter_mut().filter(|t| t.name == name).chain(inner).next();
    if let Some((tensor, mut values)) = tensor.and_then(|t| numbers::read(t).map(|v| (t, v))) {
        to(&mut values);
        numbers::write(tensor, &values);
    }
}
