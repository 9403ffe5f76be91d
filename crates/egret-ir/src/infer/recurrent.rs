//! Recurrent cells.

use super::{Call, check, dims};
use crate::families::Recurrent;
use crate::{DType, Dim, Op, TensorType, Type};

/// The types of the results of an operation of this family.
pub(super) fn infer(op: Recurrent, call: &Call) -> Result<Vec<Type>, String> {
    match op {
        Recurrent::Lstm | Recurrent::Gru | Recurrent::Rnn => recurrent(call),
    }
}

/// The activations of ONNX's recurrent operators.
const ACTIVATIONS: [&str; 11] = [
    "Relu",
    "Tanh",
    "Sigmoid",
    "Affine",
    "LeakyRelu",
    "ThresholdedRelu",
    "ScaledTanh",
    "HardSigmoid",
    "Elu",
    "Softsign",
    "Softplus",
];

/// The place of an LSTM's `scale` among its operands.
const SCALE: usize = 8;

fn recurrent(call: &Call) -> Result<Vec<Type>, String> {
    let (gates, functions) = match call.op {
        Op::Lstm => (4, 3),
        Op::Gru => (3, 2),
        _ => (1, 1),
    };
    let x = call.tensor(0)?;
    call.expect_rank(0, x, 3)?;
    if !check::within("float", x.dtype) {
        return Err(format!("operand `x` is {x}, but its element type must be a float"));
    }
    let direction = call.attrs.str("direction");
    let directions: i64 = if direction == "bidirectional" { 2 } else { 1 };
    let hidden = call.attrs.int("hidden");
    if !(1..=check::MAX_EXTENT).contains(&hidden) {
        return Err(format!("`hidden` is {hidden}, but must be positive"));
    }
    check_activations(call, functions * directions as usize)?;
    let clip = call.attrs.float("clip");
    if clip.is_nan() || clip < 0.0 {
        return Err(format!("`clip` is {clip}, but must not be negative"));
    }

    let [time, batch, input] = [&x.shape[0], &x.shape[1], &x.shape[2]].map(Dim::clone);
    let (d, h) = (Dim::constant(directions), Dim::constant(hidden));
    let scaled = |n: i64| Dim::constant(n * hidden);
    let expect = |i: usize, t: &TensorType, shape: &[Dim]| {
        call.expect_dtype(i, t, x.dtype)?;
        if dims::shapes_may_equal(&t.shape, shape) {
            Ok(())
        } else {
            Err(format!("{} is {t}, but its shape must be {shape:?}", call.operand_name(i)))
        }
    };
    match call.optional_tensor(1)? {
        Some(w) => expect(1, w, &[d.clone(), scaled(gates), input])?,
        None => {
            let all = [time.clone(), batch.clone(), Dim::constant(directions * gates * hidden)];
            expect(0, x, &all)?;
            if call.optional_tensor(3)?.is_some() {
                return Err("operand `b` is there, but without `w` biases are a part of `x`".to_owned());
            }
        }
    }
    let r = call.tensor(2)?;
    if call.operands.get(SCALE).copied().flatten().is_some() {
        call.expect_dtype(2, r, DType::I8)?;
        let shape = [d.clone(), scaled(gates), h.clone()];
        if !dims::shapes_may_equal(&r.shape, &shape) {
            return Err(format!("operand `r` is {r}, but its shape must be {shape:?}"));
        }
    } else {
        expect(2, r, &[d.clone(), scaled(gates), h.clone()])?;
    }
    let state = vec![d.clone(), batch.clone(), h.clone()];
    if let Some(b) = call.optional_tensor(3)? {
        expect(3, b, &[d.clone(), scaled(2 * gates)])?;
    }
    if let Some(lengths) = call.optional_tensor(4)?
        && (!lengths.dtype.is_int()
            || !dims::shapes_may_equal(&lengths.shape, std::slice::from_ref(&batch)))
    {
        return Err(format!(
            "operand `lengths` is {lengths}, but must be integers, one for each of {batch}"
        ));
    }
    for i in 5..call.operands.len() {
        if let Some(t) = call.optional_tensor(i)? {
            match i {
                5 | 6 => expect(i, t, &state)?,
                SCALE => expect(i, t, &[d.clone(), scaled(gates)])?,
                _ => expect(i, t, &[d.clone(), scaled(3)])?,
            }
        }
    }
    let mut results =
        vec![Type::tensor(x.dtype, vec![time, d, batch, h]), Type::tensor(x.dtype, state.clone())];
    if call.op == Op::Lstm {
        results.push(Type::tensor(x.dtype, state));
    }
    Ok(results)
}

fn check_activations(call: &Call, count: usize) -> Result<(), String> {
    let names = call.attrs.strings("activations");
    if names.len() != count {
        return Err(format!("`activations` are {names:?}, but must be {count}"));
    }
    match names.iter().find(|n| !ACTIVATIONS.iter().any(|a| a.eq_ignore_ascii_case(n))) {
        Some(bad) => Err(format!("`activations` names the unknown function {bad:?}")),
        None => Ok(()),
    }
}
