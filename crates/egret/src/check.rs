//! What a compiled model returned, held against what it should: the judgement of `egret check`.

use crate::compare::{self, Tolerance};
use crate::error::Result;
use crate::stability;
use egret_ir::{DType, Graph, Value};

/// Allowed error of compiled f32 code, relative to the output's scale.
const CHECK_RTOL: f64 = 1e-4;

/// Outputs may differ by as many times the movement of the reference where last digits change.
const UNSTABLE: f64 = 4.0;

/// An output beside what it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The output's name.
    pub output: String,
    /// The judgement.
    pub verdict: Verdict,
    /// How far it is from what it should be, or in what it differs, in words.
    pub told: String,
}

/// How an output is to what it should be.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Within the tolerance.
    Same,
    /// It differs by no more than a few times as much as the reference itself moves with the last digits of weights and sums: by so much.
    Unstable(f64),
    /// It differs.
    Differs,
}

/// Judge outputs. `expected` has what each should be, `None` where nothing says; `random` whether it is random by definition, so that only its type is
/// compared. `movements` is asked once, if an output differs: how far the reference's outputs [move](movements), where that is known.
pub fn judge(
    names: &[String],
    expected: &[Option<Value>],
    got: &[Value],
    random: &[bool],
    movements: impl FnOnce() -> Option<Vec<f64>>,
) -> Vec<Outcome> {
    let (mut movements, mut moved) = (Some(movements), None);
    let mut out = vec![];
    for (i, name) in names.iter().enumerate() {
        let Some(want) = &expected[i] else { continue };
        let (verdict, told) = match compared(want, &got[i], random[i]) {
            Ok(told) => (Verdict::Same, told),
            Err(told) => {
                if let Some(movements) = movements.take() {
                    moved = movements();
                }
                let moves = moved.as_ref().map(|m| m[i]);
                let unstable = moves.zip(difference(want, &got[i])).filter(|(m, d)| *d <= UNSTABLE * m);
                (unstable.map_or(Verdict::Differs, |(moves, _)| Verdict::Unstable(moves)), told)
            }
        };
        out.push(Outcome { output: name.clone(), verdict, told });
    }
    out
}

/// How far a reference's outputs move where the last digits of the model's numbers change; `None` where that cannot be told. `reference` runs a
/// graph on inputs.
pub fn movements(
    graph: &Graph,
    inputs: &[Value],
    expected: &[Option<Value>],
    mut reference: impl FnMut(&Graph, &[Value]) -> Result<Vec<Value>>,
) -> Option<Vec<f64>> {
    let mut out = vec![0.0; expected.len()];
    for seed in 1..=2 {
        let (graph, inputs) = stability::nearby(graph, inputs, seed);
        let near = reference(&graph, &inputs).ok()?;
        for (i, near) in near.iter().enumerate() {
            let Some(Value::Tensor(at)) = &expected[i] else { continue };
            let far = compare::distance(at, near.as_tensor()?, Tolerance::default()).ok()?.max_abs;
            out[i] = f64::max(out[i], far);
        }
    }
    Some(out)
}

/// The largest difference of two float tensors.
fn difference(want: &Value, got: &Value) -> Option<f64> {
    let (Value::Tensor(e), Value::Tensor(g)) = (want, got) else { return None };
    let floats = e.dtype().is_float() && g.dtype().is_float();
    compare::distance(e, g, Tolerance::default()).ok().map(|d| d.max_abs).filter(|_| floats)
}

/// How far a value is from what it should be; the error says that it is too far, and where.
fn compared(want: &Value, got: &Value, random: bool) -> std::result::Result<String, String> {
    if random {
        return compare::compare_types(want, got)
            .map(|()| "random by definition: only its type was compared".into());
    }
    let (Value::Tensor(e), Value::Tensor(g)) = (want, got) else {
        return compare::compare(want, got, Tolerance::default()).map(|()| "equal".into());
    };
    if e.dtype() == DType::String {
        return compare::compare(want, got, Tolerance { rtol: 0.0, atol: 0.0 }).map(|()| "equal".into());
    }
    // The scale first, then the tolerance that it sets.
    let scale = compare::distance(e, g, Tolerance::default())?.scale;
    let tolerance =
        Tolerance { rtol: CHECK_RTOL, atol: if e.dtype().is_float() { CHECK_RTOL * scale } else { 0.0 } };
    let d = compare::distance(e, g, tolerance)?;
    let relative = if d.scale > 0.0 { d.max_abs / d.scale } else { d.max_abs };
    compare::compare(want, got, tolerance)?;
    Ok(format!("largest error {:.3e}, {relative:.3e} of the scale {:.3e}", d.max_abs, d.scale))
}
