//! Instructions that compute with values alone: all but those that read memory or locals.

use super::{Arithmetic, InterpError};
use crate::ir::*;

/// Bits of the lanes of a value.
#[derive(Copy, Clone)]
pub struct Val(pub [u64; MAX_LANES]);

impl Val {
    /// Of one lane.
    pub fn scalar(bits: u64) -> Val {
        let mut out = Val([0; MAX_LANES]);
        out.0[0] = bits;
        out
    }
}

/// How many lanes are the first so many of some.
pub fn first_lanes(lanes: u8, count: u8) -> Result<usize, InterpError> {
    match (1..=lanes).contains(&count) {
        true => Ok(count.into()),
        false => Err(InterpError::Broken(format!("the first {count} of {lanes} lanes"))),
    }
}

/// A value of a type, lane by lane.
pub fn lanes(ty: Ty, mut f: impl FnMut(usize) -> Result<u64, InterpError>) -> Result<Val, InterpError> {
    let mut out = Val([0; MAX_LANES]);
    for lane in 0..ty.lanes as usize {
        out.0[lane] = f(lane)?;
    }
    Ok(out)
}

/// The values that instructions read.
pub struct Values<'a> {
    /// How is computed.
    pub arithmetic: Arithmetic,
    /// Types, by value.
    pub types: &'a [Ty],
    /// The values that are computed.
    pub values: &'a [Val],
}

impl Values<'_> {
    fn ty(&self, v: V) -> Ty {
        self.types[v.0 as usize]
    }

    fn val(&self, v: V) -> Val {
        self.values[v.0 as usize]
    }

    fn int(&self, v: V) -> i64 {
        self.val(v).0[0] as i64
    }

    /// What an instruction computes.
    ///
    /// # Errors
    /// An instruction that reads memory or locals; one that breaks a rule of Loop IR.
    pub fn inst(&self, inst: &Inst) -> Result<Val, InterpError> {
        match inst {
            Inst::Const(ty, bits) => lanes(*ty, |_| Ok(*bits)),
            Inst::Affine(terms, offset) => {
                let sum =
                    terms.iter().fold(*offset, |s, (v, c)| s.wrapping_add(self.int(*v).wrapping_mul(*c)));
                Ok(Val([sum as u64; MAX_LANES]))
            }
            Inst::Unary(op, x) => {
                let (ty, x) = (self.ty(*x), self.val(*x));
                lanes(ty, |l| self.arithmetic.unary(*op, ty.elem, x.0[l]))
            }
            Inst::Binary(op, a, b) => {
                let (ty, a, b) = (self.ty(*a), self.val(*a), self.val(*b));
                lanes(ty, |l| self.arithmetic.binary(*op, ty.elem, a.0[l], b.0[l]))
            }
            Inst::Fma(a, b, c) => {
                let (ty, a, b, c) = (self.ty(*a), self.val(*a), self.val(*b), self.val(*c));
                lanes(ty, |l| self.arithmetic.fma(ty.elem, a.0[l], b.0[l], c.0[l]))
            }
            Inst::Compare(op, a, b) => {
                let (ty, a, b) = (self.ty(*a), self.val(*a), self.val(*b));
                lanes(ty, |l| Ok(self.arithmetic.compare(*op, ty.elem, a.0[l], b.0[l]).into()))
            }
            Inst::Select(c, a, b) => {
                let (ty, c, a, b) = (self.ty(*a), self.val(*c), self.val(*a), self.val(*b));
                lanes(ty, |l| Ok(if c.0[l] != 0 { a.0[l] } else { b.0[l] }))
            }
            Inst::Convert(to, x) => {
                let (ty, x) = (self.ty(*x), self.val(*x));
                lanes(ty, |l| Ok(self.arithmetic.convert(ty.elem, *to, x.0[l])))
            }
            Inst::Bitcast(_, x) => Ok(self.val(*x)),
            Inst::First(of, count) => {
                let count = first_lanes(*of, *count)?;
                Ok(Val(std::array::from_fn(|l| (l < count).into())))
            }
            Inst::Splat(x, _) => Ok(Val([self.val(*x).0[0]; MAX_LANES])),
            Inst::Extract(x, lane) => Ok(Val([self.val(*x).0[*lane as usize]; MAX_LANES])),
            Inst::Shuffle(op, a, b) => {
                let (ty, a, b) = (self.ty(*a), self.val(*a), self.val(*b));
                if !op.takes(ty) {
                    return Err(InterpError::Broken(format!("{} of {ty}", op.name())));
                }
                let n = usize::from(ty.lanes);
                lanes(ty, |l| {
                    let from = op.source(ty, l);
                    Ok(if from < n { a.0[from] } else { b.0[from - n] })
                })
            }
            Inst::Fold(op, x) => self.fold(*op, self.ty(*x), self.val(*x)),
            Inst::Any(x) => {
                let lanes = usize::from(self.ty(*x).lanes);
                Ok(Val([self.val(*x).0[..lanes].iter().any(|&lane| lane != 0).into(); MAX_LANES]))
            }
            Inst::Load(..) | Inst::LoadFirst(..) | Inst::Get(_) => {
                Err(InterpError::Broken(format!("{inst:?} where there is no memory")))
            }
        }
    }

    fn fold(&self, op: BinOp, ty: Ty, x: Val) -> Result<Val, InterpError> {
        if !op.folds() {
            return Err(InterpError::Broken(format!("a fold by {op:?}")));
        }
        let (mut left, mut half) = (x, usize::from(ty.lanes) / 2);
        while half > 0 {
            for lane in 0..half {
                left.0[lane] = self.arithmetic.binary(op, ty.elem, left.0[lane], left.0[lane + half])?;
            }
            half /= 2;
        }
        Ok(left)
    }
}
