//! Taps: values inside a model, computed by the compiled part of the model that leads to them.

use crate::contractions::reads;
use crate::data::given::initialised;
use egret::frontend::ModelFile;
use egret::ir::{DType, Tensor};
use egret::samples::Sample;
use egret::{Engine, Error, Executable, Options, Result, cases};
use onnx_protobuf::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Code for one shape of sample.
struct Compiled {
    shapes: Vec<Vec<usize>>,
    /// Inputs whose values the code was made for.
    bound: BTreeMap<String, Tensor>,
    /// The graph's inputs, in order.
    inputs: Vec<String>,
    code: Executable,
}

/// Values to be computed, and the code for the samples seen so far.
pub struct Taps {
    file: ModelFile,
    /// Outputs of `file`: the values that are not inputs themselves.
    outputs: Vec<String>,
    compiled: Vec<Compiled>,
}

impl Taps {
    /// Taps for these values.
    pub fn new(model: &ModelProto, path: &Path, names: &BTreeSet<String>) -> Taps {
        let graph = model.graph.get_or_default();
        let defaults: BTreeSet<&str> = initialised(graph).collect();
        let inputs: BTreeSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
        let inputs = &inputs - &defaults;
        let outputs: Vec<String> = names.iter().filter(|n| !inputs.contains(n.as_str())).cloned().collect();
        let proto = ModelProto {
            ir_version: model.ir_version,
            opset_import: model.opset_import.clone(),
            functions: model.functions.clone(),
            graph: Some(cut(graph, &outputs)).into(),
            ..ModelProto::default()
        };
        Taps { file: ModelFile::of(path, proto), outputs, compiled: vec![] }
    }

    /// The values for a sample, by name.
    ///
    /// # Errors
    /// What cannot be compiled; a sample that does not fit the model.
    pub fn run(&mut self, sample: &Sample) -> Result<BTreeMap<String, Tensor>> {
        let mut out: BTreeMap<String, Tensor> = BTreeMap::new();
        for (name, value) in sample {
            out.extend(value.as_tensor().map(|t| (name.clone(), t.clone())));
        }
        if self.outputs.is_empty() {
            return Ok(out);
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
        Ok(out)
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
fn cut(graph: &GraphProto, outputs: &[String]) -> GraphProto {
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
