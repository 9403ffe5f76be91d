//! Halos: zeros around a value in its buffer, so that windows read beyond its edges without looking where
//! they are.
//!
//! A value has a halo where some convolution wants it and everybody who touches the value knows how: its
//! producer writes it between the zeros (and clears them in the same kernel), all others read it with the
//! strides of the larger buffer. Where that cannot be, the convolution copies its input.

use crate::geometry::aliases::root;
use crate::geometry::conv::ConvShape;
use crate::geometry::halo::Halo;
use crate::geometry::shape::dims;
use crate::geometry::size;
use crate::plan::fusion::FusionGroup;
use egret_ir::{DType, Graph, Op, ValueId};
use std::collections::BTreeMap;

/// The convolution with channels last that a group computes, if register tiles or the depthwise kernel can.
fn window(graph: &Graph, group: &FusionGroup) -> Option<ConvShape> {
    let anchor = group.anchor.filter(|&a| graph.node(a).op == Op::Conv)?;
    let shape = ConvShape::new(graph, anchor);
    (shape.channels_last && shape.has_tiles(graph, anchor)).then_some(shape)
}

/// Whether a group's kernel can write its result between zeros.
fn writes(graph: &Graph, group: &FusionGroup) -> bool {
    let pools = |a| {
        let node = graph.node(a);
        node.op == Op::Pool && node.attrs.str("layout") == "channels_last"
    };
    group.anchor.is_none_or(pools) || window(graph, group).is_some()
}

/// Decides which values have a halo, and lets the groups read them accordingly.
pub fn plan(graph: &Graph, groups: &mut [FusionGroup]) -> BTreeMap<ValueId, Halo> {
    let mut halos: BTreeMap<ValueId, Halo> = BTreeMap::new();
    for group in groups.iter() {
        let rank = group.expr.dims.len();
        let held = matches!(graph.tensor_ty(group.result).dtype, DType::F32 | DType::U8);
        if held && rank >= 3 && !group.expr.dims.contains(&0) && writes(graph, group) {
            halos.insert(group.result, Halo::none(rank));
        }
    }
    for &v in graph.outputs() {
        halos.remove(&root(graph, v).0);
    }
    for group in groups.iter() {
        let shape = window(graph, group);
        let operands = group.anchor.map(|a| graph.node(a).operands.as_slice()).unwrap_or_default();
        for (i, &v) in operands.iter().enumerate().filter_map(|(i, v)| Some((i, v.as_ref()?))) {
            match (&shape, halos.get_mut(&v)) {
                (Some(shape), Some(halo)) if i == 0 => halo.widen(&shape.wants()),
                _ => drop(halos.remove(&root(graph, v).0)),
            }
        }
        let knows = group.anchor.is_none() || shape.is_some();
        for o in &group.expr.operands {
            if !knows || dims(graph, o.value) != group.expr.dims || !o.access.is_dense(&group.expr.dims) {
                halos.remove(&root(graph, o.value).0);
            }
        }
        for o in group.prologue.iter().flat_map(|p| &p.operands) {
            match (&shape, halos.get_mut(&o.value)) {
                // The bytes that a depthwise convolution reads.
                (Some(shape), Some(halo)) => halo.widen(&shape.wants()),
                _ => drop(halos.remove(&root(graph, o.value).0)),
            }
        }
    }
    halos.retain(|&v, halo| {
        let own = dims(graph, v);
        !halo.is_none() && size::pays(&own, &halo.outer(&own))
    });
    for group in groups {
        for o in &mut group.expr.operands {
            if let Some(halo) = halos.get(&o.value) {
                o.access = halo.access(&group.expr.dims);
            }
        }
    }
    halos
}
