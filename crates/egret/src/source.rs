//! What a command is given: a model or a text IR file, inputs for it, and what is made up where the user gives none.

use crate::cases::{self, Case};
use crate::constants;
use crate::error::{Error, Result};
use crate::files;
use crate::frontend::{DeclaredInput, ModelFile};
use crate::inputs::{self, Given, Inputs};
use crate::limits;
use crate::shapes;
use egret_ir::rng::Rng;
use egret_ir::{DType, Dim, DimEnv, Graph, Tensor, TensorType, Type, Value, advice, text, verify};
use egret_onnx::ImportOptions;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A graph as it was imported, its dims constant where something decides them.
pub struct Imported {
    /// The model file.
    pub model: PathBuf,
    /// The model file and its files of external data.
    pub files: Vec<PathBuf>,
    /// Opset versions that the model imports, as `domain version`; none of text IR.
    pub opsets: Vec<String>,
    /// The graph.
    pub graph: Graph,
    /// Inputs whose values were fixed at import.
    pub bound: BTreeMap<String, Tensor>,
    /// Every value that is given, by name.
    pub inputs: BTreeMap<String, Value>,
    /// Free dims that nothing decided and that were set to [`Request::default_dim`].
    pub defaulted: Vec<String>,
    /// What the user should know about the model, a line each.
    pub notes: Vec<String>,
}

/// A graph with constant dims, and a value for each of its inputs.
pub struct Prepared {
    /// The graph.
    pub graph: Graph,
    /// Inputs whose values were fixed at import.
    pub bound: BTreeMap<String, Tensor>,
    /// Values, in the order of the graph's inputs.
    pub inputs: Vec<Value>,
    /// Free dims that nothing decided and that were set to [`Request::default_dim`].
    pub defaulted: Vec<String>,
    /// What the user should know about the model, a line each.
    pub notes: Vec<String>,
}

/// A file that was read: the two kinds of model.
enum Read {
    /// With the files that it consists of.
    Text(Graph, Vec<PathBuf>),
    Onnx(ModelFile),
}

/// A model and how to get to a run of it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The `.onnx` or `.egret` file, or the folder of a test case (its first inputs are given then).
    pub model: PathBuf,
    /// Values of free dims.
    pub dims: BTreeMap<String, i64>,
    /// Shapes of inputs, of sizes and free dims, where the model declares none or leaves dims open.
    pub shapes: BTreeMap<String, Vec<Dim>>,
    /// The most that dims may be which loops of the model decide.
    pub at_most: BTreeMap<String, Dim>,
    /// Values of inputs; their shapes decide dims, and the values are fixed at import where it needs them.
    pub inputs: Inputs,
    /// Values of inputs that are fixed at import.
    pub bind: Vec<(String, Given)>,
    /// Make up the inputs that are not given, from this seed.
    pub random: Option<u64>,
    /// The value of free dims that nothing else decides.
    pub default_dim: Option<i64>,
    /// Values of the model that derivatives are asked by: [`ImportOptions::apart`].
    pub apart: BTreeSet<String>,
}

impl Imported {
    /// Values for all inputs; those that are not given are made up from a seed.
    ///
    /// # Errors
    /// An input that cannot be made up.
    pub fn values(&self, seed: u64) -> Result<Vec<Value>> {
        made_up_beside(&self.graph, &self.inputs, seed)
    }
}

impl Request {
    /// Files that values for inputs are read from.
    pub fn given_files(&self) -> Vec<PathBuf> {
        let named = self.inputs.named.iter().chain(&self.bind).filter_map(|(_, given)| match given {
            Given::File(path) => Some(path.clone()),
            _ => None,
        });
        let folders = std::iter::once(&self.model).filter(|m| m.is_dir()).chain(&self.inputs.files);
        let several = folders.flat_map(|path| match Case::open(path) {
            Some(case) => case.input_files(),
            None => vec![path.clone()],
        });
        named.chain(several).collect()
    }

    /// Import the model.
    ///
    /// # Errors
    /// A file that cannot be read; a model that is wrong or unsupported; inputs that do not fit it.
    pub fn import(&self) -> Result<Imported> {
        let (model, case) = locate(&self.model)?;
        let read = match is_text(&model) {
            // Text IR declares its inputs in the graph itself.
            true => {
                let (graph, files) = parse_text(&model)?;
                Read::Text(graph, files)
            }
            false => Read::Onnx(ModelFile::open_lean(&model)?),
        };
        let unused = case.is_none() && self.inputs.is_empty() && self.bind.is_empty();
        let declared = match &read {
            Read::Text(graph, _) => declared_of(graph),
            Read::Onnx(_) if unused => vec![],
            Read::Onnx(file) => file.declared()?.inputs,
        };
        let mut inputs = match case {
            Some(case) => cases::inputs_in(&case.first_set(), &declared)?,
            None => BTreeMap::new(),
        };
        inputs.extend(self.inputs.read(&declared)?);
        let bind = inputs::named(&self.bind, &declared)?;
        if let Some((twice, _)) = self.inputs.named.iter().find(|(name, _)| bind.contains_key(name)) {
            return Err(Error::user(format!(
                "the input `{twice}` is given by --input and by --bind; --bind alone fixes it"
            )));
        }
        let mut fixed = BTreeMap::new();
        for (name, value) in &bind {
            let tensor = value.as_tensor().ok_or_else(|| {
                Error::user(format!("the input `{name}` is no tensor: it cannot be bound"))
            })?;
            fixed.insert(name.clone(), tensor.clone());
        }
        inputs.extend(bind);
        let file = match read {
            Read::Text(graph, files) => {
                let imported = self.of_graph(graph, model, inputs, fixed)?;
                return Ok(Imported { files, ..imported });
            }
            Read::Onnx(file) => file,
        };
        let said = ImportOptions {
            dims: self.dims.clone(),
            input_shapes: self.shapes.clone(),
            bind: fixed,
            computed_dims: false,
            apart: self.apart.clone(),
        };
        let (mut graph, mut options) = file.import_beside(said.clone(), &inputs)?;
        let mut defaulted = vec![];
        if let Some(default) = self.default_dim {
            let free = graph.free_dims();
            if !free.is_empty() {
                let mut said = said;
                said.dims.extend(free.iter().map(|d| (d.clone(), default)));
                (graph, options) =
                    file.import_beside(said, &inputs).map_err(|e| because_of(e, &free, default))?;
                defaulted = free;
            }
        }
        limits::set(&mut graph, &self.at_most, &file.known_dims(&options))?;
        let (files, opsets, bound) = (file.files(), file.opsets(), options.bind);
        let mut notes = egret_onnx::shape_contradictions(file.proto(), &graph);
        notes.extend(egret_onnx::maps::zipped_outputs(file.proto()));
        if let (Some(default), false) = (self.default_dim, defaulted.is_empty()) {
            notes.push(set_by_default(&defaulted, default));
        }
        Ok(Imported { model, files, opsets, graph, bound, inputs, defaulted, notes })
    }

    /// A graph of text IR, with the dims that inputs of these values and the request decide.
    fn of_graph(
        &self,
        mut graph: Graph,
        model: PathBuf,
        inputs: BTreeMap<String, Value>,
        bound: BTreeMap<String, Tensor>,
    ) -> Result<Imported> {
        let (files, opsets) = (vec![model.clone()], vec![]);
        let asked = shapes::dims_of(&graph, &self.shapes, &self.dims)?;
        let mut dims = dims_of_inputs(&graph, &inputs, &asked)?;
        dims.extend(asked.clone());
        bind_dims(&mut graph, &model, &dims, &asked)?;
        let (mut defaulted, mut notes) = (vec![], vec![]);
        if let (Some(default), free) = (self.default_dim, graph.free_dims())
            && !free.is_empty()
        {
            let set = free.iter().map(|d| (d.clone(), default)).collect();
            bind_dims(&mut graph, &model, &set, &set).map_err(|e| because_of(e, &free, default))?;
            dims.extend(set);
            notes.push(set_by_default(&free, default));
            defaulted = free;
        }
        limits::set(&mut graph, &self.at_most, &dims)?;
        Ok(Imported { model, files, opsets, graph, bound, inputs, defaulted, notes })
    }

    /// Whether some inputs are given, by name or by a test case.
    pub fn gives_inputs(&self) -> bool {
        self.model.is_dir() || !self.inputs.is_empty() || !self.bind.is_empty()
    }

    /// Import the model and complete its inputs.
    ///
    /// # Errors
    /// As [`Request::import`]; an input without a value.
    pub fn prepare(&self) -> Result<Prepared> {
        self.complete(self.import()?)
    }

    /// As [`Request::prepare`], for a graph that is there already, of these values: the model's path is for messages.
    ///
    /// # Errors
    /// Inputs that do not fit the graph; an input without a value.
    pub(crate) fn prepare_for(&self, graph: Graph, inputs: BTreeMap<String, Value>) -> Result<Prepared> {
        self.complete(self.of_graph(graph, self.model.clone(), inputs, BTreeMap::new())?)
    }

    fn complete(&self, imported: Imported) -> Result<Prepared> {
        let Imported { graph, bound, inputs, defaulted, notes, .. } = imported;
        let ports = graph.inputs().iter().map(|&v| (graph.value(v).name.as_str(), graph.ty(v)));
        let values = complete(ports, &inputs, self.random)
            .map_err(|e| self.default_dim.map_or(e.clone(), |d| because_of(e, &defaulted, d)))?;
        Ok(Prepared { graph, bound, inputs: values, defaulted, notes })
    }
}

impl Request {
    /// The value for the last input of a graph that was made from the model's, which has no such input itself.
    ///
    /// # Errors
    /// It is not given and nothing may be made up.
    pub fn further(&self, graph: &Graph, name: &str) -> Result<Value> {
        let port = graph.inputs().iter().rfind(|&&v| graph.value(v).name == name);
        let v = *port.ok_or_else(|| Error::internal(format!("the graph has no input `{name}`")))?;
        let ty = graph.ty(v);
        match (self.inputs.of(&DeclaredInput::of(name, ty))?, self.random) {
            (Some(value), _) => Ok(value),
            (None, Some(_)) => Ok(made_up_beside(graph, &BTreeMap::new(), self.random.unwrap_or(0))?
                .pop()
                .ok_or_else(|| Error::internal("the graph has no inputs"))?),
            (None, None) => Err(Error::user(format!(
                "no value for the {name} ({ty}); give --input {}=x.npy, or --random SEED",
                advice::word(name)
            ))),
        }
    }
}

/// An error that dims which nobody gave may have caused.
pub fn because_of(mut e: Error, defaulted: &[String], value: i64) -> Error {
    if !defaulted.is_empty() {
        e.message += &format!("\nnote: {}", set_by_default(defaulted, value));
    }
    e
}

/// That dims which nobody gave were set, and how to give them.
pub(crate) fn set_by_default(dims: &[String], value: i64) -> String {
    let (names, options) = (dims.join(", "), advice::dims(dims));
    format!("free dims were set to {value}: {names}; give them with {options}, or by --input NAME=x.npy")
}

/// Values for all inputs: the given ones, the others made up where there is a seed.
pub(crate) fn complete<'a>(
    ports: impl Iterator<Item = (&'a str, &'a Type)>,
    given: &BTreeMap<String, Value>,
    seed: Option<u64>,
) -> Result<Vec<Value>> {
    let mut random = seed.map(|s| Random(Rng::new(s)));
    ports
        .map(|(name, ty)| match (given.get(name), &mut random) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(r)) => r.value(name, ty),
            (None, None) => Err(Error::user(format!(
                "no value for the input `{name}` ({ty}); give --input {}=x.npy, or --random SEED to make values up",
                advice::word(name)
            ))),
        })
        .collect()
}

/// The inputs of a graph, as a model file would declare them.
pub(crate) fn declared_of(graph: &Graph) -> Vec<DeclaredInput> {
    graph.inputs().iter().map(|&v| DeclaredInput::of(&graph.value(v).name, graph.ty(v))).collect()
}

/// The model file of a path, and the test case that it is the folder of.
///
/// # Errors
/// It is a pipe, or a folder without a model.
pub fn locate(path: &Path) -> Result<(PathBuf, Option<Case>)> {
    let special = std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir());
    if special || path == Path::new("-") {
        return Err(Error::user(format!(
            "{}: a model is read from a file, more than once, and not from a pipe; write it to a file first",
            path.display()
        )));
    }
    if !path.is_dir() {
        if path.extension().is_some_and(|e| e == "toml") {
            return Err(Error::user(format!(
                "{}: a model is an .onnx or .egret file; the stages of a plan are run by `egret run --plan`",
                path.display()
            )));
        }
        return Ok((path.to_owned(), None));
    }
    if let Some(case) = Case::open(path) {
        return Ok((case.model(), Some(case)));
    }
    Err(Error::user(match crate::found::is_filled(path) {
        true => format!(
            "{} holds a compiled model: `run` and `bench` take it, anything else needs the model file",
            path.display()
        ),
        false if path.join(files::PLAN).is_file() => format!(
            "{} holds a plan and its stages, which `egret run --plan {}` runs",
            path.display(),
            egret_ir::advice::word(&path.join(files::PLAN).display().to_string())
        ),
        false => format!(
            "{} is a folder without model.onnx, and holds no compiled model; give the model file",
            path.display()
        ),
    }))
}

/// The one file of a model that a command makes a copy of.
///
/// # Errors
/// It is none, or has weights in other files.
pub fn single_file(path: &Path, command: &str) -> Result<(PathBuf, ModelFile)> {
    let (path, _) = locate(path)?;
    if is_text(&path) {
        return Err(Error::user(format!("{}: `egret {command}` works on .onnx files", path.display())));
    }
    let file = ModelFile::open(&path)?;
    if let Some(outside) = file.files().get(1) {
        return Err(Error::unsupported(format!(
            "{}: its weights are in other files ({}), which `egret {command}` does not write yet; save it as one file first",
            path.display(),
            outside.display()
        )));
    }
    Ok((path, file))
}

/// Whether a file is text IR.
pub fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "egret")
}

/// Read a graph: `.egret` text, else an ONNX model.
pub fn graph(path: &Path, options: &ImportOptions) -> Result<Graph> {
    if is_text(path) {
        let (mut graph, _) = parse_text(path)?;
        bind_dims(&mut graph, path, &options.dims, &options.dims)?;
        return Ok(graph);
    }
    ModelFile::open_lean(path)?.import(options)
}

/// The files that a model consists of, itself first: with those of its external data, or of the constants of text IR.
///
/// # Errors
/// A file that cannot be read, or is no model.
pub fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    match is_text(path) {
        true => Ok(parse_text(path)?.1),
        false => Ok(ModelFile::open_lean(path)?.files()),
    }
}

/// The graph of a file of text IR, and the files that it consists of.
fn parse_text(path: &Path) -> Result<(Graph, Vec<PathBuf>)> {
    let source = files::read_text(path, "text IR")?;
    let constants = RefCell::new(BTreeSet::new());
    let constant = |hash: &str| {
        let (tensor, file) = constants::constant(path, hash)?;
        constants.borrow_mut().insert(file);
        Some(tensor)
    };
    let parsed =
        text::parse(&source, &constant).map_err(|e| Error::user(format!("{}:{e}", path.display())))?;
    sound(&parsed, path)?;
    let files = std::iter::once(path.to_owned()).chain(constants.into_inner()).collect();
    Ok((parsed, files))
}

fn sound(graph: &Graph, path: &Path) -> Result<()> {
    verify(graph).map_err(|errors| {
        let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Error::user(format!("{}: {}", path.display(), list.join("\n")))
    })
}

/// Give the dims of a text IR file their values. `asked`: those that the user gave by name.
fn bind_dims(graph: &mut Graph, path: &Path, dims: &DimEnv, asked: &DimEnv) -> Result<()> {
    let free = graph.free_dims();
    if let Some(unknown) = asked.keys().find(|d| !free.contains(d)) {
        let known = match free.is_empty() {
            true => "all its dims are fixed".to_owned(),
            false => format!("its free dims are {}", free.join(", ")),
        };
        return Err(Error::user(format!(
            "{}: the graph has no free dim `{unknown}`; {known}",
            path.display()
        )));
    }
    if dims.is_empty() {
        return Ok(());
    }
    if let Some(broken) = graph.broken_condition(dims, true) {
        let given: Vec<String> = dims.iter().map(|(name, size)| format!("{name}={size}")).collect();
        return Err(Error::user(format!("{}: with {}: {broken}", path.display(), given.join(", "))));
    }
    graph.bind_dims(dims);
    sound(graph, path)
}

/// The free dims of a graph that the shapes of given inputs tell, which those asked for must not contradict.
fn dims_of_inputs(graph: &Graph, inputs: &BTreeMap<String, Value>, asked: &DimEnv) -> Result<DimEnv> {
    let mut out = DimEnv::new();
    for &v in graph.inputs() {
        let given = inputs.get(&graph.value(v).name).and_then(Value::as_tensor);
        let (Some(given), Some(ty)) = (given, graph.ty(v).as_tensor()) else { continue };
        for (axis, (dim, &size)) in ty.shape.iter().zip(given.shape()).enumerate() {
            let (Some(symbol), Ok(size)) = (dim.as_symbol(), i64::try_from(size)) else { continue };
            if let Some(other) = asked.get(symbol).filter(|&&v| v != size) {
                return Err(Error::user(format!(
                    "input `{}`: axis {axis} is {size}, but the dim `{symbol}` was given as {other}",
                    graph.value(v).name
                )));
            }
            out.entry(symbol.to_owned()).or_insert(size);
        }
    }
    Ok(out)
}

/// Made-up values for every input of a graph whose dims are constant.
///
/// # Errors
/// An input that is no tensor, too large, or of free dims.
pub fn made_up(graph: &Graph, seed: u64) -> Result<Vec<Value>> {
    made_up_beside(graph, &BTreeMap::new(), seed)
}

/// As [`made_up`] for the inputs that are not given.
pub(crate) fn made_up_beside(
    graph: &Graph,
    given: &BTreeMap<String, Value>,
    seed: u64,
) -> Result<Vec<Value>> {
    let ports = graph.inputs().iter().map(|&v| (graph.value(v).name.as_str(), graph.ty(v)));
    complete(ports, given, Some(seed))
}

/// Made-up values; floats in [-1, 1).
struct Random(Rng);

impl Random {
    fn value(&mut self, name: &str, ty: &Type) -> Result<Value> {
        match ty {
            Type::Tensor(t) => Ok(self.tensor(name, t)?.into()),
            _ => Err(Error::user(format!("the input `{name}` is no tensor: --random cannot make it up"))),
        }
    }

    fn tensor(&mut self, name: &str, ty: &TensorType) -> Result<Tensor> {
        let open = || {
            let mut free = vec![];
            ty.shape.iter().for_each(|d| d.collect_symbols(&mut free));
            Error::user(format!(
                "the input `{name}` has free dims ({ty}): {}",
                advice::to_be_constant(&ty.shape[..], &free)
            ))
        };
        let shape = ty.const_dims().ok_or_else(open)?;
        let len = ty.const_len().filter(|l| *l < 1 << 32);
        let len =
            len.ok_or_else(|| Error::user(format!("the input `{name}` ({ty}) is too large to make up")))?;
        Ok(match ty.dtype {
            DType::F32 => Tensor::new(&shape, (0..len).map(|_| self.0.signed_f64() as f32).collect()),
            DType::F64 => Tensor::new(&shape, (0..len).map(|_| self.0.signed_f64()).collect()),
            DType::F16 => {
                Tensor::new(&shape, (0..len).map(|_| egret_ir::f16_of(self.0.signed_f64())).collect())
            }
            DType::BF16 => {
                Tensor::new(&shape, (0..len).map(|_| egret_ir::bf16_of(self.0.signed_f64())).collect())
            }
            DType::String => Tensor::from_strings(&shape, vec![String::new(); len]),
            // 0 and 1 are valid as indices, masks and lengths alike.
            other => {
                let mut bytes = vec![0; len * other.size()];
                bytes.chunks_exact_mut(other.size()).for_each(|b| b[0] = (self.0.bits() >> 63) as u8);
                Tensor::from_bytes(other, &shape, &bytes)
            }
        })
    }
}
