//! Arguments of the functions of rules, as what a function wants them to be.

use super::val::Val;
use crate::analysis::Facts;
use egret_ir::{Attr, DType, Dim, TensorType};

/// The entries at these places.
pub(super) fn picked<T: Clone>(list: &[T], at: &[i64]) -> Option<Vec<T>> {
    at.iter().map(|&i| usize::try_from(i).ok().and_then(|i| list.get(i)).cloned()).collect()
}

/// The entries of a list of ints or dims.
pub(super) fn entries(args: &[Val], i: usize) -> Result<Vec<Dim>, String> {
    match attr(args, i)? {
        Attr::Dims(v) => Ok(v.clone()),
        Attr::Ints(v) => Ok(v.iter().map(|&v| Dim::constant(v)).collect()),
        other => Err(format!("ints or dims are wanted, not {}", other.kind())),
    }
}

/// Two lists of one length combined entry by entry.
pub(super) fn entrywise(args: &[Val], f: fn(&Dim, &Dim) -> Dim) -> Result<Val<'static>, String> {
    let (a, b) = (entries(args, 0)?, entries(args, 1)?);
    if a.len() != b.len() {
        return Err("lists of different lengths".into());
    }
    Ok(Val::Attr(Attr::Dims(a.iter().zip(&b).map(|(a, b)| f(a, b)).collect())))
}

pub(super) fn dtype(args: &[Val], i: usize) -> Result<DType, String> {
    match attr(args, i)? {
        Attr::DType(d) => Ok(*d),
        other => Err(format!("an element type is wanted, not {}", other.kind())),
    }
}

/// An axis that may count from the end.
pub(super) fn axis_of(t: &TensorType, axis: i64) -> Result<usize, String> {
    let at = if axis < 0 { axis + t.rank() as i64 } else { axis };
    usize::try_from(at).ok().filter(|i| *i < t.rank()).ok_or_else(|| format!("{t} has no axis {axis}"))
}

/// Whether a slice (x, starts, sizes, steps) takes all of x but for the last axis, and there half of it: from `start` on in steps of `step`.
pub(super) fn takes_half(a: &[Val], start: i64, step: i64) -> Result<Val<'static>, String> {
    let (t, starts, sizes, steps) = (tensor(a, 0)?, dims(a, 1)?, dims(a, 2)?, ints(a, 3)?);
    let whole: Vec<i64> =
        t.const_dims().ok_or_else(|| format!("{t} has free dims"))?.iter().map(|&d| d as i64).collect();
    let Some((&last, before)) = whole.split_last() else { return Err("a scalar has no halves".into()) };
    let wanted_sizes = before.iter().copied().chain([last / 2]).map(Dim::constant);
    let wanted_starts = before.iter().map(|_| 0).chain([start]).map(Dim::constant);
    let wanted_steps = before.iter().map(|_| 1).chain([step]);
    let fits =
        last % 2 == 0 && sizes.iter().cloned().eq(wanted_sizes) && starts.iter().cloned().eq(wanted_starts);
    Ok(Val::Bool(fits && steps.iter().copied().eq(wanted_steps)))
}

/// The axis of the channels of x.
pub(super) fn channel_axis(layout: &Attr, x: &TensorType) -> Result<usize, String> {
    match layout {
        Attr::String(l) if l == "channels_first" => Ok(1),
        Attr::String(_) => Ok(x.rank().saturating_sub(1)),
        _ => Err("a layout is wanted".into()),
    }
}

/// The extent of c along an axis of y that it broadcasts to, 1 if it is a scalar there.
pub(super) fn along(y: &TensorType, c: &TensorType, axis: usize) -> Result<Dim, String> {
    let missing = y.rank().checked_sub(c.rank()).ok_or_else(|| format!("{c} broadcasts {y} up"))?;
    let mut found = Dim::constant(1);
    for (i, d) in c.shape.iter().enumerate().filter(|(_, d)| d.as_const() != Some(1)) {
        if i + missing != axis {
            return Err(format!("{c} differs along axis {} of {y}, not only along {axis}", i + missing));
        }
        found = d.clone();
    }
    Ok(found)
}

pub(super) fn facts<'a>(args: &'a [Val], i: usize) -> Result<&'a Facts, String> {
    match args.get(i) {
        Some(Val::Facts(f)) => Ok(f),
        _ => Err("a value is wanted".into()),
    }
}

pub(super) fn list<'a, 'b>(args: &'b [Val<'a>], i: usize) -> Result<&'b [&'a Facts], String> {
    match args.get(i) {
        Some(Val::List(l)) => Ok(l),
        _ => Err("a list of values is wanted".into()),
    }
}

pub(super) fn tensors<'a>(args: &'a [Val], i: usize) -> Result<Vec<&'a TensorType>, String> {
    list(args, i)?.iter().map(|f| f.tensor().ok_or_else(|| "not a tensor".to_owned())).collect()
}

pub(super) fn tensor<'a>(args: &'a [Val], i: usize) -> Result<&'a TensorType, String> {
    facts(args, i)?.tensor().ok_or_else(|| "not a tensor".into())
}

pub(super) fn attr<'a>(args: &'a [Val], i: usize) -> Result<&'a Attr, String> {
    args.get(i).and_then(Val::attr).ok_or_else(|| "an attribute is wanted".into())
}

pub(super) fn int(args: &[Val], i: usize) -> Result<i64, String> {
    match attr(args, i)? {
        Attr::Int(v) => Ok(*v),
        Attr::Dim(d) => int_of(d),
        other => Err(format!("an int is wanted, not {}", other.kind())),
    }
}

pub(super) fn dim_of(args: &[Val], i: usize) -> Result<Dim, String> {
    match attr(args, i)? {
        Attr::Int(v) => Ok(Dim::constant(*v)),
        Attr::Dim(d) => Ok(d.clone()),
        other => Err(format!("a dim is wanted, not {}", other.kind())),
    }
}

pub(super) fn int_of(dim: &Dim) -> Result<i64, String> {
    dim.as_const().ok_or_else(|| format!("{dim} is not constant"))
}

pub(super) fn float(args: &[Val], i: usize) -> Result<f64, String> {
    match attr(args, i)? {
        Attr::Float(v) => Ok(*v),
        Attr::Int(v) => Ok(*v as f64),
        other => Err(format!("a number is wanted, not {}", other.kind())),
    }
}

/// The least and the greatest that integers may be.
pub(super) fn bounds(args: &[Val], i: usize) -> Result<(f64, f64), String> {
    crate::analysis::interval::known(facts(args, i)?).ok_or_else(|| "integers of unknown size".into())
}

/// The largest magnitude that integers may have.
pub(super) fn largest(args: &[Val], i: usize) -> Result<f64, String> {
    bounds(args, i).map(|(low, high)| low.abs().max(high.abs()))
}

/// The low (0) or high (1) half of a convolution's pads, behind zeros for the batch and the channels.
pub(super) fn all_pads(pads: &[i64], half: usize) -> Vec<Dim> {
    let n = pads.len() / 2;
    [0, 0].iter().chain(&pads[half * n..][..n]).map(|&p| Dim::constant(p)).collect()
}

pub(super) fn ints<'a>(args: &'a [Val], i: usize) -> Result<&'a [i64], String> {
    match attr(args, i)? {
        Attr::Ints(v) => Ok(v),
        other => Err(format!("ints are wanted, not {}", other.kind())),
    }
}

pub(super) fn dims<'a>(args: &'a [Val], i: usize) -> Result<&'a [Dim], String> {
    match attr(args, i)? {
        Attr::Dims(v) => Ok(v),
        other => Err(format!("dims are wanted, not {}", other.kind())),
    }
}
