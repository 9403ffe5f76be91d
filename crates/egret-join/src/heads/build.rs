//! The graph of a head, and its weights before training.

use super::Input;
use crate::types::{dim, tensor};
use egret::ir::rng::Rng;
use egret::{Error, Result};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TypeProto,
    ValueInfoProto,
};
use std::collections::BTreeSet;

/// Element types that heads have weights of.
const F32: i32 = 1;
const F64: i32 = 11;
const I64: i32 = 7;

/// The most numbers of a weight: a file has at most 2 GiB.
const MOST: usize = 1 << 28;

/// A head that is being made. Values have the name of the node that computes them.
pub(super) struct Build {
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    elem: i32,
    /// The axes of every value; the last one's size differs.
    pub(super) axes: Vec<Dimension>,
    pub(super) opset: i64,
    rng: Rng,
}

impl Build {
    /// A head with these inputs, whose axes but the last are the same.
    pub(super) fn new(inputs: &[Input<'_>], opset: i64, seed: u64) -> Build {
        let (elem, rank) = inputs.first().map_or((F32, 0), |i| (i.elem, i.dims.len()));
        let axes = (0..rank).map(|axis| named(format!("axis{axis}"))).collect();
        Build {
            nodes: vec![],
            weights: vec![],
            inputs: vec![],
            outputs: vec![],
            elem,
            axes,
            opset,
            rng: Rng::new(seed),
        }
    }

    /// Whether weights of the inputs' element type are made.
    pub(super) fn has_weights(&self) -> bool {
        matches!(self.elem, F32 | F64)
    }

    /// The last axis.
    pub(super) fn last(&self) -> Result<usize> {
        self.axes.len().checked_sub(1).ok_or_else(|| Error::internal("a head of scalars"))
    }

    /// An input with a last axis of this size, or of any.
    pub(super) fn input(&mut self, name: &str, last: Dimension) {
        let mut dims = self.axes.clone();
        dims.pop();
        dims.push(last);
        self.inputs.push(info(name, tensor(self.elem, dims)));
    }

    /// An input with the axes that all have.
    pub(super) fn alike(&mut self, name: &str) {
        self.inputs.push(info(name, tensor(self.elem, self.axes.clone())));
    }

    /// An input of whole numbers.
    pub(super) fn whole(&mut self, name: &str, dims: Vec<Dimension>) {
        self.inputs.push(info(name, tensor(I64, dims)));
    }

    /// An output with a last axis of this size, where it is known.
    pub(super) fn output(&mut self, name: &str, last: Option<i64>) {
        let mut dims = self.axes.clone();
        dims.pop();
        dims.push(dim(last.map(dimension::Value::DimValue)));
        self.outputs.push(info(name, tensor(self.elem, dims)));
    }

    /// An output with the axes that all have.
    pub(super) fn output_alike(&mut self, name: &str) {
        self.outputs.push(info(name, tensor(self.elem, self.axes.clone())));
    }

    /// A node; returns its value.
    pub(super) fn node(&mut self, op: &str, inputs: &[&str], output: &str) -> String {
        self.node_with(op, inputs, output, vec![])
    }

    /// A node with attributes.
    pub(super) fn node_with(
        &mut self,
        op: &str,
        inputs: &[&str],
        output: &str,
        attribute: Vec<AttributeProto>,
    ) -> String {
        self.nodes.push(NodeProto {
            op_type: op.into(),
            name: output.into(),
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output: vec![output.into()],
            attribute,
            ..NodeProto::default()
        });
        output.to_owned()
    }

    /// Whole numbers that are no weight: nothing trains them.
    pub(super) fn indices(&mut self, name: &str, list: &[i64]) -> String {
        let value = TensorProto {
            dims: vec![list.len() as i64],
            data_type: I64,
            raw_data: list.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..TensorProto::default()
        };
        let attribute = AttributeProto {
            name: "value".into(),
            type_: AttributeType::TENSOR.into(),
            t: Some(value).into(),
            ..AttributeProto::default()
        };
        self.node_with("Constant", &[], name, vec![attribute])
    }

    /// A weight of these numbers.
    pub(super) fn weight(&mut self, name: &str, dims: &[usize], numbers: &[f64]) {
        let raw_data = match self.elem {
            F64 => numbers.iter().flat_map(|v| v.to_le_bytes()).collect(),
            _ => numbers.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect(),
        };
        self.weights.push(TensorProto {
            name: name.into(),
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type: self.elem,
            raw_data,
            ..TensorProto::default()
        });
    }

    /// A weight of numbers evenly between ±1 / sqrt(inputs), as those of a linear layer of PyTorch are before training.
    pub(super) fn drawn(&mut self, name: &str, dims: &[usize], inputs: usize) -> Result<()> {
        let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|n| *n <= MOST);
        let count = count.ok_or_else(|| {
            Error::unsupported(format!("the weight `{name}` {dims:?} has more than {MOST} numbers"))
        })?;
        let bound = 1.0 / (inputs.max(1) as f64).sqrt();
        let numbers: Vec<f64> = (0..count).map(|_| self.rng.signed_f64() * bound).collect();
        self.weight(name, dims, &numbers);
        Ok(())
    }

    /// `value @ NAME.weight`, of `from` features to `to`.
    pub(super) fn product(&mut self, value: &str, name: &str, from: usize, to: usize) -> Result<String> {
        let weight = format!("{name}.weight");
        self.drawn(&weight, &[from, to], from)?;
        Ok(self.node("MatMul", &[value, &weight], &format!("{name}.product")))
    }

    /// A linear layer: `value @ NAME.weight + NAME.bias`.
    pub(super) fn linear(&mut self, value: &str, name: &str, from: usize, to: usize) -> Result<String> {
        let (product, bias) = (self.product(value, name, from, to)?, format!("{name}.bias"));
        self.drawn(&bias, &[to], from)?;
        Ok(self.node("Add", &[&product, &bias], &format!("{name}.sum")))
    }

    /// The head.
    ///
    /// # Errors
    /// An input is called as a value of the head's own.
    pub(super) fn model(self) -> Result<ModelProto> {
        let own: BTreeSet<&String> =
            self.nodes.iter().flat_map(|n| &n.output).chain(self.weights.iter().map(|w| &w.name)).collect();
        if let Some(input) = self.inputs.iter().find(|i| own.contains(&i.name)) {
            return Err(Error::user(format!(
                "the head has a value `{}` of its own; call the input otherwise",
                input.name
            )));
        }
        let graph = GraphProto {
            node: self.nodes,
            initializer: self.weights,
            input: self.inputs,
            output: self.outputs,
            ..GraphProto::default()
        };
        let opset = OperatorSetIdProto { version: self.opset, ..OperatorSetIdProto::default() };
        Ok(ModelProto {
            ir_version: 4,
            opset_import: vec![opset],
            graph: Some(graph).into(),
            ..ModelProto::default()
        })
    }
}

/// A dim with a name.
pub(super) fn named(name: impl Into<String>) -> Dimension {
    dim(Some(dimension::Value::DimParam(name.into())))
}

/// A dim with a size.
pub(super) fn sized(size: usize) -> Dimension {
    dim(Some(dimension::Value::DimValue(size as i64)))
}

/// An attribute that is a whole number.
pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), type_: AttributeType::INT.into(), i, ..AttributeProto::default() }
}

/// An attribute that is a list of whole numbers.
pub(super) fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        type_: AttributeType::INTS.into(),
        ints,
        ..AttributeProto::default()
    }
}

/// An attribute that is a word.
pub(super) fn word(name: &str, s: &str) -> AttributeProto {
    let s = s.as_bytes().to_vec();
    AttributeProto {
        name: name.into(),
        type_: AttributeType::STRING.into(),
        s,
        ..AttributeProto::default()
    }
}

fn info(name: &str, ty: TypeProto) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), type_: Some(ty).into(), ..ValueInfoProto::default() }
}
