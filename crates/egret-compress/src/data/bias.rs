//! Biases: where the mean of a layer's outputs can be put right. Every layer that is pruned with data gets a constant for it.

use crate::constants::{Constants, Place, Refusal};
use crate::layers::Layer;
use crate::layout::Side;
use crate::names::fresh;
use crate::numbers;
use crate::report::Reason;
use onnx_protobuf::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};

/// The input of `Conv`, `ConvTranspose` and `Gemm` for a bias.
const SLOT: usize = 2;

/// Where the bias of a layer stands.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Bias {
    /// The constant: one number per output, group by group.
    pub place: Place,
    /// Whether the layer's output contains it; an `Add` behind the layer does not count.
    pub inside: bool,
    /// What it is multiplied by.
    pub scale: f64,
}

fn beta(node: &NodeProto) -> f64 {
    let given =
        node.attribute.iter().find(|a: &&AttributeProto| a.name == "beta" && node.op_type == "Gemm");
    given.map_or(1.0, |a| f64::from(a.f))
}

/// The bias of a layer that has one of its own.
///
/// # Errors
/// Why there is none that can be changed; `None` where one can be added.
pub fn find(graph: &GraphProto, constants: &Constants<'_>, layer: &Layer) -> Result<Bias, Option<Refusal>> {
    let node = &graph.node[layer.node];
    let outputs = layer.layout.group_count() * layer.layout.row_count();
    let column = node.op_type == "MatMul" && layer.side == Side::Left;
    // A bias has its numbers along the axis of the outputs; of convolutions it has no other axis.
    let fits = |name: &str| {
        let found = constants.find(name).ok()?;
        let data_type = |p: Place| p.of(graph).map(|t| t.data_type);
        let all: usize = found.dims.iter().map(|d| d.size).product();
        let sizes: Vec<usize> = found.dims.iter().map(|d| d.size).collect();
        let along = match sizes[..] {
            [.., rows, 1] if column => rows == outputs,
            [.., rows] => !column && rows == outputs,
            [] => outputs == 1,
        };
        (all == outputs && along && data_type(found.place) == data_type(layer.place)).then_some(found.place)
    };
    if node.op_type == "MatMul" {
        let y = node.output.first().map_or("", String::as_str);
        let mut readers = graph.node.iter().filter(|n| n.input.iter().any(|i| i == y));
        if let (Some(add), None) = (readers.next(), readers.next())
            && add.op_type == "Add"
            && constants.is_read_once(y)
        {
            let place = add.input.iter().filter(|i| *i != y).find_map(|i| fits(i));
            return place.map(|place| Bias { place, inside: false, scale: 1.0 }).ok_or(None);
        }
        return Err(None);
    }
    let scale = beta(node);
    let not_done = |text: &str| Err(Some((Reason::NotDone, format!("{text}: not done with data yet"))));
    match node.input.get(SLOT).map_or("", String::as_str) {
        "" if scale == 0.0 => not_done("a beta of 0"),
        "" => Err(None),
        name => match fits(name) {
            Some(place) if scale != 0.0 => Ok(Bias { place, inside: true, scale }),
            _ => not_done(&format!("its bias `{name}` is no constant of its own with a number per output")),
        },
    }
}

/// Give each of these layers a bias of zeros, if it has none; nodes that this adds stand behind theirs.
pub fn add(graph: &mut GraphProto, layers: &[&Layer]) {
    let missing: Vec<&Layer> = {
        let constants = Constants::new(graph);
        layers.iter().filter(|l| find(graph, &constants, l).is_err()).copied().collect()
    };
    let listed = graph.initializer.iter().any(|t| graph.input.iter().any(|i| i.name == t.name));
    for layer in missing.into_iter().rev() {
        let name = fresh(graph, &format!("{}_shift", layer.weight));
        let outputs = (layer.layout.group_count() * layer.layout.row_count()) as i64;
        let left = layer.side == Side::Left;
        let data_type = layer.place.of(graph).map_or(1, |t| t.data_type);
        let mut tensor = TensorProto {
            name: name.clone(),
            dims: if left { vec![outputs, 1] } else { vec![outputs] },
            data_type,
            ..TensorProto::default()
        };
        numbers::write(&mut tensor, &vec![0.0; outputs as usize]);
        if listed {
            // Before version 4, the list of inputs has every initialiser.
            graph.input.push(declared(&tensor));
        }
        graph.initializer.push(tensor);
        let node = &mut graph.node[layer.node];
        if node.op_type != "MatMul" {
            node.input.resize(SLOT, String::new());
            node.input.push(name);
            continue;
        }
        let y = node.output[0].clone();
        let inner = fresh(graph, &format!("{y}_product"));
        graph.node[layer.node].output[0] = inner.clone();
        let sum = NodeProto {
            op_type: "Add".into(),
            name: name.clone(),
            input: vec![inner, name],
            output: vec![y],
            ..NodeProto::default()
        };
        graph.node.insert(layer.node + 1, sum);
    }
}

fn declared(tensor: &TensorProto) -> ValueInfoProto {
    use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
    use onnx_protobuf::{TensorShapeProto, TypeProto, type_proto};
    let dim = |&d: &i64| Dimension { value: Some(dimension::Value::DimValue(d)), ..Dimension::default() };
    let shape =
        TensorShapeProto { dim: tensor.dims.iter().map(dim).collect(), ..TensorShapeProto::default() };
    let ty = type_proto::Tensor {
        elem_type: tensor.data_type,
        shape: Some(shape).into(),
        ..type_proto::Tensor::default()
    };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(ty)), ..TypeProto::default() };
    ValueInfoProto { name: tensor.name.clone(), type_: Some(ty).into(), ..ValueInfoProto::default() }
}
