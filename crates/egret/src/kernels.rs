//! The kernels of a program, as manifests, reports and `inspect` list them.

use egret_loop::Program;
use serde_json::{Value, json};

/// Every kernel run of a program, in order, with the ONNX nodes whose work it does, sorted.
pub fn kernels(program: &Program) -> Vec<Value> {
    let one = |c: &egret_loop::Call| {
        let kernel = program.kernels.get(c.kernel.0 as usize);
        json!({
            "name": kernel.map_or("", |k| k.name.as_str()),
            "tasks": kernel.map_or(0, |k| k.tasks),
            "sources": c.sources,
        })
    };
    program.calls.iter().map(one).collect()
}
