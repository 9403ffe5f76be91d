//! Nodes of one graph copied into another, and constants taken out of regions.

use crate::error::{GradError, name_of};
use egret_ir::text::Spelling;
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

/// Hand constants to the regions that have them of their own under their names, as what they capture: their gradients come from there too.
///
/// # Errors
/// A constant that may be several, as equal ones are one value in a graph, or as a region has an equal one that is not called so.
pub(crate) fn capture(graph: &mut Graph, constants: &[ValueId]) -> Result<(), GradError> {
    for &v in constants {
        let Some(tensor) = graph.as_const(v).cloned() else { continue };
        // Equal constants, those of regions too, are others.
        if graph.is_apart(v) {
            continue;
        }
        let name = Some(graph.value(v).name.clone()).filter(|n| !n.is_empty());
        let constant = Named { tensor, name: name.unwrap_or_else(|| name_of(graph, v)) };
        if graph.is_spread(v) {
            return Err(GradError::Request(format!(
                "`{0}` is one value with constants that are equal to it, or others were computed of it as the model was imported, so that its \
                 gradient cannot be told; import the model with `{0}` apart (`ImportOptions::apart`), or give every constant a name of its own",
                constant.name
            )));
        }
        for n in graph.node_ids() {
            let node = graph.node(n);
            if let Some(other) = node.regions.iter().find_map(|region| constant.mistaken(region)) {
                let sources: Vec<&str> = node.sources.iter().map(String::as_str).collect();
                let from =
                    if sources.is_empty() { String::new() } else { format!(" ({})", sources.join(", ")) };
                return Err(GradError::Request(format!(
                    "whether `{}` and {other} in {n} {}{from} are one value cannot be told, as they hold the same numbers; import the model \
                     with `{}` apart from it, or give both one name if they are",
                    constant.name, node.op, constant.name
                )));
            }
        }
        constant.hand(graph, v);
    }
    Ok(())
}

/// A constant that is differentiated by.
struct Named {
    tensor: Tensor,
    name: String,
}

impl Named {
    /// Equal constants of use in a region.
    fn equal(&self, region: &Graph) -> impl Iterator<Item = ValueId> {
        let hash = self.tensor.content_hash();
        let used = |v: &ValueId| !region.users(*v).is_empty() || region.outputs().contains(v);
        region
            .value_ids()
            .filter(move |v| region.as_const(*v).is_some_and(|t| t.content_hash() == hash) && used(v))
    }

    /// Those that are it.
    fn own(&self, region: &Graph) -> Vec<ValueId> {
        self.equal(region).filter(|v| region.value(*v).name == self.name).collect()
    }

    /// One of a region, or of one within it, of which nobody knows whether it is it.
    fn mistaken(&self, region: &Graph) -> Option<String> {
        let named = |v: ValueId| match region.value(v).name.as_str() {
            "" => format!("the constant {}", Spelling::new(region).value(v)),
            name => format!("the constant `{name}`"),
        };
        let doubtful = |v: &ValueId| region.value(*v).name != self.name || region.is_spread(*v);
        let nodes = region.node_ids();
        let mut inner = nodes.iter().flat_map(|&n| &region.node(n).regions);
        self.equal(region)
            .find(doubtful)
            .map(named)
            .or_else(|| inner.find_map(|inner| self.mistaken(inner)))
    }

    /// Hand it, a value of this graph, to the regions that have it.
    fn hand(&self, graph: &mut Graph, v: ValueId) {
        for n in graph.node_ids() {
            let node = graph.node_mut(n);
            // Inputs behind all others are captures, of each of these.
            if matches!(node.op, Op::If | Op::Loop | Op::Scan)
                && node.regions.iter().any(|region| !self.own(region).is_empty() || self.reaches(region))
            {
                node.regions.iter_mut().for_each(|region| self.take(region));
                graph.add_operand(n, v);
            }
        }
    }

    /// Whether a region within a region has it.
    fn reaches(&self, region: &Graph) -> bool {
        let nodes = region.node_ids();
        let mut inner = nodes.iter().flat_map(|&n| &region.node(n).regions);
        inner.any(|inner| !self.own(inner).is_empty() || self.reaches(inner))
    }

    /// Make it an input of a region, the last one, and of those within it.
    fn take(&self, region: &mut Graph) {
        let own = self.own(region);
        let input = region.add_input("", Type::Tensor(self.tensor.ty()));
        self.hand(region, input);
        own.into_iter().for_each(|own| region.replace_uses(own, input));
    }
}
