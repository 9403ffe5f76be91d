//! Several values as one. All but late fusion compute `features`; what is returned is their number, where it is known.

use super::build::{Build, int, ints, named, sized};
use super::{Error, Input, Result};
use onnx_protobuf::ModelProto;

/// The first opset in which the axes of a mean are an input.
const AXES_ARE_INPUTS: i64 = 18;

/// The values one behind the other along the last axis.
pub(super) fn concat(build: &mut Build, inputs: &[Input<'_>]) -> Result<Option<usize>> {
    at_least_one_axis(inputs)?;
    for (i, input) in inputs.iter().enumerate() {
        let open = || named(format!("last{i}"));
        build.input(input.name(), input.last().map_or_else(open, |s| sized(s as usize)));
    }
    let names: Vec<&str> = inputs.iter().map(Input::name).collect();
    behind(build, &names, "features")?;
    let sum = inputs.iter().try_fold(0i64, |sum, i| sum.checked_add(i.last()?));
    Ok(sum.and_then(|s| usize::try_from(s).ok()))
}

/// The sum of the values with weights, as `logits`.
pub(super) fn late(mut build: Build, inputs: &[Input<'_>], weights: &[f64]) -> Result<ModelProto> {
    if weights.len() != inputs.len() {
        return Err(Error::user(format!(
            "{} weights for {} wires; give one for each",
            weights.len(),
            inputs.len()
        )));
    }
    let mut terms = vec![];
    for (input, weight) in inputs.iter().zip(weights) {
        let name = format!("{}/weight", input.name());
        build.weight(&name, &[], &[*weight]);
        build.alike(input.name());
        terms.push(build.node("Mul", &[input.name(), &name], &format!("{}/weighted", input.name())));
    }
    sum(&mut build, &terms, "logits");
    build.output_alike("logits");
    build.model()
}

/// The sum of `sigmoid(Z_i [x_1; x_2; ..]) * tanh(W_i x_i)`, and the mean of each gate as `gates`.
pub(super) fn gated(build: &mut Build, inputs: &[Input<'_>], width: usize) -> Result<Option<usize>> {
    let widths = widths(build, inputs)?;
    let names: Vec<&str> = inputs.iter().map(Input::name).collect();
    let all = behind(build, &names, "all")?;
    let total = widths.iter().sum();
    let (mut terms, mut gates) = (vec![], vec![]);
    for (input, &from) in names.iter().zip(&widths) {
        let sum = build.linear(input, &format!("{input}.project"), from, width)?;
        let value = build.node("Tanh", &[&sum], &format!("{input}.value"));
        let sum = build.linear(&all, &format!("{input}.gate"), total, width)?;
        let gate = build.node("Sigmoid", &[&sum], &format!("{input}.gate.value"));
        terms.push(build.node("Mul", &[&gate, &value], &format!("{input}.gated")));
        gates.push(mean(build, &gate, &format!("{input}.gate.mean"))?);
    }
    sum(build, &terms, "features");
    let gates: Vec<&str> = gates.iter().map(String::as_str).collect();
    behind(build, &gates, "gates")?;
    build.output("gates", Some(inputs.len() as i64));
    Ok(Some(width))
}

/// The sum of projections `v_i` with the shares `softmax(q tanh(v_i))`, which are `shares`.
pub(super) fn attention(build: &mut Build, inputs: &[Input<'_>], width: usize) -> Result<Option<usize>> {
    let widths = widths(build, inputs)?;
    build.drawn("query", &[width, 1], width)?;
    let (mut values, mut scores) = (vec![], vec![]);
    for (input, &from) in inputs.iter().map(Input::name).zip(&widths) {
        let value = build.linear(input, &format!("{input}.project"), from, width)?;
        let key = build.node("Tanh", &[&value], &format!("{input}.key"));
        scores.push(build.node("MatMul", &[&key, "query"], &format!("{input}.score")));
        values.push(value);
    }
    let last = build.last()? as i64;
    let scores: Vec<&str> = scores.iter().map(String::as_str).collect();
    let all = behind(build, &scores, "scores")?;
    build.node_with("Softmax", &[&all], "shares", vec![int("axis", last)]);
    let mut terms = vec![];
    for (i, (input, value)) in inputs.iter().map(Input::name).zip(&values).enumerate() {
        let at = build.indices(&format!("{input}.at"), &[i as i64]);
        let share =
            build.node_with("Gather", &["shares", &at], &format!("{input}.share"), vec![int("axis", last)]);
        terms.push(build.node("Mul", &[value, &share], &format!("{input}.part")));
    }
    sum(build, &terms, "features");
    build.output("shares", Some(inputs.len() as i64));
    Ok(Some(width))
}

/// The sizes of the last axes, which become inputs of the head.
pub(super) fn widths(build: &mut Build, inputs: &[Input<'_>]) -> Result<Vec<usize>> {
    at_least_one_axis(inputs)?;
    let widths = inputs.iter().map(Input::width).collect::<Result<Vec<usize>>>()?;
    for (input, &width) in inputs.iter().zip(&widths) {
        build.input(input.name(), sized(width));
    }
    Ok(widths)
}

fn at_least_one_axis(inputs: &[Input<'_>]) -> Result<()> {
    match inputs.iter().find(|i| i.dims.is_empty()) {
        Some(scalar) => Err(Error::user(format!(
            "`{}` has no axes, so that nothing can stand behind it",
            scalar.wired.from
        ))),
        None => Ok(()),
    }
}

/// Values one behind the other along the last axis.
fn behind(build: &mut Build, values: &[&str], name: &str) -> Result<String> {
    let axis = vec![int("axis", build.last()? as i64)];
    Ok(build.node_with("Concat", values, name, axis))
}

/// The sum of values.
fn sum(build: &mut Build, terms: &[String], name: &str) {
    let terms: Vec<&str> = terms.iter().map(String::as_str).collect();
    build.node("Sum", &terms, name);
}

/// The mean along the last axis, which stays with the size 1.
fn mean(build: &mut Build, value: &str, name: &str) -> Result<String> {
    let last = build.last()? as i64;
    if build.opset < AXES_ARE_INPUTS {
        return Ok(build.node_with("ReduceMean", &[value], name, vec![ints("axes", vec![last])]));
    }
    let axes = build.indices(&format!("{name}.axes"), &[last]);
    Ok(build.node("ReduceMean", &[value, &axes], name))
}
