//! Weights that can become integers: which tensors a contraction has, along which axes their scales stand, and the nodes that make
//! floats of them again.

use crate::constants::{Constant, Constants, Place, Refusal};
use crate::contractions::is_recurrent;
use crate::flat::same_home;
use crate::integers::{Form, Integers, bytes};
use crate::layers::Contraction;
use crate::layout::{Dim, int};
use crate::names::fresh;
use crate::numbers;
use crate::quantize::precision::Precision;
use crate::report::Reason;
use onnx_protobuf::{GraphProto, NodeProto, TensorProto};

/// Fewer weights than this are not worth a node.
const SMALL: usize = 64;

/// A tensor to be made integers.
pub struct Weight {
    /// Its name in the file.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// How.
    pub form: Form,
}

/// Where a dim of a layout stands among the axes of its tensor.
fn axis(dims: &[i64], stride: usize, size: usize) -> Option<usize> {
    let mut at = dims.len();
    let mut now = 1;
    let mut found = None;
    for &d in dims.iter().rev() {
        at -= 1;
        let d = usize::try_from(d).ok()?;
        if now == stride && d == size {
            found = Some(at);
        }
        now *= d;
    }
    found
}

/// The form of a tensor with outputs and reduction along these axes.
fn form(dims: &[i64], outputs: Option<usize>, reduction: Option<usize>, to: Precision) -> Form {
    let eight = outputs.map_or(Form::Whole, Form::Axis);
    match (to, reduction) {
        // A shorter axis would have more scales than the codes save.
        (Precision::Weights4(block), Some(axis)) if dims[axis] >= block as i64 => Form::Blocks(axis, block),
        _ => eight,
    }
}

/// How many recurrent layers read a value in this slot.
fn readers(graph: &GraphProto, name: &str, slot: usize) -> usize {
    let reads = |n: &&NodeProto| is_recurrent(n) && n.input.get(slot).is_some_and(|i| i == name);
    graph.node.iter().filter(reads).count()
}

/// The tensors of a contraction, and how they become integers.
///
/// # Errors
/// Why they do not.
pub fn weights(
    graph: &GraphProto,
    constants: &Constants<'_>,
    c: &Contraction,
    to: Precision,
) -> Result<Vec<Weight>, Refusal> {
    let recurrent = c.node.filter(|&n| is_recurrent(&graph.node[n]));
    let mut out = vec![];
    if let Some(node) = recurrent {
        for slot in [1, 2] {
            let name = graph.node[node].input.get(slot).map_or("", String::as_str);
            // Layers of two branches may have one weight: if all who read it read it alike, it is one for all of them.
            let alike = readers(graph, name, slot) == constants.read_count(name);
            let found = if alike { constants.find_shared(name) } else { constants.find(name) };
            let Constant { name, place, dims } = found?;
            let tensor = place.of(graph).filter(|t| t.dims.len() == 3 && dims.len() == 3);
            let straight = |t: &[i64]| dims.iter().zip(t).all(|(d, &t)| d.size as i64 == t);
            let tensor = tensor.filter(|t| straight(&t.dims));
            let Some(tensor) = tensor else {
                let text = format!("`{name}` does not stand as {} reads it", c.op);
                return Err((Reason::NotDone, text));
            };
            out.push(Weight { name, place, form: form(&tensor.dims, Some(1), Some(2), to) });
        }
    } else {
        let layer = c.layer.as_ref().map_err(Clone::clone)?;
        let dims = layer.place.of(graph).map_or(&[][..], |t| &t.dims);
        // Groups of a convolution share an axis with its outputs, of a transposed one with the reduction.
        let groups = |op: &str| if c.op == op { layer.layout.group_count() } else { 1 };
        let find = |list: &[Dim], groups: usize| {
            list.first().and_then(|dim| axis(dims, dim.stride, dim.size * groups))
        };
        let outputs = find(&layer.layout.rows, groups("Conv"));
        let form = form(dims, outputs, find(&layer.layout.channels, groups("ConvTranspose")), to);
        out.push(Weight { name: layer.weight.clone(), place: layer.place, form });
    }
    for weight in &out {
        let Some(tensor) = weight.place.of(graph) else { continue };
        if !numbers::has_scales(tensor) {
            return Err((
                Reason::NotDone,
                format!("`{}` is of 64 bits: no scale has that type", weight.name),
            ));
        }
        let count: i64 = tensor.dims.iter().product();
        if count < SMALL as i64 {
            return Err((Reason::TooSmall, format!("{count} weights are not worth a node")));
        }
        let before = count as usize * numbers::width(tensor);
        let after = bytes(tensor, weight.form);
        if after >= before {
            let text = format!("integers and scales take {after} bytes, the weights {before}");
            return Err((Reason::TooSmall, text));
        }
    }
    Ok(out)
}

/// Put integers where a weight was. The node that makes floats of them has the name of the weight as its output; it replaces the
/// `Constant`, or is returned to stand before all others.
pub fn put(graph: &mut GraphProto, weight: &Weight, integers: &Integers) -> Option<NodeProto> {
    let names = ["quantized", "scale", "zero_point"].map(|n| fresh(graph, &format!("{}_{n}", weight.name)));
    let (axis, block) = integers.axis_and_block();
    let mut attribute = vec![];
    attribute.extend(axis.map(|a| int("axis", a)));
    attribute.extend((block > 0).then(|| int("block_size", block)));
    let node = NodeProto {
        op_type: "DequantizeLinear".into(),
        name: fresh(graph, &format!("{}_dequantize", weight.name)),
        input: names.to_vec(),
        output: vec![weight.name.clone()],
        attribute,
        ..NodeProto::default()
    };
    let mut tensors = integers.tensors();
    tensors.iter_mut().zip(names).for_each(|(t, n)| t.name = n);
    replace(graph, weight.place, &weight.name, tensors, node)
}

/// Put codes, scales and zero points where a constant stands, which `node` makes again of them. The node is given back where it has to stand
/// before all others.
pub fn replace(
    graph: &mut GraphProto,
    place: Place,
    name: &str,
    mut tensors: [TensorProto; 3],
    node: NodeProto,
) -> Option<NodeProto> {
    let replaced = match place {
        Place::Initializer(i) => graph.initializer[i].metadata_props.clone(),
        Place::Attribute(at, _) => graph.node[at].metadata_props.clone(),
    };
    tensors.iter_mut().for_each(|t| same_home(&replaced, t));
    let [codes, scales, zeros] = tensors;
    let first = match place {
        Place::Initializer(i) => {
            graph.initializer[i] = codes;
            // A constant is no input that could be given.
            graph.input.retain(|i| i.name != name);
            Some(node)
        }
        Place::Attribute(at, _) => {
            graph.initializer.push(codes);
            graph.node[at] = node;
            None
        }
    };
    graph.initializer.extend([scales, zeros]);
    first
}
