//! LSTM, GRU and RNN.

use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{Attrs, Op, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("GRU", 1, gru),
    onnx("LSTM", 1, lstm),
    onnx("RNN", 1, rnn),
    OnnxOp { domain: OWN_DOMAIN, name: "LSTM", since: 1, import: exported_lstm },
];

/// The domain of the functions that Egret's export writes for operations that no operator of ONNX is. Here they are operators.
pub const OWN_DOMAIN: &str = "egret";

/// An activation and the defaults of its alpha and beta, where it has them.
const ACTIVATIONS: [(&str, Option<f64>, Option<f64>); 11] = [
    ("Affine", Some(1.0), Some(0.0)),
    ("Elu", Some(1.0), None),
    ("HardSigmoid", Some(0.2), Some(0.5)),
    ("LeakyRelu", Some(0.01), None),
    ("Relu", None, None),
    ("ScaledTanh", Some(1.0), Some(1.0)),
    ("Sigmoid", None, None),
    ("Softplus", None, None),
    ("Softsign", None, None),
    ("Tanh", None, None),
    ("ThresholdedRelu", Some(1.0), None),
];

/// The attributes that all three cells have, as those of the primitive.
fn common(ctx: &mut NodeCtx, defaults: &[&str]) -> Result<Attrs, ImportError> {
    let hidden = match ctx.opt_int("hidden_size")? {
        Some(h) => h,
        None => {
            let r = ctx.shape_of(ctx.input(2)?)?;
            r.last()
                .and_then(|d| d.as_const())
                .ok_or_else(|| ImportError::invalid(format!("{} needs its `hidden_size`", ctx.op_type)))?
        }
    };
    let direction = ctx.str("direction", "forward")?.to_ascii_lowercase();
    let directions = match direction.as_str() {
        "forward" | "reverse" => 1,
        "bidirectional" => 2,
        _ => return Err(ctx.bad_attr("direction", direction)),
    };
    let functions: Vec<String> = match ctx.opt_strings("activations")? {
        Some(names) if names.len() == defaults.len() * directions => names,
        // RNN's schema lists two defaults, whatever the direction.
        Some(names) if defaults.len() == 1 && names.len() > directions => names[..directions].to_vec(),
        Some(names) => {
            return Err(ImportError::invalid(format!(
                "{} has {} activations instead of {}",
                ctx.op_type,
                names.len(),
                defaults.len() * directions
            )));
        }
        None => defaults.repeat(directions).into_iter().map(str::to_owned).collect(),
    };
    // ONNX lists the parameters of those functions only that have some.
    let (given_alphas, given_betas) =
        (ctx.opt_floats("activation_alpha")?, ctx.opt_floats("activation_beta")?);
    let mut given_alphas = given_alphas.unwrap_or_default().into_iter();
    let mut given_betas = given_betas.unwrap_or_default().into_iter();
    let (mut names, mut alphas, mut betas) = (vec![], vec![], vec![]);
    for function in functions {
        let (name, alpha, beta) = ACTIVATIONS
            .iter()
            .find(|(name, _, _)| name.eq_ignore_ascii_case(&function))
            .ok_or_else(|| ctx.bad_attr("activations", function))?;
        let value = |default: &Option<f64>, given: &mut dyn Iterator<Item = f32>| {
            default.map_or(0.0, |d| given.next().map_or(d, f64::from))
        };
        names.push((*name).to_owned());
        alphas.push(value(alpha, &mut given_alphas));
        betas.push(value(beta, &mut given_betas));
    }
    let clip = ctx.float("clip", 0.0)?;
    // Opset 1 said whether all steps are wanted; now the named outputs do.
    ctx.int("output_sequence", 0)?;
    Ok(attrs! {
        direction: direction,
        hidden: hidden,
        activations: names,
        alphas: alphas,
        betas: betas,
        clip: f64::from(clip.max(0.0)),
    })
}

/// x, w and r must be there.
fn required(ctx: &NodeCtx) -> Result<(), ImportError> {
    (0..3).try_for_each(|i| ctx.input(i).map(|_| ()))
}

/// Emit the cell with so many operands: the node's inputs; `states` are the inputs with initial states, which `layout` = 1 transposes like x and the results.
pub(super) fn cell(ctx: &mut NodeCtx, op: Op, attrs: Attrs, operands: usize, states: &[usize]) -> OpResult {
    let batch_first = match ctx.int("layout", 0)? {
        0 => false,
        1 => true,
        other => return Err(ctx.bad_attr("layout", other)),
    };
    let swap = |ctx: &mut NodeCtx, v: ValueId| ctx.transpose(v, vec![1, 0, 2]);
    let mut list = vec![];
    for i in 0..operands {
        let operand = match ctx.opt_input(i) {
            Some(v) if batch_first && (i == 0 || states.contains(&i)) => Some(swap(ctx, v)?),
            other => other,
        };
        list.push(operand);
    }
    let mut results = ctx.emit_node(op, attrs, &list, vec![])?;
    if batch_first {
        results[0] = ctx.transpose(results[0], vec![2, 0, 1, 3])?;
        for state in &mut results[1..] {
            *state = swap(ctx, *state)?;
        }
    }
    Ok(results)
}

pub(super) fn lstm_attrs(ctx: &mut NodeCtx, rounded_state: bool) -> Result<Attrs, ImportError> {
    let mut attrs = common(ctx, &["Sigmoid", "Tanh", "Tanh"])?;
    attrs.0.insert("input_forget", ctx.flag("input_forget", false)?.into());
    attrs.0.insert("rounded_state", rounded_state.into());
    Ok(attrs)
}

fn lstm(ctx: &mut NodeCtx) -> OpResult {
    required(ctx)?;
    let attrs = lstm_attrs(ctx, false)?;
    cell(ctx, Op::Lstm, attrs, 9, &[5, 6])
}

/// The operation itself, operand for operand.
fn exported_lstm(ctx: &mut NodeCtx) -> OpResult {
    let rounded = ctx.flag("rounded_state", false)?;
    let attrs = lstm_attrs(ctx, rounded)?;
    cell(ctx, Op::Lstm, attrs, 9, &[5, 6])
}

fn gru(ctx: &mut NodeCtx) -> OpResult {
    required(ctx)?;
    let mut attrs = common(ctx, &["Sigmoid", "Tanh"])?;
    attrs.0.insert("linear_before_reset", ctx.flag("linear_before_reset", false)?.into());
    cell(ctx, Op::Gru, attrs, 6, &[5])
}

fn rnn(ctx: &mut NodeCtx) -> OpResult {
    required(ctx)?;
    let attrs = common(ctx, &["Tanh"])?;
    cell(ctx, Op::Rnn, attrs, 6, &[5])
}
