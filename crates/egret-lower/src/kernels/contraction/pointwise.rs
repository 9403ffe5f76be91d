//! f32 convolutions of a single tap with channels first: of each image the product of the weights, one row for each output channel, and
//! its planes, one column for each pixel. Neither operand nor the result moves.

use super::conv_buffers::conv_name;
use super::product::{self, Product};
use super::shape::{ALIASED_BYTES, Panels, RowAxis, Rows};
use super::target::{Target, fits};
use crate::error::Unsupported;
use crate::expr::Expr;
use crate::geometry::access::StridedAccess;
use crate::geometry::conv::ConvShape;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_ir::{NodeId, ValueId};
use egret_loop::{Arg, Axis, Elem, Products};

/// With fewer pixels too much of the last vector of columns would be empty, and the transposes that this saves are small.
const LEAST_PIXELS: i64 = 128;

/// Lower a `conv` of f32; `false` if it is not of a single tap that walks over every pixel of planes.
pub fn lower(
    ctx: &mut Ctx,
    group: &FusionGroup,
    anchor: NodeId,
    s: &ConvShape,
) -> Result<bool, Unsupported> {
    let pixels: i64 = s.output.iter().product();
    let every = s.strides.iter().all(|&s| s == 1) && s.input == s.output && s.low.iter().all(|&l| l == 0);
    if s.channels_last || s.groups != 1 || s.taps() != 1 || !every || pixels < LEAST_PIXELS {
        return Ok(false);
    }
    let node = ctx.graph.node(anchor);
    let (x, w) = (node.operand(0), node.operand(1));
    let (depth, channels) = s.channels;
    let dims = vec![s.n, channels, pixels];
    let target = match in_rows(&group.expr, &dims).filter(fits) {
        // An output of a convolution with channels first has no halo.
        Some(expr) => {
            let out = Destination::dense(ctx.place(group.result)?, &dims);
            Target { out, expr, separate: false }
        }
        None => Target::sums(ctx, &dims, Products::Floats)?,
    };
    let (weights, row) = rows_of(ctx, w, channels, depth)?;
    let rows = vec![
        RowAxis { extent: s.n, a: 0, b: depth * pixels, axis: 0, scale: 1 },
        RowAxis { extent: channels, a: row, b: 0, axis: 1, scale: 1 },
    ];
    let width = Rows { axes: &rows, out: &target.out, expr: &target.expr, products: Products::Floats }
        .panel_width(&ctx.options.machine, pixels);
    let product = Product {
        name: &conv_name("conv_planes", &s.kernel),
        products: Products::Floats,
        a: weights,
        b: ctx.place(x)?,
        rows,
        axes: vec![Axis { extent: depth, a_stride: 1, b_stride: pixels }],
        cols: pixels,
        panels: Panels { width, stride: width },
        origin: vec![0; dims.len()],
        out: &target.out,
        expr: &target.expr,
    };
    product::run(ctx, &product)?;
    target.finish(ctx, group)?;
    Ok(true)
}

/// An expression over `[n, channels, spatial..]` as one over `[n, channels, pixels]`, if its operands' pixels are evenly apart.
pub fn in_rows(expr: &Expr, dims: &[i64]) -> Option<Expr> {
    let mut flat = Expr { dims: dims.to_vec(), ..expr.clone() };
    for o in &mut flat.operands {
        let StridedAccess { offset, strides } = &o.access;
        let mut axes = expr.dims.iter().zip(strides).skip(2).filter(|(n, _)| **n != 1).rev();
        let (mut count, pixel) = axes.next().map_or((1, 0), |(n, stride)| (*n, *stride));
        for (n, stride) in axes {
            if *stride != count * pixel {
                return None;
            }
            count *= n;
        }
        o.access = StridedAccess { offset: *offset, strides: vec![strides[0], strides[1], pixel] };
    }
    Some(flat)
}

/// The weights as rows of `depth` elements, and how far these are apart: a line of the cache more where they would share few of its sets.
fn rows_of(ctx: &mut Ctx, w: ValueId, channels: i64, depth: i64) -> Result<(Arg, i64), Unsupported> {
    let size = Elem::F32.size() as i64;
    let bytes = depth * size;
    if bytes % ALIASED_BYTES != 0 || ctx.graph.as_const(w).is_none() {
        return Ok((ctx.place(w)?, depth));
    }
    let row = depth + ctx.options.machine.line_bytes as i64 / size;
    let [from, to] = [bytes, row * size].map(|n| n as usize);
    let packed =
        ctx.packed_later(w, "rows a line apart", Elem::F32, channels as usize * to, move |t, out| {
            let rows = out.chunks_exact_mut(to).zip(t.bytes().chunks_exact(from));
            rows.for_each(|(out, row)| out[..from].copy_from_slice(row));
        })?;
    Ok((packed, row))
}
