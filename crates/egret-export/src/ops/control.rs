//! Operations with sub-graphs. What a sub-graph takes from around it, it names directly.

use super::Spelling::{self, Nodes};
use crate::call::{Call, Written};
use crate::error::ExportError;
use crate::proto;
use egret_ir::families::Control as C;
use onnx_protobuf::AttributeProto;

pub(super) fn spelling(op: C) -> Spelling {
    match op {
        C::If => Nodes("If", branch),
        C::Loop => Nodes("Loop", repeat),
        C::Scan => Nodes("Scan", scan),
        C::SequenceMap => Nodes("SequenceMap", sequence_map),
    }
}

/// A region as an attribute: `own` inputs are its own, the operands from `from` on are what the others are.
fn region(
    c: &mut Call<'_, '_>,
    i: usize,
    name: &str,
    own: usize,
    from: usize,
) -> Result<AttributeProto, ExportError> {
    let region = &c.node.regions[i];
    let mut captured = vec![None; own];
    for at in from..c.node.operands.len() {
        captured.push(Some(c.opt(at)));
    }
    if captured.len() != region.inputs().len() {
        return Err(ExportError::new(format!(
            "the sub-graph `{name}` has {} inputs where {} are given",
            region.inputs().len(),
            captured.len()
        )));
    }
    Ok(proto::graph(name, c.writer.graph(region, &captured, false)?))
}

fn results(
    c: &mut Call<'_, '_>,
    operator: &str,
    inputs: &[String],
    attributes: Vec<AttributeProto>,
) -> Written {
    let count = c.node.results.len();
    Ok(c.emit_many("", operator, inputs, count, attributes))
}

fn branch(c: &mut Call<'_, '_>) -> Written {
    let cond = c.opt(0);
    let then = region(c, 0, "then_branch", 0, 1)?;
    let other = region(c, 1, "else_branch", 0, 1)?;
    results(c, "If", &[cond], vec![then, other])
}

fn repeat(c: &mut Call<'_, '_>) -> Written {
    let carried = c.attrs().index("carried");
    let mut inputs: Vec<String> = (0..2 + carried).map(|i| c.opt(i)).collect();
    for (i, flag) in ["has_trip_count", "has_cond"].into_iter().enumerate() {
        if !c.attrs().flag(flag) {
            inputs[i].clear();
        }
    }
    let body = region(c, 0, "body", 2 + carried, 2 + carried)?;
    results(c, "Loop", &inputs, vec![body])
}

fn scan(c: &mut Call<'_, '_>) -> Written {
    let (carried, scans) = (c.attrs().index("carried"), c.attrs().index("scans"));
    let inputs: Vec<String> = (0..carried + scans).map(|i| c.opt(i)).collect();
    let mut attributes = vec![
        region(c, 0, "body", carried + scans, carried + scans)?,
        proto::int("num_scan_inputs", scans as i64),
    ];
    for (name, onnx) in [
        ("input_axes", "scan_input_axes"),
        ("input_reverse", "scan_input_directions"),
        ("output_axes", "scan_output_axes"),
        ("output_reverse", "scan_output_directions"),
    ] {
        attributes.push(proto::ints(onnx, c.attrs().ints(name)));
    }
    results(c, "Scan", &inputs, attributes)
}

fn sequence_map(c: &mut Call<'_, '_>) -> Written {
    let own = c.attrs().index("inputs");
    let inputs: Vec<String> = (0..own).map(|i| c.opt(i)).collect();
    let body = region(c, 0, "body", own, own)?;
    results(c, "SequenceMap", &inputs, vec![body])
}
