//! Room: zeros around a value in its buffer, so that windows read beyond its edges without looking where they are.
//!
//! A value has room where some convolution wants it and everybody who touches the value knows how: its producer writes it between
//! the zeros (and clears them in the same kernel), all others read it with the strides of the larger buffer. Where that cannot be,
//! the convolution copies its input.

use crate::expr::Access;
use crate::geometry::aliases::{alias, dims, strides};
use crate::kernels::Shape;
use crate::plan::fusion::Group;
use egret_ir::{DType, Graph, Op, ValueId};
use egret_loop::{Arg, Cmp, Elem, KernelBuilder, Param, Ty, V};
use std::collections::BTreeMap;

/// Indices before and after a value's own, one entry per axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Before index 0.
    pub low: Vec<i64>,
    /// After the last index.
    pub high: Vec<i64>,
}

/// Where a kernel's result goes.
#[derive(Clone, Debug)]
pub struct Out {
    /// Where its buffer begins.
    pub at: Arg,
    /// Where the result's elements stand from there on.
    pub access: Access,
    /// Zeros to be written around a result of these dims.
    pub room: Option<(Room, Vec<i64>)>,
}

impl Out {
    /// A buffer of the result alone.
    pub fn dense(at: Arg, dims: &[i64]) -> Out {
        Out { at, access: Access::dense(dims), room: None }
    }

    /// Adds the parameter through which the room is cleared, to be given [`Out::at`] as its argument, and clears it, in equal parts
    /// by all tasks.
    pub fn clear(&self, k: &mut KernelBuilder, tasks: i64) -> bool {
        let Some((room, dims)) = &self.room else { return false };
        let outer = room.outer(dims);
        let param = k.param(Elem::F32, outer.iter().product::<i64>() as usize, egret_loop::Access::Write);
        room.clear(k, param, dims, tasks);
        true
    }
}

impl Room {
    /// No room around a value of that many axes.
    pub fn none(rank: usize) -> Room {
        Room { low: vec![0; rank], high: vec![0; rank] }
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.low.iter().chain(&self.high).all(|n| *n == 0)
    }

    /// Dims of the buffer around a value of dims `dims`.
    pub fn outer(&self, dims: &[i64]) -> Vec<i64> {
        dims.iter().zip(&self.low).zip(&self.high).map(|((d, l), h)| d + l + h).collect()
    }

    /// Where the value's elements stand in that buffer.
    pub fn access(&self, dims: &[i64]) -> Access {
        let strides = strides(&self.outer(dims));
        Access { offset: self.low.iter().zip(&strides).map(|(l, s)| l * s).sum(), strides }
    }

    /// At least as much as another.
    fn widen(&mut self, other: &Room) {
        let wider = |mine: &mut [i64], others: &[i64]| {
            mine.iter_mut().zip(others).for_each(|(m, o)| *m = (*m).max(*o))
        };
        wider(&mut self.low, &other.low);
        wider(&mut self.high, &other.high);
    }

    /// Zeros around the value: a line is what lies along the last axis that has room; each task does some of the lines, and with the
    /// first and last line along an axis further out the room there.
    fn clear(&self, k: &mut KernelBuilder, param: Param, dims: &[i64], tasks: i64) {
        let Some(last) = (0..dims.len()).rev().find(|&a| self.low[a] + self.high[a] > 0) else { return };
        let Access { offset, strides } = self.access(dims);
        let lines: i64 = dims[..last].iter().product();
        let each = (lines as u64).div_ceil(tasks.max(1) as u64) as i64;
        let task = k.task();
        let all = k.int(lines);
        let begin = k.affine(&[(task, each)], 0);
        let end = k.affine(&[(task, each)], each);
        let end = k.min(end, all);
        k.for_values(begin, end, 1, |k, line| {
            let mut rest = line;
            let mut index = vec![line; last];
            for axis in (0..last).rev() {
                let n = k.int(dims[axis]);
                index[axis] = if axis == 0 { rest } else { k.rem(rest, n) };
                rest = if axis == 0 { rest } else { k.div(rest, n) };
            }
            let terms: Vec<(V, i64)> = index.iter().copied().zip(strides.iter().copied()).collect();
            // The line's first element, and from there back to where the room along an axis begins.
            let first = k.affine(&terms, offset);
            let mut back = self.low[last] * strides[last];
            let at = k.affine(&[(first, 1)], -back);
            zeros(k, param, at, back);
            let at = k.affine(&[(first, 1)], dims[last] * strides[last]);
            zeros(k, param, at, self.high[last] * strides[last]);
            // Elements from the line's first to the end of its part of the axis below.
            let mut ahead = (dims[last] + self.high[last]) * strides[last];
            let mut edges = (None, None);
            for axis in (0..last).rev() {
                let (zero, end) = (k.int(0), k.int(dims[axis] - 1));
                let (low, high) =
                    (k.compare(Cmp::Eq, index[axis], zero), k.compare(Cmp::Eq, index[axis], end));
                let join =
                    |k: &mut KernelBuilder, inner: Option<V>, own: V| inner.map_or(own, |i| k.and(i, own));
                let (low, high) = (join(k, edges.0, low), join(k, edges.1, high));
                edges = (Some(low), Some(high));
                let (before, after) = (self.low[axis] * strides[axis], self.high[axis] * strides[axis]);
                if before > 0 {
                    let at = k.affine(&[(first, 1)], -back - before);
                    k.if_(low, |k| zeros(k, param, at, before), |_| ());
                }
                if after > 0 {
                    let at = k.affine(&[(first, 1)], ahead);
                    k.if_(high, |k| zeros(k, param, at, after), |_| ());
                }
                back += before;
                ahead += after;
            }
        });
    }
}

/// Sets `count` f32 elements from `at` on to 0.
fn zeros(k: &mut KernelBuilder, param: Param, at: V, count: i64) {
    let whole = count / 4 * 4;
    for (begin, end, ty) in [(0, whole, Ty::vector(Elem::F32)), (whole, count, Ty::scalar(Elem::F32))] {
        k.for_range(begin, end, i64::from(ty.lanes), |k, i| {
            let zero = k.number(ty, 0.0);
            let to = k.affine(&[(at, 1), (i, 1)], 0);
            k.store(param, to, zero);
        });
    }
}

/// The value whose memory a value is in.
fn root(graph: &Graph, mut v: ValueId) -> ValueId {
    while let Some((x, _)) = graph.producer(v).and_then(|n| alias(graph, n)) {
        v = x;
    }
    v
}

/// The convolution with channels last that a group computes, if register tiles or the depthwise kernel can.
fn window(graph: &Graph, group: &Group) -> Option<Shape> {
    let anchor = group.anchor.filter(|&a| graph.node(a).op == Op::Conv)?;
    let shape = Shape::new(graph, anchor);
    (shape.channels_last && shape.has_tiles(graph, anchor)).then_some(shape)
}

/// Whether a group's kernel can write its result between zeros.
fn writes(graph: &Graph, group: &Group) -> bool {
    let pools = |a| {
        let node = graph.node(a);
        node.op == Op::Pool && node.attrs.str("layout") == "channels_last"
    };
    group.anchor.is_none_or(pools) || window(graph, group).is_some()
}

/// Decides which values have room, and lets the groups read them accordingly.
pub fn plan(graph: &Graph, groups: &mut [Group]) -> BTreeMap<ValueId, Room> {
    let mut rooms: BTreeMap<ValueId, Room> = BTreeMap::new();
    for group in groups.iter() {
        let rank = group.expr.dims.len();
        let f32 = graph.tensor_ty(group.result).dtype == DType::F32;
        if f32 && rank >= 3 && !group.expr.dims.contains(&0) && writes(graph, group) {
            rooms.insert(group.result, Room::none(rank));
        }
    }
    for &v in graph.outputs() {
        rooms.remove(&root(graph, v));
    }
    for group in groups.iter() {
        let shape = window(graph, group);
        let operands = group.anchor.map(|a| graph.node(a).operands.as_slice()).unwrap_or_default();
        for (i, &v) in operands.iter().enumerate().filter_map(|(i, v)| Some((i, v.as_ref()?))) {
            match (&shape, rooms.get_mut(&v)) {
                (Some(shape), Some(room)) if i == 0 => room.widen(&shape.wants()),
                _ => drop(rooms.remove(&root(graph, v))),
            }
        }
        let knows = group.anchor.is_none() || shape.is_some();
        for o in &group.expr.operands {
            if !knows || dims(graph, o.value) != group.expr.dims || !o.access.is_dense(&group.expr.dims) {
                rooms.remove(&root(graph, o.value));
            }
        }
        for o in group.prologue.iter().flat_map(|p| &p.operands) {
            rooms.remove(&root(graph, o.value));
        }
    }
    rooms.retain(|_, room| !room.is_none());
    for group in groups {
        for o in &mut group.expr.operands {
            if let Some(room) = rooms.get(&o.value) {
                o.access = room.access(&group.expr.dims);
            }
        }
    }
    rooms
}
