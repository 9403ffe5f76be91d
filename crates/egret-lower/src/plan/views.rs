//! Views: what kernels with free dims read where it stands in another value, with strides, instead of a copy of it.
//!
//! A transpose, one index of an axis, and reshapes of what these give need no kernel where all that read them go by strides: products
//! (their right operand and what is elementwise want neighbours along the last axis), the first states of a recurrence, and further transposes. A product also writes
//! by strides. Nor does a broadcast of indices where it only gives each element of a slice the same one, nor slices that are only joined along their
//! last axis, as the taps of a convolution's windows are.

use crate::geometry::access::{View, Views};
use crate::geometry::shape::free_strides;
use crate::plan::units::Units;
use egret_ir::{Dim, Graph, NodeId, Op, ValueId};
use std::collections::{BTreeMap, BTreeSet};

type Users = BTreeMap<ValueId, Vec<NodeId>>;

fn users(graph: &Graph, order: &[NodeId]) -> Users {
    let mut users = Users::new();
    for &n in order {
        for &v in graph.node(n).operands.iter().flatten() {
            users.entry(v).or_default().push(n);
        }
    }
    users
}

/// The products' results that are written where a transpose, which alone reads them, would move them: views of its result.
pub fn written(units: &Units) -> Views {
    let graph = &units.graph;
    let order = graph.topological().unwrap_or_default();
    let users = users(graph, &order);
    let moved = |&n: &NodeId| {
        let product = graph.node(n);
        let v = *product.results.first()?;
        let [reader] = users.get(&v)?[..] else { return None };
        let node = graph.node(reader);
        let moves = node.op == Op::Transpose && units.is_open(reader) && units.is_open(n);
        let to = *node.results.first()?;
        let whole = |v: ValueId| shape(graph, v).is_some_and(|s| units.stored(v) == s);
        if product.op != Op::Matmul
            || !moves
            || graph.outputs().contains(&v)
            || units.views.contains_key(&to)
        {
            return None;
        }
        let perm = node.attrs.indices("perm");
        if perm.last() != Some(&(perm.len() - 1)) || !whole(v) || !whole(to) {
            return None;
        }
        let mut strides = vec![Dim::constant(0); perm.len()];
        for (&axis, stride) in perm.iter().zip(free_strides(shape(graph, to)?)) {
            strides[axis] = stride;
        }
        Some((v, View { of: to, offset: Dim::constant(0), strides }))
    };
    order.iter().filter_map(moved).collect()
}

/// The broadcasts that only give indices to kernels that read these by strides: views, if they have kernels with free dims.
pub fn picks(units: &Units) -> Vec<NodeId> {
    let graph = &units.graph;
    let order = graph.topological().unwrap_or_default();
    let users = users(graph, &order);
    let only_picks = |&n: &NodeId| {
        let v = graph.node(n).results[0];
        let whole = shape(graph, v)
            .is_some_and(|s| units.stored(v) == s && s.iter().any(|d| d.as_const().is_none()));
        let readers = users.get(&v).map_or(&[][..], |r| r);
        let from = graph.node(n).operands.first().copied().flatten();
        let known = || repeats(shape(graph, from?)?, shape(graph, v)?);
        graph.node(n).op == Op::Broadcast
            && known().is_some()
            && whole
            && !graph.outputs().contains(&v)
            && !readers.is_empty()
            && readers.iter().all(|&n| picks_by(units, n, v))
    };
    order.iter().copied().filter(only_picks).collect()
}

/// Whether a node takes a value for indices that it reads by strides, and for nothing else.
fn picks_by(units: &Units, n: NodeId, v: ValueId) -> bool {
    let node = units.graph.node(n);
    let of = |(i, x): (usize, &Option<ValueId>)| (*x == Some(v)).then_some(i);
    matches!(node.op, Op::GatherElements | Op::ScatterElements)
        && units.is_open(n)
        && node.operands.iter().enumerate().filter_map(of).eq([1])
}

/// The nodes that join slices along their last axis, and nothing else: with kernels with free dims they read them where they stand.
pub fn joins(units: &Units) -> Vec<NodeId> {
    let graph = &units.graph;
    let order = graph.topological().unwrap_or_default();
    let users = users(graph, &order);
    let alone = |n: NodeId, v: ValueId| {
        users.get(&v).is_some_and(|r| r.iter().all(|&reader| reader == n)) && !graph.outputs().contains(&v)
    };
    let all = |&n: &NodeId| {
        joins_slices(units, n) && graph.node(n).operands.iter().flatten().all(|&v| alone(n, v))
    };
    order.iter().copied().filter(all).collect()
}

/// Whether a node joins slices along their last axis.
fn joins_slices(units: &Units, n: NodeId) -> bool {
    let graph = &units.graph;
    let node = graph.node(n);
    let known = |v: ValueId| {
        let shape = shape(graph, v);
        shape.is_some_and(|s| s.len() >= 2 && s[s.len() - 1].as_const().is_some() && units.stored(v) == s)
    };
    let slice =
        |v: ValueId| graph.producer(v).is_some_and(|n| graph.node(n).op == Op::Slice && units.is_open(n));
    node.op == Op::Concat
        && known(node.results[0])
        && shape(graph, node.results[0]).is_some_and(|s| node.attrs.index("axis") + 1 == s.len())
        && node.operands.iter().flatten().all(|&v| slice(v) && known(v))
}

/// The values that need no memory of their own.
pub fn plan(units: &Units) -> Views {
    let graph = &units.graph;
    let order = graph.topological().unwrap_or_default();
    let users = users(graph, &order);
    // What one reader wants copied has other strides for those behind it: again until nothing changes.
    let mut copied: BTreeSet<ValueId> = graph.outputs().iter().copied().collect();
    loop {
        let mut views = Views::new();
        for &n in &order {
            let result = graph.node(n).results.first().copied();
            if let Some((v, view)) =
                result.filter(|v| !copied.contains(v)).and_then(|v| Some((v, view(units, &views, n)?)))
            {
                views.insert(v, view);
            }
        }
        let wrong = |(&v, view): (&ValueId, &View)| {
            let mut readers = users.get(&v).into_iter().flatten();
            let reads = |n: &NodeId| reads_strides(units, &views, *n, v, view);
            (!readers.all(reads)).then_some(v)
        };
        let wrong: Vec<ValueId> = views.iter().filter_map(wrong).collect();
        if wrong.is_empty() {
            return views;
        }
        copied.extend(wrong);
    }
}

fn shape(graph: &Graph, v: ValueId) -> Option<&[Dim]> {
    Some(&graph.ty(v).as_tensor()?.shape)
}

/// What a node's result is a view of, where it can be one.
fn view(units: &Units, views: &Views, n: NodeId) -> Option<View> {
    let graph = &units.graph;
    let node = graph.node(n);
    let (x, result) = (node.operands.first().copied().flatten()?, *node.results.first()?);
    // Not what is the same in every unit and kept once, nor a part of another value.
    let whole = |v: ValueId| shape(graph, v).is_some_and(|s| units.stored(v) == s);
    if !whole(x) || !whole(result) || is_part(units, x) {
        return None;
    }
    let from = shape(graph, x)?;
    let own = View { of: x, offset: Dim::constant(0), strides: free_strides(from) };
    let View { of, mut offset, mut strides } = views.get(&x).cloned().unwrap_or(own);
    match node.op {
        Op::Transpose if units.is_open(n) => {
            strides = node.attrs.indices("perm").iter().map(|&p| strides[p].clone()).collect();
        }
        Op::Gather if units.is_open(n) => {
            let axis = node.attrs.index("axis");
            let at = graph.as_const(node.operand(1)).filter(|t| t.shape().is_empty())?;
            let (at, extent) = (at.to_f64s()?.first().copied()? as i64, from[axis].as_const()?);
            let at = if at < 0 { at + extent } else { at };
            if !(0..extent).contains(&at) {
                return None;
            }
            offset = offset + Dim::constant(at) * strides.remove(axis);
        }
        Op::Broadcast if units.is_open(n) => {
            let repeated = repeats(from, shape(graph, result)?)?;
            let skip = repeated.len() - from.len();
            let along = |(axis, repeated): (usize, bool)| match repeated {
                true => Dim::constant(0),
                false => strides[axis - skip].clone(),
            };
            strides = repeated.into_iter().enumerate().map(along).collect();
        }
        Op::Slice if units.is_open(n) => {
            let (starts, steps) = (node.attrs.dims("starts"), node.attrs.ints("steps"));
            for ((start, &step), stride) in starts.iter().zip(steps).zip(&mut strides) {
                let start = start.as_const().filter(|start| *start >= 0 && step > 0)?;
                offset = offset + Dim::constant(start) * stride.clone();
                *stride = Dim::constant(step) * stride.clone();
            }
            return Some(View { of, offset, strides });
        }
        Op::Reshape if views.contains_key(&x) => strides = reshaped(from, &strides, shape(graph, result)?)?,
        _ => return None,
    }
    // A kernel is given products of free dims.
    offset.as_product().is_some().then_some(View { of, offset, strides })
}

/// For each axis of `to` whether a broadcast from these dims, aligned at the last, repeats one element along it; none where only a run
/// knows that, which is then for a kernel to look at.
fn repeats(from: &[Dim], to: &[Dim]) -> Option<Vec<bool>> {
    let skip = to.len().checked_sub(from.len())?;
    let of = |(from, to): (&Dim, &Dim)| match from.as_const() {
        _ if from == to => Some(false),
        Some(1) => Some(true),
        _ => None,
    };
    std::iter::repeat_n(Some(true), skip).chain(from.iter().zip(&to[skip..]).map(of)).collect()
}

/// Whether a value may be a part of another one's memory: a slice of each unit. What has a kernel with free dims has memory of its own.
fn is_part(units: &Units, v: ValueId) -> bool {
    let mut v = v;
    while let Some(n) = units.graph.producer(v) {
        let node = units.graph.node(n);
        match node.op {
            Op::Reshape => v = node.operand(0),
            op => return op == Op::Slice && !units.is_open(n),
        }
    }
    false
}

/// The strides of the same elements under other dims: axes that are split, and those of one element left out or put in.
fn reshaped(from: &[Dim], strides: &[Dim], to: &[Dim]) -> Option<Vec<Dim>> {
    let one = |d: &Dim| d.as_const() == Some(1);
    let mut left = from.iter().zip(strides).filter(|(d, _)| !one(d));
    let mut out: Vec<Dim> = vec![];
    let mut axis = 0;
    while axis < to.len() {
        if one(&to[axis]) {
            out.push(Dim::constant(0));
            axis += 1;
            continue;
        }
        let (dim, stride) = left.next()?;
        let mut end = axis + 1;
        let all = |end: usize| to[axis..end].iter().cloned().fold(Dim::constant(1), |n, d| n * d);
        while all(end) != *dim {
            if end == to.len() {
                return None;
            }
            end += 1;
        }
        out.extend(free_strides(&to[axis..end]).into_iter().map(|s| s * stride.clone()));
        axis = end;
    }
    left.next().is_none().then_some(out)
}

/// Whether a node reads a view by its strides.
fn reads_strides(units: &Units, views: &Views, n: NodeId, v: ValueId, view: &View) -> bool {
    let node = units.graph.node(n);
    let made_by = units.graph.producer(v).map(|n| units.graph.node(n).op);
    if made_by == Some(Op::Broadcast) {
        return picks_by(units, n, v);
    }
    if node.results.first().is_some_and(|r| views.contains_key(r)) {
        return node.operands.iter().flatten().filter(|&&x| x == v).count() == 1;
    }
    let neighbours = view.strides.last().is_none_or(|s| s.as_const() == Some(1));
    let joined = node.op == Op::Concat && joins_slices(units, n);
    match node.op {
        _ if !units.is_open(n) => false,
        _ if joined || made_by == Some(Op::Slice) => joined && neighbours,
        Op::Matmul => node.operand(1) != v || neighbours,
        Op::Transpose => true,
        // The states before the first step, which are read element by element.
        Op::Lstm | Op::Gru | Op::Rnn => {
            let reads = node.operands.iter().enumerate().filter(|(_, x)| **x == Some(v));
            reads.map(|(i, _)| i).all(|i| [5, 6].contains(&i))
        }
        op => op.is_elementwise() && neighbours,
    }
}
