//! Where a kernel writes its result.

use crate::error::Unsupported;
use crate::geometry::access::StridedAccess;
use crate::geometry::halo::Halo;
use crate::geometry::size;
use crate::lanes;
use egret_loop::{Arg, Cmp, Elem, KernelBuilder, Param, V};

/// Where a kernel's result goes.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Where its buffer begins.
    pub at: Arg,
    /// Where the result's elements stand from there on.
    pub access: StridedAccess,
    /// Zeros to be written around a result of these dims.
    pub halo: Option<(Halo, Vec<i64>)>,
}

impl Destination {
    /// A buffer of the result alone.
    pub fn dense(at: Arg, dims: &[i64]) -> Destination {
        Destination { at, access: StridedAccess::dense(dims), halo: None }
    }

    /// Adds the parameter through which the halo is cleared, to be given [`Destination::at`] as its
    /// argument, and clears it, in equal parts by all tasks. `elem` is the element type of the value.
    pub fn clear(&self, k: &mut KernelBuilder, elem: Elem, tasks: i64) -> Result<(), Unsupported> {
        let Some((halo, dims)) = &self.halo else { return Ok(()) };
        let param = k.param(elem, size::elements(&halo.outer(dims))?, egret_loop::Access::Write);
        clear(halo, k, (param, elem), dims, tasks);
        Ok(())
    }
}

/// Zeros around the value: a line is what lies along the last axis that has a halo; each task does some of
/// the lines, and with the first and last line along an axis further out the halo there.
fn clear(halo: &Halo, k: &mut KernelBuilder, param: (Param, Elem), dims: &[i64], tasks: i64) {
    let Some(last) = (0..dims.len()).rev().find(|&a| halo.low[a] + halo.high[a] > 0) else { return };
    let StridedAccess { offset, strides } = halo.access(dims);
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
        // The line's first element, and from there back to where the halo along an axis begins.
        let first = k.affine(&terms, offset);
        let mut back = halo.low[last] * strides[last];
        let at = k.affine(&[(first, 1)], -back);
        zeros(k, param, at, back);
        let at = k.affine(&[(first, 1)], dims[last] * strides[last]);
        zeros(k, param, at, halo.high[last] * strides[last]);
        // Elements from the line's first to the end of its part of the axis below.
        let mut ahead = (dims[last] + halo.high[last]) * strides[last];
        let mut edges = (None, None);
        for axis in (0..last).rev() {
            let (zero, end) = (k.int(0), k.int(dims[axis] - 1));
            let (low, high) = (k.compare(Cmp::Eq, index[axis], zero), k.compare(Cmp::Eq, index[axis], end));
            let join =
                |k: &mut KernelBuilder, inner: Option<V>, own: V| inner.map_or(own, |i| k.and(i, own));
            let (low, high) = (join(k, edges.0, low), join(k, edges.1, high));
            edges = (Some(low), Some(high));
            let (before, after) = (halo.low[axis] * strides[axis], halo.high[axis] * strides[axis]);
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

/// Sets `count` elements from `at` on to 0.
fn zeros(k: &mut KernelBuilder, (param, elem): (Param, Elem), at: V, count: i64) {
    lanes::each(k, count, elem, |k, i, ty| {
        let zero = k.number(ty, 0.0);
        let to = k.affine(&[(at, 1), (i, 1)], 0);
        k.store(param, to, zero);
    });
}
