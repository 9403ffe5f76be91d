//! Elementwise groups, and copies.

use crate::error::Unsupported;
use crate::expr::{Expr, Operand, Term};
use crate::geometry::access::StridedAccess;
use crate::loops::map;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::DType;
use egret_loop::{Arg, Elem};

/// Lower a group without an anchor.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let mut args = vec![];
    for o in &group.expr.operands {
        args.push(ctx.origin(o.value)?);
    }
    let out = ctx.out(group.result)?;
    map::run_to(ctx, &group.expr, &args, &out)
}

/// The epilogue of a group as a kernel of its own, for anchors that cannot run it themselves: reads the
/// anchor's value from `from` (in the order of the result, as a buffer of its dtype).
pub fn epilogue(ctx: &mut Ctx, group: &FusionGroup, from: Arg) -> Result<(), Unsupported> {
    let out = ctx.out(group.result)?;
    // The value only stands for the place, which is given.
    let expr = group.expr.with_anchor_from(group.result);
    let mut args = vec![];
    for (i, o) in expr.operands.iter().enumerate() {
        args.push(if i < group.expr.operands.len() { ctx.origin(o.value)? } else { from });
    }
    map::run_to(ctx, &expr, &args, &out)
}

/// Copies a contiguous run of elements.
pub fn copy(ctx: &mut Ctx, elem: Elem, len: usize, from: Arg, to: Arg) -> Result<(), Unsupported> {
    let dims = vec![len as i64];
    let dtype = match elem.size() {
        1 => DType::U8,
        2 => DType::U16,
        4 => DType::F32,
        _ => DType::F64,
    };
    let access = StridedAccess::dense(&dims);
    // The value of the operand is not read: its place is given.
    let operand = Operand { value: egret_ir::ValueId(u32::MAX), dtype, access: access.clone() };
    let expr = Expr { dims, operands: vec![operand], terms: vec![(Term::Operand(0), dtype)] };
    map::run_on(ctx, &expr, &[from], to, &access)
}
