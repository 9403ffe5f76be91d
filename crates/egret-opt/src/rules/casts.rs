//! Which chains of casts are one cast.

use egret_ir::DType;

/// Whether a cast to `via` and from there to `to` is one from `from` to `to`: `via` holds every value of `from`, and what is out of
/// range wraps or saturates either way.
pub(super) fn through(from: DType, via: DType, to: DType) -> bool {
    // Integers wrap in narrower integers; what comes from a float saturates.
    let other_way = int(from).is_some() && mantissa(via).is_some() && int(to).is_some() && !holds(to, from);
    let known = to == DType::Bool || int(to).is_some() || mantissa(to).is_some();
    known && holds(via, from) && !other_way
}

/// Whether an element type holds every value of another.
fn holds(wide: DType, narrow: DType) -> bool {
    if wide == narrow {
        return true;
    }
    match (int(narrow), mantissa(narrow)) {
        (Some((signed, bits)), _) => match (int(wide), mantissa(wide)) {
            (Some((to_signed, to_bits)), _) => {
                to_bits > bits && (to_signed || !signed) || to_bits == bits && to_signed == signed
            }
            (_, Some(mantissa)) => bits - u32::from(signed) <= mantissa,
            _ => false,
        },
        (_, Some(_)) => matches!(
            (narrow, wide),
            (DType::F16 | DType::BF16, DType::F32 | DType::F64) | (DType::F32, DType::F64)
        ),
        _ => narrow == DType::Bool && (int(wide).is_some() || mantissa(wide).is_some()),
    }
}

/// Signed or not, and how many bits; of whole bytes.
fn int(d: DType) -> Option<(bool, u32)> {
    Some(match d {
        DType::I8 => (true, 8),
        DType::I16 => (true, 16),
        DType::I32 => (true, 32),
        DType::I64 => (true, 64),
        DType::U8 => (false, 8),
        DType::U16 => (false, 16),
        DType::U32 => (false, 32),
        DType::U64 => (false, 64),
        _ => return None,
    })
}

/// Up to how many bits every integer is held.
fn mantissa(d: DType) -> Option<u32> {
    Some(match d {
        DType::F16 => 11,
        DType::BF16 => 8,
        DType::F32 => 24,
        DType::F64 => 53,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::through;
    use egret_ir::DType::{BF16, Bool, F16, F32, F64, I8, I32, I64, U8};

    #[test]
    fn chains_that_lose_nothing_are_one_cast() {
        for (from, via, to) in [
            (F16, F32, F64),
            (F32, F64, F16),
            (U8, I32, F32),
            (I8, F32, F16),
            (Bool, F32, I64),
            (I32, I64, I8),
            (F32, F32, I8),
        ] {
            assert!(through(from, via, to), "{from} {via} {to}");
        }
        for (from, via, to) in [
            (F32, F16, F32),
            (I32, F32, I32),
            (I32, F64, I8),
            (F32, I32, F32),
            (I8, U8, I32),
            (F16, BF16, F32),
        ] {
            assert!(!through(from, via, to), "{from} {via} {to}");
        }
    }
}
