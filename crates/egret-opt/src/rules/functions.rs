//! The functions that guards and attributes of right-hand sides are made of: one row each.

use crate::facts::Facts;
use egret_ir::{Attr, Attrs, DType, Dim};

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

/// What expressions give.
#[derive(Clone, Debug)]
pub enum Val<'a> {
    /// A value of an attribute.
    Attr(Attr),
    /// What is known of a value.
    Facts(&'a Facts),
    /// What is known of the values of a list.
    List(Vec<&'a Facts>),
    /// All attributes of a node.
    Attrs(&'a Attrs),
    /// Whether something holds.
    Bool(bool),
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
    /// Whether x is compiled with fast float kernels: f32 or f16.
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
    /// The value that every element of the small constant x has.
    value(x) = |a| facts(a, 0)?.splat().map(|v| Val::Attr(Attr::Float(v))).ok_or_else(|| "not a small constant of one value".into());
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
    /// The dims `shape` in the order of `perm`.
    permuted(shape, perm) = |a| {
        let (shape, perm) = (dims(a, 0)?, ints(a, 1)?);
        let out = perm.iter().map(|&p| usize::try_from(p).ok().and_then(|p| shape.get(p)).cloned());
        out.collect::<Option<Vec<Dim>>>().map(|d| Val::Attr(Attr::Dims(d))).ok_or_else(|| "no permutation of these dims".into())
    };
}

fn facts<'a>(args: &'a [Val], i: usize) -> Result<&'a Facts, String> {
    match args.get(i) {
        Some(Val::Facts(f)) => Ok(f),
        _ => Err("a value is wanted".into()),
    }
}

fn tensor<'a>(args: &'a [Val], i: usize) -> Result<&'a egret_ir::TensorType, String> {
    facts(args, i)?.tensor().ok_or_else(|| "not a tensor".into())
}

fn attr<'a>(args: &'a [Val], i: usize) -> Result<&'a Attr, String> {
    match args.get(i) {
        Some(Val::Attr(a)) => Ok(a),
        _ => Err("an attribute is wanted".into()),
    }
}

fn int(args: &[Val], i: usize) -> Result<i64, String> {
    match attr(args, i)? {
        Attr::Int(v) => Ok(*v),
        Attr::Dim(d) => d.as_const().ok_or_else(|| format!("{d} is not constant")),
        other => Err(format!("an int is wanted, not {}", other.kind())),
    }
}

fn ints<'a>(args: &'a [Val], i: usize) -> Result<&'a [i64], String> {
    match attr(args, i)? {
        Attr::Ints(v) => Ok(v),
        other => Err(format!("ints are wanted, not {}", other.kind())),
    }
}

fn dims<'a>(args: &'a [Val], i: usize) -> Result<&'a [Dim], String> {
    match attr(args, i)? {
        Attr::Dims(v) => Ok(v),
        other => Err(format!("dims are wanted, not {}", other.kind())),
    }
}
