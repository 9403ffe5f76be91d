//! Einsum: diagonals, sums, and pairwise contractions by matrix products.

use super::emit::product;
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Op, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[onnx("Einsum", 12, einsum)];

/// A label of an axis: a letter, or an axis of the ellipsis counted from its end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Label {
    Letter(char),
    Ellipsis(usize),
}

/// A tensor with a label for each axis, each at most once.
#[derive(Clone)]
struct Term {
    value: ValueId,
    labels: Vec<Label>,
}

fn einsum(ctx: &mut NodeCtx) -> OpResult {
    let equation = ctx.str("equation", "")?;
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let bad = |why: &str| ImportError::invalid(format!("the equation {equation:?} of Einsum {why}"));
    let (left, right) = match text.split_once("->") {
        Some((l, r)) => (l.to_owned(), Some(r.to_owned())),
        None => (text.clone(), None),
    };
    let parts: Vec<&str> = left.split(',').collect();
    if parts.len() != ctx.inputs.len() {
        return Err(bad(&format!("has {} terms for {} inputs", parts.len(), ctx.inputs.len())));
    }
    let mut terms = vec![];
    let mut counts: std::collections::BTreeMap<char, usize> = Default::default();
    let mut widest = 0;
    for (i, part) in parts.iter().enumerate() {
        let value = ctx.input(i)?;
        let rank = ctx.rank(value)?;
        let letters = part.replace("...", "").chars().count();
        let ellipsis =
            if part.contains("...") { rank.checked_sub(letters) } else { (rank == letters).then_some(0) };
        let ellipsis =
            ellipsis.ok_or_else(|| bad(&format!("does not fit the rank {rank} of input {i}")))?;
        widest = widest.max(ellipsis);
        let labels = labels(part, ellipsis).ok_or_else(|| bad("is malformed"))?;
        labels.iter().for_each(|l| {
            if let Label::Letter(c) = l {
                *counts.entry(*c).or_default() += 1;
            }
        });
        terms.push(diagonal(ctx, value, labels)?);
    }
    let output = match right {
        Some(r) => labels(&r, widest).ok_or_else(|| bad("is malformed"))?,
        // Implicit: the ellipsis, then the letters that occur once, in alphabetical order.
        None => {
            let once = counts.iter().filter(|(_, n)| **n == 1).map(|(c, _)| Label::Letter(*c));
            (0..widest).rev().map(Label::Ellipsis).chain(once).collect()
        }
    };
    let known = |l: &Label| terms.iter().any(|t| t.labels.contains(l));
    let twice = output.iter().enumerate().any(|(i, l)| output[..i].contains(l));
    if twice || !output.iter().all(known) {
        return Err(bad("has an output that names an axis twice or one that no input has"));
    }
    let mut work = terms.into_iter();
    let mut acc = work.next().ok_or_else(|| bad("has no terms"))?;
    let rest: Vec<Term> = work.collect();
    for (i, term) in rest.iter().enumerate() {
        let needed = |l: &Label| output.contains(l) || rest[i + 1..].iter().any(|t| t.labels.contains(l));
        acc = contract(ctx, acc, term.clone(), &needed)?;
    }
    let acc = sum_out(ctx, acc, &|l| output.contains(l))?;
    Ok(vec![arrange(ctx, &acc, &output)?])
}

/// The labels of a term or of the output.
fn labels(text: &str, ellipsis: usize) -> Option<Vec<Label>> {
    let (before, after) = match text.split_once("...") {
        Some((b, a)) => (b, Some(a)),
        None => (text, None),
    };
    let letters = |s: &str| {
        s.chars().map(|c| c.is_ascii_alphabetic().then_some(Label::Letter(c))).collect::<Option<Vec<_>>>()
    };
    let mut out = letters(before)?;
    if let Some(after) = after {
        out.extend((0..ellipsis).rev().map(Label::Ellipsis));
        out.extend(letters(after)?);
    }
    Some(out)
}

/// x with each label once: where one repeats, only the diagonal is kept.
fn diagonal(ctx: &mut NodeCtx, mut value: ValueId, mut labels: Vec<Label>) -> Result<Term, ImportError> {
    while let Some((i, j)) =
        (0..labels.len()).find_map(|j| labels[..j].iter().position(|l| *l == labels[j]).map(|i| (i, j)))
    {
        let ty = ctx.tensor(value)?;
        let rows = ctx.iota_along(DType::I64, ty.shape[i].clone(), i, ty.rank())?;
        let columns = ctx.iota_along(DType::I64, ty.shape[j].clone(), j, ty.rank())?;
        let on = ctx.binary(Op::Equal, rows, columns)?;
        let zero = ctx.zero(ty.dtype);
        let kept = ctx.select(on, value, zero)?;
        value = ctx.reduce("sum", kept, vec![j as i64], false)?;
        labels.remove(j);
    }
    Ok(Term { value, labels })
}

/// A term summed over the labels that nothing needs.
fn sum_out(ctx: &mut NodeCtx, term: Term, needed: &dyn Fn(&Label) -> bool) -> Result<Term, ImportError> {
    let axes: Vec<i64> =
        (0..term.labels.len() as i64).filter(|&i| !needed(&term.labels[i as usize])).collect();
    if axes.is_empty() {
        return Ok(term);
    }
    let value = ctx.reduce("sum", term.value, axes, false)?;
    Ok(Term { value, labels: term.labels.into_iter().filter(|l| needed(l)).collect() })
}

/// A term with its axes in the order of `order`, of which it has all or some; missing ones become axes of 1.
fn arrange(ctx: &mut NodeCtx, term: &Term, order: &[Label]) -> Result<ValueId, ImportError> {
    let perm: Vec<i64> =
        order.iter().filter_map(|l| term.labels.iter().position(|t| t == l)).map(|i| i as i64).collect();
    let sorted = perm.iter().enumerate().all(|(i, &p)| i as i64 == p);
    let mut value = if sorted { term.value } else { ctx.transpose(term.value, perm)? };
    for (i, label) in order.iter().enumerate() {
        if !term.labels.contains(label) {
            value = ctx.unsqueeze(value, i)?;
        }
    }
    Ok(value)
}

/// The product of two terms, summed over the labels that nothing needs any more: one matrix product.
fn contract(
    ctx: &mut NodeCtx,
    a: Term,
    b: Term,
    needed: &dyn Fn(&Label) -> bool,
) -> Result<Term, ImportError> {
    let a = sum_out(ctx, a.clone(), &|l| needed(l) || b.labels.contains(l))?;
    let b = sum_out(ctx, b, &|l| needed(l) || a.labels.contains(l))?;
    let shared = |l: &&Label| b.labels.contains(l);
    let batch: Vec<Label> = a.labels.iter().filter(|l| shared(l) && needed(l)).copied().collect();
    let inner: Vec<Label> = a.labels.iter().filter(|l| shared(l) && !needed(l)).copied().collect();
    let rows: Vec<Label> = a.labels.iter().filter(|l| !shared(l)).copied().collect();
    let columns: Vec<Label> = b.labels.iter().filter(|l| !a.labels.contains(l)).copied().collect();
    let order = |groups: [&[Label]; 3]| groups.concat();
    if inner.is_empty() {
        let all = order([&batch, &rows, &columns]);
        let (x, y) = (arrange(ctx, &a, &all)?, arrange(ctx, &b, &all)?);
        return Ok(Term { value: ctx.binary(Op::Mul, x, y)?, labels: all });
    }
    let x = arrange(ctx, &a, &order([&batch, &rows, &inner]))?;
    let y = arrange(ctx, &b, &order([&batch, &inner, &columns]))?;
    let (xs, ys) = (ctx.shape_of(x)?, ctx.shape_of(y)?);
    let (nb, nr, ni) = (batch.len(), rows.len(), inner.len());
    // An axis of 1 against a longer one broadcasts; a matrix product needs both of one length inside.
    let (mut x_inner, mut y_inner) = (xs[nb + nr..].to_vec(), ys[nb..nb + ni].to_vec());
    for (p, q) in x_inner.iter_mut().zip(&mut y_inner) {
        if p.as_const() == Some(1) {
            *p = q.clone();
        } else if q.as_const() == Some(1) {
            *q = p.clone();
        }
    }
    let x = ctx.broadcast(x, [&xs[..nb + nr], &x_inner].concat())?;
    let y = ctx.broadcast(y, [&ys[..nb], &y_inner, &ys[nb + ni..]].concat())?;
    let x_matrix = [&xs[..nb], &[product(&xs[nb..nb + nr]), product(&x_inner)]].concat();
    let y_matrix = [&ys[..nb], &[product(&y_inner), product(&ys[nb + ni..])]].concat();
    let (x, y) = (ctx.reshape(x, x_matrix)?, ctx.reshape(y, y_matrix)?);
    let z = ctx.emit(Op::Matmul, attrs! {}, &[x, y])?;
    let lead = ctx.shape_of(z)?[..nb].to_vec();
    let shape = [&lead, &xs[nb..nb + nr], &ys[nb + ni..]].concat();
    Ok(Term { value: ctx.reshape(z, shape)?, labels: order([&batch, &rows, &columns]) })
}
