//! What a command is given: a model or a text IR file, inputs for it, and what is made up where the user gives none.

use crate::cases::Case;
use crate::error::{Error, Result};
use crate::{frontend, npz, stages};
use egret_ir::{DType, Graph, Tensor, TensorType, Type, Value, text, verify};
use egret_onnx::ImportOptions;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A graph with constant dims, and a value for each of its inputs.
pub struct Prepared {
    /// The graph.
    pub graph: Graph,
    /// Inputs whose values were fixed at import.
    pub bound: BTreeMap<String, Tensor>,
    /// Values, in the order of the graph's inputs.
    pub inputs: Vec<Value>,
}

/// How to get from a model to a run of it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Values of free dims.
    pub dims: BTreeMap<String, i64>,
    /// Values of inputs, by name.
    pub inputs: BTreeMap<String, Value>,
    /// Make up the inputs that are not given, from this seed.
    pub random: Option<u64>,
    /// The value of free dims that nothing else decides.
    pub default_dim: Option<i64>,
}

/// Read a graph: `.egret` text, else an ONNX model.
pub fn graph(path: &Path, options: &ImportOptions) -> Result<Graph> {
    if path.extension().is_some_and(|e| e == "egret") {
        return parse_text(path, &options.dims);
    }
    frontend::import(path, options)
}

fn parse_text(path: &Path, dims: &BTreeMap<String, i64>) -> Result<Graph> {
    let source = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
    let parsed = text::parse(&source, &|hash| stages::constant(path, hash))
        .map_err(|e| Error::user(format!("{}:{e}", path.display())))?;
    if let Err(errors) = verify(&parsed) {
        let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(Error::user(format!("{}: {}", path.display(), list.join("\n"))));
    }
    if !dims.is_empty() {
        return Err(Error::user(
            "--dim applies to ONNX models; in a .egret file write the dims themselves",
        ));
    }
    Ok(parsed)
}

/// The model of a test-case folder and the inputs of its first data set.
pub fn case(dir: &Path) -> Result<(PathBuf, BTreeMap<String, Value>)> {
    let case = Case::open(dir)
        .ok_or_else(|| Error::user(format!("{} is no test case: it has no model.onnx", dir.display())))?;
    let inputs = case.first_inputs()?;
    Ok((case.model(), inputs))
}

/// Import a model for a request and complete its inputs.
pub fn prepare(model: &Path, request: &Request) -> Result<Prepared> {
    let mut dims = request.dims.clone();
    let inputs = retyped(model, &request.inputs)?;
    let mut imported = import(model, &dims, &inputs)?;
    let free = imported.0.free_dims();
    if let Some(default) = request.default_dim.filter(|_| !free.is_empty()) {
        dims.extend(free.into_iter().map(|d| (d, default)));
        imported = import(model, &dims, &inputs)?;
    }
    let (graph, options) = imported;
    let mut random = request.random.map(Random);
    let mut values = vec![];
    for &v in graph.inputs() {
        let (name, ty) = (&graph.value(v).name, graph.ty(v));
        values.push(match (inputs.get(name), &mut random) {
            (Some(value), _) => value.clone(),
            (None, Some(r)) => r.value(name, ty)?,
            (None, None) => {
                return Err(Error::user(format!(
                    "no value for the input `{name}` ({ty}); give --input {name}=x.npy, or --random SEED to make values up"
                )));
            }
        });
    }
    Ok(Prepared { graph, bound: options.bind, inputs: values })
}

fn import(
    model: &Path,
    dims: &BTreeMap<String, i64>,
    inputs: &BTreeMap<String, Value>,
) -> Result<(Graph, ImportOptions)> {
    if model.extension().is_some_and(|e| e == "egret") {
        return Ok((parse_text(model, dims)?, ImportOptions::default()));
    }
    frontend::import_for_inputs(model, dims, inputs)
}

/// The inputs with the dtypes that the model declares, where NumPy only spells them otherwise; a real misfit is an error.
fn retyped(model: &Path, inputs: &BTreeMap<String, Value>) -> Result<BTreeMap<String, Value>> {
    let mut out = inputs.clone();
    if inputs.is_empty() || model.extension().is_some_and(|e| e == "egret") {
        return Ok(out);
    }
    let declared = frontend::declared(model)?.inputs;
    for (name, value) in &mut out {
        let Some(d) = declared.iter().find(|d| d.name == *name) else {
            let names: Vec<String> = declared.iter().map(|d| format!("`{}`", d.name)).collect();
            return Err(Error::user(format!(
                "the model has no input `{name}`; its inputs are {}",
                names.join(", ")
            )));
        };
        if let (Value::Tensor(t), Type::Tensor(want)) = (&*value, &d.ty) {
            let t = npz::as_dtype(t, want.dtype);
            if t.dtype() != want.dtype {
                return Err(Error::user(format!(
                    "the input `{name}` is {} but the value given for it is {}",
                    want.dtype,
                    t.dtype()
                )));
            }
            *value = t.into();
        }
    }
    Ok(out)
}

/// Made-up values for every input of a graph whose dims are constant.
///
/// # Errors
/// An input that is no tensor, too large, or of free dims.
pub fn made_up(graph: &Graph, seed: u64) -> Result<Vec<Value>> {
    let mut random = Random(seed);
    graph.inputs().iter().map(|&v| random.value(&graph.value(v).name, graph.ty(v))).collect()
}

/// Made-up values: SplitMix64, so that a seed means the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in -1..1.
    fn float(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn value(&mut self, name: &str, ty: &Type) -> Result<Value> {
        match ty {
            Type::Tensor(t) => Ok(self.tensor(name, t)?.into()),
            _ => Err(Error::user(format!("the input `{name}` is no tensor: --random cannot make it up"))),
        }
    }

    fn tensor(&mut self, name: &str, ty: &TensorType) -> Result<Tensor> {
        let open = || {
            Error::user(format!(
                "the input `{name}` has free dims ({ty}); give each a value with --dim NAME=VALUE"
            ))
        };
        let shape = ty.const_dims().ok_or_else(open)?;
        let len = ty.const_len().filter(|l| *l < 1 << 32);
        let len =
            len.ok_or_else(|| Error::user(format!("the input `{name}` ({ty}) is too large to make up")))?;
        Ok(match ty.dtype {
            DType::F32 => Tensor::new(&shape, (0..len).map(|_| self.float() as f32).collect()),
            DType::F64 => Tensor::new(&shape, (0..len).map(|_| self.float()).collect()),
            DType::F16 => {
                Tensor::new(&shape, (0..len).map(|_| half::f16::from_f64(self.float())).collect())
            }
            DType::BF16 => {
                Tensor::new(&shape, (0..len).map(|_| half::bf16::from_f64(self.float())).collect())
            }
            DType::String => Tensor::from_strings(&shape, vec![String::new(); len]),
            // 0 and 1 are valid as indices, masks and lengths alike.
            other => {
                let mut bytes = vec![0; len * other.size()];
                bytes.chunks_exact_mut(other.size()).for_each(|b| b[0] = (self.next() >> 63) as u8);
                Tensor::from_bytes(other, &shape, &bytes)
            }
        })
    }
}
