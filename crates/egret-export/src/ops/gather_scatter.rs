//! Elements at places that only the data name.

use super::Spelling::{self, Nodes, Same};
use crate::call::{Call, Written};
use crate::proto;
use egret_ir::families::GatherScatter as G;

pub(super) fn spelling(op: G) -> Spelling {
    match op {
        G::Gather => Nodes("Gather", |c| gather(c, "Gather", "axis")),
        G::GatherElements => Nodes("GatherElements", |c| gather(c, "GatherElements", "axis")),
        G::GatherNd => Nodes("GatherND", |c| gather(c, "GatherND", "batch_dims")),
        G::ScatterElements => Nodes("ScatterElements", |c| scatter(c, "ScatterElements")),
        G::ScatterNd => Nodes("ScatterND", |c| scatter(c, "ScatterND")),
        G::ReverseSequence => Nodes("ReverseSequence", reverse_sequence),
        G::Nonzero => Same("NonZero"),
        G::Compress => Nodes("Compress", compress),
    }
}

fn gather(c: &mut Call<'_, '_>, operator: &str, attribute: &'static str) -> Written {
    let (x, indices) = (c.opt(0), index(c, operator)?);
    let value = c.attrs().int(attribute);
    Ok(vec![c.op(operator, &[&x, &indices], vec![proto::int(attribute, value)])])
}

/// The indices: those of `..ND` are i64.
fn index(c: &mut Call<'_, '_>, operator: &str) -> Result<String, crate::ExportError> {
    if operator.ends_with("ND") && c.ty(1)?.dtype != egret_ir::DType::I64 {
        let indices = c.opt(1);
        return Ok(c.cast(&indices, egret_ir::DType::I64));
    }
    c.index(1)
}

fn scatter(c: &mut Call<'_, '_>, operator: &str) -> Written {
    let (x, indices, updates) = (c.opt(0), index(c, operator)?, c.opt(2));
    let mut attributes = vec![];
    if operator == "ScatterElements" {
        attributes.push(proto::int("axis", c.attrs().int("axis")));
    }
    let reduction = c.attrs().str("reduction").to_owned();
    attributes.push(proto::text("reduction", &reduction));
    Ok(vec![c.op(operator, &[&x, &indices, &updates], attributes)])
}

fn reverse_sequence(c: &mut Call<'_, '_>) -> Written {
    c.takes_bf16_since(28)?;
    let operands = c.operands();
    let attributes = ["time_axis", "batch_axis"].map(|name| proto::int(name, c.attrs().int(name)));
    Ok(vec![c.emit("ReverseSequence", &operands, attributes.to_vec())])
}

fn compress(c: &mut Call<'_, '_>) -> Written {
    c.takes_bf16_since(28)?;
    let (operands, axis) = (c.operands(), c.attrs().int("axis"));
    Ok(vec![c.emit("Compress", &operands, vec![proto::int("axis", axis)])])
}
