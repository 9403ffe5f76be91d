//! Losses as nodes behind an output. Each gives a weighed loss per position, whose sum is differentiated.

use egret::ir::{Attrs, Builder, DType, Graph, Op, Tensor, TensorType, Type, TypeError, ValueId, attrs};
use egret::{Error, Result};

/// The name of the loss among the outputs.
pub const LOSS: &str = "loss";

/// A graph with a loss, and where its further inputs stand.
pub struct Lost {
    /// The graph, its outputs as they were.
    pub graph: Graph,
    /// The losses, of the shape of the scale but for dims of 1: one per position (of classes) or element.
    pub losses: ValueId,
    /// The input of targets, of the shape of the output: shares of classes, or numbers.
    pub target: ValueId,
    /// The input of what each sample counts: 0 for one that only fills the batch.
    pub scale: ValueId,
}

/// Add the loss: cross entropy against shares of classes, or the square of a difference.
///
/// # Errors
/// An internal one: nodes that do not fit.
pub fn append(graph: Graph, output: ValueId, shape: &[usize], square: bool) -> Result<Lost> {
    add(graph, output, shape, square).map_err(|e| Error::internal(format!("the loss: {e}")))
}

fn add(
    graph: Graph,
    output: ValueId,
    shape: &[usize],
    square: bool,
) -> std::result::Result<Lost, TypeError> {
    let mut b = Builder::from_graph(graph);
    let float = |dims: &[usize]| Type::Tensor(TensorType::fixed(DType::F32, dims));
    let target = b.input("tune.target", float(shape));
    let positions = if square { shape } else { &shape[..shape.len() - 1] };
    let mut per_sample = vec![1; positions.len()];
    per_sample[0] = shape[0];
    let scale = b.input("tune.scale", float(&per_sample));
    let none = Attrs::default;
    let mut x = output;
    if b.tensor_ty(x).dtype != DType::F32 {
        x = b.emit(Op::Cast, attrs! { to: DType::F32, saturate: 1i64, round: "nearest" }, &[x])?;
    }
    let losses = if square {
        let difference = b.emit(Op::Sub, none(), &[x, target])?;
        b.emit(Op::Mul, none(), &[difference, difference])?
    } else {
        let axis = vec![shape.len() as i64 - 1];
        let reduce = |b: &mut Builder, kind: &str, x, keep: bool| {
            b.emit(Op::Reduce, attrs! { kind: kind, axes: axis.clone(), keepdims: keep }, &[x])
        };
        // Any shift is right that keeps exp from overflowing; that of a whole number has no gradient.
        let most = reduce(&mut b, "max", x, true)?;
        let shift = b.emit(Op::Ceil, none(), &[most])?;
        let x = b.emit(Op::Sub, none(), &[x, shift])?;
        let powers = b.emit(Op::Exp, none(), &[x])?;
        let sum = reduce(&mut b, "sum", powers, false)?;
        let all = b.emit(Op::Log, none(), &[sum])?;
        let products = b.emit(Op::Mul, none(), &[x, target])?;
        let right = reduce(&mut b, "sum", products, false)?;
        b.emit(Op::Sub, none(), &[all, right])?
    };
    let losses = b.emit(Op::Mul, none(), &[losses, scale])?;
    b.graph.set_value_name(losses, LOSS);
    Ok(Lost { graph: b.graph, losses, target, scale })
}

/// Samples of no meaning, for the type of the scale: `count` of `size` count `each`.
pub fn scale(size: usize, count: usize, each: f32, rank: usize) -> Tensor {
    let mut shape = vec![1; rank];
    shape[0] = size;
    Tensor::new(&shape, (0..size).map(|i| if i < count { each } else { 0.0 }).collect())
}
