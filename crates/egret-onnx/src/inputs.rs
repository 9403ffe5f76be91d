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
    /// Shapes of graph inputs, of sizes and free dims (symbols; those without a name are as they are declared, else called by the input and the axis): they replace what the
    /// model declares, which they have to fit, and the symbols it declares stand for the same elsewhere. An input with
    /// an initialiser that has its shape here is given by the caller: its initialiser, a default, is not used.
    pub input_shapes: BTreeMap<String, Vec<Dim>>,
    /// Contents of graph inputs that the compiler may rely on. They stay inputs of the graph, but nothing reads them.
    pub bind: BTreeMap<String, Tensor>,
    /// Dims that depend on contents of inputs are dims of the run: nothing has to be bound for them.
    pub computed_dims: bool,
    /// Names of the model's own graph that derivatives are asked by. Where one is a constant of floats (a weight, or what is computed of weights
    /// alone), it is a value of its own: no equal constant is the same one, nothing is computed of it at import, and sub-graphs capture it.
    pub apart: BTreeSet<String>,
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
    let mut env: BTreeMap<String, Dim> =
        options.dims.iter().map(|(name, &size)| (name.clone(), Dim::constant(size))).collect();
    let mut symbols = BTreeSet::new();
    let mut sizes = DimEnv::new();
    let mut declared = vec![];
    for info in inputs {
        let ty = decode_type(info.type_.get_or_default(), &mut |name, axis| {
            let name = dim_name(name).map_or_else(|| unnamed(info, axis), str::to_owned);
            symbols.insert(name.clone());
            Dim::symbol(&name)
        })
        .map_err(|e| e.at(place(info)))?;
        let shape = ty.as_ref().and_then(Type::as_tensor).map_or(&[][..], |t| &t.shape);
        let given = given_shape(info, shape, options).map_err(|e| e.at(place(info)))?;
        if let (Some(given), Some(Type::Tensor(ty))) = (&given, &ty) {
            bind_symbols(&ty.shape, given, &options.dims, &mut env, &mut sizes)
                .map_err(|e| e.at(place(info)))?;
        }
        let said = options.input_shapes.get(&info.name).into_iter().flatten().enumerate();
        symbols.extend(said.filter_map(|(axis, d)| match d.is_unnamed() {
            true => Some(unnamed(info, axis)),
            false => d.as_symbol().map(str::to_owned),
        }));
        declared.push((ty, given));
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
    if let Some((name, value)) = env.iter().find(|(_, v)| v.is_negative()) {
        return Err(ImportError::invalid(format!("the dim `{name}` cannot be {value}")));
    }
    // A dim that is left as it is declared is what it is called elsewhere, and a name has the size of what it names.
    for (ty, given) in &mut declared {
        let shape = ty.as_ref().and_then(Type::as_tensor).map_or(&[][..], |t| &t.shape);
        for (axis, dim) in given.iter_mut().flatten().enumerate() {
            let Some(name) = dim.as_symbol() else { continue };
            if let Some(called) = env.get(name).filter(|_| shape.get(axis) == Some(&*dim)) {
                *dim = called.clone();
            }
            *dim = dim.substitute(&sizes);
        }
    }
    env.values_mut().for_each(|dim| *dim = dim.substitute(&sizes));
    let known = |name: &str| {
        let called = env.get(name).cloned().unwrap_or_else(|| Dim::symbol(name));
        Some(called.substitute(&sizes))
    };
    let resolve = |(info, (ty, given)): (&&ValueInfoProto, (Option<Type>, Option<Vec<Dim>>))| {
        let ty = match (ty, given) {
            (None | Some(Type::Tensor(_)), Some(shape)) => {
                let elem = match &info.type_.get_or_default().value {
                    Some(type_proto::Value::TensorType(t)) => dtype(t.elem_type)?,
                    _ => {
                        return Err(
                            ImportError::invalid("a shape is given for what is no tensor").at(place(info))
                        );
                    }
                };
                Type::Tensor(TensorType::new(elem, shape))
            }
            (Some(_), Some(_)) => {
                return Err(ImportError::invalid("a shape is given for what is no tensor").at(place(info)));
            }
            (Some(ty), None) => ty.map_dims(&|d| d.map_symbols(&known).unwrap_or_else(|| d.clone())),
            (None, None) => {
                return Err(ImportError::unsupported(format!(
                    "its number of dims is not declared; give its shape: --shape {}",
                    advice::word(&format!("{}={}", info.name, advice::SHAPE))
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

/// What a dim without a name is called.
fn unnamed(info: &ValueInfoProto, axis: usize) -> String {
    format!("{}_d{axis}", info.name)
}

/// The shape that the options give an input, if any: dims without a name are as they are declared, and those have values that are given.
fn given_shape(
    info: &ValueInfoProto,
    declared: &[Dim],
    options: &ImportOptions,
) -> Result<Option<Vec<Dim>>, ImportError> {
    let bound = options.bind.get(&info.name).map(|t| t.shape().iter().map(|&d| Dim::from(d)).collect());
    let shape: Option<Vec<Dim>> = bound.or_else(|| options.input_shapes.get(&info.name).cloned());
    let Some(shape) = shape else { return Ok(None) };
    let named = |(axis, dim): (usize, &Dim)| {
        let as_declared =
            || declared.get(axis).cloned().unwrap_or_else(|| Dim::symbol(&unnamed(info, axis)));
        let dim = if dim.is_unnamed() { as_declared() } else { dim.clone() };
        dim.substitute(&options.dims)
    };
    let out: Vec<Dim> = shape.iter().enumerate().map(named).collect();
    let is_size = |d: &Dim| d.as_const().is_some_and(|c| c >= 0) || d.as_symbol().is_some();
    match out.iter().all(is_size) {
        true => Ok(Some(out)),
        false => Err(ImportError::invalid(format!(
            "the shape {} that is given for it has dims that are neither sizes nor names",
            spelt(&shape)
        ))),
    }
}

fn spelt(shape: &[Dim]) -> String {
    format!("[{}]", shape.iter().map(|d| d.to_string()).collect::<Vec<_>>().join(", "))
}

/// Bind the symbols of an input's declared shape by the given one, which must fit it. What the model calls by one name stays one dim: it has one name,
/// and a size that it has for one input is that of its name elsewhere, in `sizes`. (Two sizes are taken as they are given, as those of values are.)
fn bind_symbols(
    declared: &[Dim],
    given: &[Dim],
    dims: &DimEnv,
    env: &mut BTreeMap<String, Dim>,
    sizes: &mut DimEnv,
) -> Result<(), ImportError> {
    let misfit = |why: String| {
        let message = format!("the shape {} given for it does not fit: {why}", spelt(given));
        Err(ImportError::new(ErrorKind::Invalid, message))
    };
    if declared.len() != given.len() {
        return misfit(format!("the model declares {} dims", declared.len()));
    }
    for (axis, (dim, have)) in declared.iter().zip(given).enumerate() {
        match (dim.as_symbol(), dim.as_const()) {
            (Some(name), _) => {
                if let Some(other) = dims.get(name).filter(|v| have.as_const() != Some(**v)) {
                    return misfit(format!(
                        "axis {axis} is {have}, but the dim `{name}` was given as {other}"
                    ));
                }
                let other = env.entry(name.to_owned()).or_insert_with(|| have.clone());
                match ((other.as_symbol(), other.as_const()), (have.as_symbol(), have.as_const())) {
                    _ if other == have => {}
                    (_, (Some(own), _)) if own == name => {}
                    ((Some(own), _), _) if own == name => other.clone_from(have),
                    ((Some(called), _), (Some(here), _)) => {
                        return misfit(format!(
                            "the model calls axis {axis} `{name}`, as it does a dim that is given as `{called}`, so that they are one dim: call \
                             both `{called}`, or both `{here}`"
                        ));
                    }
                    ((Some(called), _), (_, Some(size))) | ((_, Some(size)), (Some(called), _)) => {
                        if let Some(has) = sizes.insert(called.to_owned(), size).filter(|&has| has != size)
                        {
                            return misfit(format!(
                                "the dim `{called}` is {has} by another input, and {size} by this one"
                            ));
                        }
                    }
                    _ => {}
                }
            }
            // Some exporters write 0 for a dim that they do not know.
            (None, Some(v)) if v > 0 && dim != have => {
                return misfit(format!("the model declares {v} at axis {axis}"));
            }
            _ => {}
        }
    }
    Ok(())
}
