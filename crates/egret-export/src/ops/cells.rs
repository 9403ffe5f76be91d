//! The attributes of recurrent cells, as ONNX's operators and Egret's own function have them.

use crate::proto;
use egret_ir::Attrs;
use onnx_protobuf::AttributeProto;

/// Which of alpha and beta an activation has.
fn parameters(activation: &str) -> (bool, bool) {
    match activation {
        "Affine" | "HardSigmoid" | "ScaledTanh" => (true, true),
        "Elu" | "LeakyRelu" | "ThresholdedRelu" => (true, false),
        _ => (false, false),
    }
}

/// The attributes of a cell as ONNX has them; `flags` are those of this kind of cell.
pub(super) fn attributes(attrs: &Attrs, flags: &[&'static str]) -> Vec<AttributeProto> {
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
    attributes
}
