//! From bytes to a graph: options, opset imports, graph inputs, the report of unsupported operators.

use crate::data::{decode_type, dtype};
use crate::error::{ErrorKind, ImportError, io};
use crate::external::ExternalData;
use crate::importer::{Functions, Importer};
use crate::{ops, wire};
use egret_ir::{Dim, DimEnv, Graph, Tensor, TensorType, Type};
use onnx_protobuf::{
    GraphProto, Message as _, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto, type_proto,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The newest opset of ai.onnx whose operators Egret knows.
pub const NEWEST_OPSET: i64 = 28;

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
}

/// Import a model from a file; external data is looked for in its folder.
///
/// # Errors
/// A file that cannot be read, is damaged, breaks a rule of ONNX, or uses what Egret does not support.
pub fn import_path(path: &Path, options: &ImportOptions) -> Result<Graph, ImportError> {
    let bytes = std::fs::read(path).map_err(|e| io(path, &e))?;
    import(&bytes, ExternalData::new(path.parent(), Some(path)), options).map_err(|mut e| {
        e.message = format!("{}: {e}", path.display());
        e.at.clear();
        e
    })
}

/// Import a model from memory. Without a folder, external data is refused.
///
/// # Errors
/// As [`import_path`].
pub fn import_bytes(
    bytes: &[u8],
    folder: Option<&Path>,
    options: &ImportOptions,
) -> Result<Graph, ImportError> {
    import(bytes, ExternalData::new(folder, None), options)
}

fn import(bytes: &[u8], external: ExternalData, options: &ImportOptions) -> Result<Graph, ImportError> {
    let model = parse_model(bytes)?;
    let opsets = opsets(&model.opset_import, "the model")?;
    let mut functions = Functions::default();
    for f in &model.functions {
        if functions.insert(key(&f.domain, &f.name, &f.overload), f).is_some() {
            return Err(ImportError::invalid(format!("the model defines the function `{}` twice", f.name)));
        }
    }
    let Some(graph) = model.graph.as_ref() else {
        return Err(ImportError::invalid("the model has no graph: not an ONNX file?"));
    };
    refuse_unsupported(graph, &opsets, &functions)?;
    Importer::new(external, functions).model(graph, opsets, options)
}

/// Check and parse the bytes of a ModelProto.
///
/// # Errors
/// Bytes that are no such message.
pub fn parse_model(bytes: &[u8]) -> Result<ModelProto, ImportError> {
    if bytes.is_empty() {
        return Err(ImportError::invalid("the file is empty"));
    }
    wire::check(bytes, wire::Message::Model)?;
    ModelProto::parse_from_bytes(bytes).map_err(|e| ImportError::invalid(format!("not an ONNX file: {e}")))
}

/// The key of a model-local function.
pub(crate) fn key(domain: &str, name: &str, overload: &str) -> (String, String, String) {
    (normal(domain).to_owned(), name.to_owned(), overload.to_owned())
}

/// A domain with both spellings of the default one made equal.
pub(crate) fn normal(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// Opset versions by domain.
pub(crate) fn opsets(
    imports: &[OperatorSetIdProto],
    whose: &str,
) -> Result<BTreeMap<String, i64>, ImportError> {
    let mut out = BTreeMap::new();
    for import in imports {
        let domain = normal(&import.domain);
        if domain.is_empty() && import.version > NEWEST_OPSET {
            return Err(ImportError::unsupported(format!(
                "{whose} uses opset {}, newer than {NEWEST_OPSET}, the newest that Egret knows; export it for an older opset",
                import.version
            )));
        }
        if import.version < 1 {
            return Err(ImportError::invalid(format!(
                "{whose} imports opset {} of the domain `{domain}`",
                import.version
            )));
        }
        out.insert(domain.to_owned(), import.version);
    }
    // Models older than opset imports have opset 1.
    if out.is_empty() {
        out.insert(String::new(), 1);
    }
    Ok(out)
}

/// How messages name a node: `Conv "/layer1/conv"`.
pub(crate) fn node_place(prefix: &str, node: &NodeProto) -> String {
    format!("{} {:?}", node.op_type, node_name(prefix, node))
}

/// A node's name, or that of its first output where it has none.
pub(crate) fn node_name(prefix: &str, node: &NodeProto) -> String {
    let name = match node.output.iter().find(|o| !o.is_empty()) {
        Some(output) if node.name.is_empty() => output,
        _ => &node.name,
    };
    format!("{prefix}{name}")
}

/// One error for all operators that cannot be imported.
fn refuse_unsupported(
    graph: &GraphProto,
    opsets: &BTreeMap<String, i64>,
    functions: &Functions,
) -> Result<(), ImportError> {
    let mut missing: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
    let mut visited = BTreeSet::new();
    let mut work = vec![(graph.node.as_slice(), opsets.clone())];
    while let Some((nodes, opsets)) = work.pop() {
        for node in nodes {
            for attr in &node.attribute {
                for inner in attr.g.iter().chain(&attr.graphs) {
                    work.push((&inner.node, opsets.clone()));
                }
            }
            let key = key(&node.domain, &node.op_type, &node.overload);
            if let Some(f) = functions.get(&key) {
                if visited.insert(key) {
                    work.push((
                        &f.node,
                        self::opsets(&f.opset_import, &format!("the function `{}`", f.name))?,
                    ));
                }
                continue;
            }
            let domain = normal(&node.domain);
            let label =
                if domain.is_empty() { node.op_type.clone() } else { format!("{domain}.{}", node.op_type) };
            let problem = match (opsets.get(domain), ops::find(domain, &node.op_type)) {
                (Some(&have), Some(row)) if have >= row.since => continue,
                (Some(&have), Some(row)) => {
                    format!("{label} of opset {have} (supported from opset {})", row.since)
                }
                (None, Some(_)) => format!("{label}, whose domain `{domain}` the model does not import"),
                (_, None) => label,
            };
            let entry = missing.entry(problem).or_default();
            entry.0 += 1;
            if entry.1.len() < 3 {
                entry.1.push(format!("{:?}", node_name("", node)));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = missing
        .into_iter()
        .map(|(what, (count, names))| {
            let dots = if count > names.len() { ", ..." } else { "" };
            format!("{what} ({count}: {}{dots})", names.join(", "))
        })
        .collect();
    let operators = if list.len() == 1 { "an operator" } else { "operators" };
    Err(ImportError::unsupported(format!(
        "the model uses {operators} that Egret does not support: {}",
        list.join("; ")
    )))
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
            bind_symbols(info, shape, &mut env).map_err(|e| e.at(place(info)))?;
        }
        let ty = decode_type(info.type_.get_or_default(), &mut |name, axis| {
            let name = if name.is_empty() { format!("{}_d{axis}", info.name) } else { name.to_owned() };
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
                return Err(ImportError::unsupported("its number of dims is not declared; give its shape")
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
        Ok(ty)
    };
    inputs.iter().zip(declared).map(resolve).collect()
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
fn bind_symbols(info: &ValueInfoProto, actual: &[i64], env: &mut DimEnv) -> Result<(), ImportError> {
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
        match &dim.value {
            // Some exporters write 0 for a dim that they do not know.
            Some(Value::DimValue(v)) if *v > 0 && *v != have => {
                return misfit(format!("the model declares {v} at axis {axis}"));
            }
            Some(Value::DimValue(v)) if *v > 0 => {}
            Some(Value::DimParam(name)) if !name.is_empty() => {
                env.entry(name.clone()).or_insert(have);
            }
            _ => {
                env.insert(format!("{}_d{axis}", info.name), have);
            }
        }
    }
    Ok(())
}
