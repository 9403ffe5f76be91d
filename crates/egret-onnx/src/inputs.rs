//! What is decided about a model's inputs before import: shapes, dims, values.

use crate::data::{decode_type, dtype};
use crate::error::{ErrorKind, ImportError};
use egret_ir::{Dim, DimEnv, Graph, Tensor, TensorType, Type, advice, verify};
use onnx_protobuf::{ValueInfoProto, type_proto};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a model beside its file.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Values of symbolic dims, by name.
    pub dims: BTreeMap<String, i64>,
    /// Actual shapes of graph inputs: they replace what the model declares, and bind the symbols it declares. An input with
    /// an initialiser that has its shape here is given by the caller: its initialiser, a default, is not used.
    pub input_shapes: BTreeMap<String, Vec<i64>>,
    /// Contents of graph inputs that the compiler may rely on. They stay inputs of the graph, but nothing reads them.
    pub bind: BTreeMap<String, Tensor>,
    /// Dims that depend on contents of inputs are dims of the run: nothing has to be bound for them.
    pub computed_dims: bool,
}

/// The types of a graph's inputs under the options; also the dims that the options bind.
pub(crate) fn input_types(
    inputs: &[&ValueInfoProto],
    options: &ImportOptions,
) -> Result<Vec<Type>, ImportError> {
    let place = |info: &ValueInfoProto| format!("input `{}`", info.name);
    let names: Vec<String> = inputs.iter().map(|i| format!("`{}`", i.name)).collect();
    for name in options.input_shapes.keys().chain(options.bind.keys()) {
        if !inputs.iter().any(|i| i.name == *name) {
            return Err(ImportError::invalid(format!(
                "the model has no input `{name}`; its inputs are {}",
                names.join(", ")
            )));
        }
    }
    let mut env: DimEnv = options.dims.clone();
    let mut symbols = BTreeSet::new();
    let mut declared = vec![];
    for info in inputs {
        let actual = actual_shape(&info.name, options)?;
        if let Some(shape) = &actual {
            bind_symbols(info, shape, &options.dims, &mut env).map_err(|e| e.at(place(info)))?;
        }
        let ty = decode_type(info.type_.get_or_default(), &mut |name, axis| {
            let name = dim_name(name).map_or_else(|| format!("{}_d{axis}", info.name), str::to_owned);
            symbols.insert(name.clone());
            Dim::symbol(&name)
        })
        .map_err(|e| e.at(place(info)))?;
        declared.push((ty, actual));
    }
    if let Some(unknown) = options.dims.keys().find(|d| !symbols.contains(*d)) {
        let known: Vec<String> = symbols.iter().map(|s| format!("`{s}`")).collect();
        return Err(ImportError::invalid(format!(
            "the model has no free dim `{unknown}`; {}",
            if known.is_empty() {
                "all its dims are fixed".to_owned()
            } else {
                format!("its free dims are {}", known.join(", "))
            }
        )));
    }
    if let Some((name, value)) = env.iter().find(|(_, v)| **v < 0) {
        return Err(ImportError::invalid(format!("the dim `{name}` cannot be {value}")));
    }
    let resolve = |(info, (ty, actual)): (&&ValueInfoProto, (Option<Type>, Option<Vec<i64>>))| {
        let ty = match (ty, actual) {
            (None | Some(Type::Tensor(_)), Some(shape)) => {
                let elem = match &info.type_.get_or_default().value {
                    Some(type_proto::Value::TensorType(t)) => dtype(t.elem_type)?,
                    _ => {
                        return Err(
                            ImportError::invalid("a shape is given for what is no tensor").at(place(info))
                        );
                    }
                };
                Type::Tensor(TensorType::new(
                    elem,
                    shape.into_iter().map(Dim::constant).collect::<Vec<_>>(),
                ))
            }
            (Some(ty), _) => ty.substitute(&env),
            (None, None) => {
                return Err(ImportError::unsupported(format!(
                    "its number of dims is not declared; give its value: --input {}=x.npy",
                    advice::word(&info.name)
                ))
                .at(place(info)));
            }
        };
        if let (Some(bound), Some(t)) = (options.bind.get(&info.name), ty.as_tensor())
            && bound.dtype() != t.dtype
        {
            return Err(ImportError::invalid(format!(
                "is {} but the value bound to it is {}",
                t.dtype,
                bound.dtype()
            ))
            .at(place(info)));
        }
        possible(&info.name, &ty).map_err(|e| e.at(place(info)))?;
        Ok(ty)
    };
    inputs.iter().zip(declared).map(resolve).collect()
}

/// Refuse a type that no graph may have, such as one whose bytes no machine can count.
fn possible(name: &str, ty: &Type) -> Result<(), ImportError> {
    let mut alone = Graph::new("input");
    alone.add_input(name, ty.clone());
    verify(&alone).map_err(|errors| {
        let why: Vec<&str> = errors.iter().map(|e| e.message.as_str()).collect();
        ImportError::invalid(why.join("; "))
    })
}

/// The name of a dim. Exporters write `?` for a dim that they do not know: dims without a letter in their names are called as
/// those without a name, by the input and the axis, and are not the same dim.
fn dim_name(name: &str) -> Option<&str> {
    Some(name).filter(|n| n.chars().any(char::is_alphabetic))
}

fn actual_shape(name: &str, options: &ImportOptions) -> Result<Option<Vec<i64>>, ImportError> {
    let bound = options.bind.get(name).map(|t| t.shape().iter().map(|&d| d as i64).collect());
    let shape: Option<Vec<i64>> = bound.or_else(|| options.input_shapes.get(name).cloned());
    match shape {
        Some(s) if s.iter().any(|&d| d < 0) => {
            Err(ImportError::invalid(format!("the shape {s:?} given for the input `{name}` is negative")))
        }
        other => Ok(other),
    }
}

/// Bind the symbols of an input's declared type by its actual shape, which must fit the type.
fn bind_symbols(
    info: &ValueInfoProto,
    actual: &[i64],
    given: &DimEnv,
    env: &mut DimEnv,
) -> Result<(), ImportError> {
    use onnx_protobuf::tensor_shape_proto::dimension::Value;
    let Some(type_proto::Value::TensorType(t)) = &info.type_.get_or_default().value else { return Ok(()) };
    let Some(shape) = t.shape.as_ref() else { return Ok(()) };
    let misfit = |why: String| {
        Err(ImportError::new(
            ErrorKind::Invalid,
            format!("the shape {actual:?} given for it does not fit: {why}"),
        ))
    };
    if shape.dim.len() != actual.len() {
        return misfit(format!("the model declares {} dims", shape.dim.len()));
    }
    for (axis, (dim, &have)) in shape.dim.iter().zip(actual).enumerate() {
        let name = match &dim.value {
            Some(Value::DimParam(name)) if dim_name(name).is_some() => name.clone(),
            _ => format!("{}_d{axis}", info.name),
        };
        if let Some(other) = given.get(&name).filter(|v| **v != have) {
            return misfit(format!("axis {axis} is {have}, but the dim `{name}` was given as {other}"));
        }
        match &dim.value {
            // Some exporters write 0 for a dim that they do not know.
            Some(Value::DimValue(v)) if *v > 0 && *v != have => {
                return misfit(format!("the model declares {v} at axis {axis}"));
            }
            Some(Value::DimValue(v)) if *v > 0 => {}
            Some(Value::DimParam(name)) if dim_name(name).is_some() => {
                env.entry(name.clone()).or_insert(have);
            }
            _ => {
                env.insert(name, have);
            }
        }
    }
    Ok(())
}
