//! Loops over contiguous elements in vectors: the widest that the machine has, and for what is left over one vector under a mask where
//! it has masks ([`masks`]), else narrower ones and at last single elements.

use egret_loop::{Elem, KernelBuilder, Ty, V};
use std::ops::Range;

/// Lanes of the vectors for what `count` elements are done in, and for how many elements each: the widest that fits, then halves of it
/// down to those of 16 bytes, then 1. Those for no element are left out.
pub fn runs(count: i64, widest: Ty) -> Vec<(u8, i64)> {
    let narrowest = Ty::vector(widest.elem).lanes;
    let mut lanes = widest.lanes.max(narrowest);
    let mut found = vec![];
    let mut rest = count.max(0);
    while lanes >= narrowest && lanes > 1 {
        let whole = rest - rest % i64::from(lanes);
        if whole > 0 {
            found.push((lanes, whole));
        }
        rest -= whole;
        lanes /= 2;
    }
    if rest > 0 {
        found.push((1, rest));
    }
    found
}

/// Loops over `count` elements of a type; the body gets the index of the first of some, and the type to compute in.
pub fn each(k: &mut KernelBuilder, count: i64, elem: Elem, body: impl FnMut(&mut KernelBuilder, V, Ty)) {
    each_of(k, count, k.vector(elem), body);
}

/// As [`each`], in vectors of this type at most; single elements only, if it is one.
pub fn each_of(
    k: &mut KernelBuilder,
    count: i64,
    widest: Ty,
    mut body: impl FnMut(&mut KernelBuilder, V, Ty),
) {
    let mut begin = 0;
    for (lanes, some) in if widest.lanes == 1 { vec![(1, count)] } else { runs(count, widest) } {
        k.for_range(begin, begin + some, lanes.into(), |k, i| body(k, i, Ty { lanes, ..widest }));
        begin += some;
    }
}

/// As [`each_of`], but with vectors of one length, of which the last may do some elements once more: for results that are written
/// where nothing is read. Single elements where there are fewer than the narrowest vector has.
pub fn each_overlapping(
    k: &mut KernelBuilder,
    range: Range<i64>,
    widest: Ty,
    mut body: impl FnMut(&mut KernelBuilder, V, Ty),
) {
    let count = (range.end - range.start).max(0);
    let (lanes, whole) = match runs(count, widest).first() {
        Some(&run) if widest.lanes > 1 => run,
        _ => (1, count),
    };
    let ty = Ty { lanes, ..widest };
    k.for_range(range.start, range.start + whole, lanes.into(), |k, i| body(k, i, ty));
    if whole < count {
        let at = k.int(range.end - i64::from(lanes));
        body(k, at, ty);
    }
}

/// Whether machines with vectors of so many bytes load and store the first lanes of one in an instruction
/// ([`LoadFirst`](egret_loop::Inst::LoadFirst)): 197 elements are 12 vectors of 16 and the first 5 lanes of another.
pub fn masks(bytes: usize) -> bool {
    bytes >= egret_loop::MAX_VECTOR_BYTES
}

/// Whether that holds for vectors of an element type.
pub fn masked(elem: Elem) -> bool {
    elem.size() == 4
}

/// Lanes of the vectors for an axis, between `widest` and `least`: as many as it fills, or where the last may be `partial` as many as
/// it begins to fill. Nothing where it is shorter than the least.
pub fn fitting(count: i64, (widest, least): (u8, u8), partial: bool) -> Option<u8> {
    if count < i64::from(least) {
        return None;
    }
    let most = if partial { (count as u64).next_power_of_two() as i64 } else { count };
    std::iter::successors(Some(widest), |w| Some(w / 2)).find(|w| i64::from(*w) <= most)
}

/// Lanes of the vector for `count` elements that are left over: as many, if there are such vectors between `widest` and `least`. Under
/// a mask a store reaches over what follows, as far as processors know when they load that: in place, the next row then waits.
pub fn holding(count: u8, (widest, least): (u8, u8)) -> u8 {
    if count.is_power_of_two() && (least..=widest).contains(&count) { count } else { widest }
}

/// An element, or a vector of them.
pub fn load(k: &mut KernelBuilder, p: egret_loop::Param, at: V, ty: Ty) -> V {
    if ty.lanes == 1 { k.load(p, at) } else { k.load_lanes(p, at, ty.lanes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_fit_an_axis() {
        let of = |count| [false, true].map(|partial| fitting(count, (16, 4), partial));
        assert_eq!(of(3), [None, None]);
        assert_eq!(of(4), [Some(4), Some(4)]);
        assert_eq!(of(5), [Some(4), Some(8)]);
        assert_eq!(of(12), [Some(8), Some(16)]);
        assert_eq!(of(197), [Some(16), Some(16)]);
    }

    #[test]
    fn what_is_left_over_needs_no_mask_where_it_fills_a_vector() {
        let of = |count| holding(count, (16, 4));
        assert_eq!([1, 3, 4, 5, 8, 12, 15].map(of), [16, 16, 4, 16, 8, 16, 16]);
    }

    #[test]
    fn all_elements_are_in_a_run() {
        let of = |count, bytes| runs(count, Ty::vector_of(Elem::F32, bytes));
        assert_eq!(of(197, 64), [(16, 192), (4, 4), (1, 1)]);
        assert_eq!(of(24, 64), [(16, 16), (8, 8)]);
        assert_eq!(of(24, 16), [(4, 24)]);
        assert_eq!(of(3, 64), [(1, 3)]);
        assert_eq!(of(0, 64), []);
        assert_eq!(runs(5, Ty::vector(Elem::F64)), [(2, 4), (1, 1)]);
    }
}
