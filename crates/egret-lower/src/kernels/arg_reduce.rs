//! The index of the extreme along an axis.

use crate::error::Unsupported;
use crate::expr::convert::decode;
use crate::geometry::shape::split_at_axis;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::{DType, Node};
use egret_loop::{Access, Cmp, Elem, KernelBuilder, Param, V};

/// Lower an `arg_reduce`.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let x = node.operand(0);
    let (outer, n, inner) = split_at_axis(&ctx.dims(x), node.attrs.index("axis"));
    let (dtype, elem) = (ctx.dtype(x), ctx.elem(x)?);
    if outer == 0 || inner == 0 {
        return Ok(());
    }
    let args = [ctx.place(x)?, ctx.place(node.results[0])?];
    let mut k = ctx.kernel("arg_reduce", outer);
    let px = k.param(elem, (outer * n * inner) as usize, Access::Read);
    let py = k.param(Elem::I64, (outer * inner) as usize, Access::Write);
    let o = k.task();
    let mut result = Ok(());
    k.for_n(inner, |k, i| {
        let base = k.affine(&[(o, n * inner), (i, 1)], 0);
        let count = k.int(n);
        let place = |k: &mut KernelBuilder, j| k.affine(&[(base, 1), (j, inner)], 0);
        match extreme(k, node, dtype, px, count, &place) {
            Ok(best) => {
                let to = k.affine(&[(o, inner), (i, 1)], 0);
                k.store(py, to, best);
            }
            Err(e) => result = Err(e),
        }
    });
    result?;
    ctx.call(k.finish(), &args)
}

/// The index of the extreme of `n` elements, at least one, of which element `j` stands at `place(j)`.
pub(super) fn extreme(
    k: &mut KernelBuilder,
    node: &Node,
    dtype: DType,
    from: Param,
    n: V,
    place: &dyn Fn(&mut KernelBuilder, V) -> V,
) -> Result<V, Unsupported> {
    let last = node.attrs.flag("last");
    let better = match (node.attrs.str("kind") == "max", last) {
        (true, false) => Cmp::Gt,
        (true, true) => Cmp::Ge,
        (false, false) => Cmp::Lt,
        (false, true) => Cmp::Le,
    };
    let (zero, one) = (k.int(0), k.int(1));
    let at = place(k, zero);
    let raw = k.load(from, at);
    let first = decode(k, dtype, raw)?;
    let (best, index) = (k.local(first), k.local(zero));
    let mut result = Ok(());
    k.for_values(one, n, 1, |k, j| {
        let at = place(k, j);
        let raw = k.load(from, at);
        let v = match decode(k, dtype, raw) {
            Ok(v) => v,
            Err(e) => return result = Err(e),
        };
        let (b, bi) = (k.get(best), k.get(index));
        let mut take = k.compare(better, v, b);
        if k.ty(v).elem.is_float() {
            // NaN is the extreme of either kind; of several, the first or the last.
            let nan = k.compare(Cmp::Ne, v, v);
            let found = if last {
                nan
            } else {
                let number = k.compare(Cmp::Eq, b, b);
                k.and(nan, number)
            };
            take = k.or(take, found);
        }
        let (b, bi) = (k.select(take, v, b), k.select(take, j, bi));
        k.set(best, b);
        k.set(index, bi);
    });
    result?;
    Ok(k.get(index))
}
