//! The functions of guards and of computed attributes: one row each.

use super::args::{
    all_pads, along, attr, axis_of, bounds, channel_axis, dim_of, dims, dtype, entries, entrywise, facts,
    float, int, int_of, ints, largest, list, picked, takes_half, tensor, tensors,
};
use super::regroup::{self, one_beside};
use super::through::{self, Slice};
use super::val::Val;
use crate::analysis::Facts;
use egret_ir::{Attr, DType, Dim};

/// A function of rule files.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Names of its arguments.
    pub args: &'static [&'static str],
    /// What it gives.
    pub doc: &'static str,
    /// Compute it. `Err` says why there is no result; a guard then does not hold, for this reason.
    pub run: fn(&[Val]) -> Result<Val<'static>, String>,
}

macro_rules! functions {
    ($($(#[doc = $doc:literal])+ $name:ident($($arg:ident),*) = $body:expr;)+) => {
        /// Every function, sorted by subject.
        pub static FUNCTIONS: &[Function] = &[
            $(Function { name: stringify!($name), args: &[$(stringify!($arg)),*], doc: concat!($($doc),+), run: $body }),+
        ];
    };
}

functions! {
    /// Whether x is a constant: known at compile time.
    constant(x) = |a| Ok(Val::Bool(facts(a, 0)?.constant));
    /// The element type of x.
    dtype(x) = |a| Ok(Val::Attr(Attr::DType(tensor(a, 0)?.dtype)));
    /// Whether the elements of x are floats.
    is_float(x) = |a| Ok(Val::Bool(tensor(a, 0)?.dtype.is_float()));
    /// Whether the elements of x are integers.
    is_int(x) = |a| Ok(Val::Bool(tensor(a, 0)?.dtype.is_int()));
    /// Whether the elements of x are f32 or f16.
    is_short_float(x) = |a| Ok(Val::Bool(matches!(tensor(a, 0)?.dtype, DType::F32 | DType::F16)));
    /// The number of axes of x.
    rank(x) = |a| Ok(Val::Attr(Attr::Int(tensor(a, 0)?.rank() as i64)));
    /// The dims of x.
    shape(x) = |a| Ok(Val::Attr(Attr::Dims(tensor(a, 0)?.shape.clone())));
    /// The dim of x at an axis; negative ones count from the end.
    dim(x, axis) = |a| {
        let t = tensor(a, 0)?;
        let axis = int(a, 1)?;
        let at = if axis < 0 { axis + t.rank() as i64 } else { axis };
        let dim = usize::try_from(at).ok().and_then(|i| t.shape.get(i)).ok_or_else(|| format!("{t} has no axis {axis}"))?;
        Ok(Val::Attr(Attr::Dim(dim.clone())))
    };
    /// The value that every element of the constant x has.
    value(x) = |a| facts(a, 0)?.splat().map(|v| Val::Attr(Attr::Float(v))).ok_or_else(|| "not a constant of one value".into());
    /// Whether every element of the constant x is a number, rounded to x's type; in types narrower than f64 up to a relative
    /// error of 2e-7, as exporters round on the way.
    is(x, number) = |a| {
        let (f, wanted) = (facts(a, 0)?, float(a, 1)?);
        let is = f.splat().ok_or("not a constant of one value")?;
        // Nothing but itself is near to a zero, of which the sign counts.
        let near = wanted.is_finite() && wanted != 0.0 && f.dtype() != Some(DType::F64) && (is - wanted).abs() <= 2e-7 * wanted.abs();
        if near || crate::analysis::same_value(is, wanted, f.dtype()) { Ok(Val::Bool(true)) } else { Err(format!("{is} is not {wanted}")) }
    };
    /// Whether x is known to be a constant of zeros. Rules that join what is added leave those alone: a value that equals itself plus zeros
    /// would equal itself plus sums of them without end.
    is_zero(x) = |a| Ok(Val::Bool(facts(a, 0)?.splat() == Some(0.0)));
    /// Whether it is known that no element of x is -0: x + 0 is x, then.
    never_negative_zero(x) = |a| {
        let f = facts(a, 0)?;
        if f.never_negative_zero { Ok(Val::Bool(true)) } else { Err("it may be -0, which + 0 makes 0".into()) }
    };
    /// Whether all elements of x and of w are known to be whole numbers: their products and the sums of them are then those of integers,
    /// to the bit, which a factor in w would take away.
    are_whole(x, w) = |a| Ok(Val::Bool(facts(a, 0)?.whole && facts(a, 1)?.whole));
    /// Whether x is a constant of one element, which is finite.
    is_number(x) = |a| {
        let f = facts(a, 0)?;
        Ok(Val::Bool(f.value.as_ref().is_some_and(|t| t.len() == 1) && f.splat().is_some_and(f64::is_finite)))
    };
    /// Whether an axis, counted from 0, is the last one of x.
    is_last(axis, x) = |a| Ok(Val::Bool(int(a, 0)? + 1 == tensor(a, 1)?.rank() as i64));
    /// Whether these axes, sorted, are the last ones of x; there is at least one.
    are_last(axes, x) = |a| {
        let (axes, rank) = (ints(a, 0)?, tensor(a, 1)?.rank() as i64);
        let from = rank - axes.len() as i64;
        Ok(Val::Bool(!axes.is_empty() && axes.iter().copied().eq(from..rank)))
    };
    /// The first int of a list.
    first(list) = |a| ints(a, 0)?.first().map(|&v| Val::Attr(Attr::Int(v))).ok_or_else(|| "an empty list".into());
    /// The number of entries of a list, of ints or of values.
    length(list) = |a| Ok(Val::Attr(Attr::Int(list(a, 0).map(<[_]>::len).or_else(|_| ints(a, 0).map(<[_]>::len))? as i64)));
    /// Dims with 1 at some axes: those of a reduction that keeps them.
    kept(dims, axes) = |a| {
        let (dims, axes) = (dims(a, 0)?, ints(a, 1)?);
        let kept = |(i, d): (usize, &Dim)| if axes.contains(&(i as i64)) { Dim::constant(1) } else { d.clone() };
        Ok(Val::Attr(Attr::Dims(dims.iter().enumerate().map(kept).collect())))
    };
    /// The permutation that exchanges the last two axes of x.
    transposed(x) = |a| {
        let n = tensor(a, 0)?.rank();
        let from = n.checked_sub(2).ok_or("fewer than two axes")?;
        Ok(Val::Attr(Attr::Ints((0..n as i64).map(|i| match i as usize {
            i if i == from => n as i64 - 1,
            i if i == from + 1 => from as i64,
            _ => i,
        }).collect())))
    };
    /// The number of elements of x along some axes.
    count(x, axes) = |a| {
        let (t, axes) = (tensor(a, 0)?, ints(a, 1)?);
        let extent = |&axis: &i64| usize::try_from(axis).ok().and_then(|i| t.shape.get(i)?.as_const());
        let product = axes.iter().try_fold(1i64, |n, axis| n.checked_mul(extent(axis)?));
        product.map(|n| Val::Attr(Attr::Int(n))).ok_or_else(|| format!("{t} has no constant extent along {axes:?}"))
    };
    /// The number of elements of x for each index of an axis.
    per(x, axis) = |a| {
        let (t, axis) = (tensor(a, 0)?, int(a, 1)?);
        let others = t.shape.iter().enumerate().filter(|(i, _)| *i as i64 != axis);
        let product = others.map(|(_, d)| d.as_const()).try_fold(1i64, |n, d| n.checked_mul(d?));
        product.map(|n| Val::Attr(Attr::Int(n))).ok_or_else(|| format!("{t} has no constant extents"))
    };
    /// Whether x has extent 1 along every axis but this one; negative ones count from the end.
    varies_along(x, axis) = |a| {
        let (t, axis) = (tensor(a, 0)?, int(a, 1)?);
        let axis = if axis < 0 { axis + t.rank() as i64 } else { axis };
        Ok(Val::Bool(t.shape.iter().enumerate().all(|(i, d)| i as i64 == axis || d.as_const() == Some(1))))
    };
    /// All dims but the last.
    but_last(dims) = |a| {
        let all = dims(a, 0)?;
        all.split_last().map(|(_, rest)| Val::Attr(Attr::Dims(rest.to_vec()))).ok_or_else(|| "no dims".into())
    };
    /// The dims given but for the last two, which are those of x: batches as they are given, of matrices as they are in x.
    batched(dims, x) = |a| {
        let (dims, t) = (dims(a, 0)?, tensor(a, 1)?);
        match (dims, &t.shape[..]) {
            ([lead @ .., _, _], [.., rows, columns]) => Ok(Val::Attr(Attr::Dims(lead.iter().chain([rows, columns]).cloned().collect()))),
            _ => Err("matrices are wanted".into()),
        }
    };
    /// The dims of x with the third from the end as it is in others.
    repeated(x, dims) = |a| match (&tensor(a, 0)?.shape[..], dims(a, 1)?) {
        ([lead @ .., _, rows, columns], [.., times, _, _]) => {
            Ok(Val::Attr(Attr::Dims(lead.iter().chain([times, rows, columns]).cloned().collect())))
        }
        _ => Err("several matrices are wanted".into()),
    };
    /// The dims with the two before the last two joined: groups of heads as heads.
    heads(dims) = |a| match dims(a, 0)? {
        [lead @ .., groups, each, rows, columns] => {
            let heads = Dim::constant(int_of(groups)?.saturating_mul(int_of(each)?));
            Ok(Val::Attr(Attr::Dims(lead.iter().chain([&heads, rows, columns]).cloned().collect())))
        }
        _ => Err("dims of groups of heads are wanted".into()),
    };
    /// The dims of x, whose heads are one, as one head of one group.
    one_head(x) = |a| match &tensor(a, 0)?.shape[..] {
        [lead @ .., heads, rows, columns] if heads.as_const() == Some(1) => {
            Ok(Val::Attr(Attr::Dims(lead.iter().chain([heads, heads, rows, columns]).cloned().collect())))
        }
        all if all.len() < 3 => Ok(Val::Attr(Attr::Dims(all.to_vec()))),
        _ => Err("several heads".into()),
    };
    /// Whether the integers a and b, and any sum of n products of them, fit an i32.
    sums_fit(a, b, n) = |a| {
        let (x, y, n) = (largest(a, 0)?, largest(a, 1)?, int(a, 2)?.max(1) as f64);
        let (most, limit) = ((x * y * n).max(x).max(y), f64::from(i32::MAX));
        if most <= limit { Ok(Val::Bool(true)) } else { Err(format!("sums of up to {most}")) }
    };
    /// Whether every element of the integers x is in low..=high.
    in_range(x, low, high) = |a| {
        let (low, high) = bounds(a, 0)?;
        let (least, most) = (int(a, 1)? as f64, int(a, 2)? as f64);
        if least <= low && high <= most { Ok(Val::Bool(true)) } else { Err(format!("elements in {low}..={high}")) }
    };
    /// Whether any sum of n products of the integers a and b, those at one index of an axis (the first or the last) of b, is an f32, whatever the order of the sum.
    sums_are_floats(a, b, n, axis) = |a| {
        let sizes = largest(a, 1)? * int(a, 2)?.max(1) as f64;
        // Of weights that are mostly zeros more is known.
        let known = facts(a, 1)?.summary.zeros.and_then(|z| z.sums).map(|of| of[usize::from(int(a, 3) != Ok(0))]);
        let sizes = known.map_or(sizes, |power| sizes.min(f64::from(power).exp2()));
        let (most, limit) = (largest(a, 0)? * sizes, 24f64.exp2());
        if most <= limit { Ok(Val::Bool(true)) } else { Err(format!("sums of up to {most}")) }
    };
    /// Whether any i32 times the constant c is a finite f32: its elements are below 2^96, as far as they are known.
    scales_integers(c) = |a| Ok(Val::Bool(facts(a, 0)?.summary.magnitude.is_none_or(|m| m.high <= 96)));
    /// Whether x has one element and at most one axis.
    one_element(x) = |a| {
        let t = tensor(a, 0)?;
        Ok(Val::Bool(t.rank() < 2 && t.shape.iter().all(|d| d.as_const() == Some(1))))
    };
    /// The last axis of x but one.
    last_but_one(x) = |a| {
        let axis = tensor(a, 0)?.rank().checked_sub(2).ok_or("fewer than two axes")?;
        Ok(Val::Attr(Attr::Ints(vec![axis as i64])))
    };
    /// All axes of the filter w but that of its output channels.
    taps(w) = |a| Ok(Val::Attr(Attr::Ints((1..tensor(a, 0)?.rank() as i64).collect())));
    /// The dims of a number for each output channel of the filter w, beside a result with channels first.
    for_channels(w) = |a| {
        let shape = &tensor(a, 0)?.shape;
        let channels = shape.first().ok_or("a filter without axes")?;
        let spatial = std::iter::repeat_n(Dim::constant(1), shape.len().saturating_sub(2));
        Ok(Val::Attr(Attr::Dims(std::iter::once(channels.clone()).chain(spatial).collect())))
    };
    /// The low half of the pads of a convolution with channels first, for all axes.
    low_pads(pads) = |a| Ok(Val::Attr(Attr::Dims(all_pads(ints(a, 0)?, 0))));
    /// The high half of the same.
    high_pads(pads) = |a| Ok(Val::Attr(Attr::Dims(all_pads(ints(a, 0)?, 1))));
    /// The dims of a matrix of one column and so many rows.
    column(n) = |a| Ok(Val::Attr(Attr::Dims(vec![dim_of(a, 0)?, Dim::constant(1)])));
    /// The dims of a vector of so many elements.
    vector(n) = |a| Ok(Val::Attr(Attr::Dims(vec![dim_of(a, 0)?])));
    /// As many zeros.
    zeros(list) = |a| Ok(Val::Attr(Attr::Ints(vec![0; ints(a, 0)?.len()])));
    /// Whether x is a constant vector of at most 4096 floats, each of a size between 2⁻¹⁰ and 2¹⁰: one to divide by.
    away_from_zero(x) = |a| Ok(Val::Bool(facts(a, 0)?.summary.away_from_zero));
    /// The difference of two ints.
    less(a, b) = |a| Ok(Val::Attr(Attr::Int(int(a, 0)?.saturating_sub(int(a, 1)?))));
    /// The product of two numbers.
    times(a, b) = |a| Ok(Val::Attr(Attr::Float(float(a, 0)? * float(a, 1)?)));
    /// The quotient of two numbers.
    over(a, b) = |a| Ok(Val::Attr(Attr::Float(float(a, 0)? / float(a, 1)?)));
    /// A permutation with its last two entries exchanged.
    swapped(perm) = |a| {
        let mut p = ints(a, 0)?.to_vec();
        let n = p.len().checked_sub(2).ok_or("a permutation of fewer than two axes")?;
        p.swap(n, n + 1);
        Ok(Val::Attr(Attr::Ints(p)))
    };
    /// Whether a slice of x takes all of it but for the last axis, and there one half: the first (0) or the second (1).
    is_half(x, starts, sizes, steps, which) = |a| {
        let last = int_of(tensor(a, 0)?.shape.last().ok_or("a scalar has no halves")?)?;
        takes_half(a, int(a, 4)? * (last / 2), 1)
    };
    /// Whether a slice of x takes all of it but for the last axis, and there every other element: from the first (0) or the second (1) on.
    is_every_other(x, starts, sizes, steps, which) = |a| takes_half(a, int(a, 4)?, 2);
    /// The dims to give a constant c, that scales each channel of y, for scaling the weights w of the convolution that makes y.
    per_output(y, c, layout, w) = |a| {
        let (y, c, w) = (tensor(a, 0)?, tensor(a, 1)?, tensor(a, 3)?);
        let n = along(y, c, channel_axis(attr(a, 2)?, y)?)?;
        Ok(Val::Attr(Attr::Dims((0..w.rank()).map(|i| if i == 0 { n.clone() } else { Dim::constant(1) }).collect())))
    };
    /// The dims to give a constant c, that scales each channel of x, for scaling the weights w of a convolution (in one group) of x.
    per_input(x, c, layout, w) = |a| {
        let (x, c, w) = (tensor(a, 0)?, tensor(a, 1)?, tensor(a, 3)?);
        let n = along(x, c, channel_axis(attr(a, 2)?, x)?)?;
        Ok(Val::Attr(Attr::Dims((0..w.rank()).map(|i| if i == 1 { n.clone() } else { Dim::constant(1) }).collect())))
    };
    /// The dims to give a constant c, that scales each channel of x, for scaling the weights w of a transposed convolution of x.
    per_first(x, c, layout, w) = |a| {
        let (x, c, w) = (tensor(a, 0)?, tensor(a, 1)?, tensor(a, 3)?);
        let n = along(x, c, channel_axis(attr(a, 2)?, x)?)?;
        Ok(Val::Attr(Attr::Dims((0..w.rank()).map(|i| if i == 0 { n.clone() } else { Dim::constant(1) }).collect())))
    };
    /// The dims of a bias that a convolution of x with weights w adds to its result.
    bias_of(x, layout, w) = |a| {
        let (x, w) = (tensor(a, 0)?, tensor(a, 2)?);
        let axis = channel_axis(attr(a, 1)?, x)?;
        let n = w.shape.first().ok_or("weights are no scalar")?;
        Ok(Val::Attr(Attr::Dims((0..x.rank()).map(|i| if i == axis { n.clone() } else { Dim::constant(1) }).collect())))
    };
    /// All axes of x but the first.
    after_first(x) = |a| Ok(Val::Attr(Attr::Ints((1..tensor(a, 0)?.rank() as i64).collect())));
    /// Whether all of a list are 0.
    all_zero(list) = |a| Ok(Val::Bool(ints(a, 0)?.iter().all(|v| *v == 0)));
    /// The dims to give a constant c, that scales each column of y, for scaling the matrix whose product y is.
    per_column(y, c) = |a| {
        let (y, c) = (tensor(a, 0)?, tensor(a, 1)?);
        Ok(Val::Attr(Attr::Dims(vec![along(y, c, y.rank().saturating_sub(1))?])))
    };
    /// Whether all of a list are constants.
    constants(list) = |a| Ok(Val::Bool(list(a, 0)?.iter().all(|f| f.constant)));
    /// Whether each of a list has one element, whatever the sizes are, or is an operand that is left out.
    single(list) = |a| {
        let one = |f: &&Facts| f.tensor().is_none_or(|t| t.const_len() == Some(1));
        Ok(Val::Bool(list(a, 0)?.iter().all(one)))
    };
    /// Whether all of a list have one element type and the same dims but along an axis; negative ones count from the end.
    alike_but(list, axis) = |a| {
        let (all, axis) = (tensors(a, 0)?, int(a, 1)?);
        let first = all.first().ok_or("an empty list")?;
        let at = axis_of(first, axis)?;
        let alike = |t: &&egret_ir::TensorType| {
            t.dtype == first.dtype && t.rank() == first.rank() && t.shape.iter().zip(&first.shape).enumerate().all(|(i, (a, b))| i == at || a == b)
        };
        Ok(Val::Bool(all.iter().all(alike)))
    };
    /// Where the part of y begins that the entry of this place has: 0, but along an axis what the entries before it have along their
    /// axis `along`. Negative axes count from the end.
    part_starts(y, axis, list, along, place) = |a| {
        let (y, axis, all, along, place) = (tensor(a, 0)?, int(a, 1)?, tensors(a, 2)?, int(a, 3)?, int(a, 4)?);
        let before = all.iter().take(usize::try_from(place).map_err(|_| "no place")?);
        let extent = |t: &&egret_ir::TensorType| t.shape[axis_of(t, along)?].as_const().ok_or_else(|| format!("{t} has free dims"));
        let start = before.map(extent).sum::<Result<i64, String>>()?;
        let mut starts = vec![Dim::constant(0); y.rank()];
        starts[axis_of(y, axis)?] = Dim::constant(start);
        Ok(Val::Attr(Attr::Dims(starts)))
    };
    /// A list of ones, one for each axis of x.
    ones(x) = |a| Ok(Val::Attr(Attr::Ints(vec![1; tensor(a, 0)?.rank()])));
    /// The last axis of x.
    last(x) = |a| Ok(Val::Attr(Attr::Int(axis_of(tensor(a, 0)?, -1)? as i64)));
    /// The axis of the channels of x.
    channels(layout, x) = |a| Ok(Val::Attr(Attr::Int(channel_axis(attr(a, 0)?, tensor(a, 1)?)? as i64)));
    /// Whether x and y have the same dims.
    same_shape(x, y) = |a| Ok(Val::Bool(tensor(a, 0)?.shape == tensor(a, 1)?.shape));
    /// Whether an elementwise operation on x and c has the shape of x: c does not broadcast x up.
    keeps(x, c) = |a| {
        let (x, c) = (tensor(a, 0)?, tensor(a, 1)?);
        let fits = c.rank() <= x.rank() && c.shape.iter().rev().zip(x.shape.iter().rev()).all(|(c, x)| c == x || c.as_const() == Some(1));
        if fits { Ok(Val::Bool(true)) } else { Err(format!("{c} broadcasts {x} up")) }
    };
    /// Whether a permutation moves nothing.
    is_identity(perm) = |a| Ok(Val::Bool(ints(a, 0)?.iter().enumerate().all(|(i, &p)| i as i64 == p)));
    /// Transpose by `first`, then by `second`, as one permutation.
    compose(first, second) = |a| {
        let (first, second) = (ints(a, 0)?, ints(a, 1)?);
        let one = second.iter().map(|&i| usize::try_from(i).ok().and_then(|i| first.get(i)).copied());
        one.collect::<Option<Vec<i64>>>().map(|p| Val::Attr(Attr::Ints(p))).ok_or_else(|| "permutations of different lengths".into())
    };
    /// The permutation that undoes one.
    inverse(perm) = |a| {
        let p = ints(a, 0)?;
        let mut out = vec![0; p.len()];
        for (i, &to) in p.iter().enumerate() {
            *usize::try_from(to).ok().and_then(|to| out.get_mut(to)).ok_or("no permutation")? = i as i64;
        }
        Ok(Val::Attr(Attr::Ints(out)))
    };
    /// Whether a transpose of x by `perm` only moves axes of extent 1, so that no element moves.
    moves_nothing(x, perm) = |a| {
        let (t, p) = (tensor(a, 0)?, ints(a, 1)?);
        let wide = |&&p: &&i64| usize::try_from(p).ok().and_then(|p| t.shape.get(p)).is_some_and(|d| d.as_const() != Some(1));
        Ok(Val::Bool(p.iter().filter(wide).is_sorted()))
    };
    /// A list with one entry for each axis, in the order of `perm`.
    permuted(list, perm) = |a| {
        let perm = ints(a, 1)?;
        let permuted = match attr(a, 0)? {
            Attr::Dims(v) => picked(v, perm).map(Attr::Dims),
            Attr::Ints(v) => picked(v, perm).map(Attr::Ints),
            Attr::Floats(v) => picked(v, perm).map(Attr::Floats),
            other => return Err(format!("a list is wanted, not {}", other.kind())),
        };
        permuted.map(Val::Attr).ok_or_else(|| "no permutation of this list".into())
    };
    /// Whether every element of the constant x is a number, rounded to x's type: to the bit, the sign of zero included.
    is_exactly(x, number) = |a| {
        let (f, wanted) = (facts(a, 0)?, float(a, 1)?);
        let is = f.splat().ok_or("not a constant of one value")?;
        if crate::analysis::same_value(is, wanted, f.dtype()) { Ok(Val::Bool(true)) } else { Err(format!("{is:?} is not {wanted:?}")) }
    };
    /// Whether every entry of a list of ints or dims is a number.
    all_are(list, number) = |a| {
        let (all, wanted) = (entries(a, 0)?, int(a, 1)?);
        Ok(Val::Bool(all.iter().all(|d| d.as_const() == Some(wanted))))
    };
    /// Whether no entry of a list of ints or dims can be below zero.
    none_negative(list) = |a| Ok(Val::Bool(entries(a, 0)?.iter().all(|d| d.at_least().is_some_and(|least| least >= 0))));
    /// The sums of two lists, entry by entry.
    added(a, b) = |a| entrywise(a, |x, y| x.clone() + y.clone());
    /// The products of two lists, entry by entry.
    multiplied(a, b) = |a| entrywise(a, |x, y| x.clone() * y.clone());
    /// The product of dims: how many elements a tensor of these has.
    product(dims) = |a| Ok(Val::Attr(Attr::Dim(dims(a, 0)?.iter().fold(Dim::constant(1), |n, d| n * d.clone()))));
    /// Whether a permutation brings the channels, axis 1, behind all other axes, which stay in their order.
    channels_to_last(perm) = |a| Ok(Val::Bool(ints(a, 0)?.iter().copied().eq(crate::analysis::permutation::to_last(ints(a, 0)?.len()))));
    /// Where an axis stands after a transpose by `perm`.
    position(perm, axis) = |a| {
        let (perm, axis) = (ints(a, 0)?, int(a, 1)?);
        let at = perm.iter().position(|&p| p == axis).ok_or_else(|| format!("{perm:?} has no axis {axis}"))?;
        Ok(Val::Attr(Attr::Int(at as i64)))
    };
    /// Where axes stand after a transpose by `perm`, sorted.
    positions(perm, axes) = |a| {
        let (perm, axes) = (ints(a, 0)?, ints(a, 1)?);
        let at = perm.iter().enumerate().filter(|(_, p)| axes.contains(p)).map(|(i, _)| i as i64);
        Ok(Val::Attr(Attr::Ints(at.collect())))
    };
    /// The axes, sorted, that stand at these places after a transpose by `perm`.
    taken(perm, axes) = |a| {
        let mut taken = picked(ints(a, 0)?, ints(a, 1)?).ok_or("no axes of this permutation")?;
        taken.sort_unstable();
        Ok(Val::Attr(Attr::Ints(taken)))
    };
    /// Whether the entries of `perm` at these places rise.
    in_order(perm, axes) = |a| picked(ints(a, 0)?, ints(a, 1)?).map(|p| Val::Bool(p.is_sorted())).ok_or_else(|| "no axes of this permutation".into());
    /// Whether the entries of `perm` at all other places rise.
    others_in_order(perm, axes) = |a| {
        let (perm, axes) = (ints(a, 0)?, ints(a, 1)?);
        Ok(Val::Bool(perm.iter().enumerate().filter(|(i, _)| !axes.contains(&(*i as i64))).map(|(_, p)| p).is_sorted()))
    };
    /// The dims of x behind as many of 1 as y has axes more.
    aligned(x, y) = |a| {
        let (x, y) = (tensor(a, 0)?, tensor(a, 1)?);
        let missing = y.rank().checked_sub(x.rank()).ok_or_else(|| format!("{x} has more axes than {y}"))?;
        Ok(Val::Attr(Attr::Dims((0..missing).map(|_| Dim::constant(1)).chain(x.shape.iter().cloned()).collect())))
    };
    /// Whether each of the values xs has as many axes as a permutation.
    have_axes_of(xs, perm) = |a| match a.first() {
        Some(Val::List(all)) => {
            let rank = ints(a, 1)?.len();
            Ok(Val::Bool(all.iter().all(|f| f.tensor().is_some_and(|t| t.rank() == rank))))
        }
        _ => Err("a list of values is wanted".into()),
    };
    /// Whether x and y have the same dims but along an axis: whatever the sizes are, they can be concatenated along it.
    are_parts(x, y, axis) = |a| {
        let (x, y, axis) = (tensor(a, 0)?, tensor(a, 1)?, int(a, 2)?);
        let mut pairs = x.shape.iter().zip(&y.shape).enumerate();
        Ok(Val::Bool(x.rank() == y.rank() && pairs.all(|(i, (x, y))| i as i64 == axis || x == y)))
    };
    /// Where the axis of x stands in z, which x is broadcast to: axes are counted from the end.
    beside(z, x, axis) = |a| {
        let (z, x, axis) = (tensor(a, 0)?, tensor(a, 1)?, int(a, 2)?);
        let more = z.rank().checked_sub(x.rank()).ok_or_else(|| format!("{x} has more axes than {z}"))?;
        Ok(Val::Attr(Attr::Int(axis + more as i64)))
    };
    /// Whether c has extent 1, or no axis, beside an axis of x.
    is_one_beside(c, x, axis) = |a| Ok(Val::Bool(one_beside(tensor(a, 0)?, tensor(a, 1)?, int(a, 2)?)));
    /// The same of each of a list, whose entries have no more axes than x, or are left out.
    are_one_beside(list, x, axis) = |a| {
        let (x, axis) = (tensor(a, 1)?, int(a, 2)?);
        let one = |f: &&Facts| f.tensor().is_none_or(|c| c.rank() <= x.rank() && one_beside(c, x, axis));
        Ok(Val::Bool(list(a, 0)?.iter().all(one)))
    };
    /// Whether an int is in a list of ints.
    has(list, entry) = |a| Ok(Val::Bool(ints(a, 0)?.contains(&int(a, 1)?)));
    /// Where an axis stands when others are gone.
    among_left(axis, gone) = |a| {
        let (axis, gone) = (int(a, 0)?, ints(a, 1)?);
        Ok(Val::Attr(Attr::Int(axis - gone.iter().filter(|&&g| g < axis).count() as i64)))
    };
    /// The axis of `dims`, to which z is reshaped, along which it has the part x of z that is one along an axis.
    regrouped_axis(z, axis, x, dims) = |a| {
        let (at, _) = regroup::part(tensor(a, 0)?, int(a, 1)?, tensor(a, 2)?, dims(a, 3)?)?;
        Ok(Val::Attr(Attr::Int(at as i64)))
    };
    /// The dims to reshape x to, which is a part of z along an axis, so that it is a part of z reshaped to `dims`.
    regrouped(z, axis, x, dims) = |a| {
        let given = dims(a, 3)?;
        let (at, size) = regroup::part(tensor(a, 0)?, int(a, 1)?, tensor(a, 2)?, given)?;
        let mut out = given.to_vec();
        out[at] = size;
        Ok(Val::Attr(Attr::Dims(out)))
    };
    /// Whether x cast to the element type `via` and from there to `to` is x cast to `to`.
    casts_through(x, via, to) = |a| Ok(Val::Bool(super::casts::through(tensor(a, 0)?.dtype, dtype(a, 1)?, dtype(a, 2)?)));
    /// Whether x reshaped to `dims` needs all of its sizes that x reshaped to those of y, and that to `dims`, needs.
    reshapes_through(x, y, dims) = |a| Ok(Val::Bool(through::reshapes(tensor(a, 0)?, tensor(a, 1)?, dims(a, 2)?)));
    /// Whether x broadcast to `dims` needs all of its sizes that x broadcast to those of y, and that to `dims`, needs.
    broadcasts_through(x, y, dims) = |a| Ok(Val::Bool(through::broadcasts(tensor(a, 0)?, tensor(a, 1)?, dims(a, 2)?)));
    /// Whether a slice of a slice (x, starts, sizes, steps) needs, as one slice of x, all of the sizes of x that it needs as two.
    slices_through(x, starts, sizes, steps, outer_starts, outer_sizes, outer_steps) = |a| {
        let slice = |i| Ok::<_, String>(Slice { starts: dims(a, i)?, sizes: dims(a, i + 1)?, steps: ints(a, i + 2)? });
        Ok(Val::Bool(through::slices(tensor(a, 0)?, slice(1)?, slice(4)?)))
    };
}
