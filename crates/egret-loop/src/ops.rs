//! The operations of instructions on one and on two values, and comparisons.

#[cfg(doc)]
use crate::scale::ScaleLimits;

/// One-operand operations.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum UnOp {
    /// -x (integers wrap).
    Neg,
    /// |x| (signed integers wrap).
    Abs,
    /// Square root (float).
    Sqrt,
    /// Towards minus infinity (float).
    Floor,
    /// Towards plus infinity (float).
    Ceil,
    /// Towards zero (float).
    Trunc,
    /// To nearest, ties to even (float).
    Nearest,
    /// Bits flipped (integer); negation (bool).
    Not,
}

/// Two-operand operations; both operands have the result's type.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum BinOp {
    /// a + b (integers wrap).
    Add,
    /// a - b (integers wrap).
    Sub,
    /// a * b (integers wrap).
    Mul,
    /// a / b; integers (scalar only) truncate, b must not be 0; the least integer / -1 wraps.
    Div,
    /// a - b * trunc(a / b) (integer, scalar only); b must not be 0.
    Rem,
    /// The smaller, IEEE 754's `minimum`: -0 is below +0; NaN if either is.
    Min,
    /// The larger, IEEE 754's `maximum`: +0 is above -0; NaN if either is.
    Max,
    /// `if a < b {a} else {b}`: for floats what one x86 instruction does; b where either is NaN.
    SelMin,
    /// `if a > b {a} else {b}`; b where either is NaN.
    SelMax,
    /// Bitwise and (integer), conjunction (bool).
    And,
    /// Bitwise or (integer), disjunction (bool).
    Or,
    /// Bitwise difference (integer, bool).
    Xor,
    /// a * 2^b (float; see [`ScaleLimits`] for b), rounded once.
    Scale,
    /// a << b (integer; 0 <= b < width). As a vector, b is the same in all lanes.
    Shl,
    /// a >> b, arithmetic for signed (integer; 0 <= b < width). As a vector, b is the same in all lanes.
    Shr,
}

impl BinOp {
    /// Whether it may join the lanes of a vector (`fold`).
    pub fn folds(self) -> bool {
        use BinOp::*;
        match self {
            Add | Mul | Min | Max | SelMin | SelMax | And | Or | Xor => true,
            Sub | Div | Rem | Scale | Shl | Shr => false,
        }
    }
}

/// Comparisons; ordered for floats (false where either is NaN) except `Ne` (true).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it all")]
pub enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Cmp {
    /// Whether it holds of two numbers.
    pub fn holds<T: PartialOrd>(self, a: T, b: T) -> bool {
        match self {
            Cmp::Eq => a == b,
            Cmp::Ne => a != b,
            Cmp::Lt => a < b,
            Cmp::Le => a <= b,
            Cmp::Gt => a > b,
            Cmp::Ge => a >= b,
        }
    }
}

/// Half the lanes of a vector.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    /// The first.
    Low,
    /// The last.
    High,
}

/// Every other lane of a vector.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Parity {
    /// Lanes 0, 2, 4 ..
    Even,
    /// Lanes 1, 3, 5 ..
    Odd,
}
