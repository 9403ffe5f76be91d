//! Rotary embedding as one pass: the last axis is two axes, one of which tells the elements of a pair
//! apart.

use crate::error::Unsupported;
use crate::expr::{Expr, Operand, Term};
use crate::geometry::access::StridedAccess;
use crate::geometry::shape::strides;
use crate::loops::map;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::{Attrs, DType, Op, ValueId, attrs};
use egret_loop::Elem;

/// Lower a `rotary` node.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let (x, cos, sin) = (node.operand(0), node.operand(1), node.operand(2));
    let (dims, dtype) = (ctx.dims(x), ctx.dtype(x));
    let out = ctx.place(group.result)?;
    let Some((&last, lead)) = dims.split_last() else {
        return Err(Unsupported::new("has a result without axes"));
    };
    if dims.contains(&0) {
        return Ok(());
    }
    // A pair's two elements differ in the index along `pair`.
    let (half, pair) = (last / 2, if node.attrs.flag("interleaved") { lead.len() + 1 } else { lead.len() });
    let split = if pair == lead.len() { [2, half] } else { [half, 2] };
    let split_dims = [lead, &split].concat();
    let of = |ctx: &Ctx, v: ValueId| split_access(&ctx.dims(v), &dims, split);
    let x_access = of(ctx, x);
    // The other element of the pair: index 1 - i instead of i.
    let mut other = x_access.clone();
    other.offset += other.strides[pair];
    other.strides[pair] = -other.strides[pair];
    // -1 where the element is the first of its pair, 1 where it is the second.
    let signs: Vec<u8> = [-1f32, 1.0].into_iter().flat_map(f32::to_le_bytes).collect();
    let signs = ctx.table("signs of a rotation", Elem::F32, signs);
    let mut sign = StridedAccess { offset: 0, strides: vec![0; split_dims.len()] };
    sign.strides[pair] = 1;
    let operands = vec![
        Operand { value: x, dtype, access: x_access.clone() },
        Operand { value: x, dtype, access: other },
        Operand { value: cos, dtype, access: of(ctx, cos) },
        Operand { value: sin, dtype, access: of(ctx, sin) },
        // The value only stands for the place, which is given.
        Operand { value: x, dtype: DType::F32, access: sign },
    ];
    let mut args = vec![];
    for o in &operands[..4] {
        args.push(ctx.place(o.value)?);
    }
    args.push(signs);
    let expr = Expr { dims: split_dims, operands, terms: terms(dtype) };
    map::run_on(ctx, &expr, &args, out, &StridedAccess::dense(&expr.dims))
}

/// x * cos + other * (sin * sign), rounded once.
fn terms(dtype: DType) -> Vec<(Term, DType)> {
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let cast = |to: DType| attrs! { to: to, saturate: 0i64, round: "nearest" };
    let mut terms = vec![];
    for i in 0..4 {
        terms.push((Term::Operand(i), dtype));
    }
    terms.push((Term::Operand(4), DType::F32));
    // Terms 5 to 9: the same in the type that is computed in.
    for i in 0..5 {
        terms.push((Term::Apply(Op::Cast, cast(wide), vec![i]), wide));
    }
    let mut apply = |op: Op, attrs: Attrs, args: Vec<usize>, dtype: DType| {
        terms.push((Term::Apply(op, attrs, args), dtype));
        terms.len() - 1
    };
    let sine = apply(Op::Mul, attrs!(), vec![8, 9], wide);
    let turned = apply(Op::Mul, attrs!(), vec![6, sine], wide);
    let kept = apply(Op::Mul, attrs!(), vec![5, 7], wide);
    let sum = apply(Op::Add, attrs!(), vec![kept, turned], wide);
    if dtype != wide {
        apply(Op::Cast, cast(dtype), vec![sum], dtype);
    }
    terms
}

/// How a value that broadcasts to `dims` is indexed where the last axis is two axes, `split`.
fn split_access(own: &[i64], dims: &[i64], split: [i64; 2]) -> StridedAccess {
    let skip = dims.len() - own.len();
    let mut along = vec![0; skip];
    along.extend(strides(own).iter().zip(own).map(|(&s, &d)| if d == 1 { 0 } else { s }));
    let last = along.pop().unwrap_or(0);
    along.extend([last * split[1], last]);
    StridedAccess { offset: 0, strides: along }
}
