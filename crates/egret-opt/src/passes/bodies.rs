//! Sub-graphs: what is computed of constants in them is evaluated, and products leave the rounds of loops ([`loops`]).

use super::{fold, loops};
use crate::pass::PassContext;
use crate::rebuild::rebuild;
use egret_ir::{Graph, TypeError};

/// The code of the pass `bodies`.
pub(crate) fn run(graph: &Graph, ctx: &mut PassContext) -> Result<Option<Graph>, TypeError> {
    let folded = within(graph)?;
    let moved = loops::run(folded.as_ref().unwrap_or(graph), ctx)?;
    Ok(moved.or(folded))
}

/// A graph with folded sub-graphs; nothing where nothing changes.
fn within(graph: &Graph) -> Result<Option<Graph>, TypeError> {
    if !graph.node_ids().iter().any(|&n| graph.node(n).op.has_regions()) {
        return Ok(None);
    }
    let mut changed = false;
    let new = rebuild(graph, |r, id, operands| {
        let node = r.old.node(id);
        let mut regions = node.regions.clone();
        let mut any = false;
        for region in &mut regions {
            for of in [fold::folded, within] {
                if let Some(new) = of(region)? {
                    (*region, any) = (new, true);
                }
            }
        }
        changed |= any;
        let new = any.then(|| r.builder.emit_node(node.op, node.attrs.clone(), operands, regions));
        new.transpose()
    })?;
    Ok(changed.then_some(new))
}
