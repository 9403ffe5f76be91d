//! Sub-graphs: branches of If are optimised as graphs of their own; in bodies of loops what is computed of constants is evaluated, and products
//! leave the rounds ([`loops`]).
//!
//! A branch is run once, like the graph around it. It has no part of the error budget: values are approximated outside of branches only.

use super::{fold, loops};
use crate::pass::{Branch, PassContext};
use crate::rebuild::rebuild;
use crate::report::Rewrite;
use egret_ir::{Graph, Op, TypeError};

/// The code of the pass `bodies`.
pub(crate) fn run(graph: &Graph, ctx: &mut PassContext) -> Result<Option<Graph>, TypeError> {
    let changed = within(graph, ctx.branch, &mut ctx.rewrites)?;
    let moved = loops::run(changed.as_ref().unwrap_or(graph), ctx)?;
    Ok(moved.or(changed))
}

/// A graph with other sub-graphs; nothing where nothing changes.
fn within(graph: &Graph, branch: &Branch, rewrites: &mut Vec<Rewrite>) -> Result<Option<Graph>, TypeError> {
    if !graph.node_ids().iter().any(|&n| graph.node(n).op.has_regions()) {
        return Ok(None);
    }
    let mut changed = false;
    let new = rebuild(graph, |r, id, operands| {
        let node = r.old.node(id);
        let mut regions = node.regions.clone();
        let mut any = false;
        for region in &mut regions {
            let new = match node.op {
                // A graph of its own has no dims of a graph around it.
                Op::If if region.free_symbols().is_empty() => {
                    let (new, of_branch) = branch(region)?;
                    rewrites.extend(of_branch);
                    Some(new)
                }
                _ => {
                    let folded = fold::folded(region)?;
                    within(folded.as_ref().unwrap_or(region), branch, rewrites)?.or(folded)
                }
            };
            if let Some(new) = new {
                (*region, any) = (new, true);
            }
        }
        changed |= any;
        let new = any.then(|| r.builder.emit_node(node.op, node.attrs.clone(), operands, regions));
        new.transpose()
    })?;
    Ok(changed.then_some(new))
}
