//! Gates held against figures.

use crate::gate::{Check, Figure, Gate};
use crate::measure::Measured;
use egret::ir::Graph;
use egret::{Error, Result};

/// What became of one gate.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The gate.
    pub gate: Gate,
    /// What was found, in the unit of the figure; how many nodes; how often something was missed.
    pub found: u64,
    /// Whether the gate lets the model through.
    pub passed: bool,
    /// What was found beside what is asked, in a line without control characters.
    pub message: String,
    /// The command that tells more.
    pub explain: String,
}

/// Hold a model against its gates. `again`: the model and the options, as they are written behind `egret COMMAND`.
///
/// # Errors
/// A figure is not known: a bug.
pub fn judge(gates: &[Gate], measured: &Measured, again: &str) -> Result<Vec<Verdict>> {
    gates.iter().map(|gate| one(gate, measured, again)).collect()
}

fn one(gate: &Gate, measured: &Measured, again: &str) -> Result<Verdict> {
    let (found, passed, message) = match &gate.check {
        Check::Budget { figure, limit } => {
            let found = measured
                .figure(*figure)
                .ok_or_else(|| Error::internal(format!("{} was not measured", figure.name())))?;
            (found, found <= *limit, budget(*figure, found, *limit, measured))
        }
        Check::Expect { op, count } => {
            let found = count_of(&measured.graph, *op);
            let asked =
                if found == *count { "as expected".to_owned() } else { format!("not {count} as expected") };
            (found, found == *count, format!("{op}: the optimised graph has {found}, {asked}"))
        }
        Check::Deny(deny) => match deny.broken(&measured.story) {
            Some((count, words)) => (count, false, format!("{deny}: {words}")),
            None => (0, true, format!("{deny}: nothing missed")),
        },
    };
    Ok(Verdict { gate: gate.clone(), found, passed, message, explain: explain(&gate.check, again) })
}

/// Nodes of an operation.
fn count_of(graph: &Graph, op: egret::ir::Op) -> u64 {
    graph.node_ids().iter().filter(|&&n| graph.node(n).op == op).count() as u64
}

fn budget(figure: Figure, found: u64, limit: u64, measured: &Measured) -> String {
    let (name, unit) = (figure.name(), figure.unit());
    let remark = match (figure, measured.story.weights) {
        (Figure::EstimatedTime, _) if !measured.free.is_empty() => ", free dims taken as 64".to_owned(),
        (Figure::Size, Some(weights)) => format!(", {} of it weights", unit.text(weights)),
        _ => String::new(),
    };
    if found <= limit {
        return format!("{name}: {} of {}{remark}", unit.text(found), unit.text(limit));
    }
    let over = found - limit;
    let percent = match limit {
        0 => String::new(),
        _ => format!(" ({:.1} %)", 100.0 * over as f64 / limit as f64),
    };
    format!(
        "{name}: {} is over the budget of {} by {}{percent}{remark}",
        unit.exact(found),
        unit.exact(limit),
        unit.exact(over)
    )
}

/// The command that tells what a figure consists of.
fn explain(check: &Check, again: &str) -> String {
    match check {
        Check::Budget { figure: Figure::CompileTime, .. } => format!("egret explain {again} -vv --profile"),
        Check::Budget { figure: Figure::Kernels, .. } | Check::Expect { .. } | Check::Deny(_) => {
            format!("egret explain {again} --missed -v")
        }
        Check::Budget { .. } => format!("egret explain {again}"),
    }
}
