//! A walk: means of outputs in a copy whose biases change layer by layer, each node computed about once. The values that no bias to come can change,
//! and that what is left to compute reads, are kept for each sample; the next layers are computed from there.

use crate::constants::Constants;
use crate::contractions::reads;
use crate::data::taps::{Taps, cut};
use crate::flat;
use egret::Result;
use egret::ir::{DType, Tensor};
use egret::samples::Sample;
use onnx_protobuf::{GraphProto, ModelProto, NodeProto, TypeProto, ValueInfoProto, type_proto};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The most bytes of values that are kept. Where they would be more, layers are computed from earlier values.
const ROOM: usize = 1 << 29;
/// The most rounds that compute again what others have computed.
const AGAIN: usize = 32;

/// Where the walk is.
pub struct Walk<'a> {
    path: &'a Path,
    /// Inputs and kept values of each sample.
    states: Vec<Sample>,
    /// What is still to be computed: all of it where nothing is kept.
    open: Option<BTreeSet<String>>,
    /// Names and types of kept values.
    kept: Vec<ValueInfoProto>,
    room: usize,
    /// Rounds that kept nothing new.
    again: usize,
}

impl<'a> Walk<'a> {
    /// At the inputs of these samples.
    pub fn new(path: &'a Path, states: Vec<Sample>) -> Walk<'a> {
        Walk { path, states, open: None, kept: vec![], room: ROOM, again: 0 }
    }

    /// Whether rounds begin at kept values.
    pub fn has_kept(&self) -> bool {
        self.open.is_some()
    }

    /// Whether another round would cost too much.
    pub fn is_long(&self) -> bool {
        self.again >= AGAIN
    }

    /// Compute values in the copy for each sample in order. `wanted` are those of this round, `later` those of later rounds; `biases` are the names of
    /// the biases that this round and later ones may change. `take` has the number of the sample and its values.
    ///
    /// # Errors
    /// What cannot be compiled; a sample that does not fit.
    pub fn round(
        &mut self,
        copy: &mut ModelProto,
        [wanted, later]: [&BTreeSet<String>; 2],
        biases: BTreeSet<String>,
        take: &mut dyn FnMut(usize, &BTreeMap<String, Tensor>),
    ) -> Result<()> {
        let graph = copy.graph.get_or_default();
        let open = behind(graph, biases);
        let border = border(graph, &open, later);
        // What branches and bodies hold is computed with all that is around it.
        let mut keeps = !flat::has_inside(graph) && !later.is_empty();
        let names: BTreeSet<String> = match keeps {
            true => wanted | &border,
            false => wanted.clone(),
        };
        let part = self.part(copy, &names);
        let mut taps = Taps::new(&part, self.path, &names);
        let (mut states, mut bytes) = (vec![], 0);
        for (number, state) in self.states.iter().enumerate() {
            let values = taps.run(state).map_err(|e| e.at(format!("sample {number}")))?;
            take(number, &values);
            let goes = |name: &String| values.get(name).is_some_and(|t| code(t.dtype()).is_some());
            keeps &= border.iter().all(goes);
            if !keeps {
                states.clear();
                continue;
            }
            let is_input = |name: &String| !self.kept.iter().any(|k| k.name == *name);
            let mut next: Sample = state.clone();
            next.retain(|name, _| is_input(name));
            for name in &border {
                bytes += values[name].bytes().len();
                next.insert(name.clone(), values[name].clone().into());
            }
            states.push(next);
            keeps &= bytes <= self.room;
        }
        if !keeps {
            self.again += 1;
            return Ok(());
        }
        let first = states.first();
        let info = |name: &String| info(name, first?.get(name)?.as_tensor()?);
        self.kept = border.iter().filter_map(info).collect();
        (self.states, self.open) = (states, Some(open));
        Ok(())
    }

    /// The part of the copy that leads from what is kept to these values.
    fn part(&self, copy: &mut ModelProto, names: &BTreeSet<String>) -> ModelProto {
        let outputs: Vec<String> = names.iter().cloned().collect();
        let graph = copy.graph.mut_or_insert_default();
        let mut part = match &self.open {
            None => cut(graph, &outputs),
            Some(open) => {
                let constants = Constants::new(graph);
                let stays =
                    |n: &&NodeProto| n.output.iter().any(|o| open.contains(o) || constants.is_constant(o));
                let nodes = graph.node.iter().filter(stays).cloned().collect();
                let all = std::mem::replace(&mut graph.node, nodes);
                let part = cut(graph, &outputs);
                graph.node = all;
                part
            }
        };
        part.input.extend(self.kept.iter().cloned());
        let names: BTreeSet<&str> = self.kept.iter().map(|k| k.name.as_str()).collect();
        part.value_info.retain(|v| !names.contains(v.name.as_str()));
        ModelProto {
            ir_version: copy.ir_version,
            opset_import: copy.opset_import.clone(),
            functions: copy.functions.clone(),
            graph: Some(part).into(),
            ..ModelProto::default()
        }
    }
}

/// The values that depend on these, with them.
fn behind(graph: &GraphProto, mut names: BTreeSet<String>) -> BTreeSet<String> {
    for node in &graph.node {
        let mut read = vec![];
        reads(std::slice::from_ref(node), &mut read);
        if read.iter().any(|n| names.contains(*n)) {
            names.extend(node.output.iter().filter(|o| !o.is_empty()).cloned());
        }
    }
    names
}

/// The values outside `open` that nodes inside it read on the way to these, without constants and inputs.
fn border(graph: &GraphProto, open: &BTreeSet<String>, to: &BTreeSet<String>) -> BTreeSet<String> {
    let constants = Constants::new(graph);
    let inputs: BTreeSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
    let mut needed: BTreeSet<&str> = to.iter().map(String::as_str).collect();
    let mut out = BTreeSet::new();
    for node in graph.node.iter().rev() {
        let on_the_way = |o: &String| needed.contains(o.as_str()) && open.contains(o);
        if !node.output.iter().any(on_the_way) {
            continue;
        }
        let mut read = vec![];
        reads(std::slice::from_ref(node), &mut read);
        for name in read.into_iter().filter(|n| !n.is_empty()) {
            needed.insert(name);
            if !open.contains(name) && !inputs.contains(name) && !constants.is_constant(name) {
                out.insert(name.to_owned());
            }
        }
    }
    out
}

/// An input like this value, of any shape.
fn info(name: &str, tensor: &Tensor) -> Option<ValueInfoProto> {
    let elem_type = code(tensor.dtype())?;
    let tensor = type_proto::Tensor { elem_type, ..type_proto::Tensor::default() };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    Some(ValueInfoProto { name: name.to_owned(), type_: Some(ty).into(), ..ValueInfoProto::default() })
}

/// `TensorProto.DataType` of values that are kept: not of text, of floats of a byte or less, or of integers of less than one.
fn code(dtype: DType) -> Option<i32> {
    let packed = matches!(dtype, DType::I2 | DType::U2 | DType::I4 | DType::U4);
    let kept = if dtype.is_float() { dtype.size() > 1 } else { dtype != DType::String && !packed };
    i32::try_from(dtype.abi_code()).ok().filter(|_| kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use onnx_protobuf::TensorProto;

    fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: op.into(),
            input: inputs.iter().map(|&i| i.into()).collect(),
            output: vec![output.into()],
            ..NodeProto::default()
        }
    }

    /// A chain of sums with biases `b0`, `b1` .., each of which also adds the second value before.
    fn chain(count: usize) -> ModelProto {
        let mut graph = GraphProto::default();
        let x = Tensor::new(&[2], vec![0f32; 2]);
        graph.input.extend(info("x", &x));
        let (mut at, mut before) = ("x".to_owned(), "x".to_owned());
        for k in 0..count {
            let values = [k as f32 + 0.5, 2.0];
            graph.initializer.push(TensorProto {
                name: format!("b{k}"),
                dims: vec![2],
                data_type: 1,
                raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                ..TensorProto::default()
            });
            graph.node.push(node("Add", &[&at, &format!("b{k}")], &format!("y{k}")));
            graph.node.push(node("Sub", &[&format!("y{k}"), &before], &format!("z{k}")));
            before = std::mem::replace(&mut at, format!("z{k}"));
        }
        let opset = onnx_protobuf::OperatorSetIdProto { version: 17, ..Default::default() };
        ModelProto {
            ir_version: 9,
            opset_import: vec![opset],
            graph: Some(graph).into(),
            ..ModelProto::default()
        }
    }

    /// Values are those of the whole copy, with the biases as they are then, whether there is room to keep values or not; with room no
    /// round computes more than two layers.
    #[test]
    fn each_round_gives_what_the_whole_copy_gives() {
        for (room, again) in [(0, 5), (20, 4), (ROOM, 1)] {
            let mut copy = chain(6);
            let sample = |v: f32| -> Sample {
                [("x".to_owned(), Tensor::new(&[2], vec![v, -v]).into())].into_iter().collect()
            };
            let states: Vec<Sample> = [1.0, 2.5].map(sample).into();
            let path = Path::new("m.onnx");
            let mut walk = Walk { room, ..Walk::new(path, states.clone()) };
            for k in 0..6 {
                let name = |k| format!("y{k}");
                let [wanted, later] =
                    [BTreeSet::from([name(k)]), (k + 1..6).map(name).collect::<BTreeSet<_>>()];
                let mut got = vec![];
                let part = walk.part(&mut copy, &wanted);
                assert!(room < ROOM || part.graph.node.len() <= 3, "round {k}: {}", part.graph.node.len());
                let biases = (k..6).map(|k| format!("b{k}")).collect();
                walk.round(&mut copy, [&wanted, &later], biases, &mut |_, v| got.push(v[&name(k)].clone()))
                    .expect("a round");
                let mut whole = Taps::new(&copy, path, &wanted);
                for (state, got) in states.iter().zip(&got) {
                    assert_eq!(whole.run(state).expect("values")[&name(k)], *got, "round {k}");
                }
                // The bias changes as that of a layer does.
                let bias = &mut copy.graph.mut_or_insert_default().initializer[k];
                bias.raw_data = [9f32, -3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
            }
            // The first round needs its inputs alone, and the last keeps nothing.
            assert_eq!(walk.again, again, "{room} bytes");
        }
    }
}
