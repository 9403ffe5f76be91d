//! Recurrent cells.

use super::Spelling::{self, Nodes};
use crate::call::{Call, Written};
use crate::error::ExportError;
use crate::proto;
use egret_ir::families::Recurrent as R;

pub(super) fn spelling(op: R) -> Spelling {
    match op {
        R::Lstm => Nodes("LSTM", lstm),
        R::Gru => Nodes("GRU", |c| cell(c, "GRU", 6, &["linear_before_reset"])),
        R::Rnn => Nodes("RNN", |c| cell(c, "RNN", 6, &[])),
    }
}

/// Which of alpha and beta an activation has.
fn parameters(activation: &str) -> (bool, bool) {
    match activation {
        "Affine" | "HardSigmoid" | "ScaledTanh" => (true, true),
        "Elu" | "LeakyRelu" | "ThresholdedRelu" => (true, false),
        _ => (false, false),
    }
}

fn lstm(c: &mut Call<'_, '_>) -> Written {
    if c.attrs().flag("rounded_state") || c.has(8) || !c.has(1) {
        return Err(ExportError::new(
            "ONNX's LSTM has no 8-bit state and no input that is multiplied beforehand (those of com.microsoft's \
             DynamicQuantizeLSTM); keep the original model for this part",
        ));
    }
    cell(c, "LSTM", 8, &["input_forget"])
}

fn cell(c: &mut Call<'_, '_>, operator: &str, operands: usize, flags: &[&'static str]) -> Written {
    let inputs: Vec<String> = (0..operands).map(|i| c.opt(i)).collect();
    let attrs = c.attrs();
    let functions = attrs.strings("activations");
    let listed = |values: &[f64], which: fn((bool, bool)) -> bool| -> Vec<f64> {
        let all = functions.iter().zip(values);
        all.filter(|(f, _)| which(parameters(f))).map(|(_, &v)| v).collect()
    };
    let alphas = listed(attrs.floats("alphas"), |p| p.0);
    let betas = listed(attrs.floats("betas"), |p| p.1);
    let mut attributes = vec![
        proto::int("hidden_size", attrs.int("hidden")),
        proto::text("direction", attrs.str("direction")),
        proto::texts("activations", functions),
    ];
    if !alphas.is_empty() {
        attributes.push(proto::floats("activation_alpha", &alphas));
    }
    if !betas.is_empty() {
        attributes.push(proto::floats("activation_beta", &betas));
    }
    if attrs.float("clip") != 0.0 {
        attributes.push(proto::float("clip", attrs.float("clip")));
    }
    attributes.extend(flags.iter().map(|name| proto::int(name, attrs.int(name))));
    let count = c.node.results.len();
    Ok(c.emit_many("", operator, &inputs, count, attributes))
}
