//! Shape arithmetic: the contents of small integer tensors followed symbolically from `shape` on.

use crate::{Attrs, DType, Dim, DimOp, Graph, Op, TensorType, Type, ValueId};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Longer vectors hold data, not shapes.
const MAX_LEN: usize = 1024;

/// Expressions with more parts than this are given up: they could otherwise double with every node.
const MAX_PARTS: usize = 128;

/// The content of an integer tensor of rank 0 or 1 of a graph, if the dims of its inputs decide it.
pub fn content(graph: &Graph, value: ValueId) -> Option<Vec<Dim>> {
    let (mut needed, mut seen) = (vec![value], BTreeSet::new());
    while let Some(v) = needed.pop() {
        if !seen.insert(v) {
            continue;
        }
        // Of the operand of `shape` its type is enough.
        let node = graph.producer(v).map(|n| graph.node(n)).filter(|n| n.op != Op::Shape);
        needed.extend(node.into_iter().flat_map(|n| n.operands.iter().flatten()));
    }
    let found: RefCell<BTreeMap<ValueId, Vec<Dim>>> = RefCell::default();
    let known = |v: ValueId| found.borrow().get(&v).cloned().or_else(|| of_constant(graph, v));
    for id in graph.topological().ok()? {
        let node = graph.node(id);
        if let [result] = node.results[..]
            && seen.contains(&result)
            && let Some(dims) = eval(node.op, &node.attrs, &node.operands, graph, &known)
        {
            found.borrow_mut().insert(result, dims);
        }
    }
    known(value)
}

/// The numbers of a small constant of integers or bools, of rank 0 or 1.
pub(crate) fn of_constant(graph: &Graph, value: ValueId) -> Option<Vec<Dim>> {
    let t = graph.as_const(value)?;
    if t.rank() > 1 || t.len() > MAX_LEN || !(t.dtype().is_int() || t.dtype() == DType::Bool) {
        return None;
    }
    Some(t.to_i64s()?.into_iter().map(Dim::constant).collect())
}

/// The content of the (single, integer or bool, rank 0 or 1) result of a node as dims, if the operands' contents decide it.
///
/// `known` gives the content of an operand. Followed: `shape`, `gather`, `slice`, `concat`, `reshape`, `transpose`,
/// `broadcast`, `pad` by constants, `iota`, `cast` between integers, arithmetic, `reduce` (`sum`, `prod`, `max`, `min`),
/// comparisons, logic, and `where`. Truth is 1, falsehood 0; what the operands' bounds do not decide is a dim of 0 or 1: `a == b` is
/// `1 - min(1, max(a - b, b - a))`.
/// The values of symbols are taken to be non-negative, as dims are.
pub fn eval(
    op: Op,
    attrs: &Attrs,
    operands: &[Option<ValueId>],
    graph: &Graph,
    known: &dyn Fn(ValueId) -> Option<Vec<Dim>>,
) -> Option<Vec<Dim>> {
    let at = |i: usize| operands.get(i).copied().flatten();
    let context = Context { attrs, graph, operands, known };
    let out = match op {
        Op::Shape => {
            let shape = graph.ty(at(0)?).as_tensor()?.shape.clone();
            return Some(shape).filter(|s| s.len() <= MAX_LEN);
        }
        Op::Iota => context.iota()?,
        Op::Gather => context.gather()?,
        Op::Slice => context.slice()?,
        Op::Pad => context.pad()?,
        Op::Concat => context.concat()?,
        Op::Reshape if attrs.dims("shape").len() <= 1 => context.content(0)?,
        Op::Transpose => context.content(0)?,
        Op::Broadcast => context.broadcast()?,
        Op::Reduce => context.reduce()?,
        Op::Where => context.select()?,
        Op::Cast => context.cast()?,
        Op::Not => context.map(|x| Some(Dim::constant(1) - x.clone()))?,
        Op::Neg => context.map(|x| Some(Dim::constant(0) - x.clone()))?,
        Op::Abs => context.map(|x| {
            if x.at_least()? >= 0 {
                Some(x.clone())
            } else {
                x.as_const()?.checked_abs().map(Dim::constant)
            }
        })?,
        _ => context.zip(|a, b| binary(op, attrs, a, b))?,
    };
    (out.len() <= MAX_LEN && out.iter().all(|d| d.is_within(MAX_PARTS) && !d.is_saturated())).then_some(out)
}

/// One element of a binary operation.
fn binary(op: Op, attrs: &Attrs, a: &Dim, b: &Dim) -> Option<Dim> {
    let small = |a: &Dim, b: &Dim| a.term_count().saturating_mul(b.term_count()) <= MAX_PARTS;
    let never_negative = |d: &Dim| d.at_least().is_some_and(|v| v >= 0);
    let positive = |d: &Dim| d.is_positive();
    match op {
        Op::Add => Some(a.clone() + b.clone()),
        Op::Sub => Some(a.clone() - b.clone()),
        Op::Mul if small(a, b) => Some(a.clone() * b.clone()),
        Op::Max => Some(a.op(DimOp::Max, b)),
        Op::Min => Some(a.op(DimOp::Min, b)),
        Op::Div => match (a.as_const(), b.as_const()) {
            (Some(a), Some(b)) => a.checked_div(b).map(Dim::constant),
            // Truncation is rounding down where neither is negative. A divisor of 0 cannot be told from others, but
            // then the model's result is meaningless anyway.
            (_, Some(d)) if d > 0 => match a.divide_exactly(b) {
                Some(q) => Some(q),
                None => never_negative(a).then(|| a.op(DimOp::FloorDiv, b)),
            },
            (_, None) => (never_negative(a) && never_negative(b)).then(|| a.op(DimOp::FloorDiv, b)),
            _ => None,
        },
        Op::Mod if positive(b) && (never_negative(a) || !attrs.flag("fmod")) => Some(a.op(DimOp::Mod, b)),
        // As with quotients.
        Op::Mod if never_negative(a) && never_negative(b) => Some(a.op(DimOp::Mod, b)),
        Op::Pow => {
            let (a, b) = (a.as_const()?, u32::try_from(b.as_const()?).ok()?);
            a.checked_pow(b).map(Dim::constant)
        }
        Op::Equal => Some(is_zero(&(a.clone() - b.clone()))),
        Op::Less => Some(is_positive(&(b.clone() - a.clone()))),
        Op::LessEqual => Some(not(&is_positive(&(a.clone() - b.clone())))),
        Op::And => Some(a.op(DimOp::Min, b)),
        Op::Or => Some(a.op(DimOp::Max, b)),
        Op::Xor => Some(not(&is_zero(&(a.clone() - b.clone())))),
        _ => None,
    }
}

/// 1 for a number of at least 1, 0 for others.
fn is_positive(d: &Dim) -> Dim {
    d.op(DimOp::Max, &Dim::constant(0)).op(DimOp::Min, &Dim::constant(1))
}

/// 1 for 0, 0 for other numbers.
fn is_zero(d: &Dim) -> Dim {
    let negated = Dim::constant(0) - d.clone();
    not(&is_positive(&d.op(DimOp::Max, &negated)))
}

/// Of 0 and 1 the other one.
fn not(truth: &Dim) -> Dim {
    Dim::constant(1) - truth.clone()
}

struct Context<'a> {
    attrs: &'a Attrs,
    graph: &'a Graph,
    operands: &'a [Option<ValueId>],
    known: &'a dyn Fn(ValueId) -> Option<Vec<Dim>>,
}

impl Context<'_> {
    fn operand(&self, i: usize) -> Option<ValueId> {
        self.operands.get(i).copied().flatten()
    }

    fn ty(&self, i: usize) -> Option<&TensorType> {
        let ty: &Type = self.graph.ty(self.operand(i)?);
        ty.as_tensor()
    }

    /// The content of operand `i`: of an integer or bool tensor of rank 0 or 1.
    fn content(&self, i: usize) -> Option<Vec<Dim>> {
        let t = self.ty(i)?;
        let fits = t.rank() <= 1 && (t.dtype.is_int() || t.dtype == DType::Bool);
        if fits { (self.known)(self.operand(i)?) } else { None }
    }

    fn constants(&self, i: usize) -> Option<Vec<i64>> {
        self.content(i)?.iter().map(Dim::as_const).collect()
    }

    fn map(&self, f: impl Fn(&Dim) -> Option<Dim>) -> Option<Vec<Dim>> {
        self.content(0)?.iter().map(f).collect()
    }

    fn zip(&self, f: impl Fn(&Dim, &Dim) -> Option<Dim>) -> Option<Vec<Dim>> {
        let [Some(_), Some(_)] = self.operands else { return None };
        let (a, b) = (self.content(0)?, self.content(1)?);
        let len = joint(a.len(), b.len())?;
        (0..len).map(|i| f(pick(&a, i), pick(&b, i))).collect()
    }

    fn select(&self) -> Option<Vec<Dim>> {
        let (cond, a, b) = (self.content(0)?, self.content(1)?, self.content(2)?);
        let len = joint(joint(cond.len(), a.len())?, b.len())?;
        (0..len)
            .map(|i| {
                let (a, b) = (pick(&a, i), pick(&b, i));
                match pick(&cond, i).as_const() {
                    Some(0) => Some(b.clone()),
                    Some(_) => Some(a.clone()),
                    None if a == b => Some(a.clone()),
                    None => {
                        let truth = pick(&cond, i);
                        let chosen = |c: &Dim, d: &Dim| binary(Op::Mul, self.attrs, c, d);
                        Some(chosen(truth, a)? + chosen(&not(truth), b)?)
                    }
                }
            })
            .collect()
    }

    fn cast(&self) -> Option<Vec<Dim>> {
        let (from, to) = (self.ty(0)?.dtype, self.attrs.dtype("to"));
        let x = self.content(0)?;
        if to == DType::Bool {
            return Some(x.iter().map(|d| not(&is_zero(d))).collect());
        }
        if !to.is_int() {
            return None;
        }
        if from == to || from == DType::Bool {
            return Some(x);
        }
        // Numbers that wrap are not followed; a symbolic size is taken to fit 32 bits.
        let (low, high, symbols) = match to {
            DType::I64 => (i64::MIN, i64::MAX, true),
            DType::I32 => (i32::MIN.into(), i32::MAX.into(), true),
            DType::U32 => (0, u32::MAX.into(), true),
            DType::U64 => (0, i64::MAX, true),
            _ => (0, 1, false),
        };
        let fits = |d: &Dim| match d.as_const() {
            Some(c) => (low..=high).contains(&c),
            None => symbols && (low < 0 || d.at_least().is_some_and(|v| v >= 0)),
        };
        x.iter().all(fits).then_some(x)
    }

    fn iota(&self) -> Option<Vec<Dim>> {
        let shape = self.attrs.const_dims("shape")?;
        let [n] = shape.as_slice() else { return None };
        let len = usize::try_from(*n).ok().filter(|n| *n <= MAX_LEN)?;
        self.attrs.dtype("to").is_int().then(|| (0..len).map(Dim::from).collect())
    }

    fn gather(&self) -> Option<Vec<Dim>> {
        let (x, indices) = (self.content(0)?, self.constants(1)?);
        let len = i64::try_from(x.len()).ok()?;
        indices
            .into_iter()
            .map(|i| x.get(usize::try_from(if i < 0 { i + len } else { i }).ok()?).cloned())
            .collect()
    }

    fn slice(&self) -> Option<Vec<Dim>> {
        let x = self.content(0)?;
        let (starts, sizes) = (self.attrs.const_dims("starts")?, self.attrs.const_dims("sizes")?);
        let (&[start], &[size], &[step]) = (starts.as_slice(), sizes.as_slice(), self.attrs.ints("steps"))
        else {
            return Some(x);
        };
        (0..size)
            .map(|i| x.get(usize::try_from(start.checked_add(i.checked_mul(step)?)?).ok()?).cloned())
            .collect()
    }

    fn pad(&self) -> Option<Vec<Dim>> {
        let (x, value) = (self.content(0)?, self.content(1)?);
        let (low, high) = (self.attrs.const_dims("low")?, self.attrs.const_dims("high")?);
        let (&[low], &[high], [value], "constant") =
            (low.as_slice(), high.as_slice(), value.as_slice(), self.attrs.str("mode"))
        else {
            return None;
        };
        let (low, high) = (usize::try_from(low).ok()?, usize::try_from(high).ok()?);
        if low > MAX_LEN || high > MAX_LEN {
            return None;
        }
        let mut out = vec![value.clone(); low];
        out.extend(x);
        out.extend(vec![value.clone(); high]);
        Some(out)
    }

    fn concat(&self) -> Option<Vec<Dim>> {
        let mut out = vec![];
        for i in 0..self.operands.len() {
            out.extend(self.content(i)?);
            if out.len() > MAX_LEN {
                return None;
            }
        }
        Some(out)
    }

    fn broadcast(&self) -> Option<Vec<Dim>> {
        let x = self.content(0)?;
        let shape = self.attrs.const_dims("shape")?;
        match shape.as_slice() {
            [] => Some(x),
            [n] => {
                let len = usize::try_from(*n).ok().filter(|n| *n <= MAX_LEN)?;
                (0..len).map(|i| if x.len() == 1 { x.first() } else { x.get(i) }.cloned()).collect()
            }
            _ => None,
        }
    }

    fn reduce(&self) -> Option<Vec<Dim>> {
        let x = self.content(0)?;
        let kind = self.attrs.str("kind");
        if self.attrs.ints("axes").is_empty() {
            return Some(x);
        }
        let (start, rest) = match kind {
            "sum" => (Dim::constant(0), x.as_slice()),
            "prod" => (Dim::constant(1), x.as_slice()),
            _ => (x.first()?.clone(), &x[1..]),
        };
        rest.iter()
            .try_fold(start, |total, d| match kind {
                "sum" => binary(Op::Add, self.attrs, &total, d),
                "prod" => binary(Op::Mul, self.attrs, &total, d),
                "max" => binary(Op::Max, self.attrs, &total, d),
                "min" => binary(Op::Min, self.attrs, &total, d),
                "and" => binary(Op::And, self.attrs, &total, d),
                _ => binary(Op::Or, self.attrs, &total, d),
            })
            .map(|d| vec![d])
    }
}

/// The common length of two vectors, one of which may be a single element.
fn joint(a: usize, b: usize) -> Option<usize> {
    match (a, b) {
        _ if a == b => Some(a),
        (1, _) => Some(b),
        (_, 1) => Some(a),
        _ => None,
    }
}

fn pick(x: &[Dim], i: usize) -> &Dim {
    if x.len() == 1 { &x[0] } else { &x[i] }
}

#[cfg(test)]
mod tests {
    use crate::{Builder, DType, Dim, Op, Tensor, Type, ValueId, attrs};

    fn start() -> (Builder, ValueId) {
        let mut b = Builder::new("g");
        let dims = vec![Dim::symbol("batch"), Dim::symbol("seq"), Dim::constant(64)];
        let x = b.input("x", Type::tensor(DType::F32, dims));
        let shape = b.emit(Op::Shape, attrs! {}, &[x]).unwrap();
        (b, shape)
    }

    fn ints(b: &mut Builder, v: &[i64]) -> ValueId {
        b.constant(Tensor::new(&[v.len()], v.to_vec()))
    }

    fn shown(b: &Builder, v: ValueId) -> Vec<String> {
        b.known_dims(v).unwrap().iter().map(Dim::to_string).collect()
    }

    #[test]
    fn reshape_target_of_attention_heads() {
        let (mut b, shape) = start();
        let first = ints(&mut b, &[0, 1]);
        let lead = b.emit(Op::Gather, attrs! { axis: 0i64 }, &[shape, first]).unwrap();
        let tail = ints(&mut b, &[8, -1]);
        let target = b.emit(Op::Concat, attrs! { axis: 0i64 }, &[lead, tail]).unwrap();
        assert_eq!(shown(&b, target), ["batch", "seq", "8", "-1"]);
        let last = b
            .emit(
                Op::Slice,
                attrs! { starts: vec![Dim::from(2i64)], sizes: vec![Dim::from(1i64)], steps: vec![1i64] },
                &[shape],
            )
            .unwrap();
        assert_eq!(b.graph.as_const(last).unwrap().to_i64s().unwrap(), [64]);
        let total =
            b.emit(Op::Reduce, attrs! { kind: "prod", axes: vec![0i64], keepdims: 0i64 }, &[lead]).unwrap();
        assert_eq!(shown(&b, total), ["batch*seq"]);
        let two = ints(&mut b, &[2]);
        let halves = b.emit(Op::Div, attrs! {}, &[lead, two]).unwrap();
        assert_eq!(shown(&b, halves), ["floordiv(batch, 2)", "floordiv(seq, 2)"]);
    }

    /// Expand as exported: where(equal(shape, -1), ones, shape).
    #[test]
    fn expand_pattern_is_decided() {
        let (mut b, shape) = start();
        let minus = ints(&mut b, &[-1]);
        let ones = ints(&mut b, &[1, 1, 1]);
        let free = b.emit(Op::Equal, attrs! {}, &[shape, minus]).unwrap();
        let target = b.emit(Op::Where, attrs! {}, &[free, ones, shape]).unwrap();
        assert_eq!(shown(&b, target), ["batch", "seq", "64"]);
    }

    /// A condition that sizes decide is 0 or 1, and `where` on it one of the two.
    #[test]
    fn conditions_are_followed() {
        let (mut b, shape) = start();
        let (seven, two) = (ints(&mut b, &[7]), ints(&mut b, &[2]));
        let less = b.emit(Op::Less, attrs! {}, &[shape, seven]).unwrap();
        let no_more = b.emit(Op::LessEqual, attrs! {}, &[shape, seven]).unwrap();
        let equal = b.emit(Op::Equal, attrs! {}, &[shape, seven]).unwrap();
        let odd = b.emit(Op::Mod, attrs! { fmod: 0i64 }, &[shape, two]).unwrap();
        let odd =
            b.emit(Op::Cast, attrs! { to: DType::Bool, saturate: 1i64, round: "nearest" }, &[odd]).unwrap();
        let not = b.emit(Op::Not, attrs! {}, &[odd]).unwrap();
        let both = b.emit(Op::And, attrs! {}, &[less, not]).unwrap();
        let either = b.emit(Op::Or, attrs! {}, &[equal, odd]).unwrap();
        let other = b.emit(Op::Xor, attrs! {}, &[less, odd]).unwrap();
        let chosen = b.emit(Op::Where, attrs! {}, &[both, shape, seven]).unwrap();
        for n in 0..20 {
            let env = [("batch".to_owned(), n), ("seq".to_owned(), 1)].into_iter().collect();
            let at = |v: ValueId| b.known_dims(v).unwrap()[0].eval(&env).unwrap();
            let odd = n % 2 == 1;
            assert_eq!(at(less), i64::from(n < 7));
            assert_eq!(at(no_more), i64::from(n <= 7));
            assert_eq!(at(equal), i64::from(n == 7));
            assert_eq!(at(both), i64::from(n < 7 && !odd));
            assert_eq!(at(either), i64::from(n == 7 || odd));
            assert_eq!(at(other), i64::from((n < 7) != odd));
            assert_eq!(at(chosen), if n < 7 && !odd { n } else { 7 });
        }
        assert!(b.known_dims(chosen).unwrap()[0].at_least() >= Some(0));
    }

    #[test]
    fn what_cannot_be_known_is_not() {
        let (mut b, shape) = start();
        let seven = ints(&mut b, &[7]);
        let lower = b.emit(Op::Sub, attrs! {}, &[shape, seven]).unwrap();
        let quotient = b.emit(Op::Div, attrs! {}, &[lower, seven]).unwrap();
        assert_eq!(b.known_dims(quotient), None);
    }
}
