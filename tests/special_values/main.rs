//! Special values (NaN, infinities, signed zeros, denormals, extremes) through every operation and element type on every engine.
//!
//! The reference interpreter says what is right. Where the result is defined exactly (arithmetic, comparisons, selections,
//! conversions, maxima) engines agree bit for bit, but for which NaN it is; functions such as `exp` have a tolerance.

mod rows;

use egret::ir::interp::Bounds;
use egret::ir::{
    Attrs, Builder, DType, Denormals, Dim, Family, Graph, Op, Tensor, Type, Value, ValueId, attrs, interp,
};
use egret::{Engine, Executable, Options};
use egret_workspace::law::flushed;
use egret_workspace::special::SPECIAL;
use std::collections::BTreeMap;

/// Element types that compiled code holds.
const DTYPES: [DType; 13] = [
    DType::F16,
    DType::BF16,
    DType::F32,
    DType::F64,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::Bool,
];

fn cast(values: &[f64], dtype: DType, shape: &[usize]) -> Tensor {
    Tensor::from_f64s(dtype, shape, values.to_vec())
}

/// Every pair of special values: 41 * 41 is a multiple of no vector length.
fn pairs(dtype: DType) -> [Tensor; 2] {
    let n = SPECIAL.len() * SPECIAL.len();
    let first: Vec<f64> = (0..n).map(|i| SPECIAL[i / SPECIAL.len()]).collect();
    let second: Vec<f64> = (0..n).map(|i| SPECIAL[i % SPECIAL.len()]).collect();
    [cast(&first, dtype, &[n]), cast(&second, dtype, &[n])]
}

/// The attributes that elementwise operations are held with.
fn variants(op: Op, dtype: DType) -> Vec<Attrs> {
    match op {
        Op::Mod => vec![attrs! { fmod: 0i64 }, attrs! { fmod: 1i64 }],
        Op::IsInf => vec![
            attrs! { positive: 1i64, negative: 0i64 },
            attrs! { positive: 0i64, negative: 1i64 },
            attrs! { positive: 1i64, negative: 1i64 },
        ],
        Op::Gelu => vec![attrs! { approximate: "none" }, attrs! { approximate: "tanh" }],
        Op::Cast => DTYPES
            .into_iter()
            .filter(|&to| to != dtype)
            .map(|to| attrs! { to: to, saturate: 1i64, round: "nearest" })
            .collect(),
        _ => vec![attrs! {}],
    }
}

/// Whether the result is defined to the bit.
fn is_exact(op: Op) -> bool {
    !matches!(
        op,
        Op::Exp
            | Op::Log
            | Op::Sin
            | Op::Cos
            | Op::Tan
            | Op::Asin
            | Op::Acos
            | Op::Atan
            | Op::Sinh
            | Op::Cosh
            | Op::Tanh
            | Op::Asinh
            | Op::Acosh
            | Op::Atanh
            | Op::Erf
            | Op::Sigmoid
            | Op::Gelu
            | Op::Softplus
            | Op::Silu
            | Op::HardSwish
            | Op::Pow
            | Op::Softmax
            | Op::LayerNorm
            | Op::RmsNorm
            | Op::Reduce
    )
}

/// An output of a graph.
struct Output {
    op: Op,
    /// What made it, in words.
    what: String,
    /// Whether it is defined to the bit.
    exact: bool,
}

impl Output {
    fn new(op: Op, attrs: &Attrs) -> Output {
        Output { op, what: format!("{op} {attrs:?}"), exact: is_exact(op) }
    }
}

type Outputs = Vec<Output>;

/// A graph of every elementwise operation that takes a dtype, on `x` and `y` (and a condition `c`).
fn elementwise(dtype: DType, after_product: bool) -> Option<(Graph, Outputs, Vec<Value>)> {
    let mut b = Builder::new("special");
    let [x, y] = pairs(dtype);
    let n = x.len();
    let every_third: Vec<u8> = (0..n).map(|i| u8::from(i % 3 == 0)).collect();
    let condition = Tensor::from_bytes(DType::Bool, &[n], &every_third);
    let mut tensors = vec![x, y, condition];
    if after_product {
        for t in &mut tensors[..2] {
            *t = Tensor::from_bytes(dtype, &[n, 1], t.bytes());
        }
        tensors[2] = Tensor::from_bytes(DType::Bool, &[n, 1], &every_third);
    }
    let mut inputs: Vec<ValueId> =
        ["x", "y", "c"].iter().zip(&tensors).map(|(name, t)| b.input(name, Type::Tensor(t.ty()))).collect();
    if after_product {
        // x as a product with a row of ones: what follows is the epilogue of a tile.
        let ones = b.constant(cast(&[1.0; 16], dtype, &[1, 16]));
        inputs[0] = b.emit(Op::Matmul, attrs! {}, &[inputs[0], ones]).ok()?;
    }
    let mut outputs = vec![];
    for op in Op::all().filter(|op| op.is_elementwise()) {
        let operands: &[ValueId] = match (op, op.info().operands.len()) {
            (Op::Where, _) => &[inputs[2], inputs[0], inputs[1]],
            (_, 1) => &inputs[..1],
            (_, 2) => &inputs[..2],
            _ => continue,
        };
        for attrs in variants(op, dtype) {
            if let Ok(v) = b.emit(op, attrs.clone(), operands) {
                b.output(&format!("{op}{}", outputs.len()), v);
                outputs.push(Output::new(op, &attrs));
            }
        }
    }
    Some((b.graph, outputs, tensors.into_iter().map(Value::Tensor).collect()))
}

/// A graph of every elementwise operation of two operands, one of which is a constant: these have short forms and rules of their own.
fn with_constants(dtype: DType) -> (Graph, Outputs, Vec<Value>) {
    let mut b = Builder::new("special");
    let x = cast(&SPECIAL, dtype, &[SPECIAL.len()]);
    let input = b.input("x", Type::Tensor(x.ty()));
    let mut outputs = vec![];
    let numbers = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    // Exponents of short powers, and two of none.
    let quarters =
        (-13..=13).map(|q| f64::from(q) / 4.0).chain([0.3, 5.0]).filter(|q| !numbers.contains(q));
    let exponents: Vec<f64> = quarters.filter(|_| dtype.is_float()).collect();
    for op in Op::all().filter(|op| op.is_elementwise() && op.info().operands.len() == 2) {
        let more: &[f64] = if op == Op::Pow { &exponents } else { &[] };
        for &number in numbers.iter().chain(more) {
            let constant = b.constant(cast(&[number], dtype, &[]));
            for operands in [[input, constant], [constant, input]] {
                for attrs in variants(op, dtype) {
                    if let Ok(v) = b.emit(op, attrs.clone(), &operands) {
                        b.output(&format!("{op}{}", outputs.len()), v);
                        outputs.push(Output::new(op, &attrs));
                    }
                }
            }
        }
    }
    (b.graph, outputs, vec![Value::Tensor(x)])
}

/// Rows of special values under operations that look for extremes, sort, sum or pool.
fn extremes(dtype: DType) -> (Graph, Outputs, Vec<Value>) {
    let mut b = Builder::new("special");
    // Every rotation of the values, so that each stands in every place; and rows of few values, so that there are ties.
    let n = SPECIAL.len();
    let mut values: Vec<f64> = (0..n * n).map(|i| SPECIAL[(i / n + i % n) % n]).collect();
    values.extend(
        (0..n * n)
            .map(|i| [0.0, -0.0, 1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY][(i * i + i / 7) % 6]),
    );
    values.extend((0..n * n).map(|i| [0.0, -0.0, -1.0][(i + i / n) % 3]));
    let t = cast(&values, dtype, &[1, 3, n, n]);
    let x = b.input("x", Type::Tensor(t.ty()));
    let mut outputs: Outputs = vec![];
    let mut hold = |b: &mut Builder, op: Op, attrs: Attrs| {
        if let Ok(v) = b.emit_node(op, attrs.clone(), &[Some(x)], vec![]) {
            for v in v {
                b.output(&format!("{op}{}", outputs.len()), v);
                outputs.push(Output::new(op, &attrs));
            }
        }
    };
    for axis in [2i64, 3] {
        for kind in ["max", "min", "and", "or"] {
            hold(&mut b, Op::Reduce, attrs! { kind: kind, axes: vec![axis], keepdims: 1i64 });
        }
        for kind in ["max", "min"] {
            for last in [0i64, 1] {
                hold(&mut b, Op::ArgReduce, attrs! { kind: kind, axis: axis, keepdims: 0i64, last: last });
            }
        }
        for kind in ["sum", "prod"] {
            hold(&mut b, Op::Cumulative, attrs! { kind: kind, axis: axis, exclusive: 0i64, reverse: 0i64 });
        }
        for largest in [0i64, 1] {
            for k in [1, 5, n as i64] {
                hold(&mut b, Op::TopK, attrs! { k: Dim::constant(k), axis: axis, largest: largest });
            }
        }
    }
    for (kernel, stride) in [(2i64, 1i64), (3, 2)] {
        hold(
            &mut b,
            Op::Pool,
            attrs! {
                kind: "max", kernel: vec![kernel; 2], strides: vec![stride; 2], dilations: vec![1i64; 2], pads: vec![1i64; 4],
                high_extra: vec![0i64; 2], layout: "channels_first"
            },
        );
        hold(
            &mut b,
            Op::MaxPoolIndices,
            attrs! {
                kernel: vec![kernel; 2], strides: vec![stride; 2], dilations: vec![1i64; 2], pads: vec![1i64; 4],
                high_extra: vec![0i64; 2], column_major: 0i64
            },
        );
    }
    (b.graph, outputs, vec![Value::Tensor(t)])
}

/// Differences of an output, in words; at most three.
fn differences(
    output: &Output,
    want: &Tensor,
    got: &Tensor,
    denormals: Denormals,
    inputs: &[Value],
) -> Vec<String> {
    let Output { op, what, exact } = output;
    let (e, g) = match (egret::compare::to_f64(want), egret::compare::to_f64(got)) {
        (Ok(e), Ok(g)) => (e, g),
        _ => return vec![format!("{what}: cannot be compared")],
    };
    let size = want.dtype().size();
    let tolerance = match want.dtype() {
        DType::BF16 => 1e-2,
        DType::F16 => 2e-3,
        DType::F32 => 5e-6,
        _ => 1e-11,
    };
    // A sign is -1, a zero, 1 or NaN, never the number itself.
    let denormals = if *op == Op::Sign { Denormals::Keep } else { denormals };
    let bits = |t: &Tensor, i: usize| flushed(t.dtype(), &t.bytes()[i * size..(i + 1) * size], denormals);
    // A zero of an elementwise function has its sign; sums have none that their order does not change.
    let signed = op.is_elementwise();
    let close = |i: usize| {
        if bits(want, i) == bits(got, i) || e[i].is_nan() && g[i].is_nan() {
            return true;
        }
        let other_zero = e[i] == 0.0 && g[i] == 0.0 && e[i].is_sign_negative() != g[i].is_sign_negative();
        let apart = *exact || (signed && other_zero);
        !apart
            && want.dtype().is_float()
            && (e[i] - g[i]).abs() <= tolerance * e[i].abs().max(smallest_scale(*op))
    };
    let operand = |k: usize, i: usize| {
        let t = inputs.get(k).and_then(Value::as_tensor)?;
        let v = egret::compare::to_f64(t).ok()?;
        Some(v[i * v.len() / want.len()])
    };
    (0..want.len())
        .filter(|&i| !close(i))
        .take(3)
        .map(|i| {
            format!(
                "{what} at {i} of {:?} {:?}: {:?} instead of {:?}",
                operand(0, i),
                operand(1, i),
                g[i],
                e[i]
            )
        })
        .collect()
}

/// What results are measured against at least: errors of functions with exact zeros are relative down to the smallest number,
/// those of differences (1 + erf) are of the size of what is subtracted.
fn smallest_scale(op: Op) -> f64 {
    match op {
        Op::Tanh | Op::Atan | Op::Sinh => 0.0,
        // A unit of the least subnormal number is within it.
        Op::Exp | Op::Sigmoid => 1e-39,
        Op::Gelu => 1.0,
        // Sums of gated states of both signs, which are of size 1.
        Op::Lstm | Op::Gru | Op::Rnn => 1e-2,
        _ => 1e-3,
    }
}

fn hold(what: &str, graph: &Graph, outputs: &Outputs, inputs: &[Value], failures: &mut Vec<String>) {
    let want = Denormals::ALL.map(|denormals| {
        (
            denormals,
            interp::run_with(graph, inputs, denormals, &Bounds::default())
                .expect("the interpreter runs it"),
        )
    });
    let base = Options { threads: 1, ..Options::default() };
    for (name, engine, options) in [
        ("jit", Engine::Jit, base.clone()),
        ("jit-noopt", Engine::JitNoOpt, base.clone()),
        ("no-wide", Engine::Jit, Options { wide: false, ..base.clone() }),
        ("x86-64-v2", Engine::Jit, Options { target: "x86-64-v2".into(), ..base.clone() }),
        ("x86-64-v3", Engine::Jit, Options { target: "x86-64-v3".into(), ..base.clone() }),
        ("exact", Engine::Jit, Options { tier: egret::Tier::Exact, ..base.clone() }),
        ("keep", Engine::Jit, Options { denormals: Some(Denormals::Keep), ..base.clone() }),
        (
            "exact-flush",
            Engine::Jit,
            Options { tier: egret::Tier::Exact, denormals: Some(Denormals::Flush), ..base.clone() },
        ),
        ("aot", Engine::Aot, base),
    ] {
        if name.starts_with("x86-64") && !cfg!(target_arch = "x86_64") {
            continue;
        }
        let got =
            Executable::new(graph.clone(), engine, &options, &BTreeMap::new()).and_then(|e| e.run(inputs));
        let got = match got {
            Ok(got) => got,
            Err(e) => {
                failures.push(format!("{what} {name}: {e}"));
                continue;
            }
        };
        let denormals = options.denormals();
        let (_, want) = want.iter().find(|w| w.0 == denormals).expect("both are there");
        for (i, output) in outputs.iter().enumerate() {
            let (w, g) = (want[i].as_tensor().expect("a tensor"), got[i].as_tensor().expect("a tensor"));
            failures.extend(
                differences(output, w, g, denormals, inputs)
                    .into_iter()
                    .map(|d| format!("{what} {name}: {d}")),
            );
        }
    }
}

/// Sums, products and softmax: numbers of one size, so that it does not matter in which order they are added.
fn sums(dtype: DType) -> (Graph, Outputs, Vec<Value>) {
    let mut b = Builder::new("special");
    let rows = [
        [1.0, 2.0, -3.0, 0.5, 4.0],
        [0.0, -0.0, -0.0, 0.0, -0.0],
        [-0.0; 5],
        [f64::NAN, 1.0, 2.0, 3.0, 4.0],
        [f64::INFINITY, 1.0, -2.0, 3.0, 4.0],
        [f64::INFINITY, f64::NEG_INFINITY, 1.0, 1.0, 1.0],
        [f64::NEG_INFINITY; 5],
        [0.0, f64::INFINITY, 1.0, 1.0, 1.0],
        [1e-45, 1e-45, 5e-324, 0.0, 0.0],
    ];
    let width = 37;
    let values: Vec<f64> = (0..rows.len() * width).map(|i| rows[i / width][i % width % 5]).collect();
    let t = cast(&values, dtype, &[rows.len(), width]);
    let x = b.input("x", Type::Tensor(t.ty()));
    let mut outputs: Outputs = vec![];
    let mut hold = |b: &mut Builder, op: Op, attrs: Attrs| {
        if let Ok(v) = b.emit(op, attrs.clone(), &[x]) {
            b.output(&format!("{op}{}", outputs.len()), v);
            outputs.push(Output::new(op, &attrs));
        }
    };
    for axis in [0i64, 1] {
        for kind in ["sum", "prod"] {
            hold(&mut b, Op::Reduce, attrs! { kind: kind, axes: vec![axis], keepdims: 1i64 });
        }
        hold(&mut b, Op::Softmax, attrs! { axis: axis });
        hold(&mut b, Op::LayerNorm, attrs! { axis: axis, epsilon: 1e-5 });
        hold(&mut b, Op::RmsNorm, attrs! { axis: axis, epsilon: 1e-5 });
    }
    (b.graph, outputs, vec![Value::Tensor(t)])
}

fn report(failures: &[String]) {
    assert!(
        failures.is_empty(),
        "{} differences\n{}",
        failures.len(),
        failures[..failures.len().min(60)].join("\n")
    );
}

#[test]
fn elementwise_operations() {
    let mut failures = vec![];
    for dtype in DTYPES {
        let (graph, outputs, inputs) = elementwise(dtype, false).expect("no product");
        hold(dtype.name(), &graph, &outputs, &inputs, &mut failures);
    }
    report(&failures);
}

#[test]
fn operations_with_constants() {
    let mut failures = vec![];
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64, DType::I32, DType::U8] {
        let (graph, outputs, inputs) = with_constants(dtype);
        hold(dtype.name(), &graph, &outputs, &inputs, &mut failures);
    }
    report(&failures);
}

#[test]
fn epilogues_of_products() {
    let mut failures = vec![];
    for dtype in DTYPES {
        if let Some((graph, outputs, inputs)) = elementwise(dtype, true) {
            hold(dtype.name(), &graph, &outputs, &inputs, &mut failures);
        }
    }
    report(&failures);
}

#[test]
fn extremes_sorts_sums_and_pools() {
    let mut failures = vec![];
    for dtype in DTYPES {
        let (graph, outputs, inputs) = extremes(dtype);
        hold(dtype.name(), &graph, &outputs, &inputs, &mut failures);
    }
    report(&failures);
}

#[test]
fn sums_products_and_norms() {
    let mut failures = vec![];
    for dtype in DTYPES {
        let (graph, outputs, inputs) = sums(dtype);
        hold(dtype.name(), &graph, &outputs, &inputs, &mut failures);
    }
    report(&failures);
}

#[test]
fn exact_operations_of_the_table() {
    let mut failures = vec![];
    for dtype in DTYPES {
        let (graph, outputs, inputs) = rows::graph(&rows::compiled(rows::EXACT, dtype), dtype, true);
        hold(dtype.name(), &graph, &outputs, &inputs, &mut failures);
    }
    report(&failures);
}

#[test]
fn other_operations_of_the_table() {
    let mut failures = vec![];
    for dtype in DTYPES.into_iter().filter(|d| d.is_float()) {
        let (graph, outputs, inputs) = rows::graph(&rows::compiled(rows::NEAR, dtype), dtype, false);
        hold(dtype.name(), &graph, &outputs, &inputs, &mut failures);
    }
    report(&failures);
}

/// What the rows leave out is refused by compiled code, in words that name the operation; the interpreter runs it.
#[test]
fn other_element_types_are_refused() {
    let mut used = vec![false; rows::ONLY.len()];
    for &row in rows::EXACT.iter().chain(rows::NEAR) {
        for dtype in DTYPES {
            let refusals = rows::refusals(row, dtype);
            let (graph, outputs, inputs) = rows::graph(&[row], dtype, true);
            if refusals.is_empty() || outputs.is_empty() {
                continue;
            }
            interp::run(&graph, &inputs).expect("the interpreter runs it");
            let op = format!("({})", outputs[0].op);
            match Executable::new(graph, Engine::Jit, &Options::default(), &BTreeMap::new()) {
                Ok(_) => panic!("{row} is compiled for {dtype}: mend rows::ONLY"),
                Err(e) => assert!(e.to_string().contains(&op), "{row} of {dtype}: {e}"),
            }
            refusals.iter().for_each(|&i| used[i] = true);
        }
    }
    let idle: Vec<_> = rows::ONLY.iter().zip(used).filter(|(_, used)| !used).map(|(row, _)| row).collect();
    assert!(idle.is_empty(), "{idle:?} of rows::ONLY refuse no row");
}

/// A new operation is held, too, or is one that is not compiled.
#[test]
fn no_operation_is_forgotten() {
    let mut held = rows::operations(rows::EXACT);
    held.extend(rows::operations(rows::NEAR));
    for dtype in DTYPES {
        let (_, outputs, _) = elementwise(dtype, false).expect("no product");
        held.extend(outputs.iter().chain(&extremes(dtype).1).map(|o| o.op));
    }
    // Control flow computes nothing of its own: tests/control_flow.rs. What data decides the dims of: tests/lengths.rs.
    let elsewhere = |op: &Op| op.family() == Family::Control || op.is_data_dependent();
    let computes = |op: &Op| egret_lower::refusal(*op).is_none() && !elsewhere(op);
    let forgotten: Vec<Op> = Op::all().filter(|op| computes(op) && !held.contains(op)).collect();
    assert!(
        forgotten.is_empty(),
        "neither a row of tests/special_values/rows.rs nor another test here has {forgotten:?}"
    );
    let both: Vec<Op> = held.into_iter().filter(|op| egret_lower::refusal(*op).is_some()).collect();
    assert!(both.is_empty(), "{both:?} are not compiled, by egret_lower::REFUSED, and yet held");
}
