//! Slices that are clamped for some sizes only, where the rest of the graph allows for those that they are not.
//!
//! `table[:seq]` of 512 rows has `min(512, seq)`. Added to something of `seq` rows, it has to have `seq`: a longer one fails either way. There
//! the dim is `seq`, and the slice, which then leaves its operand, says that `seq` is too large. `x[-4:]` that is multiplied by a matrix of 4 rows has 4.

use crate::clamps::{Clamped, Clamps};
use crate::holding::Holding;
use egret_ir::{Dim, Graph, Op, ValueId, verify};
use std::collections::{BTreeSet, VecDeque};

/// Takes the clamps out of dims that have to be equal to what they are without; gives the slices that lie within their operands then for some sizes
/// only.
pub(crate) fn settle(graph: &mut Graph, mut clamped: Vec<Clamped>) -> Vec<Holding> {
    let mut settled = vec![];
    clamped.retain(|c| {
        graph.producer(c.slice).is_some_and(|n| graph.contains(n) && graph.node(n).op == Op::Slice)
    });
    // Sub-graphs keep the dims that they were imported with.
    let captured = |c: &Clamped| {
        let with_regions = graph.node_ids().into_iter().filter(|&n| !graph.node(n).regions.is_empty());
        with_regions.flat_map(|n| graph.node(n).operands.iter().flatten()).any(|&v| {
            let mut shape = graph.ty(v).as_tensor().into_iter().flat_map(|t| &t.shape);
            shape.any(|d| c.clamps.without(d) != *d)
        })
    };
    let keep: Vec<bool> = clamped.iter().map(|c| !captured(c)).collect();
    let mut keep = keep.into_iter();
    clamped.retain(|_| keep.next().unwrap_or(false));
    while !clamped.is_empty() {
        let needed = needed(graph, &clamped);
        let (taken, left): (Vec<_>, Vec<_>) =
            clamped.into_iter().zip(needed).partition(|(_, is_needed)| *is_needed);
        let taken: Vec<Clamped> = taken.into_iter().map(|(c, _)| c).collect();
        clamped = left.into_iter().map(|(c, _)| c).collect();
        if taken.is_empty() {
            break;
        }
        // Together, or those of them that can be.
        let held = |c: &Clamped| Holding::Slice(c.slice, c.axis);
        if take_out(graph, &taken, clamped.iter_mut()) {
            settled.extend(taken.iter().map(held));
        } else {
            let mut taken = VecDeque::from(taken);
            while let Some(one) = taken.pop_front() {
                let one = [one];
                if take_out(graph, &one, taken.iter_mut().chain(&mut clamped)) {
                    settled.extend(one.iter().map(held));
                }
            }
        }
    }
    settled
}

/// Takes clamps out of a graph, and of the `others` in which they stand. Not where no sizes would fit the graph then: it stays as it is.
fn take_out<'c>(
    graph: &mut Graph,
    taken: &[Clamped],
    others: impl Iterator<Item = &'c mut Clamped>,
) -> bool {
    let mut all = Clamps::default();
    taken.iter().for_each(|c| all.extend(&c.clamps));
    let mut without = graph.clone();
    without.map_dims(&|d| all.without(d));
    for c in taken {
        hold(&mut without, c.slice, c.axis, &c.clamps.holds);
    }
    if verify(&without).is_err() {
        return false;
    }
    *graph = without;
    for c in others {
        let mut mapped = all.clone();
        mapped.extend(&c.clamps);
        mapped.plain.drain(..all.plain.len());
        c.clamps.plain = mapped.plain;
    }
    true
}

/// Which clamps stand in a dim that has to be equal to another one, and would be without any.
fn needed(graph: &Graph, clamped: &[Clamped]) -> Vec<bool> {
    let mut all = Clamps::default();
    clamped.iter().for_each(|c| all.extend(&c.clamps));
    let mut needed = vec![false; clamped.len()];
    for (a, b) in pairs(graph) {
        for (with, other) in [(&a, &b), (&b, &a)] {
            if all.without(other) == *other && all.without(with) == *other {
                for (needed, c) in needed.iter_mut().zip(clamped) {
                    *needed |= c.clamps.without(with) != *with;
                }
            }
        }
    }
    needed
}

/// Dims that differ as they are written, and have to be equal, or broadcast.
pub(crate) fn pairs(graph: &Graph) -> BTreeSet<(Dim, Dim)> {
    let mut out = BTreeSet::new();
    let mut add = |a: &Dim, b: &Dim| {
        if a != b && (a.as_const().is_none() || b.as_const().is_none()) {
            out.insert((a.clone(), b.clone()));
        }
    };
    let shape = |v: ValueId| graph.ty(v).as_tensor().map_or(&[][..], |t| &t.shape[..]);
    for v in graph.value_ids() {
        for parties in shape(v).iter().flat_map(Dim::broadcast_parties) {
            for (i, a) in parties.iter().enumerate() {
                parties[..i].iter().for_each(|b| add(a, b));
            }
        }
    }
    for id in graph.node_ids() {
        let node = graph.node(id);
        let operands: Vec<&[Dim]> = node.operands.iter().flatten().map(|&v| shape(v)).collect();
        let aligned = |add: &mut dyn FnMut(&Dim, &Dim), a: &[Dim], b: &[Dim], but: Option<usize>| {
            for (i, (a, b)) in a.iter().rev().zip(b.iter().rev()).enumerate() {
                if but != Some(i) {
                    add(a, b);
                }
            }
        };
        match node.op {
            Op::Matmul => {
                if let [[.., depth], [.., deep, _]] = operands[..] {
                    add(depth, deep);
                }
            }
            Op::Broadcast => {
                operands.iter().for_each(|x| aligned(&mut add, x, shape(node.results[0]), None));
            }
            // Its dims need not be those before it, one by one: the numbers of elements are.
            Op::Reshape => {
                if let [Some(before), Some(after)] = [operands[0], shape(node.results[0])].map(Dim::product)
                {
                    add(&before, &after);
                }
            }
            Op::Concat => {
                for (i, a) in operands.iter().enumerate() {
                    let but = a.len().checked_sub(node.attrs.index("axis") + 1);
                    operands[..i].iter().for_each(|b| aligned(&mut add, a, b, but));
                }
            }
            op if op.is_elementwise() => {
                for (i, a) in operands.iter().enumerate() {
                    operands[..i].iter().for_each(|b| aligned(&mut add, a, b, None));
                }
            }
            _ => {}
        }
    }
    out
}

/// Holds runs to what a slice along an axis supposes.
fn hold(graph: &mut Graph, slice: ValueId, axis: usize, holds: &[Dim]) {
    let Some(node) = graph.producer(slice) else { return };
    let node = graph.node_mut(node);
    let mut starts = node.attrs.dims("starts").to_vec();
    if let Some(start) = starts.get_mut(axis) {
        *start = holds.iter().fold(start.clone(), |start, hold| start + hold.clone());
        node.attrs.0.insert("starts", starts.into());
    }
}
