//! From a model file to a graph: what the inputs are called, their shapes and bound values decided before import.

use crate::error::{Error, Result};
use crate::shapes;
use egret_ir::{DType, Dim, DimEnv, Graph, Shape, Tensor, TensorType, Type, Value};
use egret_onnx::ImportOptions;
use onnx_protobuf::{ModelProto, TensorProto, TypeProto, type_proto};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use egret_onnx::data::dtype as element_type;

/// The operators of ONNX's own domain that are imported.
pub fn operators() -> impl Iterator<Item = &'static str> {
    let rows = egret_onnx::ops::tables().iter().flat_map(|(_, rows)| *rows);
    rows.filter(|row| row.domain.is_empty()).map(|row| row.name)
}

/// The tensor of an initialiser whose numbers are in the model file itself.
///
/// # Errors
/// Dims and data that disagree, an unknown element type, external data.
pub fn decode_tensor(proto: &TensorProto) -> Result<Tensor> {
    Ok(egret_onnx::data::decode_tensor(proto)?)
}

/// An input or output that a graph declares.
#[derive(Clone, Debug)]
pub struct DeclaredInput {
    /// Its name.
    pub name: String,
    /// Whether an initialiser of its name is what it is where the caller gives nothing.
    pub has_default: bool,
    /// Its type; the shape of a tensor is left out (empty), only its kind and dtype count.
    pub ty: Type,
    /// Its number of axes, where the model declares it.
    pub rank: Option<usize>,
}

impl DeclaredInput {
    /// The shape of one element, as far as the model declares it.
    pub(crate) fn ones(&self) -> Vec<usize> {
        vec![1; self.rank.unwrap_or(0)]
    }

    /// An input of a graph.
    pub(crate) fn of(name: &str, ty: &Type) -> DeclaredInput {
        let (ty, rank) = match ty {
            Type::Tensor(t) => (Type::Tensor(TensorType::new(t.dtype, Shape::new())), Some(t.shape.len())),
            other => (other.clone(), None),
        };
        DeclaredInput { name: name.to_owned(), has_default: false, ty, rank }
    }
}

/// The inputs and outputs that a model declares, without importing it.
pub struct Declared {
    /// Inputs; the caller must give those without a default.
    pub inputs: Vec<DeclaredInput>,
    /// Outputs. Nothing needs what a model declares of them, but who reads values for them: of some it says nothing, or what Egret does not know.
    pub outputs: Vec<Result<DeclaredInput>>,
}

/// A model file, read and parsed once: what it declares, which files it consists of, and the graphs that it becomes.
pub struct ModelFile {
    /// `None`: it was never in a file.
    path: Option<PathBuf>,
    proto: ModelProto,
}

/// What a model's exporter says of it, as it is written in the file.
pub struct About {
    /// The tool.
    pub producer: String,
    /// Its version.
    pub producer_version: String,
    /// The domain of the model, as a reversed DNS name.
    pub domain: String,
    /// The version of the model.
    pub version: i64,
    /// Entries of its metadata.
    pub metadata: Vec<(String, String)>,
}

impl ModelFile {
    /// Read a model file; its external data is read when a graph is made.
    ///
    /// # Errors
    /// A file that cannot be read, or is no model.
    pub fn open(path: &Path) -> Result<ModelFile> {
        Ok(ModelFile { path: Some(path.to_owned()), proto: egret_onnx::parse_path(path)? })
    }

    /// As [`ModelFile::open`], for making graphs only: its large tensors stay in the file until then, and [`ModelFile::proto`] lacks
    /// them.
    ///
    /// # Errors
    /// As [`ModelFile::open`].
    pub fn open_lean(path: &Path) -> Result<ModelFile> {
        Ok(ModelFile { path: Some(path.to_owned()), proto: egret_onnx::parse_lean(path)? })
    }

    /// A model in memory, as if it had been read from a file there.
    pub fn of(path: &Path, proto: ModelProto) -> ModelFile {
        ModelFile { path: Some(path.to_owned()), proto }
    }

    /// The bytes of a model; there is no folder where its external data could be.
    ///
    /// # Errors
    /// Bytes that are no model.
    pub fn from_bytes(bytes: &[u8]) -> Result<ModelFile> {
        Ok(ModelFile { path: None, proto: egret_onnx::parse_model(bytes)? })
    }

    /// The model as it was read.
    pub fn proto(&self) -> &ModelProto {
        &self.proto
    }

    /// What the model declares.
    ///
    /// # Errors
    /// An input whose type is not declared, or not known to Egret.
    pub fn declared(&self) -> Result<Declared> {
        let graph = &self.proto.graph;
        let sparse = graph.sparse_initializer.iter().map(|t| t.values.get_or_default().name.as_str());
        let initialised: BTreeSet<&str> =
            graph.initializer.iter().map(|t| t.name.as_str()).chain(sparse).collect();
        let port = |what: &str, v: &onnx_protobuf::ValueInfoProto| {
            declared_type(&v.type_)
                .map(|ty| DeclaredInput {
                    name: v.name.clone(),
                    has_default: initialised.contains(v.name.as_str()),
                    rank: declared_rank(&v.type_),
                    ty,
                })
                .map_err(|e| e.at(format!("{what} `{}`", v.name)))
                .map_err(|e| self.path.iter().fold(e, |e, path| e.at(path.display())))
        };
        Ok(Declared {
            inputs: graph.input.iter().map(|v| port("input", v)).collect::<Result<_>>()?,
            outputs: graph.output.iter().map(|v| port("output", v)).collect(),
        })
    }

    /// The dims that an input or output declares, unnamed where it gives neither size nor name. `None`: there is no such tensor,
    /// or its rank is not declared.
    pub fn declared_dims(&self, name: &str) -> Option<Vec<Dim>> {
        let graph = &self.proto.graph;
        let port = graph.input.iter().chain(&graph.output).find(|v| v.name == name)?;
        let mut dim = |name: &str, _| if name.is_empty() { Dim::unnamed() } else { Dim::symbol(name) };
        match egret_onnx::data::decode_type(&port.type_, &mut dim) {
            Ok(Some(Type::Tensor(t))) => Some(t.shape.to_vec()),
            _ => None,
        }
    }

    /// The values of free dims that were decided for an import: those that are given, and those that shapes of inputs tell.
    pub fn known_dims(&self, options: &ImportOptions) -> DimEnv {
        let mut known = DimEnv::new();
        for (name, shape) in &options.input_shapes {
            let dims = self.declared_dims(name).unwrap_or_default();
            for (dim, size) in dims.iter().zip(shape).filter(|(dim, _)| !dim.is_unnamed()) {
                let size = size.substitute(&options.dims).as_const();
                known.extend(dim.as_symbol().zip(size).map(|(symbol, size)| (symbol.to_owned(), size)));
            }
        }
        known.extend(options.dims.clone());
        known
    }

    /// What its exporter says of it.
    pub fn about(&self) -> About {
        let p = &self.proto;
        About {
            producer: p.producer_name.clone(),
            producer_version: p.producer_version.clone(),
            domain: p.domain.clone(),
            version: p.model_version,
            metadata: p.metadata_props.iter().map(|e| (e.key.clone(), e.value.clone())).collect(),
        }
    }

    /// Opset versions that the model imports, as `domain version`.
    pub fn opsets(&self) -> Vec<String> {
        let name = |domain: &str| if domain.is_empty() { "ai.onnx".into() } else { domain.to_owned() };
        self.proto.opset_import.iter().map(|o| format!("{} {}", name(&o.domain), o.version)).collect()
    }

    /// The model file and the files of external data that it names, in order, each once; none of a model in memory.
    pub fn files(&self) -> Vec<PathBuf> {
        let Some(path) = &self.path else { return vec![] };
        let mut out = vec![path.clone()];
        for location in egret_onnx::external_locations(&self.proto) {
            let path = path.with_file_name(location);
            if !out.contains(&path) {
                out.push(path);
            }
        }
        out
    }

    /// The graph, with what is decided about it.
    ///
    /// # Errors
    /// A model that is wrong or unsupported; decisions that do not fit it.
    pub fn import(&self, options: &ImportOptions) -> Result<Graph> {
        let mut options = options.clone();
        loop {
            match self.graph(&options) {
                Ok(graph) => return Ok(graph),
                Err(e) => bind_more(&mut options, &BTreeMap::new(), e)?,
            }
        }
    }

    fn graph(&self, options: &ImportOptions) -> std::result::Result<Graph, egret_onnx::ImportError> {
        match &self.path {
            Some(path) => egret_onnx::import_parsed(&self.proto, path, options),
            None => egret_onnx::import_in_memory(&self.proto, options),
        }
    }

    /// The graph for given inputs: dims take the inputs' shapes, and inputs whose values the compiler must know are bound to
    /// them, those of `bind` always; what dims depend on and is not given is left to the run. Returns what was decided too.
    ///
    /// # Errors
    /// As [`ModelFile::import`].
    pub fn import_for_inputs(
        &self,
        dims: &BTreeMap<String, i64>,
        inputs: &BTreeMap<String, Value>,
        bind: BTreeMap<String, Tensor>,
    ) -> Result<(Graph, ImportOptions)> {
        self.import_beside(ImportOptions { dims: dims.clone(), bind, ..ImportOptions::default() }, inputs)
    }

    /// As [`ModelFile::import_for_inputs`], where shapes of some inputs are said beside their values: both have to fit.
    ///
    /// # Errors
    /// As [`ModelFile::import`].
    pub fn import_beside(
        &self,
        mut options: ImportOptions,
        inputs: &BTreeMap<String, Value>,
    ) -> Result<(Graph, ImportOptions)> {
        for (name, value) in inputs {
            let Some(t) = value.as_tensor() else { continue };
            match options.input_shapes.get_mut(name) {
                Some(said) => shapes::fit(said, &shape(t), &mut options.dims)
                    .map_err(|e| Error::user(format!("input `{name}`: {e}")))?,
                None => {
                    options.input_shapes.insert(name.clone(), shape(t));
                }
            }
        }
        loop {
            match self.graph(&options) {
                Ok(graph) => return Ok((graph, options)),
                Err(e) => bind_more(&mut options, inputs, e)?,
            }
        }
    }

    /// As [`ModelFile::import_for_inputs`], but dims of the inputs are free, whatever the model declares. Inputs none of whose dims is
    /// free and those with a default keep their shapes, as do those whose values the compiler must know.
    ///
    /// # Errors
    /// As [`ModelFile::import`]; no input that has a first dim, where that is to be free.
    pub fn import_with_free(
        &self,
        free: Free,
        dims: &BTreeMap<String, i64>,
        inputs: &BTreeMap<String, Value>,
    ) -> Result<(Graph, ImportOptions)> {
        let mut options = ImportOptions { dims: dims.clone(), ..ImportOptions::default() };
        loop {
            // One whose value must be known has the shape of its value.
            let mut open = inputs.clone();
            open.retain(|name, _| !options.bind.contains_key(name));
            let symbols = self.free_symbols(free, &open);
            if symbols.is_empty() && free == Free::First {
                return Err(Error::unsupported("no input has a first dim that could be free"));
            }
            let fixed = open.iter().filter(|(name, _)| !symbols.contains_key(name.as_str()));
            options.input_shapes =
                fixed.filter_map(|(n, v)| Some((n.clone(), shape(v.as_tensor()?)))).collect();
            let file =
                ModelFile { path: self.path.clone(), proto: with_symbols(&self.proto, &symbols, &open) };
            match file.graph(&options) {
                Ok(graph) => return Ok((graph, options)),
                Err(e) => bind_more(&mut options, inputs, e)?,
            }
        }
    }

    /// The symbols of the inputs that have any: for each axis its symbol, or none where the dim is as it is.
    fn free_symbols(
        &self,
        free: Free,
        inputs: &BTreeMap<String, Value>,
    ) -> BTreeMap<&str, Vec<Option<String>>> {
        let text = |ty: &TypeProto| format!("{:?}", ty.value);
        // No input that stays as it is declared has a dim of such a name.
        let unused = |name: &str| {
            let mut name = name.to_owned();
            while self.proto.graph.input.iter().any(|i| text(&i.type_).contains(&name)) {
                name.push('_');
            }
            name
        };
        let shape_of = |name: &str| Some(inputs.get(name)?.as_tensor()?.shape().to_vec());
        let of = |name: &str, symbol: &dyn Fn(usize, usize) -> Option<String>| {
            Some(shape_of(name)?.iter().enumerate().map(|(axis, &d)| symbol(axis, d)).collect::<Vec<_>>())
        };
        match free {
            Free::First => {
                let first = unused("first");
                let symbol = |axis, _| (axis == 0).then(|| first.clone());
                self.first_dim_of_most(inputs)
                    .into_iter()
                    .filter_map(|n| Some((n, of(n, &symbol)?)))
                    .collect()
            }
            Free::All => {
                let prefix = unused("dim");
                let symbol = |_, d| (d > 1).then(|| format!("{prefix}{d}"));
                let all = self.tensors_without_default().filter_map(|n| Some((n, of(n, &symbol)?)));
                all.filter(|(_, symbols)| symbols.iter().any(Option::is_some)).collect()
            }
        }
    }

    /// The inputs that are tensors and have no default.
    fn tensors_without_default(&self) -> impl Iterator<Item = &str> {
        let graph = &self.proto.graph;
        let given = graph.input.iter().filter(|i| {
            matches!(i.type_.value, Some(type_proto::Value::TensorType(_)))
                && !graph.initializer.iter().any(|t| t.name == i.name)
        });
        given.map(|i| i.name.as_str())
    }

    /// Inputs whose first dim is that of most inputs.
    fn first_dim_of_most(&self, inputs: &BTreeMap<String, Value>) -> BTreeSet<&str> {
        let first = |name: &str| inputs.get(name)?.as_tensor()?.shape().first().copied().filter(|&d| d > 0);
        let firsts: Vec<(&str, usize)> =
            self.tensors_without_default().filter_map(|name| Some((name, first(name)?))).collect();
        let alike = |d: usize| firsts.iter().filter(|f| f.1 == d).map(|f| f.0).collect::<BTreeSet<&str>>();
        // Of several the first in the order of the inputs.
        let most = firsts.iter().map(|f| alike(f.1).len()).max();
        firsts.iter().map(|f| alike(f.1)).find(|a| Some(a.len()) == most).unwrap_or_default()
    }
}

/// Which dims of a case's inputs are left free.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Free {
    /// The first of each input that has that of most of them, as one symbol.
    First,
    /// All but those of 1, which other dims may be broadcast along: dims of one size are one symbol.
    All,
}

fn shape(t: &Tensor) -> Vec<Dim> {
    t.shape().iter().map(|&d| Dim::from(d)).collect()
}

/// The inputs that a failed import wants to know are bound to their values; where there are none, their dims are left to the run. Its error if they
/// are already.
fn bind_more(
    options: &mut ImportOptions,
    inputs: &BTreeMap<String, Value>,
    error: egret_onnx::ImportError,
) -> Result<()> {
    let before = options.bind.len();
    if error.kind == egret_onnx::ErrorKind::NeedsValue {
        for name in &error.inputs_to_bind {
            if let Some(t) = inputs.get(name).and_then(Value::as_tensor) {
                options.bind.insert(name.clone(), t.clone());
            }
        }
    }
    if options.bind.len() > before {
        return Ok(());
    }
    match error.kind {
        egret_onnx::ErrorKind::NeedsValue if !options.computed_dims => {
            options.computed_dims = true;
            Ok(())
        }
        _ => Err(error.into()),
    }
}

/// A model whose inputs are declared with these symbols, and else with the dims that they have.
fn with_symbols(
    model: &ModelProto,
    symbols: &BTreeMap<&str, Vec<Option<String>>>,
    inputs: &BTreeMap<String, Value>,
) -> ModelProto {
    use onnx_protobuf::TensorShapeProto;
    use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
    let mut out = model.clone();
    for info in &mut out.graph.mut_or_insert_default().input {
        let Some(symbols) = symbols.get(info.name.as_str()) else { continue };
        let Some(t) = inputs.get(&info.name).and_then(Value::as_tensor) else { continue };
        let Some(type_proto::Value::TensorType(ty)) = &mut info.type_.mut_or_insert_default().value else {
            continue;
        };
        let dim = |(&d, symbol): (&usize, &Option<String>)| Dimension {
            value: Some(match symbol {
                Some(symbol) => dimension::Value::DimParam(symbol.clone()),
                None => dimension::Value::DimValue(d as i64),
            }),
            ..Dimension::default()
        };
        let dim = t.shape().iter().zip(symbols).map(dim).collect();
        ty.shape = Some(TensorShapeProto { dim, ..TensorShapeProto::default() }).into();
    }
    out
}

fn declared_rank(ty: &TypeProto) -> Option<usize> {
    match &ty.value {
        Some(type_proto::Value::TensorType(t)) => t.shape.as_ref().map(|s| s.dim.len()),
        _ => None,
    }
}

// Only the kind and the dtype count here, so a tensor of unknown rank may pass for a scalar.
fn declared_type(ty: &TypeProto) -> Result<Type> {
    egret_onnx::data::has_type(ty)?;
    match &ty.value {
        Some(type_proto::Value::TensorType(t)) => {
            Ok(Type::Tensor(TensorType::new(egret_onnx::data::dtype(t.elem_type)?, Shape::new())))
        }
        Some(type_proto::Value::OptionalType(o)) => {
            Ok(Type::Optional(Box::new(declared_type(o.elem_type.get_or_default())?)))
        }
        // A tensor stands for them.
        _ if egret_onnx::maps::is_sequence_of_maps(ty) => {
            Ok(Type::Tensor(TensorType::new(DType::F32, Shape::new())))
        }
        _ => {
            let ty = egret_onnx::data::decode_type(ty, &mut |name, axis| {
                Dim::symbol(&format!("{name}_{axis}"))
            })?;
            ty.ok_or_else(|| Error::unsupported("is of undeclared rank"))
        }
    }
}

/// Read a serialised TensorProto, SequenceProto or OptionalProto, as the type says.
pub fn read_value_pb(path: &Path, ty: &Type) -> Result<Value> {
    Ok(egret_onnx::data::read_value_file(path, ty)?)
}

/// Bytes of files.
///
/// # Errors
/// A file that is not there.
pub fn bytes_of(files: &[PathBuf]) -> Result<u64> {
    let len = |p: &PathBuf| std::fs::metadata(p).map(|m| m.len()).map_err(|e| Error::io("read", p, &e));
    files.iter().map(len).sum()
}
