//! What pixels are read of: planes of channels as they are, or of quads of them.

use crate::error::Unsupported;
use crate::expr::{Expr, Operand, Term};
use crate::geometry::access::StridedAccess;
use crate::geometry::conv::ConvShape;
use crate::geometry::size;
use crate::loops::map;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_ir::{DType, Op, QUAD, ValueId, attrs};
use egret_loop::{Arg, Elem, Products};

/// Planes of elements of four bytes: of f32, or of quads of u8, of which each i32 has the bytes of four neighbouring channels, the first one in its low byte.
/// Rows of a plane follow one another.
#[derive(Copy, Clone, Debug)]
pub struct Source {
    /// The value that they are of.
    pub value: ValueId,
    /// The first image.
    pub at: Arg,
    /// Elements from one image to the next, and from one plane.
    pub strides: [i64; 2],
    /// Planes of an image.
    pub depth: i64,
    /// What weights are multiplied by: floats or quads.
    pub products: Products,
}

impl Source {
    /// The input of a convolution of f32, as it is.
    pub fn floats(ctx: &mut Ctx, x: ValueId, s: &ConvShape) -> Result<Source, Unsupported> {
        let (at, own) = (ctx.origin(x)?, ctx.access(x).strides);
        let strides = [own[0], own[1]];
        Ok(Source { value: x, at, strides, depth: s.channels.0, products: Products::Floats })
    }

    /// Quads of the input of a convolution of u8: a copy, in planes that begin with whole vectors. The last one has zeros for channels that are not there.
    pub fn quads(ctx: &mut Ctx, x: ValueId, s: &ConvShape) -> Result<Source, Unsupported> {
        let (from, own) = (ctx.origin(x)?, ctx.access(x).strides);
        let (pixels, quad): (i64, i64) = (s.input.iter().product(), QUAD as i64);
        let (whole, rest) = (s.channels.0 / quad, s.channels.0 % quad);
        let depth = whole + i64::from(rest > 0);
        let line = ctx.options.machine.line_bytes as i64 / Elem::I32.size() as i64;
        let strides = [depth * size::apart(pixels, line), size::apart(pixels, line)];
        let at = ctx.scratch(Elem::I32, &[s.n * strides[0]])?;
        for (first, planes, bytes) in [(0, whole, quad), (whole, 1, rest)] {
            if planes * bytes == 0 {
                continue;
            }
            let of_bytes = |byte: i64| Operand {
                value: x,
                dtype: DType::U8,
                access: StridedAccess {
                    offset: (first * quad + byte) * own[1],
                    strides: vec![own[0], quad * own[1], 1],
                },
            };
            let expr = Expr {
                dims: vec![s.n, planes, pixels],
                operands: (0..bytes).map(of_bytes).collect(),
                terms: quad_of(bytes as usize),
            };
            let access =
                StridedAccess { offset: first * strides[1], strides: vec![strides[0], strides[1], 1] };
            let inputs = vec![from; bytes as usize];
            map::run_to(ctx, &expr, &inputs, &Destination { at, access, halo: None })?;
        }
        Ok(Source { value: x, at, strides, depth, products: Products::Quads })
    }

    /// Copies so many elements from places that `access` counts from the first on.
    pub fn copy(
        self,
        ctx: &mut Ctx,
        dims: Vec<i64>,
        access: StridedAccess,
        to: &Destination,
    ) -> Result<(), Unsupported> {
        let dtype = if self.products == Products::Quads { DType::I32 } else { DType::F32 };
        let operands = vec![Operand { value: self.value, dtype, access }];
        let expr = Expr { dims, operands, terms: vec![(Term::Operand(0), dtype)] };
        map::run_to(ctx, &expr, &[self.at], to)
    }

    /// The type of its elements.
    pub fn elem(self) -> Elem {
        self.products.operands().1
    }
}

/// The i32 of so many operands of u8, the first in its low byte.
fn quad_of(bytes: usize) -> Vec<(Term, DType)> {
    let int = DType::I32;
    let mut terms = vec![];
    let mut add = |term: Term, dtype: DType| {
        terms.push((term, dtype));
        terms.len() - 1
    };
    let mut sum = None;
    for byte in 0..bytes {
        let code = add(Term::Operand(byte), DType::U8);
        let cast = attrs! { to: int, saturate: 1, round: "nearest" };
        let mut wide = add(Term::Apply(Op::Cast, cast, vec![code]), int);
        if let Some(sum) = sum {
            let factor = add(Term::Const(1 << (8 * byte)), int);
            wide = add(Term::Apply(Op::Mul, attrs! {}, vec![wide, factor]), int);
            wide = add(Term::Apply(Op::Add, attrs! {}, vec![sum, wide]), int);
        }
        sum = Some(wide);
    }
    terms
}
