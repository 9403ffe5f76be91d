//! Random numbers of dims that a run knows: element by element the draws of `egret_ir::rng`.

use super::{GRAIN, Writer, shape, volume};
use crate::error::Unsupported;
use crate::program::context::Ctx;
use egret_ir::{DType, Dim, Graph, NodeId, rng};
use egret_loop::{Access, BinOp, Elem, Extent, KernelBuilder, Ty, V};

/// Whether the kernel can do a node.
pub fn takes(graph: &Graph, n: NodeId) -> bool {
    let dtype = graph.ty(graph.node(n).results[0]).as_tensor().map(|t| t.dtype);
    matches!(dtype, Some(DType::F32 | DType::F64))
}

/// `rng::nth(seed, index)` as instructions.
fn nth(k: &mut KernelBuilder, seed: u64, index: V) -> V {
    let ty = Ty::scalar(Elem::U64);
    let bits = |k: &mut KernelBuilder, bits: u64| k.const_bits(ty, bits);
    let mixed = |k: &mut KernelBuilder, z: V, by: u64| {
        let by = bits(k, by);
        let shifted = k.binary(BinOp::Shr, z, by);
        k.binary(BinOp::Xor, z, shifted)
    };
    let index = k.convert(Elem::U64, index);
    let (step, start) = (bits(k, rng::STEP), bits(k, seed.wrapping_add(rng::STEP)));
    let z = k.mul(index, step);
    let z = k.add(z, start);
    let z = mixed(k, z, 30);
    let by = bits(k, rng::MIX[0]);
    let z = k.mul(z, by);
    let z = mixed(k, z, 27);
    let by = bits(k, rng::MIX[1]);
    let z = k.mul(z, by);
    mixed(k, z, 31)
}

/// `random_uniform`. A task is a block of elements.
pub fn uniform(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let all = volume(&shape(graph, node.results[0]));
    let count = ctx.extent(&all)?;
    let [_, tasks] = ctx.blocks(Extent::Const(1), count, GRAIN)?;
    let a = &node.attrs;
    let (low, high, seed) = (a.float("low"), a.float("high"), a.float("seed"));
    let mut w = Writer::new(ctx, "random_uniform_any");
    let to = w.value(node.results[0], Access::Write)?;
    let count = w.dim(&all)?;
    let k = &mut w.k;
    let task = k.task();
    let (begin, end) = (k.affine(&[(task, GRAIN)], 0), k.affine(&[(task, GRAIN)], GRAIN));
    let end = k.min(end, count);
    let float = Ty::scalar(Elem::F64);
    k.for_values(begin, end, 1, |k, i| {
        let z = nth(k, seed.to_bits(), i);
        let by = k.const_bits(Ty::scalar(Elem::U64), 40);
        let z = k.binary(BinOp::Shr, z, by);
        let z = k.convert(Elem::F64, z);
        let (unit, extent, low) =
            (k.number(float, (-24f64).exp2()), k.number(float, high - low), k.number(float, low));
        let draw = k.mul(z, unit);
        let v = k.mul(extent, draw);
        let v = k.add(low, v);
        let v = k.convert(k.param_elem(to), v);
        k.store(to, i, v);
    });
    w.finish_tasks(tasks, &Dim::constant(1))
}
