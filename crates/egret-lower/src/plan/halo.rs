//! Halos: zeros around a value in its buffer, so that windows read beyond its edges without looking where
//! they are.
//!
//! A value has a halo where some convolution wants it and everybody who touches the value knows how: its
//! producer writes it between the zeros (and clears them in the same kernel), all others read it with the
//! strides of the larger buffer. Where that cannot be, the convolution copies its input.
//!
//! Planes of pixels between convolutions that leave out zeros of weights have gaps behind them in the same way, so that each begins with a whole vector, as
//! they are loaded for few products each, and so that they are spread over the sets of the caches: a tile takes a vector of every plane.

use crate::geometry::aliases::root;
use crate::geometry::conv::ConvShape;
use crate::geometry::halo::Halo;
use crate::geometry::shape::dims;
use crate::geometry::{size, zeros};
use crate::plan::fusion::FusionGroup;
use egret_ir::{DType, Graph, NodeId, Op, ValueId};
use egret_loop::Elem;
use egret_machine::Machine;
use std::collections::{BTreeMap, BTreeSet};

/// The convolution with channels last that a group computes, if register tiles or the depthwise kernel can.
fn window(graph: &Graph, group: &FusionGroup) -> Option<ConvShape> {
    let anchor = group.anchor.filter(|&a| graph.node(a).op == Op::Conv)?;
    let shape = ConvShape::new(graph, anchor);
    (shape.channels_last && shape.has_tiles(graph, anchor)).then_some(shape)
}

/// The halo that a convolution without the zeros of its weights wants around its input.
fn gap(graph: &Graph, anchor: Option<NodeId>, machine: &Machine) -> Option<Halo> {
    let anchor = anchor.filter(|&a| graph.node(a).op == Op::Conv)?;
    let shape = ConvShape::new(graph, anchor);
    if !shape.has_tiles(graph, anchor) {
        return None;
    }
    let zeros = zeros::of_conv(graph, anchor, &shape, &machine.costs)?;
    let mut halo = Halo::none(shape.rank() + 2);
    // Bytes are read from planes of quads, which are made of the input.
    if shape.keeps_pixels() && !zeros.quads {
        let pixels: i64 = shape.input.iter().product();
        let line = (machine.line_bytes / Elem::F32.size()) as i64;
        halo.gap = size::apart(pixels, line) - pixels;
    }
    Some(halo)
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
pub fn plan(graph: &Graph, groups: &mut [FusionGroup], machine: &Machine) -> BTreeMap<ValueId, Halo> {
    let mut halos: BTreeMap<ValueId, Halo> = BTreeMap::new();
    // What each group wants around its input, if it knows of halos; and what is written with gaps only.
    let gaps: Vec<Option<Halo>> = groups.iter().map(|g| gap(graph, g.anchor, machine)).collect();
    let wanted = |group: &FusionGroup, gap: &Option<Halo>| {
        gap.clone().or_else(|| window(graph, group).map(|shape| shape.wants()))
    };
    let mut in_planes: BTreeSet<ValueId> = BTreeSet::new();
    for (group, gap) in groups.iter().zip(&gaps) {
        let rank = group.expr.dims.len();
        let held = matches!(graph.tensor_ty(group.result).dtype, DType::F32 | DType::U8);
        let knows = gap.is_some() || writes(graph, group);
        if held && rank >= 3 && !group.expr.dims.contains(&0) && knows {
            halos.insert(group.result, Halo::none(rank));
        }
        if gap.is_some() {
            in_planes.insert(group.result);
        }
    }
    for &v in graph.outputs() {
        halos.remove(&root(graph, v).0);
    }
    for (group, own_gap) in groups.iter().zip(&gaps) {
        let wants = wanted(group, own_gap);
        let addend = gap(graph, group.addend, machine);
        for (node, wants) in [(group.anchor, &wants), (group.addend, &addend)] {
            let operands = node.map(|a| graph.node(a).operands.as_slice()).unwrap_or_default();
            for (i, &v) in operands.iter().enumerate().filter_map(|(i, v)| Some((i, v.as_ref()?))) {
                match (wants, halos.get_mut(&v)) {
                    (Some(wants), Some(halo)) if i == 0 => halo.widen(wants),
                    _ => drop(halos.remove(&root(graph, v).0)),
                }
            }
        }
        let spreads = group.anchor.is_some_and(|a| graph.node(a).op == Op::ConvTranspose);
        let knows = group.anchor.is_none() || wants.is_some() || spreads;
        for o in &group.expr.operands {
            let whole = dims(graph, o.value) == group.expr.dims && o.access.is_dense(&group.expr.dims);
            let from = root(graph, o.value).0;
            // What is read under another name, as a slice or reshaped, is where it is without a halo, also where its dims are the same.
            if !knows || !whole || from != o.value {
                halos.remove(&from);
            }
        }
        for o in group.prologue.iter().flat_map(|p| &p.operands) {
            match (&wants, halos.get_mut(&o.value)) {
                // The bytes that a depthwise convolution reads.
                (Some(wants), Some(halo)) => halo.widen(wants),
                _ => drop(halos.remove(&root(graph, o.value).0)),
            }
        }
    }
    halos.retain(|&v, halo| {
        let own = dims(graph, v);
        // Zeros or gaps, as no kernel writes both; what is written in planes by nonzeros has no zeros around it.
        let one = match halo.has_zeros() {
            true => halo.gap == 0 && !in_planes.contains(&v),
            false => halo.gap > 0,
        };
        one && size::pays(&own, &halo.outer(&own))
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
