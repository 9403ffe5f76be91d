//! Gradient: derivatives of a value of the model by others, as nodes of the same graph.

use super::OnnxOp;
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_grad::GradError;
use egret_ir::ValueId;
use onnx_protobuf::NodeProto;

const DOMAIN: &str = "ai.onnx.preview.training";

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[OnnxOp { domain: DOMAIN, name: "Gradient", since: 1, import: gradient }];

/// The values that a node names by its attributes: `xs`, `zs` and `y` of a Gradient.
pub(crate) fn named(node: &NodeProto) -> impl Iterator<Item = &str> {
    let of_gradient = node.op_type == "Gradient" && node.domain == DOMAIN;
    let names = node.attribute.iter().filter(move |_| of_gradient).flat_map(|a| match a.name.as_str() {
        "xs" | "zs" => a.strings.as_slice(),
        "y" => std::slice::from_ref(&a.s),
        _ => &[],
    });
    names.filter_map(|name| std::str::from_utf8(name).ok())
}

fn gradient(ctx: &mut NodeCtx) -> OpResult {
    let missing = |name| ImportError::invalid(format!("Gradient needs its `{name}`"));
    let xs = ctx.opt_strings("xs")?.ok_or_else(|| missing("xs"))?;
    let zs = ctx.opt_strings("zs")?.unwrap_or_default();
    let y = ctx.opt_str("y")?.ok_or_else(|| missing("y"))?;
    let value = |name: &String| -> Result<ValueId, ImportError> {
        ctx.named
            .get(name)
            .copied()
            .ok_or_else(|| ImportError::invalid(format!("Gradient: there is no value `{name}` before it")))
    };
    let (xs_of, zs_of) = (
        xs.iter().map(&value).collect::<Result<Vec<_>, _>>()?,
        zs.iter().map(&value).collect::<Result<Vec<_>, _>>()?,
    );
    let y = value(&y)?;
    for (i, (name, &v)) in xs.iter().chain(&zs).zip(xs_of.iter().chain(&zs_of)).enumerate() {
        if ctx.input(i)? != v {
            return Err(ImportError::unsupported(format!(
                "Gradient at another value of `{name}` than the model's own; make `{name}` its input {i}"
            )));
        }
    }
    if let Some((name, _)) = xs.iter().zip(&xs_of).find(|(_, v)| ctx.builder.graph.as_const(**v).is_some())
    {
        return Err(ImportError::unsupported(format!(
            "Gradient by `{name}`, a constant here, of which other constants may be made; make it an input of the model"
        )));
    }
    egret_grad::gradients(ctx.builder, y, &xs_of, &zs_of).map_err(|e| match e {
        GradError::NotDifferentiable(_) | GradError::NoRelevance(_) | GradError::Rule(..) => {
            ImportError::unsupported(e.to_string())
        }
        GradError::Request(_) | GradError::NoPath { .. } => ImportError::invalid(e.to_string()),
    })
}
