//! Labels that are numbers, looked up by halving a sorted table of them: compiled code does that, where labels of strings are the host's.

use crate::context::NodeCtx;
use crate::error::ImportError;
use egret_ir::{DType, Op, Tensor, ValueId, attrs};
use std::cmp::Ordering;

/// Keys in their order, each once with the place where it stood first; and that of the first NaN, which equals NaN.
struct Sorted {
    places: Vec<usize>,
    nan: Option<usize>,
}

fn sorted<T: Copy + PartialOrd>(keys: &[T]) -> Sorted {
    let (mut places, nans): (Vec<usize>, Vec<usize>) =
        (0..keys.len()).partition(|&i| keys[i].partial_cmp(&keys[i]).is_some());
    // Stable: of equal ones the first stays.
    places.sort_by(|&a, &b| keys[a].partial_cmp(&keys[b]).unwrap_or(Ordering::Equal));
    places.dedup_by(|b, a| keys[*a] == keys[*b]);
    Sorted { places, nan: nans.first().copied() }
}

/// The elements of a vector at these places.
fn picked(t: &Tensor, places: impl Iterator<Item = usize>) -> Vec<u8> {
    let size = t.dtype().size();
    places.flat_map(|i| t.bytes()[i * size..][..size].to_vec()).collect()
}

/// For each element of x the value whose key it equals, or the default: by as many steps as the number of keys has bits. `None` for strings, and for other
/// element types than numbers of ONNX have here, of which the operation of its own is made.
pub fn looked_up(
    ctx: &mut NodeCtx,
    x: ValueId,
    [keys, values, default]: [&Tensor; 3],
) -> Result<Option<ValueId>, ImportError> {
    let found = match keys.dtype() {
        DType::F32 => sorted(keys.data::<f32>()),
        DType::F64 => sorted(keys.data::<f64>()),
        DType::I16 => sorted(keys.data::<i16>()),
        DType::I32 => sorted(keys.data::<i32>()),
        DType::I64 => sorted(keys.data::<i64>()),
        _ => return Ok(None),
    };
    let to = values.dtype();
    let whole = |d: DType| d.size() > 0 && d != DType::String;
    // Whatever else is wrong, the operation's own rule says.
    if ctx.dtype(x)? != keys.dtype() || keys.len() != values.len() || default.dtype() != to || !whole(to) {
        return Ok(None);
    }
    // As many keys as the steps tell apart: the greatest is there as often as that takes.
    let count = found.places.len();
    let padded = if count == 0 { 0 } else { count.next_power_of_two() };
    let places: Vec<usize> = (0..padded).map(|i| found.places[i.min(count - 1)]).collect();
    let mut table = picked(values, places.iter().copied());
    table.extend(default.bytes());
    table.extend(picked(values, found.nan.into_iter()));
    let entries = padded + 1 + usize::from(found.nan.is_some());
    let table = ctx.builder.constant(Tensor::from_bytes(to, &[entries], &table));
    let otherwise = ctx.scalar(DType::I64, padded as f64)?;
    let shape = ctx.shape_of(x)?;
    let mut place = ctx.broadcast(otherwise, shape.clone())?;
    if padded > 0 {
        let keys = picked(keys, places.into_iter());
        let keys = ctx.builder.constant(Tensor::from_bytes(ctx.dtype(x)?, &[padded], &keys));
        let gather = attrs! { axis: 0i64 };
        let zero = ctx.zero(DType::I64);
        let mut at = ctx.broadcast(zero, shape)?;
        let mut step = padded / 2;
        while step > 0 {
            let further = ctx.with_scalar(Op::Add, at, step as f64)?;
            let key = ctx.emit(Op::Gather, gather.clone(), &[keys, further])?;
            let before = ctx.binary(Op::Less, x, key)?;
            at = ctx.select(before, at, further)?;
            step /= 2;
        }
        let key = ctx.emit(Op::Gather, gather, &[keys, at])?;
        let is = ctx.binary(Op::Equal, x, key)?;
        place = ctx.select(is, at, place)?;
    }
    if found.nan.is_some() {
        let is = ctx.unary(Op::IsNan, x)?;
        let of_nan = ctx.scalar(DType::I64, (padded + 1) as f64)?;
        place = ctx.select(is, of_nan, place)?;
    }
    ctx.emit(Op::Gather, attrs! { axis: 0i64 }, &[table, place]).map(Some)
}
