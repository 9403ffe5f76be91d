//! The types that instructions take and make.

use super::broken;
use crate::ir::*;

/// The type of what an instruction makes; `ty` gives that of a value that it reads, `local` that of a local.
pub(super) fn made(
    inst: &Inst,
    ty: impl Fn(V) -> Ty,
    local: impl Fn(Local) -> Option<Ty>,
) -> Result<Ty, BrokenRule> {
    let same = |values: &[V]| {
        let first = ty(values[0]);
        match values.iter().find(|v| ty(**v) != first) {
            None => Ok(first),
            Some(other) => broken(format!("{first} and {} in {inst:?}", ty(*other))),
        }
    };
    let needs = |what: bool, of: Ty| match what {
        true => Ok(of),
        false => broken(format!("{inst:?} of {of}")),
    };
    let lanes_of = |of: Ty, lanes: u8| match Ty::new(of.elem, lanes) {
        Some(ty) => Ok(ty),
        None => broken(format!("there is no vector of {lanes} {}, in {inst:?}", of.elem)),
    };
    match *inst {
        Inst::Const(of, _) => lanes_of(of, of.lanes),
        Inst::Affine(ref terms, _) => {
            for (v, _) in terms {
                index(*v, &ty)?;
            }
            Ok(Ty::scalar(Elem::I64))
        }
        Inst::Unary(op, x) => needs(unary(op, ty(x).elem), ty(x)),
        Inst::Binary(op, a, b) => {
            let of = same(&[a, b])?;
            needs(binary(op, of), of)
        }
        Inst::Fma(a, b, c) => {
            let of = same(&[a, b, c])?;
            needs(of.elem.is_float(), of)
        }
        Inst::Compare(_, a, b) => {
            let of = same(&[a, b])?;
            needs(of.elem != Elem::F16, of)?;
            Ok(of.with(Elem::Bool))
        }
        Inst::Select(c, a, b) => {
            let of = same(&[a, b])?;
            match ty(c) == of.with(Elem::Bool) {
                true => Ok(of),
                false => broken(format!("{} chooses from {of} in {inst:?}", ty(c))),
            }
        }
        Inst::Convert(to, x) => {
            let of = ty(x);
            let half = |a: Elem, b: Elem| a == Elem::F16 && b != Elem::F32;
            needs(!half(of.elem, to) && !half(to, of.elem), of)?;
            lanes_of(of.with(to), of.lanes)
        }
        Inst::Bitcast(to, x) => {
            let of = ty(x);
            needs(to.size() == of.elem.size() && to != Elem::Bool && of.elem != Elem::Bool, of)?;
            Ok(of.with(to))
        }
        Inst::Load(_, at, of) => {
            index(at, &ty)?;
            lanes_of(of, of.lanes)
        }
        Inst::LoadFirst(_, at, of, count) => {
            index(at, &ty)?;
            needs(of.elem != Elem::F16, of)?;
            first(of.lanes, count)?;
            lanes_of(of, of.lanes)
        }
        Inst::First(lanes, count) => {
            first(lanes, count)?;
            lanes_of(Ty::scalar(Elem::Bool), lanes)
        }
        Inst::Splat(x, lanes) => {
            needs(ty(x).lanes == 1, ty(x))?;
            lanes_of(ty(x), lanes)
        }
        Inst::Extract(x, lane) => {
            needs(lane < ty(x).lanes, ty(x))?;
            Ok(Ty::scalar(ty(x).elem))
        }
        Inst::Shuffle(op, a, b) => {
            let of = same(&[a, b])?;
            needs(op.takes(of), of)
        }
        Inst::Fold(op, x) => {
            let scalar = Ty::scalar(ty(x).elem);
            needs(op.folds() && binary(op, scalar), ty(x))?;
            Ok(scalar)
        }
        Inst::Any(x) => {
            needs(ty(x).elem == Elem::Bool, ty(x))?;
            Ok(Ty::scalar(Elem::Bool))
        }
        Inst::Get(l) => match local(l) {
            Some(ty) => Ok(ty),
            None => broken(format!("{l}, which there is not")),
        },
    }
}

/// An index, a length, the end of a loop.
pub(super) fn index(v: V, ty: &impl Fn(V) -> Ty) -> Result<(), BrokenRule> {
    match ty(v) == Ty::scalar(Elem::I64) {
        true => Ok(()),
        false => broken(format!("{v}, an index, is of {}", ty(v))),
    }
}

/// The first so many of some lanes.
pub(super) fn first(lanes: u8, count: u8) -> Result<(), BrokenRule> {
    match (1..=lanes).contains(&count) {
        true => Ok(()),
        false => broken(format!("the first {count} of {lanes} lanes")),
    }
}

fn unary(op: UnOp, elem: Elem) -> bool {
    match elem {
        Elem::F16 => false,
        Elem::Bool => op == UnOp::Not,
        _ if elem.is_float() => op != UnOp::Not,
        _ => matches!(op, UnOp::Neg | UnOp::Abs | UnOp::Not),
    }
}

fn binary(op: BinOp, ty: Ty) -> bool {
    use BinOp::*;
    match ty.elem {
        Elem::F16 => false,
        Elem::Bool => matches!(op, And | Or | Xor),
        _ if ty.elem.is_float() => !matches!(op, Rem | And | Or | Xor | Shl | Shr),
        // They have no vectors.
        _ if matches!(op, Div | Rem) => ty.lanes == 1,
        _ => op != Scale,
    }
}
