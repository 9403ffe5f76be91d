//! Control flow: operations whose regions run as graphs of their own.

use super::bounds::Around;
use super::movement::{join, permuted};
use super::run::run;
use super::support::*;
use crate::families::Control;
use crate::{Attrs, DType, DimEnv, Graph, Op, Tensor, Type, Value};

/// Evaluate a control operation; the symbols around it are visible in the regions.
pub(super) fn eval(
    op: Control,
    attrs: &Attrs,
    operands: &[Option<Value>],
    regions: &[Graph],
    around: Around<'_>,
) -> Res<Vec<Value>> {
    let region =
        |i: usize| regions.get(i).ok_or_else(|| error(format!("{} has no region {i}", Op::from(op))));
    match op {
        Control::If => {
            let branch = region(usize::from(!truth(value(operands, 0)?)?))?;
            run(branch, &present(operands, 1)?, around)
        }
        Control::Loop => loop_(attrs, operands, region(0)?, around),
        Control::Scan => scan(attrs, operands, region(0)?, around),
        Control::SequenceMap => sequence_map(attrs, operands, region(0)?, around),
    }
}

/// The operands from `from` on, none left out.
fn present(operands: &[Option<Value>], from: usize) -> Res<Vec<Value>> {
    (from..operands.len()).map(|i| value(operands, i).cloned()).collect()
}

/// A bool of one element.
fn truth(v: &Value) -> Res<bool> {
    match v.as_tensor() {
        Some(t) if t.dtype() == DType::Bool && t.len() == 1 => Ok(t.bytes()[0] != 0),
        _ => fail("the condition is no single bool"),
    }
}

/// An attribute that counts operands.
fn count_attr(attrs: &Attrs, name: &str, most: usize) -> Res<usize> {
    let v = attrs.int(name);
    usize::try_from(v)
        .ok()
        .filter(|&v| v <= most)
        .ok_or_else(|| error(format!("`{name}` is {v}, there are {most} operands")))
}

/// A scalar in the rank (0 or 1) that the region declares for its input.
fn scalar_input(body: &Graph, i: usize, scalar: Tensor) -> Value {
    let rank = body.inputs().get(i).and_then(|&v| body.ty(v).as_tensor()).map_or(0, |t| t.rank());
    Value::Tensor(if rank == 1 { scalar.reshaped(&[1]) } else { scalar })
}

fn loop_(attrs: &Attrs, operands: &[Option<Value>], body: &Graph, around: Around<'_>) -> Res<Vec<Value>> {
    let carried = count_attr(attrs, "carried", operands.len().saturating_sub(2))?;
    let trips = match attrs.flag("has_trip_count") {
        true => super::convert::ints(tensor(operands, 0)?)?.first().copied(),
        false => None,
    };
    let conditional = attrs.flag("has_cond");
    if trips.is_none() && !conditional {
        return fail("a loop without trip count and condition never ends");
    }
    let mut go = !conditional || truth(value(operands, 1)?)?;
    let rest = present(operands, 2)?;
    let (mut state, captures) = (rest[..carried].to_vec(), &rest[carried..]);
    let env = inside(around.env, body, (2..).zip(rest.iter().map(shape)));
    let scanned = body
        .outputs()
        .len()
        .checked_sub(1 + carried)
        .ok_or_else(|| error("the body gives too few values"))?;
    let mut rows: Vec<Vec<Value>> = vec![vec![]; scanned];
    let mut i = 0;
    while go && trips.is_none_or(|t| i < t) {
        around.trip()?;
        let mut inputs = vec![
            scalar_input(body, 0, Tensor::scalar(i)),
            scalar_input(body, 1, Tensor::from_bools(&[], &[true])),
        ];
        inputs.append(&mut state);
        inputs.extend_from_slice(captures);
        let mut results = run(body, &inputs, around)?.into_iter();
        if let Some(next) = results.next()
            && conditional
        {
            go = truth(&next)?;
        }
        state = results.by_ref().take(carried).collect();
        rows.iter_mut().zip(results).for_each(|(row, v)| row.push(v));
        i += 1;
    }
    for (k, row) in rows.into_iter().enumerate() {
        state.push(stack(&row, 0, false, body.ty(body.outputs()[1 + carried + k]), &env)?);
    }
    Ok(state)
}

fn shape(v: &Value) -> &[usize] {
    v.as_tensor().map_or(&[], Tensor::shape)
}

/// The symbols that a body sees whose inputs, by their numbers, are of these shapes: what is known of its results where it does not run.
fn inside<'a>(env: &DimEnv, body: &Graph, inputs: impl Iterator<Item = (usize, &'a [usize])>) -> DimEnv {
    let mut env = env.clone();
    for (i, shape) in inputs {
        let ty = body.inputs().get(i).and_then(|&v| body.ty(v).as_tensor());
        for (dim, &n) in ty.iter().flat_map(|t| &t.shape).zip(shape) {
            env.extend(dim.as_symbol().map(|name| (name.to_owned(), n as i64)));
        }
    }
    env
}

/// Values stacked along a new axis; of none at all the result is empty, its other dims those of the type where known.
fn stack(rows: &[Value], axis: i64, reverse: bool, ty: &Type, env: &DimEnv) -> Res<Value> {
    let mut parts: Vec<&Tensor> = rows
        .iter()
        .map(|v| v.as_tensor().ok_or_else(|| error("a scanned value is no tensor")))
        .collect::<Res<_>>()?;
    if reverse {
        parts.reverse();
    }
    let rank = match (parts.first(), ty) {
        (Some(p), _) => p.rank() + 1,
        (None, Type::Tensor(t)) => t.rank() + 1,
        (None, _) => return fail("a scanned value is no tensor"),
    };
    let axis = wrap_index(axis, rank)?;
    if let (true, Type::Tensor(t)) = (parts.is_empty(), ty) {
        let mut shape: Vec<usize> = t
            .shape
            .iter()
            .map(|d| d.eval(env).and_then(|d| usize::try_from(d).ok()).unwrap_or(0))
            .collect();
        shape.insert(axis, 0);
        return Ok(Value::Tensor(match t.dtype {
            DType::String => Tensor::from_strings(&shape, vec![]),
            dtype => Tensor::from_bytes(dtype, &shape, &[]),
        }));
    }
    let grown: Vec<Tensor> = parts
        .iter()
        .map(|p| {
            let mut shape = p.shape().to_vec();
            shape.insert(axis.min(p.rank()), 1);
            p.reshaped(&shape)
        })
        .collect();
    Ok(Value::Tensor(join(&grown.iter().collect::<Vec<_>>(), axis)?))
}

fn scan(attrs: &Attrs, operands: &[Option<Value>], body: &Graph, around: Around<'_>) -> Res<Vec<Value>> {
    let carried = count_attr(attrs, "carried", operands.len())?;
    let scans = count_attr(attrs, "scans", operands.len() - carried)?;
    let all = present(operands, 0)?;
    let mut state = all[..carried].to_vec();
    let captures = &all[carried + scans..];
    let entry = |name: &str, i: usize| attrs.ints(name).get(i).copied().unwrap_or(0);
    // Every sequence with its axis in front.
    let mut sequences = vec![];
    let mut length = None;
    for (i, v) in all[carried..carried + scans].iter().enumerate() {
        let t = v.as_tensor().ok_or_else(|| error(format!("scan input {i} is no tensor")))?;
        let axis = wrap_index(entry("input_axes", i), t.rank())?;
        let perm: Vec<usize> = std::iter::once(axis).chain((0..t.rank()).filter(|&a| a != axis)).collect();
        let n = *length.get_or_insert(t.shape()[axis]);
        if t.shape()[axis] != n {
            return fail(format!("scan input {i} has {} elements where {n} are needed", t.shape()[axis]));
        }
        sequences.push(permuted(t, &perm)?);
    }
    let length = length.ok_or_else(|| error("a scan over nothing"))?;
    let elements = sequences.iter().map(|t| t.shape().get(1..).unwrap_or_default());
    let shapes = state.iter().map(shape).chain(elements).chain(captures.iter().map(shape));
    let env = inside(around.env, body, (0..).zip(shapes));
    let outputs =
        body.outputs().len().checked_sub(carried).ok_or_else(|| error("the body gives too few values"))?;
    let mut rows: Vec<Vec<Value>> = vec![vec![]; outputs];
    for step in 0..length {
        let mut inputs = std::mem::take(&mut state);
        for (i, t) in sequences.iter().enumerate() {
            let at = if entry("input_reverse", i) != 0 { length - 1 - step } else { step };
            let n = t.len() / length;
            inputs.push(Value::Tensor(select(
                t,
                None,
                &t.shape()[1..],
                &(at * n..(at + 1) * n).collect::<Vec<_>>(),
            )?));
        }
        inputs.extend_from_slice(captures);
        let mut results = run(body, &inputs, around)?.into_iter();
        state = results.by_ref().take(carried).collect();
        rows.iter_mut().zip(results).for_each(|(row, v)| row.push(v));
    }
    for (k, row) in rows.into_iter().enumerate() {
        let ty = body.ty(body.outputs()[carried + k]);
        state.push(stack(&row, entry("output_axes", k), entry("output_reverse", k) != 0, ty, &env)?);
    }
    Ok(state)
}

fn sequence_map(
    attrs: &Attrs,
    operands: &[Option<Value>],
    body: &Graph,
    around: Around<'_>,
) -> Res<Vec<Value>> {
    let inputs = count_attr(attrs, "inputs", operands.len())?;
    let all = present(operands, 0)?;
    let sequence = |i: usize| attrs.ints("is_sequence").get(i).is_some_and(|&v| v != 0);
    let mut length = None;
    for (i, v) in all[..inputs].iter().enumerate().filter(|(i, _)| sequence(*i)) {
        let Value::Sequence(items) = v else { return fail(format!("operand {i} is no sequence")) };
        if *length.get_or_insert(items.len()) != items.len() {
            return fail(format!("operand {i} has another length than the first sequence"));
        }
    }
    let mut out = vec![vec![]; body.outputs().len()];
    for step in 0..length.ok_or_else(|| error("sequence_map of no sequence"))? {
        let given: Vec<Value> = all
            .iter()
            .enumerate()
            .map(|(i, v)| match v {
                Value::Sequence(items) if i < inputs && sequence(i) => items[step].clone(),
                other => other.clone(),
            })
            .collect();
        out.iter_mut().zip(run(body, &given, around)?).for_each(|(o, v)| o.push(v));
    }
    Ok(out.into_iter().map(Value::Sequence).collect())
}

#[cfg(test)]
mod tests {
    use super::super::eval_op;
    use super::*;
    use crate::{NodeId, attrs};

    fn i64s() -> Type {
        Type::tensor(DType::I64, vec![])
    }

    /// (iteration, cond, sum) -> (cond, sum + iteration, sum + iteration)
    fn adder(with_cond: bool) -> Graph {
        let mut g = Graph::new("body");
        let i = g.add_input("i", i64s());
        let cond = with_cond.then(|| g.add_input("c", Type::tensor(DType::Bool, vec![])));
        let sum = g.add_input("s", i64s());
        let NodeId(_) = g.add_node(
            Op::Add,
            attrs! {},
            vec![Some(sum), Some(i)],
            vec![],
            vec![i64s()],
            Default::default(),
        );
        let next = g.node(g.node_ids()[0]).results[0];
        if let Some(c) = cond {
            g.add_output("c", c);
        }
        g.add_output("s", next);
        g.add_output("each", next);
        g
    }

    #[test]
    fn loops() {
        let a = attrs! { carried: 1, has_trip_count: 1, has_cond: 0 };
        let operands = [Some(Tensor::scalar(4i64).into()), None, Some(Tensor::scalar(10i64).into())];
        let out = eval_op(Op::Loop, &a, &operands, &[adder(true)]).unwrap();
        assert_eq!(out[0].as_tensor().unwrap().data::<i64>(), [16]);
        assert_eq!(out[1].as_tensor().unwrap().data::<i64>(), [10, 11, 13, 16]);
        let none = [Some(Tensor::scalar(0i64).into()), None, Some(Tensor::scalar(10i64).into())];
        let out = eval_op(Op::Loop, &a, &none, &[adder(true)]).unwrap();
        assert_eq!(out[1].as_tensor().unwrap().shape(), [0]);
        let endless = attrs! { carried: 1, has_trip_count: 0, has_cond: 0 };
        assert!(eval_op(Op::Loop, &endless, &operands, &[adder(true)]).is_err());
    }

    #[test]
    fn scans() {
        // The body's first input is the state, its second the element.
        let a = attrs! { carried: 1, scans: 1, input_axes: vec![0], input_reverse: vec![1], output_axes: vec![0], output_reverse: vec![0] };
        let operands =
            [Some(Tensor::scalar(0i64).into()), Some(Tensor::new(&[3], vec![1i64, 2, 3]).into())];
        let out = eval_op(Op::Scan, &a, &operands, &[adder(false)]).unwrap();
        assert_eq!(out[0].as_tensor().unwrap().data::<i64>(), [6]);
        assert_eq!(out[1].as_tensor().unwrap().data::<i64>(), [3, 5, 6]);
    }

    #[test]
    fn branches_and_maps() {
        let cond = |c: bool| {
            [
                Some(Tensor::from_bools(&[], &[c]).into()),
                Some(Tensor::scalar(1i64).into()),
                Some(Tensor::scalar(2i64).into()),
            ]
        };
        let mut other = Graph::new("else");
        other.add_input("a", i64s());
        let b = other.add_input("b", i64s());
        other.add_output("o", b);
        let then = |c: bool| {
            eval_op(Op::If, &attrs! {}, &cond(c), &[adder(false), other.clone()]).unwrap()[0].clone()
        };
        assert_eq!(then(true), Tensor::scalar(3i64).into());
        assert_eq!(then(false), Tensor::scalar(2i64).into());
        let seq = Value::Sequence(vec![Tensor::scalar(1i64).into(), Tensor::scalar(2i64).into()]);
        let a = attrs! { inputs: 2, is_sequence: vec![1, 0] };
        let out =
            eval_op(Op::SequenceMap, &a, &[Some(seq), Some(Tensor::scalar(5i64).into())], &[adder(false)])
                .unwrap();
        assert_eq!(out[0], Value::Sequence(vec![Tensor::scalar(6i64).into(), Tensor::scalar(7i64).into()]));
    }
}
