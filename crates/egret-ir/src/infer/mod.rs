//! Type inference: the types of a node's results from those of its operands.
//!
//! Nothing here trusts the node: attributes are held against the op table before any is read, so hostile models end
//! in an error.

mod attention;
pub(crate) mod check;
mod contraction;
pub(crate) use contraction::sum_type;
pub(crate) mod control;
mod dims;
mod elementwise;
mod gather_scatter;
mod image;
mod linalg;
mod ml;
mod movement;
mod normalization;
mod random;
mod recurrent;
mod reduction;
mod sampling;
mod sequence;
mod sort;
mod text;
mod window;

use crate::attr::DECLARED;
use crate::{Attrs, DType, Dim, Graph, Member, Op, Shape, TensorType, Type};

pub use check::check_node;

/// Symbolic dims with more parts than this get a name of their own: expressions could otherwise double with every node.
const MAX_DIM_PARTS: usize = 128;

/// Result types, or the rule that the operands break.
///
/// `operands[i]` is `None` where an optional operand is left out. Shapes may be symbolic; what cannot be decided is
/// accepted (a broadcast of `a` against `b` has the dim `broadcast(a, b)`).
///
/// # Errors
/// One sentence that names the rule and the types or attribute that break it. Also where a dim depends on the data and
/// the node does not declare it.
pub fn infer(
    op: Op,
    attrs: &Attrs,
    operands: &[Option<&Type>],
    regions: &[Graph],
) -> Result<Vec<Type>, String> {
    let types = infer_open(op, attrs, operands, regions)?;
    for (i, ty) in types.iter().enumerate() {
        if let Some(axis) = ty.fixed_dims().iter().position(Dim::is_unnamed) {
            let before = types[..i].iter().map(|t| t.fixed_dims().len()).sum::<usize>() + axis;
            return Err(format!(
                "only the data decide dim {axis} of result {i}: declare its symbol, as in `{DECLARED} = [{}u0]`",
                "_, ".repeat(before)
            ));
        }
    }
    Ok(types)
}

/// As [`infer`], but dims that only the data decide and that the node does not declare have no name
/// ([`Dim::unnamed`]).
///
/// # Errors
/// As [`infer`].
pub fn infer_open(
    op: Op,
    attrs: &Attrs,
    operands: &[Option<&Type>],
    regions: &[Graph],
) -> Result<Vec<Type>, String> {
    check_node(op, attrs, operands, regions.len())?;
    let mut types = dispatch(&Call { op, attrs, operands, regions })?;
    for ty in &mut types {
        finish(ty)?;
    }
    let declared = attrs.declared();
    let mut places = types.iter_mut().flat_map(|t| t.fixed_dims_mut());
    for name in declared {
        let Some(place) = places.next() else {
            return Err(format!(
                "`{DECLARED}` has {} entries, more than its results have dims",
                declared.len()
            ));
        };
        match name.as_deref() {
            Some("") => return Err(format!("`{DECLARED}` has an empty name")),
            Some(name) => *place = Dim::symbol(name),
            None => {}
        }
    }
    Ok(types)
}

/// The families' inference: each names all of its operations, so that the compiler asks for that of a new one.
fn dispatch(call: &Call) -> Result<Vec<Type>, String> {
    match call.op.member() {
        Member::Attention(op) => attention::infer(op, call),
        Member::Contraction(op) => contraction::infer(op, call),
        Member::Control(op) => control::infer(op, call),
        Member::Elementwise(op) => elementwise::infer(op, call),
        Member::GatherScatter(op) => gather_scatter::infer(op, call),
        Member::Image(op) => image::infer(op, call),
        Member::Linalg(op) => linalg::infer(op, call),
        Member::Ml(op) => ml::infer(op, call),
        Member::Movement(op) => movement::infer(op, call),
        Member::Normalization(op) => normalization::infer(op, call),
        Member::Random(op) => random::infer(op, call),
        Member::Recurrent(op) => recurrent::infer(op, call),
        Member::Reduction(op) => reduction::infer(op, call),
        Member::Sampling(op) => sampling::infer(op, call),
        Member::Sequence(op) => sequence::infer(op, call),
        Member::Sort(op) => sort::infer(op, call),
        Member::Text(op) => text::infer(op, call),
        Member::Window(op) => window::infer(op, call),
    }
}

/// Refuse sizes no machine holds, and give up on dims that have grown too large to follow.
fn finish(ty: &mut Type) -> Result<(), String> {
    match ty {
        Type::Tensor(t) => {
            check::size(t)?;
            coarsen(&mut t.shape);
        }
        Type::Sequence(s) => {
            if let Some(shape) = &mut s.shape {
                coarsen(shape);
            }
        }
        Type::Optional(inner) => finish(inner)?,
    }
    Ok(())
}

fn coarsen(shape: &mut Shape) {
    for dim in shape {
        if dim.has_unnamed() || !dim.is_within(MAX_DIM_PARTS) {
            *dim = unknown();
        }
    }
}

/// A node whose attributes, operand count and region count fit the op table.
struct Call<'a> {
    op: Op,
    attrs: &'a Attrs,
    operands: &'a [Option<&'a Type>],
    regions: &'a [Graph],
}

impl<'a> Call<'a> {
    /// The name of operand `i` for messages.
    fn operand_name(&self, i: usize) -> String {
        let names = self.op.info().operands;
        match names.get(i).or(names.last()) {
            Some(name) if name.starts_with('*') => format!("operand {i}"),
            Some(name) => format!("operand `{}`", name.trim_start_matches('?')),
            None => format!("operand {i}"),
        }
    }

    /// The type of operand `i`, if it is there.
    fn optional(&self, i: usize) -> Option<&'a Type> {
        self.operands.get(i).copied().flatten()
    }

    /// The type of operand `i`, which has to be there.
    fn any(&self, i: usize) -> Result<&'a Type, String> {
        self.optional(i).ok_or_else(|| format!("{} is left out", self.operand_name(i)))
    }

    /// Operand `i`, which has to be a tensor.
    fn tensor(&self, i: usize) -> Result<&'a TensorType, String> {
        self.as_tensor(i, self.any(i)?)
    }

    /// Operand `i`, a tensor if it is there.
    fn optional_tensor(&self, i: usize) -> Result<Option<&'a TensorType>, String> {
        self.optional(i).map(|ty| self.as_tensor(i, ty)).transpose()
    }

    fn as_tensor(&self, i: usize, ty: &'a Type) -> Result<&'a TensorType, String> {
        ty.as_tensor().ok_or_else(|| format!("{} is {ty}, not a tensor", self.operand_name(i)))
    }

    /// Operand `i`, a tensor within the op table's bound of the element type.
    fn bounded(&self, i: usize) -> Result<&'a TensorType, String> {
        let t = self.tensor(i)?;
        let bound = self.op.info().types;
        if check::within(bound, t.dtype) {
            Ok(t)
        } else {
            Err(format!(
                "{} is {t}, but its element type must be {}",
                self.operand_name(i),
                check::bound_text(bound)
            ))
        }
    }

    /// Hold the element type of operand `i` against `dtype`.
    fn expect_dtype(&self, i: usize, t: &TensorType, dtype: DType) -> Result<(), String> {
        if t.dtype == dtype {
            Ok(())
        } else {
            Err(format!("{} is {t}, but its element type must be {dtype}", self.operand_name(i)))
        }
    }

    /// Operand `i`, a tensor of integers (indices, lengths).
    fn integers(&self, i: usize) -> Result<&'a TensorType, String> {
        let t = self.tensor(i)?;
        if t.dtype.is_int() {
            Ok(t)
        } else {
            Err(format!("{} is {t}, but its elements must be integers", self.operand_name(i)))
        }
    }

    /// Hold the rank of operand `i`.
    fn expect_rank(&self, i: usize, t: &TensorType, rank: usize) -> Result<(), String> {
        if t.rank() == rank {
            Ok(())
        } else {
            Err(format!("{} is {t}, but its rank must be {rank}", self.operand_name(i)))
        }
    }

    /// Operand `i`, a scalar or a tensor of one element.
    fn expect_single(&self, i: usize, t: &TensorType) -> Result<(), String> {
        match t.const_len() {
            Some(n) if n != 1 => {
                Err(format!("{} is {t}, but it must be a single element", self.operand_name(i)))
            }
            _ => Ok(()),
        }
    }

    /// The attribute `name`, an axis of a tensor of this rank.
    fn axis(&self, name: &str, rank: usize) -> Result<usize, String> {
        let axis = self.attrs.int(name);
        usize::try_from(axis)
            .ok()
            .filter(|a| *a < rank)
            .ok_or_else(|| format!("`{name}` is {axis}, but must be an axis of a tensor of rank {rank}"))
    }

    /// The attribute `name`, a count.
    fn count(&self, name: &str) -> Result<usize, String> {
        let v = self.attrs.int(name);
        usize::try_from(v)
            .ok()
            .filter(|v| *v <= check::MAX_EXTENT as usize)
            .ok_or_else(|| format!("`{name}` is {v}, out of range"))
    }

    /// The attribute `name`, a list of `len` numbers from `min` to what a dim can be.
    fn extents(&self, name: &str, len: usize, min: i64) -> Result<&'a [i64], String> {
        let v = self.attrs.ints(name);
        if v.len() != len {
            return Err(format!("`{name}` is {v:?}, but must have {len} entries"));
        }
        match v.iter().find(|&&x| x < min || x > check::MAX_EXTENT) {
            Some(bad) => Err(format!("`{name}` is {v:?}, but {bad} is out of range (at least {min})")),
            None => Ok(v),
        }
    }

    /// The attribute `name`, a list of `len` dims.
    fn dims(&self, name: &str, len: usize) -> Result<&'a [Dim], String> {
        let v = self.attrs.dims(name);
        if v.len() == len { Ok(v) } else { Err(format!("`{name}` is {v:?}, but must have {len} entries")) }
    }

    /// The attribute `name`, dims none of which is negative.
    fn sizes(&self, name: &str) -> Result<&'a [Dim], String> {
        let v = self.attrs.dims(name);
        match v.iter().find(|d| d.as_const().is_some_and(|c| c < 0)) {
            Some(bad) => Err(format!("`{name}` is {v:?}, but {bad} is negative")),
            None => Ok(v),
        }
    }
}

/// A single tensor as the result.
fn one(dtype: DType, shape: impl Into<Shape>) -> Result<Vec<Type>, String> {
    Ok(vec![Type::tensor(dtype, shape)])
}

/// A dim that only the data decide.
fn unknown() -> Dim {
    Dim::unnamed()
}

#[cfg(test)]
mod tests;
