//! Weights times columns that another kernel has gathered.

use super::product::{self, Product};
use super::shape::{Panels, RowAxis, Rows};
use crate::error::Unsupported;
use crate::expr::Expr;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_ir::DType;
use egret_loop::{Arg, Axis, Products};

/// A product of f32: `out[image, group * outputs + o, place]` is the sum over `d` of `weights[group * outputs + o, d]` times
/// `columns[image, group * depth + d, place]`.
pub struct Columns {
    /// `[groups * outputs, depth]`.
    pub weights: Arg,
    /// `[images, groups * depth, places]`.
    pub columns: Arg,
    /// Images.
    pub images: i64,
    /// Groups.
    pub groups: i64,
    /// Outputs of a group.
    pub outputs: i64,
    /// Columns' elements of a group: at least 1.
    pub depth: i64,
    /// Places.
    pub places: i64,
}

impl Columns {
    /// The calls that compute it into `out`.
    pub fn lower(&self, ctx: &mut Ctx, name: &str, out: Arg) -> Result<(), Unsupported> {
        let dims = vec![self.images, self.groups * self.outputs, self.places];
        let (out, expr) = (Destination::dense(out, &dims), Expr::anchor(dims, DType::F32));
        let (depth, places, products) = (self.depth, self.places, Products::Floats);
        let per_group = depth * places;
        let rows = vec![
            RowAxis { extent: self.images, a: 0, b: self.groups * per_group, axis: 0, scale: 1 },
            RowAxis {
                extent: self.groups,
                a: self.outputs * depth,
                b: per_group,
                axis: 1,
                scale: self.outputs,
            },
            RowAxis { extent: self.outputs, a: depth, b: 0, axis: 1, scale: 1 },
        ];
        let width = Rows { axes: &rows, out: &out, expr: &expr, products }
            .panel_width(&ctx.options.machine, places);
        let product = Product {
            name,
            products,
            a: self.weights,
            b: self.columns,
            rows,
            axes: vec![Axis { extent: depth, a_stride: 1, b_stride: places }],
            cols: places,
            panels: Panels { width, stride: width },
            origin: vec![0; 3],
            out: &out,
            expr: &expr,
        };
        product::run(ctx, &product)
    }
}
