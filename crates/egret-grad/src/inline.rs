//! Nodes of one graph copied into another, and constants taken out of regions.

use crate::error::GradError;
use egret_ir::{Graph, Op, Tensor, Type, ValueId};
use std::collections::HashMap;

/// Copy the nodes of `from`, and the constants that they or `roots` are, into `to`, and give where its values are there: those in
/// `map` already are.
///
/// # Errors
/// The graph has a cycle.
pub(crate) fn copy_into(
    to: &mut Graph,
    from: &Graph,
    mut map: HashMap<ValueId, ValueId>,
    roots: &[ValueId],
) -> Result<HashMap<ValueId, ValueId>, GradError> {
    let order = from.topological().map_err(|n| GradError::Request(format!("{n} lies on a cycle")))?;
    let moved = |to: &mut Graph, map: &mut HashMap<ValueId, ValueId>, v: ValueId| {
        if let (false, Some(constant)) = (map.contains_key(&v), from.as_const(v)) {
            map.insert(v, to.add_const(constant.clone()));
        }
        map[&v]
    };
    for n in order {
        let node = from.node(n);
        let operands = node.operands.iter().map(|v| v.map(|v| moved(to, &mut map, v))).collect();
        let types = node.results.iter().map(|&v| from.ty(v).clone()).collect();
        let (attrs, regions, sources) = (node.attrs.clone(), node.regions.clone(), node.sources.clone());
        let made = to.add_node(node.op, attrs, operands, regions, types, sources);
        map.extend(node.results.iter().copied().zip(to.node(made).results.clone()));
    }
    for &v in roots {
        moved(to, &mut map, v);
    }
    Ok(map)
}

/// Hand constants to the regions that have them of their own, as what they capture: their gradients come from there too.
pub(crate) fn capture(graph: &mut Graph, constants: &[ValueId]) {
    for &v in constants {
        let Some(constant) = graph.as_const(v).cloned() else { continue };
        for n in graph.node_ids() {
            let node = graph.node_mut(n);
            // Inputs behind all others are captures, of each of these.
            if matches!(node.op, Op::If | Op::Loop | Op::Scan)
                && node
                    .regions
                    .iter()
                    .any(|region| own(region, &constant).is_some() || reaches(region, &constant))
            {
                node.regions.iter_mut().for_each(|region| take(region, &constant));
                graph.add_operand(n, v);
            }
        }
    }
}

/// The constant that a region has of its own, where it is of use there.
fn own(region: &Graph, constant: &Tensor) -> Option<ValueId> {
    let hash = constant.content_hash();
    let used = |v: &ValueId| !region.users(*v).is_empty() || region.outputs().contains(v);
    region.value_ids().find(|v| region.as_const(*v).is_some_and(|t| t.content_hash() == hash) && used(v))
}

/// Whether a region within a region has it.
fn reaches(region: &Graph, constant: &Tensor) -> bool {
    let nodes = region.node_ids();
    let mut inner = nodes.iter().flat_map(|&n| &region.node(n).regions);
    inner.any(|inner| own(inner, constant).is_some() || reaches(inner, constant))
}

/// Make a constant an input of a region, the last one, and of those within it.
fn take(region: &mut Graph, constant: &Tensor) {
    let own = own(region, constant);
    let inner = reaches(region, constant);
    let input = region.add_input("", Type::Tensor(constant.ty()));
    if inner {
        // Those within capture what is now a constant of this region, whose uses are then replaced.
        let held = region.add_const(constant.clone());
        capture(region, &[held]);
        region.replace_uses(held, input);
    }
    if let Some(own) = own {
        region.replace_uses(own, input);
    }
}
