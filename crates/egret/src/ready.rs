//! A model ready to run, whatever it comes from: a model file, a test case, or the folder of a compiled model.

use crate::engine::{Engine, Executable};
use crate::error::{Error, Result};
use crate::frontend::DeclaredInput;
use crate::native::Native;
use crate::options::Options;
use crate::source::{self, Prepared, Request};
use crate::{artifact, notes, pipeline};
use egret_ir::{DType, Shape, TensorType, Type, Value};
use egret_runtime::Port;
use std::collections::BTreeMap;

/// A model, ready to run, and values for its inputs.
pub struct Ready {
    /// The model.
    pub executable: Executable,
    /// Values, in the order of its inputs.
    pub inputs: Vec<Value>,
    /// Names of its outputs.
    pub outputs: Vec<String>,
    /// What the user should know, a line each.
    pub notes: Vec<String>,
}

/// Make a model ready to run on an engine; a compiled model runs as it is.
///
/// # Errors
/// As [`Request::prepare`]; what cannot be compiled; a compiled model that is damaged or asked to be another one.
pub fn ready(request: &Request, engine: Engine, options: &Options) -> Result<Ready> {
    if request.model.is_dir() && artifact::is_filled(&request.model) {
        return compiled(request, engine, options);
    }
    let Prepared { graph, bound, inputs, defaulted, notes: mut told } = request.prepare()?;
    let outputs = graph.output_names().to_vec();
    let because = |e| source::because_of(e, &defaulted, request.default_dim.unwrap_or(1));
    let executable = match engine {
        Engine::Jit => {
            let before = notes::Constants::of(&graph);
            let lowered = pipeline::lower(graph, options, &bound).map_err(because)?;
            told.extend(notes::of(&before, &lowered, options));
            Executable::Native(Box::new(Native::of_lowered(&lowered, options)?))
        }
        _ => Executable::new(graph, engine, options, &bound).map_err(because)?,
    };
    Ok(Ready { executable, inputs, outputs, notes: told })
}

/// The compiled model in a folder.
fn compiled(request: &Request, engine: Engine, options: &Options) -> Result<Ready> {
    if engine != Engine::Jit {
        let name = engine.name();
        return Err(Error::user(format!(
            "--engine {name} needs the model itself, not what it was compiled to"
        )));
    }
    if !request.dims.is_empty() || !request.bind.is_empty() {
        return Err(Error::user("--dim and --bind were decided when the model was compiled"));
    }
    let native = Native::open(&request.model, options.threads)?;
    let types: Vec<(String, Type)> =
        native.model().inputs().iter().map(port_type).collect::<Result<_>>()?;
    let declared: Vec<DeclaredInput> = types.iter().map(|(name, ty)| DeclaredInput::of(name, ty)).collect();
    let given: BTreeMap<String, Value> = request.inputs.read(&declared)?;
    let ports = types.iter().map(|(name, ty)| (name.as_str(), ty));
    let inputs = source::complete(ports, &given, request.random)?;
    let outputs = native.model().outputs().iter().map(|p| p.name.clone()).collect();
    Ok(Ready { executable: Executable::Native(Box::new(native)), inputs, outputs, notes: vec![] })
}

fn port_type(port: &Port) -> Result<(String, Type)> {
    let dtype = DType::from_abi_code(port.dtype).ok_or_else(|| {
        Error::internal(format!("the input `{}` has the unknown dtype {}", port.name, port.dtype))
    })?;
    let shape: Shape = port.dims.iter().map(|&d| egret_ir::Dim::constant(d)).collect();
    Ok((port.name.clone(), Type::Tensor(TensorType::new(dtype, shape))))
}
