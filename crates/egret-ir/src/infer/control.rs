//! Operations with sub-graphs: their result types come from the regions' outputs.
//!
//! A region names the dims of its inputs by symbols of its own. A dim of an output is told to the outside where it can
//! be said in terms of the operands' dims, and is unknown otherwise.

use super::{Call, dims, unknown};
use crate::families::Control;
use crate::{DType, Dim, Graph, SeqType, Shape, TensorType, Type};
use std::collections::BTreeMap;

/// The types of the results of an operation of this family.
pub(super) fn infer(op: Control, call: &Call) -> Result<Vec<Type>, String> {
    match op {
        Control::If => branch(call),
        Control::Loop => repeat(call),
        Control::Scan => scan(call),
        Control::SequenceMap => sequence_map(call),
    }
}

/// What the dims of a region's inputs stand for outside.
#[derive(Default)]
struct Bindings {
    /// Those that are symbols.
    symbols: BTreeMap<String, Option<Dim>>,
    /// Those that are made of symbols, which may be no dims themselves: `n / 4` where no input has `n`.
    others: BTreeMap<Dim, Dim>,
}

impl Bindings {
    /// The region's input `inner` is fed from `outer`.
    fn bind(&mut self, inner: &[Dim], outer: &[Dim]) {
        for (i, o) in inner.iter().zip(outer) {
            let Some(name) = i.as_symbol() else {
                if i.as_const().is_none() {
                    self.others.entry(i.clone()).or_insert_with(|| o.clone());
                }
                continue;
            };
            // The first constant wins: two dims of one symbol are equal.
            let slot = self.symbols.entry(name.to_owned()).or_insert_with(|| Some(o.clone()));
            if o.as_const().is_some() && slot.as_ref().is_some_and(|d| d.as_const().is_none()) {
                *slot = Some(o.clone());
            }
        }
    }

    /// The symbols have other values in another iteration.
    fn forget(&mut self, dim: &Dim) {
        let mut names = vec![];
        dim.collect_symbols(&mut names);
        self.others.retain(|d, _| {
            let mut of = vec![];
            d.collect_symbols(&mut of);
            !of.iter().any(|name| names.contains(name))
        });
        for name in names {
            self.symbols.insert(name, None);
        }
    }

    fn dim(&self, inner: &Dim) -> Dim {
        // What is fed has a number in place of a name until all of it is found: the names outside may be those of the region.
        let mut named = inner.clone();
        let outer: Vec<&Dim> = self.others.values().collect();
        for (number, fed) in self.others.keys().enumerate() {
            let symbol = Dim::symbol(&format!("\0{number}"));
            named = if named == *fed { symbol } else { named.replace_op(fed, &symbol) };
        }
        let of = |name: &str| match name.strip_prefix('\0') {
            Some(number) => number.parse::<usize>().ok().and_then(|i| outer.get(i).map(|d| (*d).clone())),
            None => self.symbols.get(name).cloned().flatten(),
        };
        named.map_symbols(&of).unwrap_or_else(unknown)
    }

    fn shape(&self, inner: &[Dim]) -> Shape {
        inner.iter().map(|d| self.dim(d)).collect()
    }

    fn ty(&self, inner: &Type) -> Type {
        match inner {
            Type::Tensor(t) => Type::tensor(t.dtype, self.shape(&t.shape)),
            Type::Sequence(s) => Type::Sequence(Box::new(SeqType {
                dtype: s.dtype,
                shape: s.shape.as_ref().map(|s| self.shape(s)),
            })),
            Type::Optional(t) => Type::Optional(Box::new(self.ty(t))),
        }
    }
}

/// Whether a value of type `outer` may be given where `inner` is expected.
pub(crate) fn may_feed(inner: &Type, outer: &Type) -> bool {
    match (inner, outer) {
        (Type::Tensor(a), Type::Tensor(b)) => {
            a.dtype == b.dtype && dims::shapes_may_equal(&a.shape, &b.shape)
        }
        (Type::Sequence(a), Type::Sequence(b)) => {
            a.dtype == b.dtype
                && match (&a.shape, &b.shape) {
                    (Some(a), Some(b)) => dims::shapes_may_equal(a, b),
                    _ => true,
                }
        }
        (Type::Optional(a), Type::Optional(b)) => may_feed(a, b),
        _ => false,
    }
}

/// The dims of a type that symbols may name.
fn shape_of(ty: &Type) -> &[Dim] {
    match ty {
        Type::Tensor(t) => &t.shape,
        Type::Sequence(s) => s.shape.as_deref().unwrap_or_default(),
        Type::Optional(t) => shape_of(t),
    }
}

/// The type that both have, dims that differ being unknown; `None` if they have nothing in common.
fn join(a: &Type, b: &Type) -> Option<Type> {
    let dims = |a: &[Dim], b: &[Dim]| -> Option<Shape> {
        let dim = |(a, b): (&Dim, &Dim)| if a == b { a.clone() } else { unknown() };
        (a.len() == b.len()).then(|| a.iter().zip(b).map(dim).collect())
    };
    match (a, b) {
        (Type::Tensor(a), Type::Tensor(b)) if a.dtype == b.dtype => {
            Some(Type::tensor(a.dtype, dims(&a.shape, &b.shape)?))
        }
        (Type::Sequence(a), Type::Sequence(b)) if a.dtype == b.dtype => {
            let shape = match (&a.shape, &b.shape) {
                (Some(a), Some(b)) => dims(a, b),
                _ => None,
            };
            Some(Type::Sequence(Box::new(SeqType { dtype: a.dtype, shape })))
        }
        (Type::Optional(a), Type::Optional(b)) => Some(Type::Optional(Box::new(join(a, b)?))),
        _ => None,
    }
}

/// Types of a region's inputs and outputs.
fn signature(region: &Graph) -> (Vec<&Type>, Vec<&Type>) {
    let ty = |v: &crate::ValueId| region.ty(*v);
    (region.inputs().iter().map(ty).collect(), region.outputs().iter().map(ty).collect())
}

/// Feed the region's inputs from `first` on with operands, binding its symbols.
fn feed(
    call: &Call,
    bindings: &mut Bindings,
    region: usize,
    first: usize,
    operands: std::ops::Range<usize>,
) -> Result<(), String> {
    let inputs = signature(&call.regions[region]).0;
    for (input, operand) in (first..).zip(operands) {
        let outer = call.any(operand)?;
        let Some(inner) = inputs.get(input) else { return Err(arity(call, region)) };
        if !may_feed(inner, outer) {
            let name = call.op.info().regions[region];
            return Err(format!(
                "operand {operand} is {outer}, but input {input} of region `{name}` is {inner}"
            ));
        }
        bindings.bind(shape_of(inner), shape_of(outer));
    }
    Ok(())
}

fn arity(call: &Call, region: usize) -> String {
    let (inputs, outputs) = signature(&call.regions[region]);
    format!(
        "region `{}` has {} inputs and {} outputs, which does not fit {} operands",
        call.op.info().regions[region],
        inputs.len(),
        outputs.len(),
        call.operands.len()
    )
}

fn expect_scalar(what: &str, ty: &Type, dtype: DType) -> Result<(), String> {
    match ty {
        Type::Tensor(t) if t.dtype == dtype && t.const_len().is_none_or(|n| n == 1) => Ok(()),
        other => Err(format!("{what} is {other}, but must be a single {dtype}")),
    }
}

fn branch(call: &Call) -> Result<Vec<Type>, String> {
    expect_scalar("operand `cond`", call.any(0)?, DType::Bool)?;
    let mut outcomes = vec![];
    for region in 0..2 {
        let (inputs, outputs) = signature(&call.regions[region]);
        if inputs.len() != call.operands.len() - 1 {
            return Err(arity(call, region));
        }
        let mut bindings = Bindings::default();
        feed(call, &mut bindings, region, 0, 1..call.operands.len())?;
        outcomes.push(outputs.iter().map(|t| bindings.ty(t)).collect::<Vec<_>>());
    }
    let (then, other) = (&outcomes[0], &outcomes[1]);
    if then.len() != other.len() {
        return Err(format!("`then` has {} outputs and `else` {}", then.len(), other.len()));
    }
    let both = |(i, (a, b)): (usize, (&Type, &Type))| {
        join(a, b).ok_or_else(|| {
            format!("output {i} is {a} from `then`, but {b} from `else`: element type or rank differ")
        })
    };
    then.iter().zip(other).enumerate().map(both).collect()
}

/// Types of the values that a body carries from round to round, after the last one.
///
/// `inputs` and `outputs` are the body's; a dim that a round does not preserve is unknown.
fn carried(bindings: &mut Bindings, inputs: &[&Type], outputs: &[&Type]) -> Result<Vec<Type>, String> {
    for (i, (before, after)) in inputs.iter().zip(outputs).enumerate() {
        let alike = match (before, after) {
            (Type::Tensor(a), Type::Tensor(b)) => a.dtype == b.dtype && a.rank() == b.rank(),
            _ => join(before, after).is_some(),
        };
        if !alike {
            return Err(format!(
                "the body takes {before} as carried value {i}, but gives {after}: element type or rank differ"
            ));
        }
        for (b, a) in shape_of(before).iter().zip(shape_of(after)) {
            if a != b {
                bindings.forget(b);
            }
        }
    }
    Ok(inputs
        .iter()
        .zip(outputs)
        .map(|(b, a)| join(b, a).map_or_else(|| bindings.ty(b), |t| bindings.ty(&t)))
        .collect())
}

fn repeat(call: &Call) -> Result<Vec<Type>, String> {
    if let Some(trips) = call.optional(0) {
        expect_scalar("operand `trip_count`", trips, DType::I64)?;
    } else if call.attrs.flag("has_trip_count") {
        return Err("operand `trip_count` is left out, but `has_trip_count` is 1".into());
    }
    if let Some(cond) = call.optional(1) {
        expect_scalar("operand `cond`", cond, DType::Bool)?;
    } else if call.attrs.flag("has_cond") {
        return Err("operand `cond` is left out, but `has_cond` is 1".into());
    }
    let (inputs, outputs) = signature(&call.regions[0]);
    let count = call.count("carried")?;
    if inputs.len() != call.operands.len() || call.operands.len() - 2 < count || outputs.len() < count + 1 {
        return Err(arity(call, 0));
    }
    expect_scalar("the body's first input, the iteration,", inputs[0], DType::I64)?;
    expect_scalar("the body's second input, the condition,", inputs[1], DType::Bool)?;
    expect_scalar("the body's first output, the condition,", outputs[0], DType::Bool)?;
    let mut bindings = Bindings::default();
    feed(call, &mut bindings, 0, 2, 2..call.operands.len())?;
    let mut types = carried(&mut bindings, &inputs[2..2 + count], &outputs[1..1 + count])?;
    for scanned in &outputs[1 + count..] {
        types.push(stacked(&bindings, scanned, 0, unknown())?);
    }
    Ok(types)
}

/// The type of the values `element` of every round, stacked along a new axis.
fn stacked(bindings: &Bindings, element: &Type, axis: usize, rounds: Dim) -> Result<Type, String> {
    let t = element.as_tensor().ok_or_else(|| format!("the scanned value is {element}, not a tensor"))?;
    if axis > t.rank() {
        return Err(format!("the scanned value {t} has no place for a new axis {axis}"));
    }
    let mut shape = bindings.shape(&t.shape);
    shape.insert(axis, rounds);
    Ok(Type::tensor(t.dtype, shape))
}

/// An attribute that lists axes, as indices.
fn axes(call: &Call, name: &str, len: usize) -> Result<Vec<usize>, String> {
    Ok(call.extents(name, len, 0)?.iter().map(|&a| a as usize).collect())
}

fn flags(call: &Call, name: &str, len: usize) -> Result<(), String> {
    let v = call.extents(name, len, 0)?;
    if v.iter().all(|f| *f <= 1) {
        Ok(())
    } else {
        Err(format!("`{name}` is {v:?}, but its entries must be 0 or 1"))
    }
}

fn scan(call: &Call) -> Result<Vec<Type>, String> {
    let (inputs, outputs) = signature(&call.regions[0]);
    let (count, scans) = (call.count("carried")?, call.count("scans")?);
    if inputs.len() != call.operands.len() || call.operands.len() < count + scans || outputs.len() < count {
        return Err(arity(call, 0));
    }
    if scans == 0 {
        return Err("`scans` is 0: nothing says how many rounds there are".into());
    }
    let input_axes = axes(call, "input_axes", scans)?;
    let output_axes = axes(call, "output_axes", outputs.len() - count)?;
    flags(call, "input_reverse", scans)?;
    flags(call, "output_reverse", outputs.len() - count)?;

    let mut bindings = Bindings::default();
    feed(call, &mut bindings, 0, 0, 0..count)?;
    let mut rounds: Option<Dim> = None;
    for (i, &axis) in input_axes.iter().enumerate() {
        let (t, inner) = (call.tensor(count + i)?, inputs[count + i]);
        if axis >= t.rank() {
            return Err(format!("operand {} is {t}, which has no axis {axis}", count + i));
        }
        let length = t.shape[axis].clone();
        rounds = Some(match rounds {
            None => length,
            Some(other) => dims::same(&other, &length).ok_or_else(|| {
                format!("operand {} is {t}, but the other sequences have {other} elements", count + i)
            })?,
        });
        let mut element = t.shape.clone();
        element.remove(axis);
        let element = Type::Tensor(TensorType::new(t.dtype, element));
        if !may_feed(inner, &element) {
            return Err(format!(
                "the elements of operand {} are {element}, but the body takes {inner}",
                count + i
            ));
        }
        bindings.bind(shape_of(inner), shape_of(&element));
    }
    feed(call, &mut bindings, 0, count + scans, count + scans..call.operands.len())?;
    let mut types = carried(&mut bindings, &inputs[..count], &outputs[..count])?;
    let rounds = rounds.unwrap_or_else(unknown);
    for (element, axis) in outputs[count..].iter().zip(output_axes) {
        types.push(stacked(&bindings, element, axis, rounds.clone())?);
    }
    Ok(types)
}

fn sequence_map(call: &Call) -> Result<Vec<Type>, String> {
    let (inputs, outputs) = signature(&call.regions[0]);
    let count = call.count("inputs")?;
    if inputs.len() != call.operands.len() || call.operands.len() < count || count == 0 {
        return Err(arity(call, 0));
    }
    flags(call, "is_sequence", count)?;
    let is_sequence = call.attrs.ints("is_sequence");
    if is_sequence[0] != 1 {
        return Err("`is_sequence` begins with 0, but the first operand must be a sequence".into());
    }
    let mut bindings = Bindings::default();
    for (i, inner) in inputs.iter().enumerate().take(count) {
        let outer = call.any(i)?;
        if is_sequence[i] == 0 {
            feed(call, &mut bindings, 0, i, i..i + 1)?;
            continue;
        }
        let (Type::Sequence(s), Type::Tensor(t)) = (outer, inner) else {
            return Err(format!(
                "operand {i} is {outer} and the body's input {inner}, not a sequence and a tensor"
            ));
        };
        let fits =
            s.dtype == t.dtype && s.shape.as_ref().is_none_or(|s| dims::shapes_may_equal(s, &t.shape));
        if !fits {
            return Err(format!(
                "the elements of operand {i}, {outer}, do not fit the body's input {inner}"
            ));
        }
        // A symbol among the elements' dims differs from element to element.
        for (dim, outer) in t.shape.iter().zip(s.shape.iter().flatten()) {
            match outer.as_const() {
                Some(_) => bindings.bind(std::slice::from_ref(dim), std::slice::from_ref(outer)),
                None => bindings.forget(dim),
            }
        }
    }
    feed(call, &mut bindings, 0, count, count..call.operands.len())?;
    let sequence = |ty: &&Type| match ty {
        Type::Tensor(t) => {
            Ok(Type::Sequence(Box::new(SeqType { dtype: t.dtype, shape: Some(bindings.shape(&t.shape)) })))
        }
        other => Err(format!("the body gives {other}, but the elements of a sequence are tensors")),
    };
    outputs.iter().map(sequence).collect()
}
