//! Rules on values whose dims are free: a run that the left-hand side refuses for its sizes, the right-hand side refuses too.

use super::case::Case;
use super::draw::Draw;
use crate::proof::values::{compare, evaluate_all};
use crate::rules::{Rule, Tier};
use egret_ir::{DimEnv, Graph, Tensor, TensorType, Type, Value, ValueId, interp};
use std::collections::HashMap;

/// How many sizes a case is run with.
const RUNS: usize = 10;

/// What came of a case.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs {
    /// Runs of both sides.
    pub run: usize,
    /// Runs that both refuse.
    pub refused: usize,
}

/// Runs both sides of a case with some sizes of its dims. Where they do not do the same, the case has the inputs of that run.
///
/// # Errors
/// How the sides differ.
pub(super) fn judge(case: &mut Case, after: ValueId, rule: &Rule, draw: &mut Draw) -> Result<Runs, String> {
    let mut runs = Runs::default();
    let graph = &case.terms.store.graph;
    let (was, is) = (graph.ty(case.root), graph.ty(after));
    if was != is {
        return Err(format!("the type changes from {was} to {is}"));
    }
    for i in 0..RUNS {
        // Those that the case was made for come first.
        let sizes = if i == 0 { draw.sizes().clone() } else { draw.other_sizes() };
        let mut inputs: Vec<(ValueId, TensorType)> = case
            .values
            .keys()
            .filter_map(|&v| Some((v, graph.ty(v).as_tensor()?.substitute(&sizes))))
            .collect();
        inputs.sort_by_key(|(v, _)| *v);
        // There are no values of such sizes.
        if inputs.iter().any(|(_, ty)| ty.const_dims().is_none()) {
            continue;
        }
        let inputs: HashMap<ValueId, Value> =
            inputs.into_iter().map(|(v, ty)| (v, draw.tensor(&ty).into())).collect();
        let found = match (run(graph, case.root, &sizes, &inputs), run(graph, after, &sizes, &inputs)) {
            (Err(_), Err(_)) => {
                runs.refused += 1;
                Ok(())
            }
            (Err(e), Ok(_)) => Err(format!("only the left-hand side cannot be run: {e}")),
            (Ok(_), Err(e)) => Err(format!("the right-hand side cannot be run: {e}")),
            // What is computed in another order is compared on values whose dims are known.
            (Ok(want), Ok(got)) if rule.tier == Tier::Exact => compare(&want, &got, rule),
            (Ok(_), Ok(_)) => Ok(()),
        };
        runs.run += 1;
        if let Err(e) = found {
            case.values = inputs;
            let sizes: Vec<String> = sizes.iter().map(|(name, size)| format!("{name} = {size}")).collect();
            return Err(format!("{}: {e}", sizes.join(", ")));
        }
    }
    Ok(runs)
}

/// The value of a term, whose dims have these sizes; each value on the way has to be of its type.
fn run(
    graph: &Graph,
    at: ValueId,
    sizes: &DimEnv,
    inputs: &HashMap<ValueId, Value>,
) -> Result<Tensor, String> {
    let (mut values, mut budget) = (inputs.clone(), usize::MAX);
    evaluate_all(graph, at, &mut values, &mut budget, |node, operands| {
        let out = interp::eval_op(node.op, &node.attrs.substitute(sizes), operands, &node.regions);
        let out = out.map_err(|e| e.message)?;
        for (&v, value) in node.results.iter().zip(&out) {
            let ty = graph.ty(v).substitute(sizes);
            if value.as_tensor().is_none_or(|t| Type::Tensor(t.ty()) != ty) {
                return Err(format!("{} of {} is no {ty}", v, node.op));
            }
        }
        Ok(out)
    })?;
    values[&at].as_tensor().cloned().ok_or_else(|| "the result is no tensor".to_owned())
}
