//! Rows divided by what they amount to.

use super::Spelling::{self, Nodes};
use crate::call::{Call, Written};
use crate::proto;
use egret_ir::families::Normalization as N;
use egret_ir::{DType, Dim};

pub(super) fn spelling(op: N) -> Spelling {
    match op {
        N::Softmax => Nodes("Softmax", softmax),
        N::LayerNorm => {
            Nodes("LayerNormalization with a scale of 1 (its parts for f64)", |c| norm(c, true))
        }
        N::RmsNorm => Nodes("RMSNormalization with a scale of 1 (its parts for f64)", |c| norm(c, false)),
    }
}

fn softmax(c: &mut Call<'_, '_>) -> Written {
    let (x, axis) = (c.opt(0), c.attrs().int("axis"));
    Ok(vec![c.op("Softmax", &[&x], vec![proto::int("axis", axis)])])
}

fn norm(c: &mut Call<'_, '_>, centred: bool) -> Written {
    let (x, ty, axis) = (c.opt(0), c.ty(0)?, c.attrs().index("axis"));
    let epsilon = c.attrs().float("epsilon");
    if ty.dtype == DType::F64 {
        // The operators' own statistics are in f32.
        return parts(c, &x, axis, ty.rank(), epsilon, centred);
    }
    // ONNX has the scale as an input that must be there.
    let mut one = c.number(ty.dtype, 1.0)?;
    if ty.shape[axis..] != [Dim::constant(1)] {
        let shape = c.writer.shape(&ty.shape[axis..])?;
        one = c.op("Expand", &[&one, &shape], vec![]);
    } else {
        let shape = c.ints(&[1]);
        one = c.op("Reshape", &[&one, &shape], vec![]);
    }
    let attributes = vec![proto::int("axis", axis as i64), proto::float("epsilon", epsilon)];
    let operator = if centred { "LayerNormalization" } else { "RMSNormalization" };
    Ok(vec![c.op(operator, &[&x, &one], attributes)])
}

fn parts(c: &mut Call<'_, '_>, x: &str, axis: usize, rank: usize, epsilon: f64, centred: bool) -> Written {
    let axes: Vec<i64> = (axis..rank).map(|a| a as i64).collect();
    let axes = c.ints(&axes);
    let mut x = x.to_owned();
    if centred {
        let mean = c.op("ReduceMean", &[&x, &axes], vec![]);
        x = c.op("Sub", &[&x, &mean], vec![]);
    }
    let squares = c.op("Mul", &[&x, &x], vec![]);
    let variance = c.op("ReduceMean", &[&squares, &axes], vec![]);
    let epsilon = c.number(DType::F64, epsilon)?;
    let variance = c.op("Add", &[&variance, &epsilon], vec![]);
    let deviation = c.op("Sqrt", &[&variance], vec![]);
    Ok(vec![c.op("Div", &[&x, &deviation], vec![])])
}
