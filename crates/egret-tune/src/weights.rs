//! The weights that are trained: which initialisers, their numbers, and the file with others in their place.

use egret::frontend::decode_tensor;
use egret::ir::{DType, Tensor};
use egret::{Error, Result};
use onnx_protobuf::{GraphProto, TensorProto, ValueInfoProto};

/// A weight.
#[derive(Clone)]
pub struct Weight {
    /// Its name.
    pub name: String,
    /// Which initialiser of the graph it is.
    pub index: usize,
    /// Its element type in the file.
    pub dtype: DType,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The numbers in the file.
    pub start: Vec<f32>,
}

impl Weight {
    /// Whether no number of it is NaN or infinite.
    fn is_finite(&self) -> bool {
        self.start.iter().all(|v| v.is_finite())
    }

    /// A tensor of the weight's type with these numbers.
    pub fn tensor(&self, numbers: &[f32]) -> Tensor {
        match self.dtype {
            DType::F32 => Tensor::new(&self.shape, numbers.to_vec()),
            dtype => Tensor::from_f64s(dtype, &self.shape, numbers.iter().map(|&v| f64::from(v)).collect()),
        }
    }

    /// The weight as an input that a graph declares.
    pub fn declared(&self, graph: &GraphProto) -> ValueInfoProto {
        use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
        use onnx_protobuf::{TensorShapeProto, TypeProto, type_proto};
        let of = &graph.initializer[self.index];
        let dim =
            |&d: &i64| Dimension { value: Some(dimension::Value::DimValue(d)), ..Dimension::default() };
        let dim = of.dims.iter().map(dim).collect();
        let ty = type_proto::Tensor {
            elem_type: of.data_type,
            shape: Some(TensorShapeProto { dim, ..TensorShapeProto::default() }).into(),
            ..type_proto::Tensor::default()
        };
        let ty = TypeProto { value: Some(type_proto::Value::TensorType(ty)), ..TypeProto::default() };
        ValueInfoProto { name: self.name.clone(), type_: Some(ty).into(), ..ValueInfoProto::default() }
    }
}

/// Whether a name fits a pattern: `*` stands for any text, `?` for any letter.
fn fits(pattern: &[char], name: &[char]) -> bool {
    match pattern {
        [] => name.is_empty(),
        ['*', rest @ ..] => (0..=name.len()).any(|skip| fits(rest, &name[skip..])),
        ['?', rest @ ..] => !name.is_empty() && fits(rest, &name[1..]),
        [c, rest @ ..] => name.first() == Some(c) && fits(rest, &name[1..]),
    }
}

/// Names that a message has at most.
const NAMED: usize = 12;

/// The element type, if it is one that is trained in.
fn trainable(tensor: &TensorProto) -> Option<DType> {
    let dtype = egret::frontend::element_type(tensor.data_type).ok()?;
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16).then_some(dtype)
}

/// The float initialisers that the patterns name and those of `skip` do not, in the order of the file.
///
/// # Errors
/// A pattern that none fits; none that is left; a tensor that cannot be read.
pub fn select(graph: &GraphProto, train: &[String], skip: &[String]) -> Result<Vec<Weight>> {
    choose(graph, Some(train), skip)
}

/// Those that `train` names, or all that there are.
fn choose(graph: &GraphProto, train: Option<&[String]>, skip: &[String]) -> Result<Vec<Weight>> {
    let letters = |s: &str| s.chars().collect::<Vec<char>>();
    let candidates: Vec<(usize, &TensorProto, DType)> =
        graph.initializer.iter().enumerate().filter_map(|(i, t)| trainable(t).map(|d| (i, t, d))).collect();
    let list = || {
        let names: Vec<String> =
            candidates.iter().take(NAMED).map(|(_, t, _)| format!("`{}`", t.name)).collect();
        let more = match candidates.len().saturating_sub(NAMED) {
            0 => String::new(),
            n => format!(" and {n} more, which `egret print MODEL` shows"),
        };
        match names.is_empty() {
            true => "the model has none".to_owned(),
            false => format!("there are {}{more}", names.join(", ")),
        }
    };
    if train.is_some_and(<[String]>::is_empty) {
        return Err(Error::user(format!("--train says which weights are trained; {}", list())));
    }
    if train.is_none() && candidates.is_empty() {
        return Err(Error::user("the model has no weights of f32, f16 or bf16"));
    }
    let mut chosen = vec![train.is_none(); candidates.len()];
    let patterns = train
        .iter()
        .copied()
        .flatten()
        .map(|p| ("--train", p, true))
        .chain(skip.iter().map(|p| ("--skip", p, false)));
    for (option, pattern, is) in patterns {
        let spelt = letters(pattern);
        let fitting: Vec<usize> =
            (0..candidates.len()).filter(|&i| fits(&spelt, &letters(&candidates[i].1.name))).collect();
        if fitting.is_empty() {
            return Err(Error::user(format!(
                "{option} '{pattern}': no initialiser of f32, f16 or bf16 is called so; {}",
                list()
            )));
        }
        fitting.into_iter().for_each(|i| chosen[i] = is);
    }
    if !chosen.contains(&true) {
        let of = if train.is_some() { "what --train names" } else { "the weights" };
        return Err(Error::user(format!("--skip leaves nothing of {of}; {}", list())));
    }
    let mut out = vec![];
    for (&(index, t, dtype), _) in candidates.iter().zip(&chosen).filter(|(_, is)| **is) {
        let weight = read(index, t, dtype)?;
        if !weight.is_finite() {
            return Err(Error::user(format!(
                "the weight `{}` holds NaN or infinity already; --skip '{}' leaves it as it is",
                t.name, t.name
            )));
        }
        out.push(weight);
    }
    Ok(out)
}

/// What a model may have learned: the float initialisers of at least one axis without NaN or infinity, but those of `skip`.
///
/// # Errors
/// As of [`select`].
pub fn learned(graph: &GraphProto, skip: &[String]) -> Result<Vec<Weight>> {
    let mut rest = graph.clone();
    for (index, t) in graph.initializer.iter().enumerate() {
        let Some(dtype) = trainable(t) else { continue };
        if t.dims.is_empty() || !read(index, t, dtype)?.is_finite() {
            // A number or a mask is a setting.
            rest.initializer[index].data_type = 0;
        }
    }
    choose(&rest, None, skip)
}

fn read(index: usize, t: &TensorProto, dtype: DType) -> Result<Weight> {
    let tensor = decode_tensor(t)?;
    let numbers = tensor.to_f64s().unwrap_or_default();
    let start: Vec<f32> = numbers.into_iter().map(|v| v as f32).collect();
    Ok(Weight { name: t.name.clone(), index, dtype, shape: tensor.shape().to_vec(), start })
}

/// Put other numbers in the place of the weights.
pub fn write(graph: &mut GraphProto, weights: &[Weight], numbers: &[Vec<f32>]) {
    for (weight, numbers) in weights.iter().zip(numbers) {
        let proto = &mut graph.initializer[weight.index];
        proto.raw_data = weight.tensor(numbers).bytes().to_vec();
        proto.float_data.clear();
        proto.int32_data.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_names() {
        let fit = |p: &str, n: &str| {
            let [p, n] = [p, n].map(|s| s.chars().collect::<Vec<char>>());
            fits(&p, &n)
        };
        assert!(fit("fc2.*", "fc2.weight") && fit("*", "") && fit("*.b?as", "conv1.bias"));
        assert!(fit("a*c*", "abcbc") && !fit("fc2.*", "fc1.weight") && !fit("fc?", "fc") && !fit("", "a"));
    }
}
