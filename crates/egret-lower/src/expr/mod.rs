//! The elementwise part of a kernel: a DAG of scalar operations on the anchor's value, operands and
//! constants.
//!
//! One representation serves kernels and tile epilogues alike, because it is emitted through [`Arith`].

mod activation;
pub mod convert;
mod power;
mod remainder;
mod scalar;

pub use convert::{decode, encode};

use crate::error::Unsupported;
use crate::geometry::access::StridedAccess;
use crate::geometry::dtypes::{buffer_elem, compute_elem, is_direct, is_half};
use egret_ir::{Attrs, DType, Op, ValueId};
use egret_loop::{Arith, BASE_VECTOR_BYTES, MAX_LANES};

/// A buffer that an expression reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// The value.
    pub value: ValueId,
    /// Its dtype.
    pub dtype: DType,
    /// Where its elements stand.
    pub access: StridedAccess,
}

/// A term of an expression; operands are indices of earlier terms.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// The anchor's value.
    Anchor,
    /// The element of this operand.
    Operand(usize),
    /// A constant: the bits in the element type that its dtype is computed in.
    Const(u64),
    /// An elementwise operation.
    Apply(Op, Attrs, Vec<usize>),
}

/// Bytes of the elements of an expression; masks have none of their own.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct LaneSizes {
    /// The widest.
    pub widest: usize,
    /// The least wide.
    pub least: usize,
}

impl LaneSizes {
    fn add(&mut self, size: usize) {
        self.widest = self.widest.max(size);
        self.least = self.least.min(size);
    }

    /// The fewest lanes of a vector: those that fill the base vector; smaller elements beside those of 8 bytes have at least four.
    pub fn least_lanes(self) -> u8 {
        let lanes = BASE_VECTOR_BYTES / self.widest;
        if self.least < self.widest { lanes.max(4) as u8 } else { lanes as u8 }
    }

    /// The lanes of the widest vectors within so many bytes, if there are any.
    pub fn lanes(self, vector_bytes: usize) -> Option<u8> {
        let lanes = (vector_bytes / self.widest).min(MAX_LANES) as u8;
        (lanes >= self.least_lanes()).then_some(lanes)
    }
}

/// An elementwise DAG over the index space `dims`; its value is the last term.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// Dims of the result.
    pub dims: Vec<i64>,
    /// Buffers read.
    pub operands: Vec<Operand>,
    /// Terms with their dtypes; never empty.
    pub terms: Vec<(Term, DType)>,
}

impl Expr {
    /// The anchor's value as it is.
    pub fn anchor(dims: Vec<i64>, dtype: DType) -> Expr {
        Expr { dims, operands: vec![], terms: vec![(Term::Anchor, dtype)] }
    }

    /// The elements of a value of the same dims, as they are.
    pub fn load(dims: Vec<i64>, value: ValueId, dtype: DType) -> Expr {
        let access = StridedAccess::dense(&dims);
        Expr {
            dims,
            operands: vec![Operand { value, dtype, access }],
            terms: vec![(Term::Operand(0), dtype)],
        }
    }

    /// Dtype of the result.
    pub fn dtype(&self) -> DType {
        self.terms.last().map_or(DType::F32, |t| t.1)
    }

    /// Whether it only passes the anchor on.
    pub fn is_anchor(&self) -> bool {
        matches!(self.terms.as_slice(), [(Term::Anchor, _)])
    }

    /// Whether it only passes one operand on.
    pub fn is_copy(&self) -> bool {
        matches!(self.terms.as_slice(), [(Term::Operand(_), _)])
    }

    /// Whether tile epilogues can compute it: every term is computed in f32, i32, u32 or bool, or is a byte that is read, converted
    /// or written, or f32 rounded to a smaller float, and there is no case that needs a branch.
    pub fn suits_tiles(&self) -> bool {
        let word = |d: DType| matches!(d, DType::F32 | DType::I32 | DType::U32);
        let byte = |d: DType| matches!(d, DType::U8 | DType::I8);
        let result = self.terms.len() - 1;
        let fits = |i: usize, (term, d): &(Term, DType)| match term {
            Term::Apply(Op::Cast, _, args) if is_half(*d) || is_half(self.terms[args[0]].1) => {
                [self.terms[args[0]].1, *d].contains(&DType::F32)
            }
            _ if is_half(*d) => false,
            // Bool is chosen, not converted.
            Term::Apply(Op::Cast, _, args) => {
                let from = self.terms[args[0]].1;
                [from, *d].iter().all(|d| *d != DType::U32)
                    && (!byte(*d) || word(from))
                    && (!byte(from) || word(*d))
            }
            Term::Apply(_, _, args) => !byte(*d) && args.iter().all(|&a| !byte(self.terms[a].1)),
            Term::Operand(_) => !byte(*d) || i < result,
            _ => !byte(*d),
        };
        self.operands.iter().all(|o| word(o.dtype) || byte(o.dtype))
            && self
                .terms
                .iter()
                .enumerate()
                .all(|(i, t)| fits(i, t) && (word(t.1) || byte(t.1) || is_half(t.1) || t.1 == DType::Bool))
            && (word(self.dtype()) || byte(self.dtype()))
            && self.lane_sizes().is_some_and(|sizes| sizes.widest <= 4)
            && !self.branches()
    }

    /// Whether some lanes may need a branch: those that
    /// [`KernelBuilder::take_unfit`](egret_loop::KernelBuilder::take_unfit) tells of.
    pub fn branches(&self) -> bool {
        let branches = |t: &Term| matches!(t, Term::Apply(Op::Sin | Op::Cos | Op::Tan | Op::Mod, ..));
        self.terms.iter().any(|(t, _)| branches(t))
    }

    /// The sizes of the elements that vectors read, compute and write; nothing where an operation exists for scalars only.
    pub fn lane_sizes(&self) -> Option<LaneSizes> {
        let mut sizes = LaneSizes { widest: 1, least: 8 };
        let mut add = |dtype: DType| -> Option<()> {
            if dtype != DType::Bool {
                sizes.add(buffer_elem(dtype).ok()?.size());
                sizes.add(compute_elem(dtype).ok()?.size());
            }
            // Codes of smaller floats and of integers of a few bits are made of 32 bits.
            if !is_direct(dtype) || matches!(dtype, DType::I4 | DType::U4 | DType::I2 | DType::U2) {
                sizes.add(4);
            }
            Some(())
        };
        self.operands.iter().try_for_each(|o| add(o.dtype))?;
        for (term, dtype) in &self.terms {
            add(*dtype)?;
            if !self.has_lanes(term, *dtype) {
                return None;
            }
        }
        if self.terms.iter().any(|(term, dtype)| self.is_long_power(term, *dtype)) {
            sizes.add(8);
        }
        Some(LaneSizes { least: sizes.least.min(sizes.widest), ..sizes })
    }

    /// The number that a float term always is.
    fn constant(&self, term: usize) -> Option<f64> {
        match self.terms[term] {
            (Term::Const(bits), DType::F32) => Some(f32::from_bits(bits as u32).into()),
            (Term::Const(bits), DType::F64) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    /// Whether a term is a float power that is computed in f64.
    fn is_long_power(&self, term: &Term, dtype: DType) -> bool {
        let Term::Apply(Op::Pow, _, args) = term else { return false };
        dtype.is_float() && !self.constant(args[1]).is_some_and(power::is_short)
    }

    /// Fewer instructions for operations with a float constant.
    fn short_form<A: Arith>(&self, a: &mut A, op: Op, args: &[usize], values: &[A::V]) -> Option<A::V> {
        let [x, y] = args else { return None };
        match op {
            Op::Max | Op::Min => {
                let usable = |i: usize| self.constant(i).is_some_and(|c| !c.is_nan());
                let (constant, other) = if usable(*x) { (0, 1) } else { usable(*y).then_some((1, 0))? };
                let zero = self.constant([*x, *y][constant]).filter(|c| *c == 0.0);
                Some(scalar::extreme_with_constant(a, op, values[constant], zero, values[other]))
            }
            Op::Pow => {
                let exponent = self.constant(*y).filter(|&y| power::is_short(y))?;
                Some(power::short(a, values[0], exponent))
            }
            _ => None,
        }
    }

    /// Whether an operation exists lane by lane in vectors.
    fn has_lanes(&self, term: &Term, dtype: DType) -> bool {
        let Term::Apply(op, _, args) = term else { return true };
        let long = |d: DType| compute_elem(d).is_ok_and(|e| e.size() == 8);
        // Of elements of 8 bytes, what is an instruction or two, and powers, for which narrower floats need them.
        if (long(dtype) || args.iter().any(|&i| long(self.terms[i].1)))
            && !matches!(
                op,
                Op::Add
                    | Op::Sub
                    | Op::Mul
                    | Op::Div
                    | Op::Neg
                    | Op::Abs
                    | Op::Sqrt
                    | Op::Pow
                    | Op::Max
                    | Op::Min
                    | Op::Equal
                    | Op::Less
                    | Op::LessEqual
                    | Op::Where
                    | Op::Cast
            )
        {
            return false;
        }
        match op {
            // Integer division and shifts by a vector are scalar instructions; integer powers are scalar
            // too.
            Op::Div | Op::Mod | Op::Pow => dtype.is_float(),
            Op::ShiftLeft | Op::ShiftRight => false,
            _ => true,
        }
    }

    /// The same expression with the anchor's value read from a buffer.
    pub fn with_anchor_from(&self, value: ValueId) -> Expr {
        let mut e = self.clone();
        let mut at = None;
        for (term, dtype) in &mut e.terms {
            if *term == Term::Anchor {
                let i = *at.get_or_insert_with(|| {
                    e.operands.push(Operand {
                        value,
                        dtype: *dtype,
                        access: StridedAccess::dense(&e.dims),
                    });
                    e.operands.len() - 1
                });
                *term = Term::Operand(i);
            }
        }
        e
    }

    /// Emits the expression. `operands` are elements as buffers hold them, `anchor` is in the element type
    /// that its dtype is computed in (f32 for smaller floats, not yet rounded to them). `like` only tells
    /// the number of lanes. The result is what a buffer of the result's dtype holds.
    pub fn emit<A: Arith>(
        &self,
        a: &mut A,
        like: A::V,
        anchor: Option<A::V>,
        operands: &[A::V],
    ) -> Result<A::V, Unsupported> {
        let value = self.emit_computed(a, like, anchor, operands)?;
        encode(a, self.dtype(), value)
    }

    /// As [`Expr::emit`], with the result in the element type that its dtype is computed in.
    pub fn emit_computed<A: Arith>(
        &self,
        a: &mut A,
        like: A::V,
        anchor: Option<A::V>,
        operands: &[A::V],
    ) -> Result<A::V, Unsupported> {
        let mut values: Vec<A::V> = vec![];
        for (term, dtype) in &self.terms {
            let value = match term {
                Term::Anchor => {
                    let x = anchor.ok_or_else(|| Unsupported::new("has an epilogue without an anchor"))?;
                    convert::round_to(a, *dtype, x)?
                }
                Term::Operand(i) => decode(a, *dtype, operands[*i])?,
                Term::Const(bits) => a.bits(like, compute_elem(*dtype)?, *bits),
                Term::Apply(op, attrs, args) => {
                    let from = args.first().map_or(*dtype, |&i| self.terms[i].1);
                    // `where` computes in the type of its branches.
                    let from = if *op == Op::Where { *dtype } else { from };
                    let operands: Vec<A::V> = args.iter().map(|&i| values[i]).collect();
                    match self.short_form(a, *op, args, &operands) {
                        Some(v) => convert::round_to(a, *dtype, v)?,
                        None => scalar::apply(a, *op, attrs, from, *dtype, &operands)?,
                    }
                }
            };
            values.push(value);
        }
        values.last().copied().ok_or_else(|| Unsupported::new("has an empty expression"))
    }
}
