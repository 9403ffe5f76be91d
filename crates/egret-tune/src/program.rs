//! The compiled loss: of a batch, with its gradients by the weights, and without them.

use crate::data::Data;
use crate::loss::{self, Lost};
use crate::weights::Weight;
use egret::frontend::ModelFile;
use egret::grad::{Of, differentiate, find};
use egret::ir::{Graph, Tensor, Type, Value, ValueId};
use egret::samples::Sample;
use egret::{Engine, Error, Executable, Options, Result};
use onnx_protobuf::ModelProto;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What an input of the program is given.
enum Slot {
    Data(String),
    Weight(usize),
    Target,
    Scale,
}

/// A model, imported for a batch with its weights as inputs.
pub struct Model {
    graph: Graph,
    bound: BTreeMap<String, Tensor>,
    /// Samples of a run.
    pub size: usize,
    /// The output's name.
    pub output: String,
    /// The output's shape per sample.
    pub shape: Vec<usize>,
    value: ValueId,
    weights: Vec<String>,
}

impl Model {
    /// Import a model for runs of at most `most` samples; those of a model whose batch is fixed have its size.
    ///
    /// # Errors
    /// A model that cannot be imported so; an output that is none for a batch.
    pub fn new(
        path: &Path,
        file: &ModelFile,
        weights: &[Weight],
        of: Option<&str>,
        data: &Data,
        most: usize,
    ) -> Result<Model> {
        let file = ModelFile::of(path, opened(file.proto(), weights));
        let size = size(&file, data, most)?;
        let mut given = data.batch(&[0], size);
        given.extend(weights.iter().map(|w| (w.name.clone(), w.tensor(&w.start).into())));
        let (graph, imported) = file.import_for_inputs(&BTreeMap::new(), &given, BTreeMap::new())?;
        for name in imported.bind.keys() {
            if weights.iter().any(|w| w.name == *name) {
                return Err(Error::user(format!(
                    "the weight `{name}` decides a shape or a setting of the model; --skip '{name}' leaves it as it is"
                )));
            }
            if !data.is_shared(name) && data.samples > 1 {
                return Err(data.error(format!(
                    "the input `{name}` decides a shape or a setting of the model; give one value for all samples, of first axis 1"
                )));
            }
        }
        let (value, output) = target(&graph, of)?;
        let ty = graph.tensor_ty(value);
        let shape = ty.const_dims().filter(|s| s.first() == Some(&size)).ok_or_else(|| {
            Error::user(format!(
                "the output `{output}` is {ty}, whose first axis is not the batch of {size}; --of names another one"
            ))
        })?;
        let weights = weights.iter().map(|w| w.name.clone()).collect();
        let shape = shape[1..].to_vec();
        Ok(Model { graph, bound: imported.bind, size, output, shape, value, weights })
    }

    /// Compile what the output is.
    ///
    /// # Errors
    /// What cannot be compiled.
    pub fn forward(&self, options: &Options) -> Result<Program> {
        let mut graph = self.graph.clone();
        graph.clear_outputs();
        graph.add_output(&self.output, self.value);
        graph.remove_dead();
        let slots = self.slots(&graph, None)?;
        self.compile(graph, slots, 0, options)
    }

    /// Compile the loss: beside the output, and with its gradients by the weights.
    ///
    /// # Errors
    /// What cannot be compiled or differentiated; a weight that the loss does not depend on.
    pub fn loss(&self, square: bool, options: &Options) -> Result<(Program, Program)> {
        let whole = [&[self.size], &self.shape[..]].concat();
        let lost = loss::append(self.graph.clone(), self.value, &whole, square)?;
        let rank = if square { whole.len() } else { whole.len() - 1 };
        let wrt = self.wrt(&lost.graph)?;
        let gradients =
            differentiate(&lost.graph, &Of::Element(lost.losses, vec![]), &wrt).map_err(|e| Error {
                message: format!("--train: {}; --skip PATTERN leaves a weight as it is", e.message),
                ..e
            })?;
        let slots = self.slots(&gradients, Some(&lost))?;
        let gradients = self.compile(gradients, slots, rank, options)?;
        let mut graph = lost.graph.clone();
        graph.clear_outputs();
        graph.add_output(loss::LOSS, lost.losses);
        graph.add_output(&self.output, self.value);
        graph.remove_dead();
        let slots = self.slots(&graph, Some(&lost))?;
        Ok((self.compile(graph, slots, rank, options)?, gradients))
    }

    /// Compile the loss with its gradients by the weights, then by `values`, then these values themselves.
    ///
    /// # Errors
    /// What cannot be compiled or differentiated.
    pub fn signals(&self, square: bool, values: &[ValueId], options: &Options) -> Result<Program> {
        let whole = [&[self.size], &self.shape[..]].concat();
        let lost = loss::append(self.graph.clone(), self.value, &whole, square)?;
        let rank = if square { whole.len() } else { whole.len() - 1 };
        let mut wrt = self.wrt(&lost.graph)?;
        wrt.extend(values);
        let mut graph =
            differentiate(&lost.graph, &Of::Element(lost.losses, vec![]), &wrt).map_err(|e| Error {
                message: format!("{}; --skip PATTERN leaves a weight out", e.message),
                ..e
            })?;
        // Values keep their ids, and these lie on the way to the loss.
        values.iter().enumerate().for_each(|(i, &v)| graph.add_output(&format!("signals.{i}"), v));
        let slots = self.slots(&graph, Some(&lost))?;
        self.compile(graph, slots, rank, options)
    }

    /// The shape of a float value of the model on which the loss's output depends.
    pub fn reached(&self, name: &str) -> Option<(ValueId, Vec<usize>)> {
        let value = find(&self.graph, name).filter(|v| self.upstream().contains(v))?;
        match self.graph.ty(value) {
            Type::Tensor(t) if t.dtype.is_float() => Some((value, t.const_dims()?)),
            _ => None,
        }
    }

    /// What the loss's output depends on.
    fn upstream(&self) -> BTreeSet<ValueId> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![self.value]);
        while let Some(v) = open.pop() {
            if let (true, Some(n)) = (seen.insert(v), self.graph.producer(v)) {
                open.extend(self.graph.node(n).operands.iter().flatten());
            }
        }
        seen
    }

    /// The inputs of the graph that are the weights.
    fn wrt(&self, graph: &Graph) -> Result<Vec<ValueId>> {
        let named = |name: &String| {
            let input = |v: &&ValueId| graph.value(**v).name == *name;
            graph.inputs().iter().find(input).copied()
        };
        let found: Option<Vec<ValueId>> = self.weights.iter().map(named).collect();
        found.ok_or_else(|| Error::internal("a weight is no input of the graph"))
    }

    fn slots(&self, graph: &Graph, lost: Option<&Lost>) -> Result<Vec<Slot>> {
        let slot = |v: &ValueId| {
            if lost.is_some_and(|l| l.target == *v) {
                return Slot::Target;
            }
            if lost.is_some_and(|l| l.scale == *v) {
                return Slot::Scale;
            }
            let name = &graph.value(*v).name;
            match self.weights.iter().position(|w| w == name) {
                Some(i) => Slot::Weight(i),
                None => Slot::Data(name.clone()),
            }
        };
        Ok(graph.inputs().iter().map(slot).collect())
    }

    fn compile(&self, graph: Graph, slots: Vec<Slot>, rank: usize, options: &Options) -> Result<Program> {
        let code = Executable::new(graph, Engine::Jit, options, &self.bound)?;
        let shape = [&[self.size], &self.shape[..]].concat();
        Ok(Program { code, slots, shape, rank, size: self.size })
    }
}

/// Compiled code and what its inputs are.
pub struct Program {
    code: Executable,
    slots: Vec<Slot>,
    shape: Vec<usize>,
    /// The rank of the losses.
    rank: usize,
    size: usize,
}

impl Program {
    /// Run it on at most a batch of samples. `target`: what each of them is to give; `each`: what each counts.
    ///
    /// # Errors
    /// Inputs that do not fit; an index in them that is out of range.
    pub fn run(
        &self,
        data: &Data,
        rows: &[usize],
        weights: &[Tensor],
        mut target: Vec<f32>,
        each: f32,
    ) -> Result<Vec<Vec<f64>>> {
        let mut sample: Sample = data.batch(rows, self.size);
        target.resize(self.shape.iter().product(), 0.0);
        let mut target = Some(Value::from(Tensor::new(&self.shape, target)));
        let mut inputs = vec![];
        for slot in &self.slots {
            inputs.push(match slot {
                Slot::Data(name) => sample
                    .remove(name)
                    .ok_or_else(|| data.error(format!("no array for the input `{name}`")))?,
                Slot::Weight(i) => weights[*i].clone().into(),
                Slot::Target => target.take().ok_or_else(|| Error::internal("two targets"))?,
                Slot::Scale => loss::scale(self.size, rows.len(), each, self.rank).into(),
            });
        }
        let numbers = |v: &Value| v.as_tensor().and_then(Tensor::to_f64s);
        let outputs = self.code.run(&inputs)?;
        let outputs: Option<Vec<Vec<f64>>> = outputs.iter().map(numbers).collect();
        outputs.ok_or_else(|| Error::internal("an output is no tensor of numbers"))
    }
}

/// The model with its weights as inputs.
fn opened(model: &ModelProto, weights: &[Weight]) -> ModelProto {
    let mut out = model.clone();
    let graph = out.graph.mut_or_insert_default();
    for weight in weights {
        if !graph.input.iter().any(|i| i.name == weight.name) {
            let declared = weight.declared(graph);
            graph.input.push(declared);
        }
    }
    graph.initializer.retain(|t| !weights.iter().any(|w| w.name == t.name));
    out
}

/// The samples of a run.
fn size(file: &ModelFile, data: &Data, most: usize) -> Result<usize> {
    let mut fixed: Option<(usize, &str)> = None;
    for name in data.own() {
        let dims = file.declared_dims(name);
        let dim = dims.as_ref().and_then(|d| d.first()).and_then(egret::ir::Dim::as_const);
        let Some(dim) = dim.and_then(|d| usize::try_from(d).ok()).filter(|d| *d > 0) else { continue };
        match fixed {
            Some((other, first)) if other != dim => {
                return Err(Error::unsupported(format!(
                    "the inputs `{first}` and `{name}` have batches of {other} and {dim}; export the model with one free batch"
                )));
            }
            _ => fixed = Some((dim, name)),
        }
    }
    Ok(fixed.map_or(most.min(data.samples), |f| f.0))
}

/// The output that the loss is of.
fn target(graph: &Graph, of: Option<&str>) -> Result<(ValueId, String)> {
    let float = |v: ValueId| matches!(graph.ty(v), Type::Tensor(t) if t.dtype.is_float());
    let names: Vec<String> = graph.output_names().iter().map(|n| format!("`{n}`")).collect();
    let names = names.join(", ");
    match of {
        Some(name) => match find(graph, name) {
            Some(value) if float(value) => Ok((value, name.to_owned())),
            Some(value) => {
                Err(Error::user(format!("--of {name}: it is {}, but a loss is of floats", graph.ty(value))))
            }
            None => {
                Err(Error::user(format!("--of {name}: there is no such value; the outputs are {names}")))
            }
        },
        None => {
            let outputs = graph.outputs().iter().zip(graph.output_names());
            let first = outputs.into_iter().find(|(v, _)| float(**v)).map(|(v, n)| (*v, n.clone()));
            first.ok_or_else(|| {
                Error::user(format!("no output is of floats ({names}); --of names a value that is"))
            })
        }
    }
}
