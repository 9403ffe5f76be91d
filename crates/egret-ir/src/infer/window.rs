//! Windows over images: pooling, and blocks added into an image.

use super::{Call, check, dims, one};
use crate::families::Window;
use crate::{DType, Dim, TensorType, Type};
use dims::Layout;

/// The types of the results of an operation of this family.
pub(super) fn infer(op: Window, call: &Call) -> Result<Vec<Type>, String> {
    match op {
        Window::Pool => pool(call),
        Window::MaxPoolIndices => max_pool_indices(call),
        Window::Col2im => col2im(call),
    }
}

/// The spatial result dims of a pool over `spatial`.
fn pooled(call: &Call, spatial: &[Dim]) -> Result<Vec<Dim>, String> {
    let n = spatial.len();
    let kernel: Vec<Dim> = call.extents("kernel", n, 1)?.iter().map(|&k| Dim::constant(k)).collect();
    let mut axes = dims::axes(call, &kernel, 0)?;
    for (axis, extra) in axes.iter_mut().zip(call.extents("high_extra", n, 0)?) {
        axis.high += extra;
    }
    axes.iter().zip(spatial).map(|(axis, size)| dims::positions(axis, size)).collect()
}

/// Operand 0, which has a batch and a channel axis.
pub(super) fn image<'a>(call: &Call<'a>) -> Result<&'a TensorType, String> {
    let x = call.bounded(0)?;
    if x.rank() < 2 { Err(format!("{x} has no batch and channel axes")) } else { Ok(x) }
}

fn pool(call: &Call) -> Result<Vec<Type>, String> {
    let x = image(call)?;
    let layout = Layout::named(call.attrs.str("layout"));
    let spatial = pooled(call, layout.spatial(x))?;
    let channels = x.shape[layout.channel_axis(x.rank())].clone();
    one(x.dtype, layout.assemble(x.shape[0].clone(), channels, spatial))
}

fn max_pool_indices(call: &Call) -> Result<Vec<Type>, String> {
    let x = image(call)?;
    let mut shape = x.shape[..2].to_vec();
    shape.extend(pooled(call, &x.shape[2..])?);
    Ok(vec![Type::tensor(x.dtype, shape.clone()), Type::tensor(DType::I64, shape)])
}

fn col2im(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.tensor(0)?;
    call.expect_rank(0, x, 3)?;
    if !check::within("number", x.dtype) {
        return Err(format!("operand `x` is {x}, whose elements cannot be added"));
    }
    let n = call.attrs.ints("image_shape").len();
    let image = call.extents("image_shape", n, 0)?;
    let block = call.extents("block_shape", n, 1)?;
    let taps: Vec<Dim> = block.iter().map(|&b| Dim::constant(b)).collect();
    let mut blocks = Dim::constant(1);
    for (axis, &size) in dims::axes(call, &taps, 0)?.iter().zip(image) {
        blocks = blocks * dims::positions(axis, &Dim::constant(size))?;
    }
    let area = block.iter().fold(Dim::constant(1), |a, &b| a * Dim::constant(b));
    if !dims::may_equal(&x.shape[2], &blocks)
        || matches!((x.shape[1].as_const(), area.as_const()), (Some(c), Some(a)) if c % a != 0)
    {
        return Err(format!(
            "{x} is not [batch, channels * {area}, {blocks}], as image and block shape ask for"
        ));
    }
    let mut shape = vec![x.shape[0].clone(), x.shape[1].op(crate::DimOp::FloorDiv, &area)];
    shape.extend(image.iter().map(|&d| Dim::constant(d)));
    one(x.dtype, shape)
}
