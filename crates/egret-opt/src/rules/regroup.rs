//! Where a part of a value is when the value is reshaped, and what stands beside its axis in other operands.

use egret_ir::{Dim, TensorType};

/// The axis of `dims`, and the extent there, of a part x of z along an axis, where z is reshaped to `dims`. What stands before both axes has as many
/// elements, and the part is some whole number of what stands behind the new one.
pub(super) fn part(
    z: &TensorType,
    axis: i64,
    x: &TensorType,
    dims: &[Dim],
) -> Result<(usize, Dim), String> {
    let axis = usize::try_from(axis).ok().filter(|&i| i < z.rank() && x.rank() == z.rank());
    let alike =
        |&axis: &usize| z.shape.iter().zip(&x.shape).enumerate().all(|(i, (z, x))| i == axis || z == x);
    let axis = axis.filter(alike).ok_or_else(|| format!("{x} is no part of {z}"))?;
    let before = Dim::product(&z.shape[..axis]);
    let own = elements(&x.shape[axis..]).ok_or_else(|| format!("{x} has free dims"))?;
    let whole = elements(&z.shape[axis..]).ok_or_else(|| format!("{z} has free dims"))?;
    let found = (0..dims.len()).find_map(|at| {
        let each = elements(&dims[at + 1..]).filter(|&n| n > 0)?;
        let all = dims[at].as_const()?.checked_mul(each)?;
        let fits =
            all == whole && own % each == 0 && before.is_some() && Dim::product(&dims[..at]) == before;
        fits.then(|| (at, Dim::constant(own / each)))
    });
    found.ok_or_else(|| {
        format!(
            "{x} is no part of {z} as {}",
            egret_ir::TensorType { dtype: z.dtype, shape: dims.to_vec() }
        )
    })
}

/// How many elements dims that are numbers have.
fn elements(dims: &[Dim]) -> Option<i64> {
    dims.iter().try_fold(1i64, |n, d| n.checked_mul(d.as_const()?))
}

/// Whether c has extent 1, or no axis, beside an axis of x; axes are counted from the end.
pub(super) fn one_beside(c: &TensorType, x: &TensorType, axis: i64) -> bool {
    let from_end = usize::try_from(axis).ok().and_then(|axis| x.rank().checked_sub(axis));
    let beside = from_end.map(|n| c.rank().checked_sub(n).and_then(|i| c.shape.get(i)));
    beside.is_some_and(|d| d.is_none_or(|d| d.as_const() == Some(1)))
}
