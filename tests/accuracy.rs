//! How far long sums of compiled code are off, against sums in f64.
//!
//! An f32 sum that takes up n summands one after another loses about 2.5e-8 * sqrt(n / 2) of its size by rounding (measured, rms), one
//! in m blocks of b about 2.5e-8 * sqrt((b + m) / 2). The bounds hold sums to blocks, with half as much to spare.

use egret::ir::{Builder, Op, Tensor, Type, Value, ValueId, attrs, interp, text};
use egret::{Engine, Executable, Options};
use std::collections::BTreeMap;

fn tensor(spec: &str) -> Tensor {
    text::parse_tensor(spec, &|_| None).unwrap_or_else(|e| panic!("{spec}: {e}"))
}

/// The relative rms error of a graph over inputs, compiled with and without wide vectors; the interpreter sums in f64.
fn errors(inputs: &[Tensor], build: impl Fn(&mut Builder, &[ValueId]) -> ValueId) -> Vec<f64> {
    let mut b = Builder::new("sums");
    let ids: Vec<ValueId> =
        inputs.iter().enumerate().map(|(i, t)| b.input(&format!("x{i}"), Type::Tensor(t.ty()))).collect();
    let y = build(&mut b, &ids);
    b.output("y", y);
    let inputs: Vec<Value> = inputs.iter().cloned().map(Value::Tensor).collect();
    let floats = |values: Vec<Value>| values[0].as_tensor().unwrap().data::<f32>().to_vec();
    let want = floats(interp::run(&b.graph, &inputs).unwrap());
    let rms = |v: Vec<f64>| (v.iter().map(|x| x * x).sum::<f64>() / v.len() as f64).sqrt();
    let scale = rms(want.iter().map(|&x| x.into()).collect());
    [true, false]
        .into_iter()
        .map(|wide| {
            let options = Options { wide, threads: 1, ..Options::default() };
            let run = Executable::new(b.graph.clone(), Engine::Jit, &options, &BTreeMap::new()).unwrap();
            let got = floats(run.run(&inputs).unwrap());
            rms(want.iter().zip(got).map(|(w, g)| f64::from(g) - f64::from(*w)).collect()) / scale
        })
        .collect()
}

fn hold(what: &str, bound: f64, inputs: &[Tensor], build: impl Fn(&mut Builder, &[ValueId]) -> ValueId) {
    let found = errors(inputs, build);
    assert!(found.iter().all(|e| *e < bound), "{what}: {found:?}, not below {bound:e}");
}

#[test]
fn matrix_products() {
    for (rows, k, cols, bound) in
        [(16, 576, 96, 3e-7), (24, 1536, 64, 3e-7), (16, 4096, 80, 4e-7), (1, 4096, 200, 4e-7)]
    {
        let inputs = [
            tensor(&format!("f32[{rows}, {k}] random(1)")),
            tensor(&format!("f32[{k}, {cols}] random(2)")),
        ];
        hold(&format!("{rows}x{k}x{cols}"), bound, &inputs, |b, x| {
            b.emit(Op::Matmul, attrs! {}, x).unwrap()
        });
    }
}

/// Sums of squares, whose partial sums only grow: along the row, across rows, over two axes.
#[test]
fn reductions() {
    for (ty, axes) in
        [("f32[4, 1000000]", vec![1i64]), ("f32[20000, 40]", vec![0]), ("f32[4000, 5, 7]", vec![0, 1])]
    {
        let inputs = [tensor(&format!("{ty} random(3)"))];
        hold(&format!("{ty} over {axes:?}"), 5e-7, &inputs, |b, x| {
            let square = b.emit(Op::Mul, attrs! {}, &[x[0], x[0]]).unwrap();
            b.emit(Op::Reduce, attrs! {kind: "sum", axes: axes.clone(), keepdims: false}, &[square])
                .unwrap()
        });
    }
}

/// Powers of f32, by a constant and by an operand: each within 4e-7 of the exact value.
#[test]
fn powers() {
    let numbers = tensor("f32[5000] random(4)");
    // Of every size between 1e-6 and 1e6.
    let base: Vec<f32> =
        numbers.data::<f32>().iter().map(|x| 10f32.powf(3.0 * x.clamp(-2.0, 2.0))).collect();
    let x =
        Tensor::from_f64s(egret::ir::DType::F32, &[base.len()], base.iter().map(|&x| x.into()).collect());
    let exponents: Vec<f32> = (-16..=16).map(|q| q as f32 / 4.0).chain([0.3, -1.7, 5.5]).collect();
    for (constant, wide) in [(true, true), (true, false), (false, true), (false, false)] {
        for &exponent in &exponents {
            let mut b = Builder::new("powers");
            let input = b.input("x", Type::Tensor(x.ty()));
            let scalar = Tensor::scalar(exponent);
            let y =
                if constant { b.constant(scalar.clone()) } else { b.input("y", Type::Tensor(scalar.ty())) };
            let power = b.emit(Op::Pow, attrs! {}, &[input, y]).unwrap();
            b.output("power", power);
            let mut inputs = vec![Value::Tensor(x.clone())];
            inputs.extend((!constant).then_some(Value::Tensor(scalar)));
            let options = Options { wide, threads: 1, ..Options::default() };
            let run = Executable::new(b.graph, Engine::Jit, &options, &BTreeMap::new()).unwrap();
            let got = run.run(&inputs).unwrap();
            for (x, got) in base.iter().zip(got[0].as_tensor().unwrap().data::<f32>()) {
                let want = f64::from(*x).powf(exponent.into());
                let error = (f64::from(*got) - want).abs() / want.max(f32::MIN_POSITIVE.into());
                assert!(
                    error <= 4e-7,
                    "{x} ^ {exponent} = {got}, not {want} (constant {constant}, wide {wide})"
                );
            }
        }
    }
}
