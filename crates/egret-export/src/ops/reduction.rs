//! Reductions, and running ones.

use super::Spelling::{self, Nodes};
use crate::call::{Call, Written};
use crate::proto;
use egret_ir::DType;
use egret_ir::families::Reduction as R;

pub(super) fn spelling(op: R) -> Spelling {
    match op {
        R::Reduce => Nodes("ReduceSum, ReduceProd, ReduceMax, ReduceMin", reduce),
        R::ArgReduce => Nodes("ArgMax, ArgMin", arg_reduce),
        R::Cumulative => Nodes("CumSum, CumProd (opset 26)", cumulative),
    }
}

/// The type that ONNX's operator computes elements of a type in, where it is another one.
fn wider(dtype: DType, takes_bytes: bool) -> Option<DType> {
    match dtype {
        DType::I8 | DType::U8 if takes_bytes => None,
        DType::I8 | DType::I16 | DType::U8 | DType::U16 => Some(DType::I32),
        _ => None,
    }
}

fn reduce(c: &mut Call<'_, '_>) -> Written {
    let (mut x, dtype) = (c.opt(0), c.ty(0)?.dtype);
    let (operator, sums) = match c.attrs().str("kind") {
        "sum" => ("ReduceSum", true),
        "prod" => ("ReduceProd", true),
        // Of truths the largest is true if any is.
        "max" | "or" => ("ReduceMax", false),
        _ => ("ReduceMin", false),
    };
    let mut attributes = vec![proto::int("keepdims", c.attrs().int("keepdims"))];
    let axes = c.attrs().ints("axes").to_vec();
    if axes.is_empty() {
        attributes.push(proto::int("noop_with_empty_axes", 1));
    }
    let wide = wider(dtype, !sums);
    if let Some(wide) = wide {
        x = c.cast(&x, wide);
    }
    let axes = c.ints(&axes);
    let y = c.op(operator, &[&x, &axes], attributes);
    Ok(vec![if wide.is_some() { c.cast(&y, dtype) } else { y }])
}

fn arg_reduce(c: &mut Call<'_, '_>) -> Written {
    let x = c.opt(0);
    let operator = if c.attrs().str("kind") == "max" { "ArgMax" } else { "ArgMin" };
    let attributes = vec![
        proto::int("axis", c.attrs().int("axis")),
        proto::int("keepdims", c.attrs().int("keepdims")),
        proto::int("select_last_index", c.attrs().int("last")),
    ];
    Ok(vec![c.op(operator, &[&x], attributes)])
}

fn cumulative(c: &mut Call<'_, '_>) -> Written {
    let (mut x, dtype) = (c.opt(0), c.ty(0)?.dtype);
    let axis = c.attrs().int("axis");
    let attributes = vec![
        proto::int("exclusive", c.attrs().int("exclusive")),
        proto::int("reverse", c.attrs().int("reverse")),
    ];
    let operator = if c.attrs().str("kind") == "sum" {
        "CumSum"
    } else {
        c.writer.require("", 26);
        "CumProd"
    };
    let wide = wider(dtype, false);
    if let Some(wide) = wide {
        x = c.cast(&x, wide);
    }
    let axis = c.number(DType::I64, axis as f64)?;
    let y = c.op(operator, &[&x, &axis], attributes);
    Ok(vec![if wide.is_some() { c.cast(&y, dtype) } else { y }])
}
