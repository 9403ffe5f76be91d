//! A model ready to run, whatever it comes from: a model file, a test case, or the folder of a compiled model.

use crate::engine::{Engine, Executable};
use crate::error::{Error, Result};
use crate::frontend::DeclaredInput;
use crate::host::{self, InMemory};
use crate::native::Native;
use crate::options::Options;
use crate::source::{self, Prepared, Request};
use crate::{artifact, notes};
use egret_ir::{DType, Shape, TensorType, Type, Value, advice};
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
            match host::jit(graph, options, &bound).map_err(because)? {
                InMemory::Whole(lowered) => {
                    told.extend(notes::of(&before, &lowered, options));
                    Executable::Native(Box::new(Native::of_lowered(&lowered, options)?))
                }
                InMemory::Mixed(mixed) => {
                    told.extend_from_slice(mixed.notes());
                    Executable::Mixed(mixed)
                }
            }
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
    if !request.bind.is_empty() {
        return Err(Error::user("--bind was decided when the model was compiled"));
    }
    let native = Native::open(&request.model, options.threads)?;
    let named = types(&native, &BTreeMap::new())?;
    let declared: Vec<DeclaredInput> = named.iter().map(|(name, ty)| DeclaredInput::of(name, ty)).collect();
    if let Some((name, _)) =
        request.inputs.named.iter().find(|(name, _)| !declared.iter().any(|input| input.name == *name))
    {
        let names: Vec<String> = declared.iter().map(|d| format!("`{}`", d.name)).collect();
        return Err(Error::user(format!(
            "the model was compiled without an input `{name}`; its inputs are {}. One that the model has a value for is an input where it \
             is compiled with its shape: --shape {}",
            names.join(", "),
            advice::word(&format!("{name}=DIMS"))
        )));
    }
    let given: BTreeMap<String, Value> = request.inputs.read(&declared)?;
    if let Some(name) = native.bound().iter().find(|name| !given.contains_key(*name)) {
        return Err(Error::user(format!(
            "the input `{name}` was fixed by --bind when the model was compiled, and takes that value alone, which is not made up; give it: \
             --input {}=x.npy",
            advice::word(name)
        )));
    }
    let mut dims = free_dims(&native, request, &given)?;
    let mut notes = vec![];
    if let Some(default) = request.default_dim {
        let free = native.model().symbols().iter().map(|s| s.name.clone());
        let defaulted: Vec<String> = free.filter(|name| !dims.contains_key(name)).collect();
        if !defaulted.is_empty() {
            notes.push(source::set_by_default(&defaulted, default));
        }
        dims.extend(defaulted.into_iter().map(|name| (name, default)));
    }
    let types = types(&native, &dims)?;
    let ports = types.iter().map(|(name, ty)| (name.as_str(), ty));
    let inputs = source::complete(ports, &given, request.random)?;
    let outputs = native.model().outputs().iter().map(|p| p.name.clone()).collect();
    Ok(Ready { executable: Executable::Native(Box::new(native)), inputs, outputs, notes })
}

/// The dims that a compiled model left free, as the request or the shapes of given inputs say.
fn free_dims(
    native: &Native,
    request: &Request,
    given: &BTreeMap<String, Value>,
) -> Result<BTreeMap<String, i64>> {
    let (inputs, symbols) = (native.model().inputs(), native.model().symbols());
    let decided = |name: &&String| !symbols.iter().any(|s| s.name == **name);
    if let Some(name) = request.dims.keys().find(decided) {
        let free: Vec<&str> = symbols.iter().map(|s| s.name.as_str()).collect();
        let free = if free.is_empty() { "none".to_owned() } else { free.join(", ") };
        return Err(Error::user(format!(
            "--dim {name}: it was decided when the model was compiled; dims that it left free: {free}"
        )));
    }
    let mut dims = request.dims.clone();
    // A free dim has the same negative number wherever it stands.
    for symbol in symbols {
        let number = inputs[symbol.input].dims[symbol.axis];
        for port in inputs {
            let Some(tensor) = given.get(&port.name).and_then(Value::as_tensor) else { continue };
            for (axis, (&have, _)) in
                tensor.shape().iter().zip(&port.dims).enumerate().filter(|(_, (_, d))| **d == number)
            {
                let want = *dims.entry(symbol.name.clone()).or_insert(have as i64);
                if want != have as i64 {
                    return Err(Error::user(format!(
                        "the input `{}`: axis {axis} is {have}, but the dim `{}` is {want}, as --dim or another input says",
                        port.name, symbol.name
                    )));
                }
            }
        }
    }
    Ok(dims)
}

/// The inputs of a compiled model; the dims that it left free have values, or their names.
fn types(native: &Native, dims: &BTreeMap<String, i64>) -> Result<Vec<(String, Type)>> {
    let (inputs, symbols) = (native.model().inputs(), native.model().symbols());
    let dim = |number: i64| -> egret_ir::Dim {
        let symbol = symbols.iter().find(|s| inputs[s.input].dims[s.axis] == number).filter(|_| number < 0);
        let Some(symbol) = symbol else { return egret_ir::Dim::constant(number) };
        dims.get(&symbol.name)
            .copied()
            .map_or_else(|| egret_ir::Dim::symbol(&symbol.name), egret_ir::Dim::constant)
    };
    inputs.iter().map(|port| port_type(port, &dim)).collect()
}

fn port_type(port: &Port, dim: &dyn Fn(i64) -> egret_ir::Dim) -> Result<(String, Type)> {
    let dtype = DType::from_abi_code(port.dtype).ok_or_else(|| {
        Error::internal(format!("the input `{}` has the unknown dtype {}", port.name, port.dtype))
    })?;
    let shape: Shape = port.dims.iter().map(|&d| dim(d)).collect();
    Ok((port.name.clone(), Type::Tensor(TensorType::new(dtype, shape))))
}
