//! The elements that `start:end:step` names along an axis, whose size and bounds may be symbols.

use super::emit::{dim, held};
use crate::clamps::Clamps;
use egret_ir::{Dim, DimOp};

/// Beyond any size: PyTorch and TensorFlow write "to the end" so.
pub(super) const FAR: i64 = i32::MAX as i64;

/// A bound of a slice, wrapped and clamped, and what has to hold of its symbols: dims that are 0, or have no value where it does not.
struct Place {
    at: Dim,
    /// It counts from the end, as it does for most sizes.
    from_end: Option<Dim>,
    /// It does not count from the end.
    from_front: Option<Dim>,
}

impl From<Dim> for Place {
    fn from(at: Dim) -> Place {
        Place { at, from_end: None, from_front: None }
    }
}

/// Where `bound` lies on an axis of `size`, no less than `floor` and `below_end` before the end at most.
fn place(size: &Dim, bound: &Dim, (floor, below_end): (i64, i64)) -> Place {
    let ceiling = size.clone() - dim(below_end);
    let at = match bound.as_const() {
        Some(b) if b >= FAR => ceiling,
        Some(b) if b <= -FAR => dim(floor),
        Some(b) if b < 0 => match size.as_const() {
            Some(n) => dim((b + n).clamp(floor, (n - below_end).max(floor))),
            None => size.clone() + dim(b),
        },
        Some(b) => match size.as_const() {
            Some(n) => dim(b.clamp(floor, (n - below_end).max(floor))),
            None if b == 0 => dim(0),
            None => dim(b).op(DimOp::Min, &ceiling),
        },
        None if bound.is_negative() => {
            // What is not negative after all, `-M` for M = 0, counts from the front; which is the same on an axis of no elements.
            let back = dim(0) - bound.clone();
            let same = (back.clone() - size.clone()).at_least().is_some_and(|d| d >= 0);
            let from_end = if same { None } else { held(&back, 1) };
            return Place { from_end, ..Place::from(size.clone() + bound.clone()) };
        }
        // Beyond the end whatever its symbols are.
        None if (bound.clone() - ceiling.clone()).at_least().is_some_and(|d| d >= 0) => ceiling,
        None => return Place { from_front: held(bound, 0), ..Place::from(bound.clone()) },
    };
    at.into()
}

/// The elements of a slice along one axis.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub first: Dim,
    pub count: Dim,
    /// Dims that are 0, or have no value where the slice would be another one.
    pub holds: Vec<Dim>,
    /// What is clamped only for some sizes.
    pub clamps: Clamps,
    /// Whether it is what the slice names for all sizes: for none of them it leaves the axis.
    pub is_exact: bool,
}

/// The first element and the number of elements of `start:end:step` along an axis of `size`.
///
/// Bounds are clamped as ONNX says, with two exceptions, which keep the dims of the result readable: on a symbolic size the bounds 1 and -1 are taken to lie
/// within the axis, where they alone cut it forwards (`x[-1:]` of an empty axis is then an error at run time). A bound of which only the symbols say
/// whether it counts from the end is held to the side that it is on for most sizes. `told`: whether the dims of inputs tell the size; one that data decides may
/// well be 0, and is clamped by 1 and -1 too.
pub(super) fn span(size: &Dim, start: &Dim, end: &Dim, step: i64, told: bool) -> Span {
    let [start, end] = &[start, end].map(|bound| from_end_alike(size, bound, step));
    let clamped = match size.as_const() {
        Some(_) => None,
        None if step > 0 => forwards(size, start, end, step, told),
        None => backwards(size, start, end, step),
    };
    if let Some(span) = clamped {
        return span;
    }
    let forward = step > 0;
    // Bounds of the result: [0, size] forwards, [-1, size - 1] backwards (start: [0, size - 1]).
    let (limits, floor) = if forward { ((0, 0), 0) } else { ((0, 1), -1) };
    let first = match start.as_const() {
        // x[1:] of a symbolic axis: min(1, size) would hide the size, size - 1.
        Some(1) if forward && size.as_const().is_none() => dim(1).into(),
        _ => place(size, start, limits),
    };
    let last = place(size, end, (floor, limits.1));
    let mut holds: Vec<Dim> = first.from_end.into_iter().chain(last.from_end).collect();
    let far_back = match start.as_const() {
        Some(s) => s < -1 && s > -FAR && size.as_const().is_none(),
        None => start.is_negative(),
    };
    if !forward && far_back {
        // A start before the first element is the first one.
        holds.extend(held(&first.at, 0));
    }
    let length = if forward { last.at - first.at.clone() } else { first.at.clone() - last.at };
    let count = length.op(DimOp::CeilDiv, &dim(step.saturating_abs()));
    // From element 0 or a later one to a negative place there are less than none, which has no value; some from a negative one leave the axis.
    let inside = first.at.at_least().is_some_and(|n| n >= 0);
    if step != 1 || count.as_const().map_or(!inside, |n| n <= 0) {
        holds.extend(first.from_front.into_iter().chain(last.from_front));
    }
    let count = match count.as_const() {
        _ if !forward && size.as_const() == Some(0) => dim(0),
        Some(n) => dim(n.max(0)),
        None => count,
    };
    Span { first: first.at, count, holds, clamps: Clamps::default(), is_exact: false }
}

/// `size - 1` is what -1 is on an axis of any size, and forwards `size - 2` what -2 is: of one element both are its begin.
fn from_end_alike(size: &Dim, bound: &Dim, step: i64) -> Dim {
    let most = if step > 0 { 2 } else { 1 };
    match (bound.clone() - size.clone()).as_const() {
        Some(back) if (-most..0).contains(&back) => dim(back),
        _ => bound.clone(),
    }
}

/// As [`span`] for steps forwards, whatever the size is; nothing where a bound is on no side for certain, or stays as it is for readability.
fn forwards(size: &Dim, start: &Dim, end: &Dim, step: i64, told: bool) -> Option<Span> {
    let near = |bound: &Dim| bound.as_const().is_some_and(|b| (-1..=1).contains(&b));
    let open = |bound: &Dim| bound.as_const().is_some_and(|b| b >= FAR);
    let readable = near(start) && (open(end) || end.as_const() == Some(-1))
        || start.as_const() == Some(0) && near(end);
    if told && readable {
        return None;
    }
    let mut clamps = Clamps::default();
    let first = clamped(size, start, &mut clamps)?;
    let last = clamped(size, end, &mut clamps)?;
    // A slice that ends before it begins is empty; none ends before 0, or begins behind the size.
    let ordered = first.as_const() == Some(0) || last == *size;
    let first = if ordered { first } else { clamps.least(&first, &last) };
    let count = (last - first.clone()).op(DimOp::CeilDiv, &dim(step));
    Some(Span { first, count, holds: vec![], clamps, is_exact: true })
}

/// As [`span`] for steps backwards, whatever the size is; nothing where a bound is on no side for certain.
///
/// Places are counted from 1, so that none is negative: the first element of the slice is at 1 to the size (0 on an axis of none), and its end at 0 to the
/// size.
fn backwards(size: &Dim, start: &Dim, end: &Dim, step: i64) -> Option<Span> {
    let mut clamps = Clamps::default();
    let first = first_back(size, start, &mut clamps)?;
    let last = end_back(size, end, &mut clamps)?;
    // A slice that ends before it begins is empty; none ends behind the size, or begins before 0.
    let ordered = first == *size || last.as_const() == Some(0);
    let last = if ordered { last } else { clamps.least(&last, &first) };
    let length = first.clone() - last;
    // Of a start that is at the end, or behind it, there is something on short axes only: they are no exception. Without clamps a start has to be
    // on the axis, even where nothing is read.
    match clamps.without(&length).as_const() {
        Some(1..) => {}
        Some(_) => clamps = Clamps::default(),
        None => {
            let begin = clamps.without(&first);
            let within = begin.at_least().is_some_and(|least| least >= 1);
            clamps.holds.extend(if within { None } else { held(&begin, 1) });
        }
    }
    let count = length.op(DimOp::CeilDiv, &dim(step.saturating_abs()));
    Some(Span { first: first - dim(1), count, holds: vec![], clamps, is_exact: true })
}

/// Behind which element a slice backwards begins, on an axis of a symbolic size.
fn first_back(size: &Dim, start: &Dim, clamps: &mut Clamps) -> Option<Dim> {
    let far = |b: i64| b.saturating_abs() >= FAR;
    match start.as_const() {
        Some(b) if far(b) && b > 0 || b == -1 => Some(size.clone()),
        // A start before the first element is the first one, where there is one.
        Some(b) if far(b) => Some(clamps.least(&dim(1), size)),
        _ if is_never_negative(start) => Some(clamps.least(&(start.clone() + dim(1)), size)),
        _ => {
            let (back, some) = from_end(start, clamps)?;
            let one = clamps.least(&dim(1), size);
            Some(size.clone() * some - clamps.least(&back, size) + one)
        }
    }
}

/// Behind which element a slice backwards ends, on an axis of a symbolic size.
fn end_back(size: &Dim, end: &Dim, clamps: &mut Clamps) -> Option<Dim> {
    let far = |b: i64| b.saturating_abs() >= FAR;
    match end.as_const() {
        Some(b) if far(b) && b > 0 || b == -1 => Some(size.clone()),
        Some(b) if far(b) => Some(dim(0)),
        Some(b) if b < 0 => Some(size.clone() - clamps.least(&dim(-b - 1), size)),
        _ if is_never_negative(end) => Some(clamps.least(&(end.clone() + dim(1)), size)),
        _ => {
            let (back, some) = from_end(end, clamps)?;
            let behind = size.clone() + dim(1);
            let place = behind.clone() * some.clone() - clamps.least(&back, &behind);
            let zeroth = (dim(1) - some) * clamps.least(&dim(1), size);
            Some(place + zeroth)
        }
    }
}

fn is_never_negative(d: &Dim) -> bool {
    d.at_least().is_some_and(|least| least >= 0)
}

/// How far from the end a bound that is never above 0 is, and what the size is multiplied by: `-M` counts from the front where M is 0.
fn from_end(bound: &Dim, clamps: &mut Clamps) -> Option<(Dim, Dim)> {
    let back = dim(0) - bound.clone();
    if !is_never_negative(&back) {
        return None;
    }
    let some = back.op(DimOp::Min, &dim(1));
    if some.as_const().is_none() {
        clamps.note(&some, &dim(1));
        clamps.holds.extend(held(&back, 1));
    }
    Some((back, some))
}

/// Where a bound lies on an axis of a symbolic size: 0 to the size.
fn clamped(size: &Dim, bound: &Dim, clamps: &mut Clamps) -> Option<Dim> {
    if bound.as_const().is_some_and(|b| b >= FAR) {
        return Some(size.clone());
    }
    if is_never_negative(bound) {
        return Some(clamps.least(bound, size));
    }
    if bound.as_const().is_some_and(|b| b <= -FAR) {
        return Some(dim(0));
    }
    let (back, some) = from_end(bound, clamps)?;
    Some(size.clone() * some - clamps.least(&back, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The elements that a slice of ONNX names.
    fn named(size: i64, start: i64, end: i64, step: i64) -> Vec<i64> {
        let wrap = |v: i64| if v < 0 { v.saturating_add(size) } else { v };
        let (mut at, stop) = if step > 0 {
            (wrap(start).clamp(0, size), wrap(end).clamp(0, size))
        } else {
            (wrap(start).clamp(-1, size - 1), wrap(end).clamp(-1, size - 1))
        };
        // ONNX clamps a backward start to 0, not to -1 as Python does.
        if step < 0 && size > 0 {
            at = at.max(0);
        }
        let mut named = vec![];
        while (step > 0 && at < stop) || (step < 0 && at > stop) {
            named.push(at);
            at += step;
        }
        named
    }

    /// A slice of symbols names the elements that it names with their values in place of them, or a run has no value for it.
    #[test]
    fn spans_of_symbols_match_those_of_their_values() {
        let (n, m) = (Dim::symbol("n"), Dim::symbol("m"));
        let none = dim(0);
        let bounds = [
            m.clone(),
            none.clone() - m.clone(),
            m.clone() - dim(2),
            dim(1) - m.clone(),
            n.clone() - dim(1),
            n.clone() - dim(2),
            n.clone() - dim(3),
            n.clone() - m.clone(),
            m.clone() - n.clone(),
            dim(1) - m.clone() - n.clone(),
            none.clone() - n.clone(),
            none.clone() - m.op(DimOp::Max, &dim(1)),
        ];
        let consts = [-9, -4, -2, -1, 0, 1, 3, 9, i64::MAX, i64::MIN].map(dim);
        let all: Vec<Dim> = bounds.into_iter().chain(consts).collect();
        let (mut right, mut refused) = (0, 0);
        for (size, start, end, step) in [n, m, dim(4)].iter().flat_map(|size| {
            let pairs = all.iter().flat_map(|start| all.iter().map(move |end| (start, end)));
            pairs.flat_map(move |(start, end)| [1, 2, 3, -1, -2].map(|step| (size, start, end, step)))
        }) {
            let Span { first, count, holds, .. } = span(size, start, end, step, true);
            for (n, m) in (0..6).flat_map(|n| (0..6).map(move |m| (n, m))) {
                let env = [("n".to_owned(), n), ("m".to_owned(), m)].into_iter().collect();
                let value = |d: &Dim| d.eval(&env).expect("a value");
                let (extent, from, to) = (value(size), value(start), value(end));
                let (first, count) = (value(&first), value(&count));
                let held = holds.iter().all(|d| d.eval(&env) == Some(0));
                let inside = |at: i64| (0..extent).contains(&at);
                let read = count == 0 || count > 0 && inside(first) && inside(first + (count - 1) * step);
                if held && read {
                    let got: Vec<i64> = (0..count).map(|i| first + i * step).collect();
                    let what = format!("{start}:{end}:{step} of {size} at {n}, {m}");
                    assert_eq!(got, named(extent, from, to, step), "{what}");
                    right += 1;
                } else {
                    refused += 1;
                }
            }
        }
        assert!(right > 100 && refused > 100, "{right} {refused}");
    }

    #[test]
    fn spans_match_python_slices() {
        // (size, start, end, step) -> the elements that Python's slice names.
        for size in [0i64, 1, 4, 5] {
            for start in [-9, -5, -1, 0, 1, 3, 9, i64::MAX, i64::MIN] {
                for end in [-9, -4, -1, 0, 2, 4, 9, i64::MAX, i64::MIN] {
                    for step in [1i64, 2, 3, -1, -2] {
                        let expected = named(size, start, end, step);
                        let span = span(&dim(size), &dim(start), &dim(end), step, true);
                        let (first, count) =
                            (span.first.as_const().unwrap(), span.count.as_const().unwrap());
                        let got: Vec<i64> = (0..count).map(|i| first + i * step).collect();
                        assert_eq!(got, expected, "{start}:{end}:{step} of {size}");
                        assert!(span.holds.is_empty());
                    }
                }
            }
        }
    }

    /// Whatever bounds are on a known side, all sizes have a value; without what is clamped it is the same where nothing is.
    #[test]
    fn spans_are_clamped_for_all_sizes() {
        let (n, m) = (Dim::symbol("n"), Dim::symbol("m"));
        let none = dim(0);
        let symbols =
            [m.clone(), m.clone() + dim(2), none.clone() - m.clone(), none.clone() - m.clone() - dim(3)];
        let consts = [-9, -4, -2, -1, 0, 2, 3, 9, i64::MAX, i64::MIN].map(dim);
        let all: Vec<Dim> = symbols.into_iter().chain(consts).collect();
        let (mut plain, mut clamped) = (0, 0);
        let all = &all[..];
        let near_end = |size: &Dim, step: i64| -> Vec<Dim> {
            (1..=if step > 0 { 2 } else { 1 }).map(|c| size.clone() - dim(c)).collect()
        };
        for (size, start, end, step) in [n.clone(), n + m].into_iter().flat_map(|size| {
            [1, 2, -1, -2].into_iter().flat_map(move |step| {
                let all: Vec<Dim> = [all, &near_end(&size, step)[..]].concat();
                let pairs =
                    all.iter().flat_map(|start| all.iter().map(move |end| (start.clone(), end.clone())));
                pairs.map(|(start, end)| (size.clone(), start, end, step)).collect::<Vec<_>>()
            })
        }) {
            let (size, start, end) = (&size, &start, &end);
            let span = span(size, start, end, step, false);
            assert!(span.holds.is_empty(), "{start}:{end}:{step} of {size}");
            let without = |d: &Dim| span.clamps.without(d);
            for (n, m) in (0..10).flat_map(|n| [0, 1, 2, 5, 9].map(|m| (n, m))) {
                let env = [("n".to_owned(), n), ("m".to_owned(), m)].into_iter().collect();
                let value = |d: &Dim| d.eval(&env).expect("a value");
                let want = named(value(size), value(start), value(end), step);
                let what = format!("{start}:{end}:{step} of {size} at {n}, {m}: {span:?}");
                let elements =
                    |first: i64, count: i64| (0..count).map(|i| first + i * step).collect::<Vec<_>>();
                assert_eq!(elements(value(&span.first), value(&span.count)), want, "{what}");
                // Of an axis of no elements nothing is read.
                let least = if step < 0 && value(size) == 0 { -1 } else { 0 };
                assert!((least..=value(size)).contains(&value(&span.first)), "{what}");
                clamped += 1;
                let (first, count) = (value(&without(&span.first)), value(&without(&span.count)));
                let held = span.clamps.holds.iter().all(|d| d.eval(&env) == Some(0));
                let last = first + (count - 1) * step;
                let inside = if step > 0 {
                    (0..=value(size)).contains(&first) && last < value(size)
                } else {
                    // A run accepts -1 where nothing is read.
                    (-1..=value(size) - count.min(1)).contains(&first) && (count == 0 || last >= 0)
                };
                if held && inside && count >= 0 {
                    assert_eq!(elements(first, count), want, "plain {what}");
                    plain += 1;
                }
            }
        }
        assert!(plain > clamped / 4, "{plain} of {clamped}");
    }

    #[test]
    fn spans_of_symbolic_axes_stay_readable() {
        let n = Dim::symbol("n");
        let far = dim(i64::MAX);
        let of = |start: i64, end: &Dim, step| {
            let Span { first, count, holds, .. } = span(&n, &dim(start), end, step, true);
            assert!(holds.is_empty(), "{holds:?}");
            format!("{first} {count}")
        };
        assert_eq!(of(-1, &far, 1), "n - 1 1");
        assert_eq!(of(0, &dim(-1), 1), "0 n - 1");
        assert_eq!(of(0, &(n.clone() - dim(1)), 1), "0 n - 1");
        assert_eq!(of(0, &(n.clone() - dim(2)), 1), "0 n - min(2, n)");
        assert_eq!(of(1, &far, 1), "1 n - 1");
        assert_eq!(of(0, &far, 2), "0 floordiv(n + 1, 2)");
        assert_eq!(of(-1, &dim(i64::MIN), -1), "n - 1 n");
        assert_eq!(of(-4, &far, 1), "n - min(4, n) min(4, n)");
        assert_eq!(of(4, &far, 1), "min(4, n) n - min(4, n)");
        assert_eq!(of(0, &dim(-4), 1), "0 n - min(4, n)");
        assert_eq!(of(0, &Dim::symbol("m"), 1), "0 min(m, n)");
        assert_eq!(of(-1, &dim(-1000), -1), "n - 1 min(999, n)");
        assert_eq!(of(-1, &dim(-1000), -2), "n - 1 floordiv(min(999, n) + 1, 2)");
        assert_eq!(of(5, &dim(i64::MIN), -1), "min(6, n) - 1 min(6, n)");
        // What is known to lie within the axis is not clamped.
        let all = n.clone() + Dim::symbol("m");
        let of = |size: &Dim, start: &Dim, end: &Dim| {
            let Span { first, count, holds, clamps, .. } = span(size, start, end, 1, true);
            assert!(holds.is_empty() && clamps.plain.len() <= 1, "{clamps:?}");
            format!("{first} {count}")
        };
        assert_eq!(of(&all, &n, &far), "n m");
        assert_eq!(of(&all, &dim(0), &n), "0 n");
        assert_eq!(of(&(n.clone() + dim(4)), &dim(-4), &far), "n 4");
        // `x[-n:]` is all of `x` where n is 0.
        let back = dim(0) - n.clone();
        assert_eq!(of(&all, &back, &far), "m*min(1, n) m - m*min(1, n) + n");
    }
}
