//! Where products and convolutions write their sums, and the copies around them.

use crate::error::Unsupported;
use crate::expr::{Expr, Operand, Term};
use crate::geometry::access::StridedAccess;
use crate::kernels::elementwise;
use crate::loops::map;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_ir::DType;
use egret_loop::{Arg, Products};

/// Where a product's result goes, and what its tiles run on the sums.
pub struct Target {
    /// The place.
    pub out: Destination,
    /// What runs on the sums.
    pub expr: Expr,
    /// The group's expression runs afterwards, on `out`.
    pub separate: bool,
}

impl Target {
    /// The group's result, or a buffer for the bare sums where its expression does not fit into tiles.
    pub fn new(ctx: &mut Ctx, group: &FusionGroup, products: Products) -> Result<Target, Unsupported> {
        if fits(&group.expr) {
            return Ok(Target { out: ctx.out(group.result)?, expr: group.expr.clone(), separate: false });
        }
        Target::sums(ctx, &group.expr.dims, products)
    }

    /// A buffer for the bare sums.
    pub fn sums(ctx: &mut Ctx, dims: &[i64], products: Products) -> Result<Target, Unsupported> {
        let dtype = match products {
            Products::Floats => DType::F32,
            Products::Bytes | Products::Quads => DType::I32,
        };
        let out = Destination::dense(ctx.scratch(products.sum(), dims)?, dims);
        Ok(Target { out, expr: Expr::anchor(dims.to_vec(), dtype), separate: true })
    }

    /// What is left to do after the product.
    pub fn finish(self, ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
        if self.separate { elementwise::epilogue(ctx, group, self.out.at) } else { Ok(()) }
    }
}

/// Whether the tile can run an expression on its sums.
pub fn fits(expr: &Expr) -> bool {
    let unit = |a: &StridedAccess| {
        let columns = matches!(a.strides.last(), None | Some(0 | 1)) || expr.dims.last() == Some(&1);
        columns && a.strides.iter().all(|s| *s >= 0)
    };
    let result = matches!(expr.dtype(), DType::F32 | DType::I32 | DType::U8 | DType::I8);
    expr.suits_tiles() && result && expr.operands.iter().all(|o| unit(&o.access))
}

/// What a product of values of these dtypes multiplies; nothing where tiles cannot do it.
pub fn products(a: DType, b: DType) -> Option<Products> {
    match (a, b) {
        (DType::F32, DType::F32) => Some(Products::Floats),
        (DType::U8, DType::I8) => Some(Products::Bytes),
        _ => None,
    }
}

/// Copies `dims` elements of a value from a strided place to another.
pub fn copy(
    ctx: &mut Ctx,
    dims: Vec<i64>,
    value: egret_ir::ValueId,
    from: Arg,
    access: StridedAccess,
    to: &Destination,
) -> Result<(), Unsupported> {
    let dtype = ctx.dtype(value);
    let operands = vec![Operand { value, dtype, access }];
    let expr = Expr { dims, operands, terms: vec![(Term::Operand(0), dtype)] };
    map::run_to(ctx, &expr, &[from], to)
}

/// The f32 elements of a constant's bytes.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// The bytes of f32 elements.
pub fn bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|x| x.to_le_bytes()).collect()
}
