//! Taps: values inside a model, computed by the compiled part of the model that leads to them. Branches are chosen for each sample, the outer
//! ones first: what is inside a branch that a sample takes is computed as if it stood in the place of its `If`.

use crate::contractions::reads;
use crate::data::given::initialised;
use crate::flat::{self, Choices, Home, Tree};
use egret::frontend::ModelFile;
use egret::ir::{DType, Tensor};
use egret::samples::Sample;
use egret::{Engine, Error, Executable, Options, Result, cases};
use onnx_protobuf::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Code for one shape of sample.
struct Compiled {
    shapes: Vec<Vec<usize>>,
    /// Inputs whose values the code was made for.
    bound: BTreeMap<String, Tensor>,
    /// The graph's inputs, in order.
    inputs: Vec<String>,
    code: Executable,
}

/// Values of one graph without open branches, and the code for the samples seen so far.
struct Program {
    file: ModelFile,
    /// Outputs of `file`: the values that are not inputs themselves.
    outputs: Vec<String>,
    compiled: Vec<Compiled>,
}

/// Values to be computed. Of a flat graph (see [`crate::flat`]) they may be inside branches: each sample has those of the branches that it takes.
pub struct Taps {
    model: ModelProto,
    path: PathBuf,
    names: BTreeSet<String>,
    /// The graphs of the model.
    tree: Tree,
    /// The nodes `If` around the values, and the homes that they are in.
    forks: BTreeMap<usize, Home>,
    /// The home of each value that is inside another graph.
    homes: BTreeMap<String, Home>,
    /// By the branches that were chosen; whether they are the last choices.
    programs: BTreeMap<(Choices, bool), Program>,
    /// Values that the last sample did not compute.
    absent: BTreeSet<String>,
}

impl Taps {
    /// Taps for these values; those inside bodies of loops have none.
    pub fn new(model: &ModelProto, path: &Path, names: &BTreeSet<String>) -> Taps {
        let graph = model.graph.get_or_default();
        let tree = Tree::new(graph);
        let producers = flat::producers(graph);
        let (mut forks, mut homes) = (BTreeMap::new(), BTreeMap::new());
        for name in names {
            let home = producers.get(name.as_str()).copied().unwrap_or(0);
            homes.insert(name.clone(), home);
            if flat::in_loop(graph, &tree, home) {
                continue;
            }
            let mut outer = 0;
            for (node, inner) in tree.nodes_around(home) {
                forks.insert(node, outer);
                outer = inner;
            }
        }
        let proto = ModelProto {
            ir_version: model.ir_version,
            opset_import: model.opset_import.clone(),
            functions: model.functions.clone(),
            graph: model.graph.clone(),
            ..ModelProto::default()
        };
        let (names, path) = (names.clone(), path.to_owned());
        let (programs, absent) = (BTreeMap::new(), BTreeSet::new());
        Taps { model: proto, path, names, tree, forks, homes, programs, absent }
    }

    /// The values for a sample, by name.
    ///
    /// # Errors
    /// What cannot be compiled; a sample that does not fit the model.
    pub fn run(&mut self, sample: &Sample) -> Result<BTreeMap<String, Tensor>> {
        let choices = self.choices(sample)?;
        let (here, absent) =
            self.names.iter().cloned().partition(|n| self.is_taken(self.homes[n], &choices));
        self.absent = absent;
        self.values(sample, choices, true, &here)
    }

    /// The homes around the values that a sample reaches.
    ///
    /// # Errors
    /// As of [`Taps::run`].
    pub fn reached(&mut self, sample: &Sample) -> Result<BTreeSet<Home>> {
        let choices = self.choices(sample)?;
        Ok(self.homes.values().copied().filter(|h| self.is_taken(*h, &choices)).collect())
    }

    /// Whether the last sample did not compute a value: it is in a branch that was not taken, or in the body of a loop.
    pub fn lacks(&self, name: &str) -> bool {
        self.absent.contains(name)
    }

    /// Whether all branches around a home are chosen, and it is in no loop.
    fn is_taken(&self, home: Home, choices: &Choices) -> bool {
        self.tree.nodes_around(home).iter().all(|(node, inner)| choices.get(node) == Some(inner))
    }

    /// The branches that a sample takes, of those around the values.
    fn choices(&mut self, sample: &Sample) -> Result<Choices> {
        let mut choices = Choices::new();
        loop {
            let open: Vec<usize> = self
                .forks
                .iter()
                .filter(|(node, home)| !choices.contains_key(*node) && self.is_taken(**home, &choices))
                .map(|(node, _)| *node)
                .collect();
            if open.is_empty() {
                return Ok(choices);
            }
            let graph = self.model.graph.get_or_default();
            let condition = |node: &usize| graph.node[*node].input.first().cloned().unwrap_or_default();
            let names: BTreeMap<usize, String> = open.iter().map(|n| (*n, condition(n))).collect();
            let wanted = names.values().cloned().collect();
            let values = self.values(sample, choices.clone(), false, &wanted)?;
            for (node, name) in names {
                let lost = || Error::unsupported(format!("the condition `{name}` of an If is not known"));
                let value = values.get(&name).filter(|t| t.dtype() == DType::Bool).ok_or_else(lost)?;
                let value = *value.bytes().first().ok_or_else(lost)? != 0;
                let graph = self.model.graph.get_or_default();
                choices.insert(node, flat::branch(&graph.node[node], value).ok_or_else(lost)?);
            }
        }
    }

    /// Values where these branches are taken; `last` where no choice follows.
    fn values(
        &mut self,
        sample: &Sample,
        choices: Choices,
        last: bool,
        names: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, Tensor>> {
        let mut out: BTreeMap<String, Tensor> = BTreeMap::new();
        for (name, value) in sample {
            out.extend(value.as_tensor().map(|t| (name.clone(), t.clone())));
        }
        let make = |choices: &Choices| Program::new(&self.model, &self.path, choices, names);
        let key = (choices, last);
        if !self.programs.contains_key(&key) {
            let program = make(&key.0);
            self.programs.insert(key.clone(), program);
        }
        if let Some(program) = self.programs.get_mut(&key) {
            program.run(sample, &mut out)?;
        }
        Ok(out)
    }
}

impl Program {
    fn new(model: &ModelProto, path: &Path, choices: &Choices, names: &BTreeSet<String>) -> Program {
        let graph = model.graph.get_or_default();
        let defaults: BTreeSet<&str> = initialised(graph).collect();
        let inputs: BTreeSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
        let inputs = &inputs - &defaults;
        let outputs: Vec<String> = names.iter().filter(|n| !inputs.contains(n.as_str())).cloned().collect();
        let mut graph = match choices.is_empty() {
            true => cut(graph, &outputs),
            false => cut(&flat::decided(graph, choices), &outputs),
        };
        flat::nest(&mut graph);
        let proto = ModelProto {
            ir_version: model.ir_version,
            opset_import: model.opset_import.clone(),
            functions: model.functions.clone(),
            graph: Some(graph).into(),
            ..ModelProto::default()
        };
        Program { file: ModelFile::of(path, proto), outputs, compiled: vec![] }
    }

    fn run(&mut self, sample: &Sample, out: &mut BTreeMap<String, Tensor>) -> Result<()> {
        if self.outputs.is_empty() {
            return Ok(());
        }
        let at = self.code(sample)?;
        let Compiled { inputs, code, .. } = &self.compiled[at];
        let mut values = vec![];
        for name in inputs {
            let value = sample.get(name);
            values.push(
                value.cloned().ok_or_else(|| Error::user(format!("no value for the input `{name}`")))?,
            );
        }
        for (name, value) in self.outputs.iter().zip(code.run(&values)?) {
            out.extend(value.as_tensor().map(|t| (name.clone(), t.clone())));
        }
        Ok(())
    }

    /// The code for a sample: samples of one shape share it.
    fn code(&mut self, sample: &Sample) -> Result<usize> {
        let tensors = || sample.values().filter_map(|v| v.as_tensor());
        let shapes: Vec<Vec<usize>> = tensors().map(|t| t.shape().to_vec()).collect();
        let fits = |c: &Compiled| {
            c.shapes == shapes
                && c.bound.iter().all(|(n, t)| sample.get(n).and_then(|v| v.as_tensor()) == Some(t))
        };
        if let Some(at) = self.compiled.iter().position(fits) {
            return Ok(at);
        }
        let (graph, imported) = self.file.import_for_inputs(&BTreeMap::new(), sample, BTreeMap::new())?;
        cases::ordered_inputs(&graph, sample)?;
        let inputs = graph.inputs().iter().map(|&v| graph.value(v).name.clone()).collect();
        let code = Executable::new(graph, Engine::Jit, &Options::default(), &imported.bind)?;
        self.compiled.push(Compiled { shapes, bound: imported.bind, inputs, code });
        Ok(self.compiled.len() - 1)
    }
}

/// The part of a graph that these values need, with them as its outputs.
///
/// An input with an initialiser is a constant that a caller may override; what is not needed goes with its initialiser, or it would
/// be an input that must be given. The other inputs stay: their dims have names that others use.
pub fn cut(graph: &GraphProto, outputs: &[String]) -> GraphProto {
    let mut needed: BTreeSet<&str> = outputs.iter().map(String::as_str).collect();
    let mut nodes: Vec<NodeProto> = vec![];
    for node in graph.node.iter().rev() {
        if node.output.iter().any(|o| !o.is_empty() && needed.contains(o.as_str())) {
            let mut names = vec![];
            reads(std::slice::from_ref(node), &mut names);
            needed.extend(names);
            nodes.push(node.clone());
        }
    }
    nodes.reverse();
    let defaults: BTreeSet<&str> = initialised(graph).collect();
    let kept = |name: &str| needed.contains(name) || !defaults.contains(name);
    let output = |name: &String| ValueInfoProto { name: name.clone(), ..ValueInfoProto::default() };
    GraphProto {
        name: graph.name.clone(),
        node: nodes,
        initializer: graph
            .initializer
            .iter()
            .filter(|t| needed.contains(t.name.as_str()))
            .cloned()
            .collect(),
        sparse_initializer: graph
            .sparse_initializer
            .iter()
            .filter(|t| needed.contains(t.values.get_or_default().name.as_str()))
            .cloned()
            .collect(),
        input: graph.input.iter().filter(|i| kept(&i.name)).cloned().collect(),
        output: outputs.iter().map(output).collect(),
        value_info: graph.value_info.clone(),
        quantization_annotation: graph.quantization_annotation.clone(),
        ..GraphProto::default()
    }
}

/// The elements of a float tensor as f32.
pub fn floats(tensor: &Tensor) -> Option<Vec<f32>> {
    Some(match tensor.dtype() {
        DType::F32 => tensor.data::<f32>().to_vec(),
        DType::F64 => tensor.data::<f64>().iter().map(|&v| v as f32).collect(),
        DType::F16 => tensor.data::<half::f16>().iter().map(|v| v.to_f32()).collect(),
        DType::BF16 => tensor.data::<half::bf16>().iter().map(|v| v.to_f32()).collect(),
        _ => return None,
    })
}
