//! An LSTM that no operator of ONNX is: with an 8-bit state, or an input that is multiplied beforehand. It becomes a call of a function
//! of the model, [`DOMAIN`]'s `LSTM`, whose body says with operators of ONNX what it computes. Egret's importer knows the function by its
//! name and takes it as the operation that it was.
//!
//! The function has the operands and attributes of the operation. Its body is made for one choice of both; each choice is an overload.

use super::cells::attributes;
use crate::call::{Call, Written};
use crate::conditions::DOMAIN;
use crate::error::ExportError;
use crate::proto;
use crate::writer::Frame;
use egret_ir::DType;
use onnx_protobuf::{AttributeProto, FunctionProto, NodeProto};

const NAME: &str = "LSTM";
/// What the operands are called in the function, in their order.
const OPERANDS: [&str; 9] = ["x", "w", "r", "b", "lengths", "h0", "c0", "p", "scale"];

/// A call of the function, which is written at the first one of its kind.
pub(super) fn call(c: &mut Call<'_, '_>) -> Written {
    if c.ty(0)?.dtype != DType::F32 {
        return Err(ExportError::new(
            "an LSTM with an 8-bit state is written for f32 only; keep the original model for this part",
        ));
    }
    let given = |c: &Call<'_, '_>| OPERANDS.iter().enumerate().map(|(i, _)| c.has(i)).collect::<Vec<_>>();
    let choice = format!("{:?} {:?}", c.node.attrs, given(c));
    let overload = match c.writer.functions.iter().position(|(have, _)| *have == choice) {
        Some(at) => at,
        None => {
            let function = function(c)?;
            c.writer.functions.push((choice, function));
            c.writer.functions.len() - 1
        }
    };
    c.writer.require(DOMAIN, 1);
    let inputs: Vec<String> = (0..OPERANDS.len()).map(|i| c.opt(i)).collect();
    let mut attributes = attributes(c.attrs(), &["input_forget"]);
    attributes.push(proto::int("rounded_state", c.attrs().int("rounded_state")));
    let results = c.emit_many(DOMAIN, NAME, &inputs, c.node.results.len(), attributes);
    c.writer.overload(&self::overload(overload));
    Ok(results)
}

/// How overloads are called: the first one has no name.
fn overload(number: usize) -> String {
    if number == 0 { String::new() } else { (number + 1).to_string() }
}

fn function(c: &mut Call<'_, '_>) -> Result<FunctionProto, ExportError> {
    c.writer.frames.push(Frame { base: "lstm".into(), ..Frame::default() });
    let written = body(c);
    let proto = c.writer.frames.pop().expect("pushed above").proto;
    let output = written?;
    // A function has no initialisers.
    let constants = proto.initializer.into_iter().map(|mut t| NodeProto {
        op_type: "Constant".into(),
        output: vec![std::mem::take(&mut t.name)],
        attribute: vec![proto::held("value", t)],
        ..Default::default()
    });
    let attribute: Vec<String> =
        attributes(c.attrs(), &["input_forget"]).into_iter().map(|a| a.name).collect();
    Ok(FunctionProto {
        domain: DOMAIN.into(),
        name: NAME.into(),
        overload: overload(c.writer.functions.len()),
        input: OPERANDS.map(str::to_owned).to_vec(),
        output,
        attribute: attribute.into_iter().chain(["rounded_state".to_owned()]).collect(),
        node: constants.chain(proto.node).collect(),
        doc_string: "LSTM of ONNX, layout 0. rounded_state: h is quantised to 8 bits for its product, by row. x without w: what \
                     the input gives to the gates. scale: r holds integers, whose rows it scales."
            .into(),
        ..Default::default()
    })
}

/// The nodes of all directions; the names of Y, Y_h and Y_c.
fn body(c: &mut Call<'_, '_>) -> Result<Vec<String>, ExportError> {
    let direction = c.attrs().str("direction").to_owned();
    let directions = if direction == "bidirectional" { 2 } else { 1 };
    let mut shares = vec!["x".to_owned()];
    if !c.has(1) && directions == 2 {
        let halves = vec![proto::int("axis", 2), proto::int("num_outputs", 2)];
        shares = c.emit_many("", "Split", &shares, 2, halves);
    }
    let mut all: [Vec<String>; 3] = Default::default();
    for d in 0..directions {
        let share = shares.get(d).cloned().unwrap_or_else(|| "x".into());
        let backward = d == 1 || direction == "reverse";
        let (results, axes) = (one_direction(c, d, share, backward)?, [1, 0, 0]);
        for ((all, result), axis) in all.iter_mut().zip(results).zip(axes) {
            let axes = c.ints(&[axis]);
            all.push(c.op("Unsqueeze", &[&result, &axes], vec![]));
        }
    }
    let join = |(parts, axis): (Vec<String>, i64)| c.emit("Concat", &parts, vec![proto::int("axis", axis)]);
    Ok(all.into_iter().zip([1, 0, 0]).map(join).collect())
}

/// What an operand has for a direction.
fn of(c: &mut Call<'_, '_>, operand: &str, d: usize) -> Result<String, ExportError> {
    let at = c.number(DType::I64, d as f64)?;
    Ok(c.op("Gather", &[operand, &at], vec![proto::int("axis", 0)]))
}

/// The steps of a direction: all states [T, B, H], the last h and c [B, H].
fn one_direction(
    c: &mut Call<'_, '_>,
    d: usize,
    mut share: String,
    backward: bool,
) -> Result<[String; 3], ExportError> {
    if c.has(1) {
        share = times(c, &share, "w", d)?;
    }
    if c.has(3) {
        let b = of(c, "b", d)?;
        let halves = c.emit_many("", "Split", &[b], 2, vec![proto::int("num_outputs", 2)]);
        let b = c.emit("Add", &halves, vec![]);
        share = c.op("Add", &[&share, &b], vec![]);
    }
    let mut states = vec![];
    for (i, name) in [(5, "h0"), (6, "c0")] {
        states.push(if c.has(i) { of(c, name, d)? } else { zeros(c, &share)? });
    }
    let r = of(c, "r", d)?;
    let r = c.cast(&r, DType::F32);
    let known = Known {
        r: c.transpose(&r, &[1, 0]),
        scale: if c.has(8) { Some(of(c, "scale", d)?) } else { None },
        peepholes: if c.has(7) { peepholes(c, d)? } else { vec![] },
        lengths: c.has(4).then(|| lengths(c)),
        d,
    };
    // A sequence that ends before the others is turned about within itself.
    let within = backward && known.lengths.is_some();
    if within {
        share = turned(c, &share);
    }
    let mut inputs = states;
    inputs.push(share.clone());
    if known.lengths.is_some() {
        inputs.push(numbers_of_steps(c, &share)?);
    }
    let scans = inputs.len() as i64 - 2;
    let body = step(c, &known)?;
    let mut attributes = vec![body, proto::int("num_scan_inputs", scans)];
    if backward && !within {
        attributes.push(proto::ints("scan_input_directions", &[1]));
        attributes.push(proto::ints("scan_output_directions", &[1]));
    }
    let [h, cell, y] = <[String; 3]>::try_from(c.emit_many("", "Scan", &inputs, 3, attributes))
        .map_err(|_| ExportError::new("a scan of three results"))?;
    let y = if within { turned(c, &y) } else { y };
    Ok([y, h, cell])
}

/// x [T, B, I] by the rows of an operand for a direction.
fn times(c: &mut Call<'_, '_>, x: &str, weights: &str, d: usize) -> Result<String, ExportError> {
    let w = of(c, weights, d)?;
    let w = c.transpose(&w, &[1, 0]);
    Ok(c.op("MatMul", &[x, &w], vec![]))
}

/// [B, H] zeros for a share of the gates [T, B, 4H].
fn zeros(c: &mut Call<'_, '_>, share: &str) -> Result<String, ExportError> {
    let batch = c.op("Shape", &[share], vec![proto::int("start", 1), proto::int("end", 2)]);
    let hidden = c.ints(&[c.attrs().int("hidden")]);
    let shape = c.op("Concat", &[&batch, &hidden], vec![proto::int("axis", 0)]);
    Ok(c.op("ConstantOfShape", &[&shape], vec![]))
}

/// Those of the gates i, o and f.
fn peepholes(c: &mut Call<'_, '_>, d: usize) -> Result<Vec<String>, ExportError> {
    let p = of(c, "p", d)?;
    Ok(c.emit_many("", "Split", &[p], 3, vec![proto::int("num_outputs", 3)]))
}

/// The lengths of the sequences [B, 1].
fn lengths(c: &mut Call<'_, '_>) -> String {
    let lengths = c.cast("lengths", DType::I64);
    let axis = c.ints(&[1]);
    c.op("Unsqueeze", &[&lengths, &axis], vec![])
}

fn turned(c: &mut Call<'_, '_>, x: &str) -> String {
    let lengths = c.cast("lengths", DType::I64);
    let axes = vec![proto::int("batch_axis", 1), proto::int("time_axis", 0)];
    c.op("ReverseSequence", &[x, &lengths], axes)
}

/// 0 .. T as i64.
fn numbers_of_steps(c: &mut Call<'_, '_>, share: &str) -> Result<String, ExportError> {
    let steps = c.op("Shape", &[share], vec![proto::int("start", 0), proto::int("end", 1)]);
    let none = c.ints(&[0]);
    let steps = c.op("Squeeze", &[&steps, &none], vec![]);
    let (zero, one) = (c.number(DType::I64, 0.0)?, c.number(DType::I64, 1.0)?);
    Ok(c.op("Range", &[&zero, &steps, &one], vec![]))
}

/// What all steps of a direction take from around them.
struct Known {
    /// [H, 4H]
    r: String,
    /// [4H]
    scale: Option<String>,
    /// Three of [H], or none.
    peepholes: Vec<String>,
    /// [B, 1]
    lengths: Option<String>,
    d: usize,
}

/// The body of the scan: h, c, a step's share of the gates, its number where lengths are given; h, c, and h for Y.
fn step(c: &mut Call<'_, '_>, known: &Known) -> Result<AttributeProto, ExportError> {
    c.writer.frames.push(Frame { base: "step".into(), ..Frame::default() });
    let written = states(c, known);
    let mut graph = c.writer.frames.pop().expect("pushed above").proto;
    let (inputs, outputs) = written?;
    graph.name = "step".into();
    graph.input = inputs.iter().map(|name| proto::untyped(name)).collect();
    graph.output = outputs.iter().map(|name| proto::untyped(name)).collect();
    Ok(proto::graph("body", graph))
}

fn states(c: &mut Call<'_, '_>, known: &Known) -> Result<(Vec<String>, [String; 3]), ExportError> {
    let mut inputs: Vec<String> = ["h", "c", "share"].map(|name| c.writer.unique(name)).into();
    let (h, old, share) = (inputs[0].clone(), inputs[1].clone(), inputs[2].clone());
    let product = state_product(c, known, &h)?;
    let gates = c.op("Add", &[&product, &share], vec![]);
    let gates =
        c.emit_many("", "Split", &[gates], 4, vec![proto::int("axis", -1), proto::int("num_outputs", 4)]);
    let peeped = |c: &mut Call<'_, '_>, gate: &str, i: usize, cell: &str| match known.peepholes.get(i) {
        Some(p) => {
            let seen = c.op("Mul", &[p, cell], vec![]);
            c.op("Add", &[gate, &seen], vec![])
        }
        None => gate.to_owned(),
    };
    let [f, g, out] = [0, 1, 2].map(|i| known.d * 3 + i);
    let input = peeped(c, &gates[0], 0, &old);
    let input = activation(c, f, &input, true)?;
    let forget = if c.attrs().flag("input_forget") {
        let one = c.number(DType::F32, 1.0)?;
        c.op("Sub", &[&one, &input], vec![])
    } else {
        let forget = peeped(c, &gates[2], 2, &old);
        activation(c, f, &forget, true)?
    };
    let new = activation(c, g, &gates[3], true)?;
    let (kept, new) = (c.op("Mul", &[&forget, &old], vec![]), c.op("Mul", &[&input, &new], vec![]));
    let mut cell = c.op("Add", &[&kept, &new], vec![]);
    let output = peeped(c, &gates[1], 1, &cell);
    let output = activation(c, f, &output, true)?;
    let shown = activation(c, out, &cell, false)?;
    let mut y = c.op("Mul", &[&output, &shown], vec![]);
    let mut next = c.op("Identity", &[&y], vec![]);
    if let Some(lengths) = &known.lengths {
        let number = c.writer.unique("number");
        let within = c.op("Less", &[&number, lengths], vec![]);
        let zero = c.number(DType::F32, 0.0)?;
        next = c.op("Where", &[&within, &y, &h], vec![]);
        cell = c.op("Where", &[&within, &cell, &old], vec![]);
        y = c.op("Where", &[&within, &y, &zero], vec![]);
        inputs.push(number);
    }
    Ok((inputs, [next, cell, y]))
}

/// What the state gives to the gates.
fn state_product(c: &mut Call<'_, '_>, known: &Known, h: &str) -> Result<String, ExportError> {
    let rounded = if c.attrs().flag("rounded_state") { Some(quantized(c, h)?) } else { None };
    let (factor, step) = match &rounded {
        Some((integers, step)) => (integers.as_str(), Some(step)),
        None => (h, None),
    };
    let mut product = c.op("MatMul", &[factor, &known.r], vec![]);
    for by in step.into_iter().chain(&known.scale) {
        product = c.op("Mul", &[&product, by], vec![]);
    }
    Ok(product)
}

/// Each row of h as DynamicQuantizeLinear leaves it: integers less their zero point, and their step [B, 1].
fn quantized(c: &mut Call<'_, '_>, h: &str) -> Result<(String, String), ExportError> {
    let (zero, one, most) =
        (c.number(DType::F32, 0.0)?, c.number(DType::F32, 1.0)?, c.number(DType::F32, 255.0)?);
    let last = c.ints(&[-1]);
    let low = c.op("ReduceMin", &[h, &last], vec![]);
    let low = c.op("Min", &[&low, &zero], vec![]);
    let high = c.op("ReduceMax", &[h, &last], vec![]);
    let high = c.op("Max", &[&high, &zero], vec![]);
    let range = c.op("Sub", &[&high, &low], vec![]);
    let step = c.op("Div", &[&range, &most], vec![]);
    // Zeros, or so small that the step is none: zeros with a step of 0.
    let none = c.op("Equal", &[&step, &zero], vec![]);
    let by = c.op("Where", &[&none, &one, &step], vec![]);
    let point = c.op("Div", &[&low, &by], vec![]);
    let point = c.op("Neg", &[&point], vec![]);
    let point = c.op("Round", &[&point], vec![]);
    let steps = c.op("Div", &[h, &by], vec![]);
    let steps = c.op("Round", &[&steps], vec![]);
    let steps = c.op("Add", &[&steps, &point], vec![]);
    let steps = c.op("Clip", &[&steps, &zero, &most], vec![]);
    Ok((c.op("Sub", &[&steps, &point], vec![]), step))
}

/// An activation of the cell; what goes into a gate is clipped before.
fn activation(c: &mut Call<'_, '_>, i: usize, x: &str, gate: bool) -> Result<String, ExportError> {
    let attrs = c.attrs();
    let value = |list: &str| attrs.floats(list).get(i).copied().unwrap_or_default();
    let (clip, name) = (attrs.float("clip"), attrs.strings("activations")[i].clone());
    let (alpha, beta) = (value("alphas"), value("betas"));
    let mut x = x.to_owned();
    if gate && clip != 0.0 {
        let (low, high) = (c.number(DType::F32, -clip)?, c.number(DType::F32, clip)?);
        x = c.op("Clip", &[&x, &low, &high], vec![]);
    }
    let with_alpha = vec![proto::float("alpha", alpha)];
    let with_both = vec![proto::float("alpha", alpha), proto::float("beta", beta)];
    Ok(match name.as_str() {
        "Affine" => {
            let (alpha, beta) = (c.number(DType::F32, alpha)?, c.number(DType::F32, beta)?);
            let scaled = c.op("Mul", &[&alpha, &x], vec![]);
            c.op("Add", &[&scaled, &beta], vec![])
        }
        "ScaledTanh" => {
            let (alpha, beta) = (c.number(DType::F32, alpha)?, c.number(DType::F32, beta)?);
            let scaled = c.op("Mul", &[&beta, &x], vec![]);
            let tanh = c.op("Tanh", &[&scaled], vec![]);
            c.op("Mul", &[&alpha, &tanh], vec![])
        }
        "HardSigmoid" => c.op("HardSigmoid", &[&x], with_both),
        "Elu" | "LeakyRelu" | "ThresholdedRelu" => c.op(&name, &[&x], with_alpha),
        _ => c.op(&name, &[&x], vec![]),
    })
}
