//! Layer and root-mean-square normalisation of f32 over the last axes: a task is a row of these.

use super::{Writer, along, float_lanes, folded, volume};
use crate::error::Unsupported;
use crate::program::context::Ctx;
use egret_ir::{Graph, NodeId, Op};
use egret_loop::{Access, Arith, BinOp, Elem, KernelBuilder, Local, Ty, UnOp, V};

/// Writes the kernel of a node.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, result) = (node.operand(0), node.results[0]);
    let shape = graph.tensor_ty(result).shape.to_vec();
    let (rows, row) = shape.split_at(node.attrs.index("axis"));
    let row = volume(row);
    let Some(units) = &ctx.units else { return Err(Unsupported::bug("has no free dims")) };
    if units.stored(x) != shape {
        return Err(Unsupported::new("is of a value that is the same in every unit"));
    }
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
        let mut sums: Vec<Local> = vec![];
        for lanes in lanes.iter().copied().chain([1]) {
            let zero = k.number(Ty { elem: Elem::F32, lanes }, 0.0);
            sums.push(k.local(zero));
        }
        along(k, extent, &lanes, &mut |k, i, n| {
            let v = load(k, i, n);
            let v = of(k, v, n);
            let sum = sums[lanes.iter().position(|&l| l == n).unwrap_or(lanes.len())];
            let old = k.get(sum);
            let new = k.add(old, v);
            k.set(sum, new);
        });
        let parts: Vec<V> = sums.iter().map(|&l| k.get(l)).collect();
        let sum = folded(k, BinOp::Add, &parts);
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
