//! Layer and root-mean-square normalisation of f32 over the last axes: a task is a row of these.

use super::{Partials, Writer, along, float_lanes, volume, whole_dims};
use crate::error::Unsupported;
use crate::program::context::Ctx;
use egret_ir::{Graph, NodeId, Op};
use egret_loop::{Access, Arith, BinOp, Elem, KernelBuilder, UnOp, V};

/// Writes the kernel of a node.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, result) = (node.operand(0), node.results[0]);
    let shape = whole_dims(ctx, x)?;
    let (rows, row) = shape.split_at(node.attrs.index("axis"));
    let row = volume(row);
    let mut w = Writer::new(ctx, &format!("{}_any", node.op.name()));
    let (from, to) = (w.value(x, Access::Read)?, w.value(result, Access::Write)?);
    let extent = w.dim(&row)?;
    let k = &mut w.k;
    let task = k.task();
    let base = k.mul(task, extent);
    let lanes = float_lanes(k, Elem::F32);
    let load = |k: &mut KernelBuilder, i: V, lanes: u8| {
        let at = k.add(base, i);
        if lanes == 1 { k.load(from, at) } else { k.load_lanes(from, at, lanes) }
    };
    // The mean of what is made of each element.
    let count = k.convert(Elem::F32, extent);
    let mean = |k: &mut KernelBuilder, of: &dyn Fn(&mut KernelBuilder, V, u8) -> V| -> V {
        let sums = Partials::new(k, Elem::F32, &lanes, BinOp::Add, 0.0);
        along(k, extent, &lanes, &mut |k, i, n| {
            let v = load(k, i, n);
            let v = of(k, v, n);
            sums.take(k, v);
        });
        let sum = sums.result(k);
        k.div(sum, count)
    };
    let centre = (node.op == Op::LayerNorm).then(|| mean(k, &|_, v, _| v));
    let centred = |k: &mut KernelBuilder, v: V, lanes: u8| match centre {
        Some(centre) => {
            let centre = k.splat(centre, lanes);
            k.sub(v, centre)
        }
        None => v,
    };
    let spread = mean(k, &|k, v, lanes| {
        let v = centred(k, v, lanes);
        k.mul(v, v)
    });
    let epsilon = k.num(spread, node.attrs.float("epsilon"));
    let spread = k.add(spread, epsilon);
    let root = k.unary(UnOp::Sqrt, spread);
    let one = k.num(root, 1.0);
    let by = k.div(one, root);
    along(k, extent, &lanes, &mut |k, i, lanes| {
        let v = load(k, i, lanes);
        let (v, by) = (centred(k, v, lanes), k.splat(by, lanes));
        let (v, at) = (k.mul(v, by), k.add(base, i));
        k.store(to, at, v);
    });
    w.finish(rows, &row)
}
