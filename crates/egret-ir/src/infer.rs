//! Type inference: the types of a node's results from those of its operands.

use crate::{Attrs, Graph, Op, Type};

/// The symbol that inference gives a data-dependent dim; [`crate::Builder`] replaces each by a fresh one.
pub const UNKNOWN: &str = "?";

/// Result types, or the rule that the operands break.
///
/// `operands[i]` is `None` where an optional operand is left out. Shapes may be symbolic; what cannot be decided is
/// accepted (a broadcast of `a` against `b` has the dim `max(a, b)`).
pub fn infer(op: Op, attrs: &Attrs, operands: &[Option<&Type>], regions: &[Graph]) -> Result<Vec<Type>, String> {
    let _ = (attrs, operands, regions);
    Err(format!("no inference for {op}"))
}
