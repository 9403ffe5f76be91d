//! Rotary embedding along free dims: a task is a row, the last axis, of which the two elements of a pair are read and written together.

use super::{Writer, along, float_lanes, indices, place};
use crate::error::Unsupported;
use crate::expr::{decode, encode};
use crate::geometry::dtypes::compute_elem;
use crate::program::context::Ctx;
use egret_ir::{DType, Dim, DimOp, Graph, NodeId};
use egret_loop::{Access, KernelBuilder, V};

/// Writes the kernel of a node.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, result) = (node.operand(0), node.results[0]);
    let (dims, dtype) = (graph.tensor_ty(result).shape.to_vec(), graph.tensor_ty(result).dtype);
    let Some((last, rows)) = dims.split_last() else {
        return Err(Unsupported::new("has a result without axes"));
    };
    let two = Dim::constant(2);
    let half = last.op(DimOp::FloorDiv, &two);
    ctx.hold_equal(&(half.clone() * two), last)?;
    let interleaved = node.attrs.flag("interleaved");
    let mut w = Writer::new(ctx, "rotary_any");
    let (mut read, mut neighbours) = (vec![], true);
    for v in [x, node.operand(1), node.operand(2)] {
        let (param, first, stored) = w.laid_out(v)?;
        let strides = w.aligned(&stored, &dims)?;
        neighbours &= strides.last().and_then(Dim::as_const) == Some(1);
        read.push((param, w.dim(&first)?, w.dims(&strides)?));
    }
    let to = w.value(result, Access::Write)?;
    let (extents, half, width) = (w.dims(rows)?, w.dim(&half)?, w.dim(last)?);
    let elem = compute_elem(dtype)?;
    let k = &mut w.k;
    let (zero, task) = (k.int(0), k.task());
    let at = indices(k, &extents);
    let base = k.mul(task, width);
    let bases: Vec<V> =
        read.iter().map(|(_, first, strides)| place(k, *first, &at, &strides[..at.len()])).collect();
    let lanes = match dtype == DType::F32 && neighbours && !interleaved {
        true => float_lanes(k, elem),
        false => vec![],
    };
    let mut failed = Ok(());
    along(k, half, &lanes, &mut |k, i, lanes| {
        // The elements of the pair along the last axis.
        let pair = match interleaved {
            true => [k.affine(&[(i, 2)], 0), k.affine(&[(i, 2)], 1)],
            false => [i, k.add(half, i)],
        };
        let load = |k: &mut KernelBuilder, operand: usize, element: V| {
            let (param, _, strides) = &read[operand];
            let at = place(k, bases[operand], &[element], &strides[strides.len() - 1..]);
            let v = if lanes == 1 { k.load(*param, at) } else { k.load_lanes(*param, at, lanes) };
            decode(k, dtype, v)
        };
        let mut write = || -> Result<(), Unsupported> {
            let mut turned = [[zero; 3]; 2];
            for (e, all) in pair.into_iter().zip(&mut turned) {
                for (operand, v) in all.iter_mut().enumerate() {
                    *v = load(k, operand, e)?;
                }
            }
            let [first, second] = turned;
            for (e, [x, cos, sin], other) in [(pair[0], first, second[0]), (pair[1], second, first[0])] {
                let (kept, by) = (k.mul(x, cos), k.mul(other, sin));
                let v = if e == pair[0] { k.sub(kept, by) } else { k.add(kept, by) };
                let (v, at) = (encode(k, dtype, v)?, k.add(base, e));
                k.store(to, at, v);
            }
            Ok(())
        };
        if let Err(e) = write() {
            failed = Err(e);
        }
    });
    failed?;
    w.finish(rows, last)
}
