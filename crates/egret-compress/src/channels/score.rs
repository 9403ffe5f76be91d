//! Scores without data: the norms of what goes with a channel, each relative to the mean of its layer.

use crate::channels::groups::{Group, kept};
use crate::channels::ids::Id;
use crate::channels::walk::{Axis, Product, Walk};
use crate::layers::{Contraction, Layer};
use crate::scope::Scope;
use crate::{mask, numbers};
use egret::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// `epsilon` of a normalisation that gives none.
const EPSILON: f64 = 1e-5;

/// A score for every channel of a group, the lowest to go first.
pub type Scores = Vec<f64>;

/// The layer of a product.
pub fn layer<'a>(found: &'a [Contraction], product: &Product) -> Option<&'a Layer> {
    let contraction = found.iter().find(|c| c.node == Some(product.node))?;
    contraction.layer.as_ref().ok()
}

/// For each weight of a layer, in the order of its layout: the ids of its row and of its column.
pub fn places(layer: &Layer, product: &Product) -> Vec<(Id, Option<Id>)> {
    let l = &layer.layout;
    let [groups, rows, positions, channels] =
        [l.group_count(), l.row_count(), l.position_count(), l.channel_count()];
    let mut out = Vec::with_capacity(l.len());
    for (g, r) in (0..groups).flat_map(|g| (0..rows).map(move |r| (g, r))) {
        for c in (0..positions).flat_map(|_| 0..channels) {
            let column = if product.depthwise { None } else { product.columns.get(c).copied() };
            out.extend(product.rows.get(g * rows + r).map(|&row| (row, column)));
        }
    }
    out
}

/// What normalisation behind a layer multiplies each row by.
fn factors(walk: &Walk<'_>, product: &Product) -> Option<Vec<f64>> {
    let y = walk.graph.node[product.node].output.first()?;
    let is_norm = |n: &&onnx_protobuf::NodeProto| {
        n.op_type == "BatchNormalization" && n.input.first() == Some(y) && n.input.len() >= 5
    };
    let norm = walk.graph.node.iter().find(is_norm)?;
    let list = |slot: usize| numbers::read(walk.tensors.get(norm.input[slot].as_str())?);
    let epsilon = norm.attribute.iter().find(|a| a.name == "epsilon").map_or(EPSILON, |a| f64::from(a.f));
    let (scale, variance) = (list(1)?, list(4)?);
    Some(scale.iter().zip(&variance).map(|(s, v)| (s / (v + epsilon).sqrt()).abs()).collect())
}

/// The scores of a group by the norms of its weights.
///
/// # Errors
/// A weight that cannot be read.
pub fn by_norm(walk: &Walk<'_>, found: &[Contraction], group: &Group) -> Result<Scores> {
    let index: BTreeMap<Id, usize> = group.classes.iter().copied().zip(0..).collect();
    let at = |id: Id| index.get(&walk.ids.class(id)).copied();
    let mut out = vec![0.0; group.classes.len()];
    let mut lists = 0;
    let mut add = |norms: Vec<f64>| {
        let mean = norms.iter().sum::<f64>() / norms.len() as f64;
        if mean > 0.0 && mean.is_finite() {
            lists += 1;
            out.iter_mut().zip(&norms).for_each(|(o, n)| *o += n / mean);
        }
    };
    for product in group.touched.iter().map(|&p| &walk.products[p]) {
        if product.recurrent {
            for norms in recurrent(walk, product, index.len(), &at)? {
                add(norms);
            }
            continue;
        }
        let Some(layer) = layer(found, product) else { continue };
        let values = layer.place.of(walk.graph).and_then(numbers::read);
        let values = values.ok_or_else(|| Error::internal(format!("`{}` is gone", layer.weight)))?;
        let (mut rows, mut columns) = (vec![0.0; index.len()], vec![0.0; index.len()]);
        for ((row, column), offset) in places(layer, product).into_iter().zip(layer.layout.offsets()) {
            let size = values[offset].abs();
            at(row).into_iter().for_each(|k| rows[k] += size);
            column.and_then(at).into_iter().for_each(|k| columns[k] += size);
        }
        for (&row, factor) in product.rows.iter().zip(factors(walk, product).unwrap_or_default()) {
            at(row).into_iter().for_each(|k| rows[k] *= factor);
        }
        add(rows);
        add(columns);
    }
    out.iter_mut().for_each(|o| *o /= f64::from(lists.max(1)));
    Ok(out)
}

/// The norms of rows and of columns of a recurrent layer's weights, of its input and of the state before, by channels of a group.
fn recurrent(
    walk: &Walk<'_>,
    product: &Product,
    count: usize,
    at: &dyn Fn(Id) -> Option<usize>,
) -> Result<Vec<Vec<f64>>> {
    let mut out = vec![];
    for name in walk.graph.node[product.node].input.iter().skip(1).take(2) {
        let lost = || Error::internal(format!("`{name}` is gone"));
        let values = walk.tensors.get(name.as_str()).and_then(|t| numbers::read(t)).ok_or_else(lost)?;
        let [_, rows, columns] = walk.values[name].as_slice() else { return Err(lost()) };
        let places = |axis: &Axis, size: usize| -> Vec<Option<usize>> {
            (0..size).map(|i| at(*axis.as_ref()?.get(i)?)).collect()
        };
        let dims: Vec<usize> =
            walk.tensors[name.as_str()].dims.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
        let (rows, columns) = (places(rows, dims[1]), places(columns, dims[2]));
        let mut norms = [vec![0.0; count], vec![0.0; count]];
        for (i, v) in values.iter().enumerate() {
            rows[i / dims[2] % dims[1]].into_iter().for_each(|k| norms[0][k] += v.abs());
            columns[i % dims[2]].into_iter().for_each(|k| norms[1][k] += v.abs());
        }
        out.extend(norms);
    }
    Ok(out)
}

/// How many channels each group loses: its own part, or over all groups as many with the lowest scores.
pub fn counts(groups: &[Group], scores: &[Scores], scope: Scope) -> Vec<usize> {
    let mut counts: Vec<usize> = groups.iter().map(part).collect();
    if scope == Scope::Global {
        let all: Vec<usize> = (0..groups.len()).filter(|&i| groups[i].shares()).collect();
        let mut keys = vec![];
        let mut total = 0;
        for &i in &all {
            let mut order = scores[i].clone();
            order.sort_by(f64::total_cmp);
            keys.extend(order.into_iter().take(most(&groups[i])).map(|s| (s, i)));
            total += counts[i];
            counts[i] = 0;
        }
        keys.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        keys.into_iter().take(total).for_each(|(_, i)| counts[i] += 1);
    }
    counts
}

/// How many channels the part of a group is.
pub fn part(group: &Group) -> usize {
    if group.stays.is_none() { mask::count(group.part, group.classes.len()) } else { 0 }
}

/// How many channels a group may lose for others: no more than half of what it would keep by itself.
pub fn most(group: &Group) -> usize {
    mask::count((1.0 + group.part) / 2.0, group.classes.len())
}

/// The channels that go, of all groups, by their scores.
pub fn lowest(
    groups: &[Group],
    scores: &[Scores],
    counts: &[usize],
    multiple: Option<usize>,
) -> BTreeSet<Id> {
    let mut out = BTreeSet::new();
    for ((group, scores), &count) in groups.iter().zip(scores).zip(counts) {
        let n = group.classes.len();
        let gone = n - kept(n, count, multiple);
        let keys = scores.iter().copied().zip(0..).collect();
        out.extend(mask::lowest(keys, gone).map(|k| group.classes[k]));
    }
    out
}
