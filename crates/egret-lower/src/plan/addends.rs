//! Sums of two convolutions as one kernel: where the result of one that leaves out zeros of its weights is only added to the sums of another one, as a shortcut
//! around a block of a residual network is, its products are added to the same sums. So its result, which is read once for few operations, is never written.
//!
//! Both read one pixel for each output pixel (windows of one tap); they may be a different number of pixels apart.

use crate::expr::{Expr, Term};
use crate::geometry::conv::ConvShape;
use crate::geometry::shape::dims;
use crate::geometry::zeros;
use crate::plan::fusion::FusionGroup;
use egret_ir::{DType, Graph, NodeId, Op, UseLists};
use egret_machine::Machine;

/// Joins groups whose result is an addend to those that add it.
pub fn plan(graph: &Graph, groups: &mut Vec<FusionGroup>, machine: &Machine) {
    let uses = graph.use_lists();
    let mut at = 0;
    while at < groups.len() {
        let found = addend(graph, &uses, &groups[..at], &groups[at], machine);
        if let Some((of, expr)) = found {
            let own = groups.remove(of);
            at -= 1;
            groups[at].nodes.extend(own.nodes);
            groups[at].addend = own.anchor;
            groups[at].expr = expr;
        }
        at += 1;
    }
}

/// The group before that makes an addend of a group's sums, and the group's expression without it.
fn addend(
    graph: &Graph,
    uses: &UseLists,
    before: &[FusionGroup],
    group: &FusionGroup,
    machine: &Machine,
) -> Option<(usize, Expr)> {
    if group.prologue.is_some() || group.addend.is_some() || !adds_products(graph, group.anchor?, machine) {
        return None;
    }
    let out = dims(graph, graph.node(group.anchor?).results[0]);
    group.expr.operands.iter().enumerate().find_map(|(i, operand)| {
        let of = before.iter().position(|g| g.result == operand.value)?;
        let own = &before[of];
        let only_added = uses.users(own.result).len() == 1 && uses.output_uses(own.result) == 0;
        let bare = own.expr.is_anchor() && own.prologue.is_none() && own.addend.is_none();
        let as_it_is = own.expr.dims == out && operand.access.is_dense(&out) && group.expr.dims == out;
        if !only_added || !bare || !as_it_is || !adds_products(graph, own.anchor?, machine) {
            return None;
        }
        Some((of, without(&group.expr, i)?))
    })
}

/// Whether a node is a convolution that leaves out zeros, of windows of one tap that have an output for each of their steps over the input.
fn adds_products(graph: &Graph, node: NodeId, machine: &Machine) -> bool {
    if graph.node(node).op != Op::Conv {
        return false;
    }
    let s = ConvShape::new(graph, node);
    let floats = graph.tensor_ty(graph.node(node).results[0]).dtype == DType::F32;
    let steps = (0..s.rank()).all(|i| s.output[i].checked_mul(s.strides[i]) == Some(s.input[i]));
    let pixels: i64 = s.output.iter().product();
    floats
        && s.groups == 1
        && s.has_tiles(graph, node)
        && s.taps() == 1
        && s.low.iter().all(|l| *l == 0)
        && steps
        && pixels >= machine.lanes() as i64
        && zeros::of_conv(graph, node, &s, &machine.costs).is_some()
}

/// An expression without an operand that is one of the addends of a sum, of which the anchor's value is another one; nothing where it is used in another way.
fn without(expr: &Expr, operand: usize) -> Option<Expr> {
    let is = |t: usize| expr.terms[t].0 == Term::Operand(operand);
    let sum = |t: usize| match &expr.terms[t].0 {
        Term::Apply(Op::Add, _, args) => <[usize; 2]>::try_from(args.as_slice()).ok(),
        _ => None,
    };
    // The sum that has it, and what else that adds.
    let all = 0..expr.terms.len();
    let mut adding = all.filter_map(|t| {
        let [a, b] = sum(t)?;
        if is(a) { Some((t, b)) } else { is(b).then_some((t, a)) }
    });
    let (added, rest) = adding.next()?;
    let mut readers: Vec<Vec<usize>> = vec![vec![]; expr.terms.len()];
    for (t, (term, _)) in expr.terms.iter().enumerate() {
        if let Term::Apply(_, _, args) = term {
            args.iter().for_each(|&a| readers[a].push(t));
        }
    }
    let operand_term = (0..expr.terms.len()).find(|&t| is(t))?;
    if readers[operand_term].len() != 1 {
        return None;
    }
    // The sum of sums alone that it and the anchor's value are both in. What is in it is read by it alone: others would see an addend that is not theirs, or miss one.
    let mut all = added;
    loop {
        let (mut work, mut has_anchor) = (sum(all)?.to_vec(), false);
        while let Some(t) = work.pop() {
            let inner = sum(t);
            let is_anchor = expr.terms[t].0 == Term::Anchor;
            if (inner.is_some() || is_anchor) && readers[t].len() != 1 {
                return None;
            }
            has_anchor |= is_anchor;
            work.extend(inner.into_iter().flatten());
        }
        if has_anchor {
            break;
        }
        let [outer] = readers[all][..] else { return None };
        all = outer;
    }
    let mut out = Expr { dims: expr.dims.clone(), operands: expr.operands.clone(), terms: vec![] };
    out.operands.remove(operand);
    let mut new = vec![usize::MAX; expr.terms.len()];
    for (t, (term, dtype)) in expr.terms.iter().enumerate() {
        if t == added {
            // What stands for it has been written before.
            new[t] = new[rest];
            continue;
        }
        let term = match term {
            Term::Operand(o) if *o == operand => continue,
            Term::Operand(o) => Term::Operand(if *o > operand { o - 1 } else { *o }),
            Term::Apply(op, attrs, args) => {
                Term::Apply(*op, attrs.clone(), args.iter().map(|a| new[*a]).collect())
            }
            other => other.clone(),
        };
        out.terms.push((term, *dtype));
        new[t] = out.terms.len() - 1;
    }
    // Its value is its last term.
    (new.last() == Some(&(out.terms.len() - 1))).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Operand;
    use crate::geometry::access::StridedAccess;
    use egret_ir::{Attrs, ValueId};

    fn expr(terms: Vec<Term>) -> Expr {
        let operand =
            |v: u32| Operand { value: ValueId(v), dtype: DType::F32, access: StridedAccess::dense(&[4]) };
        Expr {
            dims: vec![4],
            operands: (0..3).map(operand).collect(),
            terms: terms.into_iter().map(|t| (t, DType::F32)).collect(),
        }
    }

    fn apply(op: Op, args: &[usize]) -> Term {
        Term::Apply(op, Attrs::default(), args.to_vec())
    }

    #[test]
    fn addends_leave_sums() {
        let before = expr(vec![
            Term::Anchor,
            Term::Operand(0),
            apply(Op::Add, &[0, 1]),
            Term::Operand(1),
            apply(Op::Add, &[3, 2]),
            Term::Operand(2),
            apply(Op::Add, &[4, 5]),
            apply(Op::Neg, &[6]),
        ]);
        let after = without(&before, 1).unwrap();
        assert_eq!(after.operands.len(), 2);
        let terms: Vec<Term> = after.terms.into_iter().map(|t| t.0).collect();
        assert_eq!(
            terms,
            [
                Term::Anchor,
                Term::Operand(0),
                apply(Op::Add, &[0, 1]),
                Term::Operand(1),
                apply(Op::Add, &[2, 3]),
                apply(Op::Neg, &[4]),
            ]
        );
    }

    /// What is not added to the sums alone stays.
    #[test]
    fn others_stay() {
        let scaled = expr(vec![
            Term::Anchor,
            Term::Operand(0),
            apply(Op::Mul, &[0, 1]),
            Term::Operand(1),
            apply(Op::Add, &[2, 3]),
        ]);
        assert_eq!(without(&scaled, 1), None);
        let outside = expr(vec![
            Term::Operand(0),
            Term::Operand(1),
            apply(Op::Add, &[0, 1]),
            apply(Op::Neg, &[2]),
            Term::Anchor,
            apply(Op::Add, &[3, 4]),
        ]);
        assert_eq!(without(&outside, 1), None);
        // Read by others too: the anchor's value, a sum that it is in, a sum that the addend is in.
        let anchor_twice =
            expr(vec![Term::Anchor, Term::Operand(0), apply(Op::Add, &[0, 1]), apply(Op::Mul, &[0, 2])]);
        assert_eq!(without(&anchor_twice, 0), None);
        let sum_twice = expr(vec![
            Term::Anchor,
            Term::Operand(0),
            apply(Op::Add, &[0, 1]),
            Term::Operand(1),
            apply(Op::Add, &[2, 3]),
            apply(Op::Mul, &[2, 4]),
        ]);
        assert_eq!(without(&sum_twice, 1), None);
        let doubled =
            expr(vec![Term::Anchor, apply(Op::Add, &[0, 0]), Term::Operand(0), apply(Op::Add, &[1, 2])]);
        assert_eq!(without(&doubled, 0), None);
        let addend_twice = expr(vec![
            Term::Operand(0),
            Term::Operand(1),
            apply(Op::Add, &[0, 1]),
            Term::Anchor,
            apply(Op::Add, &[2, 3]),
            apply(Op::Mul, &[2, 4]),
        ]);
        assert_eq!(without(&addend_twice, 0), None);
        // Of the whole sum there may be several readers.
        let whole_twice =
            expr(vec![Term::Anchor, Term::Operand(0), apply(Op::Add, &[0, 1]), apply(Op::Mul, &[2, 2])]);
        let terms: Vec<Term> = without(&whole_twice, 0).unwrap().terms.into_iter().map(|t| t.0).collect();
        assert_eq!(terms, [Term::Anchor, apply(Op::Mul, &[0, 0])]);
        let beside = expr(vec![
            Term::Operand(0),
            Term::Operand(1),
            apply(Op::Add, &[0, 1]),
            Term::Anchor,
            apply(Op::Add, &[2, 3]),
        ]);
        let terms: Vec<Term> = without(&beside, 0).unwrap().terms.into_iter().map(|t| t.0).collect();
        assert_eq!(terms, [Term::Operand(0), Term::Anchor, apply(Op::Add, &[0, 1])]);
        let twice =
            expr(vec![Term::Anchor, Term::Operand(0), apply(Op::Add, &[0, 1]), apply(Op::Mul, &[1, 2])]);
        assert_eq!(without(&twice, 0), None);
        assert_eq!(without(&twice, 1), None);
    }
}
