//! Ready heads: models of a few nodes that are made to fit what is wired to them.

use crate::types::{as_tensor, dim, tensor, text};
use egret::{Error, Result};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TypeProto,
    ValueInfoProto,
};
use std::fmt;
use std::str::FromStr;

/// What wires call a ready head.
pub(crate) const NAME: &str = "head";

/// Element types that late fusion has weights of.
const F32: i32 = 1;
const F64: i32 = 11;

/// The first opset in which numbers multiply tensors of any shape.
const BROADCASTS: i64 = 7;

/// A head that no file is needed for. Wires lead to it as to a model `head` whose inputs are called as one likes.
///
/// ```
/// use egret_join::Head;
///
/// assert_eq!("late:0.7,0.3".parse(), Ok(Head::Late(vec![0.7, 0.3])));
/// assert!("late:0.7,nan".parse::<Head>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Head {
    /// Feature fusion: the wired values one behind the other along the last axis, as `features`.
    Concat,
    /// Late fusion: the sum of the wired values with these weights, as `logits`.
    Late(Vec<f64>),
}

/// A text that is no head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoHead(String);

impl fmt::Display for NoHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: write `concat` or `late:0.7,0.3` (a weight for each wire)", self.0)
    }
}

impl std::error::Error for NoHead {}

impl FromStr for Head {
    type Err = NoHead;

    fn from_str(text: &str) -> std::result::Result<Head, NoHead> {
        if text == "concat" {
            return Ok(Head::Concat);
        }
        let list = text.strip_prefix("late:").ok_or_else(|| NoHead(format!("no head `{text}`")))?;
        let weight = |w: &str| {
            let value = w.trim().parse::<f64>().ok().filter(|v| v.is_finite());
            value.ok_or_else(|| NoHead(format!("`{w}` is no weight")))
        };
        list.split(',').map(weight).collect::<std::result::Result<_, _>>().map(Head::Late)
    }
}

/// A value that is wired to a head.
pub(crate) struct Wired {
    /// The value, as the user writes it.
    pub(crate) from: String,
    /// What the head calls its input.
    pub(crate) input: String,
    pub(crate) ty: Option<TypeProto>,
}

impl Head {
    /// The head for what is wired to it, in that order.
    ///
    /// # Errors
    /// Nothing is wired to it, or what cannot be fused.
    pub(crate) fn model(&self, wired: &[Wired], opset: i64) -> Result<ModelProto> {
        if wired.is_empty() {
            return Err(Error::user(format!(
                "nothing is wired to the head; e.g. --wire MODEL:OUTPUT={NAME}:NAME, once for each value"
            )));
        }
        let mut types = vec![];
        for w in wired {
            let ty = w.ty.as_ref().and_then(as_tensor).ok_or_else(|| {
                Error::user(format!(
                    "element type and number of axes of `{}` are not known; declare them: \
                     onnx.shape_inference.infer_shapes(model)",
                    w.from
                ))
            })?;
            types.push(ty);
        }
        let (elem, rank) = (types[0].0, types[0].1.len());
        if let Some(i) = types.iter().position(|(e, dims)| (*e, dims.len()) != (elem, rank)) {
            let said = |i: usize| {
                format!("`{}` is {}", wired[i].from, wired[i].ty.as_ref().map_or_else(String::new, text))
            };
            return Err(Error::user(format!(
                "the head takes values of one element type and number of axes: {}, {}",
                said(0),
                said(i)
            )));
        }
        let named = |axis: usize| dim(Some(dimension::Value::DimParam(format!("axis{axis}"))));
        let common: Vec<Dimension> = (0..rank).map(named).collect();
        match self {
            Head::Concat => concat(wired, &types, &common, opset),
            Head::Late(weights) => late(wired, elem, &common, weights, opset),
        }
    }
}

fn concat(
    wired: &[Wired],
    types: &[(i32, &[Dimension])],
    common: &[Dimension],
    opset: i64,
) -> Result<ModelProto> {
    let Some(last) = common.len().checked_sub(1) else {
        return Err(Error::user(format!(
            "`{}` has no axes, so that nothing can stand behind it",
            wired[0].from
        )));
    };
    let (mut inputs, mut sum) = (vec![], Some(0));
    for (i, (w, (elem, dims))) in wired.iter().zip(types).enumerate() {
        let mut shape = common.to_vec();
        shape[last] = match &dims[last].value {
            Some(dimension::Value::DimValue(v)) if *v > 0 => {
                sum = sum.map(|s: i64| s.saturating_add(*v));
                dims[last].clone()
            }
            _ => {
                sum = None;
                dim(Some(dimension::Value::DimParam(format!("last{i}"))))
            }
        };
        inputs.push(info(&w.input, tensor(*elem, shape)));
    }
    let mut shape = common.to_vec();
    shape[last] = dim(sum.map(dimension::Value::DimValue));
    let names: Vec<&str> = wired.iter().map(|w| w.input.as_str()).collect();
    let mut concat = node("Concat", &names, "features");
    concat.attribute.push(AttributeProto {
        name: "axis".into(),
        type_: AttributeType::INT.into(),
        i: last as i64,
        ..AttributeProto::default()
    });
    let output = info("features", tensor(types[0].0, shape));
    Ok(model(vec![concat], vec![], inputs, output, opset))
}

fn late(
    wired: &[Wired],
    elem: i32,
    common: &[Dimension],
    weights: &[f64],
    opset: i64,
) -> Result<ModelProto> {
    if weights.len() != wired.len() {
        return Err(Error::user(format!(
            "{} weights for {} wires; give one for each",
            weights.len(),
            wired.len()
        )));
    }
    if opset < BROADCASTS {
        return Err(Error::unsupported(format!(
            "late fusion needs opset {BROADCASTS} and the models have {opset}; convert them first: \
             onnx.version_converter.convert_version(model, 17)"
        )));
    }
    let (mut nodes, mut constants, mut inputs, mut terms) = (vec![], vec![], vec![], vec![]);
    for (w, weight) in wired.iter().zip(weights) {
        let name = format!("{}/weight", w.input);
        let raw_data = match elem {
            F32 => (*weight as f32).to_le_bytes().to_vec(),
            F64 => weight.to_le_bytes().to_vec(),
            _ => {
                return Err(Error::unsupported(format!(
                    "late fusion is for f32 and f64; `{}` is {}",
                    w.from,
                    w.ty.as_ref().map_or_else(String::new, text)
                )));
            }
        };
        let term = format!("{}/weighted", w.input);
        nodes.push(node("Mul", &[&w.input, &name], &term));
        constants.push(TensorProto { name, data_type: elem, raw_data, ..TensorProto::default() });
        inputs.push(info(&w.input, tensor(elem, common.to_vec())));
        terms.push(term);
    }
    let terms: Vec<&str> = terms.iter().map(String::as_str).collect();
    nodes.push(node("Sum", &terms, "logits"));
    Ok(model(nodes, constants, inputs, info("logits", tensor(elem, common.to_vec())), opset))
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        name: output.into(),
        input: inputs.iter().map(|&i| i.to_owned()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

fn info(name: &str, ty: TypeProto) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), type_: Some(ty).into(), ..ValueInfoProto::default() }
}

fn model(
    node: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
    input: Vec<ValueInfoProto>,
    output: ValueInfoProto,
    version: i64,
) -> ModelProto {
    let graph = GraphProto { node, initializer, input, output: vec![output], ..GraphProto::default() };
    ModelProto {
        ir_version: 4,
        opset_import: vec![OperatorSetIdProto { version, ..OperatorSetIdProto::default() }],
        graph: Some(graph).into(),
        ..ModelProto::default()
    }
}
