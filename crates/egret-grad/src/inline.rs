//! Nodes of one graph copied into another.

use crate::error::GradError;
use egret_ir::{Graph, ValueId};
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
