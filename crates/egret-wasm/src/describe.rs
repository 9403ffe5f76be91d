//! What a module says of its ports, in JSON.

use egret_loop::{Extent, Port, Program, sizes};
use serde_json::{Value, json};

use crate::place::Place;

/// Ports of fixed dims, and where each is.
pub fn fixed(ports: &[Port], places: &[Place]) -> Vec<Value> {
    let told = ports.iter().zip(places).filter(|(port, _)| port.bound.is_none());
    told.map(|(port, place)| with_place(port, *place)).collect()
}

/// Inputs that were bound, and where the value of each is.
pub fn bound(inputs: &[Port], held: &[Option<Place>]) -> Vec<Value> {
    let told = inputs.iter().zip(held);
    told.filter_map(|(port, held)| Some(with_place(port, (*held)?))).collect()
}

/// Ports whose places are planned, and where a host reads each.
pub fn planned(program: &Program, ports: &[Port], words: &[u32]) -> Vec<Value> {
    let told = ports.iter().zip(words).filter(|(port, _)| port.bound.is_none());
    told.map(|(port, words)| {
        let dims: Vec<Value> =
            port.dims.iter().enumerate().map(|(axis, dim)| spelt(program, port, axis, *dim)).collect();
        json!({ "name": port.name, "dtype": port.onnx_dtype, "dims": dims, "place": words })
    })
    .collect()
}

fn with_place(port: &Port, place: Place) -> Value {
    json!({
        "name": port.name,
        "dtype": port.onnx_dtype,
        "dims": port.const_dims(),
        "at": place.at.as_const(),
        "bytes": place.bytes.as_const(),
    })
}

/// A dim: a number, or how it is made of free dims, or the most that it can be where data decides it.
fn spelt(program: &Program, port: &Port, axis: usize, dim: Extent) -> Value {
    let expression = |e: Extent| sizes::expression(&program.sizes, e, &|i| program.symbols[i].name.clone());
    // A port's dims are not made of lengths; what it comes to may be, and has no expression then.
    let text = expression(dim).unwrap_or_else(|| "?".into());
    let found = port.found.as_ref().and_then(|found| found.get(axis));
    match (found.map(|e| expression(*e)), dim.as_const()) {
        (Some(None), _) => json!(format!("at most {text}")),
        (_, Some(number)) => json!(number),
        (_, None) => json!(text),
    }
}
