//! What every node has to satisfy before its attributes may be read: the op table.

use crate::attr::{AT_MOST, DECLARED};
use crate::{Attr, AttrInfo, Attrs, DType, Dim, Op, TensorType, Type};

/// The largest stride, pad, kernel or count that an attribute may give; leaves room for arithmetic in `i64`.
pub(super) const MAX_EXTENT: i64 = i32::MAX as i64;

/// The most axes that a tensor has: as many as artifacts describe.
const MAX_RANK: usize = 256;

/// Hold a node against the op table: which attributes there are and of which kind, how many operands, how many regions.
///
/// # Errors
/// The rule broken.
pub fn check_node(op: Op, attrs: &Attrs, operands: &[Option<&Type>], regions: usize) -> Result<(), String> {
    let row = op.info();
    for AttrInfo { name, kind } in row.attrs {
        let Some(attr) = attrs.get(name) else {
            return Err(format!("attribute `{name}` ({kind}) is missing"));
        };
        kind.check(attr).map_err(|e| format!("attribute `{name}` {e}"))?;
        let unnamed = match attr {
            Attr::Dim(d) => d.has_unnamed(),
            Attr::Dims(ds) => ds.iter().any(Dim::has_unnamed),
            _ => false,
        };
        if unnamed {
            return Err(format!("attribute `{name}` has a dim without a name"));
        }
    }
    let extra = attrs.0.iter().find(|(k, v)| {
        let declaration = **k == DECLARED && matches!(v, Attr::Symbols(_));
        let limits = **k == AT_MOST
            && matches!(op, Op::Loop | Op::Range)
            && matches!(v, Attr::Dims(most) if most.len() <= attrs.declared().len());
        !declaration && !limits && !row.attrs.iter().any(|a| a.name == **k)
    });
    if let Some((name, _)) = extra {
        return Err(format!("there is no attribute `{name}`"));
    }
    let variadic = row.operands.last().is_some_and(|n| n.starts_with('*'));
    let fixed = row.operands.len() - usize::from(variadic);
    if operands.len() < fixed || (!variadic && operands.len() > fixed) {
        let names = row.operands.join(", ");
        return Err(format!("there are {} operands instead of ({names})", operands.len()));
    }
    for (i, operand) in operands.iter().enumerate() {
        let optional = row.operands.get(i).is_some_and(|n| n.starts_with('?'));
        if operand.is_none() && !optional {
            return Err(format!("operand {i} is left out"));
        }
    }
    if regions != row.regions.len() {
        return Err(format!("there are {regions} regions instead of {}", row.regions.len()));
    }
    Ok(())
}

/// Whether `dtype` is within a bound of the op table.
pub(super) fn within(bound: &str, dtype: DType) -> bool {
    match bound {
        "number" => dtype.is_float() || dtype.is_int(),
        "float" => dtype.is_float(),
        "int" => dtype.is_int(),
        "bool" => dtype == DType::Bool,
        "string" => dtype == DType::String,
        _ => true,
    }
}

/// A bound of the op table in words.
pub(super) fn bound_text(bound: &str) -> &str {
    match bound {
        "number" => "a number",
        "float" => "a float",
        "int" => "an integer",
        other => other,
    }
}

/// Refuse a tensor that has a negative dim or more bytes than can be addressed.
pub(crate) fn size(t: &TensorType) -> Result<(), String> {
    if t.rank() > MAX_RANK {
        return Err(format!("a tensor of {} axes; {MAX_RANK} are the most", t.rank()));
    }
    let mut bytes = i64::try_from(t.dtype.size().max(1)).unwrap_or(i64::MAX);
    for dim in &t.shape {
        if dim.is_saturated() {
            return Err(format!("the type {t} is too large for any machine"));
        }
        let Some(d) = dim.as_const() else { continue };
        if d < 0 {
            return Err(format!("the type {t} has the negative dim {d}"));
        }
        // Dims of 0 do not excuse the others: their product is formed in strides.
        bytes = bytes
            .checked_mul(d.max(1))
            .ok_or_else(|| format!("the type {t} is too large for any machine"))?;
    }
    Ok(())
}
