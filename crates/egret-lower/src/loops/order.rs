//! The order of values in which NaN is larger than every number.

use egret_loop::{Cmp, KernelBuilder, V};

/// Whether x comes before y in the order by `cmp` (`Gt` or `Lt`) in which NaN is larger than every number.
pub fn comes_before(k: &mut KernelBuilder, cmp: Cmp, x: V, y: V) -> V {
    let before = k.compare(cmp, x, y);
    if !k.ty(x).elem.is_float() {
        return before;
    }
    let (large, other) = if cmp == Cmp::Gt { (x, y) } else { (y, x) };
    let nan = k.compare(Cmp::Ne, large, large);
    let number = k.compare(Cmp::Eq, other, other);
    let beyond = k.and(nan, number);
    k.or(before, beyond)
}

/// Whether neither of x and y comes before the other.
pub fn ties(k: &mut KernelBuilder, x: V, y: V) -> V {
    let equal = k.compare(Cmp::Eq, x, y);
    if !k.ty(x).elem.is_float() {
        return equal;
    }
    let (x, y) = (k.compare(Cmp::Ne, x, x), k.compare(Cmp::Ne, y, y));
    let both = k.and(x, y);
    k.or(equal, both)
}
